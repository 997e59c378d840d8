"""The WHAM! and WHAMR! recipe from `s4m mix` to results, as users run it."""

import csv
import json
import re
import shutil

import pytest
import soundfile
import speechbrain
import torch
from recipe_runs import (
    TINY,
    WHAM,
    as_options,
    checkpoints_in,
    killed_and_resumed,
    load_script,
    read_results,
    train,
    train_losses,
    updates_in,
)

from s4m_sb.errors import InputError, one_line

# The YAMLs are used as they are, but for the network's size.
NUM_EPOCHS = 2
QUICK = {**TINY, "N_epochs": str(NUM_EPOCHS), "n_audio_to_save": "1"}
STEPS = 8  # in an epoch of the 16 mixtures


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def check_results(folder, data_folder, **facts):
    """Results of all test mixtures, with what they were reached on."""
    names = (data_folder / "wav8k/min/tt/noise").glob("*.wav")
    rows = read_results(folder)
    expected = [*sorted(path.stem for path in names), "avg"]
    assert [row["snt_id"] for row in rows] == expected
    for row in rows:
        # Far from NaN and from the 100 dB of a silent reference.
        assert all(abs(float(row[key])) < 60 for key in ("si-snr", "sdr_i"))
    summary = json.loads((folder / "summary.json").read_text())
    assert {key: summary[key] for key in facts} == facts
    assert summary["num_items"] == len(expected) - 1
    assert len(train_losses(folder)) == NUM_EPOCHS
    return summary


# ---------------------------------------------------------------- WHAMR!


@pytest.fixture(scope="module")
def killed_run(whamr_folder, tmp_path_factory):
    """A training of the YAML for WHAMR!, killed on the way; see below."""
    folder = tmp_path_factory.mktemp("runs") / "whamr"
    options = {
        **QUICK,
        "data_folder": str(whamr_folder),
        "ckpt_interval_steps": "2",
    }
    result = killed_and_resumed(
        WHAM, "s4m-whamr.yaml", folder, STEPS, **options
    )
    return folder, *result


def test_a_killed_training_goes_on(killed_run):
    folder, epoch, step, printed = killed_run
    assert 0 < step < STEPS
    begun = [int(x) for x in re.findall(r"Going into epoch (\d+)", printed)]
    assert begun == list(range(epoch, NUM_EPOCHS + 1))
    assert updates_in(folder) == NUM_EPOCHS * STEPS


def test_results_in_noise_and_reverberation(killed_run, whamr_folder):
    folder = killed_run[0]
    summary = check_results(
        folder,
        whamr_folder,
        dataset="whamr",
        mixture="mix_both",
        target="anechoic",
        version="min",
        num_spks=2,
    )
    # Each of the three stands in the class of its noise and of its room.
    for name in ("by_input_snr_db", "by_rt60_s"):
        assert sum(group["num_items"] for group in summary[name]) == 3
    rt60_s = {
        row["mixture"]: float(row["rt60_s"])
        for row in read_rows(whamr_folder / "wav8k/min/metadata.csv")
    }
    for row in read_results(folder)[:-1]:
        assert float(row["rt60_s"]) == rt60_s[row["snt_id"]]
    # The targets are the voices without the room, in every split.
    for split in ("tr", "cv", "tt"):
        for row in read_rows(folder / f"save/whamr_{split}.csv"):
            assert "/mix_both_reverb/" in row["mix_wav"]
            assert "/s2_anechoic/" in row["s2_wav"]
            assert "/s2_reverb/" in row["s2_image_wav"]
            assert float(row["rt60_s"]) == rt60_s[row["ID"]]


def test_dynamic_mixing_in_rooms(whamr_folder, tmp_path):
    options = {
        **QUICK,
        "data_folder": str(whamr_folder),
        "dynamic_mixing": "True",
        "base_folder_dm": str(whamr_folder / "wav8k/min/speech.csv"),
        "noise_folder_dm": str(whamr_folder / "wav8k/min/noise.csv"),
        "dynamic_mixing_opts": "{speaker_from: folder, split: train, "
        "noise_split: train}",
        "rooms_folder": str(tmp_path / "rooms"),
        "num_rooms": "4",
    }
    output = train(WHAM, "s4m-whamr.yaml", tmp_path / "run", **options)
    check_results(tmp_path / "run", whamr_folder, target="anechoic")
    assert len(list((tmp_path / "rooms").glob("*.npz"))) == 4
    assert updates_in(tmp_path / "run") == NUM_EPOCHS * STEPS, output


# ----------------------------------------------------------------- WHAM!


def test_separation_in_noise(wham_folder, tmp_path):
    options = {**QUICK, "data_folder": str(wham_folder)}
    train(WHAM, "s4m-wham.yaml", tmp_path / "run", **options)
    check_results(
        tmp_path / "run",
        wham_folder,
        dataset="wham",
        mixture="mix_both",
        target="anechoic",
        num_spks=2,
    )
    assert len(list((tmp_path / "run/save/audio_results").iterdir())) == 5


def test_dynamic_mixing_over_noise(wham_folder, tmp_path):
    options = {
        **QUICK,
        "data_folder": str(wham_folder),
        "dynamic_mixing": "True",
        "base_folder_dm": str(wham_folder / "wav8k/min/speech.csv"),
        "dynamic_mixing_opts": "{speaker_from: folder, split: train, "
        "num_mixtures: 6}",
    }
    train(WHAM, "s4m-wham.yaml", tmp_path / "run", **options)
    check_results(tmp_path / "run", wham_folder, dataset="wham")
    assert updates_in(tmp_path / "run") == NUM_EPOCHS * 3


@pytest.mark.parametrize("dynamic", [False, True], ids=["plain", "dynamic"])
def test_enhancement(wham_folder, tmp_path, dynamic):
    options = {
        **QUICK,
        "data_folder": str(wham_folder),
        "mixture": "mix_single",
        "num_spks": "1",
    }
    if dynamic:
        options |= {
            "dynamic_mixing": "True",
            "base_folder_dm": str(wham_folder / "wav8k/min/speech.csv"),
            "dynamic_mixing_opts": "{speaker_from: folder, split: train}",
        }
    train(WHAM, "s4m-wham-tiny.yaml", tmp_path / "run", **options)
    check_results(
        tmp_path / "run", wham_folder, mixture="mix_single", num_spks=1
    )
    audio = sorted((tmp_path / "run/save/audio_results").iterdir())
    kinds = [path.stem.split("_")[-1] for path in audio]
    assert kinds == ["mix", "source1", "source1hat"]
    heard, rate = soundfile.read(audio[1])
    assert (len(heard), rate) == (4000, 8000)


# ------------------------------------------------------------------ data


@pytest.mark.parametrize("mixture", ["mix_both", "mix_clean", "mix_single"])
@pytest.mark.parametrize(
    "dataset, target",
    [("wham", "anechoic"), ("whamr", "anechoic"), ("whamr", "reverb")],
)
def test_the_mixture_is_its_parts(
    whamr_folder, tmp_path, dataset, mixture, target
):
    hparams = {
        "data_folder": str(whamr_folder),
        "dataset": dataset,
        "target": target,
        "num_spks": 1 if mixture == "mix_single" else 2,
        "sample_rate": 8000,
    }
    tables = load_script(WHAM, "prepare_data").prepare_wham(
        save_folder=tmp_path, mixture=mixture, splits=["tt"], **hparams
    )
    root = whamr_folder / "wav8k/min/tt"
    room = {"wham": "anechoic", "whamr": "reverb"}[dataset]
    for item in load_script(WHAM).dataio_prep(hparams, tables["tt"]):

        def recorded(folder, name=item["id"]):
            samples, _ = soundfile.read(root / folder / f"{name}.wav")
            return torch.from_numpy(samples)

        rest = item["mix_sig"].double()
        for number in range(1, hparams["num_spks"] + 1):
            wanted = item[f"s{number}_sig"]
            heard = item.get(f"s{number}_image_sig", wanted)
            assert torch.equal(wanted.double(), recorded(f"s{number}_{target}"))
            assert torch.equal(heard.double(), recorded(f"s{number}_{room}"))
            rest -= heard.double()
        if mixture != "mix_clean":
            rest -= recorded("noise")
        # Sums of three float32 numbers below 1.
        torch.testing.assert_close(rest, 0 * rest, rtol=0, atol=1e-6)
        assert ("s1_image_sig" in item) == (target != room)
        assert ("rt60_s" in item) == (dataset == "whamr")


# ------------------------------------------------------------- bad input


@pytest.fixture
def run_main(monkeypatch, wham_folder, tmp_path):
    """Runs ``train.py`` in this process, for what ends before training."""
    module = load_script(WHAM)
    monkeypatch.setattr(
        speechbrain, "create_experiment_directory", lambda **names: None
    )
    monkeypatch.setenv("SB_GLOBAL_SEED", "1234")  # it sets this, too

    def run(yaml="s4m-wham-tiny.yaml", **options):
        values = {
            **TINY,
            "data_folder": str(wham_folder),
            "output_folder": str(tmp_path / "run"),
            **options,
        }
        yaml = str(WHAM / "hparams" / yaml)
        module.main([yaml, *as_options(values), "--device", "cpu"])

    return run


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dataset": "wsj"}, "dataset is 'wsj'; use one of wham, whamr"),
        ({"mixture": "mix"}, "mixture is 'mix'; use one of mix_clean, mix_b"),
        ({"target": "dry"}, "target is 'dry'; use one of anechoic, reverb"),
        ({"target": "dry", "skip_prep": "True"}, "target is 'dry'"),
        ({"target": "reverb"}, "wham has no reverberation"),
        ({"mixture": "mix_single"}, "num_spks is 2; in mix_single there is 1"),
        ({"num_spks": "1"}, "num_spks is 1; at least 2"),
        ({"num_spks": "3"}, "missing .*tr/s3"),
        ({"sample_rate": "16000"}, "holds neither wav16k nor wham/wav16k"),
        ({"version": "max"}, "missing .*max/tr/mix_both"),
        ({"data_folder": "/nowhere"}, "data_folder /nowhere: holds neither"),
        ({"skip_prep": "True"}, "wham_tr.csv: no such file"),
        ({"dataset": "whamr"}, "missing .*tr/mix_both_reverb"),
        ({"yaml": "s4m-whamr.yaml"}, "missing .*tr/mix_both_reverb"),
        ({"dynamic_mixing": "True"}, "/yourpath/wsj0/si_tr_s"),
        ({"rooms_folder": "rooms"}, "Override 'rooms_folder' not found"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_bad_input_ends_in_one_line(run_main, options, message):
    with pytest.raises(InputError, match=message) as caught:
        run_main(**options)
    assert "\n" not in one_line(caught.value)


def test_a_yaml_of_another_recipe_is_told_what_it_lacks(run_main):
    yaml = WHAM.parents[1] / "WSJ0Mix/separation/hparams/s4m-tiny.yaml"
    with pytest.raises(InputError, match="no key dataset, mixture, target$"):
        run_main(yaml=yaml)


def test_rooms_need_their_keys(run_main, whamr_folder, speech_folder):
    with pytest.raises(InputError, match="needs rooms; see s4m-whamr.yaml"):
        run_main(
            dataset="whamr",
            data_folder=str(whamr_folder),
            dynamic_mixing="True",
            base_folder_dm=str(speech_folder),
        )


@pytest.mark.parametrize("option", ["target: reverb", "noise: folder"])
def test_what_decides_the_task_is_no_option_of_dynamic_mixing(
    run_main, wham_folder, option
):
    name = option.split(":")[0]
    message = f"dynamic_mixing_opts: {name} cannot stand there"
    with pytest.raises(InputError, match=message):
        run_main(
            dynamic_mixing="True",
            base_folder_dm=str(wham_folder / "wav8k/min/speech.csv"),
            dynamic_mixing_opts=f"{{speaker_from: folder, {option}}}",
        )


def test_missing_noise_is_named(run_main, wham_folder, tmp_path):
    shutil.copytree(wham_folder, tmp_path / "wham")
    shutil.rmtree(tmp_path / "wham/wav8k/min/tr/noise")
    speech = wham_folder / "wav8k/min/speech.csv"
    with pytest.raises(InputError, match=str(tmp_path) + ".*min/tr/noise"):
        run_main(
            data_folder=str(tmp_path / "wham"),
            dynamic_mixing="True",
            base_folder_dm=str(speech),
            dynamic_mixing_opts="{speaker_from: folder, split: train}",
        )


def test_another_target_needs_another_folder(killed_run, whamr_folder):
    folder = killed_run[0]
    module = load_script(WHAM)
    values = {
        **QUICK,
        "data_folder": str(whamr_folder),
        "output_folder": str(folder),
        "target": "reverb",
    }
    yaml = str(WHAM / "hparams/s4m-whamr.yaml")
    message = "target: anechoic, now target: reverb"
    with pytest.raises(InputError, match=message):
        module.main([yaml, *as_options(values), "--device", "cpu"])
    assert checkpoints_in(folder)
