"""S4M in plain modules, as `contrib/speechbrain` has it for SpeechBrain.

Above this file: `networks/s4m-plain.yaml`. Below it: that folder.
"""

import sys
from pathlib import Path

sys.path.append(
    str(Path(__file__).resolve().parents[1] / "contrib/speechbrain")
)

from s4m import Encoder, S4MMaskNet  # noqa: E402

__all__ = ["Encoder", "S4MMaskNet"]
