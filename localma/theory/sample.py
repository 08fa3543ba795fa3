"""What an audit looks at: checked data, and what the average makes of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import clone

from localma.averages.crossfit import with_direct
from localma.averages.estimator import LossEstimator
from localma.losses import Loss

__all__ = ["Sample", "columns", "sample", "slopes"]


class Sample(NamedTuple):
    """Checked data with what the average makes of them; y is class numbers for cross-entropy."""

    X: np.ndarray
    y: np.ndarray
    said: np.ndarray  # what candidates say, (n, M) or (n, M, K)
    F: np.ndarray  # the same as the average hears it, within its limits
    w: np.ndarray  # (n, M)
    a: np.ndarray  # what it says itself, (n,) or (n, K)
    L: np.ndarray  # (n,)
    g: np.ndarray  # (n,), whole numbers: which rows belong together


def sample(average, X, y, F=None, groups=None, *, fitted=False) -> Sample:
    """``fitted``: these are the data of the fit."""
    loss = average._resolve_loss()
    y = average._response(X, y, F)
    # constant weights read nothing of X; by a copy, since scikit-learn's checks write the number of columns down
    numbers = LossEstimator._read(clone(average), X, reset=True) if not average._read(X).size else None
    array, F = average._predictions(X, F)
    if fitted and average.direct_ is not None:  # which knows these rows by heart: as the weights heard it
        learner = clone(getattr(average.direct_, "learner", average.direct_))
        F, _ = with_direct(learner, X, F[:, :-1], y, getattr(average, "classes_", None), groups=groups, random_state=0)
    said, F = F, F if average.range_ is None or not average.clip else F.clip(*average.range_)
    y = np.asarray(average._encode(y) if loss.is_classification else y, dtype=float)
    w = average._weights(array)
    a = average._combine(array, F)
    g = np.arange(len(y)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if g.shape != (len(y),):
        raise ValueError(f"groups has shape {np.shape(groups)}, but there are {len(y)} observations; give one for each")
    return Sample(array if numbers is None else numbers, y, said, F, w, a, loss(y, a), g)


def columns(loss: Loss, y: np.ndarray, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Responses (n, C) and predictions (n, M, C) as numbers: one column, or the indicators of K classes."""
    return (np.eye(F.shape[2])[y.astype(int)], F) if loss.is_classification else (y[:, None], F[..., None])


def slopes(loss: Loss, s: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and second derivative of the loss in the average (n,), and the models' distances from the average
    (n, M).
    """
    y = torch.as_tensor(s.y)
    f = loss.linear(loss.candidates(y, torch.as_tensor(np.moveaxis(s.F, 0, -1).copy())))
    a = (torch.as_tensor(s.w.T.copy()) * f).sum(0)
    first, second = loss.derivatives(y, a)
    return first.numpy(), second.numpy(), (f - a).numpy().T
