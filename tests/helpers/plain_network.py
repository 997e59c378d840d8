"""The network as `contrib/speechbrain` writes it for SpeechBrain."""

import importlib.util
from pathlib import Path

from speechbrain.lobes.models.dual_path import Decoder

from s4m_sb.network import filterbank
from s4m_sb.network.masknet import S4MMaskNet

KIT = Path(__file__).resolve().parents[2] / "contrib" / "speechbrain"
FILTERS = {"num_filters": 9, "kernel_size": 16, "stride": 4}
SIZES = {
    "S4M": {"ff_expand": 1, "s4_per_scale": True},
    "S4M-tiny": {"ff_expand": 2, "s4_per_scale": False},
}


def load(name):
    """A Python file of the kit, as a module."""
    spec = importlib.util.spec_from_file_location(name, KIT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plain = load("s4m")


def package_modules(filters=FILTERS, **size):
    """Encoder, mask network and decoder of the package."""
    return {
        "encoder": filterbank.Encoder(**filters),
        "masknet": S4MMaskNet(num_filters=filters["num_filters"], **size),
        "decoder": filterbank.Decoder(**filters),
    }


def plain_modules(filters=FILTERS, **size):
    """The same, of the kit and SpeechBrain."""
    stride, kernel_size = filters["stride"], filters["kernel_size"]
    return {
        "encoder": plain.Encoder(**filters),
        "masknet": plain.S4MMaskNet(num_filters=filters["num_filters"], **size),
        "decoder": Decoder(
            filters["num_filters"],
            1,
            kernel_size=kernel_size,
            stride=stride,
            padding=kernel_size - stride,
            bias=False,
        ),
    }


def same_weights(source, target):
    """Copies the parameters of one form into the other, key by key."""
    for name, module in source.items():
        target[name].load_state_dict(module.state_dict(), strict=True)
