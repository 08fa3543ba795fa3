"""A candidate of one's own: a learner fitted to the sample itself, heard only on rows that it was not trained on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.utils.validation import has_fit_parameter

from localma.checks import RandomState, check_same_rows, resolve_seed
from localma.engine.validation import fold_numbers

__all__ = ["check_learner", "cross_fit", "need_weights", "weighted", "with_direct"]


def cross_fit(
    learner: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    random_state: RandomState = None,
    sample_weight: ArrayLike | None = None,
) -> np.ndarray:
    """What a learner says of rows that it was not trained on: a column for F from the sample itself.

    A model that was trained on the rows that choose the weights looks better there than it is, and gets too much
    weight everywhere. So the learner is fitted five times, each time without a fifth of the rows, and asked about that
    fifth. ``LocalMA(models, direct=learner)`` does this and the rest; here is the column alone, for other averages.

    Parameters
    ----------
    learner : scikit-learn regressor or classifier
        Copies of it are fitted. Give it a ``random_state`` of its own where it draws.
    X : array or DataFrame of shape (n, ...)
    y : array of shape (n,)
    groups : array of shape (n,), optional
        Which rows belong together: they are held out together.
    random_state : int, RandomState or None
        For the folds, which are those of a :class:`localma.LocalMA` with this seed, of up to 3,000 rows.
    sample_weight : array of shape (n,), optional
        For the learner's ``fit``.

    Returns
    -------
    array of shape (n,), or (n, K) probabilities of the sorted labels in y for a classifier

    Raises
    ------
    TypeError
        For what is neither a regressor nor a classifier with ``predict_proba``, or takes no weights that are given.
    ValueError
        For fewer than ten rows, or groups of them.

    Notes
    -----
    Source: van der Laan, Polley and Hubbard (2007), Super learner; by scikit-learn's ``cross_val_predict``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> from localma import cross_fit
    >>> noise = np.random.default_rng(0).normal(size=100)
    >>> learner = KNeighborsRegressor(1)  # which knows by heart what it has seen
    >>> column = cross_fit(learner, np.arange(100.0)[:, None], noise, random_state=0)
    >>> bool(np.mean((column - noise) ** 2) > 1)
    True
    """
    check_learner(learner, "learner", is_classifier(learner))
    check_same_rows(X=X, y=y, sample_weight=sample_weight)
    held = fold_numbers(len(np.asarray(y)), resolve_seed(random_state), None if groups is None else np.asarray(groups))
    with warnings.catch_warnings():  # of classes that a fold has not seen: their probability is zero
        warnings.filterwarnings("ignore", "Number of classes in training fold", RuntimeWarning)
        method = "predict_proba" if is_classifier(learner) else "predict"
        more = weighted(learner, "learner", sample_weight)
        return cross_val_predict(learner, X, y, cv=PredefinedSplit(held), method=method, params=more)


def check_learner(learner, name: str, proba: bool) -> None:
    """Raise TypeError unless a learner can be fitted and says means, or for ``proba`` probabilities."""
    if hasattr(learner, "fit") and (hasattr(learner, "predict_proba") if proba else is_regressor(learner)):
        return
    what = "classifier with predict_proba" if proba else "regressor"
    raise TypeError(f"{name} must be a scikit-learn {what}, but is {learner!r}")


def need_weights(learner, name: str) -> None:
    """Raise TypeError if a learner's ``fit`` takes no weights of rows."""
    if not (has_fit_parameter(learner, "sample_weight") or get_config()["enable_metadata_routing"]):
        raise TypeError(
            f"{name} is {learner!r}, whose fit takes no sample_weight; give a learner whose fit does, or a pipeline"
            " whose steps say by set_fit_request(sample_weight=...) which of them take it, under"
            " sklearn.set_config(enable_metadata_routing=True)"
        )


def weighted(learner, name: str, sample_weight) -> dict:
    """What a learner's ``fit`` gets besides; TypeError if there are weights that it cannot take."""
    if sample_weight is None:
        return {}
    need_weights(learner, name)
    return {"sample_weight": np.asarray(sample_weight, dtype=float)}


class AllClasses:
    """A fitted classifier that has not seen all classes: of each that is missing it says what one more row would have
    given.
    """

    def __init__(self, learner, classes, n: int):
        self.learner, self.classes_, self.n = learner, classes, n

    def predict_proba(self, X):
        return self.widened(self.learner.predict_proba(X))

    def widened(self, p):
        """(n, K) from the probabilities of the classes in the sample."""
        unseen = 1 / (self.n + len(self.classes_) - p.shape[1])
        everything = np.full((len(p), len(self.classes_)), unseen)
        everything[:, np.searchsorted(self.classes_, self.learner.classes_)] = p * self.n * unseen
        return everything


def with_direct(learner, X, F, y, classes, sample_weight=None, **how):
    """F with a learner's cross-fitted column, and the learner fitted to all rows."""
    column = cross_fit(learner, X, y, sample_weight=sample_weight, **how)
    fitted = clone(learner).fit(X, y, **weighted(learner, "direct", sample_weight))
    if classes is not None and len(fitted.classes_) < len(classes):
        fitted = AllClasses(fitted, classes, len(y))
        column = fitted.widened(column)
    return np.concatenate([F, column[:, None]], 1), fitted
