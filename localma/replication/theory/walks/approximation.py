"""Condition 4 at work: how near a weight network comes to a weight function, against its width.

Two models, :math:`f_1 = 1` and :math:`f_2 = 0`, so that the average *is* the first weight; x is uniform on [0, 1]^d,
and there is no noise. ``interpolated``: one hidden layer that meets the logit at equally spaced knots, constructed.
``trained``: the same network, found by Adam. Each replication moves the weight function by a random shift, so that
kinks and jumps fall between knots. All in double precision.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from localma.engine import Mlp, Training
from localma.replication.theory.walks import local_weights, midpoints

#: Weight functions of a distance t to where they change: smoothness 2 (in truth any), 1, 1/2 and none. ``smooth`` is
#: periodic.
FUNCTIONS = {
    "smooth": lambda t: 0.5 + 0.4 * np.cos(2 * np.pi * t),
    "kink": lambda t: 0.1 + 0.8 * np.abs(t),
    "root": lambda t: 0.1 + 0.8 * np.abs(t) ** 0.5,
    "jump": lambda t: 0.1 + 0.8 * (t > 0),
}
#: No penalty, no part held out, and a thousand steps: on a line (1000 points) ten times the package's, all points in
#: each of them; in the plane (45 x 45 points) seven times the package's, in its batches of 1024. What is left is the
#: class and the optimiser.
OPTIONS = Training(steps=1000, penalty=0.0, validation_fraction=0.0, learning_rate=0.05)
FINE = 8193  # points on which errors are measured on a line; 91 in each direction of the plane
CELLS = {
    "quick": [(f"interpolated, d=1, {name}", H, 50) for name in FUNCTIONS for H in (4, 8, 16, 32, 64)]
    + [("trained, d=1, kink", H, 6) for H in (4, 8, 16, 32)],
    "full": [(f"interpolated, d=1, {name}", H, 200) for name in FUNCTIONS for H in (4, 8, 16, 32, 64, 128, 256)]
    + [(f"trained, d=1, {name}", H, 10) for name in FUNCTIONS for H in (4, 8, 16, 32, 64)]
    + [(f"trained, d=2, {name}", H, 10) for name in ("smooth", "kink", "jump") for H in (4, 8, 16, 32, 64)],
}


def interpolant(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """One hidden layer of H ReLU units that equals ``values`` (H + 1,) at the knots 0, 1/H, ..., 1; its outputs at x
    (N,).

    Unit j has its kink at knot j, and its output weight is the change of slope there.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication.theory.walks.approximation import interpolant
    >>> interpolant(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.25, 0.5, 1.0]))
    array([0. , 0.5, 1. , 0. ])
    """
    H = len(values) - 1
    slopes = H * np.diff(values)
    bends = np.diff(slopes, prepend=0.0)
    return values[0] + np.maximum(x[:, None] - np.arange(H) / H, 0) @ bends


def distance(name: str, x: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """How far points x (R, N, d) are from the place where the function changes, moved by ``shift`` (R, d)."""
    apart = x - shift[:, None]
    if x.shape[-1] == 1:
        return apart[..., 0]
    if name == "smooth":
        # (1/2 + 0.4 cos) of the distance in neither direction alone: cos(2 pi t) = cos(2 pi a) cos(2 pi b)
        return np.arccos(np.cos(2 * np.pi * apart).prod(-1)) / (2 * np.pi)
    return np.linalg.norm(apart, axis=-1) - 0.3  # a circle


def measure(case: str, size: int, replications: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Errors of the first weight, largest, mean absolute and root mean squared, in each replication."""
    how, dimension, name = case.split(", ")
    d = int(dimension.removeprefix("d="))
    shift = rng.uniform(0.35, 0.65, (replications, d))

    def weight(x):
        return FUNCTIONS[name](distance(name, x, shift))

    fine = midpoints(FINE if d == 1 else 91, d).repeat(replications, 0)
    if d == 1:  # and the worst places, both sides of where the function changes
        fine = np.concatenate([fine, shift[:, None], np.nextafter(shift, 1)[:, None]], 1)
    if how == "interpolated":
        at_knots = logit(weight(np.linspace(0, 1, size + 1)[None, :, None]))
        fitted = expit(np.stack([interpolant(v, x[:, 0]) for v, x in zip(at_knots, fine, strict=True)]))
    else:
        X = midpoints(1000 if d == 1 else 45, d).repeat(replications, 0)
        y = weight(X)
        F = np.stack([np.ones_like(y), np.zeros_like(y)], -1)
        seeds = rng.integers(2**31, size=replications).tolist()
        fitted = local_weights(X, F, y, seeds, network=Mlp(size), training=OPTIONS)(fine)[..., 0]
    error = np.abs(fitted - weight(fine))
    spread = error[:, : FINE if d == 1 else None]
    return {"sup": error.max(1), "L1": spread.mean(1), "L2": np.sqrt(np.square(spread).mean(1))}
