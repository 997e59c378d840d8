"""A file that libsndfile reads, even one that does not say how long it is."""

import os
from collections.abc import Iterator

import numpy as np
import soundfile

UNKNOWN = 2**63 - 1  # what libsndfile says of a length that nobody knows
BLOCK_FRAMES = 2**17


class SoundFile(soundfile.SoundFile):
    """An audio file, open for reading.

    Encoders that write into a pipe, such as ``flac``, cannot go back to the
    header to say how long the file became. libsndfile loses its way in such
    a file when it seeks, so that it is read from its beginning, block by
    block.

    Arguments
    ---------
    path : str or os.PathLike
        The file.

    Raises
    ------
    soundfile.LibsndfileError
        If it is no audio.

    Example
    -------
    >>> path = getfixture("tmp_path") / "tone.flac"
    >>> soundfile.write(path, np.zeros(300), 8000)
    >>> with SoundFile(path) as file:
    ...     [len(samples) for samples in file.by_blocks(128)]
    [128, 128, 44]
    """

    def __init__(self, path: str | os.PathLike):
        # As bytes where names may hold some that are no text.
        windows = os.name == "nt"
        super().__init__(os.fspath(path) if windows else os.fsencode(path))

    def seekable(self) -> bool:
        """Tells whether samples can be read from anywhere.

        Returns
        -------
        bool
            Only if the file says how many there are.
        """
        return super().seekable() and self.frames < UNKNOWN

    def by_blocks(self, num_frames: int = BLOCK_FRAMES) -> Iterator[np.ndarray]:
        """Reads what is left.

        Arguments
        ---------
        num_frames : int
            Samples of a block, on each channel.

        Yields
        ------
        np.ndarray
            ``[n, C]``, float32.

        Raises
        ------
        soundfile.LibsndfileError
            If the file is damaged.
        """
        while True:
            samples = self.read(num_frames, dtype="float32", always_2d=True)
            if len(samples) == 0:
                return
            yield samples
