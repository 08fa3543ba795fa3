"""What several relatives need: losses of each model, log-likelihoods, errors that name a loss which a method cannot
take.
"""

from __future__ import annotations

import numpy as np

from localma.losses import Loss

__all__ = ["log_likelihood", "losses_of_models", "need_likelihood", "need_squared", "variances", "weights_of"]

# A model that makes no error at all would have an infinite likelihood; a variance of this share of the worst model's is
# as good.
LEAST_VARIANCE = 1e-12


def losses_of_models(loss: Loss, y: np.ndarray, F: np.ndarray) -> np.ndarray:
    """The loss of each model at each observation, (n, M)."""
    return np.stack([loss(y, F[:, m]) for m in range(F.shape[1])], 1)


def weights_of(y: np.ndarray, sample_weight) -> np.ndarray:
    """How much each row counts, (n,): one without weights."""
    return np.ones(len(y)) if sample_weight is None else sample_weight


def variances(losses: np.ndarray, sample_weight=None) -> np.ndarray:
    """Mean squared error of each model, (M,), kept away from zero."""
    v = np.average(losses, 0, sample_weight)
    return np.maximum(v, LEAST_VARIANCE * v.max() or 1.0)


def log_likelihood(loss: Loss, losses: np.ndarray, variance=None) -> np.ndarray:
    r"""log p_m(y_i | x_i) of each model, (n, M), up to terms that all models share.

    Squared loss (``Loss(power=0)``) stands for Gaussian errors of the given ``variance`` (a number or one for each
    model); others say themselves what their log-likelihood is: ``Loss(log_likelihood=...)``.
    """
    if loss.power == 0:
        return -0.5 * (losses / variance + np.log(variance))
    return -(loss.log_likelihood or 0.0) * losses


def need_likelihood(method: str, loss: Loss) -> None:
    """Raise ValueError for a loss that does not say how likely an observation is without a dispersion."""
    if loss.power != 0 and loss.log_likelihood is None:
        raise ValueError(
            f"loss = {loss.name!r} has no likelihood that {method} could weigh models by; use 'squared', 'poisson' or"
            " 'cross_entropy', a Loss that declares its log_likelihood, or an average that needs the loss alone, such"
            " as GlobalMA or GreedySelection"
        )


def need_squared(method: str, loss: Loss) -> None:
    """Raise ValueError for any loss but the squared one."""
    if loss.power != 0:
        raise ValueError(
            f"loss = {loss.name!r}, but {method} is least squares; use loss='squared', or GlobalMA for other losses"
        )
