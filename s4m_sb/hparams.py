"""Reading a recipe's YAML, with errors that say what is wrong in one line."""

import os
from typing import Any

from hyperpyyaml import load_hyperpyyaml

from s4m_sb.errors import InputError, one_line


def load_hparams(
    path: str | os.PathLike,
    overrides: str | dict[str, Any] = "",
    overrides_must_match: bool = True,
) -> dict[str, Any]:
    """Loads a HyperPyYAML file and builds what it describes.

    Arguments
    ---------
    path : str or os.PathLike
        The file.
    overrides : str or dict
        Values that replace those of the file.
    overrides_must_match : bool
        Refuse overrides of keys that the file does not have.

    Returns
    -------
    dict
        Its keys with their values.

    Raises
    ------
    InputError
        If the file cannot be read, a placeholder is left in it, an override
        names a key that it does not have, or an object cannot be built.

    Example
    -------
    >>> path = getfixture("tmp_path") / "recipe.yaml"
    >>> _ = path.write_text("lr: 0.001\\nrates: [!ref <lr>]")
    >>> load_hparams(path, {"lr": 0.1})
    {'lr': 0.1, 'rates': [0.1]}
    >>> load_hparams(path, {"learning_rate": 0.1})
    Traceback (most recent call last):
    s4m_sb.errors.InputError: ...: Override 'learning_rate' not found
    """
    try:
        with open(path, encoding="utf-8") as file:
            hparams = load_hyperpyyaml(file, overrides, overrides_must_match)
    except OSError as error:
        # Opening the file, or what the objects in it do when they are built.
        where = error.filename or path
        raise InputError(f"{where}: {error.strerror or error}") from error
    except Exception as error:  # of two YAML libraries and of what it builds
        raise InputError(f"{path}: {_reason(error)}") from error
    if not isinstance(hparams, dict):
        raise InputError(f"{path}: has no keys")
    return hparams


def _reason(error: Exception) -> str:
    if not isinstance(error, (KeyError, TypeError)):
        return one_line(error)
    # Here HyperPyYAML lists every key, and PyTorch every signature.
    heads = [str(argument).split("\n")[0] for argument in error.args]
    return ": ".join(heads).split(" in: [")[0]
