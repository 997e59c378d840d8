"""What is said of each recording when it is done, for people or programs."""

import json
import re
import sys
from typing import TextIO

from tqdm import tqdm

from s4m_sb.inference.file_separator import Outcome

# Control characters, and what Unicode says breaks lines.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Report:
    """Writes a line for each recording.

    Arguments
    ---------
    stream : TextIO
        Where to.
    as_json : bool
        Write JSON, see `as_json`, instead of text; text is only about what
        was separated.
    quiet : bool
        Write no text.

    Example
    -------
    >>> from pathlib import Path
    >>> from s4m_sb.inference.recordings import Recording
    >>> recording = Recording(Path("a.ogg"), Path("out/a"))
    >>> outcome = Outcome(recording, (Path("out/a_s1.wav"),))
    >>> Report(sys.stdout).add(outcome)
    a.ogg -> out/a_s1.wav
    """

    def __init__(
        self, stream: TextIO, as_json: bool = False, quiet: bool = False
    ):
        self._stream = stream
        self._quiet = quiet
        self._as_json = as_json

    def add(self, outcome: Outcome) -> None:
        """Says what became of a recording.

        Arguments
        ---------
        outcome : Outcome
            What became of it.
        """
        print_warning(outcome)
        if self._as_json:
            self._write(as_json(outcome))
        elif outcome.status == "separated" and not self._quiet:
            names = ", ".join(map(str, outcome.written))
            self._write(printable(f"{outcome.recording} -> {names}"))

    def _write(self, line: str) -> None:
        # Flushed line by line: whoever reads it sees it at once, and lines
        # of several processes on one pipe stay whole.
        with tqdm.external_write_mode(file=sys.stderr):  # of the bars
            self._stream.write(line + "\n")
            self._stream.flush()


def print_warning(outcome: Outcome) -> None:
    """Says on standard error if a recording was cut off.

    Arguments
    ---------
    outcome : Outcome
        What became of it.
    """
    if outcome.truncated:
        were = "were separated" + " before" * outcome.skipped
        text = (
            f"s4m: warning: {outcome.recording}: was cut off; its first "
            f"{outcome.duration_s:.3f} s {were}"
        )
        with tqdm.external_write_mode(file=sys.stderr):
            print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Escapes what would break a line or command a terminal.

    Arguments
    ---------
    text : str
        Anything, such as names of files.

    Returns
    -------
    str
        One line. Bytes that are no text stay what they are.

    Example
    -------
    >>> print(printable("Ä\\n.wav"))
    Ä\\n.wav
    """
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def as_json(outcome: Outcome) -> str:
    """Says what became of a recording, in one line of JSON.

    Arguments
    ---------
    outcome : Outcome
        What became of it.

    Returns
    -------
    str
        An object whose keys ``s4m separate --help`` explains.
    """
    picture = outcome.picture
    return json.dumps(
        {
            "path": str(outcome.recording),
            "status": outcome.status,
            "voices": [str(path) for path in outcome.voices],
            "picture": None if picture is None else str(picture),
            "sample_rate": outcome.sample_rate,
            "duration_s": _rounded(outcome.duration_s),
            "elapsed_s": _rounded(outcome.elapsed_s),
            "truncated": outcome.truncated,
            "error": outcome.error or None,
        }
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
