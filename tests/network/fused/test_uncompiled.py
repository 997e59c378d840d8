"""What must not be compiled is not, and the compiler is not loaded for it."""

import subprocess
import sys

import torch
from torch import nn

from s4m_sb.network.fused.uncompiled import uncompiled
from s4m_sb.network.masknet import S4MMaskNet
from s4m_sb.network.s4 import S4Layer


class Sines(nn.Module):
    @uncompiled
    def inside(self, x, factor):
        return factor * x.sin()

    def forward(self, x):
        return self.inside(x.cos() + 1, factor=2).tan()


def compiled_operations(module, *inputs):
    """Names of what the compiler saw, and what the module gave."""
    seen = []

    def backend(graph, example_inputs):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(module, backend=backend)
    compiled(*inputs)
    return seen, compiled(*inputs)


def test_the_function_runs_outside_of_what_is_compiled():
    x = torch.randn(5)
    seen, y = compiled_operations(Sines(), x)
    assert {"cos", "tan"} <= set(seen) and "sin" not in seen
    assert torch.equal(y, (2 * (x.cos() + 1).sin()).tan())


def test_values_and_gradients_are_those_of_the_function():
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    found = []
    for sine in (torch.sin, uncompiled(torch.sin)):
        y = sine(x)
        found.append([y, *torch.autograd.grad(y.sum(), x)])
    for plain, ours in zip(*found, strict=True):
        assert torch.equal(plain, ours)


def test_a_compiled_layer_has_no_fourier_transform_in_it():
    layer, x = S4Layer(d_model=8, d_state=4), torch.randn(2, 50, 8)
    seen, y = compiled_operations(layer, x)
    assert seen and not any("fft" in name for name in seen)
    # 1e-6: the same float32 operations, run by the same kernels
    assert torch.allclose(y, layer(x), atol=1e-6)


def test_a_compiled_mask_network_trains_as_it_does():
    masknet = S4MMaskNet(
        num_filters=3, d_model=4, d_hidden=8, num_scales=3, num_repeats=2
    )
    features, parameters = torch.randn(2, 3, 21), list(masknet.parameters())
    gradients = []
    for masks in (
        compiled_operations(masknet, features)[1],
        masknet(features),
    ):
        gradients.append(torch.autograd.grad(masks.sum(), parameters))
    assert all(map(torch.equal, *gradients))


def test_a_model_is_loaded_and_used_without_the_compiler():
    program = (
        "import sys, torch; from s4m_sb import S4MSeparation; "
        "S4MSeparation.from_hparams().separate_batch(torch.zeros(1, 800)); "
        "print('torch._dynamo' in sys.modules, file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert result.stderr.splitlines()[-1] == "False"
