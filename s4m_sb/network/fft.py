"""Lengths of Fourier transforms.

Above this file: `s4.py`. Below it: nothing, not even torch.
"""


def fft_length(minimum: int) -> int:
    """The smallest even 2ᵃ3ᵇ5ᶜ that is at least ``minimum``.

    Transforms of such lengths are fast; those of a prime are not.

    Arguments
    ---------
    minimum : int
        Samples that the transform must hold, at least 1.

    Returns
    -------
    int
        The length.

    Example
    -------
    >>> fft_length(1002)
    1024
    >>> fft_length(2050)
    2160
    """
    best = 1 << max(minimum - 1, 1).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            twos = max(-(-minimum // odd) - 1, 1).bit_length()
            best = min(best, odd << twos)
            odd *= 3
        fives *= 5
    return best
