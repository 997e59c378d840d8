"""What the READMEs tell people to type works as it stands there."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from hyperpyyaml import load_hyperpyyaml

from s4m_sb.cli import _parser

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPE = REPOSITORY / "recipes/WSJ0Mix/separation"
READMES = (REPOSITORY / "README.md", RECIPE / "README.md")


def blocks(language):
    """The code blocks of all READMEs in a language."""
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        yield from re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(program):
    """Every shell command that starts with a program, as words."""
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if program in words[:3]:
                yield tuple(words[words.index(program) + 1 :])


@pytest.mark.parametrize("words", sorted(set(commands("s4m"))), ids=" ".join)
def test_s4m_commands_are_understood(words):
    _parser()[0].parse_args(words)  # exits on an unknown option


@pytest.mark.parametrize(
    "words", sorted(set(commands("train.py"))), ids=" ".join
)
def test_training_commands_name_files_and_keys_that_are_there(words):
    text = (RECIPE / words[0]).read_text(encoding="utf-8")
    given = dict(zip(words[1::2], words[2::2], strict=False))
    given.pop("...", None)
    overrides = {
        key.removeprefix("--"): yaml.safe_load(value)
        for key, value in given.items()
        if key not in ("--distributed_backend", "--device")
    }
    overrides.setdefault("data_folder", "/data")
    if "base_folder_dm: !PLACEHOLDER" in text:
        overrides.setdefault("base_folder_dm", "/data")
    # HyperPyYAML refuses a key that the YAML does not have.
    hparams = load_hyperpyyaml(text, overrides)
    assert hparams["MaskNet"].num_spks == overrides.get("num_spks", 2)


def test_options_named_in_the_recipe_exist():
    text = (RECIPE / "hparams/s4m-tiny.yaml").read_text(encoding="utf-8")
    named = re.findall(r"`--(\w+) (?!cpu|gloo)", READMES[1].read_text("utf-8"))
    assert len(named) >= 5
    for key in named:
        assert re.search(rf"(?m)^{key}:", text), key


def test_python_blocks_run(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    for block in blocks("python"):
        scope = {"mixtures": torch.randn(2, 800)}
        exec(compile(block, "README.md", "exec"), scope)
        assert scope["voices"].shape == (2, 800, 2)


def test_yaml_blocks_build_a_drop_in_mask_network():
    (block,) = blocks("yaml")
    masknet = load_hyperpyyaml(block)["MaskNet"]
    assert masknet(torch.randn(1, 256, 50)).shape == (2, 1, 256, 50)


def test_paths_named_in_the_readme_exist():
    text = READMES[0].read_text(encoding="utf-8")
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (REPOSITORY / path).exists(), path
    folders = "recipes|s4m_sb|examples|tests"
    for path in re.findall(rf"`((?:{folders})/[^`*{{]+)`", text):
        assert (REPOSITORY / path).exists(), path
