"""Averages of quantile models: local weights under the pinball loss, by a linear programme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from localma.checks import RandomState, check_whole, resolve_seed
from localma.engine import first_smallest, simplex_lp
from localma.losses import pinball
from localma.relatives.local import Local

__all__ = ["QuantileAverage"]

CELLS = (1, 2, 4, 8)  # what cells="cv" chooses from


class QuantileAverage(Local):
    r"""Local average of quantile models under the pinball loss: :math:`w(x) = \sum_k \varphi_k(x) A_k`, fitted exactly.

    The :math:`\varphi_k` are soft memberships in K cells (they are positive and sum to one), the rows :math:`A_k`
    weights on the simplex, so that the :math:`w(x)` are on it as well. The pinball loss is piecewise linear in A: a
    linear programme.

    Parameters
    ----------
    models : list, optional
        Candidates for the quantile of this level, as in :class:`localma.LocalMA`.
    level : float
        Between 0 and 1.
    cells : int or "cv"
        K; one cell means constant weights. "cv": 1, 2, 4 or 8, by five-fold cross-validation.
    features : list of column names, callable or transformer, optional
        What the weights read, where it differs from what the models do: see :class:`localma.LocalMA`.
    random_state : int, RandomState or None
        For the cells' centres and the folds.

    Attributes
    ----------
    rule_ : tuple
        Centres (K, d) of the cells on standardised covariates, their width, and A of shape (K, M).
    cells_ : int

    Notes
    -----
    Source: Fakoor, Kim, Mueller, Smola and Tibshirani (2023), Flexible model aggregation for quantile regression.
    Simplified: cells instead of a network (that one is ``LocalMA(loss=pinball(level))``), one level at a time, one
    weight for each model rather than for each pair of levels. For several levels fit one average each and sort the
    predictions. The better choice when the question is a quantile: a mean cannot answer it.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import QuantileAverage
    >>> x = np.linspace(-1, 1, 100)
    >>> average = QuantileAverage(level=0.5, cells=2, random_state=0)
    >>> w = average.fit(x[:, None], abs(x), F=np.stack([-x, x], 1)).weights([[-1.0], [1.0]])
    >>> bool(w[0, 0] > 0.9 and w[1, 1] > 0.9)
    True
    """

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        level: float = 0.5,
        cells: int | str = "cv",
        clip: bool = True,
        features: Any = None,
        random_state: RandomState = None,
    ) -> None:
        self.models = models
        self.level = level
        self.cells = cells
        self.clip = clip
        self.features = features
        self.random_state = random_state

    @property
    def loss(self):
        return pinball(self.level)

    def _check(self, X, y, M, loss):
        super()._check(X, y, M, loss)
        if self.cells != "cv":
            check_whole("cells", self.cells, 1, ' or "cv"')

    def _fit_rule(self, Z, F, y, loss, w):
        seed = resolve_seed(self.random_state)
        self.cells_ = self.cells
        if self.cells == "cv":
            folds = list(KFold(min(5, len(y)), shuffle=True, random_state=seed).split(Z)) if len(y) > 1 else []
            options = [K for K in CELLS if folds and min(len(train) for train, _ in folds) >= 10 * K] or [1]
            value = [0.0] * len(options)
            for i, K in enumerate(options if len(options) > 1 else []):
                for train, test in folds:
                    rule = _fit_cells(Z[train], F[train], y[train], loss, K, seed, w[train])
                    value[i] += w[test] @ loss(y[test], (_cell_weights(rule, Z[test]) * F[test]).sum(1))
            self.cells_ = options[first_smallest(value)]
        return _fit_cells(Z, F, y, loss, self.cells_, seed, w)

    def _rule_weights(self, Z):
        return _cell_weights(self.rule_, Z)


def _memberships(centres, width, Z):
    """Soft memberships of the rows of Z (n, d) in the cells, (n, K): positive, summing to one."""
    distance = np.square(Z[:, None, :] - centres).sum(-1)
    e = np.exp(-0.5 * (distance - distance.min(1, keepdims=True)) / width**2)
    return e / e.sum(1, keepdims=True)


def _cell_weights(rule, Z):
    centres, width, A = rule
    return _memberships(centres, width, Z) @ A


def _fit_cells(Z, F, y, loss, K, seed, w):
    n, M = F.shape
    K = min(K, len(np.unique(Z, axis=0)))
    with threadpool_limits(1):
        centres = KMeans(K, n_init=4, random_state=seed).fit(Z).cluster_centers_
    gaps = np.sqrt(np.square(centres[:, None] - centres).sum(-1)) + np.diag(np.full(K, np.inf))
    width = 0.5 * float(np.median(gaps.min(1))) if K > 1 else 1.0
    errors = _memberships(centres, width, Z)[:, :, None] * (w[:, None] * (F - y[:, None]))[:, None]  # they sum to one
    return centres, width, simplex_lp(errors.reshape(n, K * M), loss.slopes, K)
