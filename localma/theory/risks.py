r"""Risks, the best that any weights can do, and the terms that a fitted average's risk falls into.

Everything needs the mean :math:`\mu(x)`, which only a simulation knows. The book's chapter ``book/core/risks``
derives the formulas, our restatement of what stands behind Theorems 1-3 of the paper. Leading dimensions are welcome
everywhere, so that many replications are measured in one call: ``mu`` and predictions ``a`` are ``(..., n)``, or
``(..., n, K)`` for cross-entropy, the candidates ``F`` are ``(..., n, M)`` or ``(..., n, M, K)``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from localma.engine import global_weights
from localma.losses import LOSSES, PROBABILITY_FLOOR, Loss, resolve_loss

__all__ = ["Decomposition", "decompose", "in_sample_risk", "oracle_prediction", "oracle_risk"]


def in_sample_risk(loss: str | Loss, mu: ArrayLike, a: ArrayLike) -> np.ndarray:
    r"""The risk :math:`R_n = n^{-1} \sum_i l(\mu(x_i), a_i)` of predictions ``a``; on new points, an estimate of the
    out-of-sample risk (9).

    Parameters
    ----------
    loss : str or Loss
        A Bregman loss: with a generator ``phi``.
    mu, a : arrays of shape (..., n), or (..., n, K) for cross-entropy

    Returns
    -------
    array of shape (...)

    Examples
    --------
    >>> from localma.theory import in_sample_risk
    >>> float(in_sample_risk("squared", [1.0, 2.0], [0.0, 2.0]))
    0.5
    """
    return resolve_loss(loss).divergence(*_arrays(mu, a)).mean(-1)


def oracle_prediction(loss: str | Loss, F: ArrayLike, mu: ArrayLike) -> np.ndarray:
    r"""The best that any weights can do at each point: the average of the candidates with the smallest
    :math:`l(\mu, \cdot)`.

    For one scalar response it is ``mu`` clipped to :math:`[\min_m f_m, \max_m f_m]`, the same for every Bregman loss.
    For cross-entropy it is a convex programme at each point. The Kullback-Leibler divergence is half the sum of K
    Poisson deviances, so one call of :func:`localma.engine.global_weights` solves all n, within 1e-8 of the optimum (in
    units of the loss's scale), or with a ConvergenceWarning.

    Parameters
    ----------
    loss : str or Loss
    F : array of shape (..., n, M), or (..., n, M, K) for cross-entropy
    mu : array of shape (..., n), or (..., n, K)

    Returns
    -------
    array of the shape of ``mu``

    Examples
    --------
    >>> from localma.theory import oracle_prediction
    >>> oracle_prediction("poisson", [[1.0, 2.0], [1.0, 2.0]], [1.5, 5.0])
    array([1.5, 2. ])
    >>> oracle_prediction("cross_entropy", [[[0.8, 0.2], [0.4, 0.6]]], [[0.5, 0.5]]).round(6)
    array([[0.5, 0.5]])
    """
    loss = resolve_loss(loss)
    F, mu = _arrays(F, mu)
    if loss.phi is None:
        raise ValueError(
            f"the loss {loss.name!r} has no generator phi, so the best average is unknown; give Loss(..., phi=...)"
        )
    if not loss.is_classification:
        return np.clip(mu, F.min(-1), F.max(-1))
    p = np.maximum(F, PROBABILITY_FLOOR)
    w = global_weights(p.swapaxes(-1, -2), mu, LOSSES["poisson"])
    return (w[..., None] * p).sum(-2)


def oracle_risk(loss: str | Loss, F: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """The in-sample risk of :func:`oracle_prediction`, (...): a floor under the risk of every average, smooth or not.

    Examples
    --------
    >>> from localma.theory import oracle_risk
    >>> float(oracle_risk("squared", [[1.0, 2.0], [1.0, 2.0]], [1.5, 5.0]))
    4.5
    """
    return in_sample_risk(loss, mu, oracle_prediction(loss, F, mu))


class Decomposition(NamedTuple):
    """The excess risk of a fitted average and its terms, ``excess = approximation + training + stochastic``; each of
    shape (...).
    """

    excess: np.ndarray  #: risk of the fitted average minus that of the benchmark
    approximation: np.ndarray  #: risk of the comparison network minus that of the benchmark
    #: empirical loss of the fitted average minus that of the comparison network; not positive for a minimiser
    training: np.ndarray
    stochastic: np.ndarray  #: the noise, times the difference of the two on the scale of the loss's phi'


def decompose(
    loss: str | Loss, y: ArrayLike, mu: ArrayLike, fitted: ArrayLike, network: ArrayLike, benchmark: ArrayLike
) -> Decomposition:
    r"""Split the excess in-sample risk of a fitted average into what the network cannot do, what training gained, and
    noise.

    For a Bregman loss, noise :math:`\varepsilon = y - \mu` and average predictions :math:`\hat a` (fitted), b (network)
    and :math:`a^*` (benchmark),

    .. math:: R_n(\hat a) - R_n(a^*) = [R_n(b) - R_n(a^*)] + [C_n(\hat a) - C_n(b)]
              + \tfrac1n \sum_i \varepsilon_i \, [\varphi'(\hat a_i) - \varphi'(b_i)] .

    For squared loss :math:`\varphi'(a) = 2a`. Each term is computed on its own, so that their sum is a check.

    Parameters
    ----------
    loss : str or Loss
        A Bregman loss.
    y : array of shape (..., n)
        Responses; class numbers for cross-entropy.
    mu, fitted, network, benchmark : arrays of shape (..., n), or (..., n, K) for cross-entropy
        The mean, and the predictions of the fitted average, of any network of the class, and of the weights it is
        compared to.

    Examples
    --------
    >>> from localma.theory import decompose
    >>> terms = decompose("squared", [1.5, 1.5], [1.0, 2.0], [1.2, 1.8], [1.1, 1.8], [1.0, 2.0])
    >>> [round(float(term), 3) for term in terms]
    [0.04, 0.025, -0.035, 0.05]
    """
    loss = resolve_loss(loss)
    y, mu, fitted, network, benchmark = _arrays(y, mu, fitted, network, benchmark)
    at_fitted, at_network, at_benchmark = (in_sample_risk(loss, mu, a) for a in (fitted, network, benchmark))
    moved = _slope(loss, fitted) - _slope(loss, network)
    if loss.is_classification:
        noise = ((np.eye(mu.shape[-1])[y.astype(int)] - mu) * moved).sum(-1)
    else:
        noise = (y - mu) * moved
    return Decomposition(
        excess=at_fitted - at_benchmark,
        approximation=at_network - at_benchmark,
        training=(loss(y, fitted) - loss(y, network)).mean(-1),
        stochastic=noise.mean(-1),
    )


def _arrays(*values: ArrayLike) -> list[np.ndarray]:
    return [np.asarray(value, dtype=float) for value in values]


def _slope(loss: Loss, a: np.ndarray) -> np.ndarray:
    """The derivative (or gradient) of the generator phi at ``a``."""
    assert loss.phi is not None  # otherwise the divergence has said so
    at = torch.tensor(a, requires_grad=True)
    return torch.autograd.grad(loss.phi(at).sum(), at)[0].numpy()
