"""The WSJ0Mix recipe from data to voices, as its users run it."""

import json
import re

import numpy as np
import pytest
import soundfile
import speechbrain
import torch
from data_sets import make_data_set
from hyperpyyaml import load_hyperpyyaml
from recipe_runs import (
    TINY,
    WSJ0MIX,
    as_options,
    finish,
    killed_and_resumed,
    load_script,
    read_results,
    run_s4m,
    start,
    train,
    train_losses,
    updates_in,
)
from speechbrain.utils.checkpoints import Checkpointer

from s4m_sb.commands.main import main
from s4m_sb.errors import InputError, one_line
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.levels import bring_to_level
from s4m_sb.metrics import ITEM_METRICS, pit_si_snr
from s4m_sb.network.separate import separate
from s4m_sb.training.export import export_model

# ------------------------------------- plain mixing, killed on the way, export


@pytest.fixture(scope="module")
def data_folder(speech_folder, tmp_path_factory):
    """16 mixtures of half a second, and 3 each for valid and test."""
    folder = tmp_path_factory.mktemp("mixtures")
    run_s4m(
        *("mix", speech_folder, folder, "--length", 0.5),
        *("--count", 16, 3, 3, "--jobs", 1),
    )
    return folder


NUM_EPOCHS = 4
STEPS = 8  # in an epoch


@pytest.fixture(scope="module")
def killed_run(data_folder, tmp_path_factory):
    """A training, killed within its second epoch or later and started again.

    The folder, the epoch and the step of the checkpoint it went on from, and
    what was printed after the new start.
    """
    folder = tmp_path_factory.mktemp("runs") / "plain"
    options = {
        **TINY,
        "data_folder": str(data_folder),
        "N_epochs": str(NUM_EPOCHS),
        "ckpt_interval_steps": "2",
        "lr": "0.005",
        "use_speedperturb": "False",
        "n_audio_to_save": "1",
    }
    epoch, step, printed = killed_and_resumed(
        WSJ0MIX, "s4m-tiny.yaml", folder, STEPS, **options
    )
    return folder, epoch, step, printed


def test_a_killed_training_goes_on_in_its_epoch(killed_run):
    folder, epoch, step, printed = killed_run
    assert 0 < step <= STEPS
    begun = [int(x) for x in re.findall(r"Going into epoch (\d+)", printed)]
    assert begun == list(range(epoch, NUM_EPOCHS + 1))
    # No update was made twice or left out, but for those behind the
    # checkpoint, which are made again.
    assert updates_in(folder) == NUM_EPOCHS * STEPS
    log = (folder / "train_log.txt").read_text()
    assert [int(x) for x in re.findall(r"^epoch: (\d+)", log, re.M)] == list(
        range(1, NUM_EPOCHS + 1)
    )


def test_the_loss_falls(killed_run):
    losses = train_losses(killed_run[0])
    assert losses[-1] < losses[0] - 10  # dB; the mixtures are seen 4 times


def test_results_of_a_training(killed_run, data_folder):
    folder = killed_run[0]
    rows = read_results(folder)
    test_folder = data_folder / "wav8k/min/tt/mix"
    names = sorted(path.stem for path in test_folder.glob("*.wav"))
    assert [row["snt_id"] for row in rows] == [*names, "avg"]
    columns = ["sdr", "sdr_i", "si-snr", "si-snr_i"]
    assert list(rows[0]) == ["snt_id", *columns, *ITEM_METRICS, "overlap"]
    for column in columns:
        mean = np.mean([float(row[column]) for row in rows[:-1]])
        # four decimals are written
        assert float(rows[-1][column]) == pytest.approx(mean, abs=1e-4)
    summary = json.loads((folder / "summary.json").read_text())
    for column in columns:
        assert summary[column] == pytest.approx(
            float(rows[-1][column]),
            abs=1e-4,  # four decimals
        )
    assert summary["num_items"] == 3
    assert summary["num_spks"] == 2
    assert summary["sample_rate"] == 8000
    audio = sorted(p.name for p in (folder / "save/audio_results").iterdir())
    assert audio == [
        f"item{names[0]}_{kind}.wav"
        for kind in ("mix", "source1", "source1hat", "source2", "source2hat")
    ]
    for name in ("hyperparams.yaml", "train_log.txt", "log.txt", "env.log"):
        assert (folder / name).is_file()


def test_the_exported_model_separates_like_the_trained_one(
    killed_run, data_folder, tmp_path
):
    folder = killed_run[0]
    run_s4m("export", folder, tmp_path / "model")
    mixture_file = sorted((data_folder / "wav8k/min/tt/mix").iterdir())[0]
    run_s4m(
        *("separate", mixture_file, "--output", tmp_path / "voices"),
        *("--model", tmp_path / "model", "--normalize", "none"),
    )
    mixture = torch.from_numpy(soundfile.read(mixture_file, dtype="float32")[0])
    voices = torch.stack(
        [
            torch.from_numpy(soundfile.read(path, dtype="float32")[0])
            for path in sorted((tmp_path / "voices").glob("*_s?.wav"))
        ],
        dim=1,
    )  # [T, S]

    hparams = load_hyperpyyaml((folder / "hyperparams.yaml").read_text())
    Checkpointer(folder / "save", hparams["modules"]).recover_if_possible(
        min_key="si-snr"
    )
    modules = {k: v.eval() for k, v in hparams["modules"].items()}
    levelled, scale = bring_to_level(mixture[None])
    with torch.no_grad():
        expected = (separate(levelled, None, **modules) * scale)[0]
    assert torch.equal(voices, expected)
    model = S4MSeparation.from_hparams(tmp_path / "model")
    assert torch.equal(model.separate_batch(mixture[None])[0], expected)

    target = torch.stack(
        [
            torch.from_numpy(
                soundfile.read(
                    mixture_file.parents[1] / source / mixture_file.name,
                    dtype="float32",
                )[0]
            )
            for source in ("s1", "s2")
        ],
        dim=1,
    )
    values, _ = pit_si_snr(estimate=voices[None], target=target[None])
    (row,) = (
        row
        for row in read_results(folder)
        if row["snt_id"] == mixture_file.stem
    )
    # A batch of one against a batch of two, float32, four decimals.
    assert float(values.mean()) == pytest.approx(float(row["si-snr"]), abs=2e-3)

    # Evaluated as it is, it gives the results of the training.
    for name, model in (("again", tmp_path / "model"), ("same", folder)):
        options = TINY | {
            "data_folder": str(data_folder),
            "pretrained_model": str(model),
        }
        again = (WSJ0MIX, "s4m-tiny.yaml", tmp_path / name)
        finish(start(*again, "--test_only", **options))
        assert read_results(tmp_path / name) == read_results(folder)
        tables = sorted((tmp_path / name / "save").glob("*.csv"))
        assert [table.name for table in tables] == ["wsj_tt.csv"]


# --------------------------------------- dynamic mixing, three speakers, mini


def test_dynamic_mixing_of_three_speakers(speech_folder, tmp_path):
    make_data_set(
        speech_folder,
        tmp_path / "data",
        num_spks=3,
        num_mixtures=(2, 2, 2),
        segment_s=0.5,
    )
    train(
        WSJ0MIX,
        "s4m-cpu.yaml",
        tmp_path / "run",
        **TINY
        | {
            "data_folder": str(tmp_path / "data"),
            "base_folder_dm": str(speech_folder),
            "num_mixtures": "6",
            "num_spks": "3",
            "N_epochs": "3",
            "lr": "0.005",
            "use_tensorboard": "True",
            "dataloader_opts": "{batch_size: 3, num_workers: 1}",
        },
    )
    rows = read_results(tmp_path / "run")
    assert len(rows) == 3
    for column in ("sdr", "sdr_i", "si-snr", "si-snr_i"):
        assert float(rows[-1][column]) > -80
    losses = train_losses(tmp_path / "run")
    assert losses[-1] < losses[0]
    assert list((tmp_path / "run/tensorboard").iterdir())
    audio = list((tmp_path / "run/save/audio_results").iterdir())
    assert len(audio) == 2 * 7


def test_real_speech(mini_speech, tmp_path):
    manifest = mini_speech / "manifest.csv"
    make_data_set(
        manifest, tmp_path / "data", num_mixtures=(2, 2, 2), segment_s=1.0
    )
    train(
        WSJ0MIX,
        "s4m-cpu.yaml",
        tmp_path / "run",
        **TINY
        | {
            "data_folder": str(tmp_path / "data"),
            "base_folder_dm": str(manifest),
            "num_mixtures": "12",
            "training_signal_len": "8000",
            "N_epochs": "3",
            "lr": "0.005",
        },
    )
    losses = train_losses(tmp_path / "run")
    assert losses[-1] < losses[0]
    assert len(read_results(tmp_path / "run")) == 3
    export_model(tmp_path / "run", tmp_path / "model")
    mixture_file = next((tmp_path / "data/wav8k/min/tt/mix").iterdir())
    words = ["separate", mixture_file, "--output", tmp_path / "voices"]
    assert main([*map(str, words), "--model", str(tmp_path / "model")]) == 0
    for path in (tmp_path / "voices").glob("*.wav"):
        signal, rate = soundfile.read(path)
        assert (len(signal), rate) == (8000, 8000)
        assert np.isfinite(signal).all() and signal.any()
    assert len(list((tmp_path / "voices").iterdir())) == 2


def test_conversations_of_real_speech(mini_speech, tmp_path):
    manifest = mini_speech / "manifest.csv"
    make_data_set(
        manifest,
        tmp_path / "data",
        num_mixtures=(0, 3, 3),
        segment_s=2.0,
        conversation={"solo": 0.4, "turns": 0.6},
    )
    train(
        WSJ0MIX,
        "s4m-conversations.yaml",
        tmp_path / "run",
        **TINY
        | {
            "data_folder": str(tmp_path / "data"),
            "base_folder_dm": str(manifest),
            "decoded_folder": str(tmp_path / "decoded"),
            # Its mean over few items depends less on who is silent in them.
            "loss": "!name:s4m_sb.metrics.pit_sa_sdr_loss",
            "dynamic_mixing_opts": "{speaker_weights: utterances}",
            "num_mixtures": "12",
            "training_signal_len": "16000",
            "N_epochs": "3",
            "lr": "0.005",
        },
    )
    losses = train_losses(tmp_path / "run")
    assert losses[-1] < losses[0]
    assert all(-30 <= loss < 60 for loss in losses)  # SA-SDR's threshold
    assert list((tmp_path / "decoded").glob("*.wav"))


# ------------------------------------------------------- SpeechBrain's form

# Written as the YAMLs of SpeechBrain's recipe are: its classes, its loss, its
# keys and no other.
SPEECHBRAIN_YAML = """
seed: 1234
__set_seed: !apply:speechbrain.utils.seed_everything [!ref <seed>]
data_folder: !PLACEHOLDER
base_folder_dm: /yourpath/wsj0-processed/si_tr_s/
experiment_name: convtasnet
output_folder: !ref results/<experiment_name>/<seed>
train_log: !ref <output_folder>/train_log.txt
save_folder: !ref <output_folder>/save
train_data: !ref <save_folder>/wsj_tr.csv
valid_data: !ref <save_folder>/wsj_cv.csv
test_data: !ref <save_folder>/wsj_tt.csv
skip_prep: False
precision: fp16
num_spks: 2
noprogressbar: False
save_audio: True
sample_rate: 8000
N_epochs: 2
batch_size: 2
lr: 0.001
clip_grad_norm: 5
loss_upper_lim: 999999
limit_training_signal_len: True
training_signal_len: 3000
dynamic_mixing: False
use_wavedrop: True
use_speedperturb: True
use_rand_shift: True
min_shift: -8000
max_shift: 8000
speed_changes: [95, 100, 105]
speed_perturb: !new:speechbrain.augment.time_domain.SpeedPerturb
    orig_freq: !ref <sample_rate>
    speeds: !ref <speed_changes>
drop_freq: !new:speechbrain.augment.time_domain.DropFreq
drop_chunk: !new:speechbrain.augment.time_domain.DropChunk
    drop_length_low: 100
    drop_length_high: 200
threshold_byloss: True
threshold: -30
N_encoder_out: 16
kernel_size: 16
kernel_stride: 8
dataloader_opts:
    batch_size: !ref <batch_size>
    num_workers: 0
Encoder: !new:speechbrain.lobes.models.dual_path.Encoder
    kernel_size: !ref <kernel_size>
    out_channels: !ref <N_encoder_out>
MaskNet: !new:speechbrain.lobes.models.conv_tasnet.MaskNet
    N: 16
    B: 8
    H: 16
    P: 3
    X: 2
    R: 1
    C: !ref <num_spks>
    norm_type: gLN
    causal: True
    mask_nonlinear: relu
Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
    in_channels: !ref <N_encoder_out>
    out_channels: 1
    kernel_size: !ref <kernel_size>
    stride: !ref <kernel_stride>
    bias: False
optimizer: !name:torch.optim.Adam
    lr: !ref <lr>
    weight_decay: 0
loss: !name:speechbrain.nnet.losses.get_si_snr_with_pitwrapper
lr_scheduler: !new:speechbrain.nnet.schedulers.ReduceLROnPlateau
    factor: 0.5
    patience: 2
    dont_halve_until_epoch: 85
epoch_counter: !new:speechbrain.utils.epoch_loop.EpochCounter
    limit: !ref <N_epochs>
modules:
    encoder: !ref <Encoder>
    decoder: !ref <Decoder>
    masknet: !ref <MaskNet>
checkpointer: !new:speechbrain.utils.checkpoints.Checkpointer
    checkpoints_dir: !ref <save_folder>
    recoverables:
        encoder: !ref <Encoder>
        decoder: !ref <Decoder>
        masknet: !ref <MaskNet>
        counter: !ref <epoch_counter>
        lr_scheduler: !ref <lr_scheduler>
train_logger: !new:speechbrain.utils.train_logger.FileTrainLogger
    save_file: !ref <train_log>
"""


def test_a_yaml_of_speechbrains_recipe_trains(data_folder, tmp_path):
    path = tmp_path / "convtasnet.yaml"
    path.write_text(SPEECHBRAIN_YAML)
    train(WSJ0MIX, path, tmp_path / "run", data_folder=str(data_folder))
    losses = train_losses(tmp_path / "run")
    assert len(losses) == 2 and losses[1] < losses[0]
    rows = read_results(tmp_path / "run")
    assert [row["snt_id"] for row in rows][-1] == "avg" and len(rows) == 4
    assert len(list((tmp_path / "run/save/audio_results").iterdir())) == 15


# ---------------------------------------------------------------- bad input


@pytest.fixture
def run_main(monkeypatch, data_folder, tmp_path):
    """Runs ``train.py`` in this process, for what ends before training."""
    module = load_script(WSJ0MIX)
    monkeypatch.setattr(
        speechbrain, "create_experiment_directory", lambda **names: None
    )
    monkeypatch.setenv("SB_GLOBAL_SEED", "1234")  # it sets this, too

    def run(yaml="s4m-tiny.yaml", **options):
        values = {
            **TINY,
            "data_folder": str(data_folder),
            "output_folder": str(tmp_path / "run"),
            **options,
        }
        values = {key: x for key, x in values.items() if x is not None}
        yaml = str(WSJ0MIX / "hparams" / yaml)
        module.main([yaml, *as_options(values), "--device", "cpu"])

    return run


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_scales": "0"}, "num_scales must be at least 1, got 0"),
        ({"kernel": "s5"}, "kernel must be one of s4, s4d, got 's5'"),
        ({"kernel_stride": "40"}, "stride must be at most kernel_size = 32"),
        ({"num_spks": "1"}, "num_spks is 1"),
        ({"num_spks": "3"}, "missing .*tr/s3"),
        ({"sample_rate": "16000"}, "neither wav16k"),
        ({"version": "max"}, "missing .*max/tr/mix"),
        ({"data_folder": "/nowhere"}, "data_folder /nowhere: holds neither"),
        ({"data_folder": None}, "s4m-tiny.yaml: 'data_folder' is a !PLACEH"),
        ({"N_epoch": "3"}, "s4m-tiny.yaml: Override 'N_epoch' not found"),
        ({"d_model": "many"}, "s4m-tiny.yaml: Invalid argument to class s4m"),
        ({"yaml": "s5m.yaml"}, "s5m.yaml: No such file"),
        ({"test_metrics": "[snr]"}, "test_metrics: 'snr' is unknown"),
        ({"skip_prep": "True"}, "wsj_tr.csv: no such file"),
        ({"dynamic_mixing": "True"}, "/yourpath/wsj0/si_tr_s"),
        ({"lr": "-1"}, "optimizer: Invalid learning rate: -1"),
        ({"dataloader_opts": "{batch_size: 0}"}, "dataloader_opts: batch_size"),
        ({"dataloader_opts": "{workers: 1}"}, "dataloader_opts: .*'workers'"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_bad_input_ends_in_one_line(run_main, options, message):
    with pytest.raises(InputError, match=message) as caught:
        run_main(**options)
    assert "\n" not in one_line(caught.value)


def test_a_folder_without_speakers_is_named(run_main, tmp_path):
    (tmp_path / "speech").mkdir()
    with pytest.raises(InputError, match=str(tmp_path / "speech")):
        run_main(dynamic_mixing="True", base_folder_dm=str(tmp_path / "speech"))


def test_an_unknown_option_of_dynamic_mixing_is_named(run_main, speech_folder):
    with pytest.raises(InputError, match="dynamic_mixing_opts: .*'loudness'"):
        run_main(
            dynamic_mixing="True",
            base_folder_dm=str(speech_folder / "train"),
            dynamic_mixing_opts="{speaker_from: folder, loudness: 1}",
        )


def test_a_missing_part_is_named(run_main, tmp_path):
    root = tmp_path / "data/wav8k/min"
    for split in ("tr", "cv", "tt"):
        for kind in ("mix", "s1", "s2"):
            if (split, kind) != ("cv", "s2"):
                (root / split / kind).mkdir(parents=True)
    with pytest.raises(InputError, match="missing .*cv/s2$"):
        run_main(data_folder=str(tmp_path / "data"))


def test_an_error_in_a_worker_is_one_line_too(speech_folder, tmp_path):
    make_data_set(
        speech_folder,
        tmp_path / "data",
        num_mixtures=(2, 1, 1),
        segment_s=0.5,
    )
    for path in (tmp_path / "data").glob("wav8k/min/tr/s1/*.wav"):
        soundfile.write(path, np.full(4000, np.nan), 8000, subtype="FLOAT")
    process = start(
        WSJ0MIX,
        "s4m-tiny.yaml",
        tmp_path / "run",
        **TINY
        | {
            "data_folder": str(tmp_path / "data"),
            "dataloader_opts": "{batch_size: 2, num_workers: 1}",
        },
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    lines = output.strip().splitlines()
    assert lines[-1].startswith("train.py: error: ")
    assert lines[-1].endswith("holds NaN or infinite samples")
    assert "Traceback" not in output
