"""The files of a model that may come from anybody, and what is read of them.

A model's YAML holds a `Pretrainer`, and so names the files that its parameters
are read from and, if they are fetched, written to. `check_pretrainer` keeps
these in the model's own folder, or in its own place on the Hugging Face Hub.
"""

import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.parameter_transfer import Pretrainer

from s4m_sb.errors import InputError, first_line, one_line
from s4m_sb.pretrained.safe_yaml import HOW_TO_TRUST
from s4m_sb.system.files import is_inside

# What the file of a module's parameters may hold, in bytes: other types of
# numbers, and what else was saved with them.
MOST_TIMES = 4
MOST_MORE = 2**20


def load_parameters(module: torch.nn.Module, path: str | os.PathLike) -> dict:
    """Loads a checkpoint into a module.

    Every parameter must be there and fit: what SpeechBrain's loader does not
    find, it leaves at random.

    Arguments
    ---------
    module : torch.nn.Module
        Gets the parameters.
    path : str or os.PathLike
        A state dict that ``torch.save`` has written.

    Returns
    -------
    dict
        The state dict, on the CPU.

    Raises
    ------
    InputError
        If the file is missing, is no checkpoint, is damaged or far larger
        than the module needs, does not fit, or holds NaN or infinite numbers.

    Example
    -------
    >>> path = getfixture("tmp_path") / "linear.ckpt"
    >>> torch.save(torch.nn.Linear(3, 2).state_dict(), path)
    >>> list(load_parameters(torch.nn.Linear(3, 2), path))
    ['weight', 'bias']
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such checkpoint")
    check_archive(path, _num_bytes(module))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise InputError(
            f"{path}: is no PyTorch checkpoint ({first_line(error)})"
        ) from error
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = one_line(error)
        raise InputError(f"{path}: does not fit: {reason}") from error
    for name, value in module.named_parameters():
        if not value.isfinite().all():
            raise InputError(f"{path}: {name} holds NaN or infinite numbers")
    return state


def _num_bytes(module: torch.nn.Module) -> int:
    state = module.state_dict().values()
    return sum(x.nbytes for x in state if isinstance(x, torch.Tensor))


def check_archive(
    path: str | os.PathLike, num_bytes: int | None = None
) -> None:
    """Refuses what PyTorch would unpack without a look at it.

    Arguments
    ---------
    path : str or os.PathLike
        What ``torch.save`` has written; of a file of another form PyTorch
        itself says what is wrong with it.
    num_bytes : int, optional
        What is to come out; far more than that is refused.

    Raises
    ------
    InputError
        If it is damaged: its checksums are not those of what it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
            if num_bytes is not None:
                if size > MOST_TIMES * num_bytes + MOST_MORE:
                    raise InputError(
                        f"{path}: unpacks to {size} bytes, where its network "
                        f"needs {num_bytes}"
                    )
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return  # of another form, or none: PyTorch says which
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is damaged ({error})") from error
    if damaged is not None:
        raise InputError(f"{path}: is damaged, in {damaged}")


def load_collected(
    pretrainer: Pretrainer, source: str, **fetch_options: Any
) -> None:
    """Finds, or fetches, a model's parameters and loads them.

    Networks are loaded by `load_parameters`, unless the YAML has a hook of its
    own for one, which only trusted YAMLs may have. So nothing that a file of
    parameters holds is run.

    Arguments
    ---------
    pretrainer : Pretrainer
        From the YAML. Its ``collect_in`` is where files are fetched to.
    source : str
        Where the files are that the YAML does not place elsewhere.
    **fetch_options : dict
        Of SpeechBrain's ``collect_files``.

    Raises
    ------
    InputError
        If a file cannot be fetched, is missing, broken, or does not fit.
    """
    pretrainer.add_custom_hooks(
        {
            name: load_parameters
            for name, loadable in pretrainer.loadables.items()
            if isinstance(loadable, torch.nn.Module)
            and name not in pretrainer.custom_hooks
        }
    )
    try:
        pretrainer.collect_files(default_source=source, **fetch_options)
    except Exception as error:  # whatever the network and the Hub may raise
        raise InputError(
            f"{source}: its parameters cannot be fetched ({first_line(error)})"
        ) from error
    pretrainer.load_collected()


def stay_in(pretrainer: Pretrainer, folder: Path, trusted: bool) -> None:
    """Lets a model on this machine find its parameters here alone.

    Arguments
    ---------
    pretrainer : Pretrainer
        From the YAML. SpeechBrain would take a path of two names that is not
        here for a repository on the Hugging Face Hub.
    folder : Path
        The model's folder.
    trusted : bool
        Leave alone what the YAML itself places elsewhere.

    Raises
    ------
    InputError
        If one of the files is not there.
    """
    for name in filter(pretrainer.is_loadable, pretrainer.loadables):
        path = folder / f"{name}.ckpt"
        if name in pretrainer.paths:
            if trusted:
                continue
            path = Path(*Pretrainer.split_path(pretrainer.paths[name]))
        if not path.is_file():
            raise InputError(f"{path}: no such checkpoint")
        pretrainer.paths[name] = os.path.abspath(path)


def check_pretrainer(pretrainer: Any, source: str | Path) -> None:
    """Refuses a pretrainer that does more than load a model's own files.

    Arguments
    ---------
    pretrainer : object
        What the YAML calls so.
    source : str or Path
        Where the model is: its folder as a path, else a web address or
        ``owner/repository``.

    Raises
    ------
    InputError
        If it is no plain ``Pretrainer`` of networks, has hooks or conditions,
        names a file that is not the model's own, or a name has the form of a
        path.
    """
    if type(pretrainer) is not Pretrainer:
        raise InputError("pretrainer: is no SpeechBrain Pretrainer")
    for key in ("custom_hooks", "conditions"):
        if getattr(pretrainer, key):
            raise InputError(
                f"pretrainer: {key} are refused, since they may run code; "
                f"{HOW_TO_TRUST}"
            )
    for name, loadable in pretrainer.loadables.items():
        if not isinstance(loadable, torch.nn.Module):
            raise InputError(f"pretrainer: '{name}' is no network")
        # The name becomes that of a file, to which is also written.
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
            raise InputError(
                f"pretrainer: the name {name!r} is refused, since it may be a "
                f"path; {HOW_TO_TRUST}"
            )
    for name in pretrainer.loadables:
        if name in pretrainer.paths:
            _check_path(pretrainer.paths[name], source)
        elif isinstance(source, Path):
            check_inside(source / f"{name}.ckpt", source)


def not_loaded(
    pretrainer: Pretrainer, modules: dict[str, torch.nn.Module]
) -> list[str]:
    """The parts of a model that would keep random parameters.

    Arguments
    ---------
    pretrainer : Pretrainer
        From the YAML.
    modules : dict
        The networks of the model.

    Returns
    -------
    list of str
        Names of those of which the pretrainer does not load all parameters.

    Example
    -------
    >>> linear, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    >>> pretrainer = Pretrainer(loadables={"a": linear})
    >>> not_loaded(pretrainer, {"b": linear, "c": other})
    ['c']
    """
    loaded = {
        id(parameter)
        for loadable in pretrainer.loadables.values()
        if isinstance(loadable, torch.nn.Module)
        for parameter in loadable.parameters()
    }
    return [
        name
        for name, module in modules.items()
        if not loaded.issuperset(map(id, module.parameters()))
    ]


def check_inside(path: Path, folder: Path) -> None:
    """Refuses a file outside a model's folder.

    Arguments
    ---------
    path : Path
        The file. It need not exist.
    folder : Path
        The model's folder.

    Raises
    ------
    InputError
        If it is elsewhere, see `is_inside`.
    """
    if not is_inside(path, folder):
        raise InputError(
            f"{path}: is refused, since it lies outside the model's folder; "
            f"{HOW_TO_TRUST}"
        )


def _check_path(path: Any, source: str | Path) -> None:
    """What ``paths`` of a pretrainer names must be the model's."""
    if isinstance(path, str):
        # As the pretrainer does it: relative to where Python was started.
        where, name = Pretrainer.split_path(path)
        if isinstance(source, Path):
            return check_inside(Path(where, name), source)
        if where == source.rstrip("/") and name not in ("", ".", ".."):
            return None
    raise InputError(
        f"pretrainer: the path {path!r} is refused, since it is not one of "
        f"this model's files; {HOW_TO_TRUST}"
    )
