"""What a model may build is there, and is a network."""

import pydoc
from functools import partial

import pytest
from speechbrain.lobes.models import dual_path, resepformer
from speechbrain.nnet import RNN
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import nn

from s4m_sb.pretrained.allowed import CLASSES, NAMES, PRETRAINER, may_build


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
