"""SpeechBrain's relative lengths, as samples and as masks.

Above this file: `separate.py`, and whatever meets padded batches. Below it:
torch alone.
"""

import torch

from s4m_sb.errors import InputError

ROUNDING = 1e-6


def num_samples(lengths: torch.Tensor, max_samples: int) -> torch.Tensor:
    """Samples of each item from SpeechBrain's relative lengths.

    Arguments
    ---------
    lengths : torch.Tensor
        Parts of the padded length, 0 to 1, ``[B]``. On a CPU their values
        are checked; on a GPU that would wait for it.
    max_samples : int
        The padded length.

    Returns
    -------
    torch.Tensor
        Integers, at least 1, ``[B]``.

    Raises
    ------
    InputError
        If ``lengths`` is not one number an item, or holds samples, NaN or
        what is negative.

    Example
    -------
    >>> num_samples(torch.tensor([1.0, 0.5]), 101)
    tensor([101,  50])
    """
    if lengths.dim() != 1:
        raise InputError(
            f"lengths has the shape {list(lengths.shape)}; one an item is "
            "needed, [B]"
        )
    if not lengths.is_cuda and not _are_parts(lengths):
        raise InputError(
            f"lengths are {lengths.tolist()!s:.99}; give parts of the "
            "longest, 0 to 1"
        )
    # In float64: float32 cannot count the samples of an hour.
    return (lengths.double() * max_samples).round().long().clamp(1, max_samples)


def _are_parts(lengths: torch.Tensor) -> bool:
    # What was rounded may be a little more than 1; NaN is nothing.
    return bool(((lengths >= 0) & (lengths <= 1 + ROUNDING)).all())


def sample_mask(samples: torch.Tensor, max_samples: int) -> torch.Tensor:
    """True for the samples of each item, False for its padding.

    Arguments
    ---------
    samples : torch.Tensor
        What `num_samples` gave, ``[B]``.
    max_samples : int
        The padded length T.

    Returns
    -------
    torch.Tensor
        Booleans, ``[B, T]``.
    """
    return torch.arange(max_samples, device=samples.device) < samples[:, None]
