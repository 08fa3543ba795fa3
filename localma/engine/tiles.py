"""How many networks train side by side, and the units of their inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import joblib
import torch
from torch import Tensor

from localma.engine.devices import one_thread

__all__ = ["standardization", "tile_rows", "train_tiles"]

# A tile's activations should stay in the last-level cache, which tiles share; smaller tiles pay more for Python than
# they save in memory traffic.
TILE_BYTES = 16 * 2**20
TILE_ROWS = 128
# Two tiles at least, but none of a few networks, which spend their time in Python.
TILES, LEAST_ROWS = 2, 16


def tile_rows(row_bytes: int, networks: int) -> int:
    """Networks of a tile on a CPU. It does not depend on the number of cores: neither do the last digits of a result,
    then.
    """
    share = max(LEAST_ROWS, math.ceil(networks / TILES))
    return max(1, min(TILE_ROWS, TILE_BYTES // row_bytes, share))


def train_tiles(fit_tile: Callable, tiles: Sequence, workers: int | None, small: bool) -> list:
    """``fit_tile`` of every tile, in order, several at a time; ``small`` says that more than one thread inside a tile
    would not pay.
    """
    with one_thread(small):
        if len(tiles) == 1:
            return [fit_tile(tiles[0])]
        # joblib counts the cores that this process may use, not those of the machine
        pool = ThreadPoolExecutor(workers or joblib.cpu_count())
        try:
            return list(pool.map(fit_tile, tiles))
        finally:
            pool.shutdown(cancel_futures=True)  # on Ctrl-C: finish the tiles under way, start no other


def standardization(X: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over observations, (B, d) for X of shape (B, n, d); constant columns get scale
    one.
    """
    mean, scale = X.mean(1), X.std(1, correction=0)
    # a column that is constant up to rounding must not be blown up into noise
    flat = scale <= 10 * torch.finfo(X.dtype).eps * mean.abs()
    return mean, torch.where(flat | (scale == 0), torch.ones_like(scale), scale)
