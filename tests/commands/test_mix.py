"""The options of ``s4m mix`` are those of the data set that it makes."""

import argparse
from pathlib import Path

import pytest
import soundfile
from data_sets import contents, make_data_set, mixtures_of, rows_of

from s4m_sb.commands import mix
from s4m_sb.errors import InputError

SETTINGS = {"num_mixtures": (5, 3, 2), "segment_s": 0.5, "seed": 3}


def run(*arguments):
    parser = argparse.ArgumentParser()
    mix.add_arguments(parser)
    mix.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def made(speech_folder, tmp_path_factory):
    """A data set that the tests read and do not change."""
    output = tmp_path_factory.mktemp("made")
    return make_data_set(speech_folder, output, **SETTINGS)


def test_command(speech_folder, tmp_path, made, capsys):
    options = "--count 5 3 2 --length 0.5 --seed 3 --jobs 1".split()
    run(speech_folder, tmp_path / "out", *options)
    out = capsys.readouterr().out
    assert Path(out.strip()) == tmp_path / "out" / "wav8k" / "min"
    assert contents(Path(out.strip())) == contents(made)
    run(
        speech_folder,
        tmp_path / "again",
        "--metadata",
        made / "metadata.csv",
    )
    again = Path(capsys.readouterr().out.strip())
    assert mixtures_of(contents(again)) == mixtures_of(contents(made))


def test_command_adds_noise_and_rooms(
    speech_folder, noise_folder, tmp_path, capsys
):
    expected = make_data_set(
        speech_folder,
        tmp_path / "expected",
        noise=noise_folder,
        reverb=True,
        **SETTINGS,
    )
    noise = ("--noise", noise_folder)
    options = "--count 5 3 2 --length 0.5 --seed 3 --jobs 1 --reverb".split()
    run(speech_folder, tmp_path / "out", *options, *noise, "--snr", -6, 3)
    out = Path(capsys.readouterr().out.strip())
    assert contents(out) == contents(expected)
    metadata = ("--metadata", out / "metadata.csv")
    run(speech_folder, tmp_path / "again", *metadata, *noise)
    again = Path(capsys.readouterr().out.strip())
    assert mixtures_of(contents(again)) == mixtures_of(contents(out))
    for option in (["--reverb"], ["--snr", -6, 3]):
        with pytest.raises(InputError, match=f"--metadata decides {option[0]}"):
            run(speech_folder, tmp_path, *metadata, *noise, *option)


def test_command_has_every_option(speech_folder, tmp_path):
    run(
        speech_folder,
        tmp_path,
        *"--num-spks 3 --sample-rate 16000 --length 0.25 --levels 0 0".split(),
        *"--count 0 0 4 --speaker-from folder --jobs 2".split(),
    )
    made = tmp_path / "wav16k" / "min"
    rows = rows_of(made)
    assert {row["source"] for row in rows} == {"s1", "s2", "s3"}
    for name in {row["mixture"] for row in rows}:
        levels = {row["level_db"] for row in rows if row["mixture"] == name}
        assert len(levels) == 1
    assert {row["num_frames"] for row in rows} == {"4000"}


TALK = "--conversation --solo 0.2 --turns 0.6 --turn-length 0.25 0.5"


@pytest.mark.parametrize("surroundings", ["", "--noise {noise} --reverb"])
@pytest.mark.parametrize("num_spks", [2, 3])
def test_command_makes_conversations(
    speech_folder, noise_folder, tmp_path, capsys, surroundings, num_spks
):
    more = surroundings.format(noise=noise_folder).split()
    fixed = f"--count 4 0 3 --length 1 --seed 3 --num-spks {num_spks}".split()
    options = [*TALK.split(), *more, *fixed]
    made = []
    for jobs in ("1", "2", "3"):
        run(speech_folder, tmp_path / jobs, *options, "--jobs", jobs)
        made.append(Path(capsys.readouterr().out.strip()))
    assert contents(made[0]) == contents(made[1]) == contents(made[2])
    # Where the metadata have no file nobody speaks.
    rows = rows_of(made[0])
    assert {row["file"] for row in rows if row["source"] == "noise"} != {""}
    suffix = "_anechoic" if more else ""
    reach = 200 if more else 0  # of the direct sound, in samples
    spoken = 0
    for row in rows:
        if row["source"] == "noise":
            continue
        path = made[0] / row["split"] / (row["source"] + suffix)
        signal, _ = soundfile.read(path / f"{row['mixture']}.wav")
        assert len(signal) == 8000
        begin = int(row["begin"])
        part = signal[begin : begin + int(row["num_frames"])]
        if row["file"]:
            spoken += bool(part.any())
        else:
            assert not part[reach:].any()
            assert row["start"] == ""
    assert spoken > 7
    # ... and they make the same again.
    noise = more[:2]
    table = ("--metadata", made[0] / "metadata.csv")
    run(speech_folder, tmp_path / "again", *table, *noise)
    again = Path(capsys.readouterr().out.strip())
    assert mixtures_of(contents(again)) == mixtures_of(contents(made[0]))
    with pytest.raises(InputError, match="--metadata decides --conversation"):
        run(speech_folder, tmp_path / "x", *table, "--conversation")


def test_command_makes_solos_and_overlapped_mixtures(
    speech_folder, tmp_path, capsys
):
    options = "--conversation --length 0.5 --count 0 0 6 --jobs 1".split()
    run(speech_folder, tmp_path / "solo", *options, "--solo", "1")
    made = Path(capsys.readouterr().out.strip())
    for row in rows_of(made):
        assert (row["speaker"] == "") == (row["file"] == "")
    silent = [row["source"] for row in rows_of(made) if not row["file"]]
    assert len(silent) == 6 and set(silent) == {"s1", "s2"}
    run(speech_folder, tmp_path / "all", *options, "--turns", "0")
    made = Path(capsys.readouterr().out.strip())
    assert "begin" not in rows_of(made)[0]
    assert {row["speaker"] != "" for row in rows_of(made)} == {True}


def test_command_draws_speakers_as_told(speech_folder, tmp_path, capsys):
    options = "--length 0.5 --count 0 0 3 --jobs 1 --speaker-weights".split()
    run(speech_folder, tmp_path / "out", *options, "uniform")
    made = Path(capsys.readouterr().out.strip())
    with pytest.raises(InputError, match="speaker_weights uniform, now .* dur"):
        run(speech_folder, tmp_path / "out", *options, "duration")
    assert len(list((made / "tt" / "mix").iterdir())) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ("--levels 3 1", r"^--levels is \[3.0, 1.0\]; give two numbers"),
        ("--length -1", "^--length is -1.0; give seconds above 0"),
        ("--num-spks 1", "^--num-spks is 1; at least 2"),
        ("--sample-rate 0", "^--sample-rate is 0; give Hz"),
        ("--count 0 0 0", r"^--count is \[0, 0, 0\]"),
        ("--seed -1", "^--seed is -1"),
        ("--jobs 0", "^--jobs is 0"),
        ("--num-spks 5", "a mixture of 5 speakers needs as many$"),
        ("--snr -6 3", "^--snr is of no use without --noise$"),
        ("--conversation", "^--conversation needs --length"),
        ("--pause 0.1 --solo 1", "^--solo, --pause: of no use without --conv"),
        ("--conversation --length 1 --solo 2", "^--solo is 2.0; give a number"),
        (
            "--conversation --length 1 --turn-length 3 1",
            r"^--turn-length is \[3.0, 1.0\]",
        ),
        (
            "--conversation --length 1 --solo .6 --turns .5",
            "^--solo is 0.6 and turns is 0.5; .* at most 1",
        ),
        ("--snr 3 1 --noise {noise}", r"^--snr is \[3.0, 1.0\]; give two"),
    ],
)
def test_command_speaks_of_its_options(
    speech_folder, noise_folder, tmp_path, options, message
):
    options = options.format(noise=noise_folder)
    with pytest.raises(InputError, match=message):
        run(speech_folder, tmp_path / "out", *options.split())


def test_command_tells_of_file_names_with_codes(speech_folder, tmp_path):
    flat = speech_folder / "test" / "talker11"
    with pytest.raises(InputError, match="--speaker-from wsj0"):
        run(flat, tmp_path / "out")


def test_metadata_decides_the_rest(speech_folder, tmp_path, made):
    with pytest.raises(InputError, match="--metadata decides --num-spks, --se"):
        run(
            speech_folder,
            tmp_path,
            *("--metadata", made / "metadata.csv"),
            *"--num-spks 2 --seed 0".split(),
        )
