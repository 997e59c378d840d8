"""The results table grows item by item and ends with the averages."""

import csv
import json
import math

import numpy as np
import pytest

from s4m_sb.training.results import ResultsTable, binned_means, write_summary


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


def test_a_condition_gets_its_column_with_its_first_number(tmp_path):
    path = tmp_path / "test_results.csv"
    partial = path.with_name("test_results.partial.csv")
    table = ResultsTable(path, ["sdr"])
    seen = []
    for item, conditions in {
        "a": None,
        "b": {"input_snr_db": math.nan, "rt60_s": math.inf},
        "c": {"input_snr_db": -2.5, "rt60_s": math.nan},
        "d": {"input_snr_db": 1.00004},
        "e": {"rt60_s": 0.3, "input_snr_db": 4},
    }.items():
        table.add(item, {"sdr": 1.0}, conditions)
        seen.append(rows(partial))  # at any time a whole table
    assert [list(table[0]) for table in seen] == [
        ["snt_id", "sdr"],
        ["snt_id", "sdr"],
        ["snt_id", "sdr", "input_snr_db"],
        ["snt_id", "sdr", "input_snr_db"],
        ["snt_id", "sdr", "input_snr_db", "rt60_s"],
    ]
    assert [len(table) for table in seen] == [1, 2, 3, 4, 5]
    assert table.close() == {"sdr": 1.0}  # conditions have no average
    assert [tuple(row.values()) for row in rows(path)] == [
        ("a", "1.0000", "", ""),
        ("b", "1.0000", "", ""),
        ("c", "1.0000", "-2.5000", ""),
        ("d", "1.0000", "1.0000", ""),
        ("e", "1.0000", "4.0000", "0.3000"),
        ("avg", "1.0000", "", ""),
    ]


def test_known_conditions_give_these_bins_and_means():
    items = [
        {"snr_db": -6.0, "sdr": 4.0, "pesq": 1.5},
        {"snr_db": -3.0001, "sdr": 6.0, "pesq": math.nan},
        {"snr_db": -3.0, "sdr": 7.0, "pesq": math.nan},
        {"snr_db": 3.0, "sdr": 20.0},
        {"snr_db": 5.0, "sdr": 10.0, "pesq": 3.0},
        {"snr_db": math.nan, "sdr": 100.0, "pesq": 4.0},
        {"sdr": 100.0, "pesq": 4.0},
        {"snr_db": -5.0, "sdr": math.nan, "pesq": math.nan},  # silent
    ]
    low, middle, high = binned_means(items, "snr_db", ["sdr", "pesq"], width=3)
    assert low == {
        "low": -6,
        "high": -3,
        "num_items": 2,
        "snr_db": pytest.approx(-4.50005),
        "sdr": 5.0,
        "pesq": 1.5,
    }
    assert middle == {
        "low": -3,
        "high": 0,
        "num_items": 1,
        "snr_db": -3.0,
        "sdr": 7.0,
        "pesq": pytest.approx(math.nan, nan_ok=True),
    }
    assert high == {
        "low": 3,
        "high": 6,
        "num_items": 2,
        "snr_db": 4.0,
        "sdr": 15.0,
        "pesq": 3.0,
    }


@pytest.mark.parametrize(
    "width, edge", [(3.0, 0.0), (3.0, -1.5), (0.2, 0.0), (0.1, 0.0)]
)
def test_a_bin_holds_its_lower_bound_and_not_its_upper_one(width, edge):
    # Among them 3 * 0.2, which in binary is above 0.6.
    for index in range(-20, 21):
        bound = round(edge + index * width, 4)
        for value in (bound, float(np.float32(bound)), bound + 1e-4):
            (group,) = binned_means(
                [{"x": round(value, 4), "sdr": 1.0}], "x", ["sdr"], width, edge
            )
            assert group["low"] == bound
            assert group["high"] == pytest.approx(bound + width)
        (group,) = binned_means(
            [{"x": bound - 1e-4, "sdr": 1.0}], "x", ["sdr"], width, edge
        )
        assert group["high"] == bound


def test_bins_share_the_items_out():
    generator = np.random.default_rng(0)
    items = [
        {"rt60_s": round(x, 4), "sdr": y}
        for x, y in generator.uniform(0, 1.2, size=(200, 2)).tolist()
    ]
    groups = binned_means(items, "rt60_s", ["sdr"], width=0.2)
    assert [group["low"] for group in groups] == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert sum(group["num_items"] for group in groups) == 200
    for group in groups:
        inside = [
            item["sdr"]
            for item in items
            if group["low"] <= item["rt60_s"] < group["high"]
        ]
        assert group["num_items"] == len(inside)
        assert group["sdr"] == pytest.approx(np.mean(inside))


def test_without_items_there_are_no_bins():
    assert binned_means([], "rt60_s", ["sdr"], width=0.2) == []


def test_the_summary_is_json(tmp_path):
    path = tmp_path / "summary.json"
    write_summary(
        path,
        {
            "sdr": math.nan,
            "si-snr": 3.5,
            "epoch": 2,
            "x": None,
            "by": [{"low": -3.0, "pesq": math.nan}],
        },
    )
    assert json.loads(path.read_text()) == {
        "sdr": None,
        "si-snr": 3.5,
        "epoch": 2,
        "x": None,
        "by": [{"low": -3.0, "pesq": None}],
    }
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]
