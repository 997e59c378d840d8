"""``s4m completion``: what makes a shell complete the words of ``s4m``."""

import argparse
import sys

from s4m_sb.errors import InputError

DESCRIPTION = """\
Print what makes your shell complete commands, options, names of models and
files after `s4m`. Needs argcomplete: pip install 's4m_sb[completion]'."""

EXAMPLES = """\
examples:
  eval "$(s4m completion bash)"    # in ~/.bashrc
  eval "$(s4m completion zsh)"     # in ~/.zshrc, after compinit
  s4m completion fish | source     # in ~/.config/fish/config.fish
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``s4m completion``."""
    parser.add_argument(
        "shell", choices=("bash", "zsh", "fish"), help="your shell"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints the shell's code.

    Raises
    ------
    InputError
        If argcomplete is not installed, or standard output is closed.
    """
    if sys.stdout is None:
        raise InputError("stdout is closed; what the shell reads goes there")
    try:
        import argcomplete
    except ImportError as error:
        raise InputError(
            "completion needs argcomplete, which is not installed: "
            "pip install 's4m_sb[completion]'"
        ) from error
    print(argcomplete.shellcode(["s4m"], shell=arguments.shell))
