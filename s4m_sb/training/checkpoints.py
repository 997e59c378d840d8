"""Checkpoints: saved whole and finite, and loaded only if they are.

SpeechBrain writes a checkpoint file by file. A training that is killed
meanwhile leaves a folder that looks like its latest checkpoint and cannot be
loaded, so that it would not start again. What a disk has damaged it loads as
it is, and it saves whatever numbers there are.

Above this file: `brain.py`, `export.py`. Below it: `averaging.py`,
`pretrained/loading.py`.

Its loaders leave to PyTorch how a file is read: since 2.6 without running what
it holds, unless ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` is set. The YAML that a
training was started with is run, being the user's own.
"""

import math
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer
from speechbrain.utils.distributed import if_main_process, run_on_main
from speechbrain.utils.logger import get_logger

from s4m_sb.errors import InputError, first_line, one_line
from s4m_sb.pretrained.loading import check_archive
from s4m_sb.training.averaging import WeightAverage

logger = get_logger(__name__)

SCORE = "si-snr"  # SpeechBrain's key: the validation loss, lower is better
LAST_FILE = "optimizer.ckpt"  # of a checkpoint, in which it is added last
PROBE_BYTES = 2**24  # more than is left on a disk that was full


def is_whole(path: Path, last_file: str | None = None) -> bool:
    """Whether a checkpoint folder has been written to its end.

    Arguments
    ---------
    path : Path
        The folder.
    last_file : str, optional
        The file that is written last into it, by ``torch.save``; by default
        only the file that SpeechBrain cannot do without is looked at.

    Returns
    -------
    bool
        False if something is missing or cut short.
    """
    meta = path / "CKPT.yaml"
    if not meta.is_file() or meta.stat().st_size == 0:
        return False
    return last_file is None or zipfile.is_zipfile(path / last_file)


def set_aside_interrupted(
    folder: str | os.PathLike, last_file: str
) -> list[Path]:
    """Renames checkpoints that are not whole, so that none is loaded.

    Arguments
    ---------
    folder : str or os.PathLike
        Where the checkpoints are.
    last_file : str
        The file that is written last into each of them, by ``torch.save``.

    Returns
    -------
    list of Path
        What they are called now.
    """
    renamed = []
    for path in sorted(Path(folder).glob("CKPT*")):
        if not path.is_dir() or is_whole(path, last_file):
            continue
        renamed.append(path.rename(path.with_name(f"interrupted-{path.name}")))
        logger.warning(
            "%s: writing it was interrupted; going on from the one before", path
        )
    return renamed


def save_checkpoint(checkpointer: Checkpointer, **options: Any) -> None:
    """Saves a checkpoint whole, of finite numbers, or not at all.

    Arguments
    ---------
    checkpointer : Checkpointer
        Has what is to be saved.
    **options : dict
        Of its ``save_and_keep_only``.

    Raises
    ------
    InputError
        If a parameter or a number of the optimizer is not finite, or the
        checkpoint cannot be written, as on a full disk.
    """
    _check_finite(checkpointer.recoverables, "nothing is saved")
    folder = Path(checkpointer.checkpoints_dir)
    before = set(folder.glob("CKPT*"))
    try:
        checkpointer.save_and_keep_only(**options)
    except (OSError, RuntimeError) as error:  # PyTorch's own says no reason
        if not if_main_process():
            raise
        reason = _why_not_written(folder, error)
        for path in set(folder.glob("CKPT*")) - before:
            if not is_whole(path, LAST_FILE):
                shutil.rmtree(path, ignore_errors=True)
        raise InputError(
            f"{folder}: a checkpoint cannot be written ({reason}); those "
            "before it are whole"
        ) from error


def recover(
    checkpointer: Checkpointer,
    max_key: str | None = None,
    min_key: str | None = None,
) -> Checkpoint | None:
    """Loads a checkpoint, if there is one and nothing in it is damaged.

    Arguments
    ---------
    checkpointer : Checkpointer
        Has what is to be loaded.
    max_key, min_key : str, optional
        The score by which it is the best; by default the latest is taken.

    Returns
    -------
    Checkpoint or None
        What was loaded.

    Raises
    ------
    InputError
        If it is damaged, does not fit or holds NaN or infinite numbers.
    """
    folder = Path(checkpointer.checkpoints_dir)
    run_on_main(set_aside_interrupted, args=[folder, LAST_FILE])
    for path in folder.glob("CKPT*/CKPT.yaml"):
        check_meta(path)
    found = checkpointer.find_checkpoint(max_key=max_key, min_key=min_key)
    if found is None:
        return None
    advice = f"remove {found.path} to go on without it"
    try:
        for path in found.paramfiles.values():
            check_archive(path)
        checkpointer.load_checkpoint(found)
    except InputError as error:
        raise InputError(f"{error}; {advice}") from error
    except Exception as error:  # of whatever it holds
        raise InputError(
            f"{found.path}: cannot be loaded ({first_line(error)}); {advice}"
        ) from error
    _check_finite(checkpointer.recoverables, f"{found.path}: {advice}")
    return found


def check_meta(path: Path) -> None:
    """Refuses what SpeechBrain could not read, or compare with others.

    Arguments
    ---------
    path : Path
        ``CKPT.yaml`` of a checkpoint.

    Raises
    ------
    InputError
        If it has no keys, or its score is no finite number.
    """
    try:
        meta = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text") from error
    except OSError:
        raise
    except Exception as error:  # PyYAML's own, and what Python says
        raise InputError(f"{path}: {one_line(error)}") from error
    if not isinstance(meta, dict):
        raise InputError(f"{path}: has no keys")
    score = meta.get(SCORE, 0.0)
    if not isinstance(score, (int, float)) or not math.isfinite(score):
        raise InputError(f"{path}: {SCORE} is {score!r:.99}; it is no number")


def _check_finite(recoverables: dict[str, Any], consequence: str) -> None:
    for name, recoverable in recoverables.items():
        for part, numbers in _numbers(recoverable):
            if numbers.is_floating_point() and not numbers.isfinite().all():
                raise InputError(
                    f"{name}: {part} holds NaN or infinite numbers; "
                    f"{consequence}"
                )


def _numbers(recoverable: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """What is trained, and what an optimizer knows of it."""
    if isinstance(recoverable, torch.nn.Module):
        yield from recoverable.named_parameters()
    elif isinstance(recoverable, WeightAverage):
        yield from recoverable.trained.named_parameters()
    elif isinstance(recoverable, torch.optim.Optimizer):
        for number, state in enumerate(recoverable.state.values()):
            for name, value in state.items():
                if isinstance(value, torch.Tensor):
                    yield f"{name} of parameter {number}", value


def _why_not_written(folder: Path, error: Exception) -> str:
    """What the system says where PyTorch does not."""
    if isinstance(error, OSError):
        return error.strerror or one_line(error)
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
    except OSError as reason:
        return reason.strerror or one_line(reason)
    finally:
        probe.unlink(missing_ok=True)
    return first_line(error)
