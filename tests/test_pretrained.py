"""The model that ships: small, whole, and better than no model at all."""

from pathlib import Path

import pytest
import torch

from s4m_sb.audio import read_audio
from s4m_sb.inference import SHIPPED_MODELS, S4MSeparation
from s4m_sb.metrics import pit_si_snr, reorder, si_snr_i

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = sorted(path.name for path in SHIPPED_MODELS.iterdir())


def signal(name):
    return read_audio(EXAMPLES / f"{name}.wav", 8000)[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_small_and_has_a_card(name):
    folder = SHIPPED_MODELS / name
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < 10e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("SI-SNRi", "SDRi", "Seed", "LibriSpeech", "AN4", "licence"):
        assert word in card, word


def test_the_example_is_the_sum_of_its_talkers():
    total = signal("talker_1") + signal("talker_2")
    # 16-bit samples are exact in float32, and so is their sum
    assert torch.equal(total, signal("two_talkers"))


def test_the_example_gets_better():
    mixture = signal("two_talkers").unsqueeze(0)
    target = torch.stack([signal("talker_1"), signal("talker_2")], -1)[None]
    estimate = S4MSeparation.from_hparams().separate_batch(mixture)
    _, order = pit_si_snr(estimate=estimate, target=target)
    improvement = si_snr_i(
        estimate=reorder(estimate, order), target=target, mixture=mixture
    )
    assert improvement.min() > 4  # dB; examples/README.md says 4.6 on average


def test_silence_stays_silence():
    model = S4MSeparation.from_hparams()
    assert not model.separate_batch(torch.zeros(1, 8000)).any()
