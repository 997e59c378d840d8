"""Every part of the network keeps the contract; see `contract.py`."""

import importlib
import inspect

import contract
import pytest
import torch
from contract import Part, check_contract
from source import is_public, modules

from s4m_sb.network.filterbank import Decoder, Encoder
from s4m_sb.network.fused.deferred import Deferred
from s4m_sb.network.fused.depthwise import DepthwiseConv
from s4m_sb.network.fusion import Fusion, NormedConv
from s4m_sb.network.masknet import Rejoin, S4MMaskNet
from s4m_sb.network.multiscale import MultiScaleBlock
from s4m_sb.network.norm import GlobalNorm
from s4m_sb.network.s4 import FeedForwardBlock, S4Block, S4Layer

# They have no signal: `S4Layer` convolves with what they give.
KERNELS = {"SSMKernel", "S4Kernel", "S4DKernel"}
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


def waiting(module, **values):
    """A part that takes and gives a `Deferred`."""

    def told(x, lengths):
        return module(Deferred(x, masks(lengths, x.shape[1]))).read()

    return Part(
        module,
        "BLC > BLC",
        4,
        run=lambda x: module(Deferred(x)).read(),
        told=told,
        behind=LARGE,
        **values,
    )


def halved(length):
    return -(-length // 2)


def fusion(kernel_size):
    """A fusion of a signal with means over two of its frames."""
    module = Fusion(4, kernel_size)

    def run(x, mask=None):
        coarse = x if mask is None else x * mask
        coarse = Deferred(
            coarse.unflatten(1, (-1, 2)).mean(2),
            None if mask is None else mask[:, ::2],
        )
        return module(Deferred(x, mask), coarse).read()

    return Part(
        module,
        "BLC > BLC",
        4,
        run=run,
        told=lambda x, n: run(x, masks(n, x.shape[1])),
        behind=LARGE,
        multiple=2,
    )


def block(**values):
    module = MultiScaleBlock(4, 6, 3, d_state=4, **values)

    def run(x, mask=None):
        return module(x, module.spectra(x.shape[1]), mask)

    return Part(
        module,
        "BLC > BLC",
        4,
        run=run,
        told=lambda x, n: run(x, masks(n, x.shape[1])),
        behind=LARGE,
        multiple=module.coarsest_stride,
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
    "GlobalNorm": lambda: waiting(GlobalNorm(4)),
    "DepthwiseConv": lambda: waiting(DepthwiseConv(4, 5)),
    "DepthwiseConv, padded on the left": lambda: waiting(
        DepthwiseConv(4, 5, stride=2, padding="left"), length_out=halved
    ),
    "DepthwiseConv, one tap": lambda: waiting(DepthwiseConv(4, 1)),
    "NormedConv": lambda: waiting(
        NormedConv(4, 5, stride=2, bias=True), length_out=halved
    ),
    "Fusion": lambda: fusion(5),
    "Fusion, one tap": lambda: fusion(1),
    "MultiScaleBlock": block,
    "MultiScaleBlock, S4 per scale": lambda: block(s4_per_scale=True),
    "MultiScaleBlock, published": lambda: block(topdown_start="published"),
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
    assert found - checked - KERNELS == set()
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
