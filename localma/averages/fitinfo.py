"""Diagnostics of a fit of weight networks."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from scipy.special import entr
from sklearn.exceptions import ConvergenceWarning

from localma.averages.packing import record
from localma.engine import History, Training
from localma.engine.rows import pieces

__all__ = ["FitInfo", "fit_info", "in_sample", "warn_of_late_fall"]

#: A larger share of the loss's fall in the second half of training says that it has not ended.
LATE = 0.02


@record
class FitInfo(NamedTuple):
    """Diagnostics of a LocalMA fit; losses are per observation and divided by ``scale``, so without unit."""

    training: Training  #: with every "auto" resolved
    best_step: int  #: the step whose parameters were kept
    train_loss: np.ndarray  #: criterion of each step's batch, (steps,)
    validation_loss: np.ndarray  #: at each evaluation; empty without a validation part
    validation_steps: np.ndarray  #: when these were taken
    gradient_norm: float  #: at the last step; far from zero: train longer
    #: mean entropy of w(x) over the sample divided by log M: 1 equal weights, 0 one model everywhere
    weight_entropy: float
    residual: float = 0.0  #: mean residual in its standard errors; beyond 3: all models are off together, see ``level``


def in_sample(average, X, F, sample_weight=None) -> tuple[np.ndarray, float]:
    """What an average of the predictions F says at its own rows, (n,) or (n, K); and the mean entropy of its weights as
    a share of that of equal ones.
    """
    a, entropy = np.empty((len(F), *F.shape[2:])), np.empty(len(F))
    for rows in pieces(len(F)):
        w = average._weights(X[rows])
        entropy[rows] = entr(w).sum(1)
        np.einsum("nm,nm...->n...", w, F[rows], out=a[rows])
    return a, float(np.average(entropy, weights=sample_weight) / max(np.log(F.shape[1]), 1e-300))


def fit_info(training: Training, history: History | None, entropy: float, residual: float = 0.0) -> FitInfo:
    """Of the first network of a stack (None where nothing was trained), and of the weights' entropy in the sample."""
    if history is None:
        return FitInfo(training, 0, np.empty(0), np.empty(0), np.empty(0, int), 0.0, entropy, residual)
    curves = (history.train_loss[:, 0].cpu().numpy(), history.validation_loss[:, 0].cpu().numpy())
    evaluated, norm = np.asarray(history.evaluated_at, dtype=int), float(history.gradient_norm[0])
    return FitInfo(training, int(history.best_step[0]), *curves, evaluated, norm, entropy, residual)


def warn_of_late_fall(training: Training, history: History) -> None:
    """Warn of a network whose loss still fell when its training ended."""
    if (late := float(history.late_fall()[0])) > LATE:
        warnings.warn(
            f"the network is not trained to its end: in the second half of {training.steps} steps the loss fell by"
            f" {late:.0%} of its whole fall; give training=Training(steps=..., learning_rate=...), more or a higher"
            " one",
            ConvergenceWarning,
            stacklevel=5,
        )
