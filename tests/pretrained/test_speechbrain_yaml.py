"""A model's YAML in SpeechBrain's names builds the same network there."""

import sys

import pytest
import torch
from plain_network import KIT
from small_model import write_model
from speechbrain.inference.interfaces import foreign_class

from s4m_sb.errors import InputError
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.pretrained import speechbrain_yaml as module
from s4m_sb.pretrained.model_yaml import model_yaml
from s4m_sb.pretrained.safe_yaml import load_checked
from s4m_sb.pretrained.shipped import SHIPPED_MODELS, shipped_names
from s4m_sb.pretrained.speechbrain_yaml import (
    ALIASES,
    CUSTOM,
    UPSTREAM,
    custom_module,
    speechbrain_yaml,
)


def in_speechbrains_names(folder, out):
    """A model folder for SpeechBrain alone, made of one of ours."""
    out.mkdir()
    for path in folder.glob("*.ckpt"):
        (out / path.name).write_bytes(path.read_bytes())
    text = (folder / "hyperparams.yaml").read_text("utf-8")
    text = speechbrain_yaml(model_yaml(text), CUSTOM)
    (out / "hyperparams.yaml").write_text(text, encoding="utf-8")
    (out / "custom.py").write_text(custom_module(), encoding="utf-8")
    return out


def by_speechbrain(folder, tmp_path, monkeypatch):
    """SpeechBrain's own, unmodified interface."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, CUSTOM, raising=False)
    model = foreign_class(source=str(folder), savedir=str(tmp_path / "savedir"))
    names = {type(m).__module__ for m in model.mods.values()}
    assert not any(name.startswith("s4m_sb") for name in names)
    return model


@pytest.mark.parametrize("name", shipped_names())
def test_the_shipped_weights_give_the_same_voices(name, tmp_path, monkeypatch):
    ours = S4MSeparation.from_hparams(name)
    folder = in_speechbrains_names(SHIPPED_MODELS / name, tmp_path / "model")
    theirs = by_speechbrain(folder, tmp_path, monkeypatch)
    again = S4MSeparation.from_hparams(folder)
    # At the level that our interface brings every mixture to, without a mean.
    mixture = torch.randn(1, 12345)
    mixture = mixture - mixture.mean()
    mixture = 0.1 * mixture / mixture.square().mean().sqrt()
    with torch.no_grad():
        expected = ours.separate_batch(mixture)
        voices = theirs.separate_batch(mixture)
        # float32 through six repeats, and a level that is set or not.
        for found in (voices, again.separate_batch(mixture)):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_package_reads_it_as_its_own(tmp_path):
    """With the package, its own network is built; no code is run."""
    folder = in_speechbrains_names(
        write_model(tmp_path / "ours"), tmp_path / "theirs"
    )
    (folder / "custom.py").write_text("raise SystemExit('was run')")
    model = S4MSeparation.from_hparams(folder)
    assert type(model.mods.masknet).__module__ == "s4m_sb.network.masknet"


def test_every_name_has_a_counterpart():
    assert len(ALIASES) == 4
    for name in ALIASES:
        (built,) = load_checked(f"a: !new:{name}").values()
        assert type(built).__name__ == name.rsplit(".", 1)[1]


def test_networks_of_speechbrain_stay_as_they_are():
    text = "Encoder: !new:speechbrain.lobes.models.dual_path.Encoder\n"
    assert speechbrain_yaml(text) == text


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "M: !new:s4m_sb.network.masknet.S4MMaskNet\n    kernel: s4d\n",
            "SpeechBrain's S4M has kernel: s4 alone",
        ),
        (
            "M: !new:s4m_sb.network.s4.S4Block\n    d_model: 8\n",
            "s4m_sb.network.s4.S4Block: has no counterpart in SpeechBrain",
        ),
    ],
)
def test_what_speechbrain_has_not_is_refused(text, message):
    with pytest.raises(InputError) as error:
        speechbrain_yaml(text, UPSTREAM)
    assert str(error.value) == message


def test_without_the_repository_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KIT", tmp_path)
    with pytest.raises(InputError, match="needs a checkout of the repository"):
        custom_module()


def test_the_file_of_the_folder_is_that_of_the_kit():
    assert custom_module().startswith((KIT / "s4m.py").read_text("utf-8"))
