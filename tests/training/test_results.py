"""The results table grows item by item and ends with the averages."""

import csv
import math

import pytest

from s4m_sb.training.results import ResultsTable


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_are_on_disk_at_once(tmp_path):
    path = tmp_path / "new" / "test_results.csv"
    table = ResultsTable(path, ["sdr", "si-snr"])
    partial = path.with_name("test_results.partial.csv")
    for number in range(3):
        table.add(f"item{number}", {"sdr": number, "si-snr": -number})
        assert len(rows(partial)) == number + 1
        assert not path.exists()
    assert table.close() == {"sdr": 1.0, "si-snr": -1.0}
    assert not partial.exists()
    written = rows(path)
    assert [row["snt_id"] for row in written] == [
        "item0",
        "item1",
        "item2",
        "avg",
    ]
    assert written[-1] == {
        "snt_id": "avg",
        "sdr": "1.0000",
        "si-snr": "-1.0000",
    }


def test_the_old_results_stay_until_the_new_ones_are_whole(tmp_path):
    path = tmp_path / "test_results.csv"
    path.write_text("old")
    table = ResultsTable(path, ["sdr"])
    table.add("a", {"sdr": 1.0})
    assert path.read_text() == "old"
    table.close()
    assert rows(path)[0]["sdr"] == "1.0000"


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stays_empty_and_out_of_the_averages(tmp_path, odd):
    path = tmp_path / "test_results.csv"
    table = ResultsTable(path, ["sdr", "pesq"])
    table.add("silent", {"sdr": odd, "pesq": odd})
    table.add("good, or not", {"sdr": 4.0})
    averages = table.close()
    assert averages["sdr"] == 4.0
    assert math.isnan(averages["pesq"])
    assert [row["sdr"] for row in rows(path)] == ["", "4.0000", "4.0000"]
    assert [row["pesq"] for row in rows(path)] == ["", "", ""]
    assert rows(path)[1]["snt_id"] == "good, or not"


def test_a_table_without_items(tmp_path):
    table = ResultsTable(tmp_path / "test_results.csv", ["sdr"])
    assert math.isnan(table.close()["sdr"])
    assert rows(table.path) == [{"snt_id": "avg", "sdr": ""}]


def test_conditions_are_columns_without_an_average(tmp_path):
    path = tmp_path / "test_results.csv"
    table = ResultsTable(path, ["sdr"], ["input_snr_db", "rt60_s"])
    for item, conditions in {
        "a": {},
        "b": {"input_snr_db": math.nan, "rt60_s": math.inf},
        "c": {"input_snr_db": -2.5, "rt60_s": math.nan},
        "d": {"input_snr_db": 1.00004},
        "e": {"rt60_s": 0.3, "input_snr_db": 4},
    }.items():
        table.add(item, {"sdr": 1.0} | conditions)
    assert table.rows[3] == {"sdr": 1.0, "input_snr_db": 1.0}
    assert table.close() == {"sdr": 1.0}
    assert [tuple(row.values()) for row in rows(path)] == [
        ("a", "1.0000", "", ""),
        ("b", "1.0000", "", ""),
        ("c", "1.0000", "-2.5000", ""),
        ("d", "1.0000", "1.0000", ""),
        ("e", "1.0000", "4.0000", "0.3000"),
        ("avg", "1.0000", "", ""),
    ]
