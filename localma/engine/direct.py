"""Many directly trained networks as one stack, which averages are measured against."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from localma.checks import check_whole
from localma.engine.devices import one_thread
from localma.engine.loop import train
from localma.engine.networks import initial_values, layer_sizes
from localma.engine.options import Options
from localma.engine.stacks import MLPStack
from localma.engine.tiles import TILE_BYTES, TILE_ROWS

__all__ = ["DirectStack", "fit_direct_stack"]

#: How a module is trained unless told otherwise.
DEFAULT = Options(learning_rate=0.01, steps=500)


@dataclass
class DirectStack:
    """B fitted networks with one output each.

    ``values`` (B, P) are their parameters, ``sizes`` their layers; ``mean`` and ``scale`` (B, d) standardise the inputs, ``centre`` and ``spread`` (B,) undo
    the standardisation of y.
    """

    values: Tensor
    sizes: list[tuple[int, int]]
    mean: Tensor
    scale: Tensor
    centre: Tensor
    spread: Tensor

    def rows(self, index) -> DirectStack:
        """Some of the networks."""
        return DirectStack(self.values[index], self.sizes, *(a[index] for a in (self.mean, self.scale, self.centre, self.spread)))

    def predict(self, X: Tensor) -> Tensor:
        """(B, n) for X of shape (B, n, d)."""
        with torch.no_grad():
            x = ((X - self.mean.unsqueeze(1)) / self.scale.unsqueeze(1)).transpose(1, 2)
            out = MLPStack(self.values, self.sizes)(x)[:, 0]
            return self.centre.unsqueeze(1) + self.spread.unsqueeze(1) * out


def fit_direct_stack(
    X: Tensor,
    y: Tensor,
    *,
    seeds: Sequence[int],
    counts: Sequence[int] | None = None,
    width: int = 16,
    depth: int = 1,
    options: Options | None = None,
    workers: int | None = None,
) -> DirectStack:
    """Regress y on X by B independent ReLU networks at once, with squared loss; samples may differ in size.

    Up to rounding, row b equals ``DirectModel(mlp(d, 1, width=width, depth=depth, random_state=seeds[b]), training=options)`` fitted to the
    first ``counts[b]`` observations alone, as long as these are at most 1,024: of more, the estimator takes mini-batches unless its
    ``batch_size`` is ``counts[b]`` or larger. Here every step uses all observations of a row, and none is held out; rows of a similar size are
    trained side by side, so that little is spent on padding.

    Parameters
    ----------
    X : Tensor of shape (B, n, d)
    y : Tensor of shape (B, n)
    seeds : sequence of int, length B
        Of the initial values.
    counts : sequence of int, length B
        How many observations of each row are real, the first ones; whatever stands behind them is ignored. Default: all.
    width, depth : int
    options : Options
        Default: those of :class:`localma.DirectModel`. An "auto" penalty is that of each row's own count; an "auto" number of steps is that of the largest.
    workers : int, optional
        Threads on a CPU; default one per core.

    Returns
    -------
    DirectStack

    Raises
    ------
    ValueError
        Naming the argument: ``seeds``, ``counts``, or options that ask for mini-batches or a validation part.

    Examples
    --------
    >>> import torch
    >>> from localma.engine import fit_direct_stack
    >>> X = torch.linspace(-1, 1, 50)[None, :, None].expand(3, 50, 1)
    >>> stack = fit_direct_stack(X, X[..., 0] ** 2, seeds=[0, 1, 2], counts=[50, 50, 20])
    >>> stack.predict(X).shape
    torch.Size([3, 50])
    """
    B, n, d = X.shape
    counts = torch.full((B,), n) if counts is None else torch.as_tensor(counts)
    if y.shape != (B, n):
        raise ValueError(f"y has shape {tuple(y.shape)}, but X {tuple(X.shape)}: they must share the rows B and observations n")
    if len(seeds) != B:
        raise ValueError(f"seeds has {len(seeds)} entries for {B} rows; give one each")
    if counts.shape != (B,) or counts.is_floating_point() or not bool(((counts >= 1) & (counts <= n)).all()):
        raise ValueError(f"counts must be {B} whole numbers between 1 and n = {n}, the observations of each row")
    check_whole("width", width, 1)
    check_whole("depth", depth, 0)
    given = options or DEFAULT
    if given.batch_size != "auto" and given.batch_size < int(counts.max()):
        raise ValueError("options.batch_size: a stack of direct models takes every observation in every step; leave it at 'auto'")
    if given.validation_fraction not in ("auto", 0):
        raise ValueError("options.validation_fraction: a stack of direct models holds nothing out; leave it at 'auto' or 0")
    options = replace(given, batch_size=n, validation_fraction=0.0, patience=None).resolve(int(counts.max()))
    penalties = torch.tensor([given.resolve(int(k)).penalty for k in counts], dtype=X.dtype, device=X.device)
    sizes = layer_sizes(d, 1, width, depth)
    cpu = X.device.type == "cpu"
    order = torch.argsort(counts, stable=True)

    def fit_tile(index: Tensor) -> tuple[Tensor, ...]:
        most = int(counts[index].max())
        device_index, real = index.to(X.device), counts[index].to(X.device)
        x, target = X[device_index, :most], y[device_index, :most]
        mask = torch.arange(most, device=X.device) < real[:, None]
        # padding repeats the first observation (finite, whatever the caller put there) and counts for nothing
        x, target = torch.where(mask[..., None], x, x[:, :1]), torch.where(mask, target, target[:, :1])
        share = mask.to(x.dtype) / real[:, None]
        mean = (x * share[..., None]).sum(1)
        scale = ((x - mean.unsqueeze(1)).square() * share[..., None]).sum(1).sqrt()
        flat = scale <= 10 * torch.finfo(x.dtype).eps * mean.abs().clamp_min(1e-30)
        scale = torch.where(flat, torch.ones_like(scale), scale)
        centre = (target * share).sum(1)
        spread = ((target - centre[:, None]).square() * share).sum(1).sqrt()
        spread = torch.where(spread <= 10 * torch.finfo(x.dtype).eps * centre.abs(), torch.ones_like(spread), spread)
        inputs = ((x - mean.unsqueeze(1)) / scale.unsqueeze(1)).transpose(1, 2).contiguous()
        goal = (target - centre[:, None]) / spread[:, None]
        generators = [torch.Generator().manual_seed(int(seeds[i])) for i in index]
        stack = MLPStack(torch.stack([initial_values(sizes, g) for g in generators]).to(x), sizes)

        def criterion(output, share, goal):
            return (output[:, 0] - goal).square() * (share * most)  # train takes the mean over all columns

        train(stack, inputs, criterion, (share, goal), replace(options, batch_size=most), generators, penalties=penalties[device_index])
        return stack.values(), mean, scale, centre, spread

    tiles, start = [], 0
    workers = (workers or os.cpu_count() or 1) if cpu else 1
    while start < B:
        bytes_of_row = X.element_size() * int(counts[order[start]]) * (d + 4 * width * depth + 6)
        rows = min(TILE_ROWS, max(1, TILE_BYTES // bytes_of_row), math.ceil(B / workers)) if cpu else B
        tiles.append(order[start : start + rows])
        start += rows
    with one_thread(cpu):
        pool = ThreadPoolExecutor(workers)
        try:
            parts = list(pool.map(fit_tile, tiles))
        finally:
            pool.shutdown(cancel_futures=True)
    back = torch.argsort(order)
    columns = (torch.cat([part[k] for part in parts])[back.to(X.device)] for k in range(5))
    values, mean, scale, centre, spread = columns
    return DirectStack(values, sizes, mean, scale, centre, spread)
