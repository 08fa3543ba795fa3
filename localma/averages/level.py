"""One number that no weights can reach: the level of all candidates together."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.special import logit
from sklearn.base import clone

from localma.engine.validation import FOLDS, fold_numbers, mean_and_error
from localma.losses import Loss

__all__ = ["at_level", "learn_level", "level_of", "residual"]


def level_of(loss: Loss, y, a, share=None) -> Any:
    """The level that predictions ``a`` of ``y`` lack, where rows count by their ``share``.

    A number to add (the mean residual, or for pinball losses their quantile), for positive predictions a factor, for
    probabilities what is added to their logits, one number for each class.
    """
    w = np.ones(len(y)) if share is None else share / np.mean(share)
    if loss.is_classification or loss.prediction == "between 0 and 1":
        p = a if loss.is_classification else np.stack([1 - a, a], 1)
        K = p.shape[1]
        often = np.bincount(y.astype(int), w, K) if loss.is_classification else np.array([w @ (1 - y), w @ y])
        often, level = (often + 1) / (len(y) + K), np.zeros(K)  # a class that the sample lacks is not impossible
        for _ in range(100):  # iterative scaling: each step brings the mean probabilities nearer to the shares
            level += np.log(often / np.maximum(w @ _tilted(p, level) / len(y), 1e-300))
        return level - level.mean() if loss.is_classification else float(level[1] - level[0])
    if loss.prediction in ("positive", "non-negative"):
        p = 1.0 if loss.power is None else loss.power
        return float(np.sum(w * y * a ** (1 - p)) / np.sum(w * a ** (2 - p)))
    if loss.slopes is not None:
        under, over = loss.slopes
        return float(np.quantile(y - a, under / (under + over), weights=w, method="inverted_cdf"))
    return float(np.mean(w * (y - a)))


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


def held_out(average, X, F, y, loss: Loss, held, share=None, **settings):
    """What an average, fitted again without each fold, says of it: (n,) or (n, K)."""
    found = np.empty((len(y), *F.shape[2:]))
    for k in range(FOLDS):
        part, rest = clone(average).set_params(level=False, **settings), held != k
        part.n_models_, part.model_names_ = average.n_models_, average.model_names_
        with warnings.catch_warnings():  # what there is to say of the sample the fit to all of it says
            warnings.simplefilter("ignore")
            more = {} if share is None else {"sample_weight": share[rest]}
            part._fit_weights(X[rest], F[rest], y[rest], loss, **more)
        found[~rest] = part._combine(X[~rest], F[~rest])
    return found


def learn_level(average, X, F, y, loss: Loss, groups=None, seed: int = 0, share=None, **settings):
    """The level of a fitted average, None where held-out rows do not gain a standard error by that of the other folds;
    and the gain, with its error.
    """
    held = fold_numbers(len(y), seed, groups)
    share = None if share is None else share / share.mean()
    a = held_out(average, X, F, y, loss, held, share, **settings)
    moved = np.empty_like(a)
    for k in range(FOLDS):
        rest = held != k
        level = level_of(loss, y[rest], a[rest], None if share is None else share[rest])
        moved[~rest] = at_level(loss, a[~rest], level)
    gain, error = map(float, mean_and_error(loss(y, a) - loss(y, moved), groups, share))
    return level_of(loss, y, a, share) if gain > error else None, (gain, error)


def residual(loss: Loss, y, a, groups=None, share=None) -> float:
    """The mean residual in its standard errors (zero for a single row or group); of classes where it is largest."""
    if len(y if groups is None else np.unique(groups)) < 2:
        return 0.0
    left = (np.eye(a.shape[1])[y.astype(int)] - a).T if loss.is_classification else (y - a)[None]
    mean, error = mean_and_error(left, groups, None if share is None else share / share.mean())
    z = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    return float(z[np.abs(z).argmax()])
