"""Checkpoints whose writing was cut short.

SpeechBrain writes a checkpoint file by file. A training that is killed
meanwhile leaves a folder that looks like its latest checkpoint and cannot be
loaded, so that it would not start again.
"""

import os
import zipfile
from pathlib import Path

from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)


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
        meta = path / "CKPT.yaml"
        if (
            not path.is_dir()
            or meta.is_file()
            and meta.stat().st_size > 0
            and zipfile.is_zipfile(path / last_file)
        ):
            continue
        renamed.append(path.rename(path.with_name(f"interrupted-{path.name}")))
        logger.warning(
            "%s: writing it was interrupted; going on from the one before", path
        )
    return renamed
