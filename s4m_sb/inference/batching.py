"""Batches of items of about the same length, so that little is padding."""

from collections.abc import Sequence

from s4m_sb.errors import InputError

MOST_PADDING = 0.25  # of a batch


def batches_by_length(
    lengths: Sequence[int],
    max_items: int | None = None,
    max_total: int | None = None,
    same_length: bool = False,
) -> list[list[int]]:
    """Divides items into batches, the longest first.

    Arguments
    ---------
    lengths : sequence of int
        Length of each item.
    max_items : int, optional
        Most items of a batch.
    max_total : int, optional
        Largest length of a batch, padding included. A longer item is a batch
        of its own.
    same_length : bool
        Take only items of one length together, so that nothing is padded.

    Returns
    -------
    list[list[int]]
        Positions in ``lengths``, each once. An item is at least three
        quarters as long as the longest of its batch.

    Raises
    ------
    InputError
        If ``max_items`` is not positive.

    Example
    -------
    >>> batches_by_length([10, 40, 9, 38, 8], max_total=80)
    [[1, 3], [0, 2, 4]]
    """
    if max_items is not None and max_items < 1:
        raise InputError(f"batch_size is {max_items}; give at least 1")
    shortest = 1.0 if same_length else 1 - MOST_PADDING
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches:
            batch = batches[-1]
            longest = lengths[batch[0]]
            num_items = len(batch) + 1
            if (
                lengths[position] >= shortest * longest
                and (max_items is None or num_items <= max_items)
                and (max_total is None or num_items * longest <= max_total)
            ):
                batch.append(position)
                continue
        batches.append([position])
    return batches
