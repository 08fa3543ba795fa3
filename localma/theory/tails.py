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
    """An estimate and its percentile bootstrap interval of 95 % (NaN without a bootstrap)."""

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
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], but is {fraction}")
    descending = np.sort(_sizes(z))[::-1]
    n = len(descending)
    k = max(1, round(fraction * n))
    return descending[:k], (1 / np.arange(n, 0, -1)).cumsum()[::-1][:k]


def tail_index(
    z: ArrayLike, *, fraction: float = 0.1, bootstrap: int = 200, random_state: int | np.random.Generator = 0
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
    _check_bootstrap(bootstrap)
    tail, hazard = weibull_plot(z, fraction=fraction)
    descending = np.sort(_sizes(z))[::-1]
    n, k = len(descending), len(tail)
    if k < FEWEST:
        raise ValueError(
            f"fraction = {fraction:g} of n = {n} values leaves {k} for the tail; {FEWEST} are needed: raise it, or give"
            " more data"
        )
    if tail[-1] == 0:
        raise ValueError(f"z has fewer than {k} values that are not zero, so no logarithm of its tail; lower fraction")
    x = np.log(hazard)
    x -= x.mean()
    rng = np.random.default_rng(random_state)
    # The k largest of n uniform variables are 1 - G_i / G_{n+1}, G the partial sums of exponential ones: a resample
    # without sorting.
    rows = rng.standard_exponential((bootstrap, k)).cumsum(1)
    rows /= rows[:, -1:] + rng.standard_gamma(n + 1 - k, (bootstrap, 1))
    resampled = descending[(n * rows).astype(int)]
    smallest = descending[descending > 0][-1]  # a resample may reach down to zeros
    slopes = np.log(np.maximum(np.vstack([tail, resampled]), smallest)) @ x / (x @ x)
    slopes = np.where(np.abs(slopes) < 1e-12, 0.0, slopes)  # equal values: no slope, whatever the rounding
    with np.errstate(divide="ignore"):
        return _estimate(1 / slopes)


def orlicz_norm(
    z: ArrayLike, theta: float, *, bootstrap: int = 200, random_state: int | np.random.Generator = 0
) -> TailEstimate:
    r"""The Orlicz norm :math:`\|Z\|_{\psi_\theta}` of a sample: the smallest K with a mean of
    :math:`\exp((|z| / K)^\theta)` of at most 2.

    It exists for every sample, even where the distribution has none: then it grows without bound with n. And where it
    does exist, the mean that defines it may have an infinite variance: for the Gaussian (:math:`\theta = 2`), the
    Laplace (1) and every exact Weibull distribution with its own index. There the estimate converges more slowly than
    :math:`n^{-1/2}`, it is more often too small than too large, and the bootstrap interval covers less often than
    95 %. For bounded variables it does what it says.

    Parameters
    ----------
    z : array of shape (n,)
    theta : float, positive
    bootstrap : int
        Resamples for the interval; 0 for none.
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
    _check_bootstrap(bootstrap)
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
    return _estimate(np.concatenate(found))


def _norms(size: np.ndarray, theta: float) -> np.ndarray:
    """The Orlicz norm of each row of ``size`` (B, n)."""
    norms, alive = np.zeros(len(size)), size.any(1)  # all zeros: the norm is zero
    if not alive.any():
        return norms
    top = size[alive].max(1)
    v = (size[alive] / top[:, None]) ** theta

    # With K = top s^(-1/theta): the smallest K is the largest s at which the cumulant function log mean exp(s v) is at
    # most log 2. As 0 <= v <= 1 it is at most log 2n there, so that nothing overflows, and as the function is convex,
    # Newton's method comes down from there without a detour.
    def excess(s):
        return np.log(np.exp(s[:, None] * v).mean(1)) - np.log(2)

    def slope(s):
        weight = np.exp(s[:, None] * v)
        return (weight * v).sum(1) / weight.sum(1)

    s = newton(excess, np.full(len(top), np.log(2 * size.shape[1])), fprime=slope, tol=1e-10, maxiter=200)
    norms[alive] = top * s ** (-1 / theta)
    return norms


def _sizes(z: ArrayLike) -> np.ndarray:
    z = np.asarray(z, dtype=float)
    if z.ndim != 1 or not len(z):
        raise ValueError(f"z must have shape (n,) with n at least 1, but has {z.shape}")
    if not np.isfinite(z).all():
        i = np.flatnonzero(~np.isfinite(z))[0]
        raise ValueError(f"z must be finite, but z[{i}] = {z[i]}; drop such rows first, and say so")
    return np.abs(z)


def _check_bootstrap(bootstrap: int) -> None:
    if not (isinstance(bootstrap, (int, np.integer)) and bootstrap >= 0):
        raise ValueError(f"bootstrap must be a whole number of resamples, or 0, but is {bootstrap!r}")


def _estimate(values: np.ndarray) -> TailEstimate:
    """The first value is the sample's, the others are the bootstrap's."""
    if len(values) == 1:
        return TailEstimate(float(values[0]), np.nan, np.nan)
    # an observed value of the bootstrap, not one between two: infinities do not average
    low, high = np.quantile(values[1:], [0.025, 0.975], method="nearest")
    return TailEstimate(float(values[0]), float(low), float(high))
