"""The pull request for SpeechBrain: made of this repository, and it passes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import speechbrain.lobes.models
from hyperpyyaml import load_hyperpyyaml
from plain_network import KIT, load
from speechbrain_checkout import needs_speechbrain

make_pr = load("make_pr")
REPOSITORY = KIT.parents[1]
YAMLS = sorted(make_pr.YAMLS)
# What is SpeechBrain's own in a YAML, and said so in make_pr.py.
OWN_VALUES = {"base_folder_dm", "train_data", "valid_data", "test_data"}
NUMBERS = (bool, int, float, str, list, dict)


@pytest.fixture
def plain_names(monkeypatch):
    """`speechbrain.lobes.models.s4m`, as after the pull request."""
    path = [*speechbrain.lobes.models.__path__, str(KIT)]
    monkeypatch.setattr(speechbrain.lobes.models, "__path__", path)


def values(text, **overrides):
    """What a YAML gives."""
    return load_hyperpyyaml(text, {"data_folder": "/data", **overrides})


@pytest.mark.parametrize("path", YAMLS)
def test_shared_keys_have_equal_values(
    path, plain_names, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    theirs = make_pr.derive(path)
    own = {"rir_path": "/rirs"} if "rir_path:" in theirs else {}
    theirs = values(theirs, **own)
    ours = values((REPOSITORY / path).read_text(encoding="utf-8"))
    shared = theirs.keys() & ours.keys() - OWN_VALUES
    assert theirs.keys() - shared - OWN_VALUES == own.keys()
    for key in shared:
        if isinstance(ours[key], NUMBERS) and key not in (
            "modules",
            "__set_seed",
        ):
            assert theirs[key] == ours[key], key
    for name, module in ours["modules"].items():
        theirs["modules"][name].load_state_dict(
            module.state_dict(), strict=True
        )
    assert theirs["MaskNet"].num_repeats == ours["MaskNet"].num_repeats
    assert theirs["MaskNet"].block.coarsest_stride == (
        ours["MaskNet"].block.coarsest_stride
    )
    assert theirs["Encoder"].stride == (ours["Encoder"].stride,)
    assert theirs["Decoder"].stride == (ours["Decoder"].stride,)


@pytest.mark.parametrize("path", YAMLS)
def test_nothing_of_the_package_is_left(path):
    text = make_pr.derive(path)
    assert "s4m_sb" not in text and "s4m mix" not in text
    top = {key for key, _, _ in make_pr.blocks(text)}
    assert not top & make_pr.DROPPED


def test_dropped_keys_are_keys_of_ours():
    """A key that is gone here is gone there."""
    found = {
        key
        for path in YAMLS
        for key, _, _ in make_pr.blocks((REPOSITORY / path).read_text("utf-8"))
    }
    assert make_pr.DROPPED - found == set()


def test_the_command_of_the_note_is_understood(monkeypatch):
    """That which measures the time of the plain network."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import speed

    note = (KIT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"python benchmarks/speed.py (.*?)```", note, re.S)
    arguments = speed.parse_arguments(command.replace("\\\n", " ").split())
    assert {"plain", "plain-tiny"} < set(arguments.models)


def run(*words):
    return subprocess.run(
        [sys.executable, str(KIT / "make_pr.py"), *map(str, words)],
        capture_output=True,
        text=True,
    )


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    result = run(tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"{tmp_path}: is no checkout of SpeechBrain\n"


def make(checkout, *flags):
    """Makes it, and gives the Python files and the YAMLs that it has."""
    checkout.run("python", str(KIT / "make_pr.py"), ".", *flags)
    names = checkout.git("diff", "--name-only", "base").split()
    return [
        [name for name in names if name.endswith(end)]
        for end in (".py", ".yaml")
    ]


@needs_speechbrain
def test_its_checks_pass(checkout):
    scripts, yamls = make(checkout)
    assert yamls == YAMLS
    assert checkout.git("status", "--porcelain") == ""
    checkout.run("ruff", "check", *scripts)
    checkout.run("ruff", "format", "--check", *scripts)
    checkout.run("yamllint", "--no-warnings", *yamls)
    words = "--ignore-words=.dict-speechbrain.txt"
    checkout.run("codespell", words, *scripts, *yamls)
    test = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # The check of the Hub's repositories downloads them all.
    hub = "--ignore=tests/consistency/test_HF_repo.py"
    checkout.run(*test, "tests/consistency", hub)
    checkout.run(*test, "--doctest-modules", *scripts)


@needs_speechbrain
def test_its_recipes_run(checkout):
    _, yamls = make(checkout)
    rows = f'filters_fields=["Hparam_file"], filters=[{yamls}]'
    for call in (
        f"load_yaml_test({rows})",
        f'run_recipe_tests({rows}, do_checks=True, run_opts="--device=cpu")',
    ):
        result = checkout.run(
            "python",
            "-c",
            f"import tests.utils.recipe_tests as t; assert t.{call}",
            check=False,
        )
        logs = Path(checkout.path).glob("tests/tmp/*_row_*/stderr.txt")
        said = "".join(log.read_text()[-2000:] for log in logs)
        assert result.returncode == 0, result.stderr + said


@needs_speechbrain
def test_wsj0mix_alone(checkout):
    _, yamls = make(checkout, "--wsj0mix")
    assert yamls == [path for path in YAMLS if "WSJ0Mix" in path]
    numbers = checkout.git("diff", "--numstat", "base").splitlines()
    added = sum(int(line.split()[0]) for line in numbers)
    assert added < 1250  # what somebody has to review


@needs_speechbrain
def test_changes_that_are_not_committed_are_refused(checkout):
    (checkout.path / "README.md").write_text("mine")
    result = run(checkout.path)
    assert result.returncode == 1
    assert "has changes that are not committed" in result.stderr
