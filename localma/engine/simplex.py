"""Constant weights on the simplex: exact quadratic programmes, global weights for every loss, where networks start from; the first of equals."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from localma.engine.devices import one_thread
from localma.losses import LOSSES, Loss

__all__ = ["first_smallest", "global_weights", "simplex_qp"]


def simplex_qp(G: np.ndarray, c: np.ndarray) -> np.ndarray:
    r"""Minimise :math:`\tfrac12 w^\top G w - c^\top w` over the simplex, exactly, for many problems at once.

    The primal active-set method: solve the equality-constrained problem on the present support; where a weight would turn negative, walk
    until the first one is zero and drop it; else add the model whose multiplier is most negative; stop when none is. Every iteration
    is one batched solve for all problems that are not finished.

    Parameters
    ----------
    G : array of shape (..., M, M)
        Symmetric and positive semi-definite.
    c : array of shape (..., M)

    Returns
    -------
    array of shape (..., M)
        Weights; where several are optimal (identical models), one of them.

    References
    ----------
    Nocedal & Wright (2006), Numerical Optimization, section 16.5.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.engine import simplex_qp
    >>> simplex_qp(np.eye(3), np.array([0.5, 0.2, -1.0])).round(3)
    array([0.65, 0.35, 0.  ])
    """
    shape, M = c.shape, c.shape[-1]
    G = np.array(G, dtype=float).reshape(-1, M, M)
    c = np.array(c, dtype=float).reshape(-1, M)
    # in units of the problem's own size; shifting all of c changes nothing on the simplex
    c -= c.max(1, keepdims=True)
    size = np.maximum(np.abs(G).max((1, 2)), -c.min(1))
    size[size == 0] = 1
    G, c = G / size[:, None, None], c / size[:, None]
    rows = np.arange(len(c))
    w = np.zeros_like(c)
    w[rows, np.argmin(np.diagonal(G, axis1=1, axis2=2) / 2 - c, 1)] = 1
    support = w > 0
    open_rows = rows
    for _ in range(20 * M + 50):
        if not len(open_rows):
            break
        g, cc, ww, s = G[open_rows], c[open_rows], w[open_rows], support[open_rows]
        # optimality on the support: G w - c = multiplier, sum w = 1; off the support the row reads w_m = 0
        kkt = np.zeros((len(open_rows), M + 1, M + 1))
        kkt[:, :M, :M] = np.where(s[:, :, None], g * s[:, None, :], np.eye(M))
        kkt[:, :M, M] = -1.0 * s
        kkt[:, M, :M] = s
        rhs = np.concatenate([cc * s, np.ones((len(open_rows), 1))], 1)
        target = _solve(kkt, rhs)[:, :M]
        step = target - ww
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(s & (step < 0) & (target < 0), ww / -step, np.inf)
        length = ratio.min(1)
        blocked = length < 1
        ww = ww + np.minimum(length, 1.0)[:, None] * step
        leaving = ratio.argmin(1)[blocked]
        ww[blocked, leaving] = 0
        s[blocked, leaving] = False
        # where the full step was possible: is there a model that would lower the objective?
        multiplier = np.einsum("bij,bj->bi", g, ww) - cc
        multiplier -= (multiplier * ww).sum(1, keepdims=True)
        entering = np.where(s, np.inf, multiplier).argmin(1)
        value = np.take_along_axis(np.where(s, np.inf, multiplier), entering[:, None], 1)[:, 0]
        done = ~blocked & (value > -1e-13)
        adding = ~blocked & ~done
        s[adding, entering[adding]] = True
        w[open_rows], support[open_rows] = ww, s
        open_rows = open_rows[~done]
    w = np.maximum(w, 0)
    return (w / w.sum(1, keepdims=True)).reshape(shape)


def _solve(A, b):
    """Batched solve; a singular system (identical models in the support) gets the least-norm solution."""
    try:
        x = np.linalg.solve(A, b[..., None])[..., 0]
        if np.isfinite(x).all():
            return x
    except np.linalg.LinAlgError:
        pass
    return (np.linalg.pinv(A, rcond=1e-12) @ b[..., None])[..., 0]


def global_weights(F, y, loss: Loss, *, iterations: int = 200, tolerance: float = 1e-10) -> np.ndarray:
    r"""The constant weights that minimise the mean loss of :math:`\sum_m w_m f_m` over the simplex (GW), for many samples at once.

    For squared loss one quadratic programme, solved exactly. Otherwise a sequence of them: each iteration minimises the second-order
    model of the loss at the present weights (Gauss-Newton where the loss is not convex) and searches along the line. It stops when the
    duality gap :math:`\max_m \nabla C(w)^\top (w - e_m)`, which bounds the distance to the optimum of a convex loss, is
    below ``tolerance`` times :meth:`Loss.scale`. For the losses that are not convex in the average (gamma, Tweedie) it starts from equal
    weights and from each vertex, and keeps the best end.

    Parameters
    ----------
    F : array of shape (..., n, M), or (..., n, M, K) for cross-entropy
    y : array of shape (..., n)
        Class numbers 0..K-1 for cross-entropy.
    loss : Loss

    Returns
    -------
    array of shape (..., M)

    Raises
    ------
    ValueError
        If the loss is not finite for averages of F.

    Examples
    --------
    >>> import numpy as np
    >>> from localma import LOSSES
    >>> from localma.engine import global_weights
    >>> rng = np.random.default_rng(0)
    >>> F = rng.uniform(1, 9, (4, 2000, 2))  # four samples of two thousand
    >>> global_weights(F, rng.poisson(F @ [0.7, 0.3]), LOSSES["poisson"]).round(1)
    array([[0.7, 0.3],
           [0.7, 0.3],
           [0.7, 0.3],
           [0.7, 0.3]])
    """
    y = torch.as_tensor(np.require(y, dtype=float, requirements="W"))  # torch warns of read-only arrays; a copy only then
    lead = y.shape[:-1]
    F = torch.as_tensor(np.require(F, dtype=float, requirements="W")).movedim(len(lead), -1)
    G = loss.candidates(y, F).reshape(-1, F.shape[len(lead)], y.shape[-1])
    y = y.reshape(-1, y.shape[-1])
    B, M, n = G.shape
    if loss == LOSSES["squared"]:
        R = (G - y.unsqueeze(1)).numpy()  # since weights sum to one, y - F w = -R w: no cancellation where models agree
        return simplex_qp(R @ R.swapaxes(1, 2) / n, np.zeros((B, M))).reshape(*lead, M)
    starts = [torch.full((B, M), 1 / M, dtype=torch.float64)]
    if loss.response != "class labels" and loss.name != "poisson":  # the others are not convex in the average, or not known to be
        vertices = 0.98 * torch.eye(M, dtype=torch.float64) + 0.02 / M
        starts += [v.expand(B, M) for v in vertices]
    with one_thread(G.numel() < 2**22):
        ends, gaps = map(torch.stack, zip(*[_newton(w, G, y, loss, iterations, tolerance) for w in starts], strict=True))
    values = torch.stack([loss.of_weights(w.unsqueeze(-1), G, y).mean(-1) for w in ends])
    best = first_smallest(values.numpy(), 0), torch.arange(B)
    if bool((gaps[best] > 1e-8).any()):
        warnings.warn(
            f"global weights for the {loss.name} loss may be short of the optimum: the duality gap is still {float(gaps[best].max()):.1e} of "
            "the loss's scale. A loss with kinks has no such bound; otherwise check F and y for extreme values",
            ConvergenceWarning,
            stacklevel=2,
        )
    return ends[best].reshape(*lead, M).numpy()


def _newton(w, G, y, loss, iterations, tolerance):
    """Sequential quadratic programming on the simplex for a stack of problems (B, M, n): weights (B, M), duality gaps (B,) in the loss's scale."""
    F = loss.linear(G)
    unit = loss.scale(G, y)

    def value(w):
        return loss.of_weights(w.unsqueeze(-1), G, y).mean(-1)

    current = value(w)
    if not bool(current.isfinite().all()):
        raise ValueError(
            f"the {loss.name} loss is not finite for averages of F; check that y and F lie in its domain (Loss(response=..., prediction=...))"
        )
    last_gap = torch.full_like(current, math.inf)
    for _ in range(iterations):
        a = (w.unsqueeze(-1) * F).sum(-2)
        first, second = loss.derivatives(y, a)
        # Relative to the present average: on the simplex the programme is the same, without cancellation where models nearly agree.
        D = F - a.unsqueeze(-2)
        gradient = (D * first.unsqueeze(-2)).mean(-1)
        gap = -gradient.min(-1).values
        if bool((gap <= tolerance * unit).all()):
            break
        H = (D * second.clamp_min(0).unsqueeze(-2)) @ D.transpose(-2, -1) / y.shape[-1]
        # a floor on the curvature keeps directions bounded in which the loss is flat or concave
        H = H + 1e-9 * H.diagonal(dim1=-2, dim2=-1).mean(-1).add(unit)[:, None, None] * torch.eye(w.shape[-1], dtype=w.dtype)
        goal = torch.as_tensor(simplex_qp(H.numpy(), ((H @ w.unsqueeze(-1)).squeeze(-1) - gradient).numpy()))
        slope = (gradient * (goal - w)).sum(-1)
        length = torch.ones(len(w), dtype=w.dtype)
        # Near the optimum the loss is flat to rounding, while the gap, a first derivative, still tells a better point from a worse one.
        noise = 1e-14 * (current.abs() + unit)
        for _ in range(60):
            candidate = w + length.unsqueeze(-1) * (goal - w)
            trial = value(candidate)
            bad = ~(trial <= current + 1e-4 * length * slope + noise) & (gap > tolerance * unit)
            if not bool(bad.any()):
                break
            length = torch.where(bad, length / 2, length)
        moves = (gap > tolerance * unit) & ((trial < current - noise) | ((trial <= current + noise) & (gap < last_gap / 2)))
        if not bool(moves.any()):
            break  # neither the loss nor the gap falls any more: the limit of floating-point numbers, or a kink
        last_gap = gap
        w = torch.where(moves.unsqueeze(-1), candidate, w)
        current = torch.where(moves, trial, current)
    return w, gap / unit


def first_smallest(values, axis: int = -1, rounding: float = 1e-9) -> np.ndarray:
    """Where the smallest value stands; of those that are equal up to this share of it, the first, so that no rounding error decides.

    Examples
    --------
    >>> from localma.engine import first_smallest
    >>> int(first_smallest([2.0, 0.3, 0.1 + 0.2, 0.3 - 1e-16]))
    1
    """
    values = np.asarray(values)
    least = values.min(axis, keepdims=True)
    return (values <= least + rounding * np.abs(least)).argmax(axis)


def soften(weights: np.ndarray) -> np.ndarray:
    """Where training starts: half way between global and equal weights, because a model whose weight is zero could never gain any.

    The biases are free of the penalty, so this moves the start, not the goal.
    """
    return (weights + 1 / weights.shape[-1]) / 2


def start_weights(F, y, loss: Loss) -> np.ndarray:
    """Global weights without the advice on losses with kinks: as a start and as one candidate of many they need no certificate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return global_weights(F, y, loss)
