"""Reading a YAML, with errors that say what is wrong in one line."""

import os
from typing import Any

from hyperpyyaml import load_hyperpyyaml

from s4m_sb.errors import InputError, one_line
from s4m_sb.pretrained.references import (
    MOST_CHARACTERS,
    TOO_DEEP,
    check_form,
    compose,
)
from s4m_sb.pretrained.safe_yaml import load_checked


def load_hparams(
    path: str | os.PathLike,
    overrides: str | dict[str, Any] = "",
    overrides_must_match: bool = True,
    trusted: bool = True,
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
    trusted : bool
        Run whatever the file names, as is meant for the recipes of one's own;
        otherwise see `safe_yaml.py`.

    Returns
    -------
    dict
        Its keys with their values.

    Raises
    ------
    InputError
        If the file cannot be read, a placeholder is left in it, an override
        names a key that it does not have, an object cannot be built, or it is
        not trusted and names something else than a network.

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
            text = file.read(MOST_CHARACTERS + 1)
            if trusted:
                check_form(compose(text))
                file.seek(0)  # it knows the folder of what is included
                hparams = load_hyperpyyaml(
                    file, overrides, overrides_must_match
                )
            else:
                hparams = load_checked(text, overrides, overrides_must_match)
    except OSError as error:
        # Opening the file, or what the objects in it do when they are built.
        where = error.filename or path
        raise InputError(f"{where}: {error.strerror or error}") from error
    except Exception as error:  # of two YAML libraries and of what it builds
        raise InputError(f"{path}: {_reason(error)}") from error
    return hparams


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if not isinstance(error, (KeyError, TypeError)):
        return one_line(error)
    # Here HyperPyYAML lists every key, and PyTorch every signature.
    heads = [str(argument).split("\n")[0] for argument in error.args]
    return ": ".join(heads).split(" in: [")[0]
