"""The networks that are compared: their YAMLs, sizes and operations.

Above this file: `quality.py`, `train_model.py`. Below it: `networks/`.
"""

import math
from pathlib import Path

import torch
import yaml
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import s4m_sb.network.masknet  # noqa: F401  # makes the operator known
from s4m_sb.network.separate import separate

FOLDER = Path(__file__).resolve().parent / "networks"
MODELS = yaml.safe_load((FOLDER / "models.yaml").read_text("utf-8"))
SIZES = ("reduced", "published")


def network_yaml(model: str) -> str:
    """HyperPyYAML of a network at its published size.

    Arguments
    ---------
    model : str
        A key of ``MODELS``.

    Returns
    -------
    str
        ``Encoder``, ``MaskNet`` and ``Decoder``, the sizes on which they
        depend, ``lr``; it refers to ``num_spks``.
    """
    return (FOLDER / MODELS[model]["network"]).read_text("utf-8")


def count_parameters(modules: dict[str, nn.Module]) -> int:
    """Trainable parameters of encoder, masknet and decoder."""
    return sum(
        parameter.numel()
        for module in modules.values()
        for parameter in module.parameters()
        if parameter.requires_grad
    )


@torch.no_grad()
def count_macs(modules: dict[str, nn.Module], num_samples: int) -> float:
    """Multiply-accumulate operations that separate a mixture.

    Those of convolutions and matrix products, as PyTorch sees them. Not
    counted: Fourier transforms, norms, activations and whatever else works
    element by element.

    Arguments
    ---------
    modules : dict[str, nn.Module]
        ``encoder``, ``masknet`` and ``decoder``, on the CPU.
    num_samples : int
        Length of the mixture.

    Returns
    -------
    float
        The number of operations.
    """
    # Products inside of fused kernels are not seen: attention's fast path is
    # left, oneDNN's LSTM is counted by its weights, and S4M's compiled
    # convolution by what it gives.
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten.mkldnn_rnn_layer: _recurrence_flops,
            torch.ops.s4m_sb.conv: _convolution_flops,
        },
    )
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            separate(torch.zeros(1, num_samples), None, **modules)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
    return counter.get_total_flops() / 2


def _recurrence_flops(x, input_weight, hidden_weight, *args, **kwargs) -> int:
    """Those of one direction of a layer, from the shapes of its arguments."""
    num_steps, batch_size, _ = x
    weights = math.prod(input_weight) + math.prod(hidden_weight)
    return 2 * num_steps * batch_size * weights


def _convolution_flops(
    signal, scale, shift, slope, valid, weight, *args, out_shape=None, **kwargs
) -> int:
    """Those of a depthwise convolution, from the shapes of its arguments."""
    assert out_shape is not None
    return 2 * math.prod(out_shape[0]) * weight[-1]
