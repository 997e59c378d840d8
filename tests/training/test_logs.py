"""What is written where, beside the numbers; see also test_brain.py."""

from types import SimpleNamespace

from speechbrain.utils.train_logger import FileTrainLogger

from s4m_sb.training.keys import DEFAULTS
from s4m_sb.training.logs import Logs


def hparams(folder, **keys):
    train_logger = FileTrainLogger(str(folder / "log.txt"))
    keys = {**DEFAULTS, "output_folder": str(folder), **keys}
    return SimpleNamespace(train_logger=train_logger, **keys)


def test_the_task_stands_beside_the_numbers(tmp_path):
    logs = Logs(hparams(tmp_path, mixture="mix_both", target="reverb"))
    logs.write({"epoch": 1}, valid_stats={"loss": 2.0})
    assert (tmp_path / "log.txt").read_text() == (
        "epoch: 1, mixture: mix_both, target: reverb - valid loss: 2.00\n"
    )
