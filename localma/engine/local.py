"""Many weight networks trained as one stack: localized averages of many samples at once."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from localma.checks import check_whole
from localma.engine.devices import one_thread
from localma.engine.loop import History, train
from localma.engine.networks import Standardize, initial_values, layer_sizes, mlp_from_parameters, split_parameters
from localma.engine.options import Options
from localma.engine.stacks import MLPStack
from localma.engine.tiles import TILE_BYTES, TILE_ROWS, standardization
from localma.losses import Loss

__all__ = ["StackFit", "fit_stack"]


@dataclass
class StackFit:
    """B fitted weight networks.

    ``values`` (B, P) are their parameters, ``sizes`` their layers, ``mean`` and ``scale`` (B, d) the standardisation of their inputs,
    ``best_step`` (B,) the step each of them kept, ``seeds`` what each was drawn with, ``history`` that of the first networks.
    """

    values: Tensor
    sizes: list[tuple[int, int]]
    mean: Tensor
    scale: Tensor
    best_step: Tensor
    seeds: list[int]
    history: History | None = None

    def rows(self, index) -> StackFit:
        """Some of the networks."""
        own = {name: getattr(self, name)[index] for name in ("values", "mean", "scale", "best_step", "seeds")}
        return replace(self, **own, history=None)

    def logits(self, X: Tensor) -> Tensor:
        """(B, M, n) for X of shape (B, n, d)."""
        with torch.no_grad():
            x = (X - self.mean.unsqueeze(1)).div_(self.scale.unsqueeze(1)).transpose(1, 2)
            return MLPStack(self.values, self.sizes)(x)

    def weights(self, X: Tensor) -> Tensor:
        """(B, n, M) for X of shape (B, n, d)."""
        return torch.softmax(self.logits(X), 1).transpose(1, 2)


def fit_stack(
    X: Tensor,
    F: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    seeds: Sequence[int],
    width: int = 16,
    depth: int = 1,
    options: Options | None = None,
    penalties: Tensor | None = None,
    start: Tensor | None = None,
    sample_weight: Tensor | None = None,
    standardize: bool = True,
    workers: int | None = None,
    progress: tqdm | None = None,
) -> StackFit:
    """Fit B independent localized averages at once; row b equals ``LocalMA(shrinkage=None, random_state=seeds[b]).fit(X[b], y[b], F=F[b])``.

    Parameters
    ----------
    X : Tensor of shape (B, n, d)
    F : Tensor of shape (B, n, M), or (B, n, M, K) for cross-entropy
    y : Tensor of shape (B, n)
        All three of one floating type and on one device, which are those of the fit.
    loss : Loss
    seeds : sequence of int, length B
    width, depth : int
        The weight networks' hidden layers.
    options : Options
    penalties : Tensor of shape (B,), optional
        One penalty for each network, instead of the options' one for all.
    start : Tensor of shape (B, M), optional
        Positive weights at which training starts, the same for every x; default: equal weights.
    sample_weight : Tensor of shape (B, n), optional
        How much each observation counts, non-negative: zero for those that a fold holds out, how often a bootstrap sample drew them. Rows
        are divided by their means.
    standardize : bool
        Centre and scale the networks' inputs by each replication's own sample.
    workers : int, optional
        Threads that train tiles side by side on a CPU; default one per core. A GPU takes all replications as one tile.
    progress : tqdm, optional
        Updated once per step and network.

    Returns
    -------
    StackFit

    Raises
    ------
    ValueError
        Naming the argument: ``seeds``, ``width``, ``depth`` or one of the options.
    FloatingPointError
        If training diverged.

    Examples
    --------
    >>> import torch
    >>> from localma import LOSSES
    >>> from localma.engine import fit_stack
    >>> X = torch.randn(10, 50, 2, generator=torch.Generator().manual_seed(0))  # ten samples of fifty
    >>> F = torch.stack([X[..., 0], -X[..., 0]], -1)
    >>> fit = fit_stack(X, F, X[..., 0].abs(), LOSSES["squared"], seeds=range(10))
    >>> fit.weights(X).shape
    torch.Size([10, 50, 2])
    """
    B, n, d = X.shape
    options = (options or Options()).resolve(n)
    if F.ndim not in (3, 4) or F.shape[:2] != (B, n) or y.shape != (B, n):
        raise ValueError(
            f"F has shape {tuple(F.shape)} and y {tuple(y.shape)}, but X {tuple(X.shape)}: they must share the replications B and observations n"
        )
    if len(seeds) != B:
        raise ValueError(f"seeds has {len(seeds)} entries for {B} replications; give one each")
    check_whole("width", width, 1)
    check_whole("depth", depth, 0)
    for name, value, shape in (
        ("penalties", penalties, (B,)),
        ("start", start, (B, F.shape[2])),
        ("sample_weight", sample_weight, (B, n)),
    ):
        if value is not None and tuple(value.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, but must have {shape}")
    if start is not None and not bool((start > 0).all()):
        raise ValueError("start must be positive: a weight of zero could never grow; mix it with equal weights")
    if sample_weight is not None and not bool(((sample_weight >= 0).all(1) & (sample_weight.sum(1) > 0)).all()):
        raise ValueError("sample_weight must be non-negative, and positive somewhere in each row")
    sizes = layer_sizes(d, F.shape[2], width, depth)
    cpu = X.device.type == "cpu"

    def fit_tile(rows: slice) -> tuple[Tensor, Tensor, Tensor, Tensor, History]:
        x, f, target = X[rows], F[rows], y[rows]
        # The only loop over replications: one generator each is what makes a row in a stack equal to the same fit alone.
        generators = [torch.Generator().manual_seed(int(s)) for s in seeds[rows]]
        values = torch.stack([initial_values(sizes, g) for g in generators]).to(x)
        if start is not None:  # the last entries are the output layer's biases
            values[:, -F.shape[2] :] = start[rows].log()
        if standardize:
            mean, scale = standardization(x)
        else:
            mean, scale = x.new_zeros(x.shape[0], d), x.new_ones(x.shape[0], d)
        inputs = ((x - mean.unsqueeze(1)) / scale.unsqueeze(1)).transpose(1, 2).contiguous()
        G = loss.candidates(target, f.movedim(1, -1)).contiguous()
        share = None if sample_weight is None else sample_weight[rows] / sample_weight[rows].mean(1, keepdim=True)
        unit = loss.scale(G, target, share).unsqueeze(1)

        def criterion(logits, G, target, *share):
            value = loss.of_logits(logits, G, target) / unit
            return value * share[0] if share else value

        targets = [G, target] if share is None else [G, target, share]
        stack = MLPStack(values, sizes)
        history = train(stack, inputs, criterion, targets, options, generators, progress, None if penalties is None else penalties[rows])
        return stack.values(), mean, scale, history.best_step, history

    def row_bytes(n):
        return X.element_size() * n * (d + 4 * width * depth + 6 * F.shape[2])

    rows = min(TILE_ROWS, max(1, TILE_BYTES // row_bytes(n))) if cpu else B
    workers = (workers or os.cpu_count() or 1) if cpu else 1
    rows = max(1, min(rows, math.ceil(B / workers)))
    tiles = [slice(start, min(start + rows, B)) for start in range(0, B, rows)]
    # tiles side by side beat many threads inside products this small, and a single small one gains nothing from them
    small = cpu and (len(tiles) > 1 or row_bytes(min(n, options.batch_size)) < TILE_BYTES)
    with one_thread(small):
        pool = ThreadPoolExecutor(workers)
        try:
            parts = list(pool.map(fit_tile, tiles)) if len(tiles) > 1 else [fit_tile(tiles[0])]
        finally:
            pool.shutdown(cancel_futures=True)  # on Ctrl-C: finish the tiles under way, start no other
    values, mean, scale, best_step = (torch.cat([p[k] for p in parts]) for k in range(4))
    return StackFit(values, sizes, mean, scale, best_step, [int(s) for s in seeds], parts[0][4])


def body_of(fit: StackFit, b: int, dtype: torch.dtype) -> nn.Sequential:
    """One network of a stack, with its standardisation in front."""
    layers = split_parameters(fit.values[b], fit.sizes)
    return nn.Sequential(Standardize(fit.mean[b], fit.scale[b]), *mlp_from_parameters(layers, dtype).to(fit.values.device)).eval()
