"""What the recipes share around their data; they are run whole elsewhere."""

import sys

import pytest

from s4m_sb.errors import InputError
from s4m_sb.experiment import run_script, start_experiment, tables_used


@pytest.mark.parametrize(
    "dynamic_mixing, options, test_only, splits",
    [
        (False, {}, False, ["tr", "cv", "tt"]),
        (False, {"num_mixtures": 9}, False, ["tr", "cv", "tt"]),
        (True, {}, False, ["tr", "cv", "tt"]),  # its rows are counted
        (True, {"num_mixtures": 9}, False, ["cv", "tt"]),
        (True, {"num_mixtures": 9}, True, ["tt"]),
        (False, {}, True, ["tt"]),
    ],
)
def test_a_run_reads_the_tables_that_it_needs(
    dynamic_mixing, options, test_only, splits
):
    hparams = {
        "train_data": "tr.csv",
        "valid_data": "cv.csv",
        "test_data": "tt.csv",
        "dynamic_mixing": dynamic_mixing,
        "dynamic_mixing_opts": options,
    }
    tables = tables_used(hparams, {"test_only": test_only})
    assert tables == {split: f"{split}.csv" for split in splits}


def test_keys_that_a_recipe_needs_are_named(tmp_path):
    path = tmp_path / "sepformer.yaml"
    path.write_text("target: anechoic\n")
    with pytest.raises(InputError) as caught:
        start_experiment([str(path)], ("dataset", "mixture", "target"))
    assert str(caught.value) == f"{path}: has no key dataset, mixture"


def test_unusable_input_ends_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "a.yaml"])

    def main(argv):
        assert argv == ["a.yaml"]
        raise InputError("a.wav:\nis empty")

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == "train.py: error: a.wav: is empty"
