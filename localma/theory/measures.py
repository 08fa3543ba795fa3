"""What the audit measures, row by row, and where a verdict turns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import null_space
from scipy.stats import ks_2samp, norm
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors

from localma.averages.base import LossEstimator
from localma.engine import global_weights
from localma.losses import PROBABILITY_FLOOR, Loss
from localma.theory.lipschitz import lipschitz_constant
from localma.theory.tails import tail_index

__all__ = ["THRESHOLDS"]

FINE, DANGER, UNKNOWN = "looks fine", "in danger", "cannot tell"
MOST = 5000  # observations for which a nearest neighbour is sought, or with which a forest is grown

#: Where a verdict turns, and why there.
#:
#: - "tail index", of root losses: below 1 they are heavier than exponential, and the losses heavier than Weibull with
#:   index 1/2.
#: - "pushing": fewer than five observations, or one in a hundred, decide where the weights go; Gaussian errors alone
#:   give n / 3. Twice as many: cannot tell.
#: - "neighbours": weight that moves between nearest neighbours. More than half is hardly seen to be smooth, more than
#:   three quarters is not.
#: - "saturation": this share of the points has a weight above 0.999, logits of 7 and more: a choice and not an average.
#: - "parameters" per observation: five observations for each parameter are comfortable, less than one is not.
#: - "gap", in shares of the training loss: a tenth is what a reader would call a difference. It must be exceeded by two
#:   standard errors.
#: - "weight error": a standard error of 1/4 in constant weights has an interval that covers most of the simplex.
#: - "range": a prediction beyond all responses by more than twice their range is no prediction of a response.
#: - "level": false-alarm probability of each of the tests frozen, drift, order and reach.
#: - "calibrated": the same for near zero, if probabilities are calibrated and counts Poisson.
THRESHOLDS = {
    "tail index": 1.0,
    "pushing": (5, 0.01),
    "neighbours": (0.5, 0.75),
    "saturation": 0.5,
    "parameters": (0.2, 1.0),
    "gap": 0.1,
    "weight error": 0.25,
    "range": 2.0,
    "level": 0.001,
    "calibrated": 0.01,
}


class Sample(NamedTuple):
    """Checked data with what the average makes of them; y is class numbers for cross-entropy."""

    X: np.ndarray
    y: np.ndarray
    F: np.ndarray  # (n, M) or (n, M, K)
    w: np.ndarray  # (n, M)
    a: np.ndarray  # (n,) or (n, K)
    L: np.ndarray  # (n,)


def sample(average, X, y, F=None) -> Sample:
    loss = average._resolve_loss()
    y = average._response(X, y, F)
    # constant weights read nothing of X; by a copy, since scikit-learn's checks write the number of columns down
    numbers = LossEstimator._read(clone(average), X, reset=True) if not average._read(X).size else None
    array, F = average._predictions(X, F)
    y = np.asarray(average._encode(y) if loss.is_classification else y, dtype=float)
    w = average._weights(array)
    a = np.einsum("nm,nm...->n...", w, F)
    return Sample(array if numbers is None else numbers, y, F, w, a, loss(y, a))


def _columns(loss: Loss, s: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Responses (n, C) and predictions (n, M, C) as numbers: one column, or the indicators of K classes."""
    return (np.eye(s.F.shape[2])[s.y.astype(int)], s.F) if loss.is_classification else (s.y[:, None], s.F[..., None])


def _slopes(loss: Loss, s: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and second derivative of the loss in the average (n,), and the models' distances from the average
    (n, M).
    """
    y = torch.as_tensor(s.y)
    f = loss.linear(loss.candidates(y, torch.as_tensor(np.moveaxis(s.F, 0, -1).copy())))
    a = (torch.as_tensor(s.w.T.copy()) * f).sum(0)
    first, second = loss.derivatives(y, a)
    return first.numpy(), second.numpy(), (f - a).numpy().T


def models(average, loss, new, old, sizes, n):
    if sizes is None:
        yield "limits", "sizes not given", UNKNOWN
    else:
        yield "limits", f"smallest N {min(sizes)}, n {n}", FINE if min(sizes) > n else DANGER

    y, f = _columns(loss, new)
    width, beyond = np.ptp(y), np.maximum(f - y.max(), y.min() - f).max(axis=(0, 2)).clip(0)
    worst, far = average.model_names_[int(beyond.argmax())], beyond.max() > THRESHOLDS["range"] * width
    yield "extrapolation", f"{beyond.max() / width if width else np.inf:.2g} ranges ({worst})", DANGER if far else FINE

    if old is None:
        yield "frozen", "train not given", UNKNOWN
        return
    before, after = (np.array([loss(s.y, s.F[:, m]) for m in range(s.F.shape[1])]) for s in (old, new))
    growth, error = _gap(before, after)
    z = np.divide(growth, error, out=np.zeros_like(error), where=error > 0)
    m = z.argmax()
    leaks = z[m] > norm.isf(THRESHOLDS["level"] / len(z)) and growth[m] > THRESHOLDS["gap"] * before[m].mean()
    yield "frozen", f"{z[m]:.1f} errors ({average.model_names_[m]})", DANGER if leaks else FINE


def _gap(before, after):
    """The difference of two samples' means and its standard error."""
    variances = [part.var(-1, ddof=1) / part.shape[-1] for part in (before, after)]
    return after.mean(-1) - before.mean(-1), sum(variances) ** 0.5


def tails(loss, new, random_state):
    # The root of a deviance is the size of a deviance residual; for squared loss, of the residual itself.
    z = np.sqrt(new.L) if (new.L >= 0).all() else np.abs(new.L - np.median(new.L))
    n, limit = len(z), THRESHOLDS["tail index"]
    try:
        theta = tail_index(z, fraction=max(0.1, 10 / n), random_state=random_state)
    except ValueError:  # a tail of zeros
        return "tails", "no tail", FINE
    verdict = DANGER if theta.high < limit else UNKNOWN if theta.estimate < limit or n < 100 else FINE
    return "tails", f"{theta.estimate:.2f} [{theta.low:.2f}, {theta.high:.2f}]", verdict


def steepness(loss, new):
    first, _, apart = _slopes(loss, new)
    push = np.abs(first) * (new.w * np.abs(apart)).max(1)  # the largest derivative in a logit
    pushing = (push**2).sum() ** 2 / (push**4).sum() if push.any() else float(len(push))
    low, high = (np.exp(-new.L.max()), 1.0) if loss.is_classification else (new.a.min(), new.a.max())
    y = None if loss.is_classification else (new.y.min(), new.y.max())
    K = lipschitz_constant(loss, low, high, y=y) if low < high else np.abs(first).max()
    limit = min(THRESHOLDS["pushing"][0], THRESHOLDS["pushing"][1] * len(push))
    verdict = DANGER if pushing < limit else UNKNOWN if pushing < 2 * limit else FINE
    yield "steepness", f"{pushing:.0f} of {len(push)}, K {K:.3g}", verdict

    # Calibrated probabilities below e belong to what happens with probability at most e for each class; a count of mean
    # e is positive with at most e.
    n, lost = len(new.y), 0
    if loss.is_classification:
        chance, limit = np.exp(-new.L), THRESHOLDS["calibrated"] / (n * new.F.shape[2])
        lost = (new.F[np.arange(n), :, new.y.astype(int)] <= PROBABILITY_FLOOR).all(1).sum()
    elif loss.power == 1:
        chance, limit = new.a[new.y > 0], THRESHOLDS["calibrated"] / n
    else:
        return
    missed = (chance < limit).sum()
    yield "near zero", f"{missed} below {limit:.1g}, {lost} at all models' floor", DANGER if missed or lost else FINE


def smoothness(average, new, random_state):
    if new.X.ndim == 2:
        spread = new.X.std(0)
        Z = new.X / np.where(spread > 0, spread, 1)
        some = np.random.default_rng(random_state).permutation(len(Z))[:MOST]
        distance, index = (part[:, 1] for part in NearestNeighbors(n_neighbors=2).fit(Z).kneighbors(Z[some]))
        change = np.abs(new.w[some] - new.w[index]).sum(1) / 2
        steep = (change[distance > 0] / distance[distance > 0]).max(initial=0)
        typical = np.quantile(change, 0.95)
        low, high = THRESHOLDS["neighbours"]
        verdict = FINE if typical <= low else DANGER if typical > high else UNKNOWN
        yield "smoothness", f"{typical:.2f}, steepest {steep:.2g} per sd", verdict
    else:
        yield "smoothness", "X is no table", UNKNOWN

    number = np.exp(-(new.w * np.log(np.maximum(new.w, 1e-300))).sum(1).mean())
    certain = (new.w.max(1) > 0.999).mean()
    verdict = DANGER if certain > THRESHOLDS["saturation"] and hasattr(average, "network_") else FINE
    yield "models in use", f"{number:.1f} of {new.w.shape[1]}, {certain:.0%} saturated", verdict


def size(average, new, n, borrowed):
    network = getattr(average, "network_", None)
    # several networks that are averaged follow the sample less, not more, than one of them: the largest counts
    bodies = getattr(getattr(network, "body", None), "bodies", [network])
    S = max(sum(p.numel() for p in body.parameters()) for body in bodies) if network is not None else new.w.shape[1] - 1
    low, high = THRESHOLDS["parameters"]
    value = (
        f"S {S}, n {n}{' (new data)' if borrowed else ''}, d {np.prod(new.X.shape[1:], dtype=int)}, M {new.w.shape[1]}"
    )
    return "size", value, FINE if low * n >= S else DANGER if high * n < S else UNKNOWN


def reach(loss, new, random_state):
    # A forest learns on one half where the mean lies beyond the hull; the other half, whose noise it has not seen, says
    # whether it does. If the mean lies in the hull, y exceeds its upper end by at most zero on average on any set that
    # was chosen without looking at y.
    y, f = _columns(loss, new)
    features = np.c_[new.X.reshape(len(y), -1), new.F.reshape(len(y), -1)]
    beyond = np.zeros((len(y), y.shape[1], 2))
    for learn, check in KFold(2, shuffle=True, random_state=random_state).split(features):
        forest, some = (
            RandomForestRegressor(50, min_samples_leaf=5, random_state=random_state),
            learn[:: -(-len(learn) // MOST)],
        )
        guess = forest.fit(features[some], y[some].squeeze()).predict(features[check]).reshape(len(check), -1)
        for side, (sign, end) in enumerate(((1, f[check].max(1)), (-1, f[check].min(1)))):
            beyond[check, :, side] = np.where(sign * (guess - end) > 0, sign * (y[check] - end), 0)
    mean, error = _gap(np.zeros((*beyond.shape[1:], 2)), np.moveaxis(beyond, 0, -1))
    z = np.divide(mean, error, out=np.zeros_like(error), where=error > 0)
    return "reach", f"{z.max():.1f} errors", FINE if z.max() > norm.isf(THRESHOLDS["level"] / z.size) else UNKNOWN


def new_points(average, loss, new, old):
    if old is None:
        yield "gap", "train not given", UNKNOWN
        yield "drift", "train not given", UNKNOWN
    else:
        gap, error = _gap(old.L, new.L)
        verdict = DANGER if gap - 2 * error > THRESHOLDS["gap"] * old.L.mean() else FINE
        yield "gap", f"{gap:.3g} +- {error:.2g}, from {old.L.mean():.3g}", verdict
        before, after = (s.X.reshape(len(s.y), -1).T for s in (old, new))
        p = min(1, min(ks_2samp(u, v).pvalue for u, v in zip(before, after, strict=True)) * len(before))
        yield "drift", f"p {p:.2g}", DANGER if p < THRESHOLDS["level"] else FINE

    error = new.L if loss.is_classification else new.y - new.a
    error = error - error.mean()
    both = error[1:] * error[:-1]
    z = (
        both.sum() / np.sqrt((both**2).sum()) if both.any() else 0.0
    )  # White's error: noise may grow or shrink along the way
    yield "order", f"{z:.1f}", DANGER if abs(z) > norm.isf(THRESHOLDS["level"] / 2) else FINE

    gain = loss(new.y, _global(loss, new, old) if hasattr(average, "network_") else new.F.mean(1)) - new.L
    mean, error = gain.mean(), gain.std(ddof=1) / len(gain) ** 0.5
    yield "pays", f"{mean:.3g} +- {error:.2g}", FINE if mean > 2 * error else DANGER if mean < -2 * error else UNKNOWN


def _global(loss, new, old):
    """Predictions with global weights from the training data, or from the other four fifths of the new."""
    if old is not None:
        return np.einsum("m,nm...->n...", global_weights(old.F, old.y, loss), new.F)
    rival = np.empty_like(new.a)
    for learn, check in KFold(5, shuffle=True, random_state=0).split(new.F):
        rival[check] = np.einsum("m,nm...->n...", global_weights(new.F[learn], new.y[learn], loss), new.F[check])
    return rival


def identification(average, loss, new, n):
    first, second, apart = _slopes(loss, new)
    B = apart @ null_space(np.ones((1, apart.shape[1])))  # weights sum to one, so only contrasts of models count
    H, J = (B.T * np.maximum(second, 0)) @ B / len(B), (B.T * first**2) @ B / len(B)
    values = np.linalg.eigvalsh(H)
    if not second.any():  # straight pieces, such as the absolute loss: autograd sees none of the mean's curvature
        return "identification", "no curvature", UNKNOWN
    error = np.inf
    if values[0] > 1e-12 * values[-1]:
        inverse = np.linalg.inv(H)
        error = (np.linalg.eigvalsh(inverse @ J @ inverse)[-1] / n) ** 0.5
    distance = ((apart[:, :, None] - apart[:, None]) ** 2).mean(0) + np.diag(np.full(apart.shape[1], np.inf))
    closest = ", ".join(average.model_names_[m] for m in np.unravel_index(distance.argmin(), distance.shape))
    verdict = DANGER if error > THRESHOLDS["weight error"] else FINE
    return "identification", f"{error:.2g} (closest: {closest})", verdict
