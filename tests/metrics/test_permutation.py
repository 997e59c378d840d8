"""Which estimate belongs to which target: the best of all assignments."""

import itertools

import pytest
import torch
from known_signals import voices

from s4m_sb import metrics


@pytest.mark.parametrize("num_sources", [1, 2, 3, 5])
def test_best_permutation_is_the_best_of_all(num_sources):
    scores = 10 * voices(20, num_sources, num_sources, seed=3)
    chosen = metrics.best_permutation(scores)
    targets = range(num_sources)
    for item in range(20):
        best = max(
            itertools.permutations(targets),
            key=lambda p: sum(float(scores[item, p[j], j]) for j in targets),
        )
        assert chosen[item].tolist() == list(best)


def test_many_speakers_agree_with_the_hungarian_method():
    from scipy.optimize import linear_sum_assignment

    scores = voices(4, 10, 10, seed=4)
    chosen = metrics.best_permutation(scores)
    for item in range(4):
        _, expected = linear_sum_assignment(
            scores[item].T.numpy(), maximize=True
        )
        assert chosen[item].tolist() == expected.tolist()


def test_every_permutation_of_eight_is_found_and_undone():
    target = voices(3, 300, 8)
    generator = torch.Generator().manual_seed(5)
    shuffles = [torch.randperm(8, generator=generator) for _ in range(3)]
    estimate = torch.stack([target[i][:, p] for i, p in enumerate(shuffles)])
    values, permutation = metrics.pit_si_snr(estimate, target)
    assert torch.equal(metrics.reorder(estimate, permutation), target)
    assert (values > 80).all()
