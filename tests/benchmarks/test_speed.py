"""The comparison of speed: its networks, its figures, a small run."""

import csv
import json
import math
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from recipe_runs import REPOSITORY, environment
from speechbrain.lobes.models.dual_path import SepformerWrapper

from s4m_sb.network.separate import separate

BENCHMARKS = REPOSITORY / "benchmarks"
SPEED = BENCHMARKS / "speed.py"
sys.path.append(str(BENCHMARKS))

import measure  # noqa: E402
import networks  # noqa: E402
import speed  # noqa: E402
import speed_networks  # noqa: E402
import speed_table  # noqa: E402
from speed_networks import ROWS, build  # noqa: E402

JOB = {
    "options": speed.SMALL,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
    "limit_s": None,
    "memory_gib": None,
}


# --------------------------------------------------------------- networks


def test_s4m_has_the_size_of_the_recipe():
    modules = build("s4m")
    # Both as in the README of the WSJ0-Mix recipe, to its last digit.
    millions = networks.count_parameters(modules) / 1e6
    assert millions == pytest.approx(3.59, abs=0.005)


def test_sepformer_is_that_of_the_toolkit():
    def shapes(modules):
        return {
            (name, key): value.shape
            for name in ("encoder", "masknet", "decoder")
            for key, value in modules[name].state_dict().items()
        }

    with torch.device("meta"):
        published = SepformerWrapper()
        assert shapes(build("sepformer")) == shapes(dict(published._modules))

    ours = build("sepformer", {"num_layers": 1, "d_ffn": 16})
    theirs = SepformerWrapper(
        intra_numlayers=1, inter_numlayers=1, intra_dffn=16, inter_dffn=16
    ).eval()
    for name, module in ours.items():
        module.load_state_dict(getattr(theirs, name).state_dict())
        module.eval()
    mixture = torch.randn(1, 2000)
    with torch.no_grad():
        torch.testing.assert_close(
            separate(mixture, None, **ours), theirs(mixture), atol=0, rtol=0
        )


def test_twin_is_s4m_tiny():
    ours, twin = build("s4m-tiny", speed.SMALL), build("twin", speed.SMALL)
    for name, module in ours.items():
        other = getattr(twin[name], "masknet", twin[name])
        module.load_state_dict(other.state_dict())
    mixture = torch.randn(1, 2000)
    torch.testing.assert_close(
        separate(mixture, None, **ours),
        separate(mixture, None, **twin),
        atol=1e-5,  # float32, Fourier transforms of 2 · 32 frames
        rtol=1e-4,
    )


@pytest.mark.parametrize("size", ["-tiny", ""])
def test_plain_is_s4m(size):
    ours, plain = (build(m + size, speed.SMALL) for m in ("s4m", "plain"))
    for name, module in ours.items():
        module.load_state_dict(plain[name].state_dict())
    mixture = torch.randn(1, 2000)
    torch.testing.assert_close(
        separate(mixture, None, **ours),
        separate(mixture, None, **plain),
        atol=1e-5,  # float32, Fourier transforms of 2 · 32 frames
        rtol=1e-4,
    )


def test_frames_keep_their_duration_at_16_khz():
    for model in ("s4m-tiny", "s4m"):
        slow, fast = build(model, speed.SMALL), build(model + "-16k")
        # 2 ms windows reach 1.5 ms over either end
        assert slow["encoder"](torch.zeros(1, 8000)).shape[-1] == 2003
        assert fast["encoder"](torch.zeros(1, 16000)).shape[-1] == 2003


# ---------------------------------------------------------------- figures


def call(kind, model="s4m-tiny", length_s=0.1, part="", **more):
    return {**speed.case(kind, model, length_s, part), **more}


MEMORY = """
import json, sys
import torch
import measure, speed
case, job = json.loads(sys.argv[1])
def allocate(*_):
    return lambda mixture: torch.ones(
        75 * 2**20 if mixture.shape[1] > 4000 else 1
    )
measure.prepare = allocate
small = {**job, "memory_gib": 0.1}
print(json.dumps([measure.measure(case, j) for j in (job, small)]))
"""


def test_memory_is_that_of_the_call():
    # In a process of its own: this one may hold freed memory to use again.
    case = call("memory", length_s=1.0)
    finished = subprocess.run(
        [sys.executable, "-c", MEMORY, json.dumps([case, JOB])],
        capture_output=True,
        text=True,
        cwd=BENCHMARKS,
        env=environment(),
    )
    assert finished.returncode == 0, finished.stderr
    found, marked = json.loads(finished.stdout.splitlines()[-1])
    # a page and the allocator's bookkeeping; parallel first touches
    assert found["peak_bytes"] == pytest.approx(300 * 2**20, rel=0.02)
    # what is beyond the limits has a mark instead
    assert marked == {"mark": "memory"}


BACKENDS = (torch.backends.cudnn, torch.backends.cuda.matmul)


@pytest.fixture
def tf32():
    """Is as before in the end."""
    before = [backend.allow_tf32 for backend in BACKENDS]
    yield
    for backend, allowed in zip(BACKENDS, before, strict=True):
        backend.allow_tf32 = allowed


@pytest.mark.usefixtures("tf32")
@pytest.mark.parametrize("part", ["", "training"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_numbers_are_those_of_the_precision(monkeypatch, part, precision):
    for backend in BACKENDS:
        backend.allow_tf32 = precision != "tf32"
    seen = []

    def separate_and_note(*arguments, **modules):
        seen.append(torch.is_autocast_enabled("cpu"))
        return separate(*arguments, **modules)

    monkeypatch.setattr(measure, "separate", separate_and_note)
    case = call("memory", part=part)
    job = {**JOB, "precision": precision}
    measure.prepare(case, job)(measure.draw_signal(case, job))
    assert seen == [precision == "bf16"]
    for backend in BACKENDS:
        assert backend.allow_tf32 is (precision == "tf32")


def test_the_caption_says_what_was_measured(monkeypatch, tmp_path, capsys):
    words = [str(tmp_path), "--quick"]

    def caption(*more):
        arguments = speed.parse_arguments([*words, *more])
        measured = {"conditions": speed.conditions(arguments), "commands": []}
        return speed.describe(measured, 4.0)

    cpu = caption("--memory_gib", "3")
    assert '"no memory": more than 3 GiB.' in cpu
    assert ", toy networks, float32 without TF32, " in cpu
    about = SimpleNamespace(name="H200", total_memory=139 * 2**30)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: about
    )
    gpu = caption("--device", "cuda", "--precision", "tf32")
    assert "TF32 in convolutions and products, " in gpu
    assert "H200. " in gpu
    assert """"no memory": more than the GPU's 139 GiB.""" in gpu
    with pytest.raises(SystemExit):
        speed.parse_arguments([*words, "--precision", "tf32"])
    assert "tf32 is for a GPU" in capsys.readouterr().err


def test_a_folder_holds_what_was_measured_alike(monkeypatch, tmp_path):
    def remember(*words):
        arguments = [str(tmp_path), "--quick", *words]
        monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
        return speed.remember(speed.parse_arguments(arguments))

    with pytest.raises(SystemExit, match="nothing was measured here"):
        remember("--parts")
    first = remember("--threads", "1", "--parts", "sizes")
    assert remember("--threads", "7", "--precision", "bf16", "--parts") == first
    both = remember("--threads", "1", "--limit_s", "9", "--parts", "memory")
    assert both["commands"][0] == first["commands"][0]
    assert "--parts memory" in both["commands"][1]
    with pytest.raises(SystemExit, match="machine.*threads: 1.*another folder"):
        remember("--threads", "2")
    with pytest.raises(SystemExit, match="precision"):
        remember("--threads", "1", "--precision", "bf16")


def test_what_takes_too_long_is_marked(monkeypatch):
    def dawdle(*_):
        return lambda mixture: [torch.ones(1) + 1 for _ in iter(int, 1)]

    monkeypatch.setattr(measure, "prepare", dawdle)
    found = measure.measure(call("first"), {**JOB, "limit_s": 0.2})
    assert found == {"mark": "time"}


def test_what_fails_is_marked(monkeypatch, capfd):
    def fail(*_):
        raise ValueError("does not work")

    monkeypatch.setattr(measure, "prepare", fail)
    assert measure.measure(call("first"), JOB) == {"mark": "failed"}
    assert "does not work" in capfd.readouterr().err


def test_a_training_step_changes_all_parameters():
    modules = build("s4m-tiny", speed.SMALL)
    before = [p.clone() for m in modules.values() for p in m.parameters()]
    measure.training_step(modules)(torch.randn(1, 800))
    after = [p for m in modules.values() for p in m.parameters()]
    assert not any(map(torch.equal, before, after))


def times(runs, times_s):
    return {"kind": "times", "runs": runs, "times_s": times_s}


def test_ratios_are_those_within_a_turn():
    runs = [call("call", model, 4.0) for model in ("s4m-tiny", "twin")]
    # The machine is ten times slower in the second turn.
    rows = speed_table.collect_rows([times(runs, [[1, 10, 2], [3, 30, 7]])])
    tiny, twin = rows
    assert twin["time_s"] == 7 and twin["real_time_factor"] == 7 / 4
    assert twin["time_to_s4m_tiny"] == 3
    assert tiny["time_to_twin"] == pytest.approx(1 / 3)


def test_batches_are_compared_by_the_audio_that_they_get_through():
    part = "training, batches of 8"
    runs = [
        call("call", model, 4.0, "training", batch_size=8)
        for model in ("s4m-tiny", "twin")
    ]
    alone = call("call", "s4m-tiny", 4.0, "training")
    assert measure.draw_signal(runs[0], JOB).shape == (8, 32000)
    old = {k: v for k, v in alone.items() if k != "batch_size"}
    assert speed.key(old) == speed.key(alone) != speed.key(runs[0])
    full = {**runs[1], "kind": "memory", "mark": "memory"}
    rows = speed_table.collect_rows(
        [times(runs[:1], [[2.0]]), times([alone], [[0.5]]), full]
    )
    found = [(row["part"], row.get("audio_s_per_s")) for row in rows]
    assert found == [("training", 8.0), (part, 16.0), (part, None)]
    targets = speed_table.check_targets(rows, (4.0, 300.0), 4.0, 1.0)
    text = speed_table.markdown(rows, targets, 4.0, 4.0, "Caption.")
    assert f"| S4M-tiny | {part} | 16.0 | - |" in text
    assert f"{part} | no memory | no memory |" in text


def test_targets():
    plain, checkpointed = "training", "training, checkpointed"
    tiny = [
        call("call", "s4m-tiny", 4.0, part)
        for part in ("", plain, checkpointed)
    ]
    twin = [call("call", "twin", 4.0, part) for part in ("", plain)]
    long = call("call", "s4m-tiny", 300.0)
    gib = 2**30
    cases = [
        times([tiny[0], twin[0]], [[1.0], [3.0]]),
        # The machine is ten times slower in the second turn.
        times(
            [tiny[1], tiny[2], twin[1]],
            [[2.0, 20.0, 2.0], [3.0, 30.0, 9.0], [3.9, 39.0, 3.9]],
        ),
        times([long], [[75.0]]),
        {**tiny[2], "kind": "memory", "peak_bytes": gib},
        {**twin[1], "kind": "memory", "peak_bytes": 9 * gib},
        {**tiny[0], "kind": "memory", "peak_bytes": gib},
        {**long, "kind": "memory", "mark": "memory"},
    ]
    rows = speed_table.collect_rows(cases)
    targets = speed_table.check_targets(rows, (4.0, 300.0), 4.0, 1.0)
    values = [value for _, _, value, _ in targets]
    expected = [3.0, math.nan, 1.95, 9.0, 1.5, 1.0, math.nan, 1.0]
    assert values == pytest.approx(expected, nan_ok=True)
    verdicts = [verdict for *_, verdict in targets]
    assert verdicts == "pass - miss pass miss pass - pass".split()
    text = speed_table.markdown(rows, targets, 4.0, 4.0, "Caption.")
    assert "| 75 | no memory |" in text
    assert "| >= 2 | 1.95 | miss |" in text


# ------------------------------------------------------------------- runs


def test_run_to_its_table(tmp_path):
    models = ["s4m-tiny", "twin", "dprnn"]
    words = [tmp_path, "--quick", "--threads", 1, "--models", *models]
    words += ["--batch_sizes", 1, 2]
    words += ["--parts", "sizes", "memory", "inference", "training"]
    printed = subprocess.run(
        [sys.executable, str(SPEED), *map(str, words)],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout == (tmp_path / "speed.md").read_text() + "\n"
    with open(tmp_path / "speed.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == sorted(
        ["s4m-tiny"] * 6 + ["twin"] * 4 + ["dprnn"] * 4,
        key=list(ROWS).index,
    )
    for row in rows:
        assert row["mark"] == "" and float(row["time_s"]) > 0
        assert 0 <= float(row["peak_memory_gib"]) < 1
        assert float(row["parameters_m"]) > 0
        assert float(row["time_to_s4m_tiny"]) > 0
    assert (tmp_path / "speed.png").stat().st_size > 10_000
    first = json.loads((tmp_path / "first.json").read_text())
    assert all(found["first_s"] > 0 for found in first)


# ----------------------------------------------------------------- README


def test_commands_in_the_readme_are_understood():
    text = (BENCHMARKS / "README.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [
        shlex.split(line, comments=True)[2:]
        for line in lines
        if line.startswith("python benchmarks/speed.py")
    ]
    assert len(commands) >= 2
    for words in commands:
        speed.parse_arguments(words)


def test_every_row_has_its_network():
    for about in ROWS.values():
        assert (networks.FOLDER / about["network"]).is_file()
    assert speed_networks.ROWS.keys() >= {"s4m-tiny", "twin", "sepformer"}
