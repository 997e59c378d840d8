"""Groups of items and their means; what the summary says of the making."""

import argparse
import json
import math

import numpy as np
import pytest
import torch

from s4m_sb.training.keys import with_defaults
from s4m_sb.training.summary import (
    about_test,
    binned_means,
    task,
    write_summary,
)


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


def test_the_making_of_a_test():
    keys = {"num_spks": 2, "mixture": "mix_both", "ema_decay": 0.9}
    hparams = argparse.Namespace(**with_defaults(keys))
    assert task(hparams) == {"mixture": "mix_both"}
    modules = torch.nn.Linear(2, 3)
    about = about_test(hparams, modules, 4, "cpu", "fp32")
    assert about["num_parameters"] == 9
    assert (about["epoch"], about["ema_decay"]) == (4, 0.9)
    assert about["mixture"] == "mix_both"
    assert "dataset" not in about
