"""Batches: every item once, little padding, never too much at once."""

import numpy as np
import pytest

from s4m_sb.errors import InputError
from s4m_sb.inference.batching import batches_by_length


@pytest.mark.parametrize("max_items", [None, 1, 3, 100])
@pytest.mark.parametrize("max_total", [None, 50, 5000])
@pytest.mark.parametrize("same_length", [False, True])
def test_what_a_batch_is(max_items, max_total, same_length):
    lengths = np.random.default_rng(0).integers(1, 100, size=300).tolist()
    batches = batches_by_length(lengths, max_items, max_total, same_length)
    assert sorted(sum(batches, [])) == list(range(300))
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch, most in zip(batches, longest, strict=True):
        assert len(batch) <= (max_items or 300)
        if max_total is not None and len(batch) > 1:
            assert len(batch) * most <= max_total
        for i in batch:
            assert lengths[i] >= (1 if same_length else 0.75) * most


def test_equal_lengths_fill_their_batches():
    assert [len(batch) for batch in batches_by_length([5] * 10, 4)] == [4, 4, 2]
    assert batches_by_length([5] * 10, max_total=25)[0] == [0, 1, 2, 3, 4]
    assert batches_by_length([]) == []


@pytest.mark.parametrize("max_items", [0, -1])
def test_an_empty_batch_is_refused(max_items):
    with pytest.raises(InputError, match=f"batch_size is {max_items}"):
        batches_by_length([], max_items)
