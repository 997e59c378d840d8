"""Where a training writes its numbers: a text file, TensorBoard if asked to.

Above this file: `brain.py`. Below it: `summary.py`.
"""

import os
from typing import Any

from speechbrain.utils.train_logger import FileTrainLogger

from s4m_sb.errors import InputError
from s4m_sb.training.summary import task


class Logs:
    """All loggers of a training as one.

    Arguments
    ---------
    hparams : Namespace
        The keys of ``keys.py``.

    Raises
    ------
    InputError
        If TensorBoard is asked for and not installed.
    """

    def __init__(self, hparams: Any):
        self._task = task(hparams)
        self._loggers = [hparams.train_logger]
        if hparams.use_tensorboard:
            folder = os.path.join(hparams.output_folder, "tensorboard")
            self._loggers.append(_tensorboard(folder))

    def write(self, about: dict[str, Any], **stats: Any) -> None:
        """Writes what a stage gave; to be called on every rank.

        Each logger itself writes on the first one alone, and then waits for
        the others.

        Arguments
        ---------
        about : dict
            The epoch, say.
        **stats : dict
            ``train_stats``, ``valid_stats`` or ``test_stats``.
        """
        for logger in self._loggers:
            meta = about
            if isinstance(logger, FileTrainLogger):  # others plot numbers
                meta = {**about, **self._task}
            logger.log_stats(stats_meta=meta, **stats)


def _tensorboard(folder: str) -> Any:
    from speechbrain.utils.train_logger import TensorboardLogger

    try:
        return TensorboardLogger(folder)
    except ImportError as error:
        raise InputError(
            "use_tensorboard: needs the package tensorboard; install it "
            "or leave the key out"
        ) from error
