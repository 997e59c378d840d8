"""What is separated, and the loss of it, mixture by mixture.

A YAML names the loss: one of `s4m_sb.metrics` or of SpeechBrain.

Above this file: `brain.py`. Below it: `network/lengths.py`.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from s4m_sb.network.lengths import num_samples


class Separated(NamedTuple):
    """What `SeparationBrain.compute_forward` gives."""

    estimate: torch.Tensor  # [B, T, S]
    target: torch.Tensor  # [B, T, S]
    image: torch.Tensor  # [B, T, S], the sources as they are in the mixture
    mixture: torch.Tensor  # [B, T]
    lengths: torch.Tensor  # [B], relative


def item_losses(
    loss: Callable[..., torch.Tensor], separated: Separated
) -> torch.Tensor:
    """The loss of each mixture, without its padding.

    Arguments
    ---------
    loss : callable
        ``loss(target, estimate)`` gives one number a mixture. If it takes
        ``lengths`` or ``mixture``, it gets them; without lengths it is called
        item by item where there is padding.
    separated : Separated
        A batch.

    Returns
    -------
    torch.Tensor
        ``[B]``.

    Example
    -------
    >>> voices = torch.randn(2, 100, 2)
    >>> batch = Separated(
    ...     voices, voices, voices, voices.sum(2), torch.tensor([1.0, 0.5])
    ... )
    >>> item_losses(
    ...     lambda target, estimate: (target - estimate).abs().sum((1, 2)),
    ...     batch,
    ... )
    tensor([0., 0.])
    """
    estimate, target, _, mixture, lengths = separated
    taken = inspect.signature(loss).parameters
    context: dict[str, Any] = {"mixture": mixture} if "mixture" in taken else {}
    if bool((lengths == 1).all()):
        return loss(target, estimate, **context).flatten()
    if "lengths" in taken:
        return loss(target, estimate, lengths=lengths, **context).flatten()
    samples = num_samples(lengths, target.shape[1]).tolist()
    return torch.stack(
        [
            loss(
                target[i : i + 1, :n],
                estimate[i : i + 1, :n],
                **{key: x[i : i + 1, :n] for key, x in context.items()},
            ).squeeze()
            for i, n in enumerate(samples)
        ]
    )


def mean_of_kept(
    losses: torch.Tensor, limit: float, threshold: float | None
) -> torch.Tensor:
    """The mean of the losses that count.

    It stays part of the graph even if none does, so that no rank of a
    distributed training waits for the gradients of another. NaN counts:
    whoever trains is told of it.

    Arguments
    ---------
    losses : torch.Tensor
        Of each mixture, ``[B]``.
    limit : float
        Those at or above it weigh nothing.
    threshold : float, optional
        Nor do those at or below it.

    Returns
    -------
    torch.Tensor
        Scalar.

    Example
    -------
    >>> mean_of_kept(torch.tensor([-40.0, -10.0, -2.0, 99.0]), 90.0, -30.0)
    tensor(-6.)
    """
    left_out = losses >= limit
    if threshold is not None:
        left_out |= losses <= threshold
    kept = (~left_out).sum().clamp(min=1)
    return losses.masked_fill(left_out, 0.0).sum() / kept


def name_of(loss: Any) -> str:
    """What a loss is called, in checkpoints and on cards."""
    function = getattr(loss, "func", loss)  # YAMLs make partial functions
    return getattr(function, "__name__", type(function).__name__)
