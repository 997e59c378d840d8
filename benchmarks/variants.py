"""Changes to networks that no YAML can make.

Above this file: `networks/s4m.yaml`, `networks/re-sepformer.yaml`.
"""

import torch
import torch.nn.functional as F
from speechbrain.lobes.models.resepformer import (
    ResourceEfficientSeparator,
    SBTransformerBlock_wnormandskip,
)
from torch import nn

from s4m_sb.network.masknet import S4MMaskNet
from s4m_sb.network.s4 import S4Layer


class FrameByFrame(nn.Module):
    """What is left of an S4 layer without its state: GLU(W GELU(D u)).

    Arguments
    ---------
    layer : S4Layer
        The layer whose D and W it takes.
    """

    def __init__(self, layer: S4Layer):
        super().__init__()
        self.D = layer.D
        self.mix = layer.mix

    def spectrum(self, length: int) -> torch.Tensor:
        """Nothing: there is no kernel."""
        return self.D.new_zeros(0)

    def forward(
        self, x: torch.Tensor, spectrum: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``[B, L, H]`` to ``[B, L, H]``, each frame by itself."""
        return F.glu(self.mix(F.gelu(x * self.D)), dim=-1)


def ablate_s4(masknet: S4MMaskNet, use_s4: bool) -> S4MMaskNet:
    """S4M with or, for the ablation, without its state space.

    Without it the convolution with the state-space kernel is gone and
    everything else stays: the mixing of the channels behind it, its norm and
    residual path, the feed-forward block. So the network loses its long
    memory, and next to none of its parameters and operations.

    Arguments
    ---------
    masknet : S4MMaskNet
        Is changed.
    use_s4 : bool
        True changes nothing.

    Returns
    -------
    S4MMaskNet
        The same object.
    """
    if not use_s4:
        for s4_block in (masknet.block.global_s4, *masknet.block.scale_s4):
            s4_block.layer = FrameByFrame(s4_block.layer)
    return masknet


class ItemwiseMemory(nn.Module):
    """RE-SepFormer's memory, which keeps the mixtures of a batch apart.

    SpeechBrain's pipeline hands the segments of all B mixtures to the memory
    transformer as one sequence, ``[1, B·S, D]``, so that mixtures of a batch
    hear each other and a result depends on its neighbours. Published results
    are of batches of one, for which this changes nothing.

    Arguments
    ---------
    memory : SBTransformerBlock_wnormandskip
        ``[B, S, D] -> [B, S, D]``.
    """

    def __init__(self, memory: SBTransformerBlock_wnormandskip):
        super().__init__()
        self.memory = memory
        self.batch_size = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[1, B·S, D]`` to ``[1, B·S, D]``."""
        x = x.squeeze(0).unflatten(0, (self.batch_size, -1))  # [B, S, D]
        return self.memory(x).flatten(0, 1).unsqueeze(0)


def itemwise(masknet: ResourceEfficientSeparator) -> ResourceEfficientSeparator:
    """Gives a RE-SepFormer memories that keep the mixtures apart.

    Arguments
    ---------
    masknet : ResourceEfficientSeparator
        With ``mem_type`` "av"; is changed.

    Returns
    -------
    ResourceEfficientSeparator
        The same object.
    """
    pipeline = masknet.model
    pipeline.mem_model = nn.ModuleList(map(ItemwiseMemory, pipeline.mem_model))

    def tell_batch_size(_, inputs):
        for memory in pipeline.mem_model:
            memory.batch_size = inputs[0].shape[0]

    masknet.register_forward_pre_hook(tell_batch_size)
    return masknet
