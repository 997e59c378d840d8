"""The networks whose speed is compared, S4M's slow twin among them.

Above this file: `speed.py`, `measure.py`. Below it: `networks.py`,
`tests/helpers/naive.py`.
"""

import sys
from pathlib import Path

import torch
import yaml
from hyperpyyaml import load_hyperpyyaml
from networks import FOLDER
from torch import nn

from s4m_sb.network.masknet import S4MMaskNet

ROWS = yaml.safe_load((FOLDER / "speed.yaml").read_text("utf-8"))
TESTS = Path(__file__).resolve().parents[1] / "tests/helpers"


class SlowTwin(nn.Module):
    """The published network read off its equations, as the tests have it.

    Arguments
    ---------
    masknet : S4MMaskNet
        Has the parameters.
    """

    def __init__(self, masknet: S4MMaskNet):
        super().__init__()
        sys.path.append(str(TESTS))
        import naive

        self.naive = naive
        self.masknet = masknet

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, F, L]`` to masks ``[S, B, F, L]``."""
        start = self.masknet.block.num_scales - 1
        with features.device:  # where it makes its constants
            return self.naive.masks(
                self.masknet, features, start, self.naive.by_fourier
            )


def build(model: str, options: dict | None = None) -> dict[str, nn.Module]:
    """Builds a network.

    Arguments
    ---------
    model : str
        A key of ``ROWS``.
    options : dict, optional
        Instead of values at the top of its YAML, where it has them.

    Returns
    -------
    dict[str, nn.Module]
        ``encoder``, ``masknet`` and ``decoder``.
    """
    row = ROWS[model]
    text = (FOLDER / row["network"]).read_text("utf-8")
    known = {line.split(":")[0] for line in text.splitlines()}
    options = {k: v for k, v in (options or {}).items() if k in known}
    loaded = load_hyperpyyaml(
        "num_spks: 2\n" + text, {**row["options"], **options}
    )
    modules = {
        name: loaded[key]
        for key, name in (
            ("Encoder", "encoder"),
            ("MaskNet", "masknet"),
            ("Decoder", "decoder"),
        )
    }
    if model == "twin":
        modules["masknet"] = SlowTwin(modules["masknet"])
    return modules
