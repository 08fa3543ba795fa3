"""Rows of a large sample, a block at a time: one that lies on disk need not fit into memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from localma.losses import Loss

__all__ = ["Blocks", "pieces", "shared"]

#: Rows of a block; a smaller sample is one.
ROWS = 2**17


def pieces(n: int) -> list[slice]:
    """Slices that walk n rows, block by block."""
    return [slice(k, min(k + ROWS, n)) for k in range(0, n, ROWS)]


def shared(values: np.ndarray, dtype: torch.dtype | None = None, device: str = "cpu") -> Tensor:
    """An array as a tensor, without a copy unless type or device ask for one; nobody may write to it."""
    with warnings.catch_warnings():  # of arrays that cannot be written to, such as a file's
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.as_tensor(values, dtype=dtype, device=device)


class Blocks:
    """B samples of candidates and responses: in double precision, block by block.

    Parameters
    ----------
    F : Tensor of shape (B, M, n), or (B, M, K, n) for classes
    y, share : Tensor of shape (B, n)
    loss : Loss
    """

    def __init__(self, F: Tensor, y: Tensor, share: Tensor, loss: Loss):
        self.F, self.y, self.share, self.loss, self.n = F, y, share, loss, y.shape[-1]
        self._kept = [self.part(slice(None))] if self.n <= ROWS else None

    def part(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """What the loss needs to know of candidates (B, M, k), responses and shares (B, k) of some rows."""
        y = self.y[:, rows].double()
        return self.loss.candidates(y, self.F[..., rows].double()), y, self.share[:, rows].double()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return iter(self._kept or map(self.part, pieces(self.n)))

    def __getitem__(self, which: Tensor) -> Blocks:
        """Some of the samples."""
        return Blocks(self.F[which], self.y[which], self.share[which], self.loss)

    def mean(self, function: Callable[..., Tensor]) -> Tensor:
        """The mean over observations of ``function(G, y, share)``, (..., k) -> (...)."""
        total: Tensor | float = 0.0
        for block in self:
            total = total + function(*block).sum(-1)
        return torch.as_tensor(total) / self.n
