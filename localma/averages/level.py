"""One number that no weights can reach: the level of all candidates together."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.special import logit
from sklearn.base import clone

from localma.engine.validation import FOLDS, fold_numbers, standard_error
from localma.losses import Loss

__all__ = ["at_level", "learn_level", "level_of", "residual"]


def level_of(loss: Loss, y, a) -> Any:
    """The level that predictions ``a`` of ``y`` lack.

    A number to add (the mean residual, or for pinball losses their quantile), for positive predictions a factor, for
    probabilities what is added to their logits, one number for each class.
    """
    if loss.is_classification or loss.prediction == "between 0 and 1":
        p = a if loss.is_classification else np.stack([1 - a, a], 1)
        K = p.shape[1]
        share = np.bincount(y.astype(int), minlength=K) if loss.is_classification else np.array([sum(1 - y), sum(y)])
        share, level = (share + 1) / (len(y) + K), np.zeros(K)  # a class that the sample lacks is not impossible
        for _ in range(100):  # iterative scaling: each step brings the mean probabilities nearer to the shares
            level += np.log(share / np.maximum(_tilted(p, level).mean(0), 1e-300))
        return level - level.mean() if loss.is_classification else float(level[1] - level[0])
    if loss.prediction in ("positive", "non-negative"):
        p = 1.0 if loss.power is None else loss.power
        return float(np.sum(y * a ** (1 - p)) / np.sum(a ** (2 - p)))
    if loss.slopes is not None:
        under, over = loss.slopes
        return float(np.quantile(y - a, under / (under + over)))
    return float(np.mean(y - a))


def at_level(loss: Loss, a, level):
    """Predictions moved by a level that :func:`level_of` found."""
    if loss.is_classification:
        return _tilted(a, level)
    if loss.prediction == "between 0 and 1":
        return 1 / (1 + np.exp(-logit(a) - level))
    return a * level if loss.prediction in ("positive", "non-negative") else a + level


def _tilted(p, level):
    q = p * np.exp(level - np.max(level))
    return q / q.sum(1, keepdims=True)


def held_out(average, X, F, y, loss: Loss, held, **settings):
    """What an average, fitted again without each fold, says of it: (n,) or (n, K)."""
    found = np.empty((len(y), *F.shape[2:]))
    for k in range(FOLDS):
        part, rest = clone(average).set_params(level=False, **settings), held != k
        part.n_models_, part.model_names_ = average.n_models_, average.model_names_
        with warnings.catch_warnings():  # what there is to say of the sample the fit to all of it says
            warnings.simplefilter("ignore")
            part._fit_weights(X[rest], F[rest], y[rest], loss)
        found[~rest] = part._combine(X[~rest], F[~rest])
    return found


def level_gain(loss: Loss, y, a, held, groups) -> tuple[float, float]:
    """How much less held-out predictions lose at the level that the other folds ask for, and its standard error."""
    moved = np.empty_like(a)
    for k in range(FOLDS):
        moved[held == k] = at_level(loss, a[held == k], level_of(loss, y[held != k], a[held != k]))
    gain = loss(y, a) - loss(y, moved)
    return float(gain.mean()), float(standard_error(gain, groups))


def learn_level(average, X, F, y, loss: Loss, groups=None, seed: int = 0, **settings):
    """The level of a fitted average, None where held-out rows do not gain a standard error by it; and the gain, with
    its error.
    """
    held = fold_numbers(len(y), seed, groups)
    a = held_out(average, X, F, y, loss, held, **settings)
    gain, error = level_gain(loss, y, a, held, groups)
    return level_of(loss, y, a) if gain > error else None, (gain, error)


def residual(loss: Loss, y, a, groups=None) -> float:
    """The mean residual in its standard errors (zero for a single row or group); of classes where it is largest."""
    if len(np.unique(np.arange(len(y)) if groups is None else groups)) < 2:
        return 0.0
    left = (np.eye(a.shape[1])[y.astype(int)] - a).T if loss.is_classification else (y - a)[None]
    mean, error = left.mean(1), standard_error(left, groups)
    z = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    return float(z[np.abs(z).argmax()])
