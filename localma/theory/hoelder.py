r"""How smooth a function is: the Hölder norm of order beta, from its values on a grid.

A function belongs to the Hölder class of order :math:`\beta` and radius B if its derivatives up to order s, the largest
whole number *below* :math:`\beta`, are at most B, and so is the Hölder quotient

.. math:: \frac{|\partial^\alpha f(x) - \partial^\alpha f(y)|}{\lVert x - y \rVert^{\beta - s}}

of each derivative of order s (Jiao, Shen, Lin & Huang 2023). The norm here is the smallest such B. The book's chapter
``book/theory/smooth`` derives what is stated here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement, product
from typing import NamedTuple

import numpy as np

__all__ = ["HoelderTerms", "hoelder_norm", "hoelder_terms"]


class HoelderTerms(NamedTuple):
    """What a Hölder norm is the largest of; for each output of the function."""

    derivatives: np.ndarray  #: (s + 1, ...): the largest value of each order of derivative, 0 to s
    quotient: np.ndarray  #: (...): the largest Hölder quotient of the derivatives of order s


def hoelder_norm(
    function: Callable | np.ndarray, beta: float, *, box: Sequence[tuple[float, float]], points: int = 101
) -> np.ndarray:
    r"""The Hölder norm of order ``beta`` of a function on a box, as a grid sees it: never above the norm, and rising to
    it.

    Derivatives are divided differences of neighbours on the grid. These are averages of the derivative over the cells
    between, so they and their quotients are at most the function's own (up to rounding, of order 1e-16 over
    spacing^beta). Halving the spacing never lowers them; for continuous derivatives of order s they rise to the norm. A
    function outside the class gives itself away as the spacing h is refined: a kink, as of :math:`|x|`, is finite for
    :math:`\beta \le 1` and grows like :math:`h^{1 - \beta}` above; :math:`|x|^r` grows like :math:`h^{r - \beta}` for
    :math:`\beta > r`; a jump grows like :math:`h^{-\beta}`.

    Parameters
    ----------
    function : callable or array
        Maps points (N, d) to values (N,), or (N, M) for M functions at once, such as weights. Or the values themselves,
        of shape (p_1, ..., p_d) or (p_1, ..., p_d, M), at the points of ``numpy.linspace(low, high, p_j)`` in each
        direction.
    beta : float
        Above zero.
    box : sequence of d pairs (low, high)
    points : int
        Of the grid in each direction, where ``function`` is callable. All pairs of points are compared, so the work
        grows with points^(2 d): use 1000 on a line, 50 on a slice.

    Returns
    -------
    array of shape () or (M,)
        In the units of ``function`` over those of the box to the power beta, where the quotient is the largest.

    Raises
    ------
    ValueError
        Naming the argument: ``beta``, ``box``, ``points`` or ``function``.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.theory import hoelder_norm
    >>> float(hoelder_norm(lambda x: np.sin(3 * x[:, 0]), 1, box=[(0, 2)], points=1001).round(3))  # 3-Lipschitz
    3.0
    >>> [float(hoelder_norm(lambda x: abs(x[:, 0]), 2, box=[(-1, 1)], points=p).round(6)) for p in (101, 1001)]
    [100.0, 1000.0]
    """
    terms = hoelder_terms(function, beta, box=box, points=points)
    return np.maximum(terms.derivatives.max(0), terms.quotient)


def hoelder_terms(
    function: Callable | np.ndarray, beta: float, *, box: Sequence[tuple[float, float]], points: int = 101
) -> HoelderTerms:
    """The parts of :func:`hoelder_norm`, which has the same arguments.

    Examples
    --------
    >>> from localma.theory import hoelder_terms
    >>> terms = hoelder_terms(lambda x: x[:, 0] ** 2, 2, box=[(0, 1)])
    >>> terms.derivatives.round(2), float(terms.quotient.round(6))  # 2 at the end: nearly seen
    (array([1.  , 1.99]), 2.0)
    """
    if not (np.ndim(beta) == 0 and 0 < beta < math.inf):
        raise ValueError(f"beta must be a positive number, but is {beta!r}")
    sides = np.asarray(box, dtype=float)
    if not (sides.ndim == 2 and sides.shape[1] == 2 and (sides[:, 0] < sides[:, 1]).all() and np.isfinite(sides).all()):
        raise ValueError(
            "box must be pairs (low, high) of finite numbers with low < high, one for each coordinate, but is"
            f" {sides.tolist()}"
        )
    order, d = math.ceil(beta) - 1, len(sides)
    values = _on_grid(function, sides, points) if callable(function) else np.asarray(function, dtype=float)
    if values.ndim not in (d, d + 1):
        raise ValueError(
            f"function has values of shape {values.shape}; for a box of {d} coordinates give {d} axes, or {d + 1} for"
            " several functions"
        )
    if min(values.shape[:d]) < order + 2:
        least, where = order + 2, "points" if callable(function) else "function"
        raise ValueError(
            f"{where}: a grid of shape {values.shape[:d]} is too small; beta = {beta:g} needs {least} points in each"
            " direction"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            "function has values that are not finite (NaN or infinity) on the grid; choose a box on which it is defined"
        )
    step = (sides[:, 1] - sides[:, 0]) / (np.array(values.shape[:d]) - 1)
    axes = tuple(range(d))
    derivatives = np.array(
        [np.max([abs(g).max(axes) for g in _differences(values, step, k)], axis=0) for k in range(order + 1)]
    )
    quotient = np.max([_quotient(g, step, beta - order) for g in _differences(values, step, order)], axis=0)
    return HoelderTerms(derivatives, quotient)


def _on_grid(function: Callable, sides: np.ndarray, points: int) -> np.ndarray:
    if not isinstance(points, (int, np.integer)) or points < 2:
        raise ValueError(f"points must be a whole number of at least 2, but is {points!r}")
    d = len(sides)
    grid = np.stack(np.meshgrid(*[np.linspace(low, high, points) for low, high in sides], indexing="ij"), -1)
    values = np.asarray(function(grid.reshape(-1, d)), dtype=float)
    if values.ndim not in (1, 2) or len(values) != points**d:
        raise ValueError(
            f"function maps {points**d} points to shape {values.shape}, but must give one value or one row for each"
        )
    return values.reshape(*grid.shape[:-1], *values.shape[1:])


def _differences(values: np.ndarray, step: np.ndarray, order: int):
    """All partial derivatives of one order, as divided differences of neighbours."""
    for directions in combinations_with_replacement(range(len(step)), order):
        g = values
        for axis in directions:
            g = np.diff(g, axis=axis) / step[axis]
        yield g


def _quotient(g: np.ndarray, step: np.ndarray, exponent: float) -> np.ndarray:
    """The largest quotient over all pairs of points: one difference of arrays for each distance vector of the grid."""
    d = len(step)
    largest = np.zeros(g.shape[d:])
    first = range(g.shape[0])  # each pair once: the first coordinate of the distance is not negative
    for lag in product(first, *(range(1 - p, p) for p in g.shape[1:d])):
        if not any(lag):
            continue
        there = tuple(slice(max(k, 0), p + min(k, 0)) for k, p in zip(lag, g.shape[:d], strict=True))
        here = tuple(slice(max(-k, 0), p + min(-k, 0)) for k, p in zip(lag, g.shape[:d], strict=True))
        change = abs(g[there] - g[here]).max(tuple(range(d)))
        largest = np.maximum(largest, change / np.linalg.norm(np.array(lag) * step) ** exponent)
    return largest
