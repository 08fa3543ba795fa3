"""Relatives whose weights depend on the input."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors

from localma.base import ModelAverage, resolve_seed
from localma.devices import one_thread
from localma.losses import LOSSES
from localma.network import check_whole
from localma.relatives.common import LEAST_VARIANCE, choose, log_likelihood, losses_of_models, need_squared, softmax
from localma.training import standardization

__all__ = ["FeatureStacking", "HierarchicalStacking", "LocalSelection", "MixtureOfExperts", "RightProbability"]

PENALTIES = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)  # what penalty="cv" chooses from, the stiffest first
RIDGES = tuple(10.0**k for k in range(-3, 6))


class Local(ModelAverage):
    """Base of the local relatives: flat covariates, standardised by the sample; ``rule_`` is what was learned.

    Subclasses define ``_fit_rule(Z, F, y, loss)``, which returns the rule, and ``_rule_weights(Z)``.
    """

    def __sklearn_is_fitted__(self):
        return hasattr(self, "rule_")  # set last

    def _fit_weights(self, X, F, y, loss):
        if X.ndim != 2:
            raise ValueError(f"X has shape {X.shape}, but {type(self).__name__} reads (n, d); flatten X")
        mean, scale = standardization(torch.tensor(np.asarray(X, dtype=float)).unsqueeze(0))
        self.mean_, self.scale_ = mean[0].numpy(), scale[0].numpy()
        self.rule_ = self._fit_rule((X - self.mean_) / self.scale_, F, y, loss)

    def _weights(self, X):
        return self._rule_weights((X - self.mean_) / self.scale_)


def fit_gate(basis, F, y, loss, *, objective, penalty, start=None):
    """(A, variance) of ``w(x) = softmax(basis(x) A)`` with the smallest penalised criterion, by L-BFGS in float64.

    The penalty, times the sum of squares, spares the first row, the intercepts; the criterion has no unit. The variance is that of
    competing experts under squared loss, estimated with the gate, and otherwise None. ``start`` is what an earlier fit returned.
    """
    M, target = F.shape[1], torch.tensor(y)
    bound = [(None, None)] * (basis.shape[1] * M)
    if objective == "competitive":
        losses = losses_of_models(loss, y, F)
        if loss == LOSSES["squared"]:
            bound.append((np.log(LEAST_VARIANCE * losses.mean() or 1.0), None))
            first, L = np.log(max(losses.min(1).mean(), np.exp(bound[-1][0]))), torch.tensor(losses.T)
        else:
            density = torch.tensor(log_likelihood("MixtureOfExperts", loss, losses).T)

        def criterion(logits, t):
            joint = torch.log_softmax(logits, 0) + (-0.5 * (L * torch.exp(-t) + t) if len(t) else density)
            return -torch.logsumexp(joint, 0).mean()
    else:
        G = loss.candidates(target, torch.tensor(np.ascontiguousarray(F)).movedim(0, -1))
        unit = loss.scale(G, target)

        def criterion(logits, t):
            return loss.of_logits(logits, G, target).mean() / unit

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
    theta = np.append((A / units).ravel(), [] if len(bound) == size else first if variance is None else np.log(variance))
    options = {"maxiter": 500, "maxfun": 1000, "ftol": 1e-8, "gtol": 1e-6}
    with one_thread():
        theta = minimize(value, theta, jac=True, method="L-BFGS-B", bounds=bound, options=options).x
    return units * theta[:size].reshape(-1, M), float(np.exp(theta[size])) if len(theta) > size else None


def fit_path(basis, F, y, loss, objective, penalties):
    """:func:`fit_gate` for each penalty in turn, each from where the last one ended."""
    found = None
    for penalty in penalties:
        found = fit_gate(basis, F, y, loss, objective=objective, penalty=penalty, start=found)
        yield found


def fit_chosen(basis, F, y, loss, objective, penalty, random_state):
    """(A, variance, penalty), where "cv" stands for the penalty with the smallest loss of the average in five-fold cross-validation."""
    if not (penalty == "cv" or (np.isscalar(penalty) and not isinstance(penalty, str) and 0 <= penalty < np.inf)):
        raise ValueError(f'penalty must be a non-negative number or "cv", but is {penalty!r}')
    path = PENALTIES if penalty == "cv" else (penalty,)
    if len(path) > 1 and len(y) > 1:
        value = np.zeros(len(path))
        for train, test in KFold(min(5, len(y)), shuffle=True, random_state=resolve_seed(random_state)).split(basis):
            for i, (A, _) in enumerate(fit_path(basis[train], F[train], y[train], loss, objective, path)):
                a = np.einsum("nm,nm...->n...", softmax(basis[test] @ A), F[test])
                value[i] += loss(y[test], a).sum()
        path = path[: int(np.argmin(value)) + 1]
    *_, (A, variance) = fit_path(basis, F, y, loss, objective, path)
    return A, variance, path[-1]


def linear_basis(Z):
    """(1, x), (n, d + 1)."""
    return np.column_stack([np.ones(len(Z)), Z])


class MixtureOfExperts(Local):
    r"""Mixture of frozen experts with a linear gate: :math:`w(x) = \mathrm{softmax}(a + Bx)`.

    Parameters
    ----------
    models, loss
        As in :class:`localma.LocalMA`; every loss for the cooperative objective; squared, poisson or cross_entropy for the competitive one.
    objective : {"cooperative", "competitive"}
        Cooperative: the loss of the averaged prediction, so that experts may correct each other. Competitive: minus the log-density of the
        mixture, :math:`-\log \sum_m w_m(x)\, p_m(y)`, so that each observation looks for one expert. For cross-entropy they are the same.
    penalty : float or "cv"
        On the squares of B. "cv": by five-fold cross-validation among powers of ten.
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
    Source: Jacobs, Jordan, Nowlan and Hinton (1991), Adaptive mixtures of local experts. Simplified: the experts are frozen and share one
    variance. Cooperative, it is LocalMA without a hidden layer. The better choice when the borders between the experts' regions are
    straight or n is small; competitive when for each x one expert is right and the question is which.

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

    def __init__(self, models=None, *, loss="squared", objective="cooperative", penalty="cv", random_state=None):
        self.models = models
        self.loss = loss
        self.objective = objective
        self.penalty = penalty
        self.random_state = random_state

    def _fit_rule(self, Z, F, y, loss):
        choose("objective", self.objective, ("cooperative", "competitive"))
        options = (self.objective, self.penalty, self.random_state)
        A, self.variance_, self.penalty_ = fit_chosen(linear_basis(Z), F, y, loss, *options)
        return A

    def _rule_weights(self, Z):
        return softmax(linear_basis(Z) @ self.rule_)


class HierarchicalStacking(Local):
    r"""Stacking with weights that vary over basis functions and are pooled: :math:`w(x) = \mathrm{softmax}(\varphi(x) A)`.

    Parameters
    ----------
    models, loss
        As in :class:`localma.LocalMA`; every loss.
    penalty : float or "cv"
        How strongly A is pulled towards weights that are the same everywhere (the logarithm of a Gaussian prior). "cv": by five-fold
        cross-validation among powers of ten.
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
    Source: Yao, Pirš, Vehtari and Gelman (2022), Bayesian hierarchical stacking: some models are (somewhere) useful. Simplified: the mode of the
    posterior instead of its samples, the prior's scale by cross-validation instead of a prior of its own, and the loss of the averaged
    prediction instead of the log-density of the mixture (the same thing for cross-entropy). The better choice when weights change smoothly
    and additively, when n is small, or when they may well not change at all.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import HierarchicalStacking
    >>> x = np.linspace(-1, 1, 100)
    >>> F = np.stack([0 * x, np.ones(100)], 1)
    >>> stacking = HierarchicalStacking(random_state=0).fit(x[:, None], abs(x), F=F)  # the second model's weight should be |x|
    >>> bool(np.abs(stacking.weights(x[:, None])[:, 1] - abs(x)).mean() < 0.05)
    True
    """

    def __init__(self, models=None, *, loss="squared", penalty="cv", random_state=None):
        self.models = models
        self.loss = loss
        self.penalty = penalty
        self.random_state = random_state

    def _fit_rule(self, Z, F, y, loss):
        medians = np.median(Z, 0)
        A, _, self.penalty_ = fit_chosen(self._basis(Z, medians), F, y, loss, "cooperative", self.penalty, self.random_state)
        return A, medians

    @staticmethod
    def _basis(Z, medians):
        return np.column_stack([linear_basis(Z), np.maximum(Z - medians, 0)])

    def _rule_weights(self, Z):
        A, medians = self.rule_
        return softmax(self._basis(Z, medians) @ A)


class FeatureStacking(Local):
    r"""Feature-weighted linear stacking: :math:`w_m(x) = a_m + b_m^\top x`, by ridge regression, without any constraint.

    Parameters
    ----------
    models, loss
        As in :class:`localma.LocalMA`; squared loss only.

    Attributes
    ----------
    rule_ : array of shape (d + 1, M)
    ridge_ : float
        The ridge penalty, chosen by leave-one-out cross-validation (exact, in closed form: scikit-learn's ``RidgeCV``) among powers of ten.

    Notes
    -----
    Sources: Sill, Takács, Mackey and Lin (2009), Feature-weighted linear stacking; the same weights with other basis functions in Wakayama and
    Sugasawa (2024), Ensemble prediction via covariate-dependent stacking. Simplified: the features are the covariates themselves.
    Weights may be negative and need not sum to one, so that the average can leave the models' range: the better choice where the truth lies
    outside it, and a risky one far from the sample.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import FeatureStacking
    >>> x = np.linspace(-1, 1, 100)
    >>> stacking = FeatureStacking().fit(x[:, None], x**2, F=np.stack([x, np.ones(100)], 1))  # w_1(x) = x
    >>> bool(np.abs(stacking.predict(x[:, None], F=np.stack([x, np.ones(100)], 1)) - x**2).max() < 0.01)
    True
    """

    def __init__(self, models=None, *, loss="squared"):
        self.models = models
        self.loss = loss

    def _fit_rule(self, Z, F, y, loss):
        need_squared("FeatureStacking", loss)
        unit = np.sqrt(np.mean(F**2)) or 1.0  # so that a ridge means the same in euros and in cents
        basis = linear_basis(Z)
        design = (basis[:, :, None] * F[:, None, :] / unit).reshape(len(y), -1)
        ridge = RidgeCV(alphas=RIDGES, fit_intercept=False).fit(design, y)
        self.ridge_ = float(ridge.alpha_)
        return ridge.coef_.reshape(-1, F.shape[1]) / unit

    def _rule_weights(self, Z):
        return linear_basis(Z) @ self.rule_


class RightProbability(Local):
    r"""A model's weight is the probability that it is right here, estimated by a classifier and scaled to sum to one.

    Parameters
    ----------
    models, loss
        As in :class:`localma.LocalMA`; every loss.
    classifier : scikit-learn classifier, optional
        With ``predict_proba``; a copy is fitted. Default: logistic regression.

    Attributes
    ----------
    rule_ : list of classifiers, or a classifier
        For cross-entropy one for each model, of whether its most probable class was the right one (a number where that never or always
        happened). For other losses a single one, of which model came closest (the model's number where that was always the same).

    Notes
    -----
    Source: Pan, Xiao and Huang (2006), Using input dependent weights for model combination and model selection with multiple sources of
    data. The source is about classification. Simplified: for means, where no model is ever exactly right, "right" is to come
    closest of all; a frequency of 0 or n is moved inside by one observation. The better choice when one wants weights that mean
    something by themselves, or any classifier as the gate; it never asks how the average does, so errors that cancel go unused.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import RightProbability
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> experts = [lambda X: -X[:, 0], lambda X: X[:, 0]]
    >>> RightProbability(experts).fit(X, abs(X[:, 0])).weights([[-0.8], [0.8]]).round(1)
    array([[1., 0.],
           [0., 1.]])
    """

    def __init__(self, models=None, *, loss="squared", classifier=None):
        self.models = models
        self.loss = loss
        self.classifier = classifier

    def _fit_rule(self, Z, F, y, loss):
        if loss.is_classification:
            right = F.argmax(2) == y[:, None]
            n = len(y)
            return [self._learn(Z, c) if 0 < c.sum() < n else (c.sum() + 1) / (n + 2) for c in right.T]
        return self._learn(Z, losses_of_models(loss, y, F).argmin(1))

    def _learn(self, Z, label):
        if len(np.unique(label)) > 1:
            return clone(LogisticRegression() if self.classifier is None else self.classifier).fit(Z, label)
        return label[0]

    def _rule_weights(self, Z):
        if isinstance(self.rule_, list):
            p = np.stack([r.predict_proba(Z)[:, 1] if hasattr(r, "predict_proba") else np.full(len(Z), r) for r in self.rule_], 1)
            return p / p.sum(1, keepdims=True)
        if not hasattr(self.rule_, "predict_proba"):
            return np.tile(np.eye(self.n_models_)[self.rule_], (len(Z), 1))
        w = np.zeros((len(Z), self.n_models_))  # a model that never came closest is no class
        w[:, self.rule_.classes_] = self.rule_.predict_proba(Z)
        return w


class LocalSelection(Local):
    """Localized model selection: at each x the single model that did best nearby, among neighbours or in the cell of a partition.

    Parameters
    ----------
    models, loss
        As in :class:`localma.LocalMA`; every loss.
    form : {"neighbours", "partition"}
        Neighbours: the model with the smallest mean loss over the k nearest observations. Partition: cells that are cut one after the other at
        the covariate and the place where separate choices gain most.
    size : int or "cv"
        k, or how often cells are cut (depth 2 means up to four cells). "cv": k by leave-one-out, among 5, 10, 20, 40, ... and the whole
        sample; the depth, 0 to 4, by five-fold cross-validation. Both include the choice of one model for all.
    random_state : int, RandomState or None
        For the folds.

    Attributes
    ----------
    rule_ : object
        Neighbours: scikit-learn's index and the losses. Partition: nested (covariate, cut, below, above), with model numbers as leaves.
    size_ : int

    Notes
    -----
    Source: Yang (2008), Localized model selection for regression. Simplified: models are frozen, so that the whole sample judges them and none
    is kept to fit them; partitions grow greedily. The better choice when each model is right in a region
    of its own with a sharp border, or when a user must be told which one model was asked.

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

    def __init__(self, models=None, *, loss="squared", form="neighbours", size="cv", random_state=None):
        self.models = models
        self.loss = loss
        self.form = form
        self.size = size
        self.random_state = random_state

    def _fit_rule(self, Z, F, y, loss):
        choose("form", self.form, ("neighbours", "partition"))
        least = 1 if self.form == "neighbours" else 0
        if self.size != "cv":
            check_whole("size", self.size, least, ' or "cv"')
        losses = losses_of_models(loss, y, F)
        if self.form == "partition":
            self.size_ = self._depth(Z, losses) if self.size == "cv" else self.size
            return grow(Z, losses, self.size_)
        index = NearestNeighbors().fit(Z)
        if self.size == "cv":
            n = len(y)
            options = [k for k in 5 * 2 ** np.arange(8) if k < n - 1]
            best = [_selected(losses, index.kneighbors(n_neighbors=k, return_distance=False)) for k in options]  # without the point itself
            everyone = (losses.sum(0) - losses).argmin(1) if n > 1 else losses.argmin(1)
            value = [losses[np.arange(n), chosen].mean() for chosen in [*best, everyone]]
            self.size_ = int([*options, n][int(np.argmin(value))])
        elif self.size > len(y):
            raise ValueError(f"size = {self.size} neighbours, but the sample has n = {len(y)}; give fewer")
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
        return options[int(np.argmin(value))]

    def _rule_weights(self, Z):
        if self.form == "partition":
            chosen = cell_choice(self.rule_, Z)
        else:
            index, losses = self.rule_
            chosen = np.concatenate(
                [
                    _selected(losses, index.kneighbors(part, self.size_, return_distance=False))
                    for part in np.array_split(Z, -(-len(Z) // 1000))
                ]
            )
        return np.eye(self.n_models_)[chosen]


def _selected(losses, neighbours):
    """The model with the smallest mean loss over each row of neighbours, (n,)."""
    return losses[neighbours].mean(1).argmin(1)


def grow(Z, losses, depth, least=5):
    """Cut so that the best model below plus the best model above lose least: nested (covariate, cut, below, above), or a model's number.

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
        at = int(value.argmin())
        if value[at] < best:
            best, cut = value[at], (j, 0.5 * (z[at] + z[at + 1]))
    if cut is None:
        return int(total.argmin())
    side = Z[:, cut[0]] <= cut[1]
    return (*cut, grow(Z[side], losses[side], depth - 1, least), grow(Z[~side], losses[~side], depth - 1, least))


def cell_choice(cells, Z):
    """The number of the model that a partition chooses for each row of Z, (n,)."""
    if isinstance(cells, int):
        return np.full(len(Z), cells)
    j, cut, below, above = cells
    return np.where(Z[:, j] <= cut, cell_choice(below, Z), cell_choice(above, Z))
