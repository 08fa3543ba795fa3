"""Where responses and predictions of a loss may lie, and what to say when they do not."""

from __future__ import annotations

import numpy as np

__all__ = ["DOMAINS", "advice_on_probabilities", "check_domain", "check_leading", "check_shapes"]

#: Where y and predictions may lie; "class labels" and "probabilities" are checked by cross-entropy itself.
DOMAINS = {
    "real": lambda v: np.ones(v.shape, bool),
    "non-negative": lambda v: v >= 0,
    "positive": lambda v: v > 0,
    "between 0 and 1": lambda v: (v >= 0) & (v <= 1),
    "class labels": None,
    "probabilities": None,
}


def check_domain(what, values, domain, loss, where, advice):
    bad = np.flatnonzero(~DOMAINS[domain](values))
    if len(bad):
        raise ValueError(
            f"{what} must be {domain} for the {loss} loss, but {where.format(bad[0])} = {values[bad[0]]:g}. {advice}"
        )


def check_shapes(y, a, expected):
    if a.shape != expected:
        raise ValueError(
            f"y has shape {tuple(y.shape)}, but the predictions have {tuple(a.shape)}; expected {tuple(expected)}"
        )


def check_leading(mu, a):
    k = min(mu.ndim, a.ndim)
    if mu.shape[mu.ndim - k :] != a.shape[a.ndim - k :]:
        raise ValueError(
            f"mu has shape {tuple(mu.shape)}, but a has {tuple(a.shape)}; they may differ by leading dimensions alone"
        )


def advice_on_probabilities(p, total):
    if (p >= 0).all() and np.abs(total - 1).max() < 0.05:
        return "If they are rounded, divide each row by its sum."
    if (p >= 0).all() and np.abs(total - 100).max() < 5:
        return "These look like per cent: divide by 100."
    return "If these are logits, apply softmax first; F has the axes (observations, models, classes)."
