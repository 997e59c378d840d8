"""Which estimate belongs to which target.

Above this file: ``snr.py`` and ``silence.py``, whose ``pit_*`` use it, and
`s4m_sb.inference.chunking`, which joins pieces by it.
"""

import math

import torch


def best_permutation(scores: torch.Tensor) -> torch.Tensor:
    """The assignment of estimates to targets with the highest total score.

    Exact for any number of sources: dynamic programming over the sets of
    estimates given away (2^S of them, instead of S! permutations), for all
    items of the batch at once.

    Arguments
    ---------
    scores : torch.Tensor
        ``[B, S, S]``: entry ``[b, i, j]`` is estimate i against target j.
        NaN counts as 0, so that a silent target takes what is left over.

    Returns
    -------
    torch.Tensor
        ``[B, S]``, integers: entry ``[b, j]`` is the estimate for target j.

    Example
    -------
    >>> best_permutation(torch.tensor([[[1.0, 9.0], [2.0, 8.0]]]))
    tensor([[1, 0]])
    """
    scores = scores.detach().nan_to_num(nan=0.0)
    num_items, num_sources, _ = scores.shape
    device = scores.device
    bit = 2 ** torch.arange(num_sources, device=device)
    sets = torch.arange(2**num_sources, device=device)
    holds = (sets.unsqueeze(1) & bit) > 0  # [2^S, S]
    total = scores.new_full((num_items, 2**num_sources), -math.inf)
    total[:, 0] = 0
    given = sets.new_zeros(num_items, 2**num_sources)
    for j in reversed(range(num_sources)):
        here = sets[holds.sum(1) == num_sources - j]  # serve targets j..S-1
        before = (here.unsqueeze(1) - bit).clamp(min=0)  # [M, S]
        candidates = total[:, before] + scores[:, None, :, j]  # [B, M, S]
        candidates = candidates.masked_fill(~holds[here], -math.inf)
        total[:, here], given[:, here] = candidates.max(dim=2)
    permutation = []
    left = sets[-1:].expand(num_items)  # from the full set back to none
    for _ in range(num_sources):
        estimate = given.gather(1, left.unsqueeze(1)).squeeze(1)
        permutation.append(estimate)
        left = left - bit[estimate]
    return torch.stack(permutation, dim=1)


def reorder(sources: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """Puts estimates into the order of their targets.

    Arguments
    ---------
    sources : torch.Tensor
        ``[B, T, S]``.
    permutation : torch.Tensor
        ``[B, S]``, as `best_permutation` and `pit_si_snr` give it.

    Returns
    -------
    torch.Tensor
        ``[B, T, S]``.

    Example
    -------
    >>> reorder(torch.tensor([[[5.0, 7.0]]]), torch.tensor([[1, 0]]))
    tensor([[[7., 5.]]])
    """
    return sources.gather(2, permutation.unsqueeze(1).expand_as(sources))
