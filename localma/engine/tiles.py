"""How many networks train side by side, and the units of their inputs."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["TILE_BYTES", "TILE_ROWS", "standardization"]

# A tile's activations should stay in the last-level cache, which tiles share; smaller tiles pay more for Python than they save in memory traffic.
TILE_BYTES = 16 * 2**20
TILE_ROWS = 128


def standardization(X: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over observations, (B, d) for X of shape (B, n, d); constant columns get scale one."""
    mean, scale = X.mean(1), X.std(1, correction=0)
    # a column that is constant up to rounding must not be blown up into noise
    flat = scale <= 10 * torch.finfo(X.dtype).eps * mean.abs()
    return mean, torch.where(flat | (scale == 0), torch.ones_like(scale), scale)
