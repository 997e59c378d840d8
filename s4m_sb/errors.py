"""The one exception for input that cannot be used.

The command line and the recipes turn it into one line and a non-zero exit
code; in Python it is a ``ValueError`` like any other.
"""


class InputError(ValueError):
    """What the caller gave cannot be used.

    The message names the file, key or value and says what would be right.
    """


def one_line(error: Exception) -> str:
    """The message of an error, to be shown without its traceback.

    Arguments
    ---------
    error : Exception
        If it was raised in a worker process of a `DataLoader`, its message
        holds the worker's traceback; the last line of that counts. One of the
        system, such as a full disk, names its file and says what is wrong.

    Returns
    -------
    str
        One line.

    Example
    -------
    >>> one_line(InputError("a.wav:\\nis empty"))
    'a.wav: is empty'
    >>> one_line(OSError(28, "No space left on device", "voices/a.wav"))
    'voices/a.wav: No space left on device'
    """
    message = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        file = error.filename2 or error.filename  # the one that is written
        message = f"{file}: {error.strerror}" if file else error.strerror
    if message.startswith("Caught ") and "Traceback" in message:
        message = message.rsplit(f"{type(error).__name__}: ", 1)[-1]
    # ruamel.yaml goes on with how to have its YAML taken all the same.
    message = message.partition("To suppress this check")[0]
    return " ".join(message.split())


def first_line(error: Exception) -> str:
    """The head of an error of a library that goes on for many lines.

    Arguments
    ---------
    error : Exception
        Where it says nothing, its type counts.

    Returns
    -------
    str
        One line.

    Example
    -------
    >>> first_line(OSError("no answer\\nMax retries exceeded ..."))
    'no answer'
    >>> first_line(TimeoutError())
    'TimeoutError'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]
