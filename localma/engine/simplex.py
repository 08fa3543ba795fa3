"""Constant weights on the simplex: exact quadratic and linear programmes, global weights for every loss."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from scipy.optimize import linprog
from sklearn.exceptions import ConvergenceWarning

from localma.engine.devices import one_thread
from localma.engine.rows import Blocks, shared
from localma.losses import Loss

__all__ = ["first_smallest", "global_weights", "simplex_lp", "simplex_qp"]

CLOSED = 1e-8  # a duality gap, in units of the loss's scale, that nobody need be warned of


def simplex_qp(G: np.ndarray, c: np.ndarray) -> np.ndarray:
    r"""Minimise :math:`\tfrac12 w^\top G w - c^\top w` over the simplex, exactly, for many problems at once.

    The primal active-set method: solve the equality-constrained problem on the present support; where a weight would
    turn negative, walk until the first one is zero and drop it; else add the model whose multiplier is most negative;
    stop when none is. Every iteration is one batched solve for all problems that are not finished.

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


def simplex_lp(E: np.ndarray, slopes: tuple[float, float], rows: int = 1) -> np.ndarray:
    r"""Minimise the mean of a loss of two straight pieces over weights on the simplex, exactly, by a linear programme.

    The loss of an error e is ``slopes[0]`` times -e below zero and ``slopes[1]`` times e above, the errors are linear
    in the weights. Solved is the dual, :math:`\max_d \sum_k \min_m (E^\top d)_{km}` with :math:`-s_0 \le d_i \le s_1`,
    whose multipliers are the weights: it has one constraint for each weight, the primal one for each observation.

    Parameters
    ----------
    E : array of shape (n, rows * M)
        What each weight adds to the error (prediction minus response) of each observation.
    slopes : pair of float
        As in :class:`localma.Loss`.
    rows : int
        How many sets of M weights there are, each of which sums to one.

    Returns
    -------
    array of shape (rows, M)

    Raises
    ------
    FloatingPointError
        If the solver gives up.

    References
    ----------
    Koenker & Bassett (1978), Regression quantiles, Econometrica 46.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.engine import simplex_lp
    >>> simplex_lp(np.array([[-1.0, 2], [-2.0, 4]]), (1, 1)).round(3)  # weights without an error
    array([[0.667, 0.333]])
    """
    n, columns = E.shape
    constraints = np.hstack([-E.T / (np.abs(E).max() or 1), np.kron(np.eye(rows), np.ones((columns // rows, 1)))])
    bounds = np.repeat([[-slopes[0], slopes[1]], [-np.inf, np.inf]], [n, rows], axis=0)
    found = linprog(np.repeat([0.0, -1.0], [n, rows]), constraints, np.zeros(columns), bounds=bounds, method="highs")
    if found.status != 0:
        raise FloatingPointError(
            f"the linear programme of the weights was not solved ({found.message}); rescale y and F"
        )
    w = np.maximum(-found.ineqlin.marginals, 0).reshape(rows, -1)
    return w / w.sum(1, keepdims=True)


def global_weights(
    F, y, loss: Loss, sample_weight=None, *, iterations: int = 200, tolerance: float = 1e-10
) -> np.ndarray:
    r"""The weights on the simplex that minimise the mean loss of :math:`\sum_m w_m f_m` (GW), for many samples at once.

    Where the loss is a parabola in the average one quadratic programme, where it has two straight pieces one linear
    programme, both exact. Otherwise a sequence of quadratic programmes, Newton's method: it stops when the duality gap
    :math:`\max_m \nabla C(w)^\top (w - e_m)`, which bounds the distance to the optimum of a convex loss, is below
    ``tolerance`` times :meth:`Loss.scale`. It starts from equal weights and, unless the loss is convex between the
    candidates (gamma and Tweedie may not be), from each vertex as well, and keeps the best end.
    What a :class:`localma.Loss` does not say of itself is found on the data: a parabola counts only if the gap at its
    weights is closed, convexity (looked for at five points between each observation's candidates) only if the first
    start's is.

    Parameters
    ----------
    F : array of shape (..., n, M), or (..., n, M, K) for cross-entropy
    y : array of shape (..., n)
        Class numbers 0..K-1 for cross-entropy.
    loss : Loss
    sample_weight : array of shape (..., n), optional
        How much each observation counts: non-negative, two as much as two such observations.

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
    y, F = (a if a.dtype in (np.float32, np.float64) else np.require(a, float) for a in map(np.asarray, (y, F)))
    y, F = shared(y), shared(F).movedim(y.ndim - 1, -1)
    lead, n = y.shape[:-1], y.shape[-1]
    share = torch.ones(()) if sample_weight is None else torch.as_tensor(np.array(sample_weight, dtype=float))
    share = (share / share.mean(-1, keepdim=True)).expand_as(y) if share.ndim else share.expand_as(y)
    sample = Blocks(F.reshape(-1, *F.shape[len(lead) :]), y.reshape(-1, n), share.reshape(-1, n), loss)
    if loss.slopes is not None:  # which are slopes of an error times its share as well
        G, y, share = sample.part(slice(None))
        errors = ((loss.linear(G) - y.unsqueeze(1)) * share.unsqueeze(1)).mT.numpy()
        return np.stack([simplex_lp(E, loss.slopes)[0] for E in errors]).reshape(*lead, -1)
    with one_thread(F.numel() < 2**22):
        w, done = _parabola(sample, loss, tolerance)
        gap = torch.zeros(len(w), dtype=w.dtype)
        if not done.all():
            w[~done], gap[~done] = _best_end(sample[~done], loss, iterations, tolerance)
    if bool((gap > CLOSED).any()):
        warnings.warn(
            f"global weights for the {loss.name} loss may be short of the optimum: the duality gap is still"
            f" {float(gap.max()):.1e} of the loss's scale. A loss with kinks has no such bound: give Loss(...,"
            " slopes=...) if it has two straight pieces; otherwise check F and y for extreme values",
            ConvergenceWarning,
            stacklevel=2,
        )
    return w.reshape(*lead, -1).numpy()


def _parabola(sample, loss, tolerance):
    """Weights (B, M) that are right where the loss is a parabola in the average, and where it is one, (B,)."""
    (B, M), n = sample.F.shape[:2], sample.n
    none = torch.zeros(B, M, dtype=torch.float64), torch.zeros(B, dtype=torch.bool)
    if loss.quadratic is None:  # is the curvature the same at both ends and between? A look at 256 observations
        G, y, _ = sample.part(slice(None, None, -(-n // 256)))
        F = loss.linear(G)
        where = torch.cat([F.mean(-2), F.amin(-2), F.amax(-2)], -1)
        between, *ends = loss.derivatives(y.repeat(1, 3), where)[1].chunk(3, -1)
        done = ((torch.stack(ends, 1) - between[:, None]).abs() <= 1e-9 * between[:, None]).flatten(1).all(-1)
    if not loss.quadratic and (loss.quadratic is not None or not done.any()):
        return none
    H, c, least = 0.0, 0.0, np.full(B, np.inf)
    for G, y, share in sample:
        at, R = _centred(G, y, loss)
        first, second = ((d * share).numpy() for d in loss.derivatives(y, at))
        low, high = second.min(-1)[:, None, None], second.max(-1)[:, None, None]
        with np.errstate(invalid="ignore", over="ignore"):
            H += R @ R.swapaxes(1, 2) * low if (low == high).all() else (R * second[:, None]) @ R.swapaxes(1, 2)
            c -= (R @ first[..., None])[..., 0]
        least = np.minimum(least, low[:, 0, 0])
    H, c = H / n, c / n
    if loss.quadratic:
        return torch.as_tensor(simplex_qp(H, c)), ~none[1]
    done = done.numpy() & (least >= 0) & np.isfinite(H).all((1, 2)) & np.isfinite(c).all(1)
    w = simplex_qp(np.where(done[:, None, None], H, 0), np.where(done[:, None], c, 0))
    # only found to be a parabola: the gap has the last word, in a unit of the models in use, free of a wild one
    gradient = 0.0
    for G, y, share in sample:
        at, R = _centred(G, y, loss)
        slope = loss.slope(y, at + torch.as_tensor((w[:, None] @ R)[:, 0])) * share
        gradient += (R @ slope.unsqueeze(-1).numpy())[..., 0]
    gradient = gradient / n
    unit = 0.5 * (w * (np.diagonal(H, axis1=1, axis2=2) - (H @ w[..., None])[..., 0])).sum(1)
    return torch.as_tensor(w), torch.as_tensor(done & ((w * gradient).sum(1) - gradient.min(1) <= tolerance * unit))


def _centred(G, y, loss):
    """Where a parabola is looked at, (B, k), and the candidates' distances from there, (B, M, k)."""
    F = loss.linear(G)  # for squared loss the slope at y is exactly zero: no cancellation where models agree
    at = y if loss.quadratic else F.mean(-2)
    return at, (F - at.unsqueeze(-2)).numpy()


def _best_end(sample, loss, iterations, tolerance):
    """Newton's method from equal weights and, where that end may not be the best, each vertex: weights (B, M), gaps."""
    B, M = sample.F.shape[:2]
    unit = sum(loss.scale(G, y, share) * (y.shape[-1] / sample.n) for G, y, share in sample)
    start = torch.full((B, M), 1 / M, dtype=torch.float64)
    w, gap = _newton(start, sample, loss, unit, iterations, tolerance)
    rest = torch.full((B,), not loss.convex)
    if loss.convex is None:  # a gap that is small in a unit stretched by a wild model may be large beside the loss
        small = gap * unit <= CLOSED * torch.minimum(unit, _mean_loss(w, sample, loss).abs())
        rest = ~(small & _convex_between(sample, loss))
    if rest.any():
        sample = sample[rest]
        vertices = (0.98 * torch.eye(M, dtype=torch.float64) + 0.02 / M).unsqueeze(1).expand(-1, len(sample.y), M)
        others = [_newton(v, sample, loss, unit[rest], iterations, tolerance) for v in vertices]
        ends, gaps = map(torch.stack, zip((w[rest], gap[rest]), *others, strict=True))
        values = torch.stack([_mean_loss(end, sample, loss) for end in ends])
        best = first_smallest(values.numpy(), 0), torch.arange(len(sample.y))
        w[rest], gap[rest] = ends[best], gaps[best]
    return w, gap


def _convex_between(sample, loss):
    """For which problems (B,) every observation's loss bends upwards at five points between its candidates."""
    convex = torch.ones(len(sample.y), dtype=torch.bool)
    for G, y, _ in sample:
        low, high = loss.linear(G).aminmax(dim=-2)
        for share in (0, 0.25, 0.5, 0.75, 1):
            second = loss.derivatives(y, low + share * (high - low))[1]
            convex &= (second >= -1e-9 * second.abs().amax(-1, keepdim=True)).all(-1)
    return convex


def _mean_loss(w, sample, loss):
    return sample.mean(lambda G, y, share: loss.of_weights(w.unsqueeze(-1), G, y) * share)


def _newton(w, sample, loss, unit, iterations, tolerance):
    """Sequential quadratic programming for problems (B, M, n): weights (B, M), gaps (B,) in the unit."""
    current = _mean_loss(w, sample, loss)
    if not bool(current.isfinite().all()):
        raise ValueError(
            f"the {loss.name} loss is not finite for averages of F; check that y and F lie in its domain"
            " (Loss(response=..., prediction=...))"
        )
    last_gap = torch.full_like(current, math.inf)
    for _ in range(iterations):
        gradient, H, true = _derivatives(w, sample, loss, unit)
        gap = -gradient.min(-1).values
        if bool((gap <= tolerance * unit).all()):
            break
        if true is not None:  # the clamped one makes short steps: the true one where it has a minimum
            # weights move, their sum does not
            along = true[:, :-1, :-1] - true[:, :-1, -1:] - true[:, -1:, :-1] + true[:, -1:, -1:]
            H = torch.where((torch.linalg.cholesky_ex(along).info == 0)[:, None, None], true, H)
        goal = torch.as_tensor(simplex_qp(H.numpy(), ((H @ w.unsqueeze(-1)).squeeze(-1) - gradient).numpy()))
        slope = (gradient * (goal - w)).sum(-1)
        length = torch.ones(len(w), dtype=w.dtype)
        # Near the optimum the loss is flat to rounding, while the gap, a derivative, still tells better from worse.
        noise = 1e-14 * (current.abs() + unit)
        for _ in range(60):
            candidate = w + length.unsqueeze(-1) * (goal - w)
            trial = _mean_loss(candidate, sample, loss)
            bad = ~(trial <= current + 1e-4 * length * slope + noise) & (gap > tolerance * unit)
            if not bool(bad.any()):
                break
            length = torch.where(bad, length / 2, length)
        moves = (gap > tolerance * unit) & (
            (trial < current - noise) | ((trial <= current + noise) & (gap < last_gap / 2))
        )
        if not bool(moves.any()):
            break  # neither the loss nor the gap falls any more: the limit of floating-point numbers, or a kink
        last_gap = gap
        w = torch.where(moves.unsqueeze(-1), candidate, w)
        current = torch.where(moves, trial, current)
    return w, gap / unit


def _derivatives(w, sample, loss, unit):
    """Of the mean loss in the weights: gradient (B, M), Hessian (B, M, M) with each curvature clamped at zero, and the
    true one where some are negative, else None.
    """
    gradient, clamped, negative = 0.0, 0.0, None
    for G, y, share in sample:
        F = loss.linear(G)
        a = (w.unsqueeze(-1) * F).sum(-2)
        first, second = (d * share for d in loss.derivatives(y, a))
        # Relative to the present average the programme is the same, without cancellation where models nearly agree.
        D = F - a.unsqueeze(-2)
        gradient = gradient + (D * first.unsqueeze(-2)).sum(-1)
        clamped = clamped + (D * second.clamp_min(0).unsqueeze(-2)) @ D.mT
        if bool((second < 0).any()):
            negative = (0.0 if negative is None else negative) + (D * second.clamp_max(0).unsqueeze(-2)) @ D.mT

    def bounded(H):
        """A floor keeps directions bounded in which the loss is flat or concave."""
        floor = 1e-9 * (H.diagonal(dim1=-2, dim2=-1).abs().mean(-1) + unit)
        return H + floor[:, None, None] * torch.eye(H.shape[-1], dtype=H.dtype)

    true = None if negative is None else bounded((clamped + negative) / sample.n)
    return gradient / sample.n, bounded(clamped / sample.n), true


def first_smallest(values, axis: int = -1, rounding: float = 1e-9) -> np.ndarray:
    """Where the smallest value stands; the first of those equal up to this share of it: no rounding error decides.

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
    """Where training starts: half way from global to equal weights, as a model of weight zero could never gain any.

    The biases are free of the penalty, so this moves the start, not the goal.
    """
    return (weights + 1 / weights.shape[-1]) / 2


def start_weights(F, y, loss: Loss, sample_weight=None) -> np.ndarray:
    """Global weights without the advice on kinks: as a start and as one candidate of many they need no certificate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return global_weights(F, y, loss, sample_weight)
