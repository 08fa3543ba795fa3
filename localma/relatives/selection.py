"""Localized model selection: one model at each place, among neighbours or in the cells of a partition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import KFold
from sklearn.neighbors import KDTree

from localma.averages.packing import record
from localma.checks import RandomState, check_whole, choose, resolve_seed
from localma.engine import first_smallest
from localma.losses.loss import LossLike
from localma.relatives.common import losses_of_models
from localma.relatives.local import Local

__all__ = ["LocalSelection"]


record(KDTree, lambda tree: np.asarray(tree.data), KDTree)


class LocalSelection(Local):
    """Localized model selection: at each x the single model that did best nearby, among neighbours or in the cell of a
    partition.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; every loss.
    form : {"neighbours", "partition"}
        Neighbours: the model with the smallest mean loss over the k nearest observations. Partition: cells that are cut
        one after the other at the covariate and the place where separate choices gain most.
    size : int or "cv"
        k (observations as near as the k-th count, too), or how often cells are cut (depth 2 means up to four cells).
        "cv": k by leave-one-out, among 5, 10, 20, 40, ... and the whole sample; the depth, 0 to 4, by five-fold
        cross-validation. Both include the choice of one model for all.
    features : list of column names, callable or transformer, optional
        What the weights read, where it differs from what the models do: see :class:`localma.LocalMA`.
    random_state : int, RandomState or None
        For the folds.

    Attributes
    ----------
    rule_ : object
        Neighbours: scikit-learn's tree and the losses. Partition: nested (covariate, cut, below, above), with model
        numbers as leaves.
    size_ : int

    Notes
    -----
    Source: Yang (2008), Localized model selection for regression. Simplified: models are frozen, so that the whole
    sample judges them and none is kept to fit them; partitions grow greedily. The better choice when each model is
    right in a region of its own with a sharp border, or when a user must be told which one model was asked.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import LocalSelection
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> experts = [lambda X: -X[:, 0], lambda X: X[:, 0]]
    >>> selection = LocalSelection(experts, form="partition", size=1).fit(X, abs(X[:, 0]))
    >>> selection.weights([[-0.01], [0.01]])
    array([[1., 0.],
           [0., 1.]])
    """

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        loss: LossLike = "squared",
        clip: bool = True,
        form: str = "neighbours",
        size: int | str = "cv",
        features: Any = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(models, loss=loss, clip=clip, features=features)
        self.form = form
        self.size = size
        self.random_state = random_state

    def _check(self, X, y, M, loss):
        super()._check(X, y, M, loss)
        choose("form", self.form, ("neighbours", "partition"))
        if self.size != "cv":
            check_whole("size", self.size, 1 if self.form == "neighbours" else 0, ' or "cv"')
            if self.form == "neighbours" and self.size > len(y):
                raise ValueError(f"size = {self.size} neighbours, but the sample has n = {len(y)}; give fewer")

    def _fit_rule(self, Z, F, y, loss, w):
        losses = w[:, None] * losses_of_models(loss, y, F)
        if self.form == "partition":
            self.size_ = self._depth(Z, losses) if self.size == "cv" else self.size
            return grow(Z, losses, self.size_)
        index = KDTree(Z)
        if self.size == "cv":
            n = len(y)
            options = [k for k in 5 * 2 ** np.arange(8) if k < n - 1]
            best = [_selected(index, losses, Z, k + 1, losses) for k in options]  # without the point itself
            everyone = first_smallest(losses.sum(0) - losses) if n > 1 else first_smallest(losses)
            value = [losses[np.arange(n), chosen].mean() for chosen in [*best, everyone]]
            self.size_ = int([*options, n][int(first_smallest(value))])
        else:
            self.size_ = self.size
        return index, losses

    def _depth(self, Z, losses, options=(0, 1, 2, 3, 4)):
        value = np.zeros(len(options))
        if len(losses) > 1:
            folds = KFold(min(5, len(losses)), shuffle=True, random_state=resolve_seed(self.random_state))
            for train, test in folds.split(Z):
                for i, depth in enumerate(options):
                    chosen = cell_choice(grow(Z[train], losses[train], depth), Z[test])
                    value[i] += losses[test, chosen].sum()
        return options[int(first_smallest(value))]

    def _rule_weights(self, Z):
        if self.form == "partition":
            chosen = cell_choice(self.rule_, Z)
        else:
            index, losses = self.rule_
            if self.size_ == len(losses):  # one model for all
                return np.tile(np.eye(self.n_models_)[first_smallest(losses.sum(0))], (len(Z), 1))
            chosen = _selected(index, losses, Z, self.size_)
        return np.eye(self.n_models_)[chosen]


def _selected(index, losses, Z, k, own=0.0):
    """The model with the smallest loss over the k nearest neighbours of each row, all that are as near as the k-th
    among them, less its ``own``.
    """
    chosen = []
    for part in np.array_split(np.arange(len(Z)), -(-len(Z) * k // 10**6)):  # neighbours that fit into memory
        radius = index.query(Z[part], k)[0][:, -1] * (1 + 1e-9)
        near = index.query_radius(Z[part], radius)
        starts = np.cumsum([0, *map(len, near[:-1])])
        total = np.add.reduceat(losses[np.concatenate(near)], starts) - (own if np.ndim(own) == 0 else own[part])
        chosen.append(first_smallest(total))
    return np.concatenate(chosen)


def grow(Z, losses, depth, least=5):
    """Cut so that the best model below plus the best model above lose least: nested (covariate, cut, below, above), or
    a model's number.

    No cell gets fewer than ``least`` observations; a cut that gains nothing is not made.
    """
    n, total = len(losses), losses.sum(0)
    best, cut = total.min() * (1 - 1e-12), None
    for j in range(Z.shape[1] if depth and n >= 2 * least else 0):
        order = np.argsort(Z[:, j], kind="stable")
        z, below = Z[order, j], losses[order].cumsum(0)[:-1]
        value = below.min(1) + (total - below).min(1)
        place = np.arange(1, n)
        value[(z[1:] <= z[:-1]) | (place < least) | (place > n - least)] = np.inf
        at = int(first_smallest(value))
        if value[at] < best:
            best, cut = value[at], (j, 0.5 * (z[at] + z[at + 1]))
    if cut is None:
        return int(first_smallest(total))
    side = Z[:, cut[0]] <= cut[1]
    return (*cut, grow(Z[side], losses[side], depth - 1, least), grow(Z[~side], losses[~side], depth - 1, least))


def cell_choice(cells, Z):
    """The number of the model that a partition chooses for each row of Z, (n,)."""
    if isinstance(cells, int):
        return np.full(len(Z), cells)
    j, cut, below, above = cells
    return np.where(Z[:, j] <= cut, cell_choice(below, Z), cell_choice(above, Z))
