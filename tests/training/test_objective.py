"""Which mixtures count in a batch, and what losses are called."""

import functools
import math

import pytest
import torch

from s4m_sb.metrics import pit_sa_sdr_loss, pit_si_snr_loss
from s4m_sb.training.objective import mean_of_kept, name_of


@pytest.mark.parametrize(
    "losses, limit, threshold, mean",
    [
        ([1.0, 3.0], math.inf, None, 2.0),
        ([1.0, 3.0], 3.0, None, 1.0),  # at the limit is beyond it
        ([-30.0, 3.0], math.inf, -30.0, 3.0),
        ([-40.0, 9.0], 9.0, -30.0, 0.0),  # none is left
    ],
)
def test_what_is_beyond_the_bounds_weighs_nothing(
    losses, limit, threshold, mean
):
    losses = torch.tensor(losses, requires_grad=True)
    value = mean_of_kept(losses, limit, threshold)
    assert value.item() == mean
    value.backward()  # also where none is left
    kept = [
        x < limit and (threshold is None or x > threshold)
        for x in losses.tolist()
    ]
    assert losses.grad.tolist() == [
        one / max(sum(kept), 1) for one in map(float, kept)
    ]


def test_nan_counts():
    assert mean_of_kept(torch.tensor([math.nan, 1.0]), 9.0, -9.0).isnan()


def test_losses_are_called_as_they_are_defined():
    assert name_of(pit_si_snr_loss) == "pit_si_snr_loss"
    partly = functools.partial(pit_sa_sdr_loss, max_sdr_db=20)
    assert name_of(partly) == "pit_sa_sdr_loss"
    assert name_of(torch.nn.MSELoss()) == "MSELoss"
