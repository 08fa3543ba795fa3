"""The losses by name, and those with a parameter: Tweedie's by its power, the pinball loss by its level."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import torch

from localma.losses.loss import Loss

__all__ = ["LOSSES", "PROBABILITY_FLOOR", "named", "pinball", "resolve_loss", "tweedie"]

#: A probability of exactly zero for what then happens costs an infinite loss; where all models agree on it, no weights
#: can repair that.
PROBABILITY_FLOOR = 1e-12

#: Losses that are convex and no parabola.
_BENT: dict[str, Any] = {"convex": True, "quadratic": False}


class _CrossEntropy(Loss):
    """Minus the log-probability of the observed class; ``y`` holds class numbers 0..K-1, ``a`` probabilities (n, K)."""

    is_classification = True

    def _of_what_happened(self, y, a):
        known = (y >= 0) & (y < a.shape[-1]) & (y == y.long())
        if not known.all():
            last = a.shape[-1] - 1
            raise ValueError(
                f"y must hold class numbers from 0 to {last}, columns of the predictions, but y has"
                f" {y[~known][0].item():g}"
            )
        return a.gather(-1, y.long().unsqueeze(-1)).squeeze(-1)

    def _divergence(self, mu, a):
        """Kullback-Leibler divergence of class probabilities ``a`` (n, K) from ``mu`` (n, K)."""
        return (torch.xlogy(mu, mu) - torch.xlogy(mu, a)).sum(-1)

    def candidates(self, y, F):
        """Log-probability that each model gave to what happened: (..., n), (..., M, K, n) -> (..., M, n)."""
        index = y.long().unsqueeze(-2).unsqueeze(-2).expand(*F.shape[:-2], 1, F.shape[-1])
        return F.gather(-2, index).squeeze(-2).clamp_min(PROBABILITY_FLOOR).log()

    def with_gradient(self, logits, G, y):
        joint = logits + G  # the derivative is prior weights minus those given what happened
        value = torch.logsumexp(logits, -2) - torch.logsumexp(joint, -2)
        return value, torch.softmax(logits, -2).sub_(torch.softmax(joint, -2))

    def of_weights(self, w, G, y):
        return -torch.logsumexp(w.log() + G, -2)

    def linear(self, G):
        return G.exp()

    def check_response(self, y):
        """Class labels are checked against the models' classes by the estimator, which knows them."""

    def check_predictions(self, F, names=None):
        F = np.asarray(F)
        total = F @ np.ones(F.shape[-1])  # sums and minima over so short an axis would take longer than to predict
        bad = np.abs(total - 1) > 1e-3
        if F.min() < 0:
            bad |= (F < 0).any(-1)
        if bad.any():
            m, i = np.argwhere(bad.T)[0]
            label = f"model {names[m]!r}" if names else f"F[:, {m}]"
            raise ValueError(
                f"{label} must give class probabilities (non-negative, each row summing to one) for the cross_entropy"
                f" loss; row {i} sums to {total[i, m]:.4g} and its smallest entry is {F[i, m].min():.4g}. "
                + _advice(F[:, m], total[:, m])
            )


def _advice(p, total):
    if (p >= 0).all() and np.abs(total - 1).max() < 0.05:
        return "If they are rounded, divide each row by its sum."
    if (p >= 0).all() and np.abs(total - 100).max() < 5:
        return "These look like per cent: divide by 100."
    return "If these are logits, apply softmax first; F has the axes (observations, models, classes)."


# Named functions, not lambdas: an estimator that holds a Loss can then be pickled, which parallel grid searches do.
def _squared(y, a):
    return (y - a).square()


def _poisson(y, a):
    return 2 * (torch.xlogy(y, y) - torch.xlogy(y, a) - y + a)


def _gamma(y, a):
    return 2 * (a.log() - torch.log(y) + y / a - 1)


def _tweedie_phi(p, y):
    return 2 * y ** (2 - p) / ((1 - p) * (2 - p))


def _tweedie(p, y, a):
    return _tweedie_phi(p, y) - 2 * y * a ** (1 - p) / (1 - p) + 2 * a ** (2 - p) / (2 - p)


def tweedie(power: float = 1.5) -> Loss:
    """Unit deviance of a Tweedie distribution with variance function ``mu ** power``.

    Parameters
    ----------
    power : float
        Between 1 and 2 (compound Poisson-gamma: a mass at zero and a positive part) or above 2 (positive responses).
        The end points are ``LOSSES["poisson"]`` and ``LOSSES["gamma"]``.

    References
    ----------
    Jorgensen (1987), Exponential dispersion models, JRSS B 49.

    Examples
    --------
    >>> from localma import tweedie
    >>> tweedie(1.5)([0.0, 1.0], [1.0, 1.0]).round(3)
    array([4., 0.])
    """
    p = float(power)
    if not (1 < p < float("inf") and p != 2):
        raise ValueError(
            f"power must lie between 1 and 2, or above 2, but is {power}; use 'squared', 'poisson' or 'gamma' for 0, 1"
            " and 2"
        )
    value, phi, response = partial(_tweedie, p), partial(_tweedie_phi, p), "non-negative" if p < 2 else "positive"
    return Loss(f"tweedie({p})", value, phi, response, "positive", quadratic=False, power=p)


def _absolute(y, a):
    return (y - a).abs()


def _pinball(level, y, a):
    return torch.maximum(level * (y - a), (level - 1) * (y - a))


def pinball(level: float = 0.5) -> Loss:
    """The pinball loss, whose mean is smallest at the quantile of the given level; no Bregman loss, none for a mean.

    Every average takes it, :class:`localma.LocalMA` included (the network form of local quantile aggregation). At level
    1/2 it is half of ``LOSSES["absolute"]``.

    Parameters
    ----------
    level : float
        Between 0 and 1.

    References
    ----------
    Koenker and Bassett (1978), Regression quantiles.

    Examples
    --------
    >>> from localma import pinball
    >>> pinball(0.9)([1.0, 0.0], [0.0, 1.0])
    array([0.9, 0.1])
    """
    level = float(level)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, but is {level}")
    return Loss(f"pinball({level})", partial(_pinball, level), slopes=(level, 1 - level), **_BENT)


def _log_loss(y, p):
    return -p.clamp_min(PROBABILITY_FLOOR).log()


def _poisson_phi(y):
    return 2 * (torch.xlogy(y, y) - y)


def _gamma_phi(y):
    return -2 * y.log()


def _negative_entropy(p):
    return torch.xlogy(p, p).sum(-1)


#: The losses by name. Unit deviances keep their factor 2, as in scikit-learn and statsmodels.
LOSSES: dict[str, Loss] = {
    "squared": Loss("squared", _squared, torch.square, convex=True, quadratic=True, power=0),
    "cross_entropy": _CrossEntropy(
        "cross_entropy", _log_loss, _negative_entropy, "class labels", "probabilities", log_likelihood=1, **_BENT
    ),
    "poisson": Loss(
        "poisson", _poisson, _poisson_phi, "non-negative", "positive", power=1, log_likelihood=0.5, **_BENT
    ),
    "gamma": Loss("gamma", _gamma, _gamma_phi, "positive", "positive", quadratic=False, power=2),
    "tweedie": tweedie(1.5),
    "absolute": Loss("absolute", _absolute, slopes=(1, 1), **_BENT),
}

#: Losses with a parameter, by the name that stands before it: "tweedie(1.7)".
FAMILIES = {"tweedie": tweedie, "pinball": pinball}


def named(text: str) -> Loss | None:
    """The loss of a text, a key of :data:`LOSSES` or such as "pinball(0.9)"; None if there is none."""
    family = re.fullmatch(r"(\w+)\(([-+]?[\d.]+(?:e[-+]?\d+)?)\)", text)
    if text not in LOSSES and family and family[1] in FAMILIES:
        return FAMILIES[family[1]](float(family[2]))
    return LOSSES.get(text)


def resolve_loss(loss) -> Loss:
    """The :class:`Loss` that an estimator's ``loss`` means: a text that :func:`named` knows, a Loss, or a callable."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        found = named(loss)
        if found is None:
            known = ", ".join(sorted(LOSSES))
            raise ValueError(
                f"loss = {loss!r} is unknown; choose one of {known}, or pass a Loss or a callable loss(y, a)"
            )
        return found
    if callable(loss):
        return Loss(getattr(loss, "__name__", type(loss).__name__), loss)
    raise TypeError(f"loss must be a name, a Loss or a callable, not {type(loss).__name__}")
