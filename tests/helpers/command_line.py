"""``s4m`` in this process: its words in, its exit code out."""

from s4m_sb.commands.main import main


def run(*arguments):
    return main([str(argument) for argument in arguments])


def run_or_exit(*arguments):
    """Options that cannot be parsed end the process."""
    try:
        return run(*arguments)
    except SystemExit as error:
        return error.code
