# PYTHON_ARGCOMPLETE_OK
"""The ``s4m`` command.

Each subcommand is a light module in `s4m_sb.commands`, which loads PyTorch
and the rest only when it runs. It has

- ``DESCRIPTION`` and ``EXAMPLES``, and perhaps ``JSON_KEYS``, for its help;
- ``add_arguments(parser)``, which adds its options to its own
  ``argparse.ArgumentParser``;
- ``run(arguments)``, which gets them back as an ``argparse.Namespace``, and
  raises `InputError` where they cannot be used.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from s4m_sb import __version__
from s4m_sb.errors import InputError, one_line
from s4m_sb.system.memory import keep_freed_memory

COMMANDS = {
    "mix": "make a data set of mixtures from recordings of single speakers",
    "separate": "separate the voices of audio files",
    "export": "turn a training run into a model folder",
    "models": "list the models that ship with the package",
    "completion": "print what makes a shell complete the words of s4m",
    "demo": "serve a page in the browser that separates recordings",
}

EXAMPLES = """\
examples:
  s4m separate meeting.wav --output separated
  s4m models
  s4m mix --help
"""
EXIT_CODES = """\
exit codes:
  0    all is done
  1    a fault of the program; a traceback shows it
  2    what was given cannot be used: nothing was done or, of several files,
       all but those that stderr names
  130  interrupted by Ctrl-C
  141  whoever read stdout has gone
  143  ended by SIGTERM
"""
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Arguments
    ---------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        Exit code, one of `EXIT_CODES`; one line on stderr says why it is 2.
    """
    if sys.stderr is None:  # closed; libraries write there all the same
        sys.stderr = open(os.devnull, "w")
    parser, runs = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks how the line goes on
        import argcomplete

        argcomplete.autocomplete(parser)
    arguments = parser.parse_args(argv)
    if argv is None:  # the whole process is this command
        keep_freed_memory()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # names of files may hold bytes that are no text
            sys.stdout.reconfigure(errors="surrogateescape")
    try:
        runs[arguments.command](arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
        return PIPE_CLOSED
    except (InputError, OSError) as error:  # OSError: a full disk, rights
        print(f"s4m: error: {one_line(error)}", file=sys.stderr)
        _give_up_stdout()
        return 2
    except KeyboardInterrupt:
        print("s4m: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _give_up_stdout() -> None:
    """Python would complain at its end of what it cannot write there."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except AttributeError:  # closed from the beginning
        pass


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and where to read on."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"s4m: error: {message}; see {self.prog} --help\n")


def _parser():
    """The parser, and for each command the function that runs it."""
    parser = _Parser(
        prog="s4m",
        description="Speech separation with multi-scale state-space models.",
        epilog=f"{EXAMPLES}\n{EXIT_CODES}",
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
        parts = getattr(module, "JSON_KEYS", ""), module.EXAMPLES, EXIT_CODES
        command = subparsers.add_parser(
            name,
            help=summary,
            description=module.DESCRIPTION,
            epilog="\n".join(filter(None, parts)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        runs[name] = module.run
    return parser, runs
