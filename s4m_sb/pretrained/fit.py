"""Whether the three networks of a model fit one another.

A tenth of a second of noise goes through them, once, when a model is loaded.
"""

import torch
from torch import nn

from s4m_sb.errors import InputError, first_line

TRIAL_S = 0.1
# Windows may cut a part of the noise off, or add one; frames at another rate
# than the encoder's make it twice or half as long.
MOST_CHANGE = 1.4


def check_fit(
    modules: dict[str, nn.Module], sample_rate: int, num_spks: int
) -> None:
    """Refuses networks that do not give voices together.

    Arguments
    ---------
    modules : dict
        ``encoder``, ``masknet`` and ``decoder``, on the CPU.
    sample_rate : int
        Of the model, in Hz.
    num_spks : int
        Voices that it gives.

    Raises
    ------
    InputError
        If one cannot take what the other gives, the masks or the voices have
        another shape than they should, or are not finite.
    """
    encoder, masknet, decoder = (
        modules[name] for name in ("encoder", "masknet", "decoder")
    )
    modes = {name: module.training for name, module in modules.items()}
    noise = torch.Generator().manual_seed(0)
    T = round(TRIAL_S * sample_rate)
    mix = torch.randn(1, T, generator=noise)
    try:
        for module in modules.values():
            module.eval()
        with torch.no_grad():
            features = encoder(mix)  # [B, F, L]
            masks = masknet(features)  # [S, B, F, L]
            decoded = decoder(features)  # [B, T']
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            "its encoder, masknet and decoder do not fit one another "
            f"({first_line(error)})"
        ) from error
    finally:
        for name, module in modules.items():
            module.train(modes[name])
    expected = (num_spks, *features.shape)
    if masks.shape != expected:
        raise InputError(
            f"its masknet gives masks {tuple(masks.shape)} where its encoder "
            f"and num_spks need {expected}"
        )
    if not T / MOST_CHANGE < decoded.shape[-1] < T * MOST_CHANGE:
        raise InputError(
            f"its decoder makes {decoded.shape[-1]} samples of {T}; its frames "
            "are not those of its encoder"
        )
    if not (masks.isfinite().all() and decoded.isfinite().all()):
        raise InputError("what it makes of noise is not finite")
