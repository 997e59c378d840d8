"""Every part of the network keeps the contract; see `contract.py`."""

import importlib
import inspect

import contract
import pytest
import torch
from contract import Part, check_contract
from source import is_public, modules

from s4m_sb.network.filterbank import Decoder, Encoder
from s4m_sb.network.masknet import Rejoin, S4MMaskNet
from s4m_sb.network.s4 import FeedForwardBlock, S4Block, S4Layer

# They have no signal: `S4Layer` convolves with what they give.
KERNELS = {"SSMKernel", "S4Kernel", "S4DKernel"}
UNDER_WORK = {"DepthwiseConv", "NormedConv", "Fusion", "MultiScaleBlock"}
UNDER_WORK |= {"GlobalNorm"}
LARGE = 1e3  # as noise behind the end of an item, where NaN has been replaced


def masks(lengths, length):
    """1 for the frames that count, ``[B, L, 1]``."""
    return (torch.arange(length) < lengths[:, None]).double()[..., None]


def s4_layer(**values):
    return Part(S4Layer(4, d_state=4, **values), "BLC > BLC", 4)


def s4_block():
    block = S4Block(4, d_state=4)
    return Part(
        block,
        "BLC > BLC",
        4,
        told=lambda x, n: block(x, mask=masks(n, x.shape[1])),
        behind=LARGE,
    )


def encoder(kernel_size, stride):
    module = Encoder(3, kernel_size, stride)
    return Part(
        module,
        "BT > BFL",
        3,
        length_out=lambda n: -(-(n + kernel_size - stride) // stride),
    )


def decoder(kernel_size, stride):
    module = Decoder(3, kernel_size, stride)
    return Part(
        module, "BFL > BT", 3, length_out=lambda length: length * stride
    )


def masknet(**values):
    module = S4MMaskNet(
        num_filters=3,
        d_model=4,
        d_hidden=6,
        d_state=4,
        **{"num_scales": 3, "num_repeats": 2, **values},
    )
    return Part(module, "BFL > SBFL", 3, told=module)


PARTS = {
    "S4Layer": s4_layer,
    "S4Layer, causal": lambda: s4_layer(bidirectional=False),
    "S4Layer, diagonal": lambda: s4_layer(kernel="s4d"),
    "S4Layer, causal and diagonal": lambda: s4_layer(
        bidirectional=False, kernel="s4d"
    ),
    "S4Block": s4_block,
    "FeedForwardBlock": lambda: Part(FeedForwardBlock(4), "BLC > BLC", 4),
    "Encoder": lambda: encoder(16, 4),
    "Encoder, uneven": lambda: encoder(7, 3),
    "Decoder": lambda: decoder(16, 4),
    "Decoder, uneven": lambda: decoder(7, 3),
    "Rejoin": lambda: Part(Rejoin(4), "BLC > BLC", 4),
    "S4MMaskNet": masknet,
    "S4MMaskNet, three speakers": lambda: masknet(num_spks=3),
    "S4MMaskNet, one scale": lambda: masknet(num_scales=1),
    "S4MMaskNet, S4 per scale": lambda: masknet(s4_per_scale=True),
    "S4MMaskNet, checkpointed": lambda: masknet(checkpoint_repeats=True),
    "S4MMaskNet, published": lambda: masknet(
        num_scales=4, topdown_start="published"
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_keeps_the_contract(name):
    check_contract(PARTS[name]())


def test_every_part_is_there():
    found = set()
    for name in modules():
        if name.startswith("network."):
            place = f"s4m_sb.{name}"
            for key, value in vars(importlib.import_module(place)).items():
                if (
                    inspect.isclass(value)
                    and issubclass(value, torch.nn.Module)
                    and value.__module__ == place
                    and is_public(key)
                ):
                    found.add(key)
    checked = {name.split(",")[0] for name in PARTS}
    assert found - checked - KERNELS - UNDER_WORK == set()
    assert checked - found == set()


# Parts that break a promise each.


class Mean(torch.nn.Module):
    """A part that takes all frames of all items together."""

    def forward(self, x):
        return x - x.mean()


class Padded(torch.nn.Module):
    """A part that does not listen to what it is told."""

    def forward(self, x):
        return x - x.mean(1, keepdim=True)


class Forgetful(torch.nn.Module):
    """A part whose steps know nothing of the frames before."""

    def forward(self, x):
        return x.cumsum(1)

    def initial_state(self, batch_size):
        return None

    def step(self, x, state):
        return x.cumsum(1), state


class Detached(torch.nn.Module):
    """A part whose gradient is half of what it should be."""

    def forward(self, x):
        return 0.5 * x + 0.5 * x.detach()


class Short(torch.nn.Module):
    """A part that loses a frame of all but the shortest inputs."""

    def forward(self, x):
        return x[:, : max(1, x.shape[1] - 1)]


@pytest.mark.parametrize(
    "broken, check",
    [
        (Short, contract.check_lengths),
        (Mean, contract.check_items),
        (Padded, contract.check_padding),
        (Detached, contract.check_gradients),
        (Forgetful, contract.check_steps),
    ],
)
def test_a_broken_part_is_found(broken, check):
    module = broken()
    told = lambda x, n: module(x)  # noqa: E731
    part = Part(module, "BLC > BLC", 4, told=told, behind=LARGE)
    with pytest.raises(AssertionError):
        check(part)


def test_a_part_that_keeps_it_is_not_found():
    class Sums(Forgetful):
        def initial_state(self, batch_size):
            return torch.zeros(batch_size, 1, 4, dtype=torch.float64)

        def step(self, x, state):
            y = x.cumsum(1) + state
            return y, torch.cat([state, y], 1)[:, -1:]

    assert contract.LENGTHS[0] == 1
    check_contract(Part(Sums(), "BLC > BLC", 4))
