"""The header of a 32-bit float WAV file, whose samples follow it."""

import struct

SAMPLE_BYTES = 4
LARGEST_RIFF = 2**32 - 1


def wav_header(
    num_frames: int, sample_rate: int, num_channels: int = 1
) -> bytes:
    """Writes the header; it is of the same length for any number of samples.

    Beyond 4 GiB it is that of an RF64 file, which libsndfile reads like any
    other.

    Arguments
    ---------
    num_frames : int
        Samples of each channel.
    sample_rate : int
        In Hz.
    num_channels : int
        Channels, whose samples alternate.

    Returns
    -------
    bytes
        What comes before the samples.

    Example
    -------
    >>> len(wav_header(0, 8000)) == len(wav_header(10**10, 8000, 2))
    True
    """
    frame_bytes = SAMPLE_BYTES * num_channels
    data_bytes = frame_bytes * num_frames
    chunks = [
        _chunk(b"JUNK", bytes(28)),  # room for the sizes of RF64
        # float samples
        _chunk(
            b"fmt ",
            struct.pack(
                "<HHIIHHH",
                3,
                num_channels,
                sample_rate,
                frame_bytes * sample_rate,
                frame_bytes,
                8 * SAMPLE_BYTES,
                0,  # bytes that follow
            ),
        ),
        _chunk(b"fact", struct.pack("<I", num_frames & LARGEST_RIFF)),
    ]
    num_bytes = sum(map(len, chunks)) + 12 + data_bytes
    form, data_size = b"RIFF", data_bytes
    if num_bytes > LARGEST_RIFF:
        sizes = struct.pack("<QQQI", num_bytes, data_bytes, num_frames, 0)
        chunks[0] = _chunk(b"ds64", sizes)
        form, data_size, num_bytes = b"RF64", LARGEST_RIFF, LARGEST_RIFF
    return b"".join(
        [
            form,
            struct.pack("<I", num_bytes),
            b"WAVE",
            *chunks,
            b"data",
            struct.pack("<I", data_size),
        ]
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content
