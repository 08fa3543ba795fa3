"""Condition 1: how fast pre-trained models tend to their limits, and what that does to the risk of an average; chapter
``book/theory/limits``.

The source's truth is :math:`x^2`, observed with noise. A size is N, the training sample of *each* model. The new task
lives on [-1, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from sklearn.ensemble import RandomForestRegressor

from localma.engine import Mlp, Training, fit_direct_stack
from localma.replication.theory.walks import midpoints

NOISE = 0.3
DOMAINS = ((-1.0, 0.0), (0.0, 1.0), (-1.0, 1.0))  # where each of the three companies that fit lines has measured
GRID = np.linspace(-1, 1, 2001)
HOME = np.linspace(0, 1, 4001)  # where networks and forests have measured
TREES = 50
FORESTS = ("forest depth 2", "forest leaf N^(2/3)", "forest leaf 1")
SIZES = (100, 316, 1000, 3162, 10_000, 31_623, 100_000)
CELLS = {
    "quick": [("least squares", n, 200) for n in (100, 1000, 10_000)]
    + [("network", n, 10) for n in (100, 1000)]
    + [(case, n, 4) for case in FORESTS for n in (100, 1000)],
    "full": [("least squares", n, 400) for n in SIZES]
    + [("network", n, 40) for n in SIZES[:5]]
    + [(case, n, 20) for case in FORESTS for n in SIZES[:5]],
}


class Line(NamedTuple):
    """What a least-squares line tends to, and how: intercept and slope, and N times their asymptotic covariance."""

    coefficients: np.ndarray  #: (2,)
    covariance: np.ndarray  #: (2, 2)

    def variance(self, x) -> np.ndarray:
        """N times the asymptotic variance of the fitted line at x."""
        Z = np.stack([np.ones_like(x), x], -1)
        return np.einsum("...i,ij,...j->...", Z, self.covariance, Z)


def population_line(low: float, high: float, noise: float = NOISE) -> Line:
    r"""The limit of least squares on x uniform on [low, high], y = x^2 + noise, and the sandwich
    :math:`A^{-1} B A^{-1}` of White (1982).

    With z = (1, x) and u = y - z' beta*: A = E z z', B = E z z' u^2. Gauss's rule integrates these polynomials exactly.

    Examples
    --------
    >>> from localma.replication.theory.walks.limits import population_line
    >>> population_line(0, 1).coefficients.round(6)
    array([-0.166667,  1.      ])
    """
    node, weight = np.polynomial.legendre.leggauss(4)
    x = low + (high - low) * (node + 1) / 2
    Z, p = np.stack([np.ones_like(x), x], -1), weight / 2
    A = (Z * p[:, None]).T @ Z
    coefficients = np.linalg.solve(A, Z.T @ (p * x**2))
    u2 = (x**2 - Z @ coefficients) ** 2 + noise**2
    return Line(coefficients, np.linalg.solve(A, np.linalg.solve(A, (Z * (p * u2)[:, None]).T @ Z).T))


def fit_lines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Intercept and slope of least squares on each sample, (..., 2) for x and y of shape (..., N): centred, so nothing
    cancels.
    """
    x0, y0 = x.mean(-1, keepdims=True), y.mean(-1, keepdims=True)
    slope = ((x - x0) * (y - y0)).sum(-1) / ((x - x0) ** 2).sum(-1)
    return np.stack([y0[..., 0] - slope * x0[..., 0], slope], -1)


def optimal_weights(x) -> np.ndarray:
    """Weights on the simplex with which the three limits average to 3 x^2 / 4, exactly, everywhere on [-1, 1]: (...,
    3).
    """
    x = np.asarray(x, dtype=float)
    return np.stack([(1 - x) * (4 - x), (1 + x) * (4 + x), 4 - 2 * x**2], -1) / 12


def _least_squares(size, replications, rng) -> dict[str, np.ndarray]:
    limit = np.array([population_line(*domain).coefficients for domain in DOMAINS])
    beta = np.empty((replications, 3, 2))
    for r in range(replications):  # one by one: a hundred thousand observations at a time stay in the cache
        for m, (low, high) in enumerate(DOMAINS):
            x = rng.uniform(low, high, size)
            beta[r, m] = fit_lines(x, x**2 + NOISE * rng.standard_normal(size))
    error = beta - limit
    sup = np.abs(error).sum(-1)  # |a + b x| on [-1, 1] is largest at an end: |a| + |b|
    e = error[..., 0, None] + error[..., 1, None] * GRID  # (replications, 3, points)
    f_star = limit[:, :1] + limit[:, 1:] * GRID
    mu = 0.75 * GRID**2
    found = {f"sup {m + 1}": sup[:, m] for m in range(3)} | {
        "sup max": sup.max(-1),
        "L2 1": np.sqrt((e[:, 0] ** 2).mean(-1)),
    }
    # K: the loss's slope in the prediction where predictions lie, those of the fitted models included
    K = 2 * np.abs(f_star - mu).max() + 2 * sup.max(-1)
    for name, w in (("optimal", optimal_weights(GRID).T), ("equal", np.full((3, 1), 1 / 3))):
        limiting, moved = (w * f_star).sum(0), (w * e).sum(1)
        change = 2 * ((limiting - mu) * moved).mean(-1) + (moved**2).mean(-1)
        floor = ((limiting - mu) ** 2).mean()
        found |= {
            f"change {name}": np.abs(change),
            f"signed change {name}": change,
            f"bound {name}": 2 * np.sqrt(floor) * sup.max(-1) + sup.max(-1) ** 2,
            f"square {name}": (moved**2).mean(-1),
        }
    return found | {"Lipschitz bound": K * sup.max(-1)}


def fit_networks(x: np.ndarray, y: np.ndarray, seeds, *, steps: int = 500):
    """One ReLU network per row of x and y, (B, N), by the package's engine, all observations in each step and no
    penalty: a function of points (k,) that gives predictions (B, k).
    """
    how = Training(learning_rate=0.02, penalty=0.0, steps=steps)
    x, y = torch.as_tensor(x)[..., None], torch.as_tensor(y)
    stack = fit_direct_stack(x, y, seeds=seeds, network=Mlp(16, 1), training=how, standardize=False)
    return lambda points: stack.predict(torch.as_tensor(points)[:, None].expand(len(y), -1, -1)).numpy()


def infinite_sample(rows: int, points: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """x and x^2 at the midpoints of [0, 1], (rows, points): for a mean of squares as good as infinitely many noisy
    observations, since noise adds its variance to it, whatever the prediction.
    """
    x = midpoints(points, 1)[..., 0].repeat(rows, 0)
    return x, x**2


def _distances(predicted: np.ndarray, limit: np.ndarray) -> dict[str, np.ndarray]:
    return {"sup": np.abs(predicted - limit).max(-1), "L2": np.sqrt(((predicted - limit) ** 2).mean(-1))}


def _network(size, replications, rng) -> dict[str, np.ndarray]:
    seeds = rng.integers(2**31, size=replications)
    x = rng.uniform(0, 1, (replications, size))
    fitted = fit_networks(x, x**2 + NOISE * rng.standard_normal(x.shape), seeds)
    # the limit of the recipe, its starting values included: the same network after the same steps on infinitely many
    # observations
    limit = fit_networks(*infinite_sample(replications), seeds)
    home, away, limit_away = fitted(HOME), fitted(-HOME), limit(-HOME)
    return _distances(home, limit(HOME)) | {
        "sup away": np.abs(away - limit_away).max(-1),
        "sup to the truth": np.abs(home - HOME**2).max(-1),
        # two recipes that differ in the starting values: neighbours in the stack
        "two seeds, home": np.abs(home - np.roll(home, 1, 0)).max(-1),
        "two seeds, away": np.abs(away - np.roll(away, 1, 0)).max(-1),
        "two limits, away": np.abs(limit_away - np.roll(limit_away, 1, 0)).max(-1),
    }


def population_tree(depth: int, low: float = 0.0, high: float = 1.0) -> list[tuple[float, float, float]]:
    r"""The tree that CART grows on infinitely many observations of x^2, x uniform: its leaves (low, high, value).

    On [a, b] the split c makes :math:`(c - a)(b - c)(a + b + c)^2` largest: the positive root of
    :math:`4 c^2 - (a + b) c - (a^2 + b^2) = 0`.

    Examples
    --------
    >>> from localma.replication.theory.walks.limits import population_tree
    >>> [tuple(round(float(v), 3) for v in leaf) for leaf in population_tree(1)]
    [(0.0, 0.64, 0.137), (0.64, 1.0, 0.683)]
    """
    if depth == 0:
        return [(low, high, (low**2 + low * high + high**2) / 3)]
    cut = (low + high + np.sqrt((low + high) ** 2 + 16 * (low**2 + high**2))) / 8
    return population_tree(depth - 1, low, cut) + population_tree(depth - 1, cut, high)


def _forest(case, size, replications, rng) -> dict[str, np.ndarray]:
    depth = 2 if case == "forest depth 2" else None
    leaf = round(size ** (2 / 3)) if case == "forest leaf N^(2/3)" else 1
    home = []
    for _ in range(replications):
        x = rng.uniform(0, 1, size)
        y = x**2 + NOISE * rng.standard_normal(size)
        seed = int(rng.integers(2**31))
        forest = RandomForestRegressor(TREES, max_depth=depth, min_samples_leaf=leaf, random_state=seed, n_jobs=1)
        home.append(forest.fit(x[:, None], y).predict(HOME[:, None]))
    limit = HOME**2
    if depth is not None:
        leaves = population_tree(depth)
        limit = np.array([value for *_, value in leaves])[np.searchsorted([high for _, high, _ in leaves[:-1]], HOME)]
    return _distances(np.array(home), limit)


def measure(case: str, size: int, replications: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Distances to the limit, for lines also what they do to the risk of fixed weights, for each replication."""
    if case == "least squares":
        return _least_squares(size, replications, rng)
    if case == "network":
        return _network(size, replications, rng)
    return _forest(case, size, replications, rng)
