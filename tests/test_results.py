"""The results table grows item by item and ends with the averages."""

import csv
import json
import math

import pytest

from s4m_sb.results import ResultsTable, write_summary


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


def test_the_summary_is_json(tmp_path):
    path = tmp_path / "summary.json"
    write_summary(path, {"sdr": math.nan, "si-snr": 3.5, "epoch": 2, "x": None})
    assert json.loads(path.read_text()) == {
        "sdr": None,
        "si-snr": 3.5,
        "epoch": 2,
        "x": None,
    }
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]
