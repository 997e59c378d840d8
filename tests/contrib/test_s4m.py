"""SpeechBrain's form of the network is the package's network."""

import ast
import inspect

import pytest
import torch
from plain_network import (
    KIT,
    SIZES,
    package_modules,
    plain,
    plain_modules,
    same_weights,
)

from s4m_sb.network.masknet import S4MMaskNet
from s4m_sb.network.separate import separate

# What the package has besides: the diagonal kernel, and a slip of the authors'
# code that imported weights need.
PACKAGE_ALONE = {"kernel", "topdown_start"}
# Odd lengths: of samples, of frames, shorter than a frame of any scale.
LENGTHS = (1, 13, 1001)


@pytest.fixture(params=SIZES)
def pair(request):
    """Both forms of a size with the same weights, in float64."""
    ours = package_modules(**SIZES[request.param], num_repeats=2)
    theirs = plain_modules(**SIZES[request.param], num_repeats=2)
    same_weights(ours, theirs)
    for module in [*ours.values(), *theirs.values()]:
        module.double()
    return ours, theirs


def parameters(modules):
    return {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.named_parameters()
    }


@pytest.mark.parametrize("size", SIZES)
def test_state_dicts_load_both_ways(size):
    ours, theirs = package_modules(**SIZES[size]), plain_modules(**SIZES[size])
    same_weights(ours, theirs)
    same_weights(theirs, ours)
    for name, module in ours.items():
        assert module.state_dict().keys() == theirs[name].state_dict().keys()


@pytest.mark.parametrize("length", LENGTHS)
def test_voices_and_gradients_are_the_same(pair, length):
    mixture = torch.randn(2, length, dtype=torch.float64)
    voices, gradients = [], []
    for modules in pair:
        y = separate(mixture, None, **modules)
        y.square().mean().backward()
        voices.append(y.detach())
        gradients.append({k: p.grad for k, p in parameters(modules).items()})
    assert voices[0].shape == (2, length, 2)
    # Rounding alone in float64; 1e-6 is what is promised.
    torch.testing.assert_close(voices[0], voices[1], rtol=1e-9, atol=1e-12)
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        scale = gradient.abs().max().clamp_min(1e-12)
        error = (gradient - gradients[1][key]).abs().max() / scale
        assert error < 1e-6, key


@pytest.mark.parametrize("size", SIZES)
def test_full_size_in_float32(size):
    """As it is trained and used: 16 repeats, single precision."""
    ours, theirs = package_modules(**SIZES[size]), plain_modules(**SIZES[size])
    same_weights(ours, theirs)
    mixture = torch.randn(1, 999)
    with torch.no_grad():
        a, b = (separate(mixture, None, **m) for m in (ours, theirs))
        doubles = {name: m.double() for name, m in ours.items()}
        truth = separate(mixture.double(), None, **doubles)
    # Neither is further from float64 than float32 carries through 16 repeats.
    scale = truth.abs().max()
    assert (a - truth).abs().max() / scale < 1e-4
    assert (b - truth).abs().max() / scale < 1e-4


@pytest.mark.parametrize("training", [True, False])
def test_checkpointing_changes_nothing(training):
    size = {"d_model": 8, "d_hidden": 16, "num_scales": 3, "num_repeats": 3}
    whole = plain.S4MMaskNet(**size)
    parts = plain.S4MMaskNet(**size, checkpoint_repeats=True)
    parts.load_state_dict(whole.state_dict())
    features = torch.randn(2, 9, 50)
    for network in (whole, parts):
        network.train(training)
        network(features).sum().backward()
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def defaults(function):
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }


@pytest.mark.parametrize(
    "ours, theirs", [(S4MMaskNet, plain.S4MMaskNet)], ids=["S4MMaskNet"]
)
def test_arguments_have_the_same_defaults(ours, theirs):
    expected = defaults(ours)
    for name in PACKAGE_ALONE:
        del expected[name]
    assert defaults(theirs) == expected


def test_the_encoder_has_the_same_defaults():
    package = package_modules()["encoder"]
    encoder = plain.Encoder()
    assert encoder.weight.shape == package.weight.shape
    assert encoder.stride == (package.stride,)


def test_what_is_drawn_has_the_same_spread():
    """SpeechBrain's recipe resets every part before a training."""
    size = {"d_model": 64, "d_hidden": 96, "num_repeats": 2}
    ours, theirs = package_modules(**size), plain_modules(**size)
    del ours["decoder"], theirs["decoder"]  # SpeechBrain's, with its own draw
    for modules in (ours, theirs):
        for module in modules.values():
            for part in module.modules():
                if hasattr(part, "reset_parameters"):
                    part.reset_parameters()
    theirs = parameters(theirs)
    for key, value in parameters(ours).items():
        if value.numel() < 64:
            continue
        # Some hundred draws from one distribution or another.
        spread, other = value.std().item(), theirs[key].std().item()
        assert other == pytest.approx(spread, rel=0.4, abs=1e-6), key


def test_it_is_python_38():
    for path in KIT.glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_a_student_can_read_it():
    assert len((KIT / "s4m.py").read_text(encoding="utf-8").splitlines()) < 750
