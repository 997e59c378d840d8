"""What is computed again gives the gradients of what is kept."""

import gc
import weakref

import pytest
import torch
from torch import nn

from s4m_sb.network.fused.recompute import recomputed


def network():
    return nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 3)).double()


def test_gradients_of_inputs_and_parameters():
    net, x = network(), torch.randn(4, 3, dtype=torch.float64)
    found = []
    for again in (False, True):
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()

        def run(a, nothing, b):
            assert nothing is None
            return net(net(a) + b)

        y = (
            recomputed(run, [a, None, b], list(net.parameters()))
            if again
            else run(a, None, b)
        )
        found.append(
            [y, *torch.autograd.grad(y.sum(), [a, b, *net.parameters()])]
        )
    for kept, ours in zip(*found, strict=True):
        assert torch.equal(kept, ours)


def test_inputs_without_gradients():
    net, x = network(), torch.randn(4, 3, dtype=torch.float64)
    y = recomputed(net, [x], list(net.parameters()))
    y.sum().backward()
    assert x.grad is None
    assert all(p.grad is not None for p in net.parameters())


def test_a_parameter_that_is_not_used_has_no_gradient():
    net, x = network(), torch.randn(4, 3, dtype=torch.float64)
    unused = torch.zeros(1, requires_grad=True)
    recomputed(net, [x], [*net.parameters(), unused]).sum().backward()
    assert unused.grad is None


def test_nothing_inside_is_kept():
    net, x = network(), torch.randn(4, 3, dtype=torch.float64)
    inside = []

    def run(x):
        h = net[:2](x)
        inside.append(weakref.ref(h))
        return net[2](h)

    y = recomputed(run, [x], list(net.parameters()))
    gc.collect()
    assert inside[0]() is None
    y.sum().backward()
    assert len(inside) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_second_time_has_the_precision_of_the_first(dtype):
    net, x = network().float(), torch.randn(4, 3)
    dtypes = []

    def run(x):
        y = net(x)
        dtypes.append(y.dtype)
        return y

    with torch.autocast("cpu", dtype):
        y = recomputed(run, [x], list(net.parameters()))
    y.float().sum().backward()
    assert dtypes == [dtype, dtype]
