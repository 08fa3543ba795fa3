"""Averages with constant weights, which a localized one is measured against: global weights, equal weights, the best
single model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from localma.averages.base import ModelAverage
from localma.averages.level import learn_level
from localma.checks import choose
from localma.engine import first_smallest, global_weights
from localma.engine.validation import fold_numbers
from localma.losses.loss import LossLike

__all__ = ["BestModel", "EqualWeights", "GlobalMA"]


class _Constant(ModelAverage):
    """Averages whose weights are the same everywhere: ``weights_`` of shape (M,). They count the rows of X and read
    nothing in them.
    """

    def _read(self, X, reset=False):
        if not _num_samples(X):
            raise ValueError("X has 0 samples; give one row at least")
        return np.empty((_num_samples(X), 0))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.no_validation = tags.input_tags.sparse = True
        return tags

    def _weights(self, X):
        return np.broadcast_to(self.weights_, (len(X), self.n_models_)).copy()


class EqualWeights(_Constant):
    """Equal-weights model averaging (EWMA): 1/M each, nothing estimated.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`.

    Examples
    --------
    >>> from localma import EqualWeights
    >>> EqualWeights([lambda X: X[:, 0], lambda X: -X[:, 0]]).fit([[1.0], [2.0]], [0.0, 0.0]).predict([[5.0]])
    array([0.])
    """

    in_blocks = True

    def _fit_weights(self, X, F, y, loss, sample_weight=None):
        self.weights_ = np.full(self.n_models_, 1 / self.n_models_)


class BestModel(_Constant):
    """The single candidate with the smallest mean loss on the data of the fit.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`.

    Attributes
    ----------
    best_ : str
        The winner's name.
    losses_ : array of shape (M,)
        Mean loss of each candidate.
    weights_ : array of shape (M,)
        One for the winner, zero for the others.

    Notes
    -----
    The paper's BestPTM is the best model on the *test* set, an oracle: fit on the test data for that.

    Examples
    --------
    >>> from localma import BestModel
    >>> best = BestModel([("up", lambda X: X[:, 0]), ("down", lambda X: -X[:, 0])]).fit([[1.0], [2.0]], [1.0, 2.0])
    >>> best.best_
    'up'
    """

    in_blocks = True

    def _fit_weights(self, X, F, y, loss, sample_weight=None):
        self.losses_ = np.array([np.average(loss(y, F[:, m]), weights=sample_weight) for m in range(self.n_models_)])
        winner = int(first_smallest(self.losses_))
        self.best_ = self.model_names_[winner]
        self.weights_ = np.eye(self.n_models_)[winner]


class GlobalMA(_Constant):
    """Global weights (GW): the constant weights on the simplex with the smallest mean loss, equation (1) of the paper.

    The book's chapter "Global baselines" (``book/core/baselines``) derives its optimality conditions and its price.
    Exact for squared loss; for the others within 1e-8 of the optimum (in units of the loss's scale), see
    :func:`localma.engine.global_weights`.

    Parameters
    ----------
    models, loss, clip, level
        As in :class:`localma.LocalMA`.

    Attributes
    ----------
    weights_ : array of shape (M,)
    level_, level_gain_
        As of :class:`localma.LocalMA`.

    Examples
    --------
    >>> import numpy as np
    >>> from localma import GlobalMA
    >>> x = np.linspace(0, 1, 50)
    >>> gw = GlobalMA([lambda X: X[:, 0], lambda X: 1 - X[:, 0]]).fit(x[:, None], 0.25 + 0.5 * x)
    >>> gw.weights_.round(3)
    array([0.75, 0.25])
    """

    in_blocks = True
    level_gain_: tuple[float, float] | None = None

    def __init__(
        self, models: Sequence[Any] | None = None, *, loss: LossLike = "squared", clip: bool = True, level: bool = False
    ) -> None:
        super().__init__(models, loss=loss, clip=clip)
        self.level = level

    def _check(self, X, y, M, loss):
        choose("level", self.level, (True, False))
        if self.level:
            fold_numbers(len(y), 0)

    def _fit_weights(self, X, F, y, loss, sample_weight=None):
        self.weights_ = global_weights(F, y, loss, sample_weight)

    def _fit_level(self, X, F, y, loss, sample_weight=None):
        if self.level:
            self.level_, self.level_gain_ = learn_level(self, X, F, y, loss, share=sample_weight)
