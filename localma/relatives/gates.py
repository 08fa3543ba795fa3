"""Relatives whose weights are the softmax of a linear function of a basis, fitted with a penalty: gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.model_selection import KFold

from localma.checks import RandomState, choose, resolve_seed
from localma.engine import first_smallest, one_thread
from localma.losses.loss import LossLike
from localma.relatives.common import LEAST_VARIANCE, log_likelihood, losses_of_models, need_likelihood
from localma.relatives.local import Local, linear_basis

__all__ = ["HierarchicalStacking", "MixtureOfExperts"]

PENALTIES = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)  # what penalty="cv" chooses from, the stiffest first


def fit_gate(basis, F, y, loss, w, *, objective, penalty, start=None):
    """(A, variance) of ``w(x) = softmax(basis(x) A)`` with the smallest penalised criterion, by L-BFGS in float64.

    The penalty, times the sum of squares, spares the first row, the intercepts; the criterion has no unit. The variance
    is that of competing experts under squared loss, estimated with the gate, and otherwise None. ``start`` is what an
    earlier fit returned. Rows count by w.
    """
    M, target, share = F.shape[1], torch.tensor(y), torch.tensor(w / w.mean())
    bound = [(None, None)] * (basis.shape[1] * M)
    if objective == "competitive":
        losses = losses_of_models(loss, y, F)
        if loss.power == 0:
            bound.append((np.log(LEAST_VARIANCE * np.average(losses.mean(1), weights=w) or 1.0), None))
            least = np.average(losses.min(1), weights=w)
            first, L = np.log(max(least, np.exp(bound[-1][0]))), torch.tensor(losses.T)
        else:
            density = torch.tensor(log_likelihood(loss, losses).T)

        def criterion(logits, t):
            joint = torch.log_softmax(logits, 0) + (-0.5 * (L * torch.exp(-t) + t) if len(t) else density)
            return -(share * torch.logsumexp(joint, 0)).mean()

    else:
        G = loss.candidates(target, torch.tensor(np.ascontiguousarray(F)).movedim(0, -1))
        unit = loss.scale(G, target, share)

        def criterion(logits, t):
            return (share * loss.of_logits(logits, G, target)).mean() / unit

    # L-BFGS sees the slopes in units in which a stiff penalty is no steeper than the criterion
    units = np.where(np.arange(basis.shape[1]) == 0, 1.0, 1 / np.sqrt(1 + penalty))[:, None]
    Z, scale, size = torch.tensor(basis), torch.tensor(units), basis.shape[1] * M

    def value(theta):
        parameters = torch.tensor(theta, requires_grad=True)
        A = scale * parameters[:size].reshape(-1, M)
        total = criterion((Z @ A).T, parameters[size:]) + penalty * A[1:].square().sum()
        total.backward()
        return total.item(), parameters.grad.numpy()

    A, variance = (np.zeros((basis.shape[1], M)), None) if start is None else start
    theta = np.append(
        (A / units).ravel(), [] if len(bound) == size else first if variance is None else np.log(variance)
    )
    options = {"maxiter": 500, "maxfun": 1000, "ftol": 1e-8, "gtol": 1e-6}
    with one_thread():
        theta = minimize(value, theta, jac=True, method="L-BFGS-B", bounds=bound, options=options).x
    return units * theta[:size].reshape(-1, M), float(np.exp(theta[size])) if len(theta) > size else None


def fit_path(basis, F, y, loss, w, objective, penalties):
    """:func:`fit_gate` for each penalty in turn, each from where the last one ended."""
    found = None
    for penalty in penalties:
        found = fit_gate(basis, F, y, loss, w, objective=objective, penalty=penalty, start=found)
        yield found


def fit_chosen(basis, F, y, loss, w, objective, penalty, random_state):
    """(A, variance, penalty), where "cv" stands for the penalty with the smallest loss of the average in five-fold
    cross-validation.
    """
    path = PENALTIES if penalty == "cv" else (penalty,)
    if len(path) > 1 and len(y) > 1:
        value = np.zeros(len(path))
        for train, test in KFold(min(5, len(y)), shuffle=True, random_state=resolve_seed(random_state)).split(basis):
            known = basis[train], F[train], y[train], loss, w[train]
            for i, (A, _) in enumerate(fit_path(*known, objective, path)):
                a = np.einsum("nm,nm...->n...", softmax(basis[test] @ A, 1), F[test])
                value[i] += w[test] @ loss(y[test], a)
        path = path[: int(first_smallest(value)) + 1]
    *_, (A, variance) = fit_path(basis, F, y, loss, w, objective, path)
    return A, variance, path[-1]


class _Gate(Local):
    """Gates have a penalty."""

    def _check(self, X, y, M, loss):
        super()._check(X, y, M, loss)
        penalty = self.penalty
        if not (penalty == "cv" or (np.isscalar(penalty) and not isinstance(penalty, str) and 0 <= penalty < np.inf)):
            raise ValueError(f'penalty must be a non-negative number or "cv", but is {penalty!r}')


class MixtureOfExperts(_Gate):
    r"""Mixture of frozen experts with a linear gate: :math:`w(x) = \mathrm{softmax}(a + Bx)`.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; every loss for the cooperative objective; squared, poisson or cross_entropy for
        the competitive one.
    objective : {"cooperative", "competitive"}
        Cooperative: the loss of the averaged prediction, so that experts may correct each other. Competitive: minus the
        log-density of the mixture, :math:`-\log \sum_m w_m(x)\, p_m(y)`, so that each observation looks for one expert.
        For cross-entropy they are the same.
    penalty : float or "cv"
        On the squares of B. "cv": by five-fold cross-validation among powers of ten.
    features : list of column names, callable or transformer, optional
        What the weights read, where it differs from what the models do: see :class:`localma.LocalMA`.
    random_state : int, RandomState or None
        For the folds.

    Attributes
    ----------
    rule_ : array of shape (d + 1, M)
        The gate: intercepts a, then B, on standardised covariates.
    penalty_ : float
    variance_ : float or None
        The experts' common error variance, for the competitive objective under squared loss.

    Notes
    -----
    Source: Jacobs, Jordan, Nowlan and Hinton (1991), Adaptive mixtures of local experts. Simplified: the experts are
    frozen and share one variance. Cooperative, it is LocalMA without a hidden layer. The better choice when the borders
    between the experts' regions are straight or n is small; competitive when for each x one expert is right and the
    question is which.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import MixtureOfExperts
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> experts = [lambda X: -X[:, 0], lambda X: X[:, 0]]
    >>> MixtureOfExperts(experts).fit(X, abs(X[:, 0])).weights([[-0.8], [0.8]]).round(1)
    array([[1., 0.],
           [0., 1.]])
    """

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        loss: LossLike = "squared",
        clip: bool = True,
        objective: str = "cooperative",
        penalty: float | str = "cv",
        features: Any = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(models, loss=loss, clip=clip, features=features)
        self.objective = objective
        self.penalty = penalty
        self.random_state = random_state

    def _check(self, X, y, M, loss):
        super()._check(X, y, M, loss)
        choose("objective", self.objective, ("cooperative", "competitive"))
        if self.objective == "competitive":
            need_likelihood("MixtureOfExperts", loss)

    def _fit_rule(self, Z, F, y, loss, w):
        options = (self.objective, self.penalty, self.random_state)
        A, self.variance_, self.penalty_ = fit_chosen(linear_basis(Z), F, y, loss, w, *options)
        return A

    def _rule_weights(self, Z):
        return softmax(linear_basis(Z) @ self.rule_, 1)


class HierarchicalStacking(_Gate):
    r"""Stacking with weights that vary over basis functions and are pooled:
    :math:`w(x) = \mathrm{softmax}(\varphi(x) A)`.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; every loss.
    penalty : float or "cv"
        How strongly A is pulled towards weights that are the same everywhere (the logarithm of a Gaussian prior). "cv":
        by five-fold cross-validation among powers of ten.
    features : list of column names, callable or transformer, optional
        What the weights read, where it differs from what the models do: see :class:`localma.LocalMA`.
    random_state : int, RandomState or None
        For the folds.

    Attributes
    ----------
    rule_ : tuple
        A of shape (2 d + 1, M) and the medians of the standardised covariates. The basis is 1, x, and the part of each
        covariate above its median.
    penalty_ : float

    Notes
    -----
    Source: Yao, Pirš, Vehtari and Gelman (2022), Bayesian hierarchical stacking: some models are (somewhere) useful.
    Simplified: the mode of the posterior instead of its samples, the prior's scale by cross-validation instead of a
    prior of its own, and the loss of the averaged prediction instead of the log-density of the mixture (the same thing
    for cross-entropy). The better choice when weights change smoothly and additively, when n is small, or when they may
    well not change at all.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import HierarchicalStacking
    >>> x = np.linspace(-1, 1, 100)
    >>> F = np.stack([0 * x, np.ones(100)], 1)
    >>> stacking = HierarchicalStacking(random_state=0).fit(x[:, None], abs(x), F=F)  # the second weight should be |x|
    >>> bool(np.abs(stacking.weights(x[:, None])[:, 1] - abs(x)).mean() < 0.05)
    True
    """

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        loss: LossLike = "squared",
        clip: bool = True,
        penalty: float | str = "cv",
        features: Any = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(models, loss=loss, clip=clip, features=features)
        self.penalty = penalty
        self.random_state = random_state

    def _fit_rule(self, Z, F, y, loss, w):
        medians = np.median(Z, 0)
        options = ("cooperative", self.penalty, self.random_state)
        A, _, self.penalty_ = fit_chosen(self._basis(Z, medians), F, y, loss, w, *options)
        return A, medians

    @staticmethod
    def _basis(Z, medians):
        return np.column_stack([linear_basis(Z), np.maximum(Z - medians, 0)])

    def _rule_weights(self, Z):
        A, medians = self.rule_
        return softmax(self._basis(Z, medians) @ A, 1)
