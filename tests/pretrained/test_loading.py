"""Whoever made a model, loading it runs and reads nothing of theirs.

What a test proves harmless is loaded by those who trust it at the end, which
shows that it would have done harm.
"""

import configparser
import contextlib
import functools
import http.server
import os
import pickle
import re
import shutil
import tempfile
import threading
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
import torch
from packaging.requirements import Requirement
from small_model import NETWORK, SEPFORMER, train, write_model
from speechbrain.inference.separation import SepformerSeparation
from speechbrain.utils import fetching
from speechbrain.utils.checkpoints import Checkpointer
from torch import nn

from s4m_sb.commands.main import main
from s4m_sb.errors import InputError
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.levels import bring_to_level
from s4m_sb.pretrained import model as models
from s4m_sb.pretrained.loading import load_parameters
from s4m_sb.pretrained.model import load_pretrained
from s4m_sb.training.export import export_model

EXAMPLE = (
    Path(__file__).resolve().parents[2] / "s4m_sb/examples/two_talkers.wav"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "s4m": write_model(folder / "s4m"),
        "sepformer": write_model(folder / "sepformer", SEPFORMER),
    }


@pytest.fixture
def copy(folders, tmp_path, monkeypatch):
    """A model folder that a test may turn evil, beside where Python runs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return shutil.copytree(folders["s4m"], tmp_path / "copy")


def edit(folder, old="", new="", end=""):
    path = folder / "hyperparams.yaml"
    text = path.read_text()
    assert old in text
    path.write_text((text.replace(old, new) if old else text) + end)


def refused(source, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        S4MSeparation.from_hparams(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def works(model):
    return model.separate_batch(torch.randn(1, 900)).shape == (1, 900, 2)


def files_below(folder):
    return sorted(
        (str(path.relative_to(folder)), path.is_symlink())
        for path in folder.rglob("*")
    )


@pytest.mark.parametrize(
    "attack",
    [
        "!apply:os.system [touch mark]",
        "!apply:subprocess.run [[touch, mark]]",
        "!apply:builtins.eval [\"open('mark', 'w').close()\"]",
        "(!!python/object/apply:os.system [touch mark])",
        "!applyref:os.system [touch mark]",
    ],
)
def test_code_in_the_yaml_is_not_run(copy, attack, capsys):
    edit(copy, "num_spks: 2", f"num_spks: 2\nextra: {attack}")
    place = f"{copy}/hyperparams.yaml: line 3: "
    message = refused(copy, "is refused")
    assert message.startswith(place) and "trusted=True" in message
    command = ["separate", str(EXAMPLE), "--output", "out"]
    command += ["--model", str(copy)]
    assert main(command) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert "is refused" in printed.err and "--trust" in printed.err
    modules = S4MSeparation.from_hparams().hparams.modules
    with pytest.raises(InputError, match="line 3: .* is refused"):
        load_pretrained(copy, modules)
    assert not os.path.exists("mark")
    assert works(S4MSeparation.from_hparams(copy, trusted=True))
    assert os.path.exists("mark")
    os.remove("mark")
    assert main([*command, "--trust"]) == 0
    assert os.path.exists("mark")


def test_no_other_file_is_included(copy, tmp_path):
    (tmp_path / "here" / "outside.yaml").write_text("secret: 42")
    edit(copy, end="\nextra: !include:../here/outside.yaml\n")
    refused(copy, r"line \d+: !include:../here/outside.yaml is refused")
    model = S4MSeparation.from_hparams(copy, trusted=True)
    assert model.hparams.extra == {"secret": 42}


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("mark",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("form", ["zip", "old", "bare pickle", "inside"])
@pytest.mark.parametrize("name", ["encoder", "masknet", "decoder"])
def test_code_among_the_parameters_is_never_run(
    copy, name, form, trusted, monkeypatch
):
    # What makes PyTorch run it wherever it was not told otherwise.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = copy / f"{name}.ckpt"
    content = Bomb()
    if form == "inside":
        content = torch.load(path, weights_only=True) | {"extra": Bomb()}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form != "old")
    refused(copy, f"{name}.ckpt: is no PyTorch checkpoint", trusted=trusted)
    assert not os.path.exists("mark")
    with contextlib.suppress(Exception):
        torch.load(path, weights_only=False)
    with contextlib.suppress(Exception):
        pickle.loads(path.read_bytes())
    assert os.path.isdir("mark"), "no bomb at all: it shows nothing"


def test_code_among_the_parameters_of_a_run_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "run")
    for path in (tmp_path / "run").glob("save/CKPT*/masknet.ckpt"):
        torch.save(Bomb(), path)
    with pytest.raises(InputError, match="masknet.ckpt: is no PyTorch"):
        export_model(tmp_path / "run", tmp_path / "model", trusted=True)
    assert not os.path.exists("mark")


def test_a_training_does_not_run_what_its_checkpoint_holds(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "run", losses=(-3.0,))
    (path,) = (tmp_path / "run").glob("save/CKPT*/masknet.ckpt")
    torch.save(Bomb(), path)
    checkpointer = Checkpointer(
        tmp_path / "run" / "save", {"masknet": nn.Linear(1, 1)}
    )
    with pytest.raises(pickle.UnpicklingError):
        checkpointer.recover_if_possible()
    assert not os.path.exists("mark")


@pytest.mark.parametrize(
    "named", ["!apply:os.mkdir", "!applyref:os.mkdir", "!include:/etc/passwd"]
)
def test_code_in_the_yaml_of_a_run_is_not_run(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "run")
    edit(tmp_path / "run", "d_hidden: 16", f"d_hidden: {named} [mark]")
    yaml = tmp_path / "run" / "hyperparams.yaml"
    lines = yaml.read_text().splitlines()
    line = lines.index(f"  d_hidden: {named} [mark]") + 1
    with pytest.raises(InputError) as caught:
        export_model(tmp_path / "run", tmp_path / "model")
    message = str(caught.value)
    assert message.startswith(f"{yaml}: line {line}: {named} is refused")
    assert "--trust" in message
    assert sorted(os.listdir(tmp_path)) == ["run", "train.yaml"]


def test_a_network_of_ones_own_needs_trust(tmp_path, capsys):
    own = NETWORK.split("MaskNet:")[0] + (
        "MaskNet: !new:small_model.OwnMaskNet\n"
        "Decoder: !new:s4m_sb.network.filterbank.Decoder\n"
    )
    train(tmp_path / "run", own)
    command = ["export", str(tmp_path / "run"), str(tmp_path / "model")]
    assert main(command) == 2
    assert "OwnMaskNet is refused" in capsys.readouterr().err
    assert main([*command, "--trust"]) == 0
    refused(tmp_path / "model", "!new:small_model.OwnMaskNet is refused")
    model = S4MSeparation.from_hparams(tmp_path / "model", trusted=True)
    assert works(model)
    load_pretrained(tmp_path / "model", dict(model.mods), trusted=True)


# Where files are read and written


PRETRAINER = "pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer"


def elsewhere(tmp_path):
    """Parameters that fit, but are not the model's."""
    path = tmp_path / "here" / "masknet.ckpt"
    state = torch.load(tmp_path / "copy" / "masknet.ckpt")
    torch.save({key: value + 1 for key, value in state.items()}, path)
    return path


@pytest.mark.parametrize(
    "named",
    [
        "{tmp}/here/masknet.ckpt",
        "masknet.ckpt",
        "./masknet.ckpt",
        "../copy/../here/masknet.ckpt",
        "{tmp}/copy/../here/masknet.ckpt",
        "{tmp}/copy/link/masknet.ckpt",
        "{tmp}/copy/other.ckpt",
    ],
)
def test_parameters_are_the_models_own(copy, tmp_path, named):
    outside = elsewhere(tmp_path)
    (copy / "link").symlink_to(tmp_path / "here")
    (copy / "other.ckpt").symlink_to(outside)
    path = named.format(tmp=tmp_path)
    edit(copy, end=f"    paths:\n        masknet: {path}\n")
    # A direct link may lie in the Hub's cache, others are no files of a model.
    message = refused(copy, "is refused")
    assert f"{copy}/hyperparams.yaml: " in message
    assert "trusted=True" in message
    model = S4MSeparation.from_hparams(copy, trusted=True)
    found = dict(model.mods.masknet.state_dict())
    for key, value in torch.load(outside).items():
        assert torch.equal(found[key], value)


@pytest.mark.parametrize("named", ["{tmp}/copy/best.ckpt", "../copy/best.ckpt"])
def test_other_files_in_the_folder_are_the_models_own(copy, tmp_path, named):
    os.replace(elsewhere(tmp_path), copy / "best.ckpt")
    path = named.format(tmp=tmp_path)
    edit(copy, end=f"    paths:\n        masknet: {path}\n")
    model = S4MSeparation.from_hparams(copy)
    state = torch.load(copy / "best.ckpt")
    assert torch.equal(next(iter(state.values())), next(_states(model)))


def _states(model):
    yield from model.mods.masknet.state_dict().values()


@pytest.mark.parametrize("name", ["masknet.ckpt", "hyperparams.yaml"])
def test_links_lead_nowhere_but_into_the_hubs_cache(copy, tmp_path, name):
    outside = tmp_path / "outside"
    (copy / name).rename(outside)
    (copy / name).symlink_to(outside)
    refused(copy, f"{name}: is refused, since it lies outside")
    assert works(S4MSeparation.from_hparams(copy, trusted=True))
    blob = tmp_path / "models--a--b" / "blobs" / ("0123456789abcdef" * 4)
    blob.parent.mkdir(parents=True)
    outside.rename(blob)
    (copy / name).unlink()
    snapshot = tmp_path / "models--a--b" / "snapshots" / "1" / name
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(blob)
    (copy / name).symlink_to(snapshot)
    assert works(S4MSeparation.from_hparams(copy))


@pytest.mark.parametrize("key", ["custom_hooks", "conditions"])
def test_hooks_are_refused(copy, key):
    edit(
        copy,
        "num_spks: 2",
        "num_spks: 2\nhook: !name:torch.nn.Identity",
        end=f"    {key}:\n        masknet: !ref <hook>\n",
    )
    message = refused(copy, f"pretrainer: {key} are refused")
    assert "trusted=True" in message
    assert works(S4MSeparation.from_hparams(copy, trusted=True))


@pytest.mark.parametrize(
    "old, new, message",
    [
        (PRETRAINER, "pretrainer: !new:torch.nn.ReLU\nother:", "no Speech"),
        (PRETRAINER, "pretrainer:", "is no SpeechBrain Pretrainer"),
        ("        decoder: !ref <Decoder>", "        more: 1", "'more' is no"),
        (
            "modules:\n    encoder: !ref <Encoder>",
            "modules:\n    encoder: !name:s4m_sb.network.filterbank.Encoder",
            "'encoder' in its modules is no network",
        ),
        ("modules:\n", "modules: 3\nothers:\n", "has no 'encoder' in"),
    ],
)
def test_what_is_no_model_is_one_line(copy, old, new, message):
    edit(copy, old, new)
    refused(copy, message)


@pytest.mark.parametrize(
    "option",
    ["compile: True", "jit: True", "device: nowhere", "precision: none"],
)
def test_the_yaml_sets_no_run_options(copy, option, monkeypatch):
    compiled = []

    def compile_(module, **options):
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(torch.jit, "script", compile_)
    edit(copy, end=f"\n{option}\n")
    assert works(S4MSeparation.from_hparams(copy))
    assert compiled == []
    if option in ("compile: True", "jit: True"):
        assert works(S4MSeparation.from_hparams(copy, trusted=True))
        assert len(compiled) == 3


@pytest.mark.parametrize("network", ["s4m", "sepformer"])
@pytest.mark.parametrize("name", ["encoder", "masknet", "decoder"])
def test_no_part_stays_random(folders, tmp_path, name, network, monkeypatch):
    copy = shutil.copytree(folders[network], tmp_path / "copy")
    yaml = copy / "hyperparams.yaml"
    head, middle, loadables = yaml.read_text().partition("    loadables:")
    loadables = "".join(
        line
        for line in loadables.splitlines(keepends=True)
        if not line.strip().startswith(f"{name}:")
    )
    yaml.write_text(head + middle + loadables)
    said = f"{yaml}: the pretrainer loads no parameters into '{name}'"
    assert refused(copy, "loads no parameters") == said
    yaml.write_text(head)  # none at all
    assert "'encoder'" in refused(copy, "loads no parameters")
    warned = []
    monkeypatch.setattr(models.logger, "warning", warned.append)
    yaml.write_text(head + middle + loadables)
    assert works(S4MSeparation.from_hparams(copy, trusted=True))
    assert warned == [said]


def test_what_has_no_parameters_needs_no_loading(copy):
    edit(
        copy,
        "modules:\n",
        "modules:\n    extra: !new:torch.nn.ReLU\n",
    )
    assert works(S4MSeparation.from_hparams(copy))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sample_rate: 8000", "sample_rate: abc", "sample_rate is 'abc'; give"),
        ("sample_rate: 8000", "sample_rate: 0", "sample_rate is 0; give a wh"),
        ("sample_rate: 8000", "sample_rate: 8.5", "sample_rate is 8.5; give"),
        ("sample_rate: 8000", "sample_rate:", "sample_rate is None; give"),
        ("\nnum_spks: 2", "\nnum_spks: True", "num_spks is True; give a whole"),
        (
            "\nnum_spks: 2",
            "\nnum_spks: [2]",
            r"num_spks is \[2\]; give a whole",
        ),
        ("num_spks: !ref <num_spks>", "num_spks: 3", "num_spks is 2, but .* 3"),
        ("modules:\n", "modules:\n    extra: 1\n", "'extra' in its modules is"),
        ("modules:\n", "modules:\n    extra:\n", "'extra' in its modules is"),
    ],
)
def test_wrong_values_are_one_line(copy, old, new, message):
    if old == "\nnum_spks: 2":  # what the network is built with
        edit(copy, "num_spks: !ref <num_spks>", "num_spks: 2")
    edit(copy, old, new)
    message = f"^{re.escape(str(copy))}/hyperparams.yaml: {message}"
    refused(copy, message)
    refused(copy, message, trusted=True)


@pytest.mark.parametrize("name", ["a.b", "''", "keys", "forward", "3"])
def test_names_that_no_network_can_have_are_one_line(copy, name):
    edit(copy, "modules:\n", f"modules:\n    {name}: !new:torch.nn.ReLU\n")
    for trusted in (False, True):
        refused(copy, "in its modules is no name for a net", trusted=trusted)


class AnyPath(http.server.SimpleHTTPRequestHandler):
    """Gives the file of the last name, wherever it is asked for."""

    def log_message(self, *arguments):
        pass

    def translate_path(self, path):
        name = path.rsplit("/", 1)[-1]
        return os.path.join(self.directory, name)


@contextlib.contextmanager
def served(folder):
    handler = functools.partial(AnyPath, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/model"
        finally:
            server.shutdown()


def test_a_model_that_is_fetched_stays_in_savedir(copy, tmp_path):
    edit(
        copy,
        "num_spks: 2",
        "num_spks: 2\nsavedir: ../outside\nsave_folder: ../outside",
        end="    collect_in: ../outside\n",
    )
    with served(copy) as address:
        model = S4MSeparation.from_hparams(address, savedir="saved")
    assert works(model)
    assert sorted(os.listdir(tmp_path)) == ["copy", "here"]
    assert sorted(os.listdir()) == ["saved"]
    assert sorted(os.listdir("saved")) == [
        "decoder.ckpt",
        "encoder.ckpt",
        "hyperparams.yaml",
        "masknet.ckpt",
    ]


def test_a_model_at_a_web_address_leaves_nothing_here(
    copy, tmp_path, monkeypatch, capsys
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    command = ["separate", str(EXAMPLE), "--output", "out", "--model"]
    with served(copy) as address:
        model = S4MSeparation.from_hparams(address)
        assert main([*command, address]) == 0
        (copy / "masknet.ckpt").write_bytes(b"broken")
        refused(address, f"^{address}/masknet.ckpt: is no PyTorch")
        (copy / "masknet.ckpt").unlink()
        refused(address, f"^{address}: its parameters cannot be fetched")
        assert main([*command, address]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"s4m: error: {address}: its parameters cannot")
    assert works(model) and model.hparams.savedir is None
    assert os.listdir(tmp_path / "temporary") == []
    assert os.listdir() == ["out"]


@pytest.mark.parametrize("name", ["../../evil", "{tmp}/evil", "..", "a/b", ""])
def test_a_name_that_is_a_path_writes_nothing(copy, tmp_path, name):
    name = name.format(tmp=tmp_path)
    shutil.copy(copy / "encoder.ckpt", copy / "evil.ckpt")
    edit(
        copy,
        "        encoder: !ref <Encoder>\n        masknet",
        f"        '{name}': !ref <Encoder>\n        masknet",
    )
    before = files_below(tmp_path)
    message = refused(copy, "since it may be a path")
    assert f"{copy}/hyperparams.yaml" in message and "trusted=True" in message
    assert files_below(tmp_path) == before
    with served(copy) as address:
        refused(address, "since it may be a path", savedir="saved")
        assert os.listdir("saved") == ["hyperparams.yaml"]
        if "evil" in name:
            S4MSeparation.from_hparams(address, savedir="saved", trusted=True)
            assert (tmp_path / "evil.ckpt").exists()


def test_a_fetched_model_reads_no_local_file_and_no_other_model(copy, tmp_path):
    outside = elsewhere(tmp_path)
    with served(copy) as address:
        for path in (
            outside,
            "masknet.ckpt",
            "somebody/else/masknet.ckpt",
            f"{address}er/masknet.ckpt",
            f"{address}/..",
        ):
            shutil.rmtree("saved", ignore_errors=True)
            shutil.copy(copy / "hyperparams.yaml", tmp_path / "kept")
            edit(copy, end=f"    paths:\n        masknet: {path}\n")
            refused(address, "is not one of this model", savedir="saved")
            shutil.copy(tmp_path / "kept", copy / "hyperparams.yaml")
        shutil.rmtree("saved")
        path = f"{address}/masknet.ckpt"
        edit(copy, end=f"    paths:\n        masknet: {path}\n")
        assert works(S4MSeparation.from_hparams(address, savedir="saved"))


# What must still load


@pytest.mark.parametrize("name", ["s4m", "sepformer"])
def test_speechbrain_and_this_package_read_one_folder(folders, name, tmp_path):
    theirs = SepformerSeparation.from_hparams(
        str(folders[name]), savedir=str(tmp_path / "links")
    )
    # At the level that this package brings every mixture to.
    mix, _ = bring_to_level(torch.randn(1, 900))
    for source in (folders[name], tmp_path / "links"):
        trusted = source != folders[name]  # links, and not of the Hub
        ours = S4MSeparation.from_hparams(source, trusted=trusted)
        # 1e-5: the same float32 operations, padded by some samples
        assert torch.allclose(
            ours.separate_batch(mix), theirs.separate_batch(mix), atol=1e-5
        )


def test_shipped_and_exported_models_need_no_trust(tmp_path):
    assert works(S4MSeparation.from_hparams())
    for name, network in (("s4m", NETWORK), ("sepformer", SEPFORMER)):
        train(tmp_path / name / "run", network)
        out_dir = export_model(tmp_path / name / "run", tmp_path / name / "out")
        assert works(S4MSeparation.from_hparams(out_dir))


# A checkpoint is loaded as a whole or refused by its name


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "linear.ckpt"
    torch.save(nn.Linear(3, 2).state_dict(), path)
    return path


def test_every_parameter_is_loaded(path):
    module = nn.Linear(3, 2)
    state = load_parameters(module, path)
    assert state.keys() == module.state_dict().keys()
    for key, value in module.state_dict().items():
        assert torch.equal(value, torch.load(path)[key])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nosuch.ckpt: no such checkpoint"):
        load_parameters(nn.Linear(3, 2), tmp_path / "nosuch.ckpt")


@pytest.mark.parametrize("content", [b"", b"broken", b"no checkpoint"])
def test_what_is_no_checkpoint_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match="linear.ckpt: is no PyTorch") as e:
        load_parameters(nn.Linear(3, 2), path)
    assert "\n" not in str(e.value)


def test_a_checkpoint_that_was_cut_off_is_named(path):
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="linear.ckpt: is no PyTorch"):
        load_parameters(nn.Linear(3, 2), path)


def test_code_in_a_checkpoint_is_not_run(path):
    torch.save(nn.Linear(3, 2), path)  # a whole object, not its parameters
    with pytest.raises(InputError, match="linear.ckpt: is no PyTorch"):
        load_parameters(nn.Linear(3, 2), path)


@pytest.mark.parametrize("name", ["torch", "torchaudio"])
def test_pytorch_has_no_known_fault_in_reading_parameters(name):
    config = configparser.ConfigParser()
    config.read(Path(__file__).resolve().parents[2] / "setup.cfg")
    lines = config["options"]["install_requires"].split()
    needed = {r.name: r.specifier for r in map(Requirement, lines)}
    assert not needed[name].contains("2.9.1")  # CVE-2026-24747
    assert needed[name].contains("2.10.0")


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(4, 2),
        nn.Linear(3, 2, bias=False),
        nn.Bilinear(3, 3, 2),
        nn.PReLU(),
    ],
)
def test_parameters_that_do_not_fit_are_refused(path, module):
    with pytest.raises(InputError, match="linear.ckpt: does not fit") as e:
        load_parameters(module, path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", [3, [1, 2], torch.zeros(3)])
def test_what_is_no_state_dict_does_not_fit(path, content):
    torch.save(content, path)
    with pytest.raises(InputError, match="linear.ckpt: does not fit"):
        load_parameters(nn.Linear(3, 2), path)


def test_a_byte_that_was_changed_is_noticed(path):
    content = path.read_bytes()
    numbers = torch.load(path)["weight"].numpy().tobytes()
    place = content.index(numbers)
    path.write_bytes(content[:place] + bytes(24) + content[place + 24 :])
    assert torch.load(path)["weight"].count_nonzero() == 0  # not by PyTorch
    with pytest.raises(InputError, match="linear.ckpt: is damaged, in .*data"):
        load_parameters(nn.Linear(3, 2), path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_parameters_that_are_not_finite_are_named(path, value):
    state = nn.Linear(3, 2).state_dict()
    state["weight"][1, 2] = value
    torch.save(state, path)
    with pytest.raises(InputError, match="linear.ckpt: weight holds NaN or"):
        load_parameters(nn.Linear(3, 2), path)


def test_infinite_numbers_that_are_no_parameters_are_loaded(path):
    module = nn.Linear(3, 2)
    module.register_buffer("mask", torch.full((2,), -torch.inf))
    torch.save(module.state_dict(), path)
    assert load_parameters(module, path)["mask"].isinf().all()


def test_a_small_file_does_not_unpack_to_a_large_one(path, tmp_path):
    torch.save({"weight": torch.zeros(2, 3), "more": torch.zeros(10**7)}, path)
    packed = tmp_path / "packed.ckpt"
    with (
        zipfile.ZipFile(path) as old,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    assert packed.stat().st_size < 10**5
    assert torch.load(packed)["more"].numel() == 10**7
    for file in (path, packed):
        with pytest.raises(InputError, match="unpacks to 400.* needs 32$"):
            load_parameters(nn.Linear(3, 2), file)


def test_numbers_of_another_type_are_no_bomb(path):
    module = nn.Linear(300, 200)
    torch.save(nn.Linear(300, 200).double().state_dict(), path)
    load_parameters(module, path)


def test_a_model_here_is_read_from_its_folder_and_from_nowhere_else(
    copy, tmp_path, monkeypatch
):
    def fetch(*arguments, **options):
        raise AssertionError(f"the network was asked for {arguments}")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    monkeypatch.setattr(fetching, "download_file_hf", fetch)
    monkeypatch.chdir(tmp_path)
    copy.rename("acct")
    Path("acct", "masknet.ckpt").rename("outside.ckpt")
    refused("acct", "^acct/masknet.ckpt: no such checkpoint")
    for trusted in (False, True):
        refused("acct", "no such checkpoint", trusted=trusted)
    edit(
        Path("acct"),
        end="    paths:\n        masknet: acct/repo/masknet.ckpt\n",
    )
    refused("acct", "^acct/repo/masknet.ckpt: no such checkpoint")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sample_rate: 8000", "sample_rate: 10000000", "rate of 10000000 Hz"),
        ("sample_rate: 8000", "sample_rate: 1", "a sample rate of 1 Hz"),
        ("num_spks: 2", "num_spks: 1000000000", "num_spks is 1000000000"),
        ("d_hidden: 16", "d_hidden: 900000000", "d_hidden is 900000000"),
        (
            "num_spks: 2",
            "num_spks: 2\nn: 9\nm: !ref <n>**<n>**<n>",
            "too large",
        ),
    ],
)
def test_a_model_asks_for_no_more_than_there_is(copy, old, new, message):
    edit(copy, old, new)
    said = refused(copy, message)
    assert said.startswith(f"{copy}/hyperparams.yaml: ")


def test_networks_that_do_not_fit_one_another_are_no_model(copy):
    edit(
        copy,
        "Decoder: !new:s4m_sb.network.filterbank.Decoder",
        "Decoder: !new:s4m_sb.network.filterbank.Decoder\n    stride: 8",
    )
    said = refused(copy, "its frames are not those of its encoder")
    assert said.startswith(f"{copy}/hyperparams.yaml: ")
