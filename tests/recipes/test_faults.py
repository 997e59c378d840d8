"""Faults of a whole training: its disk, its signals, its options, its data."""

import json
import os
import resource
import shutil
import signal
import time

import pytest
from recipe_runs import (
    TINY,
    WSJ0MIX,
    as_options,
    finish,
    load_script,
    run_s4m,
    start,
)

from s4m_sb.errors import InputError

YAML = "s4m-tiny.yaml"
OPTIONS = {
    **TINY,
    "N_epochs": "1",
    "use_speedperturb": "False",
    "n_audio_to_save": "0",
}


@pytest.fixture(scope="module")
def data_folder(speech_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtures")
    run_s4m(
        *("mix", speech_folder, folder, "--length", 0.3),
        *("--count", 4, 2, 2, "--jobs", 1),
    )
    return folder


@pytest.fixture(scope="module")
def finished(data_folder, tmp_path_factory):
    """The folder of a training of one epoch. Read-only for tests."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    options = {**OPTIONS, "data_folder": str(data_folder)}
    finish(start(WSJ0MIX, YAML, folder, **options))
    return folder


def fails(process, code=2):
    """Waits for a process that must end in one line of its own."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    assert "Traceback" not in output
    *_, line = output.strip().splitlines()
    assert line.startswith("train.py: ")
    return line


def test_a_full_disk_is_said_and_leaves_no_half_checkpoint(
    data_folder, tmp_path
):
    """No file of more than 100 kB: the optimizer's does not go in."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    options = {**OPTIONS, "d_hidden": "256", "data_folder": str(data_folder)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:  # the child has it from this process
        process = start(WSJ0MIX, YAML, tmp_path / "run", **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    line = fails(process)
    assert line == (
        f"train.py: error: {tmp_path}/run/save: a checkpoint cannot be "
        "written (File too large); those before it are whole"
    )
    left = sorted(p.name for p in (tmp_path / "run/save").iterdir())
    assert left == ["wsj_cv.csv", "wsj_tr.csv", "wsj_tt.csv"]


def test_a_log_on_a_full_disk_is_named(data_folder, tmp_path):
    options = {**OPTIONS, "data_folder": str(data_folder)}
    line = fails(
        start(WSJ0MIX, YAML, tmp_path, train_log="/dev/full", **options)
    )
    assert line.endswith("No space left on device")


@pytest.mark.parametrize(
    "number, code, last, num_workers",
    [
        (signal.SIGINT, 130, "train.py: interrupted", 1),
        (signal.SIGTERM, 143, None, 0),
    ],
)
def test_signals_end_it_without_a_traceback(
    data_folder, tmp_path, number, code, last, num_workers
):
    options = {**OPTIONS, "data_folder": str(data_folder), "N_epochs": "9999"}
    options["dataloader_opts"] = (
        f"{{batch_size: 2, num_workers: {num_workers}}}"
    )
    process = start(WSJ0MIX, YAML, tmp_path / "run", **options)
    log = tmp_path / "run/train_log.txt"
    while not log.exists() and process.poll() is None:
        time.sleep(0.05)
    if number == signal.SIGINT:  # a terminal sends it to the workers, too
        for child in _children(process.pid):
            os.kill(child, number)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "Traceback" not in output
    if last is not None:
        assert output.strip().splitlines()[-1] == last


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


@pytest.mark.parametrize(
    "flags, options, message",
    [
        (["--device", "abacus"], {}, "--device abacus: no such kind"),
        (["--device", "cuda:99"], {}, "--device cuda:99: "),
        ([], {"save_audio": "no"}, "save_audio is 'no'; give True or False"),
        ([], {"lr": "fast"}, "optimizer: "),
        # What SpeechBrain's parser takes for --optimizer_step_limit.
        ([], {"optimizer": "fast"}, "optimizer is 'fast'; give a function"),
        ([], {"data_folder": "/a=b"}, "data_folder /a=b: holds neither"),
        ([], {"loss": "null"}, "s4m-tiny.yaml: has no key loss"),
        ([], {"valid_data": "null"}, "s4m-tiny.yaml: has no key valid_data"),
        (["--max_grad_norm", "1"], {}, "--max_grad_norm does nothing where"),
        (["--precision", "fp16"], {}, "--precision fp16: there is none on a"),
        (
            ["--ckpt_interval_steps", "2"],
            {"ckpt_interval_minutes": "5"},
            "The options `ckpt_interval_minutes` and `ckpt_interval_steps`",
        ),
    ],
)
def test_options_that_cannot_be_used_are_one_line(
    data_folder, tmp_path, monkeypatch, flags, options, message
):
    script = load_script(WSJ0MIX)
    monkeypatch.chdir(WSJ0MIX)
    options = {"data_folder": str(data_folder), **OPTIONS, **options}
    options["output_folder"] = str(tmp_path / "run")
    device = [] if "--device" in flags else ["--device", "cpu"]
    with pytest.raises((InputError, SystemExit)) as ended:
        script.main([f"hparams/{YAML}", *as_options(options), *flags, *device])
    assert message in str(ended.value)


def test_a_training_without_its_yaml_says_what_to_do(
    finished, data_folder, tmp_path
):
    folder = shutil.copytree(finished, tmp_path / "run")
    options = {**OPTIONS, "data_folder": str(data_folder), "N_epochs": "2"}
    (folder / "hyperparams.yaml").write_text("")
    line = fails(start(WSJ0MIX, YAML, folder, **options))
    assert f"{folder}/hyperparams.yaml: has no keys; it says what" in line
    assert "remove it and start again" in line
    (folder / "hyperparams.yaml").unlink()
    finish(start(WSJ0MIX, YAML, folder, **options))
    assert len((folder / "train_log.txt").read_text().splitlines()) == 4


def test_what_the_summary_says_is_what_was_done(
    finished, data_folder, tmp_path
):
    folder = shutil.copytree(finished, tmp_path / "run")
    options = {**OPTIONS, "data_folder": str(data_folder), "N_epochs": "2"}
    printed = finish(start(WSJ0MIX, YAML, folder, lr="0.5", **options))
    changes = "N_epochs: 2 (was 1), lr: 0.5 (was 0.001)"
    assert f"{folder}: goes on with {changes}" in printed
    assert "epoch: 2, lr: 5.00e-01" in (folder / "train_log.txt").read_text()
    hyperparams = (folder / "hyperparams.yaml").read_text()
    assert "\nlr: 0.5\n" in hyperparams
    line = fails(start(WSJ0MIX, YAML, folder, seed="7", **options))
    assert "another training (seed: 1234, now seed: 7)" in line
    # What is only tested is not told anew.
    finish(start(WSJ0MIX, YAML, folder, "--test_only", lr="9", **options))
    assert (folder / "hyperparams.yaml").read_text() == hyperparams
    assert json.loads((folder / "summary.json").read_text())["seed"] == 1234
