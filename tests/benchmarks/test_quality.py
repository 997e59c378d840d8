"""The comparison under benchmarks/: its networks, its counts, a small run."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from recipe_runs import REPOSITORY, environment
from torch import nn

from s4m_sb.commands.main import _parser
from s4m_sb.network.filterbank import Decoder, Encoder
from s4m_sb.network.s4 import S4Layer
from s4m_sb.network.separate import separate

BENCHMARKS = REPOSITORY / "benchmarks"
QUALITY = BENCHMARKS / "quality.py"
sys.path.append(str(BENCHMARKS))

import networks  # noqa: E402
import synthetic  # noqa: E402
import variants  # noqa: E402
from cost import TrainingCost  # noqa: E402

NAMES = ("Encoder", "MaskNet", "Decoder")


def build(model, size):
    """Encoder, masknet and decoder of a model."""
    loaded = load_hyperpyyaml(
        "num_spks: 2\n" + networks.network_yaml(model),
        dict(networks.MODELS[model][size]),
    )
    return {name.lower(): loaded[name] for name in NAMES}


class Recurrent(nn.Module):
    """A mask network of one LSTM and one linear layer."""

    def __init__(self, num_filters, hidden_size):
        super().__init__()
        self.lstm = nn.LSTM(
            num_filters, hidden_size, bidirectional=True, batch_first=True
        )
        self.output = nn.Linear(2 * hidden_size, num_filters)

    def forward(self, features):
        y = self.output(self.lstm(features.mT)[0])
        return y.mT.unsqueeze(0)


class Attentive(nn.Module):
    """A mask network of one transformer layer."""

    def __init__(self, num_filters, d_ffn):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            num_filters, 2, d_ffn, dropout=0, batch_first=True
        )

    def forward(self, features):
        return self.layer(features.mT).mT.unsqueeze(0)


# One filter of 8 taps every 4 samples, on 400 samples; products by hand.
F, K, L, H = 6, 8, 101, 5
FILTERBANK = 2 * L * F * K


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "masknet, products",
    [
        (Recurrent(F, H), 2 * L * 4 * H * (F + H) + L * 2 * H * F),
        (Attentive(F, H), L * (4 * F * F + 2 * F * H) + 2 * L * L * F),
    ],
    ids=["recurrent", "attentive"],
)
def test_operations_are_counted(masknet, products, training):
    modules = {
        "encoder": Encoder(F, K, 4),
        "masknet": masknet.train(training),
        "decoder": Decoder(F, K, 4),
    }
    assert networks.count_macs(modules, 400) == FILTERBANK + products


def test_s4m_tiny_is_that_of_the_recipe():
    modules = build("s4m-tiny", "published")
    # Both as in the README of the WSJ0-Mix recipe, to its last digit.
    millions = networks.count_parameters(modules) / 1e6
    assert millions == pytest.approx(1.84, abs=0.005)
    giga = networks.count_macs(modules, 8000) / 1e9
    assert giga == pytest.approx(7.9, abs=0.05)


@pytest.mark.parametrize("model", networks.MODELS)
def test_reduced_sizes_are_alike(model):
    modules = build(model, "reduced")
    assert 0.28e6 < networks.count_parameters(modules) < 0.35e6
    # One filterbank rate for all: 2 ms at 8 kHz.
    assert modules["encoder"](torch.randn(1, 8016)).shape[-1] in (500, 502)


@pytest.mark.parametrize("model", networks.MODELS)
def test_mixtures_of_a_batch_do_not_hear_each_other(model):
    modules = build(model, "reduced")
    mixture = torch.randn(2, 4000)
    together = separate(mixture, None, **modules)
    alone = separate(mixture[1:], None, **modules)
    torch.testing.assert_close(
        together[1:],
        alone,
        atol=1e-4,  # float32 through some ten layers
        rtol=1e-4,
    )


def test_itemwise_memory_changes_nothing_for_one_mixture():
    masknet = build("re-sepformer", "reduced")["masknet"]
    features = torch.randn(1, 64, 400)
    ours = masknet(features)
    masknet.model.mem_model = nn.ModuleList(
        memory.memory for memory in masknet.model.mem_model
    )
    torch.testing.assert_close(ours, masknet(features), atol=0, rtol=0)


def test_without_s4_is_s4_with_a_kernel_of_zeros():
    layer = S4Layer(d_model=8)
    x = torch.randn(2, 50, 8)
    ablated = variants.FrameByFrame(layer)(x)
    assert not torch.allclose(ablated, layer(x))
    nn.init.zeros_(layer.ssm.C)
    # float32, a transform forth and back
    torch.testing.assert_close(ablated, layer(x), atol=1e-5, rtol=0)


def test_ablations_are_those_of_the_same_network():
    full, no_s4, one_scale = (
        build(model, "reduced")["masknet"]
        for model in ("s4m-tiny", "s4m-tiny-no-s4", "s4m-tiny-one-scale")
    )
    gone = set(full.state_dict()) - set(no_s4.state_dict())
    assert {name.split(".")[3] for name in gone} == {"ssm"}
    assert isinstance(one_scale.block.global_s4.layer, S4Layer)
    assert len(one_scale.block.bottom_up) == 1
    assert len(one_scale.block.top_down) == 0


# ------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def noisy_mixtures(tmp_path_factory):
    """Half a second each, in WHAM!'s layout: noise, with speech of noise."""
    folder = tmp_path_factory.mktemp("wham")
    generator = torch.Generator().manual_seed(0)
    for split, count in {"tr": 8, "cv": 2, "tt": 3}.items():
        for index in range(count):
            signals = 0.1 * torch.randn(3, 4000, generator=generator)
            signals = dict(zip(("s1", "s2", "noise"), signals, strict=True))
            signals["mix_both"] = sum(signals.values())
            for kind, samples in signals.items():
                path = folder / "wav8k/min" / split / kind / f"{index}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples.numpy(), 8000, "FLOAT")
    return folder


def start(*arguments):
    """Starts the script as a user does."""
    return subprocess.Popen(
        [sys.executable, str(QUALITY), *map(str, arguments)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_csv(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_comparison_to_its_table_after_a_kill(noisy_mixtures, tmp_path):
    output_folder = tmp_path / "out"
    options = [noisy_mixtures, output_folder, "--models", "s4m-tiny", "skim"]
    options += ["--segment_s", "0.5", "--batch_size", "2", "--updates", "30"]
    process = start(*options)
    checkpoints = output_folder / "skim/save"
    while not list(checkpoints.glob("CKPT*/optimizer.ckpt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    printed, _ = process.communicate()
    assert "s4m-tiny: training" in printed and "skim: training" in printed

    printed, errors = start(*options).communicate()
    assert errors == ""
    # What was finished is not done again.
    assert "s4m-tiny: training" not in printed and "skim: training" in printed
    assert printed.endswith((output_folder / "quality.md").read_text() + "\n")
    assert "| S4M-tiny | " in printed and "| SkiM | " in printed
    rows = read_csv(output_folder / "quality.csv")
    assert [row["model"] for row in rows] == ["S4M-tiny", "SkiM"]
    for row in rows:
        assert row["updates"] == "30"  # none is counted twice
        assert float(row["update_processor_s"]) > 0
        assert 0.1 < float(row["peak_memory_gib"]) < 4
    summary = json.loads((output_folder / "skim/summary.json").read_text())
    assert float(rows[1]["si_snr_i_db"]) == pytest.approx(
        summary["si-snr_i"],
        abs=1e-4,  # four decimals in the results of the items
    )

    settings = json.loads((output_folder / "settings.json").read_text())
    assert settings["seed"] == 1234 and "models" not in settings


# ----------------------------------------------------------------- README


def commands(program):
    """The words behind a program in the README's shell commands."""
    text = (BENCHMARKS / "README.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        if program in words[:2]:
            yield words[words.index(program) + 1 :]


def test_commands_in_the_readme_are_understood():
    (mix,) = commands("s4m")
    _parser()[0].parse_args(mix)
    options = set(re.findall(r'add\("(\S+)"', QUALITY.read_text("utf-8")))
    comparisons = list(commands("benchmarks/quality.py"))
    assert len(comparisons) == 2
    for words in comparisons:
        assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("size", networks.SIZES)
def test_table_of_sizes_in_the_readme(size):
    text = (BENCHMARKS / "README.md").read_text("utf-8")
    column = 2 + networks.SIZES[::-1].index(size)
    for model, about in networks.MODELS.items():
        (row,) = re.findall(rf"(?m)^\| {about['name']} \|.*$", text)
        stated = float(re.search(r"([\d.]+) M", row.split("|")[column])[1])
        millions = networks.count_parameters(build(model, size)) / 1e6
        assert stated == pytest.approx(millions, rel=0.02), model


def test_an_evaluated_checkpoint_takes_no_cost_back(tmp_path):
    cost, device = TrainingCost(), torch.device("cpu")
    with cost.of_update(device):
        pass
    cost.save(tmp_path / "best")
    with cost.of_update(device):
        pass
    cost.load(tmp_path / "best", end_of_epoch=True)
    assert cost.num_updates == 2
    resumed = TrainingCost()
    resumed.load(tmp_path / "best", end_of_epoch=False)
    assert resumed.num_updates == 1 and resumed.wall_s > 0


def test_synthetic_voices_say_what_the_example_says():
    first, second = synthetic.sentences()
    assert first.startswith("Two people are talking")
    assert second.endswith("in a file of its own.")


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")
def test_a_synthetic_voice_is_at_its_level():
    signal = synthetic.speak("slt", "Hello there.", 8000)
    assert 4000 < len(signal) < 16000  # half a second to two
    # float32 sums of some thousand squares
    assert signal.square().mean().sqrt().item() == pytest.approx(0.08, rel=1e-4)
