"""A network within the bound is built as ever, a larger one not at all."""

import pytest
import torch
from small_model import SEPFORMER
from torch import nn

from s4m_sb.errors import InputError
from s4m_sb.network.masknet import S4MMaskNet
from s4m_sb.pretrained.memory_bound import MemoryBound
from s4m_sb.pretrained.safe_yaml import load_checked


def num_bytes(module):
    return sum(p.numel() * p.element_size() for p in module.parameters())


def test_a_network_within_it_is_what_it_was():
    torch.manual_seed(1)
    expected = S4MMaskNet(d_model=8, d_hidden=16).state_dict()
    torch.manual_seed(1)
    with MemoryBound(10**8) as bound:
        found = S4MMaskNet(d_model=8, d_hidden=16)
    for key, value in found.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert num_bytes(found) <= bound.num_bytes < 10**8


def test_parameters_count_together():
    layer = num_bytes(nn.Linear(100, 100))
    with MemoryBound(3 * layer):
        for _ in range(3):
            nn.Linear(100, 100)
        with pytest.raises(InputError, match="more than 121200 bytes"):
            nn.Linear(100, 100)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: torch.empty(n, n),
        lambda n: torch.zeros((n, n), dtype=torch.float64),
        lambda n: torch.randn([n, n]),
        lambda n: torch.full((n, n), 1.0),
        lambda n: torch.arange(n)[:, None] * torch.arange(n),
        lambda n: nn.Conv1d(n, n, 1),
        lambda n: nn.LSTM(n, n),
    ],
)
def test_nothing_is_made_that_is_larger(make):
    make(10)  # all of them can be
    with MemoryBound(2**31), pytest.raises(InputError, match="more than 2147"):
        make(10**6)  # 4 TB


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "n: 1000000000\n"
            "a: !new:s4m_sb.network.masknet.S4MMaskNet\n    num_spks: !ref <n>",
            "line 2: num_spks is 1000000000; the largest whole number",
        ),
        ("a: !new:torch.nn.Linear [1, 10000000]", "line 1: 2 is 10000000; the"),
        ("a: !name:torch.nn.Linear [1, -9999999]", "line 1: 2 is -9999999; th"),
        ("a: !new:torch.nn.Conv2d\n  kernel_size: (1, 9999999)", "kernel_size"),
        (
            "a: !new:torch.nn.Linear {in_features: 99999, out_features: 99999}",
            "a network that takes more than 4294967296 bytes",
        ),
        (
            SEPFORMER.replace("out_channels: 8", "out_channels: 400000"),
            "a network that takes more than 4294967296 bytes",
        ),
        (
            "a: !new:s4m_sb.network.masknet.S4MMaskNet\n"
            "    d_model: 100000\n    d_hidden: 100000",
            "a network that takes more than 4294967296 bytes",
        ),
    ],
)
def test_a_model_that_is_too_large_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        load_checked(text.format(num_spks=2) if "{num_spks}" in text else text)
