"""Folders that are filled by several runs, all of them with equal settings."""

import json
import os
from pathlib import Path

from s4m_sb.errors import InputError
from s4m_sb.system.files import replacing

SETTINGS = "settings.json"


def claim_folder(folder: Path, settings: dict) -> None:
    """Makes a folder that says what it is made with, or checks one.

    Arguments
    ---------
    folder : Path
        New, empty, or made with the same settings.
    settings : dict
        What JSON can hold, by name: no tuples. Goes to ``settings.json``.

    Raises
    ------
    InputError
        If the folder was made with other settings, holds something else, or
        cannot be written.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "rooms"
    >>> claim_folder(folder, {"seed": 1})
    >>> claim_folder(folder, {"seed": 1})
    >>> claim_folder(folder, {"seed": 2})
    Traceback (most recent call last):
    s4m_sb.errors.InputError: .../rooms: was made with seed 1, now it is 2; ...
    """
    path = folder / SETTINGS
    try:
        # Settings last: another process may be claiming the folder just now.
        used = folder.exists() and any(
            not found.name.startswith(".") for found in folder.iterdir()
        )
        if path.exists():
            _check(folder, path, settings)
        elif used:
            raise InputError(
                f"{folder}: holds other files and no {SETTINGS}; give another "
                "folder"
            )
        else:
            try:
                _write(path, settings)
            except FileExistsError:  # another process was faster
                _check(folder, path, settings)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be used ({error.strerror})"
        ) from error


def _write(path: Path, settings: dict) -> None:
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(settings, indent=2) + "\n", encoding="utf-8"
        )
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a disk without links: there the last one wins
            pass


def _check(folder: Path, path: Path, settings: dict) -> None:
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        there = None
    if not isinstance(there, dict):
        raise InputError(f"{path}: is not a JSON object; remove the folder")
    for key in [*settings, *there]:
        if there.get(key) != settings.get(key):
            raise InputError(
                f"{folder}: was made with {key} {there.get(key)}, now it is "
                f"{settings.get(key)}; give another folder, or remove this "
                "one first"
            )
