"""Learned filterbank: waveform to features and back.

Drop-in for SpeechBrain's `Encoder(mix [B, T]) -> [B, F, L]` and
`Decoder([B, F, L]) -> [B, T']`, for any T from one sample: the encoder pads
so that every sample is seen by all frames that can cover it, and the decoder
takes the padding on the left off again, so that sample t stays sample t.
What the decoder gives beyond T is for the caller to cut.

Above this file: the YAMLs in `recipes/`. Below it: torch alone.
"""

import torch
import torch.nn.functional as F
from torch import nn

from s4m_sb.errors import InputError


class _Filterbank(nn.Module):
    """The filters of an encoder or a decoder."""

    def __init__(
        self, num_filters: int = 9, kernel_size: int = 16, stride: int = 4
    ):
        super().__init__()
        for name, value in (
            ("num_filters", num_filters),
            ("kernel_size", kernel_size),
            ("stride", stride),
        ):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if stride > kernel_size:
            raise InputError(
                f"stride must be at most kernel_size = {kernel_size}, "
                f"got {stride}"
            )
        self.kernel_size = kernel_size
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(num_filters, 1, kernel_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws fresh filters (Glorot uniform)."""
        nn.init.xavier_uniform_(self.weight)


class Encoder(_Filterbank):
    """Strided convolution without bias or activation, as in the paper.

    Arguments
    ---------
    num_filters : int
        Number of filters F.
    kernel_size : int
        Length of a filter in samples.
    stride : int
        Samples from one frame to the next, at most ``kernel_size``.

    Raises
    ------
    InputError
        If a value is out of range.

    Example
    -------
    >>> Encoder(num_filters=9, kernel_size=16, stride=4)(
    ...     torch.randn(2, 1000)
    ... ).shape
    torch.Size([2, 9, 253])
    """

    def num_frames(self, num_samples):
        """Frames that see any of the first ``num_samples`` samples.

        Arguments
        ---------
        num_samples : int or torch.Tensor
            One number or one an item.

        Returns
        -------
        int or torch.Tensor
            Number of frames.
        """
        return (
            num_samples - 1 + self.kernel_size - self.stride
        ) // self.stride + 1

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """Encodes waveforms.

        Arguments
        ---------
        mixture : torch.Tensor
            Waveforms, ``[B, T]``, T ≥ 1.

        Returns
        -------
        torch.Tensor
            Features, ``[B, F, L]`` with L = ``num_frames(T)``.

        Raises
        ------
        InputError
            If the shape is not ``[B, T]`` with T ≥ 1.
        """
        if mixture.dim() != 2 or mixture.shape[1] == 0:
            raise InputError(
                "the encoder takes waveforms of shape [B, T] with at least "
                f"one sample, got {list(mixture.shape)}"
            )
        T = mixture.shape[1]
        left = self.kernel_size - self.stride
        covered = (self.num_frames(T) - 1) * self.stride + self.kernel_size
        mixture = F.pad(mixture, (left, covered - left - T))
        return F.conv1d(mixture.unsqueeze(1), self.weight, stride=self.stride)


class Decoder(_Filterbank):
    """Transposed convolution without bias, one source at a time.

    Arguments
    ---------
    num_filters, kernel_size, stride : int
        As for `Encoder`.

    Raises
    ------
    InputError
        If a value is out of range.

    Example
    -------
    >>> Decoder(num_filters=9, kernel_size=16, stride=4)(
    ...     torch.randn(2, 9, 253)
    ... ).shape
    torch.Size([2, 1012])
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Decodes features.

        Arguments
        ---------
        features : torch.Tensor
            ``[B, F, L]``.

        Returns
        -------
        torch.Tensor
            Waveforms, ``[B, T']`` with T' = L · stride, at least as long as
            the waveform that gave L frames.
        """
        y = F.conv_transpose1d(features, self.weight, stride=self.stride)
        return y[:, 0, self.kernel_size - self.stride :]
