"""Means over items: NaN means silence, and nothing else."""

import math

import pytest
import torch

from s4m_sb.errors import InputError
from s4m_sb.training.objective import Separated
from s4m_sb.training.scores import ItemScores


def batch_of(estimate):
    voices = torch.randn(3, 400, 2)
    voices[2] = 0  # silence
    mixture = voices.sum(2)
    return Separated(estimate(voices), voices, voices, mixture, torch.ones(3))


def same(voices):
    return voices.clone()


def test_silence_is_in_no_mean_whatever_the_batches():
    scores = ItemScores(with_improvement=True)
    loss = scores.add(list("abc"), batch_of(same), torch.tensor([1.0, 3, 9]))
    assert loss.item() == 2.0
    scores.add(list("def"), batch_of(same), torch.tensor([5.0, 5, math.nan]))
    means = scores.means()
    assert means["loss"] == 3.5
    assert means["si-snr_i"] > 40  # dB; the voices are perfect


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_named(value):
    def spoiled(voices):
        return voices.index_fill(0, torch.tensor([1]), value)

    losses = torch.zeros(3)
    for estimate, given in ((spoiled, losses), (same, losses + value)):
        name = "b" if estimate is spoiled else "a"
        with pytest.raises(InputError, match=f"the voices of {name}, or"):
            ItemScores().add(list("abc"), batch_of(estimate), given)


def test_silence_alone_has_no_score():
    scores = ItemScores()
    batch = batch_of(same)
    silent = Separated(*(part[2:] for part in batch))
    scores.add(["c"], silent, torch.zeros(1))
    with pytest.raises(InputError, match="all targets .* are silent"):
        scores.means()
