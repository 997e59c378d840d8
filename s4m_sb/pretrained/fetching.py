"""Where files are: on this machine, on the web, on the Hugging Face Hub.

Above this file: `model.py`. Below it: SpeechBrain, which fetches.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

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
def fetched_yaml(
    source: str,
    name: str,
    savedir: str | os.PathLike | None,
    fetch_options: dict[str, Any],
) -> Iterator[tuple[Path, str | os.PathLike | None]]:
    """Fetches a model's YAML, or finds it in its folder.

    Arguments
    ---------
    source : str
        A folder, a web address or a repository.
    name : str
        The file in it.
    savedir : str or os.PathLike or None
        Where what is fetched is to be kept, if it is.
    fetch_options : dict
        Of SpeechBrain's ``fetch``.

    Yields
    ------
    Path
        The YAML.
    str or os.PathLike or None
        Where the model's other files are to be put; None for the Hub's own
        cache. For a web address, of which SpeechBrain keeps nothing, it is a
        folder that is removed in the end.

    Raises
    ------
    InputError
        If there is none, or it cannot be fetched.
    """
    place, temporary = savedir, None
    if savedir is None and source.startswith(WEB):
        place = temporary = tempfile.mkdtemp()
    try:
        missing = f"{source}: no such folder"
        yaml = _fetch(missing, name, source, place, **fetch_options)
        if not yaml.is_file():
            raise InputError(f"{yaml}: no such file; is this a model folder?")
        yield yaml, place
    except InputError as error:
        if temporary is None:
            raise
        # nobody would find that folder
        message = str(error).replace(temporary, source.rstrip("/"))
        raise InputError(message) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary)


@contextlib.contextmanager
def fetched_audio(
    path: str | os.PathLike | BinaryIO, savedir: str | os.PathLike | None
) -> Iterator[str | os.PathLike]:
    """Fetches a recording, if it is not a file on this machine.

    Arguments
    ---------
    path : str or os.PathLike or BinaryIO
        A file here, a web address, or ``owner/repository/file.wav``; or an
        open file, read from where it stands.
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
        If it cannot be fetched, or is none of these.
    """
    if hasattr(path, "read"):
        with _spooled(path) as spooled:
            yield spooled
        return
    if not isinstance(path, str | os.PathLike):
        raise InputError(
            f"{type(path).__name__}: give the name of a file, or an open one; "
            "samples go to separate_batch"
        )
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


@contextlib.contextmanager
def _spooled(stream: Any) -> Iterator[Path]:
    """A file with what an open one still holds, in which one can seek."""
    name = os.path.basename(str(getattr(stream, "name", ""))) or "stream"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(stream, file)
        except TypeError as error:
            raise InputError(f"{name}: is text; open it as bytes") from error
        try:
            yield path
        except InputError as error:  # nobody would find that folder
            raise InputError(str(error).replace(str(path), name)) from error


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
