"""What the recipes share around their data; they are run whole elsewhere."""

import copy
import logging
import sys

import pytest
import torch

from s4m_sb.errors import InputError
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.training.experiment import (
    _load_weights,
    run_script,
    start_experiment,
    tables_used,
)


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


def test_a_shipped_name_is_that_model_whatever_lies_here(tmp_path, monkeypatch):
    """A run's folder of the same name is ./s4m-8k."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s4m-8k" / "save").mkdir(parents=True)
    shipped = S4MSeparation.from_hparams("s4m-8k").mods
    modules = copy.deepcopy(shipped)
    for parameter in modules.parameters():
        torch.nn.init.zeros_(parameter)
    _load_weights({"pretrained_model": "s4m-8k", "modules": modules})
    pairs = zip(modules.parameters(), shipped.parameters(), strict=True)
    assert all(torch.equal(loaded, known) for loaded, known in pairs)
    with pytest.raises(InputError, match="checkpoint"):
        _load_weights({"pretrained_model": "./s4m-8k", "modules": modules})


@pytest.mark.parametrize(
    "error, code, line",
    [
        (InputError("a.wav:\nis empty"), 2, "error: a.wav: is empty"),
        (OSError(28, "No space left", "a"), 2, "error: a: No space left"),
        (SystemExit("minutes and\nsteps"), 2, "error: minutes and steps"),
        (
            torch.OutOfMemoryError("CUDA: no"),
            2,
            "error: CUDA: no; give a small",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(143), 143, None),
    ],
)
def test_a_script_ends_in_one_line(monkeypatch, capsys, error, code, line):
    monkeypatch.setattr(sys, "argv", ["train.py", "a.yaml"])
    monkeypatch.setattr(logging, "raiseExceptions", True)

    def main(argv):
        assert argv == ["a.yaml"]
        raise error

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == code
    printed = capsys.readouterr().err
    if line is None:
        assert not printed
    else:
        assert printed.startswith(f"train.py: {line}")
        assert printed.count("\n") == 1


def test_a_fault_of_the_program_shows_itself(monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", True)
    with pytest.raises(ZeroDivisionError):
        run_script(lambda argv: 1 / 0)
