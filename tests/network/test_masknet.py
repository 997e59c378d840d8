"""The mask network against its slow twin, and what else it promises."""

import copy
import math

import naive
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from s4m_sb.errors import InputError
from s4m_sb.network.filterbank import Decoder, Encoder
from s4m_sb.network.fused.compiled import without_kernels
from s4m_sb.network.kernel import S4Kernel, hippo_legs
from s4m_sb.network.masknet import S4MMaskNet
from s4m_sb.network.separate import separate

TINY = {}  # the defaults
FULL = {"s4_per_scale": True, "ff_expand": 1}
SMALL = {
    "num_filters": 5,
    "d_model": 6,
    "d_hidden": 8,
    "num_scales": 3,
    "num_repeats": 3,
}


def signal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def trained(net):
    """The network in float64, its norms no longer the identity."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return net.double()


@pytest.mark.parametrize("variant", [TINY, FULL], ids=["tiny", "full"])
@pytest.mark.parametrize("kernel", ["s4", "s4d"])
@pytest.mark.parametrize("topdown_start", ["coarsest", "published"])
@pytest.mark.parametrize("frames", [48, 37])
def test_outputs_and_gradients_are_those_of_the_slow_twin(
    variant, kernel, topdown_start, frames
):
    # The scales and repeats of the two published sizes, fewer channels.
    net = trained(
        S4MMaskNet(
            num_filters=5,
            d_model=6,
            d_hidden=8,
            d_state=4,
            kernel=kernel,
            topdown_start=topdown_start,
            **variant,
        )
    )
    assert (net.block.num_scales, net.num_repeats) == (5, 16)
    features = signal(2, 5, frames).requires_grad_()
    weights = signal(2, 2, 5, frames)
    names = ["features", *(name for name, _ in net.named_parameters())]
    inputs = [features, *net.parameters()]
    start = 4 if topdown_start == "coarsest" else 2

    masks, gradients = [], []
    for y in (net(features), naive.masks(net, features, start)):
        masks.append(y)
        gradients.append(torch.autograd.grad((y * weights).sum(), inputs))
    # float64 through 16 repeats of some thirty norms
    torch.testing.assert_close(*masks, atol=1e-10, rtol=0)
    largest = max(g.abs().max() for g in gradients[1])
    for name, ours, expected in zip(names, *gradients, strict=True):
        # float64; scaled by the largest gradient of all parameters
        error = (ours - expected).abs().max() / largest
        assert error < 1e-10, name


@pytest.mark.parametrize("frames", [48, 37])
@torch.no_grad()
def test_both_slow_twins_agree(frames):
    net = trained(S4MMaskNet(num_filters=5, d_model=6, d_hidden=8, **FULL))
    features = signal(2, 5, frames)
    torch.testing.assert_close(
        naive.masks(net, features, 4, naive.by_fourier),
        naive.masks(net, features, 4),
        atol=1e-9,  # float64; frequencies near -1 are a large number apart
        rtol=0,
    )


@pytest.mark.parametrize("num_spks", [1, 2, 3])
@torch.no_grad()
def test_any_number_of_speakers_and_any_number_of_frames(num_spks):
    net = S4MMaskNet(num_spks=num_spks, **SMALL)
    for frames in range(1, 20):
        masks = net(torch.randn(2, 5, frames))
        assert masks.shape == (num_spks, 2, 5, frames)
        assert masks.isfinite().all()
        assert masks.min() >= 0


@torch.no_grad()
def test_one_repeat_needs_no_rejoin():
    net = trained(S4MMaskNet(**{**SMALL, "num_repeats": 1}))
    assert not hasattr(net, "rejoin")
    features = signal(1, 5, 12)
    torch.testing.assert_close(
        net(features), naive.masks(net, features, 2), atol=1e-12, rtol=0
    )  # float64


@pytest.mark.parametrize("kernel", ["s4", "s4d"])
@pytest.mark.parametrize("behind", [0.0, 100.0, math.nan, math.inf])
@torch.no_grad()
def test_what_stands_behind_the_end_has_no_influence(kernel, behind):
    net = trained(S4MMaskNet(kernel=kernel, s4_per_scale=True, **SMALL))
    num_frames = torch.tensor([30, 29, 13, 4, 1])
    features = signal(5, 5, 30)
    for item, frames in enumerate(num_frames):
        features[item, :, frames:] = behind
    together = net(features, num_frames)
    for item, frames in enumerate(num_frames):
        alone = net(features[item : item + 1, :, :frames])
        # float64, FFTs of other lengths
        torch.testing.assert_close(
            together[:, item, :, :frames], alone[:, 0], atol=1e-10, rtol=0
        )


@torch.no_grad()
def test_full_lengths_are_no_lengths():
    net = trained(S4MMaskNet(**SMALL))
    features = signal(2, 5, 31)
    torch.testing.assert_close(
        net(features, torch.tensor([31, 31])),
        net(features),
        atol=1e-12,  # float64
        rtol=0,
    )


@pytest.mark.parametrize("variant", [TINY, FULL], ids=["tiny", "full"])
@pytest.mark.parametrize("topdown_start", ["coarsest", "published"])
def test_every_parameter_learns(variant, topdown_start):
    net = S4MMaskNet(
        d_model=16, d_hidden=32, topdown_start=topdown_start, **variant
    )
    masks = net(torch.randn(2, 9, 64))
    (masks * torch.randn_like(masks)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


# Chen et al., 2023, table 1; the operations are multiply-adds for a second.
@pytest.mark.parametrize(
    "variant, parameters, operations",
    [(TINY, 1.8e6, 8.0e9), (FULL, 3.6e6, 38.4e9)],
    ids=["tiny", "full"],
)
@torch.no_grad()
def test_sizes_of_the_paper(variant, parameters, operations):
    networks = Encoder(), S4MMaskNet(**variant).eval(), Decoder()
    encoder, masknet, decoder = networks
    count = sum(p.numel() for net in networks for p in net.parameters())
    # The paper rounds its figures to two or three digits.
    assert abs(count / parameters - 1) < 0.03
    # The counter knows PyTorch's own operators alone.
    with without_kernels(), FlopCounterMode(display=False) as counter:
        separate(torch.randn(1, 8000), None, encoder, masknet, decoder)
    # Its counter is not known: FFTs and element-wise work are left out here.
    assert abs(counter.get_total_flops() / 2 / operations - 1) < 0.05


def test_names_of_the_weights_stay():
    # Shipped and published weights are found by these names.
    tiny = S4MMaskNet().state_dict()
    assert len(tiny) == 135
    assert len(S4MMaskNet(**FULL).state_dict()) == 179
    assert len(S4MMaskNet(kernel="s4d").state_dict()) == 134
    assert len(S4MMaskNet(topdown_start="published").state_dict()) == 126
    for name, shape in {
        "input_norm.weight": (9,),
        "bottleneck.weight": (128, 9),
        "block.expand.weight": (512, 128),
        "block.bottom_up.4.conv.bias": (512,),
        "block.global_s4.layer.ssm.log_dt": (512,),
        "block.global_s4.layer.ssm.C": (2, 512, 8, 2),
        "block.global_s4.layer.mix.weight": (1024, 512),
        "block.global_ff.down.weight": (512, 1024),
        "block.fusions.4.gate.conv.weight": (512, 1, 1),
        "block.top_down.3.value.norm.bias": (512,),
        "rejoin.act.weight": (1,),
        "output.weight": (18, 128),
    }.items():
        assert tiny[name].shape == shape, name


def test_kernels_are_computed_once_in_a_pass(monkeypatch):
    lengths = []
    kernel = S4Kernel.kernel

    def counted(self, length):
        lengths.append(length)
        return kernel(self, length)

    monkeypatch.setattr(S4Kernel, "kernel", counted)
    net = S4MMaskNet(s4_per_scale=True, **SMALL)
    net(torch.randn(1, 5, 32))
    assert lengths == [8, 32, 16]  # the global one, then scales 0 and 1
    net.eval()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(1, 5, 32))
    assert len(lengths) == 6


def saved_numbers(net, features):
    """Numbers that autograd keeps for the backward pass."""
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        net(features)
    return sum(size for size, _ in storages.values()) // 4


def test_checkpoints_save_memory_and_change_nothing():
    features = torch.randn(2, 9, 256)
    num_frames = torch.tensor([256, 200])
    grows = {}
    for checkpoint_repeats in (False, True):
        saved = []
        for num_repeats in (2, 6):
            net = S4MMaskNet(
                d_model=8,
                d_hidden=32,
                num_repeats=num_repeats,
                checkpoint_repeats=checkpoint_repeats,
            )
            saved.append(saved_numbers(net, features))
        grows[checkpoint_repeats] = (saved[1] - saved[0]) / 4
    # One repeat more keeps no more than its input and output.
    assert grows[True] <= 2 * 2 * 256 * 8
    assert grows[False] > 20 * grows[True]

    net = S4MMaskNet(d_model=8, d_hidden=32, num_repeats=4).double()
    features = features.double()
    results = []
    for checkpoint_repeats in (False, True):
        net.checkpoint_repeats = checkpoint_repeats
        net.zero_grad()
        masks = net(features, num_frames)
        masks.square().sum().backward()
        results.append([masks, *(p.grad.clone() for p in net.parameters())])
    for plain, checkpointed in zip(*results, strict=True):
        # float64; the repeats' gradients are added in another order
        torch.testing.assert_close(plain, checkpointed, atol=0, rtol=1e-9)


def reset_recursively(module):
    """What SpeechBrain's separation scripts do before they train."""
    for child in module.children():
        if hasattr(child, "reset_parameters"):
            child.reset_parameters()
        reset_recursively(child)


def reset_as_often_as_speechbrain(net):
    # Its scripts visit every module of the network once more.
    for module in net.modules():
        reset_recursively(module)


@pytest.mark.parametrize("kernel", ["s4", "s4d"])
@torch.no_grad()
def test_resetting_gives_a_fresh_valid_network(kernel):
    net = S4MMaskNet(kernel=kernel, s4_per_scale=True, **SMALL)
    net.eval()
    features = torch.randn(1, 5, 24)
    before = copy.deepcopy(net.state_dict())
    masks = net(features)
    for parameter in net.parameters():
        parameter.fill_(math.nan)  # a part that is forgotten will show
    reset_as_often_as_speechbrain(net)

    for name, value in net.state_dict().items():
        assert value.isfinite().all(), name
        same = torch.equal(value, before[name])
        fixed = (
            "norm" in name
            or name.endswith("act.weight")
            or name.endswith(("log_A_real", "A_imag", "ssm.B", "ssm.P"))
        )
        assert same == fixed, name
    Lambda = hippo_legs(16)[0]
    for block in (net.block.global_s4, *net.block.scale_s4):
        ssm = block.layer.ssm
        assert ssm.log_dt.exp().min() >= 0.001 * (1 - 1e-6)
        assert ssm.log_dt.exp().max() <= 0.1 * (1 + 1e-6)
        A_imag = Lambda.imag.float().expand_as(ssm.A_imag)
        assert torch.equal(ssm.A_imag, A_imag)
        assert ssm.log_A_real.exp().sub(0.5).abs().max() < 1e-6
    fresh = net(features)
    assert fresh.isfinite().all()
    assert not torch.allclose(fresh, masks)


def test_same_seed_same_network():
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        net = S4MMaskNet(**SMALL)
        net(torch.randn(1, 5, 20)).sum().backward()
        results.append([*net.parameters(), *(p.grad for p in net.parameters())])
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_bfloat16_outside_float32_inside():
    net = S4MMaskNet(d_model=16, d_hidden=32, num_repeats=2)
    features = torch.randn(2, 9, 60)
    num_frames = torch.tensor([60, 41])
    exact = net(features, num_frames)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        masks = net(features, num_frames)
        masks.float().square().sum().backward()
    # bfloat16 keeps 8 bits; two repeats of some ten products each
    error = (masks.float() - exact).norm() / exact.norm()
    assert error < 0.05
    for name, parameter in net.named_parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all(), name


def test_a_module_of_speechbrain_may_hold_it():
    # A Brain keeps its networks in a ModuleDict and compiles or wraps them.
    modules = nn.ModuleDict({"masknet": S4MMaskNet(**SMALL)})
    assert all(name.startswith("masknet.") for name in modules.state_dict())


@pytest.mark.parametrize(
    "values, message",
    [
        ({"num_spks": 0}, "num_spks must be at least 1, got 0"),
        ({"num_filters": 0}, "num_filters must be at least 1, got 0"),
        ({"num_repeats": 0}, "num_repeats must be at least 1, got 0"),
        ({"d_model": 0}, "d_model must be at least 1, got 0"),
        ({"d_model": -1}, "d_model must be at least 1, got -1"),
        ({"d_hidden": -1}, "d_hidden must be at least 1, got -1"),
        ({"num_scales": 0}, "num_scales must be at least 1, got 0"),
        ({"d_state": 7}, "d_state must be even and positive, got 7"),
        ({"kernel": "s6"}, "kernel must be one of s4, s4d, got 's6'"),
        ({"ff_expand": 0}, "expand must be at least 1, got 0"),
        ({"topdown_start": ""}, "topdown_start must be .* got ''"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(InputError, match=message):
        S4MMaskNet(**{**SMALL, **values})
