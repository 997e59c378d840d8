"""A checkpoint that was being written when training was killed."""

import shutil
import zipfile

import pytest
import torch
from small_brain import make_brain, make_dataset, make_items

from s4m_sb.errors import InputError
from s4m_sb.training.checkpoints import save_checkpoint, set_aside_interrupted


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


# --------------------------------------------- damaged since they were written


def trained(folder, **hparams):
    """A brain after an epoch, and its data."""
    data = make_dataset(make_items([300] * 2))
    brain = make_brain(folder, N_epochs=1, **hparams)
    brain.fit(brain.hparams.epoch_counter, data, data)
    return brain, data


def flip(path):
    """Damages numbers that PyTorch would load without a word."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
        numbers = archive.read(largest)
    content = path.read_bytes()
    path.write_bytes(content.replace(numbers, numbers[::-1]))


def damage(name, content):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda f: flip(f / "masknet.ckpt"), "masknet.ckpt: is damaged, in"),
        (lambda f: flip(f / "optimizer.ckpt"), "optimizer.ckpt: is damaged"),
        (damage("decoder.ckpt", b""), "CKPT.*: cannot be loaded"),
        (damage("counter.ckpt", b""), "CKPT.*: cannot be loaded"),
        (damage("brain.ckpt", b"\0" * 9), "CKPT.*: cannot be loaded"),
        (damage("CKPT.yaml", b"a: ["), "CKPT.yaml: "),
        (damage("CKPT.yaml", b"\xff"), "CKPT.yaml: is no UTF-8 text"),
        (damage("CKPT.yaml", b"si-snr: .nan"), "si-snr is nan; it is no numb"),
        (lambda f: (f / "encoder.ckpt").unlink(), "CKPT.*: cannot be loaded"),
    ],
)
def test_what_is_damaged_is_refused_by_name(tmp_path, harm, message):
    brain, data = trained(tmp_path)
    (checkpoint,) = brain.checkpointer.list_checkpoints()
    harm(checkpoint.path)
    for use in (
        lambda brain: brain.fit(brain.hparams.epoch_counter, data, data),
        lambda brain: brain.evaluate(data, min_key="si-snr"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            use(make_brain(tmp_path, N_epochs=2))
        assert "\n" not in str(caught.value)
        assert str(checkpoint.path) in str(caught.value)


def spoil(module):
    with torch.no_grad():
        next(module.parameters())[0] = float("nan")


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
    tmp_path, ema_decay
):
    brain, data = trained(tmp_path, ema_decay=ema_decay)
    spoil(brain.modules["masknet"])
    with pytest.raises(InputError, match=": .* holds NaN .*nothing is saved"):
        save_checkpoint(brain.checkpointer)
    brain.checkpointer.save_checkpoint()  # as SpeechBrain would
    assert len(brain.checkpointer.list_checkpoints()) == 2
    again = make_brain(tmp_path, N_epochs=2, ema_decay=ema_decay)
    with pytest.raises(InputError, match="holds NaN .* remove .*/CKPT") as no:
        again.fit(again.hparams.epoch_counter, data, data)
    shutil.rmtree(str(no.value).split("remove ")[1].split(" to go")[0])
    again = make_brain(tmp_path, N_epochs=2, ema_decay=ema_decay)
    again.fit(again.hparams.epoch_counter, data, data)


def test_an_optimizer_that_is_not_finite_is_not_saved(tmp_path):
    brain, _ = trained(tmp_path)
    state = next(iter(brain.optimizer.state.values()))
    state["exp_avg_sq"].fill_(float("inf"))  # no weight would ever change
    with pytest.raises(InputError, match="optimizer: exp_avg_sq of parameter"):
        save_checkpoint(brain.checkpointer)
