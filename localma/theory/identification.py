r"""Which weights does the best average have? How far apart optimal weights can be, and how the distance to them follows
from the risk.

The book's chapter ``book/theory/weights`` derives it all: what stands behind Theorem 3 of the paper, restated. For one
scalar response. Leading dimensions are welcome, as in :mod:`localma.theory.risks`: candidates ``F`` are
``(..., n, M)``, ``mu`` is ``(..., n)``.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from localma.theory.risks import _arrays, oracle_prediction

__all__ = ["distance_bound", "distance_to_optimal_set", "invisible_direction", "optimal_segment", "weight_set"]

MOST_MODELS = 12  # distance_to_optimal_set looks at each of the 2^M - 1 faces of the simplex


def invisible_direction(F: ArrayLike) -> np.ndarray:
    """For three models, the direction in which weights can move without moving the average: (f2 - f3, f3 - f1, f1 -
    f2), up to scale the only one.

    Parameters
    ----------
    F : array of shape (..., 3)

    Returns
    -------
    array of shape (..., 3)
        It sums to zero and is orthogonal to F; zero where all three predictions agree.

    Examples
    --------
    >>> from localma.theory import invisible_direction
    >>> invisible_direction([1.0, 2.0, 4.0])
    array([-2.,  3., -1.])
    """
    f1, f2, f3 = np.moveaxis(_three(F), -1, 0)
    return np.stack([f2 - f3, f3 - f1, f1 - f2], -1)


def optimal_segment(F: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """The two ends of the set of optimal weights of three models, at each point.

    The set is the part of the simplex where the average is ``mu`` clipped to the models' range. One end mixes the
    lowest and the highest prediction, the other the middle one with whichever of these is beyond ``mu``.

    Parameters
    ----------
    F : array of shape (..., n, 3)
    mu : array of shape (..., n)

    Returns
    -------
    array of shape (..., n, 2, 3)
        Both ends the same where the optimal weights are unique. Where predictions coincide the set is larger; these are
        then two of its points.

    Examples
    --------
    >>> from localma.theory import optimal_segment
    >>> optimal_segment([[0.0, 1.0, 4.0]], [1.0])
    array([[[0.75, 0.  , 0.25],
            [0.  , 1.  , 0.  ]]])
    """
    F, mu = _three(F), np.asarray(mu, dtype=float)
    goal = oracle_prediction("squared", F, mu)
    order = np.argsort(F, -1, kind="stable")
    f = np.take_along_axis(F, order, -1)

    def mixture(a, b):  # weights of the models a and b in order whose average is the goal
        apart = f[..., b] - f[..., a]
        share = np.where(apart > 0, (goal - f[..., a]) / np.where(apart > 0, apart, 1), 0.0)[..., None]
        return (1 - share) * np.eye(3)[a] + share * np.eye(3)[b]

    inner = np.where((goal <= f[..., 1])[..., None], mixture(0, 1), mixture(1, 2))
    ends = np.zeros((*goal.shape, 2, 3))
    np.put_along_axis(ends, order[..., None, :], np.stack([mixture(0, 2), inner], -2), -1)
    return ends


def distance_to_optimal_set(w: ArrayLike, F: ArrayLike, mu: ArrayLike) -> np.ndarray:
    r"""Euclidean distance of weights to the set of optimal weights, at each point, for one scalar response.

    That set, :math:`\{v \in \Delta: \sum_m v_m f_m = \operatorname{clip}(\mu)\}`, is a point, a segment or a polytope.
    Its nearest point lies inside one face of the simplex and is the orthogonal projection onto the part of that face's
    plane with the right average; so all faces are tried, and the nearest projection that belongs to the set wins. Exact
    up to rounding; predictions that differ by less than 1e-9 of their size count as equal. The number of faces doubles
    with each model: at most 12 models.

    Parameters
    ----------
    w, F : arrays of shape (..., n, M)
    mu : array of shape (..., n)

    Returns
    -------
    array of shape (..., n)

    Examples
    --------
    >>> from localma.theory import distance_to_optimal_set
    >>> distance_to_optimal_set([[1.0, 0.0], [0.25, 0.75]], [[0.0, 1.0], [0.0, 1.0]], [0.0, 0.75])
    array([0., 0.])
    """
    w, F, mu = _arrays(w, F, mu)
    M = F.shape[-1]
    if M > MOST_MODELS:
        raise ValueError(
            f"F holds {M} models; at most {MOST_MODELS} can be handled, because the simplex has 2^M - 1 faces"
        )
    goal = oracle_prediction("squared", F, mu)
    rounding = 1e-9 * np.maximum(np.abs(F).max(-1), 1e-300)
    best = np.full(goal.shape, np.inf)
    for size in range(1, M + 1):
        for face in map(list, combinations(range(M), size)):
            f, v = F[..., face], w[..., face] + (1 - w[..., face].sum(-1, keepdims=True)) / size
            g = f - f.mean(-1, keepdims=True)
            spread = (g**2).sum(-1)
            flat = spread <= rounding**2
            v = v + g * np.where(flat, 0, (goal - (f * v).sum(-1)) / np.where(flat, 1, spread))[..., None]
            belongs = (v >= -1e-12).all(-1) & (np.abs((f * v).sum(-1) - goal) <= rounding)
            point = np.zeros_like(w)
            point[..., face] = v
            best = np.where(belongs, np.minimum(best, np.linalg.norm(point - w, axis=-1)), best)
    return best


def distance_bound(w: ArrayLike, F: ArrayLike, mu: ArrayLike) -> np.ndarray:
    r"""An upper bound of :func:`~localma.theory.distance_to_optimal_set` that knows only how far the average is from
    the best one.

    With predictions in order, :math:`f_{(1)} \le \dots \le f_{(M)}`, the best average a and the gap
    :math:`g = f(x; w) - a`: for a gap above zero :math:`\sqrt2\, g / \max\{f_{(2)} - f_{(1)}, a - f_{(1)}\}`, for one
    below zero the same seen from the other end, and never more than the simplex's diameter :math:`\sqrt2`. It is equal
    to the distance for two models.

    Parameters
    ----------
    w, F : arrays of shape (..., n, M)
        Weights on the simplex; at least two models.
    mu : array of shape (..., n)

    Returns
    -------
    array of shape (..., n)

    Examples
    --------
    >>> from localma.theory import distance_bound, distance_to_optimal_set
    >>> w, F, mu = [[0.5, 0.5]], [[0.0, 1.0]], [0.25]
    >>> distance_bound(w, F, mu).round(6), distance_to_optimal_set(w, F, mu).round(6)
    (array([0.353553]), array([0.353553]))
    """
    w, F, mu = _arrays(w, F, mu)
    if F.shape[-1] < 2:
        raise ValueError(
            f"F has shape {F.shape}: its last axis is that of the models, of which at least two are needed"
        )
    goal = oracle_prediction("squared", F, mu)
    gap = (w * (F - goal[..., None])).sum(-1)
    f = np.sort(F, -1)
    room = np.where(
        gap > 0,
        np.maximum(f[..., 1] - f[..., 0], goal - f[..., 0]),
        np.maximum(f[..., -1] - f[..., -2], f[..., -1] - goal),
    )
    gap = np.abs(gap)
    return np.sqrt(2) * np.where(room > gap, gap / np.where(room > gap, room, 1), gap > 0)


def weight_set(F: ArrayLike, low: ArrayLike, high: ArrayLike) -> np.ndarray:
    r"""The corners of the set of all weights whose average lies within a band.

    Where the band holds the best average, the set, :math:`\{v \in \Delta: low \le \sum_m v_m f_m \le high\}`, holds
    *every* optimal weight vector. A corner lies on an edge of the simplex, because the band is one number: so all are
    found by looking at the edges. A band beyond all models is moved to the nearest of them, where the best average
    then is.

    Parameters
    ----------
    F : array of shape (..., n, M)
    low, high : arrays of shape (..., n)
        Ends of the band.

    Returns
    -------
    array of shape (..., n, M * M, M)
        Of each point M * M weight vectors on the simplex, those that the set does not need repeated. Their minimum and
        maximum over the last axis but one are the least and largest weight of each model.

    Raises
    ------
    ValueError
        For a band whose low end is above its high one.

    Examples
    --------
    >>> from localma.theory import weight_set
    >>> corners = weight_set([[0.0, 1.0, 4.0]], [1.0], [2.0])
    >>> corners.min(-2), corners.max(-2)
    (array([[0., 0., 0.]]), array([[0.75, 1.  , 0.5 ]]))
    """
    F, low, high = np.asarray(F, float), np.asarray(low, float), np.asarray(high, float)
    if not (low <= high).all():
        raise ValueError("low must be at most high at each point")
    M = F.shape[-1]
    ends = [np.clip(end, F.min(-1), F.max(-1))[..., None] for end in (low, high)]
    inside = (ends[0] <= F) & (F <= ends[1])
    found, belongs = [np.broadcast_to(np.eye(M), (*F.shape, M))], [inside]
    for a, b in combinations(range(M), 2):
        f, apart = F[..., [a, b]], F[..., [b]] - F[..., [a]]
        for end in ends:
            share = np.divide(end - f[..., :1], apart, out=np.full_like(apart, np.nan), where=apart != 0)
            crosses = (share >= 0) & (share <= 1)
            share = np.where(crosses, share, 0)
            found.append((1 - share)[..., None] * np.eye(M)[a] + share[..., None] * np.eye(M)[b])
            belongs.append(crosses)
    corners, valid = np.concatenate(found, -2), np.concatenate(belongs, -1)
    first = np.take_along_axis(corners, valid.argmax(-1)[..., None, None], -2)
    return np.where(valid[..., None], corners, first)


def _three(F: ArrayLike) -> np.ndarray:
    F = np.asarray(F, dtype=float)
    if F.ndim == 0 or F.shape[-1] != 3:
        raise ValueError(
            f"F has shape {F.shape}, but must have three models on its last axis; for others see"
            " distance_to_optimal_set"
        )
    return F
