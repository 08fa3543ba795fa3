"""What relatives with weights that depend on the input share, and two that borrow their fit: a ridge and a
classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeCV

from localma.averages import ModelAverage
from localma.averages.crossfit import weighted
from localma.averages.packing import record
from localma.engine import first_smallest
from localma.engine.tiles import standardization
from localma.losses.loss import LossLike
from localma.relatives.common import losses_of_models, need_squared, weights_of

__all__ = ["FeatureStacking", "RightProbability"]

RIDGES = tuple(10.0**k for k in range(-3, 6))


def _restored(values):
    model = LogisticRegression()
    vars(model).update(values)
    return model


# the default classifier of RightProbability is made of arrays
record(LogisticRegression, lambda model: dict(vars(model)), _restored)


class Local(ModelAverage):
    """Base of the local relatives: flat covariates, standardised by the sample; ``rule_`` is what was learned.

    Subclasses define ``_fit_rule(Z, F, y, loss, w)``, which returns the rule, and ``_rule_weights(Z)``. Losses count by
    w; standardisation, folds, neighbours and cells take all rows for equals.
    """

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        loss: LossLike = "squared",
        clip: bool = True,
        features: Any = None,
    ) -> None:
        super().__init__(models, loss=loss, clip=clip)
        self.features = features

    def _check(self, X, y, M, loss):
        super()._check(X, y, M, loss)
        if X.ndim != 2:
            raise ValueError(f"X has shape {X.shape}, but {type(self).__name__} reads (n, d); flatten X")

    def _fit_weights(self, X, F, y, loss, sample_weight=None):
        mean, scale = standardization(torch.tensor(np.asarray(X, dtype=float)).unsqueeze(0))
        self.mean_, self.scale_ = mean[0].numpy(), scale[0].numpy()
        self.rule_ = self._fit_rule((X - self.mean_) / self.scale_, F, y, loss, weights_of(y, sample_weight))

    def _weights(self, X):
        return self._rule_weights((X - self.mean_) / self.scale_)


def linear_basis(Z):
    """(1, x), (n, d + 1)."""
    return np.column_stack([np.ones(len(Z)), Z])


class FeatureStacking(Local):
    r"""Feature-weighted linear stacking: :math:`w_m(x) = a_m + b_m^\top x`, by ridge regression, without any
    constraint.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; squared loss only.
    features : list of column names, callable or transformer, optional
        What the weights read, where it differs from what the models do: see :class:`localma.LocalMA`.

    Attributes
    ----------
    rule_ : array of shape (d + 1, M)
    ridge_ : float
        The ridge penalty, chosen by leave-one-out cross-validation (exact, in closed form: scikit-learn's ``RidgeCV``)
        among powers of ten.

    Notes
    -----
    Sources: Sill, Takács, Mackey and Lin (2009), Feature-weighted linear stacking; the same weights with other basis
    functions in Wakayama and Sugasawa (2024), Ensemble prediction via covariate-dependent stacking. Simplified: the
    features are the covariates themselves. Weights may be negative and need not sum to one, so that the average can
    leave the models' range: the better choice where the truth lies outside it, and a risky one far from the sample.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import FeatureStacking
    >>> x = np.linspace(-1, 1, 100)
    >>> stacking = FeatureStacking().fit(x[:, None], x**2, F=np.stack([x, np.ones(100)], 1))  # w_1(x) = x
    >>> bool(np.abs(stacking.predict(x[:, None], F=np.stack([x, np.ones(100)], 1)) - x**2).max() < 0.01)
    True
    """

    simplex = False

    def _check(self, X, y, M, loss):
        super()._check(X, y, M, loss)
        need_squared("FeatureStacking", loss)

    def _fit_rule(self, Z, F, y, loss, w):
        unit = np.sqrt(np.mean(F**2)) or 1.0  # so that a ridge means the same in euros and in cents
        basis = linear_basis(Z)
        design = (basis[:, :, None] * F[:, None, :] / unit).reshape(len(y), -1)
        ridge = RidgeCV(alphas=RIDGES, fit_intercept=False).fit(design, y, w)
        self.ridge_ = float(ridge.alpha_)
        return ridge.coef_.reshape(-1, F.shape[1]) / unit

    def _rule_weights(self, Z):
        return linear_basis(Z) @ self.rule_


class RightProbability(Local):
    r"""A model's weight is the probability that it is right here, estimated by a classifier and scaled to sum to one.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; every loss.
    classifier : scikit-learn classifier, optional
        With ``predict_proba``; a copy is fitted. Default: logistic regression.
    features : list of column names, callable or transformer, optional
        What the weights read, where it differs from what the models do: see :class:`localma.LocalMA`.

    Attributes
    ----------
    rule_ : list of classifiers, or a classifier
        For cross-entropy one for each model, of whether its most probable class was the right one (a number where that
        never or always happened). For other losses a single one, of which model came closest (the model's number where
        that was always the same).

    Notes
    -----
    Source: Pan, Xiao and Huang (2006), Using input dependent weights for model combination and model selection with
    multiple sources of data. The source is about classification. Simplified: for means, where no model is ever exactly
    right, "right" is to come closest of all; a frequency of 0 or n is moved inside by one observation. The better
    choice when one wants weights that mean something by themselves, or any classifier as the gate; it never asks how
    the average does, so errors that cancel go unused.

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

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        loss: LossLike = "squared",
        clip: bool = True,
        classifier: Any = None,
        features: Any = None,
    ) -> None:
        super().__init__(models, loss=loss, clip=clip, features=features)
        self.classifier = classifier

    def _check(self, X, y, M, loss):
        super()._check(X, y, M, loss)
        gate = self.classifier
        if gate is not None and not (hasattr(gate, "fit") and hasattr(gate, "predict_proba")):
            raise TypeError(f"classifier must be None or a scikit-learn classifier with predict_proba, but is {gate!r}")

    def _fit_rule(self, Z, F, y, loss, w):
        if loss.is_classification:
            right = first_smallest(-F) == y[:, None]
            n = len(y)
            return [self._learn(Z, c, w) if 0 < c.sum() < n else (c.sum() + 1) / (n + 2) for c in right.T]
        return self._learn(Z, first_smallest(losses_of_models(loss, y, F)), w)

    def _learn(self, Z, label, w):
        if len(np.unique(label)) > 1:
            learner = clone(LogisticRegression() if self.classifier is None else self.classifier)
            return learner.fit(Z, label, **weighted(learner, "classifier", None if (w == 1).all() else w))
        return label[0]

    def _rule_weights(self, Z):
        if isinstance(self.rule_, list):
            p = np.stack(
                [r.predict_proba(Z)[:, 1] if hasattr(r, "predict_proba") else np.full(len(Z), r) for r in self.rule_], 1
            )
            p[~p.any(1)] = 1  # where no model is thought right, as by a tree: equal weights
            return p / p.sum(1, keepdims=True)
        if not hasattr(self.rule_, "predict_proba"):
            return np.tile(np.eye(self.n_models_)[self.rule_], (len(Z), 1))
        w = np.zeros((len(Z), self.n_models_))  # a model that never came closest is no class
        w[:, self.rule_.classes_] = self.rule_.predict_proba(Z)
        return w
