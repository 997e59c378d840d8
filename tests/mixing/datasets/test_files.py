"""Runs that stop, of themselves or not, and what the next one makes of it."""

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import data_sets
import numpy as np
import pytest
import soundfile
from data_sets import contents, make_data_set
from process_groups import begun, kill_first

from s4m_sb.errors import InputError
from s4m_sb.mixing.datasets.files import METADATA, PROGRESS

HELPERS = Path(data_sets.__file__).parent
COUNTS = (5, 3, 2)
SETTINGS = {"num_mixtures": COUNTS, "segment_s": 0.5, "seed": 3}


def logged(made):
    """The finished mixtures of the log: split and name."""
    done = []
    for line in (made / PROGRESS).read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        done.append((entry["split"], entry["rows"][0]["mixture"]))
    return done


def times_of(made, done):
    """When the files of some mixtures were written."""
    times = {
        path: path.stat().st_mtime_ns
        for split, name in done
        for path in (made / split).glob(f"*/{name}.wav")
    }
    assert done and len(times) >= 3 * len(done)
    return times


def assert_nothing_is_half_written(made, num_frames):
    assert not (made / METADATA).exists()
    assert not list(made.rglob(".*.tmp*"))
    for path in made.glob("*/*/*.wav"):
        assert soundfile.info(path).frames == num_frames


@pytest.fixture(scope="module")
def whole(speech_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    return make_data_set(speech_folder, output, **SETTINGS)


def test_a_finished_data_set_is_left_alone(speech_folder, tmp_path):
    made = make_data_set(speech_folder, tmp_path, **SETTINGS)
    before = {path: path.stat().st_mtime_ns for path in made.glob("*/*/*")}
    make_data_set(speech_folder, tmp_path, num_jobs=2, **SETTINGS)
    after = {path: path.stat().st_mtime_ns for path in made.glob("*/*/*")}
    assert before == after


def test_lost_files_are_made_again(
    speech_folder, noise_folder, tmp_path, whole
):
    again = make_data_set(speech_folder, tmp_path / "plain", **SETTINGS)
    for split, kind in (("tr", "s2"), ("tt", "mix")):
        sorted((again / split / kind).iterdir())[1].unlink()
    make_data_set(speech_folder, tmp_path / "plain", **SETTINGS)
    assert contents(again) == contents(whole)
    # Of noise and in rooms, too.
    keys = {**SETTINGS, "num_mixtures": (0, 0, 2), "reverb": True}
    made = make_data_set(
        speech_folder, tmp_path / "room", noise=noise_folder, **keys
    )
    before = contents(made)
    for kind in ("noise", "mix_clean_anechoic"):
        sorted((made / "tt" / kind).iterdir())[0].unlink()
    make_data_set(speech_folder, tmp_path / "room", noise=noise_folder, **keys)
    assert contents(made) == before


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_a_bad_file_ends_in_one_line(speech_folder, tmp_path, num_jobs):
    speech = shutil.copytree(speech_folder, tmp_path / "speech")
    for path in (speech / "test").rglob("*.*"):
        soundfile.write(path, np.zeros(24000), 8000)
    message = "3 of 4 speakers .*are all silent"
    with pytest.raises(InputError, match=message) as caught:
        make_data_set(speech, tmp_path / "out", num_jobs=num_jobs, **SETTINGS)
    assert "\n" not in str(caught.value)
    # What was good is kept for the next time.
    made = tmp_path / "out" / "wav8k" / "min"
    assert len(list(made.glob("tr/mix/*.wav"))) == 5
    assert [split for split, _ in logged(made)].count("tr") == 5
    assert not (made / METADATA).exists()


# A kill

OPTIONS = {
    "speech": {"num_mixtures": (150, 3, 2), "segment_s": 0.5},
    "rooms": {"num_mixtures": (6, 1, 0), "segment_s": 0.5, "reverb": True},
    "turns": {
        "num_mixtures": (150, 3, 2),
        "segment_s": 0.5,
        "conversation": {"solo": 0.2, "turns": 0.7, "turn_s": (0.25, 0.3)},
    },
}
MAKE = """
import json, sys
sys.path.insert(0, sys.argv[5])
from data_sets import make_data_set
make_data_set(
    sys.argv[1], sys.argv[2], num_jobs=int(sys.argv[3]),
    **json.loads(sys.argv[4]),
)
"""


@pytest.mark.parametrize(
    "num_jobs, what",
    [(1, "speech"), (2, "speech"), (2, "rooms"), (2, "turns")],
)
def test_a_killed_run_goes_on(
    speech_folder, noise_folder, tmp_path, num_jobs, what
):
    keys = OPTIONS[what]
    if what == "rooms":
        keys = {**keys, "noise": str(noise_folder)}
    output = tmp_path / "out"
    made = output / "wav8k" / "min"
    command = [
        *(sys.executable, "-c", MAKE, speech_folder, output),
        *(str(num_jobs), json.dumps(keys), str(HELPERS)),
    ]
    with begun(command) as process:
        deadline = time.monotonic() + 180
        while not (made / PROGRESS).exists() or len(logged(made)) < 2:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        kill_first(process)
    assert not (made / METADATA).exists()
    # Whatever stands there is whole.
    for path in made.glob("*/*/[!.]*.wav"):
        assert soundfile.info(path).frames == 4000
    done = logged(made)
    assert 0 < len(done) < sum(keys["num_mixtures"])
    # Whatever is whole is in the log, but for what was at work.
    complete = set.intersection(
        *(
            {path.name for path in folder.glob("[!.]*.wav")}
            for folder in (made / "tr").iterdir()
        )
    )
    assert len(complete) - len(done) <= num_jobs
    times = times_of(made, done)
    # Half a line in the log and half files, as a kill can leave them.
    with open(made / PROGRESS, "a") as file:
        file.write('{"split": "tr", "ind')
    folder = next((made / "tr").iterdir())
    (folder / ".000149.01234567.tmp.wav").write_bytes(b"RIFF")
    (made / ".metadata.01234567.tmp.csv").write_text("split,mix")

    make_data_set(speech_folder, output, num_jobs=2, **keys)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    whole = make_data_set(speech_folder, tmp_path / "whole", **keys)
    assert contents(made) == contents(whole)


# A full disk

FILE_FRAMES = 2000
FULL_KEYS = {"num_mixtures": (24, 4, 2), "segment_s": 0.25}
FULL = """
import json, resource, sys
from s4m_sb.commands.main import main
sys.exit(main(json.loads(sys.argv[1])))
"""
# A small disk of its own, which only this process sees and which is gone
# with it; a file that takes most of it, until there shall be space.
SMALL_DISK = """
import json, shutil, subprocess, sys
from pathlib import Path
from s4m_sb.commands.main import main
command, disk, copy = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
if subprocess.run(mount, capture_output=True).returncode:
    sys.exit("no mount")
ballast = disk / "ballast"
ballast.write_bytes(bytes(2_200_000))
full = main(command)
shutil.copytree(disk / "out", copy + "/full", copy_function=shutil.copy2)
ballast.unlink()
free = main(command)
shutil.copytree(disk / "out", copy + "/free", copy_function=shutil.copy2)
print(full, free)
"""


def full_command(speech_folder, noise_folder, output, num_jobs):
    counts = [str(count) for count in FULL_KEYS["num_mixtures"]]
    return [
        *("mix", str(speech_folder), str(output)),
        *("--noise", str(noise_folder), "--jobs", str(num_jobs)),
        *("--length", str(FULL_KEYS["segment_s"]), "--count", *counts),
    ]


@pytest.fixture(scope="module")
def expected(speech_folder, noise_folder, tmp_path_factory):
    """What the runs on full disks have to end with."""
    output = tmp_path_factory.mktemp("expected")
    return contents(
        make_data_set(speech_folder, output, noise=noise_folder, **FULL_KEYS)
    )


def errors_of(process):
    """Lines of stderr but for the progress bar's, which end otherwise."""
    lines = [line.split("\r")[-1] for line in process.stderr.splitlines()]
    return [line for line in lines if line and "mix/s" not in line]


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_a_full_disk_ends_in_one_line(
    speech_folder, noise_folder, tmp_path, expected, num_jobs
):
    if shutil.which("unshare") is None:
        pytest.skip("no unshare to mount a small disk with")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = full_command(speech_folder, noise_folder, disk / "out", num_jobs)
    process = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "--mount"),
            *(sys.executable, "-c", SMALL_DISK, json.dumps(command)),
            *(disk, tmp_path),
        ],
        capture_output=True,
        text=True,
    )
    if process.returncode and (
        "unshare" in process.stderr or "no mount" in process.stderr
    ):
        pytest.skip(f"no right to mount a small disk: {process.stderr}")
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "2 0", process.stderr
    made = tmp_path / "full" / "wav8k" / "min"
    assert_nothing_is_half_written(made, FILE_FRAMES)
    done = logged(made)
    (line,) = errors_of(process)
    assert line.startswith(f"s4m: error: {disk / 'out' / 'wav8k' / 'min'}/")
    assert (
        f": No space left on device; {len(done)} of 30 mixtures are done, and "
        "the same command goes on with the rest when there is space" in line
    )
    again = tmp_path / "free" / "wav8k" / "min"
    assert contents(again) == expected
    times = times_of(made, done)
    for path, modified in times.items():
        kept = again / path.relative_to(made)
        assert kept.stat().st_mtime_ns == modified


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_a_log_that_cannot_grow_ends_in_one_line(
    speech_folder, noise_folder, tmp_path, expected, num_jobs
):
    # Larger than the files of audio (8058 bytes), which go on; smaller than
    # the log will be.
    limit = 10_000
    command = full_command(speech_folder, noise_folder, tmp_path, num_jobs)

    def set_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = subprocess.run(
        [sys.executable, "-c", FULL, json.dumps(command)],
        capture_output=True,
        text=True,
        preexec_fn=set_limit,
    )
    assert process.returncode == 2
    made = tmp_path / "wav8k" / "min"
    assert (made / PROGRESS).stat().st_size == limit
    assert_nothing_is_half_written(made, FILE_FRAMES)
    done = logged(made)
    assert errors_of(process) == [
        f"s4m: error: {made / PROGRESS}: File too large; {len(done)} of 30 "
        "mixtures are done, and the same command goes on with the rest when "
        "that is mended"
    ]
    times = times_of(made, done)
    make_data_set(speech_folder, tmp_path, noise=noise_folder, **FULL_KEYS)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert contents(made) == expected
