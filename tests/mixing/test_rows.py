"""CSV files that would lose rows without a word."""

import pytest

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import read_corpus, source_splits
from s4m_sb.mixing.datasets.metadata import read_rows
from s4m_sb.mixing.datasets.tables import read_table
from s4m_sb.mixing.rows import read_csv, write_csv

HEAD = "file,speaker,split\n"
ROW = "a.wav,anna,train\n"
NULS = "\0" * 16

# What Python's own reader makes of each is another thing: a row of None, two
# rows less, or a name that is none.
DAMAGED = {
    "short": (f"{HEAD}{ROW}b.wav,ben\n{ROW}", "line 3: has 2 of 3 columns"),
    "long": (f"{HEAD}b.wav,ben,train,x\n", "line 2: has 4 of 3 columns"),
    "NULs": (f"{HEAD}{ROW}{NULS}\n{ROW}", "line 3: has NUL characters"),
    "NUL in a cell": (f"{HEAD}b.w\0av,ben,train\n", "line 2: has NUL"),
    "open quote": (
        f'{HEAD}{ROW}"b.wav,ben,train\n{ROW}{ROW}',
        "line 3: has a quote that is not closed",
    ),
    "closed by another": (
        f'{HEAD}{ROW}"b.wav,ben,train\n{ROW}c.wav",cleo,train\n',
        "line 3: has a line break in a cell; is a quote not closed",
    ),
    "behind a quote": (f'{HEAD}"b"x.wav,ben,train\n', "line 2: has a quote"),
    "semicolons": (
        "file;speaker;split\na.wav;anna;train\n",
        "line 1: separates its columns by ';'; commas",
    ),
    "a column twice": ("file,file\na,b\n", "line 1: has two columns 'file'"),
}


@pytest.mark.parametrize("text, message", DAMAGED.values(), ids=DAMAGED)
def test_no_row_is_lost_without_a_word(tmp_path, text, message):
    path = tmp_path / "list.csv"
    path.write_text(text)
    readers = [
        read_csv,
        source_splits,
        lambda path: read_corpus(path, "train"),
        read_rows,
        lambda path: read_table(path, "", []),
    ]
    for read in readers:
        with pytest.raises(InputError, match=f"list.csv, {message}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_empty_lines_mean_nothing(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f"{HEAD}\n{ROW}\r\n\n{ROW}\n", encoding="utf-8-sig")
    columns, rows = read_csv(path)
    row = {"file": "a.wav", "speaker": "anna", "split": "train"}
    assert columns == list(row)
    assert rows == [(3, row), (6, row)]
    path.write_text("")
    assert read_csv(path) == ([], [])


def test_rows_that_do_not_fit_leave_what_was_there(tmp_path):
    path = tmp_path / "list.csv"
    write_csv(path, [{"a": "1, 2", "b": 'say "ä"'}, {"a": "", "b": 0.5}])
    assert [row for _, row in read_csv(path)[1]] == [
        {"a": "1, 2", "b": 'say "ä"'},
        {"a": "", "b": "0.5"},
    ]
    before = path.read_bytes()
    with pytest.raises(ValueError, match="'c'"):
        write_csv(path, [{"a": "1"}, {"c": "1"}])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write_csv(path, [], ["a", "b"])
    assert read_csv(path) == (["a", "b"], [])
