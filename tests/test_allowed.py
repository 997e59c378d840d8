"""What a model may build is there, and is a network."""

import pydoc

import pytest
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import nn

from s4m_sb.allowed import CLASSES, NAMES, PRETRAINER, may_build


@pytest.mark.parametrize("name", sorted(NAMES - {PRETRAINER}))
def test_every_name_is_a_network_where_it_is_said_to_be(name):
    found = pydoc.locate(name)  # as HyperPyYAML finds it
    assert issubclass(found, nn.Module)
    assert f"{found.__module__}.{found.__qualname__}" == name


def test_the_pretrainer_is_speechbrains():
    assert pydoc.locate(PRETRAINER) is Pretrainer


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
