"""A YAML from anybody is loaded without doing what it says."""

import os
import pydoc
import time
from functools import partial

import pytest
import ruamel.yaml.resolver
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models import dual_path, resepformer
from speechbrain.nnet import RNN
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import nn

from s4m_sb.errors import InputError
from s4m_sb.pretrained.safe_yaml import (
    CLASSES,
    NAMES,
    PRETRAINER,
    check_part,
    load_checked,
    may_build,
    resolve_checked,
)

# Each of these makes the file in HyperPyYAML: name, YAML, line, tag.
PYTHON = "!!python/object/apply:os.system"
ATTACKS = [
    ("new", "a: !new:subprocess.Popen [[touch, mark]]", 1, "!new:subprocess"),
    ("apply", "b: 1\na: !apply:os.system [touch mark]", 2, "!apply:os.system"),
    (
        "eval",
        "a: !apply:builtins.eval [\"open('mark', 'w')\"]",
        1,
        "!apply:builtins.eval",
    ),
    ("run", "a: !apply:subprocess.run [[touch, mark]]", 1, "!apply:subprocess"),
    ("removed", "__a: !apply:os.system [touch mark]", 1, "!apply:os.system"),
    ("flow", "{a: [1, {b: !apply:os.system [touch mark]}]}", 1, "!apply:os"),
    (
        "several lines",
        "a:\n  !apply:os.system\n  - >-\n    touch\n    mark\n",
        2,
        "!apply:os.system",
    ),
    (
        "anchor",
        "a: &a !apply:os.system [touch mark]\nb: *a",
        1,
        "!apply:os.system",
    ),
    (
        "merge key",
        "a: &a\n  c: !apply:os.system [touch mark]\nb:\n  <<: *a",
        2,
        "!apply:os.system",
    ),
    (
        "copy",
        "a: !apply:os.system [touch mark]\nb: !copy <a>",
        1,
        "!apply:os.system",
    ),
    ("document", "!apply:os.system [touch mark]", 1, "!apply:os.system"),
    # What the name leads to, over modules and their attributes
    (
        "attributes",
        "a: !apply:s4m_sb.inference.interface.os.system [touch mark]",
        1,
        "!apply:s4m_sb.inference.interface.os.system",
    ),
    (
        "attributes of torch.nn",
        "a: !apply:torch.nn.modules.module.torch.os.system [touch mark]",
        1,
        "!apply:torch.nn",
    ),
    # Tags that are written otherwise
    ("verbatim", "a: !<!apply:os.system> [touch mark]", 1, "!apply:os.system"),
    (
        "directive",
        "%TAG !x! !apply:os.\n---\na: !x!system [touch mark]",
        3,
        "!apply:os.system",
    ),
    (
        "directive for !",
        "%TAG ! !apply:os.\n---\na: !system [touch mark]",
        3,
        "!apply:os.system",
    ),
    ("escaped", "a: !%61pply:os%2Esystem [touch mark]", 1, "!apply:os.system"),
    # YAML's own
    ("python", f"a: {PYTHON} [touch mark]", 1, PYTHON),
    (
        "python, verbatim",
        "a: !<tag:yaml.org,2002:python/object/apply:os.system> [touch mark]",
        1,
        PYTHON,
    ),
    (
        "python by directive",
        "%TAG !x! tag:yaml.org,2002:python/object/apply:\n---\n"
        "a: !x!os.system [touch mark]",
        3,
        PYTHON,
    ),
    ("ordered", "a: !!omap [b: !apply:os.system [touch mark]]", 1, "!!omap"),
    # Tuples are strings that are parsed when all else has been
    ("tuple", f"a: ({PYTHON} [touch mark])", 1, PYTHON),
    ("tuple of several", f"a: (2, {PYTHON} [touch mark])", 1, PYTHON),
    ("tuple, quoted", f'b: 1\na: "({PYTHON} [touch mark])"', 2, PYTHON),
    ("tuple, tagged", f'a: !tuple "x{PYTHON} [touch mark]x"', 1, PYTHON),
    ("tuple as a key", f"? ({PYTHON} ['touch mark'])\n: 1", 1, PYTHON),
    (
        "tuple by reference",
        f'a: "{PYTHON} [touch mark]"\nb: !ref (<a>)',
        2,
        PYTHON,
    ),
    (
        "tuple out of pieces",
        "a: '!!python'\nb: 'object/apply:os.system [touch mark]'\n"
        "c:\n  d: !ref (<a>/<b>)",
        4,
        PYTHON,
    ),
    # Before the second pass
    (
        "applyref",
        "a: !applyref:os.system [touch mark]",
        1,
        "!applyref:os.system",
    ),
    (
        "applyref by directive",
        "%TAG !x! !applyref:os.\n---\na: !x!system [touch mark]",
        3,
        "!applyref:os.system",
    ),
]


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """A file that an attack makes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mark"


def as_first(load, *arguments, **options):
    """Loads as if nothing had been loaded before in this process.

    HyperPyYAML tells all of ruamel.yaml of its tuples when it first loads.
    From then on, strings that look like one keep their quotes.
    """
    known = ruamel.yaml.resolver.implicit_resolvers
    known[:] = [resolver for resolver in known if resolver[1] != "!tuple"]
    return load(*arguments, **options)


def appears(path):
    for _ in range(500):
        if path.exists():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    ("text", "line", "tag"),
    [attack[1:] for attack in ATTACKS],
    ids=[attack[0] for attack in ATTACKS],
)
def test_what_runs_in_hyperpyyaml_is_refused(mark, text, line, tag):
    with pytest.raises(InputError) as caught:
        as_first(load_checked, text)
    message = str(caught.value)
    assert message.startswith(f"line {line}: {tag}")
    assert "trusted=True" in message and "\n" not in message
    time.sleep(0.05)  # for a process that was not waited for
    assert not mark.exists()
    try:
        as_first(load_hyperpyyaml, text)
    except Exception as error:  # some fail, after they have run
        print(error)
    assert appears(mark), "no attack at all: it shows nothing"


@pytest.mark.parametrize(
    ("text", "line", "tag"),
    [
        ("a: !include:/etc/passwd", 1, "!include:/etc/passwd"),
        ("a: 1\nb: !include:../x.yaml {c: 1}", 2, "!include:../x.yaml"),
        ("%TAG !x! !include:/etc/\n---\na: !x!passwd", 3, "!include:/etc"),
        ("a: !module:antigravity", 1, "!module:antigravity"),
        ("a: !name:os.system [touch x]", 1, "!name:os.system"),
        ("a: !name:torch.load", 1, "!name:torch.load"),
        ("a: !new:torch.nn.__builtins__.eval", 1, "!new:torch.nn"),
        ("a: !new:torch.nn.Parameter", 1, "!new:torch.nn.Parameter"),
        ("a: !new:torch.nn.init.torch.hub.load", 1, "!new:torch.nn"),
        ("a: !new:torch.nn.modules.module.OrderedDict", 1, "!new:torch.nn"),
        ("a: !apply:torch.nn.ReLU", 1, "!apply:torch.nn.ReLU"),
        ("a: !apply:speechbrain.utils.seed_everything [1]", 1, "!apply:speech"),
        (
            "a: !new:speechbrain.lobes.models.beats.BEATs {ckp_path: x}",
            1,
            "!new:speechbrain.lobes.models.beats.BEATs",
        ),
        ("a: !NEW:torch.nn.ReLU", 1, "!NEW:torch.nn.ReLU"),
        ("a: !new torch.nn.ReLU", 1, "!new"),
        ("a: !unknown 1", 1, "!unknown"),
        ("a: !!binary aGk=", 1, "!!binary"),
        ("? !new:torch.nn.Bilinearly\n: 1", 1, "!new:torch.nn.Bilinearly"),
        ("a: !tuple [1, 2]", 1, "!tuple"),
        # Attributes lead anywhere
        ("a: !name:torch.nn.ReLU\nb: !ref <a.forward>", 2, "!apply:getattr"),
    ],
)
def test_what_is_not_listed_is_refused(text, line, tag):
    with pytest.raises(InputError) as caught:
        load_checked(text)
    assert str(caught.value).startswith(f"line {line}: {tag}")


def test_overrides_are_checked(mark):
    attack = f"({PYTHON} [touch mark])"
    for overrides in ({"b": {"c": attack}}, f'b:\n  c: "{attack}"'):
        with pytest.raises(InputError, match=f"^line 3: {PYTHON} is refused"):
            as_first(load_checked, "a: 1\nb:\n  c: 2", overrides)
    with pytest.raises(InputError, match=f"^{PYTHON} is refused"):
        as_first(
            load_checked, "a: 1", {"new": attack}, overrides_must_match=False
        )
    with pytest.raises(InputError, match="^overrides, line 2: !apply:os"):
        load_checked("a: 1", "\na: !apply:os.system [touch mark]")
    assert not mark.exists()


def test_what_is_listed_is_loaded():
    hparams = load_checked(
        "size: 3\n"
        "shape: (2, !!int '3', [a, b])\n"
        "mixed: [1e-3, yes, 0o17, ~, '(x)']\n"
        "base: &base\n"
        "    kernel_size: !ref <size> * 2 - 1\n"
        "conv: !new:torch.nn.Conv1d\n"
        "    <<: *base\n"
        "    in_channels: 1\n"
        "    out_channels: !ref <size>\n"
        "kind: !name:torch.nn.ELU\n"
        "    alpha: 0.5\n"
        "again: !ref <conv>\n"
        "other: !copy <conv>\n"
        "file: !ref saved/<size>.wav\n"
        "__gone: 1\n"
    )
    as_hyperpyyaml = load_hyperpyyaml("shape: (2, !!int '3', [a, b])")
    assert hparams["shape"] == as_hyperpyyaml["shape"]
    assert hparams["mixed"][:4] == [0.001, "yes", 15, None]
    assert hparams["conv"].kernel_size == (5,)
    assert hparams["kind"]().alpha == 0.5
    assert hparams["again"] is hparams["conv"] is not hparams["other"]
    assert hparams["file"] == "saved/3.wav"
    assert "__gone" not in hparams


def test_a_reference_is_no_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "a: 2\nb: !ref __import__('os').mkdir('made') + <a>"
    assert load_checked(text)["b"] == "__import__('os').mkdir('made') + 2"
    assert os.listdir(tmp_path) == []


def test_a_part_is_refused_with_the_line_of_the_whole():
    part = f'a: !tuple "({PYTHON} [touch mark])"'
    with pytest.raises(InputError, match=f"^line 3: {PYTHON} is refused"):
        check_part(part, f"b: 1\nnet:\n    {part}")
    # out of pieces, which stand in no line together
    whole = f"b: '{PYTHON}'\nc: '[touch mark]'\na: !ref (<b> <c>)"
    with pytest.raises(InputError, match=f"^{PYTHON} is refused"):
        check_part(part, whole)
    check_part("a: !new:torch.nn.ReLU", f"b: {PYTHON} [touch mark]")


def test_a_training_may_name_anything_but_is_not_run(mark):
    text = "a: !apply:os.system [touch mark]\nb: (x)\nc: !ref <b>"
    assert "!apply:os.system" in resolve_checked(text)
    for tag in ("!applyref:os.system", "!include:/etc/passwd"):
        with pytest.raises(InputError, match=f"^line 2: {tag} is refused"):
            resolve_checked(f"a: 1\nb: [{tag} [touch mark]]")
    assert not mark.exists()


# What may be built is there, and is a network


@pytest.mark.parametrize("name", sorted(NAMES - {PRETRAINER}))
def test_every_name_is_a_network_where_it_is_said_to_be(name):
    found = pydoc.locate(name)  # as HyperPyYAML finds it
    assert issubclass(found, nn.Module)
    assert f"{found.__module__}.{found.__qualname__}" == name


def test_the_pretrainer_is_speechbrains():
    assert pydoc.locate(PRETRAINER) is Pretrainer


# What the rnn_type of an SBRNNBlock may name, and what calling it does.
RNN_NETWORKS = {
    "AttentionalRNNDecoder",
    "ContentBasedAttention",
    "GRU",
    "GRUCell",
    "KeyValueAttention",
    "LSTM",
    "LSTMCell",
    "LiGRU",
    "LiGRU_Layer",
    "LocationAwareAttention",
    "QuasiRNN",
    "QuasiRNNLayer",
    "RNN",
    "RNNCell",
    "SLiGRU",
    "SLiGRU_Layer",
}
NO_NETWORKS = {
    "Optional",
    "get_logger",
    "pack_padded_sequence",
    "pad_packed_sequence",
    "rnn_init",
}


def test_an_rnn_type_names_a_network_or_fails():
    found = {
        name: value for name, value in vars(RNN).items() if callable(value)
    }
    networks = {
        name
        for name, value in found.items()
        if isinstance(value, type) and issubclass(value, nn.Module)
    }
    assert networks == RNN_NETWORKS
    assert found.keys() - networks == NO_NETWORKS
    for block in (
        partial(dual_path.SBRNNBlock, 1, 1, 1),
        partial(resepformer.SBRNNBlock, 1, 1, 1, 1),
    ):
        assert isinstance(block(rnn_type="GRU"), nn.Module)
        for name in (*NO_NETWORKS, "__class__", "__init__", "__builtins__"):
            with pytest.raises(TypeError):
                block(rnn_type=name)
        with pytest.raises(AttributeError):
            block(rnn_type="torch.load")


@pytest.mark.parametrize(
    "name", ["", "torch.nn", "torch.nn.", "torch", *CLASSES, "Encoder"]
)
def test_half_a_name_is_none(name):
    assert not may_build(name)


@pytest.mark.parametrize(
    "end", [".__init__", ".forward", ".__init__.__globals__", "s", " ", "\n"]
)
def test_nothing_behind_a_name_is_found(end):
    for name in (*NAMES, "torch.nn.ReLU"):
        assert may_build(name) and not may_build(name + end)
