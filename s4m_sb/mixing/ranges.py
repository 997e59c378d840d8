"""Shares and ranges among the options: one check and one message each."""

import math
import numbers
from typing import TypeGuard

import numpy as np

from s4m_sb.errors import InputError


def check_share(name: str, given: object) -> None:
    """Refuses what is no share or probability.

    Arguments
    ---------
    name : str
        Of the option.
    given : object
        A number from 0 to 1 passes.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if not is_number(given) or not 0 <= given <= 1:
        raise InputError(f"{name} is {given}; give a number from 0 to 1")


def check_range(
    name: str, given: object, lowest: float, highest: float
) -> None:
    """Refuses what is no range.

    Arguments
    ---------
    name : str
        Of the option.
    given : object
        Two numbers in rising order pass.
    lowest, highest : float
        Between which they have to be.

    Raises
    ------
    InputError
        If it is anything else.

    Example
    -------
    >>> check_range("speed_range", [1.1, 0.9], 0.5, 2.0)
    Traceback (most recent call last):
    s4m_sb.errors.InputError: speed_range is [1.1, 0.9]; give two numbers ...
    """
    low, high = _two_numbers(given)
    if not lowest <= low <= high <= highest:
        raise InputError(
            f"{name} is {_shown(given)}; give two numbers [low, high] between "
            f"{lowest:g} and {highest:g}, the lower one first"
        )


def check_mean(name: str, given: object) -> None:
    """Refuses what is no mean with its standard deviation.

    Arguments
    ---------
    name : str
        Of the option.
    given : object
        Two numbers pass, the second of them at least 0.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if not _two_numbers(given)[1] >= 0:
        raise InputError(
            f"{name} is {_shown(given)}; give two numbers [mean, deviation], "
            "the deviation at least 0"
        )


def happens(rng: np.random.Generator, share: float) -> bool:
    """Draws whether something happens that does in a share of the cases.

    Arguments
    ---------
    rng : numpy.random.Generator
        Decides.
    share : float
        From 0 to 1.

    Returns
    -------
    bool
        What is certain takes no random number.
    """
    return share == 1 or bool(rng.random() < share)


def is_number(given: object) -> TypeGuard[float]:
    """Tells numbers from what else a YAML file may hold.

    Arguments
    ---------
    given : object
        Whatever it is.

    Returns
    -------
    bool
        True for a finite number.
    """
    return (
        isinstance(given, numbers.Real)
        and not isinstance(given, bool)
        and math.isfinite(given)
    )


def _two_numbers(given: object) -> tuple[float, float]:
    if isinstance(given, tuple | list) and len(given) == 2:
        first, second = given
        if is_number(first) and is_number(second):
            return first, second
    return math.nan, math.nan


def _shown(given: object) -> object:
    return list(given) if isinstance(given, tuple) else given
