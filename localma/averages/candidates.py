"""Predictions of frozen candidate models, checked: the one place that calls a model, and calls it once per data set."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import is_classifier
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import _num_samples

from localma.averages.features import as_frame
from localma.checks import check_same_rows, plain
from localma.engine.devices import alone
from localma.engine.networks import module_input
from localma.engine.rows import pieces

__all__ = [
    "candidate_predictions",
    "classes_of",
    "clipped",
    "in_place",
    "known_classes",
    "name_candidates",
    "name_models",
    "usual_range",
    "warn_of_odd_models",
]

#: A prediction may lie beyond what the sample has seen by this share of its range: without it, predictions that are
#: right would be cut, in small samples above all.
BEYOND = 1.0

#: A model whose loss is below this share of the next best one's may have seen the sample: forests, trees and boosting
#: are there on their own training rows, and the best of Scenario 1's models, which is nearly all of the truth in S3, is
#: not.
TOO_GOOD = 0.1
#: Below this share it has, if it also goes along with y's noise.
SUSPECT = 0.5
#: Rows, evenly spread, that are enough to see that.
MOST = 2000

OF_TWO = "; of two classes with P the probability of the second, give np.stack([1 - P, P], -1)"


def name_candidates(models, F, n: int, loss, fitted=None):
    """All that can be known before a model is called: names, models, and F of shape (n, M) or (n, M, K) if it is given.

    ``fitted`` are the names in the fit, which the columns of F must have now; None in the fit itself.
    """
    if models is None and F is None:
        raise ValueError("F is missing: models is None, so give the candidates' predictions F of shape (n, M) here")
    names, models = (None, None) if models is None else name_models(models)
    if F is None:
        _check_exposure(names, models)
        return names, models, None
    F = as_frame(F)
    columns = [str(c) for c in F.columns] if hasattr(F, "columns") else None
    F = _given(F, n, loss)
    M = F.shape[1]
    if models is not None and M != len(models):
        raise ValueError(f"F has {M} columns for {len(models)} models; give one column per model, in their order")
    names = fitted or names or columns or [f"f{m + 1}" for m in range(M)]
    numbered = columns == [str(m) for m in range(M)] and set(columns).isdisjoint(names)  # a frame made from an array
    if columns not in (None, names) and not numbered:
        way = "give these, or an array of columns in their order"
        if set(columns) == set(names):
            way = f"reorder them: F[{names}]"
        raise ValueError(f"F has the columns {columns}, but the models are {names}; {way}")
    return names, models, F


def candidate_predictions(names, models, F, X, n: int, loss, classes=None) -> np.ndarray:
    """F as :func:`name_candidates` found it, or the models' answers, checked; ``classes`` as :func:`known_classes` or a
    fit found them.
    """
    called = F is None
    if called:
        X = X if hasattr(X, "shape") else np.asarray(X)  # a DataFrame stays one: models may ask for columns by name
        F = _call_all(names, models, X, n, classes, loss.is_classification)
    for rows in pieces(n):
        if np.isfinite(F[rows]).all():
            continue
        i, m = np.argwhere(~np.isfinite(F[rows]))[0][:2]
        i += rows.start
        what = f"the prediction of model {names[m]!r} for row {i}" if called else f"F[{i}, {m}]"
        raise ValueError(f"{what} is NaN or infinite; impute it or drop the row or the model")
    loss.check_predictions(F, None if models is None else names)
    return F


def _given(F, n, loss) -> np.ndarray:
    """Predictions that a user gives, as an array of numbers with a row for each of X; single precision stays, and a
    file on disk is not read yet.
    """
    try:
        F = np.asarray(F)
        F = plain(F) if F.dtype.kind == "f" else np.require(F, float, "C")  # torch refuses reversed arrays
    except (TypeError, ValueError) as error:
        raise ValueError(f"F must be an array of numbers: {error}") from None
    proba = loss.is_classification
    if F.ndim != (3 if proba else 2) or F.shape[0] != n or 0 in F.shape:
        expected = f"({n}, M, K)" if proba else f"({n}, M)"
        if F.ndim == 2 and F.shape[1] == n != F.shape[0]:
            expected += "; give its transpose, F.T"
        elif F.ndim == 2 and F.shape[0] == n and proba:
            expected += OF_TWO
        raise ValueError(f"F has shape {F.shape}, but X has {n} rows and the loss is {loss.name}: expected {expected}")
    return F


def name_models(models) -> tuple[list[str], list]:
    """(names, models) of a list of models or of (name, model) pairs; unnamed models are called f1, f2, ..."""
    if isinstance(models, (str, bytes)) or not hasattr(models, "__iter__"):
        raise TypeError(
            f"models must be a list of fitted models, callables or (name, model) pairs, not {type(models).__name__}"
        )
    if isinstance(models, dict):
        raise TypeError("models is a dict; give its (name, model) pairs: list(models.items())")
    if hasattr(models, "dtype") or hasattr(models, "dtypes"):
        raise TypeError(
            "models holds numbers; predictions made elsewhere go to fit and predict: fit(X, y, F=...), with models"
            " left out"
        )
    if hasattr(models, "__next__"):
        raise TypeError(f"models is a {type(models).__name__}, which one fit uses up; give list(models)")
    models = list(models)
    if not models:
        raise ValueError(
            "models is empty; give at least one fitted model, or models=None and precomputed predictions F"
        )
    names = []
    for m, model in enumerate(models):
        if isinstance(model, tuple):
            if len(model) != 2 or not isinstance(model[0], str):
                raise TypeError(f"models[{m}] is a tuple, but not a (name, model) pair")
            names.append(model[0])
            models[m] = model[1]
        else:
            names.append(f"f{m + 1}")
        if not (hasattr(models[m], "predict") or hasattr(models[m], "predict_proba") or callable(models[m])):
            raise TypeError(
                f"models[{m}] has no predict method and is not callable; give a fitted model or a function of X"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"models must have distinct names, but are called {names}")
    return names, models


def _check_exposure(names, models) -> None:
    """Raise ValueError for a result of statsmodels with an exposure or offset, which its ``predict(X)`` leaves out."""
    for name, model in zip(names, models, strict=True):
        fitted = getattr(getattr(model, "__self__", model), "model", None)  # of a method the object that has it
        for what in ("exposure", "offset"):
            value = getattr(fitted, what, None)
            if isinstance(value, (np.ndarray, pd.Series)) and np.any(value):  # the logarithm of an exposure is kept
                raise ValueError(
                    f"model {name!r} was fitted with {what}=, without which predict(X) answers per unit; give a"
                    f" function that says it, such as lambda X: result.predict(X, {what}=X[...]), or F"
                )


def known_classes(names, models, given=None) -> np.ndarray | None:
    """The classes, sorted: those that are ``given``, or else those that all models with a ``classes_`` attribute know;
    None if no model says.
    """
    pairs = zip(names, models or [], strict=False)
    known = {name: np.asarray(model.classes_) for name, model in pairs if hasattr(model, "classes_")}
    if given is not None:
        given = np.asarray(given)
        if given.ndim != 1 or not np.array_equal(np.unique(given), given):
            raise ValueError(f"classes must be distinct labels in their sorted order, but is {given.tolist()}")
    all_known = [*known.values(), *([] if given is None else [given])]
    numbered = [name for name, own in known.items() if own.dtype.kind in "biuf"]
    if numbered and any(own.dtype.kind not in "biuf" for own in all_known):
        who = numbered[0]
        raise ValueError(
            f"models disagree on what classes are called: model {who!r} has the numbers {known[who].tolist()}, others"
            f" words; give ({who!r}, model.predict_proba), a function, with a column for each of the sorted labels"
        )
    classes: Any = given if given is not None else np.unique(np.concatenate([*known.values()])) if known else None
    for name, own in known.items():
        if len(more := np.setdiff1d(own, classes)):
            raise ValueError(f"classes is {classes.tolist()}, but model {name!r} knows {more.tolist()}, too; add them")
        missing = np.setdiff1d(classes, own)
        if len(missing) and given is None:
            raise ValueError(
                f"models disagree on the classes: model {name!r} does not know {missing.tolist()}; refit it with at"
                " least one example of each class, wrap it in a callable that returns a probability for every class, or"
                f" give fit(..., classes={classes.tolist()}), which takes it for zero"
            )
        if len(missing):
            warnings.warn(
                f"model {name!r} does not know the classes {missing.tolist()}: they get the probability zero from it",
                stacklevel=4,
            )
    return classes


def classes_of(known, K, y):
    """The classes that K columns of probabilities stand for: those that the models know, or else what the labels y
    allow.
    """
    if known is not None:
        if len(known) != K:
            raise ValueError(
                f"F has K = {K} columns, but there are {len(known)} classes; give one for each of {known.tolist()}"
            )
        return known
    labels = np.unique(y)
    if len(labels) == K:
        return labels
    # without a class 0 the labels might as well be 1 to K
    if np.issubdtype(labels.dtype, np.integer) and labels.min() == 0 and labels.max() < K:
        return np.arange(K)
    raise ValueError(
        f"y holds {len(labels)} class labels, but the predictions have K = {K} columns; "
        f"number the classes 0 to {K - 1} in the order of the columns and have a row of class 0, or name all of them,"
        " sorted, with fit(..., classes=[...])"
    )


def _answer(model, X, proba: bool, name: str) -> Any:
    """What a model says of X, for ``proba`` of the probabilities of classes."""
    if isinstance(model, torch.nn.Module):
        array = np.asarray(X)  # in pieces of about one size, so that a large X needs no large activations
        parts = np.array_split(array, -(-len(array) // (65536 if array.ndim == 2 else 1024)))
        with alone(), torch.no_grad():  # another thread may ask the same model
            modes = [(part, part.training) for part in model.modules()]
            model.eval()
            try:
                return torch.cat([model(module_input(model, part)) for part in parts]).cpu().numpy()
            finally:
                for part, training in modes:  # a frozen model is handed back as it came, part by part
                    part.training = training
    if proba and hasattr(model, "predict") and not hasattr(model, "predict_proba"):
        raise TypeError(
            f"model {name!r} has predict but no predict_proba, which the cross_entropy loss needs; "
            "calibrate it or wrap it in a callable"
        )
    return getattr(model, "predict_proba" if proba else "predict", model)(X)


def in_place(X, f):
    """Answers to X, refused where labels say that their order is another; the rows of an array count from zero."""
    labelled = isinstance(X, (pd.DataFrame, pd.Series))
    check_same_rows(X=X if labelled else pd.Series(range(_num_samples(X))), prediction=f)
    return f


def _call_all(names, models, X, n: int, classes: np.ndarray | None, proba: bool) -> np.ndarray:
    """Predictions F of all models: (n, M), or (n, M, K) class probabilities with columns in the order of
    ``classes``.
    """
    columns = []
    for name, model in zip(names, models, strict=True):
        if not proba and hasattr(model, "__sklearn_tags__") and is_classifier(model):
            raise ValueError(
                f"model {name!r} is a classifier, whose labels are not to be averaged; give loss='cross_entropy', or"
                " its probabilities as F"
            )
        try:
            f = np.asarray(in_place(X, _answer(model, X, proba, name)), dtype=float)
        except Exception as error:
            raise ValueError(f"model {name!r} failed on X: {type(error).__name__}: {error}") from error
        if not proba and f.ndim == 2 and f.shape[1] == 1:
            f = f[:, 0]
        if f.ndim != (2 if proba else 1) or len(f) != n:
            expected = f"({n}, number of classes){OF_TWO * (f.ndim == 1)}" if proba else f"({n},)"
            raise ValueError(
                f"model {name!r} returned predictions of shape {f.shape} for {n} rows of X; expected {expected}"
            )
        if proba and classes is not None:
            own = np.asarray(getattr(model, "classes_", classes))
            if f.shape[1] != len(own) or not np.isin(own, classes).all():
                of = "" if own is classes else f" of {own.tolist()}"
                raise ValueError(
                    f"model {name!r} returned {f.shape[1]} class probabilities{of}, but there are {len(classes)}"
                    f" classes: {classes.tolist()}"
                )
            said, f = f, np.zeros((n, len(classes)))  # a class that a model does not know has no probability
            f[:, np.searchsorted(classes, own)] = said
        columns.append(f)
    widths = [c.shape[1] for c in columns] if proba else []
    if len(set(widths)) > 1:
        raise ValueError(f"models disagree on the number of classes: {dict(zip(names, widths, strict=True))}")
    return np.stack(columns, axis=1)


def _knows_the_noise(X, f, y) -> bool:
    """Whether a model, put to y's scale, goes along with y where both leave their neighbours, by three standard errors.

    What a model of other rows leaves of y is noise there, and tells nothing of the model; one that was trained on these
    rows has a part of each row's noise in its answer.
    """
    rows = slice(None, None, -(-len(y) // MOST))
    X, f, y = X[rows], np.asarray(f[rows], float), y[rows]
    near = NearestNeighbors(n_neighbors=5).fit(StandardScaler().fit_transform(X)).kneighbors(return_distance=False)
    (variance, covariance), _ = np.cov(f, y)
    if variance == 0:
        return False
    apart, left = (a - a[near].mean(1) for a in (f, y - covariance / variance * f))
    return (apart * left).sum() > 3 * np.sqrt(((apart * left) ** 2).sum())


def warn_of_odd_models(names, F, y, loss, X, own=False, sample_weight=None) -> None:
    """Warn of a model that is too bad or too good to be true.

    Too bad: far worse than the mean of y and than the best of the others; it, or one row of it, is in another unit.
    Global weights switch such a model off. But a localized average counts its loss in a unit that comes from the
    models' differences, and a wild model makes those of the others small change. Too good: it has seen the sample, as
    the column of a learner of one's ``own`` has not; ``X`` (n, d), where it is a table, helps to tell.
    """
    if len(y) < 10 or len(names) < 2:
        return
    share = np.broadcast_to(1.0, len(y)) if sample_weight is None else sample_weight

    def mean_loss(a):
        return sum(share[k] @ loss(y[k], a[k]) for k in pieces(len(y))) / share.sum()

    mean = np.array([mean_loss(F[:, m]) for m in range(len(names))])
    first, second = np.argsort(mean)[:2]
    # a model that knows less of the classes than nobody is no measure of how good another may be
    usual = min(mean[second], np.log(F.shape[2])) if loss.is_classification else mean[second]
    good = mean[first] / usual if usual > 0 <= mean[first] else 1.0
    tabled = X.ndim == 2 and not loss.is_classification
    seen = good < TOO_GOOD or (good < SUSPECT and tabled and _knows_the_noise(X, F[:, first], y))
    if seen and not (own and first == len(names) - 1):
        warnings.warn(
            f"the {loss.name} loss of model {names[first]!r} is {mean[first] / mean[second]:.2g} times that of the next"
            " best: was it trained on these rows? Then it looks better here than it is, and its weight is too large;"
            " give the learner as LocalMA(direct=...), or its column by cross_fit",
            stacklevel=4,
        )
    if loss.is_classification:
        return
    level = max(mean_loss(np.broadcast_to(np.average(y, weights=sample_weight), len(y))), mean[first])
    for m, (name, own_mean) in enumerate(zip(names, mean, strict=True)):
        if level > 0 and own_mean > 100 * level:
            each = loss(y, F[:, m])
            warnings.warn(
                f"the {loss.name} loss of model {name!r} is {own_mean / level:.3g} times that of the others or of"
                f" the mean of y (largest in row {each.argmax()}): is it in another unit, or a code for missing?"
                " Correct, clip or drop it: such a model hides the differences between the others",
                stacklevel=4,
            )


def usual_range(F, y) -> np.ndarray | None:
    """Least and largest prediction of each candidate that is taken at its word, (2, M): those in the sample and y's,
    with a margin; None where ten rows are too few to tell.
    """
    if len(y) < 10:
        return None
    low, high = np.minimum(F.min(0), y.min()), np.maximum(F.max(0), y.max())
    margin = BEYOND * (high - low)
    return np.stack([low - margin, high + margin])


def clipped(F, limits, names):
    """F within the limits (2, M), with a warning that names the rows and models that were not."""
    low, high = limits.astype(F.dtype)
    found = [(np.nonzero((F[k] < low) | (F[k] > high)), k.start) for k in pieces(len(F))]
    rows, models = (np.concatenate(a) for a in zip(*((i + start, m) for (i, m), start in found), strict=True))
    if len(rows):
        few = ", ".join(map(str, np.unique(rows)[:5])) + (", ..." if len(np.unique(rows)) > 5 else "")
        who = ", ".join(repr(names[m]) for m in np.unique(models))
        warnings.warn(
            f"at {len(np.unique(rows))} of {len(F)} rows ({few}) predictions of {who} lie far beyond all that the"
            " sample has seen and were clipped: look at these rows of X, or give clip=False to believe them",
            stacklevel=5,
        )
    return np.clip(F, low, high) if len(rows) else F
