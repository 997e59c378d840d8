"""What ships is found by its folder: small, whole, better than no model."""

import configparser
import glob
import sys
from pathlib import Path

import pytest
import torch

from s4m_sb.audio.files import read_audio
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.metrics import pit_si_snr, reorder, si_snr_i
from s4m_sb.pretrained.card import describe_model
from s4m_sb.pretrained.shipped import SHIPPED_MODELS, shipped_names

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import card  # noqa: E402

PACKAGE = SHIPPED_MODELS.parents[1]
EXAMPLES = PACKAGE.parent / "examples"
MIXTURE = PACKAGE / "examples" / "two_talkers.wav"
NAMES = shipped_names()


def signal(name):
    return read_audio(EXAMPLES / f"{name}.wav", 8000)[0]


def mixture():
    return read_audio(MIXTURE, 8000)[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_small_and_has_a_card(name):
    folder = SHIPPED_MODELS / name
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < 10e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("SI-SNRi", "SDRi", "Seed", "LibriSpeech", "AN4", "licence"):
        assert word in card, word


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_about_the_weights_beside_it(name):
    text = (SHIPPED_MODELS / name / "README.md").read_text(encoding="utf-8")
    model = S4MSeparation.from_hparams(name)
    # as benchmarks/card.py printed it with the other figures
    assert f"Weights: {card.fingerprint(model)}." in text


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_a_card_tells_of_the_network_beside_it(name):
    described = describe_model(SHIPPED_MODELS / name)
    model = S4MSeparation.from_hparams(name)
    assert described.sample_rate == model.hparams.sample_rate
    assert described.num_spks == model.hparams.num_spks
    parameters = model.mods.parameters()
    assert described.num_parameters == sum(p.numel() for p in parameters)
    assert described.summary and described.license == "apache-2.0"
    # as the table of the card has it, for people
    text = described.card.read_text(encoding="utf-8")
    assert f"| SI-SNRi | {described.si_snr_i_db:.2f} dB |" in text


def test_the_example_is_the_sum_of_its_talkers():
    total = signal("talker_1") + signal("talker_2")
    # 16-bit samples are exact in float32, and so is their sum
    assert torch.equal(total, mixture())


def test_the_example_gets_better():
    mixed = mixture().unsqueeze(0)
    target = torch.stack([signal("talker_1"), signal("talker_2")], -1)[None]
    estimate = S4MSeparation.from_hparams().separate_batch(mixed)
    _, order = pit_si_snr(estimate=estimate, target=target)
    improvement = si_snr_i(
        estimate=reorder(estimate, order), target=target, mixture=mixed
    )
    assert improvement.min() > 8.5  # dB; examples/README.md says 9.1


def test_the_voices_have_the_signs_and_levels_of_the_talkers():
    voices = S4MSeparation.from_hparams().separate_file(MIXTURE)[0]
    talkers = torch.stack([signal("talker_1"), signal("talker_2")], dim=1)
    gains = (voices.T @ talkers) / talkers.square().sum(0)  # [S, S]
    # of each talker's 1, what is in his voice; he is in the other one as well
    assert ((gains.amax(1) > 0.7) & (gains.amax(1) < 1.1)).all()
    mix = mixture()
    # what no gain of the two voices explains
    assert (mix - voices.sum(1)).norm() < 0.1 * mix.norm()


def test_the_voices_beside_the_example_are_those_of_the_model_that_ships():
    voices = S4MSeparation.from_hparams().separate_file(MIXTURE)
    for number in (1, 2):
        kept = signal(f"separated/two_talkers_s{number}")
        error = voices[0, :, number - 1] - kept
        # -60 dB: processors round otherwise, as do 16 bits
        assert error.square().sum() < 1e-6 * kept.square().sum()


@pytest.mark.parametrize("name", NAMES)
def test_silence_stays_silence(name):
    model = S4MSeparation.from_hparams(name)
    assert not model.separate_batch(torch.zeros(1, 8000)).any()


def test_whatever_folder_lies_there_ships(tmp_path):
    for name in ("b-8k", "a-16k", ".hidden", "__pycache__"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").touch()
    assert shipped_names(tmp_path) == ["a-16k", "b-8k"]
    assert shipped_names(tmp_path / "missing") == []


def test_the_notice_that_an4_asks_for_is_in_the_package():
    name = "pretrained/shipped/AN4-LICENSE.txt"
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg")
    patterns = config["options.package_data"]["s4m_sb"].split()
    assert any(
        name in glob.glob(pattern, root_dir=PACKAGE, recursive=True)
        for pattern in patterns
    )
    notice = (PACKAGE / name).read_text(encoding="utf-8")
    assert "Carnegie Mellon University" in notice
    assert "AN4-LICENSE.txt" not in shipped_names()
