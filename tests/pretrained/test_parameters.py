"""A checkpoint is loaded as a whole or refused by its name."""

import configparser
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from torch import nn

from s4m_sb.errors import InputError
from s4m_sb.pretrained.parameters import load_parameters


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
