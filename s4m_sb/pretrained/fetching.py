"""Where files are: on this machine, on the web, on the Hugging Face Hub.

Above this file: `model.py`. Below it: SpeechBrain, which fetches.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechbrain.utils.data_utils import split_path
from speechbrain.utils.fetching import FetchConfig, fetch

from s4m_sb.errors import InputError, first_line
from s4m_sb.pretrained.shipped import (
    DEFAULT_MODEL,
    SHIPPED_MODELS,
    shipped_names,
)

WEB = ("http:", "https:")


def model_folder(source: str | os.PathLike = DEFAULT_MODEL) -> Path | None:
    """The folder of a model that is on this machine.

    Arguments
    ---------
    source : str or os.PathLike
        The name of a model that ships with the package, else a folder. A
        path object is never taken for such a name.

    Returns
    -------
    Path or None
        None for what is to be fetched: a web address or ``owner/repository``
        on the Hugging Face Hub.

    Raises
    ------
    InputError
        If it is none of these.

    Example
    -------
    >>> model_folder("speechbrain/sepformer-wsj02mix") is None
    True
    """
    shipped = shipped_names(SHIPPED_MODELS)
    if source in shipped:
        return SHIPPED_MODELS / source
    folder = Path(source).expanduser()
    name = str(source)
    if name and folder.is_dir():  # no name at all would be the folder here
        return folder
    if name.startswith(WEB):
        return None
    owner, *rest = name.split("/")
    if owner not in ("", ".", "..", "~") and len(rest) == 1 and rest[0]:
        return None
    raise InputError(
        f"{name or repr(name)}: is neither a model folder nor a model of the "
        f"package (which has: {', '.join(shipped) or 'none'})"
    )


@contextlib.contextmanager
def place_for(
    source: str, savedir: str | os.PathLike | None
) -> Iterator[str | os.PathLike | None]:
    """Where a model's fetched files are put.

    Arguments
    ---------
    source : str
        Where the model is.
    savedir : str or os.PathLike or None
        Where they are to be kept, if they are.

    Yields
    ------
    str or os.PathLike or None
        None for the Hub's own cache. SpeechBrain needs a folder for what
        comes from a web address; it is removed in the end.
    """
    if savedir is not None or not source.startswith(WEB):
        yield savedir
        return
    with tempfile.TemporaryDirectory() as temporary:
        try:
            yield temporary
        except InputError as error:  # nobody would find that folder
            message = str(error).replace(temporary, source.rstrip("/"))
            raise InputError(message) from error


def fetch_yaml(
    source: str,
    name: str,
    place: str | os.PathLike | None,
    fetch_options: dict[str, Any],
) -> Path:
    """Fetches a model's YAML, or finds it in its folder.

    Arguments
    ---------
    source : str
        A folder, a web address or a repository.
    name : str
        The file in it.
    place : str or os.PathLike or None
        What `place_for` gives.
    fetch_options : dict
        Of SpeechBrain's ``fetch``.

    Returns
    -------
    Path
        The file on this machine.

    Raises
    ------
    InputError
        If there is none, or it cannot be fetched.
    """
    missing = f"{source}: no such folder"
    path = _fetch(missing, name, source, place, **fetch_options)
    if not path.is_file():
        raise InputError(f"{path}: no such file; is this a model folder?")
    return path


@contextlib.contextmanager
def fetched_audio(
    path: str | os.PathLike, savedir: str | os.PathLike | None
) -> Iterator[str | os.PathLike]:
    """Fetches a recording, if it is not on this machine.

    Arguments
    ---------
    path : str or os.PathLike
        A file here, a web address, or ``owner/repository/file.wav``.
    savedir : str or os.PathLike or None
        Where to put what was fetched; by default it is removed in the end. A
        file of the same name is replaced.

    Yields
    ------
    str or os.PathLike
        The file on this machine.

    Raises
    ------
    InputError
        If it cannot be fetched.
    """
    name = str(path)
    is_hub = not os.path.isabs(name) and name.count("/") >= 2
    if os.path.exists(path) or not (name.startswith(WEB) or is_hub):
        yield path
        return
    source, file_name = split_path(name)
    with tempfile.TemporaryDirectory() as temporary:
        yield _fetch(
            f"{path}: no such file",
            file_name,
            source,
            savedir or temporary,
            fetch_config=FetchConfig(overwrite=True),
        )


def _fetch(
    missing: str,
    name: str,
    source: str,
    place: str | os.PathLike | None,
    **options: Any,
) -> Path:
    try:
        return fetch(name, source=source, savedir=place, **options)
    except Exception as error:  # whatever the network and the Hub may raise
        raise InputError(
            f"{missing}, and it cannot be fetched ({first_line(error)})"
        ) from error
