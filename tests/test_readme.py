"""What the READMEs tell people to type works as it stands there."""

import re
import shlex

import pytest
import torch
import yaml
from hyperpyyaml import load_hyperpyyaml
from recipe_runs import RECIPES, REPOSITORY, WHAM, WSJ0MIX

from s4m_sb.commands.main import _parser
from s4m_sb.pretrained.shipped import SHIPPED_MODELS

PACKAGE = REPOSITORY / "s4m_sb"
READMES = (
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *(recipe / "README.md" for recipe in RECIPES),
    *sorted(SHIPPED_MODELS.glob("*/README.md")),
    REPOSITORY / "benchmarks" / "README.md",
    REPOSITORY / "examples" / "README.md",
)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """A YAML that is built makes its output folder."""
    monkeypatch.chdir(tmp_path)


def blocks(language):
    """The code blocks of all READMEs in a language."""
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        yield from re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(program):
    """Every shell command that starts with a program, as words."""
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.replace("-m s4m_sb", "s4m"), comments=True)
            if program in words[:4]:
                yield tuple(words[words.index(program) + 1 :])


@pytest.mark.parametrize("words", sorted(set(commands("s4m"))), ids=" ".join)
def test_s4m_commands_are_understood(words):
    _parser()[0].parse_args(words)  # exits on an unknown option


@pytest.mark.parametrize(
    "words", sorted(set(commands("train.py"))), ids=" ".join
)
def test_training_commands_name_files_and_keys_that_are_there(words):
    (path,) = (r / words[0] for r in RECIPES if (r / words[0]).is_file())
    text = path.read_text(encoding="utf-8")
    given = dict(zip(words[1::2], words[2::2], strict=False))
    given.pop("...", None)
    overrides = {
        key.removeprefix("--"): yaml.safe_load(value)
        for key, value in given.items()
        if key not in ("--distributed_backend", "--device")
    }
    overrides.setdefault("data_folder", "/data")
    for key in ("base_folder_dm", "noise_folder_dm"):
        if f"{key}: !PLACEHOLDER" in text:
            overrides.setdefault(key, "/data")
    # HyperPyYAML refuses a key that the YAML does not have.
    hparams = load_hyperpyyaml(text, overrides)
    assert hparams["MaskNet"].num_spks == overrides.get("num_spks", 2)


@pytest.mark.parametrize(
    "recipe, name", [(WSJ0MIX, "s4m-tiny"), (WHAM, "s4m-whamr-tiny")]
)
def test_keys_named_in_a_recipe_exist(recipe, name):
    text = (recipe / "README.md").read_text(encoding="utf-8")
    yaml_text = (recipe / f"hparams/{name}.yaml").read_text(encoding="utf-8")
    named = re.findall(r"`--(\w+)\s(?!cpu|gloo)", text)
    named += re.findall(r"(?m)^\| `(\w+)` \|", text)  # in tables
    assert len(named) >= 5
    for key in named:
        assert re.search(rf"(?m)^{key}:", yaml_text), key


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_yamls_are_listed_with_their_sizes(recipe):
    text = (recipe / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `([\w-]+\.yaml)` .*\| ([\d.]+) M \|", text)
    yamls = sorted(path.name for path in (recipe / "hparams").iterdir())
    assert sorted(name for name, _ in rows) == yamls
    for name, millions in rows:
        head = (recipe / "hparams" / name).read_text(encoding="utf-8")
        (stated,) = re.findall(r"\(([\d.]+) M parameters", head)
        assert float(millions) == pytest.approx(float(stated), abs=0.051)


def test_python_blocks_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    package = REPOSITORY / "s4m_sb"
    (tmp_path / "s4m_sb").symlink_to(package)
    example = package / "examples" / "two_talkers.wav"
    (tmp_path / "mixture.wav").symlink_to(example)
    for block in blocks("python"):
        scope = {"mixtures": torch.randn(2, 800)}
        exec(compile(block, "README.md", "exec"), scope)
        B, _, S = scope["voices"].shape
        assert (B, S) in ((1, 2), (2, 2))


def test_yaml_blocks_build_a_drop_in_mask_network():
    (block,) = blocks("yaml")
    masknet = load_hyperpyyaml(block)["MaskNet"]
    assert masknet(torch.randn(1, 256, 50)).shape == (2, 1, 256, 50)


@pytest.mark.parametrize(
    "readme", READMES, ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_paths_named_in_a_readme_exist(readme):
    text = readme.read_text(encoding="utf-8")
    for path in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
        assert (readme.parent / path).exists(), path
    # From the top of the repository or of the package.
    rooms = [path.name for path in PACKAGE.iterdir() if path.is_dir()]
    folders = "|".join(["recipes", "s4m_sb", "benchmarks", "tests", *rooms])
    for path in re.findall(rf"`((?:{folders})/[^`*{{<\s]*)`", text):
        places = (readme.parent, REPOSITORY, PACKAGE)
        assert any((place / path).exists() for place in places), path
