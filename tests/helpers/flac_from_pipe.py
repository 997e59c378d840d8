"""FLAC files as ``flac - > file.flac`` writes them."""

import soundfile

# Behind "fLaC" and the head of the first block, STREAMINFO: 10 bytes of
# sizes, 28 bits of format, 36 bits of the number of samples, an MD5 sum.
LENGTH = slice(4 + 4 + 13, 4 + 4 + 18)
MD5 = slice(4 + 4 + 18, 4 + 4 + 34)


def write_flac_from_pipe(path, signal, sample_rate):
    """Writes a FLAC file whose header does not say how long it is."""
    soundfile.write(path, signal, sample_rate, format="FLAC")
    content = bytearray(path.read_bytes())
    content[LENGTH] = bytes([content[LENGTH.start] & 0xF0, 0, 0, 0, 0])
    content[MD5] = bytes(16)
    path.write_bytes(content)
