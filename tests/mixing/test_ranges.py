"""One check and one message for every share and range."""

import math

import numpy as np
import pytest

from s4m_sb.errors import InputError
from s4m_sb.mixing.ranges import (
    check_mean,
    check_range,
    check_share,
    happens,
    is_number,
)


@pytest.mark.parametrize("good", [0, 1, 0.5, np.float32(0.1)])
def test_shares(good):
    check_share("share", good)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, "0.5", None, True, [1]])
def test_no_shares(bad):
    with pytest.raises(InputError, match="share is .*; give a number from 0"):
        check_share("share", bad)


@pytest.mark.parametrize("good", [(0, 1), [1, 1], (-5.0, 3), [-5, 5]])
def test_ranges(good):
    check_range("range", good, -5, 5)


@pytest.mark.parametrize(
    "bad", [(1, 0), (0, 6), (-6, 0), (0,), (0, 1, 2), 3, "01", None, (0, "1")]
)
def test_no_ranges(bad):
    with pytest.raises(InputError, match=r"range is .* between -5 and 5, the"):
        check_range("range", bad, -5, 5)


def test_a_mean_has_a_deviation():
    check_mean("gap", [-1.0, 0])
    for bad in ([0, -1], [0], 1, [0, math.nan], ["0", 1]):
        with pytest.raises(InputError, match="gap is .*deviation at least 0"):
            check_mean("gap", bad)


def test_what_is_certain_takes_no_random_number():
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    assert all(happens(rng, 1.0) for _ in range(9))
    assert rng.random() == other.random()
    assert not any(happens(rng, 0.0) for _ in range(9))
    # Four standard deviations of 1000 draws: 0.058.
    share = np.mean([happens(rng, 0.3) for _ in range(1000)])
    assert share == pytest.approx(0.3, abs=0.058)


def test_numbers():
    assert all(map(is_number, (1, -0.5, np.int64(3), np.float32(2))))
    assert not any(map(is_number, (math.inf, math.nan, True, "1", None, [1])))
