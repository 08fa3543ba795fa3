"""Many weight networks trained as one stack: localized averages of many samples at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from localma.engine.devices import alone
from localma.engine.loop import History, train
from localma.engine.networks import (
    Mlp,
    Standardize,
    WeightNetwork,
    check_output,
    initial_values,
    mlp_from_parameters,
    module_input,
    split_parameters,
    start_at,
)
from localma.engine.stacks import MLPStack, ModuleStack
from localma.engine.tiles import TILE_BYTES, in_threads, standardization, tile_rows
from localma.engine.training import Training
from localma.losses import Loss

__all__ = ["ModulesFit", "StackFit", "fit_stack"]

#: Numbers in a tile's inputs or candidates from which no second copy of them is made: each batch is put into units of
#: its own.
LARGE = 2**24


@dataclass
class StackFit:
    """B fitted weight networks.

    ``values`` (B, P) are their parameters, ``sizes`` their layers, ``mean`` and ``scale`` (B, d) the standardisation of
    their inputs, ``best_step`` (B,) the step each of them kept, ``seeds`` what each was drawn with, ``history`` that of
    the first networks.
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

    def bodies(self) -> list[nn.Module]:
        """Each network as a module, with its standardisation in front."""
        values, dtype = self.values, self.values.dtype
        networks = [mlp_from_parameters(split_parameters(v, self.sizes), dtype).to(values.device) for v in values]
        return [
            nn.Sequential(Standardize(*units), *net).eval()
            for *units, net in zip(self.mean, self.scale, networks, strict=True)
        ]


@dataclass
class ModulesFit:
    """The same of modules that somebody else wrote: what maps x to logits, and the history of training."""

    modules: list[nn.Module]
    history: History

    def rows(self, index) -> ModulesFit:
        """Some of the networks."""
        return replace(self, modules=self.modules[index])

    def logits(self, X: Tensor) -> Tensor:
        """(B, M, n) for X of shape (B, n, ...)."""
        with torch.no_grad():  # in pieces, so that many observations need no large activations
            pairs = zip(self.modules, X, strict=True)
            return torch.stack(
                [torch.cat([body(module_input(body, part)) for part in x.split(1024)]).T for body, x in pairs]
            )

    def weights(self, X: Tensor) -> Tensor:
        """(B, n, M) for X of shape (B, n, ...)."""
        return torch.softmax(self.logits(X), 1).transpose(1, 2)

    def bodies(self) -> list[nn.Module]:
        return self.modules


def fit_stack(
    X: Tensor,
    F: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    seeds: Sequence[int],
    network: Mlp | nn.Module | Callable[[int], nn.Module] = Mlp(),  # noqa: B008 (frozen)
    training: Training = Training(),  # noqa: B008
    penalties: Tensor | None = None,
    start: Tensor | None = None,
    sample_weight: Tensor | None = None,
    standardize: bool = True,
    workers: int | None = None,
    progress: tqdm | None = None,
) -> StackFit | ModulesFit:
    """Fit B independent localized averages at once; row b equals
    ``LocalMA(shrinkage=None, random_state=seeds[b]).fit(X[b], y[b], F=F[b])``.

    Parameters
    ----------
    X : Tensor of shape (B, n, d), or (B, n, ...) for modules
    F : Tensor of shape (B, n, M), or (B, n, M, K) for cross-entropy
    y : Tensor of shape (B, n)
        All three of one floating type and on one device, which are those of the fit.
    loss : Loss
    seeds : sequence of int, length B
    network : Mlp, torch.nn.Module or callable
        As of :class:`localma.LocalMA`; each network is a copy of the module, or what the function of M gives after
        ``torch.manual_seed(seeds[b])``.
    training : Training
    penalties : Tensor of shape (B,), optional
        One penalty for each network, instead of the one for all.
    start : Tensor of shape (B, M), optional
        Positive weights at which training starts, the same for every x; default: equal weights.
    sample_weight : Tensor of shape (B, n), optional
        How much each observation counts, non-negative: zero for those that a fold holds out, how often a bootstrap
        sample drew them. Rows are divided by their means.
    standardize : bool
        Centre and scale the inputs of an Mlp by each replication's own sample.
    workers : int, optional
        Threads that train tiles side by side on a CPU; default one per core. A GPU takes all replications as one tile.
    progress : tqdm, optional
        Updated once per step and network.

    Returns
    -------
    StackFit, or ModulesFit for modules

    Raises
    ------
    ValueError
        Naming the argument: ``seeds``, ``width``, ``depth`` or one of the settings.
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
    B, n = X.shape[:2]
    _check_stack(X, F, y, seeds, penalties, start, sample_weight)
    training = training.resolve(n, careful=not isinstance(network, Mlp))
    share = None if sample_weight is None else sample_weight / sample_weight.mean(1, keepdim=True)
    given = (loss, training, progress)
    if not isinstance(network, Mlp):
        return _fit_modules(X, F, y, network, seeds, penalties, start, share, *given)
    d, M = X.shape[2], F.shape[2]
    sizes = network.sizes(d, M)

    def fit_tile(rows: slice) -> StackFit:
        each, begin, weight = (None if a is None else a[rows] for a in (penalties, start, share))
        return _fit_tile(X[rows], F[rows], y[rows], sizes, seeds[rows], each, begin, weight, standardize, *given)

    cpu = X.device.type == "cpu"
    # of a step, which looks at one batch
    row_bytes = X.element_size() * min(n, training.batch_size) * (d + 4 * network.width * network.depth + 6 * M)
    rows = tile_rows(row_bytes, B) if cpu else B
    tiles = [slice(start, min(start + rows, B)) for start in range(0, B, rows)]
    # tiles side by side beat many threads inside products this small, and a single small one gains nothing from them
    small = cpu and (len(tiles) > 1 or row_bytes < TILE_BYTES)
    parts = in_threads(fit_tile, tiles, workers, small)
    values, mean, scale, best_step = (
        torch.cat([getattr(p, name) for p in parts]) for name in ("values", "mean", "scale", "best_step")
    )
    return StackFit(values, sizes, mean, scale, best_step, [int(s) for s in seeds], parts[0].history)


def _check_stack(X, F, y, seeds, penalties, start, sample_weight) -> None:
    B, n = X.shape[:2]
    if F.ndim not in (3, 4) or F.shape[:2] != (B, n) or y.shape != (B, n):
        raise ValueError(
            f"F has shape {tuple(F.shape)} and y {tuple(y.shape)}, but X {tuple(X.shape)}: they must share the"
            " replications B and observations n"
        )
    if len(seeds) != B:
        raise ValueError(f"seeds has {len(seeds)} entries for {B} replications; give one each")
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


def _fit_tile(x, f, target, sizes, seeds, penalties, start, share, standardize, loss, training, progress) -> StackFit:
    """A tile of ReLU networks."""
    # The only loop over replications: one generator each is what makes a row in a stack equal to the same fit alone.
    generators = [torch.Generator().manual_seed(int(s)) for s in seeds]
    values = torch.stack([initial_values(sizes, g) for g in generators]).to(x)
    if start is not None:  # the last entries are the output layer's biases
        values[:, -f.shape[2] :] = start.log()
    d = x.shape[2]
    mean, scale = standardization(x) if standardize else (x.new_zeros(len(x), d), x.new_ones(len(x), d))
    inputs, units = x.transpose(1, 2), (mean.unsqueeze(-1), scale.unsqueeze(-1))
    whole = training.batch_size >= x.shape[1] or max(x.numel(), f.numel()) < LARGE
    stack = MLPStack(values, sizes, None if whole else units)
    if whole:
        inputs = inputs.sub(units[0]).div_(units[1]).contiguous()
    targets = _targets(f, target, share, loss, whole)
    history = train(stack, inputs, _Criterion(loss), targets, training, generators, progress, penalties)
    return StackFit(stack.values(), sizes, mean, scale, history.best_step, list(seeds), history)


def _fit_modules(X, F, y, network, seeds, penalties, start, share, loss, training, progress) -> ModulesFit:
    """Modules that somebody else wrote: copies of one, or what a function of M gives."""
    M = F.shape[2]
    with alone(), torch.random.fork_rng(devices=[F.device] if F.device.type == "cuda" else []):
        bodies = []
        for seed in seeds:
            torch.manual_seed(int(seed))  # for a factory's initial values and for dropout
            body = copy.deepcopy(network) if isinstance(network, nn.Module) else network(M)
            whole = (body if isinstance(body, WeightNetwork) else WeightNetwork(body)).to(F.device, F.dtype)
            bodies.append(whole.body)
        check_output("network", whole, module_input(whole, X[0, :1]), M, "one logit per model")
        if start is not None:
            start_at(bodies, start)
        stack = ModuleStack(bodies)
        generators = [torch.Generator().manual_seed(int(s)) for s in seeds]
        targets = _targets(F, y, share, loss)
        history = train(stack, X, _Criterion(loss), targets, training, generators, progress, penalties)
    return ModulesFit(stack.unstack(), history)


@dataclass(frozen=True)
class _Criterion:
    """The loss of each observation for weights ``softmax(logits)``, times its ``share``."""

    loss: Loss

    def __call__(self, logits: Tensor, G: Tensor, y: Tensor, share: Tensor) -> Tensor:
        return self.loss.of_logits(logits, G, y) * share

    def with_gradient(self, logits: Tensor, G: Tensor, y: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = self.loss.with_gradient(logits, G, y)
        return value * share, gradient.mul_(share.unsqueeze(-2))


def _targets(F: Tensor, y: Tensor, share: Tensor | None, loss: Loss, whole: bool = True) -> list[Tensor]:
    """What :class:`_Criterion` compares logits with; shares are in units of the loss's scale. Unless ``whole``, batches
    will be taken from F where it lies.
    """
    G = loss.candidates(y, F.movedim(1, -1))
    G = G.contiguous() if whole else G
    unit = loss.scale(G, y, *([] if share is None else [share])).unsqueeze(1)
    return [G, y, (1 / unit).expand_as(y) if share is None else share / unit]
