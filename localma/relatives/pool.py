"""The logarithmic pool: models averaged on the scale of the logarithms of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import softmax
from torch import Tensor

from localma.checks import RandomState, choose
from localma.losses import Loss
from localma.losses.families import PROBABILITY_FLOOR
from localma.losses.loss import LossLike
from localma.relatives.gates import _Gate, fit_chosen
from localma.relatives.local import linear_basis

__all__ = ["LogarithmicPool"]


@dataclass(frozen=True)
class _Pooled:
    """A loss as a function of the pooled natural parameter, with what :func:`fit_chosen` asks of a loss.

    The natural parameter of a Gaussian mean is the mean, that of a Poisson mean its logarithm, that of class
    probabilities their logarithms: ``G`` of shape (M, n), or (M, K, n).
    """

    loss: Loss

    def parameter(self, F: np.ndarray) -> np.ndarray:
        return F if self.loss.power == 0 else np.log(np.maximum(F, PROBABILITY_FLOOR))

    def mean(self, a: np.ndarray) -> np.ndarray:
        """What is predicted where the pooled parameter is ``a``, (n,) or (n, K)."""
        return a if self.loss.power == 0 else softmax(a, 1) if self.loss.is_classification else np.exp(a)

    def __call__(self, y, a):
        return self.loss(y, self.mean(a))

    def candidates(self, y: Tensor, G: Tensor) -> Tensor:
        return G

    def of_logits(self, logits: Tensor, G: Tensor, y: Tensor) -> Tensor:
        w = torch.softmax(logits, 0)
        if self.loss.is_classification:
            a = (w.unsqueeze(1) * G).sum(0)
            return torch.logsumexp(a, 0) - a.gather(0, y.long().unsqueeze(0)).squeeze(0)
        a = (w * G).sum(0)
        return self.loss.value(y, a if self.loss.power == 0 else a.exp())

    def scale(self, G: Tensor, y: Tensor, share: Tensor) -> Tensor:
        """Half the curvature at equal weights, along the way to each model: the unit of :meth:`Loss.scale`."""
        a = G.mean(0)
        off = G - a
        if self.loss.is_classification:
            p = torch.softmax(a, 0)
            moved = ((p * off.square()).sum(1) - (p * off).sum(1).square()) / 2
        else:
            moved = off.square() * (1.0 if self.loss.power == 0 else a.exp())
        unit = (share * moved).mean()
        return torch.where(unit > 0, unit, torch.ones_like(unit))  # equal models, no difference


class LogarithmicPool(_Gate):
    r"""Logarithmic opinion pool: a weighted geometric mean of probabilities, scaled to sum to one.

    For classes :math:`f_k(x) \propto \prod_m f_{mk}(x)^{w_m(x)}`, the softmax of :math:`\sum_m w_m(x) \log f_{mk}(x)`;
    for counts the geometric mean of the models' means; for squared loss the ordinary average. Weights are non-negative,
    sum to one, and are constant or a softmax of a linear function of x.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; squared, poisson or cross_entropy.
    gate : {"linear", "constant"}
        Whether weights depend on x.
    penalty : float or "cv"
        On the squares of the gate's slopes. "cv": by five-fold cross-validation among powers of ten.
    features : list of column names, callable or transformer, optional
        What the weights read, where it differs from what the models do: see :class:`localma.LocalMA`.
    random_state : int, RandomState or None
        For the folds.

    Attributes
    ----------
    rule_ : array of shape (d + 1, M), or (1, M)
        The gate: intercepts, then slopes on standardised covariates.
    penalty_ : float

    Raises
    ------
    ValueError
        From ``fit``, for a loss without natural parameter here.

    Notes
    -----
    Sources: Genest and Zidek (1986), Combining probability distributions: a critique and an annotated bibliography;
    Heskes (1998), Selecting weighting factors in logarithmic opinion pools, whose weights are constant. The pool is the
    distribution with the smallest weighted mean of Kullback-Leibler divergences to the models; each loss is convex in
    the weights. Simplified: probabilities below 1e-12 count as 1e-12, so that a single model cannot forbid a class. The
    better choice when a model that says "hardly ever" should be heard even if others disagree: in a linear average
    those who are sure *of* a class decide, in this one those who are sure *against* one, too.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import LogarithmicPool
    >>> F = np.array([[[0.98, 0.02], [0.2, 0.8]]] * 2)  # two observations, two models, two classes
    >>> pool = LogarithmicPool(loss="cross_entropy", gate="constant").fit([[0.0], [1.0]], [0, 1], F=F)
    >>> w = pool.weights([[0.0]])[0]
    >>> odds = (0.98 / 0.02) ** w[0] * (0.2 / 0.8) ** w[1]
    >>> np.allclose(pool.predict_proba([[0.0]], F=F[:1]), [odds / (1 + odds), 1 / (1 + odds)])
    True
    """

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        loss: LossLike = "squared",
        clip: bool = True,
        gate: str = "linear",
        penalty: float | str = "cv",
        features: Any = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(models, loss=loss, clip=clip, features=features)
        self.gate = gate
        self.penalty = penalty
        self.random_state = random_state

    def _check(self, X, y, M, loss):
        super()._check(X, y, M, loss)
        choose("gate", self.gate, ("linear", "constant"))
        if loss.power not in (0, 1) and not loss.is_classification:
            raise ValueError(
                f"loss = {loss.name!r} has no probabilities that could be pooled; use 'squared', 'poisson' or"
                " 'cross_entropy', or an average of means, such as MixtureOfExperts"
            )

    def _basis(self, Z):
        return linear_basis(Z if self.gate == "linear" else Z[:, :0])

    def _fit_rule(self, Z, F, y, loss, w):
        pooled = _Pooled(loss)
        penalty = self.penalty if self.gate == "linear" else 0.0  # which spares intercepts
        given = (self._basis(Z), pooled.parameter(F), y, pooled, w)
        rule, _, self.penalty_ = fit_chosen(*given, "cooperative", penalty, self.random_state)
        return rule

    def _rule_weights(self, Z):
        return softmax(self._basis(Z) @ self.rule_, 1)

    def _combine(self, array: ArrayLike, F: np.ndarray) -> np.ndarray:
        pooled = _Pooled(self._resolve_loss())
        return pooled.mean(np.einsum("nm,nm...->n...", self._weights(array), pooled.parameter(F)))
