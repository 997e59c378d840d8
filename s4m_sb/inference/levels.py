"""The level of mixtures before the network, and of voices behind it.

What a network learns has no level of its own: it gets every mixture at one,
and its voices go back to that of the mixture. Only digital silence is silence.
"""

import torch

from s4m_sb.errors import InputError

NORMALIZATIONS = ("mixture", "peak", "none")
DEFAULT = "mixture"

LEVEL = 0.1  # of a mixture before the network, as root mean square
SILENT_VOICE = 1e-4  # a voice 80 dB below the loudest one is no voice
SWEEPS = 20  # of the gains; enough for voices that correlate by 0.9


def bring_to_level(
    mix: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Brings mixtures to one level, without their means.

    Arguments
    ---------
    mix : torch.Tensor
        ``[B, T]``, finite, of any level that its numbers can have.
    mask : torch.Tensor, optional
        True where samples count, ``[B, T]``; ``mix`` is zero elsewhere.

    Returns
    -------
    torch.Tensor
        ``[B, T]``, with a root mean square of `LEVEL`.
    torch.Tensor
        By what to multiply its voices, ``[B, 1, 1]``; 0 for silence.

    Example
    -------
    >>> mix = 1e-6 * torch.tensor([[3.0, 1.0, 3.0, 1.0]])
    >>> levelled, scale = bring_to_level(mix)
    >>> levelled
    tensor([[ 0.1000, -0.1000,  0.1000, -0.1000]])
    """
    count = mix.shape[1] if mask is None else mask.sum(1, keepdim=True)
    # To a peak of 1 first: squares of less than 1e-19 are 0 in float32.
    peak = mix.abs().amax(1, keepdim=True)  # [B, 1]
    mix = mix / peak.masked_fill(peak == 0, 1)
    mix = mix - mix.sum(1, keepdim=True) / count
    if mask is not None:
        mix = mix.masked_fill(~mask, 0)
    level = (mix.square().sum(1, keepdim=True) / count).sqrt()
    mix = mix * (LEVEL / level.masked_fill(level == 0, 1))
    return mix, (peak * (level / LEVEL)).unsqueeze(2)


def normalize_voices(
    voices: torch.Tensor, mix: torch.Tensor, normalize: str
) -> torch.Tensor:
    """Gives separated voices a level.

    Arguments
    ---------
    voices : torch.Tensor
        ``[B, T, S]``.
    mix : torch.Tensor
        What was separated, ``[B, T]``.
    normalize : str
        "mixture": each voice as loud as in the mixture, and of its sign, by
        gains with which the voices sum to the mixture. Each voice in turn, the
        loudest first, gets what the others leave of it, until these are the
        least-squares gains; what only repeats another voice, as what leaks
        into the output of somebody silent, gets nothing.
        "peak": each voice reaches 1, as in SpeechBrain, but what lies 80 dB
        below the loudest one.
        "none": as the network gives them.

    Returns
    -------
    torch.Tensor
        ``[B, T, S]``.

    Raises
    ------
    InputError
        If ``normalize`` is none of these.

    Example
    -------
    >>> voices = torch.tensor([[[0.5, 0.0], [-0.2, 0.0]]])
    >>> normalize_voices(voices, voices.sum(2), "peak")[0, 0]
    tensor([1., 0.])
    """
    divisors = []
    for item, item_mix in zip(voices, mix, strict=True):
        level = Level(voices.shape[2], normalize)
        level.add(item, item_mix)
        divisors.append(level.divisors())
    return voices / torch.stack(divisors).unsqueeze(1).to(voices)


class Level:
    """The level of voices that come in blocks, all blocks of a voice alike.

    What `normalize_voices` gives to the whole, whatever the blocks, up to the
    rounding of sums in another order.

    Arguments
    ---------
    num_spks : int
        Number of voices.
    normalize : str
        As there.

    Raises
    ------
    InputError
        If ``normalize`` is unknown.

    Example
    -------
    >>> level = Level(2, "peak")
    >>> voices = torch.tensor([[0.5, 0.1], [-0.2, 0.2]])
    >>> for block in voices.split(1):
    ...     level.add(block, block.sum(1))
    >>> voices / level.divisors()
    tensor([[ 1.0000,  0.5000],
            [-0.4000,  1.0000]])
    """

    def __init__(self, num_spks: int, normalize: str):
        if normalize not in NORMALIZATIONS:
            raise InputError(
                f"normalize={normalize!r}: give one of "
                + ", ".join(NORMALIZATIONS)
            )
        self.normalize = normalize
        self.peaks = torch.zeros(num_spks)
        # In float64: there may be 10^9 samples.
        self.num_frames = 0
        self.sums = torch.zeros(num_spks, dtype=torch.float64)
        self.mix_sum = torch.zeros((), dtype=torch.float64)
        self.products = torch.zeros(num_spks, num_spks, dtype=torch.float64)
        self.projections = torch.zeros(num_spks, dtype=torch.float64)

    def add(self, voices: torch.Tensor, mix: torch.Tensor) -> None:
        """Takes in a block.

        Arguments
        ---------
        voices : torch.Tensor
            ``[n, S]``.
        mix : torch.Tensor
            What was separated, ``[n]``.
        """
        if len(mix) == 0:
            return
        voices, mix = voices.cpu(), mix.cpu()  # not everywhere is float64
        self.peaks = torch.maximum(self.peaks, voices.abs().amax(dim=0))
        voices, mix = voices.double(), mix.double()
        self.num_frames += len(mix)
        self.sums += voices.sum(dim=0)
        self.mix_sum += mix.sum()
        self.products += voices.T @ voices
        self.projections += voices.T @ mix

    def divisors(self) -> torch.Tensor:
        """By what to divide the voices.

        Returns
        -------
        torch.Tensor
            ``[S]``; infinite for a voice that becomes silence.
        """
        if self.normalize == "none":
            return torch.ones_like(self.peaks)
        if self.normalize == "peak":
            silent = self.peaks <= SILENT_VOICE * self.peaks.max()
            return self.peaks.masked_fill(silent, 1.0)
        return (1 / self._gains()).float()

    def _gains(self) -> torch.Tensor:
        """With which the voices sum to the mixture without its mean, [S]."""
        gains = torch.zeros_like(self.projections)
        if self.num_frames == 0:
            return gains
        wanted = self.projections - self.sums * self.mix_sum / self.num_frames
        energies = self.products.diagonal()
        loudest_first = energies.argsort(descending=True).tolist()
        heard = [s for s in loudest_first if energies[s] > 0]
        for _ in range(SWEEPS):
            for s in heard:
                left = wanted[s] - self.products[s] @ gains
                gains[s] += left / energies[s]
        return gains
