"""Condition 5 at work: LocalMA's excess risk against n, in few and in many dimensions, and against the number of
models.

Two models, :math:`f_1 = 1` and :math:`f_2 = -1`, and noise of standard deviation 1/2. The first weight is the logistic
function of a random smooth function of k directions: a sum of 256 cosines, near a Gaussian process whose covariance at
distance r is :math:`4 e^{-r^2 / k}`, so that its gradient has the same size whatever k is. ``all of d``: k = d, x
standard normal. ``2 of 50``: two directions of fifty matter. ``near a plane``: the same, and x itself lies near the
plane of these two. ``models``: k = d = 2, n = 1000, and beside the two models further ones that are not needed.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit

from localma.engine import Mlp
from localma.replication.theory.walks import local_weights

WIDTHS = (1, 4, 16, 64)
NOISE = 0.5
COSINES = 256
FRESH = 2000  # points at which the risk is measured
OFF_THE_PLANE = 0.05  # standard deviation, in each direction
#: (d, directions that matter, whether x lies near their plane)
CASES = {
    "all of 2": (2, 2, False),
    "all of 5": (5, 5, False),
    "all of 10": (10, 10, False),
    "all of 50": (50, 50, False),
    "2 of 50": (50, 2, False),
    "near a plane": (50, 2, True),
}
CELLS = {
    "quick": [(case, n, 10) for case in ("all of 2", "all of 10") for n in (100, 300, 1000)],
    "full": [(case, n, 30 if n < 10_000 else 12) for case in CASES for n in (100, 300, 1000, 3000, 10_000)]
    + [("models", M, 60) for M in (2, 4, 8, 16, 32, 64)],
}


def world(case: str, replications: int, rng: np.random.Generator):
    """Functions that draw: ``draw(n)`` gives X (R, n, d) and mu (R, n), each replication with a weight function of its
    own.
    """
    d, k, plane = CASES[case]
    frequencies = rng.standard_normal((replications, COSINES, k)) * (2 / k) ** 0.5
    phases = rng.uniform(0, 2 * np.pi, (replications, COSINES, 1))
    directions = np.linalg.qr(rng.standard_normal((replications, d, k)))[0] if k < d else None

    def draw(n):
        if plane:
            X = rng.standard_normal((replications, n, k)) @ directions.swapaxes(1, 2)
            X += OFF_THE_PLANE * rng.standard_normal(X.shape)
        else:
            X = rng.standard_normal((replications, n, d))
        z = X if directions is None else X @ directions
        waves = torch.as_tensor(frequencies) @ torch.as_tensor(z.swapaxes(1, 2).copy()) + torch.as_tensor(phases)
        logit = (8 / COSINES) ** 0.5 * torch.cos(waves).sum(1).numpy()
        return X, 2 * expit(logit) - 1

    return draw


def measure(case: str, size: int, replications: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The out-of-sample risk of LocalMA at each width (the best that weights can do is zero), and the variance of the
    mean.
    """
    n, M = (1000, size) if case == "models" else (size, 2)
    draw = world("all of 2" if case == "models" else case, replications, rng)
    X, mu = draw(n)
    fresh, fresh_mu = draw(FRESH)
    tilt = rng.standard_normal((replications, X.shape[-1], M - 2))

    def models(X):
        two = np.ones((*X.shape[:-1], 2)) * [1.0, -1.0]
        return np.concatenate([two, 2**0.5 * np.cos(X @ tilt)], -1)

    F, y = models(X), mu + NOISE * rng.standard_normal(mu.shape)
    fresh_F, seeds = models(fresh), rng.integers(2**31, size=replications).tolist()

    def risk(width):
        w = local_weights(X, F, y, seeds, network=Mlp(width))(fresh)
        return np.square((w * fresh_F).sum(-1) - fresh_mu).mean(-1)

    widths = (16,) if case == "models" else WIDTHS
    return {f"risk, width {H}": risk(H) for H in widths} | {"variance of mu": fresh_mu.var(-1)}
