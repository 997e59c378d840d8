"""Weights of the authors' published network, for ours.

The published code (github.com/JusperLee/S4M) trains a network of the same
function with other names and layouts. `masknet_from_published` builds our
mask network from its state dict; masks agree to float32 rounding when the
number of frames is a multiple of the coarsest stride (elsewhere the
published code pools unevenly, and ours pads).

Not imported: the fusion at the coarsest scale, which the published forward
pass never uses, and the published decoder, which mixes all sources into each
output.

Above this file: whoever has the published weights. Below it: `masknet.py`.
"""

import torch

from s4m_sb.errors import InputError, one_line
from s4m_sb.network.masknet import S4MMaskNet

Tensors = dict[str, torch.Tensor]

BLOCK = "sm.unet."
KERNEL = BLOCK + "s4.layer.kernel.kernel."


def masknet_from_published(
    state_dict: Tensors, num_repeats: int, num_spks: int
) -> S4MMaskNet:
    """Builds the mask network that the published weights describe.

    Arguments
    ---------
    state_dict : dict
        State dict of the published ``S4M`` module.
    num_repeats : int
        How often it applies its block (``num_blocks``); all repeats share
        their weights, so that the state dict does not tell.
    num_spks : int
        Number of sources.

    Returns
    -------
    S4MMaskNet
        With ``topdown_start="published"``, in evaluation mode.

    Raises
    ------
    InputError
        If a tensor is missing or the sizes do not fit together.
    """
    ours: Tensors = {}
    get = _Reader(state_dict)

    _norm(ours, get, "input_norm", "ln")
    _linear(ours, get, "bottleneck", "bottleneck")
    _linear(ours, get, "output", "mask_net.1")
    ours["output_act.weight"] = get("mask_net.0.weight")
    if num_repeats > 1:
        ours["rejoin.weight"] = get("sm.concat_block.0.weight").flatten()
        ours["rejoin.bias"] = get("sm.concat_block.0.bias")
        ours["rejoin.act.weight"] = get("sm.concat_block.1.weight")

    _linear(ours, get, "block.expand", BLOCK + "proj_1x1.conv")
    _norm(ours, get, "block.expand_norm", BLOCK + "proj_1x1.norm")
    ours["block.expand_act.weight"] = get(BLOCK + "proj_1x1.act.weight")
    _linear(ours, get, "block.project", BLOCK + "res_conv")

    num_scales = get.count(BLOCK + "spp_dw.{}.conv.weight")
    for k in range(num_scales):
        _normed_conv(ours, get, f"block.bottom_up.{k}", f"{BLOCK}spp_dw.{k}")
    used = num_scales - 1 if num_scales > 2 else num_scales
    for k in range(used):
        _fusion(ours, get, f"block.fusions.{k}", f"{BLOCK}loc_glo_fus.{k}")
    for k in range(num_scales - 1):
        _fusion(ours, get, f"block.top_down.{k}", f"{BLOCK}last_layer.{k}")

    s4 = "block.global_s4."
    ours[s4 + "norm.weight"] = get(BLOCK + "s4.norm.weight")
    ours[s4 + "norm.bias"] = get(BLOCK + "s4.norm.bias")
    ours[s4 + "layer.D"] = get(BLOCK + "s4.layer.D").squeeze(0)
    _linear(ours, get, s4 + "layer.mix", BLOCK + "s4.layer.output_linear.0")
    ssm = s4 + "layer.ssm."
    ours[ssm + "log_dt"] = get(KERNEL + "log_dt")
    ours[ssm + "log_A_real"] = get(KERNEL + "inv_w_real")
    ours[ssm + "A_imag"] = get(KERNEL + "w_imag")
    ours[ssm + "B"] = get(KERNEL + "B").squeeze(0)
    ours[ssm + "P"] = get(KERNEL + "P").squeeze(0)
    ours[ssm + "C"] = get(KERNEL + "C")

    ff = "block.global_ff."
    ours[ff + "norm.weight"] = get(BLOCK + "ff.norm.weight")
    ours[ff + "norm.bias"] = get(BLOCK + "ff.norm.bias")
    _linear(ours, get, ff + "up", BLOCK + "ff.layer.ff.0.0")
    _linear(ours, get, ff + "down", BLOCK + "ff.layer.ff.2")

    d_model, num_filters = ours["bottleneck.weight"].shape
    d_hidden = ours["block.expand.weight"].shape[0]
    if ours["output.weight"].shape[0] != num_spks * num_filters:
        raise InputError(
            f"the state dict has {ours['output.weight'].shape[0]} mask "
            f"channels, not num_spks = {num_spks} times {num_filters} filters"
        )
    masknet = S4MMaskNet(
        num_spks=num_spks,
        num_filters=num_filters,
        d_model=d_model,
        d_hidden=d_hidden,
        num_scales=num_scales,
        num_repeats=num_repeats,
        d_state=2 * ours[ssm + "A_imag"].shape[1],
        ff_expand=ours[ff + "up.weight"].shape[0] // d_hidden,
        topdown_start="published",
    )
    try:
        masknet.load_state_dict(ours)
    except RuntimeError as error:
        reason = one_line(error)
        raise InputError(
            f"the sizes in the state dict do not fit together: {reason}"
        ) from error
    length = int(get(KERNEL + "L"))
    if length > 0:
        _restore_C(masknet, length)
    return masknet.eval()


@torch.no_grad()
def _restore_C(masknet: S4MMaskNet, length: int) -> None:
    """C from the C̃ = C (I − Āᴸ) that the published layer keeps after use.

    The published kernel overwrites C at its first forward pass with a value
    that depends on the length L it has been prepared for (S4, appendix C.3);
    both here are completed with their conjugates, hence real.
    """
    kernel = masknet.block.global_s4.layer.ssm
    double = kernel.double()
    A_bar, _, C_tilde = double.discretize()  # [H, N, N], [directions, H, N]
    identity = torch.eye(A_bar.shape[-1], dtype=A_bar.dtype)
    remainder = identity - torch.linalg.matrix_power(A_bar, length)
    C = torch.linalg.solve(remainder.mT, C_tilde.unsqueeze(-1)).squeeze(-1)
    real, imag = C.chunk(2, dim=-1)
    double.C.copy_(torch.stack([real, -imag], dim=-1) / 2)
    kernel.float()


class _Reader:
    """Gives tensors by their published names, float32, or says what lacks."""

    def __init__(self, state_dict: Tensors):
        self.state_dict = state_dict

    def __call__(self, name: str) -> torch.Tensor:
        if name not in self.state_dict:
            raise InputError(
                f"not a state dict of the published S4M: {name!r} is missing"
            )
        return self.state_dict[name].detach().float().cpu()

    def count(self, pattern: str) -> int:
        number = 0
        while pattern.format(number) in self.state_dict:
            number += 1
        return number


def _linear(ours: Tensors, get: _Reader, name: str, published: str) -> None:
    ours[name + ".weight"] = get(published + ".weight").squeeze(-1)
    ours[name + ".bias"] = get(published + ".bias")


def _norm(ours: Tensors, get: _Reader, name: str, published: str) -> None:
    ours[name + ".weight"] = get(published + ".gamma")
    ours[name + ".bias"] = get(published + ".beta")


def _normed_conv(
    ours: Tensors, get: _Reader, name: str, published: str
) -> None:
    ours[name + ".conv.weight"] = get(published + ".conv.weight")
    if published + ".conv.bias" in get.state_dict:
        ours[name + ".conv.bias"] = get(published + ".conv.bias")
    _norm(ours, get, name + ".norm", published + ".norm")


def _fusion(ours: Tensors, get: _Reader, name: str, published: str) -> None:
    for part, embedding in (
        ("local", "local_embedding"),
        ("gate", "global_act"),
        ("value", "global_embedding"),
    ):
        _normed_conv(ours, get, f"{name}.{part}", f"{published}.{embedding}")
