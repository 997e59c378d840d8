"""Signals whose distance from each other is known."""

import torch


def voices(num_items=2, num_frames=400, num_sources=2, seed=0, **kind):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        num_items, num_frames, num_sources, generator=generator, **kind
    )


def noise_orthogonal_to(target, level_db):
    """Noise of an exact level: mean-free, orthogonal to mean-free target."""
    target = target - target.mean(1, keepdim=True)
    noise = voices(*target.shape, seed=99, dtype=target.dtype)
    noise = noise - noise.mean(1, keepdim=True)
    along = (noise * target).sum(1, keepdim=True)
    noise = noise - along / target.square().sum(1, keepdim=True) * target
    loudness = target.norm(dim=1, keepdim=True) / noise.norm(
        dim=1, keepdim=True
    )
    return 10 ** (-level_db / 20) * loudness * noise
