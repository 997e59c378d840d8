"""The ``s4m`` command.

Each subcommand is a light module in `s4m_sb.commands`, which loads PyTorch
and the rest only when it runs.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from s4m_sb import __version__
from s4m_sb.allocator import keep_freed_memory
from s4m_sb.errors import InputError, one_line

COMMANDS = {
    "mix": "make a data set of mixtures from recordings of single speakers",
    "separate": "separate the voices of audio files",
    "export": "turn a training run into a model folder",
}

EXAMPLES = """\
examples:
  s4m separate meeting.wav --output separated
  s4m mix --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Arguments
    ---------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        Exit code: 0 if all went well, 2 if the input could not be used (one
        line on stderr says why), 130 if interrupted.
    """
    parser, runs = _parser()
    arguments = parser.parse_args(argv)
    if argv is None:  # the whole process is this command
        keep_freed_memory()
    try:
        runs[arguments.command](arguments)
    except (InputError, OSError) as error:  # OSError: a full disk, rights
        print(f"s4m: error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("s4m: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser():
    """The parser, and for each command the function that runs it."""
    parser = argparse.ArgumentParser(
        prog="s4m",
        description="Speech separation with multi-scale state-space models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"s4m_sb {__version__}"
    )
    subparsers = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True
    )
    runs = {}
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"s4m_sb.commands.{name}")
        module.add_arguments(subparsers.add_parser(name, help=summary))
        runs[name] = module.run
    return parser, runs
