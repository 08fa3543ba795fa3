r"""Localized averages, from choosing how far to shrink them towards global weights to the networks of resampled data.

A weight network whose weights (not biases) are zero is constant in x, so a penalty on them runs from no shrinkage to
global weights (infinite). The held-out loss chooses among a grid of penalties, and global weights win unless the best
of these beats them by one standard error. Penalties below the grid, with which small samples overfit, must show as
much; above it a sample that knows little finds larger ones. Everything here is for many samples at once. The book
derives it in "When global weights are right" (``book/core/global_weights``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from localma.engine.local import fit_stack
from localma.engine.networks import Mixture, Mlp, constant_body
from localma.engine.simplex import soften, start_weights
from localma.engine.training import Training
from localma.engine.validation import (
    FOLDS,
    LARGER,
    MULTIPLES,
    SMALLER,
    CrossValidation,
    cross_validate,
    grid,
    rescale,
    subset,
)
from localma.losses import Loss

__all__ = ["LocalStack", "fit_local_stack"]

#: Networks that are averaged once the penalty is chosen.
MEMBERS = 5


@dataclass(frozen=True)
class LocalStack:
    """R localized averages.

    ``shrinkage`` (R,) are the penalties and ``global_weights`` (R, M) what stands where that is infinite (None both
    without shrinkage); ``stack`` are the networks, ``members`` of each sample, sample by sample (None if all weights
    are global); ``resampled`` (R, bootstrap) bodies of resampled data.
    """

    shrinkage: Any
    global_weights: Any
    stack: Any
    members: int
    cross_validation: CrossValidation | None
    resampled: list[list[nn.Module]]

    @property
    def is_global(self) -> np.ndarray:
        """Whose weights are the same everywhere, (R,)."""
        return np.isinf(self.shrinkage) if self.shrinkage is not None else np.zeros(len(self.resampled), bool)

    def weights(self, X: Tensor) -> Tensor:
        """(R, n, M) for X of shape (R, n, d)."""
        R, n = X.shape[:2]
        own: Any = 0.0
        for j in range(self.members if self.stack is not None else 0):
            own = own + self.stack.rows(slice(j, None, self.members)).weights(X) / self.members
        if not self.is_global.any():
            return own
        constant = torch.as_tensor(self.global_weights, dtype=X.dtype, device=X.device).unsqueeze(1).expand(R, n, -1)
        if self.stack is None:
            return constant
        return torch.where(torch.as_tensor(self.is_global, device=X.device)[:, None, None], constant, own)

    def body(self, r: int, dtype: torch.dtype, device) -> nn.Module:
        """What maps x to logits in sample r."""
        if self.is_global[r]:
            return constant_body(self.global_weights[r], dtype, device)
        bodies = self.stack.rows(slice(r * self.members, (r + 1) * self.members)).bodies()
        return bodies[0] if self.members == 1 else Mixture(bodies)


def fit_local_stack(
    X: Tensor,
    F: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    seeds: Sequence[int],
    network: Mlp | nn.Module | Callable[[int], nn.Module] = Mlp(),  # noqa: B008 (frozen)
    training: Training = Training(),  # noqa: B008
    shrinkage: str | float | np.ndarray | None = "cv",
    members: int = MEMBERS,
    bootstrap: int = 0,
    groups: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
    workers: int | None = None,
    progress: tqdm | None = None,
) -> LocalStack:
    """Fit R localized averages at once; row r equals ``LocalMA(random_state=seeds[r]).fit(X[r], y[r], F=F[r])`` with
    the same settings.

    Parameters
    ----------
    X, F, y, loss, seeds, network, training, workers, progress
        As :func:`localma.engine.fit_stack` takes them; F and y may have more digits than the networks, whose type
        ``training.dtype`` names (default F's).
    shrinkage : "cv", float, array of shape (R,) or None
    members, bootstrap : int
        As of :class:`localma.LocalMA`; an array gives each sample a penalty of its own, infinite for global weights.
    groups : array of shape (n,), optional
        Which observations belong together, in every sample.
    sample_weight : array of shape (R, n), optional
        How much each observation counts, positive.

    Examples
    --------
    Global weights are right here, and are kept:

    >>> import torch
    >>> from localma import LOSSES
    >>> from localma.engine import fit_local_stack
    >>> X = torch.randn(4, 100, 2, generator=torch.Generator().manual_seed(0))
    >>> F = torch.stack([X[..., 0], X[..., 1]], -1)
    >>> fit = fit_local_stack(X, F, F.mean(-1), LOSSES["squared"], seeds=range(4))
    >>> fit.shrinkage
    array([inf, inf, inf, inf])
    """
    R, n = y.shape
    dtype = training.floating(F.dtype)
    sample = X, F.to(dtype), y.to(dtype)
    known, target = F.cpu().numpy(), y.cpu().numpy()
    shrunk, choose, careful = shrinkage is not None, isinstance(shrinkage, str), not isinstance(network, Mlp)
    if progress is not None:
        steps = training.resolve(n, shrunk=shrunk, careful=careful).steps
        networks = members + bootstrap + (FOLDS * len(MULTIPLES) if choose else 0)
        progress.total = max(progress.total or 0, progress.n + steps * R * networks)

    def fit(data, rows, seeds, penalties, start, counts=None):
        """Networks of ``data``'s samples ``rows``."""
        x, f, t = (_of_samples(a, rows) for a in data)
        how = training.resolve(x.shape[1], shrunk=shrunk, careful=careful)
        if progress is not None:  # smaller penalties, too, may be tried
            progress.total = max(progress.total, progress.n + how.steps * len(seeds))
        more = {"penalties": penalties, "start": start, "sample_weight": counts}
        common = {"network": network, "training": how, "workers": workers, "progress": progress}
        return fit_stack(x, f, t, loss, seeds=seeds, **more, **common)

    penalty: Any = None
    gw: Any = None
    chosen = None
    if shrunk:
        gw = start_weights(known, target, loss, sample_weight)
        penalty = None if choose else np.full(R, shrinkage, dtype=float)
    if choose:
        chosen, penalty = _cross_validate(fit, sample, loss, seeds, groups, sample_weight)

    def begin(rows, w) -> tuple[Any, Any]:
        """Penalties and starting weights of networks of the samples ``rows``."""
        if not shrunk:
            return None, None
        # samples with global weights are trained beside others (with the largest penalty): it keeps the stack whole
        finite = np.where(np.isinf(penalty), grid(n)[-1], penalty)
        as_tensor = partial(torch.as_tensor, dtype=dtype, device=F.device)
        return as_tensor(finite[rows]), as_tensor(soften(w))

    is_global = np.isinf(penalty) if shrunk else np.zeros(R, bool)
    stack, rows = None, np.arange(R).repeat(members)
    if not is_global.all():
        own = [s for seed in seeds for s in member_seeds(int(seed), members)]
        how = None if sample_weight is None else torch.as_tensor(sample_weight[rows], dtype=dtype, device=F.device)
        stack = fit(sample, rows, own, *begin(rows, gw[rows] if shrunk else None), how)
    resampled: list[list[nn.Module]] = [[] for _ in range(R)]
    for r in range(R if bootstrap else 0):
        counts, own = _resample(n, bootstrap, int(seeds[r]), groups)
        counts = counts if sample_weight is None else counts * sample_weight[r]
        w: Any = np.stack([start_weights(known[r], target[r], loss, c) for c in counts]) if shrunk else None
        if is_global[r]:
            resampled[r] = [constant_body(v, dtype, F.device) for v in w]
        else:
            rows, weight = np.full(bootstrap, r), torch.as_tensor(counts, dtype=dtype, device=F.device)
            resampled[r] = fit(sample, rows, own, *begin(rows, w), weight).bodies()
    return LocalStack(penalty, gw, stack, members, chosen, resampled)


def _cross_validate(fit, sample, loss, seeds, groups, sample_weight) -> tuple[CrossValidation, np.ndarray]:
    """What held-out observations said, and each sample's penalty for a fit to all."""
    R, n = sample[2].shape
    index = np.stack([subset(n, int(s)) for s in seeds])
    seen = index.shape[1]
    if groups is not None and R > 1 and seen < n:
        raise ValueError(f"groups of several samples of over {seen} observations are too many; fit one at a time")
    x, f, target = data = [torch.stack([row[i] for row, i in zip(a, index, strict=True)]) for a in sample]

    def logits(rows, *how):
        return fit(data, rows, *how).logits(_of_samples(x, rows))

    more = {"seeds": seeds, "groups": None if groups is None else groups[index[0]]}
    if sample_weight is not None:
        more["sample_weight"] = np.take_along_axis(sample_weight, index, 1)
    chosen = cross_validate(logits, f, target, loss, grid(seen), grid(seen, SMALLER), grid(seen, LARGER), **more)
    return chosen, rescale(chosen.shrinkage[chosen.chosen], seen, n)


def _resample(n: int, bootstrap: int, seed: int, groups) -> tuple[np.ndarray, list[int]]:
    """How often each observation is drawn, (bootstrap, n), groups as a whole; and a seed for each network."""
    of = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    draws = of.max() + 1
    counts = np.random.default_rng([seed, 2]).multinomial(draws, np.full(draws, 1 / draws), bootstrap)[:, of]
    return counts, [int(s) for s in np.random.SeedSequence([seed, 3]).generate_state(bootstrap)]


def _of_samples(a: Tensor, rows) -> Tensor:
    """The samples ``rows`` of a (R, ...); a view where there is only one."""
    return a.expand(len(rows), *a.shape[1:]) if len(a) == 1 else a[torch.as_tensor(rows)]


def member_seeds(seed: int, members: int) -> list[int]:
    """The first is the seed itself, so that a single member is the network of a plain fit."""
    return [seed, *(int(s) for s in np.random.SeedSequence([seed, 1]).generate_state(members - 1))]
