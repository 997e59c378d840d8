"""The names that people and YAMLs write lead to something."""

import configparser
import importlib
import pkgutil
import re
import subprocess
import sys

import pytest
from source import REPOSITORY

import s4m_sb
from s4m_sb.inference.interface import S4MSeparation

PUBLIC = {
    "s4m_sb": "S4MSeparation __version__",
    "s4m_sb.inference": "S4MSeparation",
    "s4m_sb.metrics": "pit_si_snr_loss pit_si_snr si_snr si_snr_i",
}
YAMLS = sorted(
    path
    for folder in ("recipes", "benchmarks", "s4m_sb")
    for path in (REPOSITORY / folder).rglob("*.yaml")
)
TAG = re.compile(r"!(?:new|name|apply|applyref|module):([\w.]+)")


@pytest.mark.parametrize(
    "module, name",
    [(module, name) for module in PUBLIC for name in PUBLIC[module].split()],
)
def test_short_names_stay(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_the_interface_is_loaded_when_it_is_asked_for():
    assert "S4MSeparation" in dir(s4m_sb)
    assert s4m_sb.S4MSeparation is S4MSeparation
    with pytest.raises(AttributeError, match="has no attribute 'S5M'"):
        s4m_sb.S5M  # noqa: B018


def test_the_package_runs_as_a_program():
    result = subprocess.run(
        [sys.executable, "-m", "s4m_sb", "--version"],
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert s4m_sb.__version__ in result.stdout


def test_the_command_is_an_entry_point():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    text = config["options.entry_points"]["console_scripts"]
    (line,) = text.strip().splitlines()
    command, target = line.split(" = ")
    assert command == "s4m"
    assert callable(pkgutil.resolve_name(target))


def resolve(name):
    """What HyperPyYAML finds by a dotted name, or an error."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(
    "path", YAMLS, ids=lambda path: f"{path.parent.parent.name}/{path.name}"
)
def test_names_in_a_yaml_lead_to_something(path, monkeypatch):
    # The scripts of `benchmarks/` find what lies beside them.
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    missing = []
    for name in sorted(set(TAG.findall(path.read_text(encoding="utf-8")))):
        try:
            found = resolve(name)
        except (ImportError, AttributeError) as error:
            missing.append(f"{name}: {error}")
        else:
            assert callable(found), name
    assert missing == []


def test_every_folder_has_yamls_that_name_something():
    for folder in ("recipes", "benchmarks", "s4m_sb"):
        text = "".join(
            path.read_text(encoding="utf-8")
            for path in YAMLS
            if path.is_relative_to(REPOSITORY / folder)
        )
        assert "s4m_sb.network.masknet.S4MMaskNet" in TAG.findall(text)
