"""A checkpoint that was being written when training was killed."""

import shutil

import pytest
import torch
from small_brain import make_brain, make_dataset, make_items

from s4m_sb.errors import InputError
from s4m_sb.training.checkpoints import check_same_run, set_aside_interrupted


def write_checkpoint(path):
    path.mkdir(parents=True)
    (path / "CKPT.yaml").write_text("unixtime: 1.0")
    torch.save({"step": 1}, path / "optimizer.ckpt")
    return path


def cut_before_the_last_file(path):
    (path / "optimizer.ckpt").unlink()


def cut_within_the_last_file(path):
    content = (path / "optimizer.ckpt").read_bytes()
    (path / "optimizer.ckpt").write_bytes(content[:-30])


def cut_within_the_first_file(path):
    (path / "CKPT.yaml").write_text("")


def cut_before_the_first_file(path):
    (path / "CKPT.yaml").unlink()


CUTS = [
    cut_before_the_last_file,
    cut_within_the_last_file,
    cut_within_the_first_file,
    cut_before_the_first_file,
]


@pytest.mark.parametrize("cut", CUTS)
def test_what_is_not_whole_gets_another_name(tmp_path, cut):
    whole = write_checkpoint(tmp_path / "CKPT+1")
    broken = write_checkpoint(tmp_path / "CKPT+2")
    (tmp_path / "wsj_tr.csv").touch()
    cut(broken)
    renamed = set_aside_interrupted(tmp_path, "optimizer.ckpt")
    assert renamed == [tmp_path / "interrupted-CKPT+2"]
    assert whole.is_dir() and renamed[0].is_dir() and not broken.exists()
    assert set_aside_interrupted(tmp_path, "optimizer.ckpt") == []


@pytest.mark.parametrize("cut", CUTS)
def test_training_goes_on_from_the_checkpoint_before(tmp_path, cut):
    data = make_dataset(make_items([300] * 2))
    brain = make_brain(tmp_path, N_epochs=1)
    brain.fit(brain.hparams.epoch_counter, data, data)
    (whole,) = brain.checkpointer.list_checkpoints()
    later = whole.path.with_name("CKPT+later")
    shutil.copytree(whole.path, later)
    cut(later)

    again = make_brain(tmp_path, N_epochs=2)
    again.fit(again.hparams.epoch_counter, data, data)
    assert again.optimizer_step == 4
    again.evaluate(data, min_key="si-snr")
    log = (tmp_path / "train_log.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in log[:2]] == ["epoch: 1", "epoch: 2"]


def test_nothing_untrained_is_evaluated(tmp_path):
    data = make_dataset(make_items([300] * 2))
    with pytest.raises(InputError, match="no validated checkpoint"):
        make_brain(tmp_path).evaluate(data, min_key="si-snr")
    assert not (tmp_path / "summary.json").exists()


YAML = """
sample_rate: 8000
num_spks: 2
dynamic_mixing: False
lr: 0.1
Encoder: !new:s4m_sb.network.filterbank.Encoder
MaskNet: !new:s4m_sb.network.masknet.S4MMaskNet
    num_spks: !ref <num_spks>
    checkpoint_repeats: False
Decoder: !new:s4m_sb.network.filterbank.Decoder
modules:
    encoder: !ref <Encoder>
    masknet: !ref <MaskNet>
    decoder: !ref <Decoder>
"""


@pytest.fixture
def earlier_run(tmp_path):
    """The output folder of a training, and the YAML that it was made with."""
    folder = tmp_path / "results"
    write_checkpoint(folder / "save" / "CKPT+1")
    (folder / "hyperparams.yaml").write_text(YAML)
    (tmp_path / "recipe.yaml").write_text(YAML)
    return folder, tmp_path / "recipe.yaml"


@pytest.mark.parametrize("overrides", ["", "lr: 0.2"])
def test_the_same_training_goes_on(earlier_run, overrides):
    check_same_run(*earlier_run, overrides)


def test_repeats_may_be_checkpointed_from_now_on(earlier_run):
    check_same_run(*earlier_run, "MaskNet: {checkpoint_repeats: True}")


@pytest.mark.parametrize(
    "overrides, was",
    [
        ("num_spks: 3", "num_spks: 2, now num_spks: 3"),
        ("dynamic_mixing: True", "dynamic_mixing: (?i:False, now .*: True)"),
        ("sample_rate: 16000", "sample_rate: 8000, now"),
    ],
)
def test_another_training_needs_another_folder(earlier_run, overrides, was):
    with pytest.raises(InputError, match=f"results: .*{was}.*--output_folder"):
        check_same_run(*earlier_run, overrides)


def test_without_checkpoints_any_training_may_start(earlier_run):
    folder, recipe = earlier_run
    shutil.rmtree(folder / "save" / "CKPT+1")
    check_same_run(folder, recipe, "num_spks: 3")
