r"""How far to shrink localized weights towards global ones: cross-validation of the penalty, with global weights among the candidates.

A weight network whose weights (not biases) are zero is constant in x, so a penalty on them runs from the paper's method (none) to global
weights (infinite). The held-out loss chooses among a grid of penalties, and global weights win unless the best of these beats them by one
standard error. Penalties below the grid, with which small samples overfit, must show as much. Everything here is for many samples at once.
The book derives it in "When global weights are right" (``book/beyond/adaptive``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from localma.engine.local import StackFit, fit_stack
from localma.engine.options import Options
from localma.engine.simplex import soften, start_weights
from localma.engine.validation import SMALLER, CrossValidation, cross_validate, grid, rescale, subset
from localma.losses import Loss

__all__ = ["ShrunkStack", "fit_shrunk_stack", "training"]

#: Networks that are averaged once the penalty is chosen.
MEMBERS = 5


def training(n: int) -> Options:
    """How to train on n observations: :class:`Options` with a larger epsilon, a tenth of the automatic penalty.

    Adam divides a gradient by its own size, so close to global weights, where no direction pays, steps would follow the signs of rounding errors. With
    this much more in the denominator (neither criterion nor penalty has a unit) they shrink with the gradient, and what is learned is a
    continuous function of the data. A gradient below it is small beside that of the penalty on a weight of a tenth.
    """
    return Options(epsilon=0.1 * Options().resolve(n).penalty)


@dataclass(frozen=True)
class ShrunkStack:
    """R localized averages, each with a penalty of its own choice.

    ``shrinkage`` (R,) are the chosen penalties, ``global_weights`` (R, M) what stands where that is infinite, ``stack`` the networks, (R * members) of
    them, sample by sample.
    """

    shrinkage: np.ndarray
    global_weights: np.ndarray
    stack: StackFit
    cross_validation: CrossValidation

    def weights(self, X: Tensor) -> Tensor:
        """(R, n, M) for X of shape (R, n, d)."""
        R = len(self.shrinkage)
        members = len(self.stack.values) // R
        w = 0.0
        for j in range(members):
            w = w + self.stack.rows(slice(j, None, members)).weights(X) / members
        constant = torch.as_tensor(np.isinf(self.shrinkage), device=X.device)[:, None, None]
        return torch.where(constant, torch.as_tensor(self.global_weights, dtype=X.dtype, device=X.device).unsqueeze(1), w)


def fit_shrunk_stack(
    X: Tensor,
    F: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    seeds: Sequence[int],
    width: int = 16,
    depth: int = 1,
    options: Options | None = None,
    members: int = MEMBERS,
    workers: int | None = None,
    progress: tqdm | None = None,
) -> ShrunkStack:
    """Fit R localized averages with ``shrinkage="cv"`` at once; arguments as :func:`localma.engine.fit_stack` takes them.

    Examples
    --------
    Global weights are right here, and are kept:

    >>> import torch
    >>> from localma import LOSSES
    >>> from localma.engine import fit_shrunk_stack
    >>> X = torch.randn(4, 100, 2, generator=torch.Generator().manual_seed(0))
    >>> F = torch.stack([X[..., 0], X[..., 1]], -1)
    >>> fit = fit_shrunk_stack(X, F, F.mean(-1), LOSSES["squared"], seeds=range(4))
    >>> fit.shrinkage
    array([inf, inf, inf, inf])
    """
    R, n, _ = X.shape
    settings = {"width": width, "depth": depth, "workers": workers, "progress": progress}

    index = torch.as_tensor(np.stack([subset(n, int(s)) for s in seeds]))
    seen = tuple(torch.stack([row[i] for row, i in zip(a, index, strict=True)]) for a in (X, F, y))

    def fit(rows, seeds, penalties, start, sample_weight):
        x, f, target = (a[rows] for a in seen)
        how = {"penalties": penalties, "start": start, "sample_weight": sample_weight, "options": options or training(x.shape[1])}
        return fit_stack(x, f, target, loss, seeds=seeds, **how, **settings).logits(x)

    chosen = cross_validate(fit, *seen[1:], loss, grid(index.shape[1]), grid(index.shape[1], SMALLER), seeds=seeds)
    shrinkage = rescale(chosen.shrinkage[chosen.chosen], index.shape[1], n)
    gw = start_weights(F.cpu().numpy(), y.cpu().numpy(), loss)
    rows = torch.arange(R).repeat_interleave(members)
    # rows whose choice is global weights are trained, too (with the largest penalty), which costs little and keeps the stack whole
    finite = np.where(np.isinf(shrinkage), grid(n)[-1], shrinkage)
    stack = fit_stack(
        X[rows],
        F[rows],
        y[rows],
        loss,
        seeds=np.concatenate([member_seeds(int(s), members) for s in seeds]),
        penalties=torch.as_tensor(finite, dtype=F.dtype, device=F.device)[rows],
        start=torch.as_tensor(soften(gw), dtype=F.dtype, device=F.device)[rows],
        options=options or training(n),
        **settings,
    )
    return ShrunkStack(shrinkage, gw, stack, chosen)


def member_seeds(seed: int, members: int) -> list[int]:
    """The first is the seed itself, so that a single member is the network of a plain fit."""
    return [seed, *(int(s) for s in np.random.SeedSequence([seed, 1]).generate_state(members - 1))]
