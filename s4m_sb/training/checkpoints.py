"""Checkpoints that a training can go on from, and those that it cannot.

SpeechBrain writes a checkpoint file by file. A training that is killed
meanwhile leaves a folder that looks like its latest checkpoint and cannot be
loaded, so that it would not start again. And it loads whatever lies in the
output folder, also the checkpoints of another network.

Its loaders leave to PyTorch how a file is read: since 2.6 without running what
it holds, unless ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` is set. The YAML that a
training was started with is run, being the user's own.
"""

import itertools
import os
import zipfile
from pathlib import Path

from hyperpyyaml import resolve_references
from speechbrain.utils.logger import get_logger

from s4m_sb.errors import InputError
from s4m_sb.pretrained.model_yaml import model_yaml

logger = get_logger(__name__)

# What is separated from what; the same in all runs of a training.
DATA_KEYS = ("dataset", "mixture", "target", "dynamic_mixing", "base_folder_dm")


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


def check_same_run(
    output_folder: str | os.PathLike,
    hparams_file: str | os.PathLike,
    overrides: str,
) -> None:
    """Refuses to go on with another network than the checkpoints are of.

    Arguments
    ---------
    output_folder : str or os.PathLike
        Of the training: ``hyperparams.yaml`` and ``save/CKPT*`` of an earlier
        one may be there.
    hparams_file : str or os.PathLike
        The YAML of this training.
    overrides : str
        What replaces values in it.

    Raises
    ------
    InputError
        If ``output_folder`` holds checkpoints of another training.
    """
    before = Path(output_folder) / "hyperparams.yaml"
    if not before.is_file() or not any(before.parent.glob("save/CKPT*")):
        return
    old = _facts(before, "")
    new = _facts(hparams_file, overrides)
    for was, wanted in itertools.zip_longest(old, new, fillvalue="nothing"):
        if was != wanted:
            raise InputError(
                f"{output_folder}: holds checkpoints of another training "
                f"({was}, now {wanted}); give another --experiment_name or "
                "--output_folder"
            )


def _facts(path: str | os.PathLike, overrides: str) -> list[str]:
    """What two runs of one training have in common, line by line."""
    with open(path, encoding="utf-8") as file:
        text = resolve_references(file, overrides).getvalue()
    lines = [line.strip() for line in model_yaml(text, path).splitlines()]
    lines += [
        line.split(" #")[0].rstrip()
        for line in text.splitlines()
        if line.startswith(tuple(f"{key}:" for key in DATA_KEYS))
    ]
    # Repeats may be checkpointed in one run and not in the next.
    return [line for line in lines if "checkpoint_repeats" not in line]
