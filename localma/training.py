r"""How to train, and many weight networks trained as one stack: every array has a leading replication axis."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from numbers import Real

import torch
from torch import Tensor
from tqdm import tqdm

from localma.devices import one_thread
from localma.loop import History, train
from localma.losses import Loss
from localma.network import MLPStack, check_whole, initial_values, layer_sizes

__all__ = ["Options", "StackFit", "fit_stack"]

# A tile's activations should stay in the last-level cache, which tiles share; smaller tiles pay more for Python than they save in memory traffic.
TILE_BYTES = 16 * 2**20
TILE_ROWS = 128


@dataclass(frozen=True)
class Options:
    """How to train; ``"auto"`` values are resolved from the sample size by :meth:`resolve`.

    Parameters
    ----------
    steps : int or "auto"
        Adam steps, one full cycle of the learning rate. Auto: 100, and 100 sqrt(n / 1000) for n above 1000.
    batch_size : int or "auto"
        Observations per step. Auto: all up to n = 1024, mini-batches of 1024 above.
    learning_rate : float
        Peak of the one-cycle schedule (Smith & Topin 2019).
    penalty : float or "auto"
        lambda in ``criterion + lambda * sum of squared weights`` (not biases); the criterion is the loss divided by
        :meth:`Loss.scale`, so lambda has no unit. Auto: 0.01 (100 / n)^(3/4), chosen with the learning rate by ``python -m localma.replication tuning``.
    validation_fraction : float or "auto"
        Share held out to choose the best step. Auto: 0, since the penalty and the cycle regularise, while the step that looks best on few
        observations often is not (in S1 with n = 1500 a tenth held out triples the risk).
    epsilon : float
        Adam divides a gradient by its own running size plus this (Kingma & Ba 2015, Algorithm 1).
    patience : int or None
        Stop after so many evaluations without improvement (there are about 100 in a fit). None: run the whole cycle.

    Examples
    --------
    >>> from localma.training import Options
    >>> Options(steps=50).resolve(100)
    Options(steps=50, batch_size=100, learning_rate=0.1, penalty=0.01, validation_fraction=0.0, patience=None, epsilon=1e-08)
    """

    steps: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float = 0.1
    penalty: float | str = "auto"
    validation_fraction: float | str = "auto"
    patience: int | None = None
    epsilon: float = 1e-8

    def resolve(self, n: int) -> Options:
        """The same options with every "auto" replaced, checked for a sample of ``n`` observations."""
        auto = {
            "steps": round(100 * max(1.0, n / 1000) ** 0.5),
            "batch_size": min(n, 1024),
            "penalty": 0.01 * (100 / n) ** 0.75,
            "validation_fraction": 0.0,
        }
        chosen = replace(self, **{name: value for name, value in auto.items() if getattr(self, name) == "auto"})
        chosen._check(n)
        return chosen

    def n_validation(self, n: int) -> int:
        return round(self.validation_fraction * n)

    def _check(self, n: int) -> None:
        check_whole("steps", self.steps, 0, ' or "auto"')
        check_whole("batch_size", self.batch_size, 1, ' or "auto"')
        if self.patience is not None:
            check_whole("patience", self.patience, 1, " or None")
        # a number that compares false with everything (NaN) fails these as well
        if not (isinstance(self.learning_rate, Real) and 0 < self.learning_rate < math.inf):
            raise ValueError(f"learning_rate must be a positive number, but is {self.learning_rate!r}")
        if not (isinstance(self.epsilon, Real) and 0 < self.epsilon < math.inf):
            raise ValueError(f"epsilon must be a positive number, but is {self.epsilon!r}")
        if not (isinstance(self.penalty, Real) and 0 <= self.penalty < math.inf):
            raise ValueError(f'penalty must be a non-negative number or "auto", but is {self.penalty!r}')
        if not (isinstance(self.validation_fraction, Real) and 0 <= self.validation_fraction < 1):
            raise ValueError(f'validation_fraction must be a number in [0, 1) or "auto", but is {self.validation_fraction!r}')
        if self.validation_fraction and not 1 <= self.n_validation(n) < n:
            raise ValueError(
                f"validation_fraction = {self.validation_fraction:g} of n = {n} observations leaves "
                f"{self.n_validation(n)} for validation and "
                f"{n - self.n_validation(n)} for training; give more data or validation_fraction=0"
            )
        if self.patience is not None and not self.validation_fraction:
            raise ValueError("patience needs a validation part: set validation_fraction above 0, or patience=None")


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


def standardization(X: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over observations, (B, d) for X of shape (B, n, d); constant columns get scale one."""
    mean, scale = X.mean(1), X.std(1, correction=0)
    # a column that is constant up to rounding must not be blown up into noise
    flat = scale <= 10 * torch.finfo(X.dtype).eps * mean.abs()
    return mean, torch.where(flat | (scale == 0), torch.ones_like(scale), scale)


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
    >>> from localma.training import fit_stack
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
