"""The one exception for input that cannot be used.

The command line and the recipes turn it into one line and a non-zero exit
code; in Python it is a ``ValueError`` like any other.
"""


class InputError(ValueError):
    """What the caller gave cannot be used.

    The message names the file, key or value and says what would be right.
    """
