"""Three networks that give voices together pass, any others do not."""

import pytest
import torch
from small_model import NETWORK, SEPFORMER
from torch import nn

from s4m_sb.errors import InputError
from s4m_sb.network.filterbank import Decoder, Encoder
from s4m_sb.network.masknet import S4MMaskNet
from s4m_sb.pretrained.fit import check_fit
from s4m_sb.pretrained.safe_yaml import load_checked


def small(**changes):
    """Networks that fit, but for the changes."""
    networks = {
        "encoder": Encoder(),
        "masknet": S4MMaskNet(
            d_model=8, d_hidden=16, num_scales=3, num_repeats=2
        ),
        "decoder": Decoder(),
    }
    return networks | changes


@pytest.mark.parametrize("network", [NETWORK, SEPFORMER])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 48000])
def test_networks_that_fit_pass_and_stay_as_they_were(network, sample_rate):
    hparams = load_checked(network.format(num_spks=3))
    modules = {
        "encoder": hparams["Encoder"],
        "masknet": hparams["MaskNet"].eval(),
        "decoder": hparams["Decoder"],
    }
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    check_fit(modules, sample_rate, 3)
    assert torch.equal(torch.rand(1), expected)  # no number was drawn
    modes = {name: module.training for name, module in modules.items()}
    assert modes == {"encoder": True, "masknet": False, "decoder": True}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": Encoder(num_filters=64)}, "do not fit one another"),
        ({"decoder": Decoder(num_filters=64)}, "do not fit one another"),
        ({"encoder": Encoder(stride=8)}, "decoder makes 4.. samples of 800"),
        ({"decoder": Decoder(stride=8)}, "decoder makes 16.. samples of 800"),
        ({"masknet": nn.Identity()}, r"gives masks \(1, \d+, \d+\) where"),
        ({"masknet": nn.Linear(3, 4)}, "do not fit one another"),
        ({"encoder": nn.Identity()}, "do not fit one another"),
    ],
)
def test_networks_that_do_not_fit_are_one_line(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        check_fit(small(**changes), 8000, 2)
    assert "\n" not in str(caught.value)


def test_another_number_of_voices_is_named():
    with pytest.raises(InputError, match=r"need \(3, 1, \d+, "):
        check_fit(small(), 8000, 3)


def test_what_is_not_finite_is_no_voice():
    networks = small()
    with torch.no_grad():
        next(networks["decoder"].parameters()).fill_(torch.inf)
    with pytest.raises(InputError, match="is not finite"):
        check_fit(networks, 8000, 2)
