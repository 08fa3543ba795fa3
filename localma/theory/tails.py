r"""Condition 2, measured: how fast the tail of a sample falls, and its Orlicz norm.

A random variable Z is sub-Weibull with index :math:`\theta > 0` if :math:`P(|Z| > t) \le 2 \exp(-(t / K)^\theta)` for
some K and all t: sub-Gaussian for 2, sub-exponential for 1, and the smaller the heavier. The book's chapter
``book/theory/tails`` proves that tails, moments and the Orlicz norm say the same, and what the sums, products and
squares of such variables are.

A sample has a largest value, and nothing in it tells what lies beyond. So each number here is about the part of the
tail that the sample reaches, and so is its bootstrap interval: it knows the scatter of the estimate, not its distance
to the limit. Gaussian samples give an index below 2 that rises with n, and samples of a power tail, which has no index,
give one that falls towards zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import newton

__all__ = ["TailEstimate", "orlicz_norm", "tail_index", "weibull_plot"]

FEWEST = 10  # order statistics through which a line is drawn
BLOCK = 2**22  # numbers of a bootstrap that are in memory at a time


class TailEstimate(NamedTuple):
    """An estimate and its percentile bootstrap interval (NaN without a bootstrap)."""

    estimate: float
    low: float
    high: float


def weibull_plot(z: ArrayLike, *, fraction: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    r"""The upper tail of :math:`|z|`, as the points of a Weibull plot.

    The i-th largest value of a sample lies where the cumulative hazard :math:`H = -\log P(|Z| > t)` has mean
    :math:`H_i = 1/i + \dots + 1/n`, for every continuous distribution (Renyi 1953). A Weibull tail
    has :math:`H = (t / K)^\theta`: on logarithmic axes a straight line with slope :math:`\theta`.

    Parameters
    ----------
    z : array of shape (n,)
    fraction : float
        The share of the sample that counts as its tail.

    Returns
    -------
    t, H : arrays of shape (k,), k = fraction * n, from the largest value down

    Examples
    --------
    >>> from localma.theory import weibull_plot
    >>> t, H = weibull_plot([1.0, -4.0, 2.0])
    >>> t
    array([4., 2., 1.])
    >>> H.round(3)
    array([1.833, 0.833, 0.333])
    """
    size = _sizes(z)
    k = _tail(len(size), fraction)
    return np.sort(size)[::-1][:k], _hazard(len(size), k)


def tail_index(
    z: ArrayLike,
    *,
    fraction: float = 0.1,
    bootstrap: int = 200,
    level: float = 0.95,
    random_state: int | np.random.Generator = 0,
) -> TailEstimate:
    r"""The index :math:`\theta` of a sub-Weibull tail: the slope of the :func:`weibull_plot`.

    Least squares of :math:`\log t` on :math:`\log H`, since t is what scatters; the inverse of its slope. It does not
    depend on the unit of ``z``. It is the index of the tail *that the sample reaches*: compare several ``fraction``. A
    Weibull distribution gives the same for all; a smaller fraction gives more for the Gaussian (towards 2) and for
    bounded variables (towards infinity), and less for a power tail (towards 0).

    Parameters
    ----------
    z : array of shape (n,)
        The upper order statistics of its absolute values must be positive.
    fraction : float
        The share of the sample that counts as its tail; at least ten values.
    bootstrap : int
        Resamples for the interval; 0 for none. They are drawn as order statistics, so the cost does not grow with n.
    level : float
    random_state : int or numpy Generator

    Returns
    -------
    TailEstimate
        Infinite where all values of the tail are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.theory import tail_index
    >>> z = np.random.default_rng(0).exponential(size=10_000)
    >>> theta = tail_index(z)
    >>> theta.low < 1 < theta.high
    True
    """
    _check(bootstrap, level)
    size = _sizes(z)
    n = len(size)
    k = _tail(n, fraction)
    if k < FEWEST:
        raise ValueError(
            f"fraction = {fraction:g} of n = {n} values leaves {k} for the tail; {FEWEST} are needed: raise it, or give"
            " more data"
        )
    descending = np.sort(size)[::-1]
    if descending[k - 1] == 0:
        raise ValueError(f"z has fewer than {k} values that are not zero, so no logarithm of its tail; lower fraction")
    x = np.log(_hazard(n, k))
    x -= x.mean()
    rng = np.random.default_rng(random_state)
    # The k largest of n uniform variables are 1 - G_i / G_{n+1}, G the partial sums of exponential ones: a resample
    # without sorting.
    rows = rng.standard_exponential((bootstrap, k)).cumsum(1)
    rows /= rows[:, -1:] + rng.standard_gamma(n + 1 - k, (bootstrap, 1))
    resampled = descending[(n * rows).astype(int)]
    smallest = descending[descending > 0][-1]  # a resample may reach down to zeros
    slopes = np.log(np.maximum(np.vstack([descending[:k], resampled]), smallest)) @ x / (x @ x)
    slopes = np.where(np.abs(slopes) < 1e-12, 0.0, slopes)  # equal values: no slope, whatever the rounding
    with np.errstate(divide="ignore"):
        return _estimate(1 / slopes, level)


def orlicz_norm(
    z: ArrayLike,
    theta: float,
    *,
    bootstrap: int = 200,
    level: float = 0.95,
    random_state: int | np.random.Generator = 0,
) -> TailEstimate:
    r"""The Orlicz norm :math:`\|Z\|_{\psi_\theta}` of a sample: the smallest K with a mean of
    :math:`\exp((|z| / K)^\theta)` of at most 2.

    It exists for every sample, even where the distribution has none: then it grows without bound with n. And where it
    does exist, the mean that defines it may have an infinite variance: for the Gaussian (:math:`\theta = 2`), the
    Laplace (1) and every exact Weibull distribution with its own index. There the estimate converges more slowly than
    :math:`n^{-1/2}`, it is more often too small than too large, and the bootstrap interval covers less often than
    ``level``. For bounded variables it does what it says.

    Parameters
    ----------
    z : array of shape (n,)
    theta : float, positive
    bootstrap : int
        Resamples for the interval; 0 for none.
    level : float
    random_state : int or numpy Generator

    Returns
    -------
    TailEstimate
        In units of ``z``.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.theory import orlicz_norm
    >>> coins = orlicz_norm([1.0, -1.0, 1.0], theta=1)  # exp(1 / K) = 2
    >>> bool(np.isclose(coins.estimate, 1 / np.log(2)))
    True
    """
    _check(bootstrap, level)
    if not 0 < theta < np.inf:
        raise ValueError(
            f"theta must be a positive number, but is {theta}; for bounded variables take the largest absolute value"
        )
    size, rng = _sizes(z), np.random.default_rng(random_state)
    n = len(size)
    found = [_norms(size[None], theta)]
    rows = max(1, BLOCK // n)
    for start in range(0, bootstrap, rows):
        index = rng.integers(n, size=(min(rows, bootstrap - start), n))
        found.append(_norms(size[index], theta))
    return _estimate(np.concatenate(found), level)


def _norms(size: np.ndarray, theta: float) -> np.ndarray:
    """The Orlicz norm of each row of ``size`` (B, n)."""
    top = size.max(1)
    unit = np.where(top > 0, top, 1)
    v = (size / unit[:, None]) ** theta

    # With K = top s^(-1/theta): the smallest K is the largest s at which the cumulant function log mean exp(s v) is at
    # most log 2. As 0 <= v <= 1 it is at most log 2n there, so that nothing overflows, and as the function is convex,
    # Newton's method comes down from there without a detour.
    def excess(s):
        return np.log(np.exp(s[:, None] * v).mean(1)) - np.log(2)

    def slope(s):
        weight = np.exp(s[:, None] * v)
        return (weight * v).sum(1) / weight.sum(1)

    alive = top > 0
    if not alive.all():  # all zeros: the norm is zero
        v = v[alive]
    norms = np.zeros(len(top))
    if alive.any():
        s = newton(excess, np.full(alive.sum(), np.log(2 * size.shape[1])), fprime=slope, tol=1e-10, maxiter=200)
        norms[alive] = top[alive] * s ** (-1 / theta)
    return norms


def _sizes(z: ArrayLike) -> np.ndarray:
    z = np.asarray(z, dtype=float)
    if z.ndim != 1 or not len(z):
        raise ValueError(f"z must have shape (n,) with n at least 1, but has {z.shape}")
    if not np.isfinite(z).all():
        i = np.flatnonzero(~np.isfinite(z))[0]
        raise ValueError(f"z must be finite, but z[{i}] = {z[i]}; drop such rows first, and say so")
    return np.abs(z)


def _tail(n: int, fraction: float) -> int:
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], but is {fraction}")
    return max(1, round(fraction * n))


def _hazard(n: int, k: int) -> np.ndarray:
    """The means of the cumulative hazard at the k largest of n values."""
    return (1 / np.arange(n, 0, -1)).cumsum()[::-1][:k]


def _check(bootstrap: int, level: float) -> None:
    if not (isinstance(bootstrap, (int, np.integer)) and bootstrap >= 0):
        raise ValueError(f"bootstrap must be a whole number of resamples, or 0, but is {bootstrap!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, but is {level}")


def _estimate(values: np.ndarray, level: float) -> TailEstimate:
    """The first value is the sample's, the others are the bootstrap's."""
    if len(values) == 1:
        return TailEstimate(float(values[0]), np.nan, np.nan)
    # an observed value of the bootstrap, not one between two: infinities do not average
    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return TailEstimate(float(values[0]), float(low), float(high))
