"""A line for each recording, whole and at once."""

import io
import json
from pathlib import Path

from s4m_sb.commands.reports import Report, as_json, printable
from s4m_sb.inference.file_separator import Outcome
from s4m_sb.inference.recordings import Recording

RECORDING = Recording(Path("in/ä\n.wav"), Path("out/ä\n"))
DONE = Outcome(
    RECORDING,
    tuple(RECORDING.outputs(2)),
    RECORDING.picture,
    sample_rate=8000,
    duration_s=1 / 3,
    elapsed_s=2.0,
)
SKIPPED = Outcome(RECORDING, tuple(RECORDING.outputs(2)), skipped=True)
FAILED = Outcome(RECORDING, error="in: is empty")


class Stream(io.StringIO):
    """Notes what each flush brought."""

    def __init__(self):
        super().__init__()
        self.flushed = []

    def flush(self):
        self.flushed.append(self.getvalue())


def test_each_line_leaves_at_once():
    stream = Stream()
    report = Report(stream, as_json=True)
    for outcome in (DONE, SKIPPED, FAILED):
        report.add(outcome)
    assert [text.count("\n") for text in stream.flushed] == [1, 2, 3]
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    status = [line["status"] for line in lines]
    assert status == ["separated", "skipped", "failed"]


def test_the_picture_is_no_voice():
    line = json.loads(as_json(DONE))
    assert line["path"] == "in/ä\n.wav"
    assert line["voices"] == ["out/ä\n_s1.wav", "out/ä\n_s2.wav"]
    assert line["picture"] == "out/ä\n.png"
    assert (line["duration_s"], line["elapsed_s"]) == (0.3333, 2.0)


def test_text_is_about_what_was_separated():
    for quiet in (False, True):
        stream = io.StringIO()
        report = Report(stream, quiet=quiet)
        for outcome in (DONE, SKIPPED, FAILED):
            report.add(outcome)
        assert stream.getvalue().count(" -> ") == (0 if quiet else 1)
        assert "is empty" not in stream.getvalue()


def test_a_recording_goes_by_its_name():
    recording = Recording(Path("/tmp/s4m.1/stdin"), Path("out/stdin"), "stdin")
    assert json.loads(as_json(Outcome(recording)))["path"] == "stdin"


def test_names_do_not_break_lines_or_command_the_terminal():
    recording = Recording(Path("a\n\x1b[2J\u2028b.wav"), Path("out/a\rb"))
    stream = io.StringIO()
    Report(stream).add(Outcome(recording, tuple(recording.outputs(2))))
    assert stream.getvalue() == (
        "a\\n\\x1b[2J\\u2028b.wav -> out/a\\rb_s1.wav, out/a\\rb_s2.wav\n"
    )
    # a byte that is no text, as Python holds it
    assert printable("caf\udce9 ü") == "caf\udce9 ü"
