"""Lengths of Fourier transforms."""

from s4m_sb.network.fft import fft_length


def only_primes_2_3_5(number):
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1


def test_fft_lengths_are_the_smallest_of_their_kind():
    even_and_smooth = [n for n in range(2, 7000, 2) if only_primes_2_3_5(n)]
    for minimum in range(1, 6000):
        expected = next(n for n in even_and_smooth if n >= minimum)
        assert fft_length(minimum) == expected
    for exact in (2 * 5**9, 2 * 3**13, 2 * 3**8 * 5**6):  # hours of frames
        assert fft_length(exact) == exact
