"""How many networks train side by side, in how many threads, and the units of their inputs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import joblib
import torch
from torch import Tensor

from localma.engine.devices import one_thread

__all__ = ["cores", "in_threads", "standardization", "tile_rows"]

# A tile's activations should stay in the last-level cache, which tiles share; smaller tiles pay more for Python than
# they save in memory traffic.
TILE_BYTES = 16 * 2**20
TILE_ROWS = 128
# As many tiles for one of two cores as for the other, but none of a few networks, which spend their time in Python.
TILES, LEAST_ROWS = 2, 16


def tile_rows(row_bytes: int, networks: int) -> int:
    """Networks of a tile on a CPU. It does not depend on the number of cores: neither do the last digits of a result,
    then.
    """
    most = max(1, min(TILE_ROWS, TILE_BYTES // row_bytes))
    rounds = math.ceil(networks / (TILES * most))
    return min(most, max(LEAST_ROWS, math.ceil(networks / (TILES * rounds))))


def in_threads(function: Callable, pieces: Sequence, workers: int | None = None, small: bool = True) -> list:
    """``function`` of every piece, in order, several at a time; ``small`` says that more than one thread inside a piece
    would not pay.
    """
    with one_thread(small):
        if len(pieces) == 1:
            return [function(pieces[0])]
        pool = ThreadPoolExecutor(workers or cores())
        try:
            return list(pool.map(function, pieces))
        finally:
            pool.shutdown(cancel_futures=True)  # on Ctrl-C: finish the pieces under way, start no other


def cores() -> int:
    """Cores that this process may use, not those of the machine; where several processes compute side by side, joblib
    tells each of them its share.
    """
    all_of_them, share = joblib.cpu_count(), os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(all_of_them, int(share) or 1) if share.isdecimal() else all_of_them


def standardization(X: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over observations, (B, d) for X of shape (B, n, d); constant columns get scale
    one.
    """
    mean, scale = X.mean(1), X.std(1, correction=0)
    # a column that is constant up to rounding must not be blown up into noise
    flat = scale <= 10 * torch.finfo(X.dtype).eps * mean.abs()
    return mean, torch.where(flat | (scale == 0), torch.ones_like(scale), scale)
