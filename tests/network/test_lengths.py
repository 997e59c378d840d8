"""Relative lengths and back."""

import pytest
import torch

from s4m_sb.errors import InputError
from s4m_sb.network.lengths import num_samples, sample_mask


@pytest.mark.parametrize("max_samples", [1, 2000, 48001, 160000, 4000000])
def test_relative_lengths_give_their_samples_back(max_samples):
    samples = torch.linspace(1, max_samples, 5000).long()
    lengths = (samples.double() / max_samples).float()
    assert torch.equal(num_samples(lengths, max_samples), samples)


def test_no_item_is_empty_and_none_too_long():
    samples = num_samples(torch.tensor([0.0, 1e-9, 1.0, 1.0000005]), 100)
    assert samples.tolist() == [1, 1, 100, 100]
    assert sample_mask(samples, 100).sum(1).tolist() == [1, 1, 100, 100]


def test_a_mask_is_true_up_to_the_end():
    mask = sample_mask(torch.tensor([3, 1]), 4)
    assert mask.tolist() == [[True, True, True, False], [True] + 3 * [False]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(8000, "8000"), (1.1, "1.1"), (-0.5, "-0.5"), (float("nan"), "nan")],
)
def test_what_is_no_part_is_refused_by_value(wrong, said):
    with pytest.raises(InputError, match=rf"lengths are \[1.0, {said}"):
        num_samples(torch.tensor([1.0, wrong]), 8000)


@pytest.mark.parametrize("shape", [(), (2, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="lengths has the shape"):
        num_samples(torch.ones(shape), 100)
