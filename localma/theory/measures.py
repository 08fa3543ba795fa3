"""What the audit measures, row by row, and where a verdict turns."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import null_space
from scipy.stats import binom, ks_2samp, mannwhitneyu, norm, poisson, skew, t
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import NearestNeighbors

from localma.engine import global_weights
from localma.losses import PROBABILITY_FLOOR
from localma.theory.identification import optimal_segment
from localma.theory.lipschitz import lipschitz_constant
from localma.theory.sample import columns, slopes
from localma.theory.tails import tail_index

__all__ = ["THRESHOLDS"]

FINE, DANGER, UNKNOWN = "looks fine", "in danger", "cannot tell"
FEWEST = 20  # observations; below, no row would say anything
MOST = 5000  # observations for which a nearest neighbour is sought, or with which a forest is grown

#: Where a verdict turns, and why there.
#:
#: - "tail index", of root losses: Condition 2 admits every index above zero, so an alarm needs an index that *falls*
#:   from the upper two fifths to the upper tenth, with intervals that do not meet, to less than this.
#: - "pushing": fewer than five observations, or one in a hundred, decide where the weights go; Gaussian errors alone
#:   give n / 3. Twice as many: cannot tell.
#: - "neighbours": weight that moves between nearest neighbours. More than half is hardly seen to be smooth, more than
#:   three quarters is not.
#: - "slope" of the weights per standard deviation of X: half of the weight within a twentieth of it is a jump.
#: - "saturation": this share of the points has a weight above 0.999, logits of 7 and more: a choice and not an average.
#: - "parameters" per observation: five observations for each parameter are comfortable, less than one is not.
#: - "gap", in shares of the training loss: a tenth is what a reader would call a difference. It must be exceeded by two
#:   standard errors.
#: - "weight error": a standard error of 1/4 in constant weights has an interval that covers most of the simplex.
#: - "segment": where optimal weights form segments of more than a quarter of the simplex, single weights say little.
#: - "shared" rows, in shares of the new: those that are training rows as well.
#: - "range": a prediction beyond all responses by more than twice their range is no prediction of a response.
#: - "level": false-alarm probability of each of the tests frozen, drift, order (at most that) and reach (about that).
#: - "calibrated": the same for near zero, if probabilities are calibrated and counts Poisson.
THRESHOLDS = {
    "tail index": 0.75,
    "pushing": (5, 0.01),
    "neighbours": (0.5, 0.75),
    "slope": 10.0,
    "saturation": 0.5,
    "parameters": (0.2, 1.0),
    "gap": 0.1,
    "weight error": 0.25,
    "segment": 0.25,
    "shared": 0.01,
    "range": 2.0,
    "level": 0.001,
    "calibrated": 0.01,
}


#: False-alarm probability of each row that is a test; of gap and pays, that of two standard errors.
LEVELS = dict.fromkeys(("frozen", "drift", "order", "reach"), THRESHOLDS["level"]) | {
    "near zero": THRESHOLDS["calibrated"],
    "gap": norm.sf(2),
    "pays": norm.sf(2),
}


def models(average, loss, new, old, sizes, n):
    if sizes is None:
        yield "limits", "sizes not given", UNKNOWN
    else:
        yield "limits", f"smallest N {min(sizes)}, n {n}", FINE if min(sizes) > n else DANGER

    y, f = columns(loss, new.y, new.said)
    width, beyond = np.ptp(y), np.maximum(f - y.max(), y.min() - f).max(axis=(0, 2)).clip(0)
    worst, far = average.model_names_[int(beyond.argmax())], beyond.max() > THRESHOLDS["range"] * width
    yield "extrapolation", f"{beyond.max() / width if width else np.inf:.2g} ranges ({worst})", DANGER if far else FINE

    if old is None:
        yield "frozen", "train not given", UNKNOWN
        return
    # Frozen models' losses are exchangeable between the samples, if these are: a permutation test, exact in every n.
    M = len(average.model_names_) - (average.direct_ is not None)  # the average's own learner is not frozen
    before, after = (np.array([loss(s.y, s.F[:, m]) for m in range(M)]).T for s in (old, new))
    growth, scale = after.mean(0) - before.mean(0), np.concatenate([before, after]).std(0)
    sums, counts = (np.concatenate(part) for part in zip(_sums(before, old.g), _sums(after, new.g), strict=True))
    k, scale = new.g.max() + 1, np.where(scale > 0, scale, 1)

    def growths(orders):
        S, c = sums[orders[:, :k]].sum(1), counts[orders[:, :k], None].sum(1)
        return ((S / c - (sums.sum(0) - S) / (counts.sum() - c)) / scale).max(1)

    m = (growth / scale).argmax()
    p = _permutation(growths, (growth / scale)[m], len(sums))
    leaks = p < THRESHOLDS["level"] and growth[m] > THRESHOLDS["gap"] * before[:, m].mean()
    yield "frozen", f"p {p:.2g} ({average.model_names_[m]})", DANGER if leaks else FINE, p


def _sums(values, g):
    """Sums of values (n, ...) within groups, and how many they have."""
    sums = np.zeros((g.max() + 1, *values.shape[1:]))
    np.add.at(sums, g, values)
    return sums, np.bincount(g)


def _permutation(statistic, observed, size, most=9999, enough=10):
    """p-value of a permutation test; it stops early where that is clear (Besag and Clifford, 1991)."""
    rng, above, done = np.random.default_rng(0), 0, 0
    while done < most:
        batch = min(100, most - done)
        orders = rng.permuted(np.tile(np.arange(size), (batch, 1)), axis=1)
        exceeds = statistic(orders) >= observed - 1e-12 * abs(observed)
        if above + exceeds.sum() >= enough:
            return enough / (done + 1 + np.flatnonzero(exceeds)[enough - above - 1])
        above, done = above + exceeds.sum(), done + batch
    return (above + 1) / (most + 1)


def _error(values, g):
    """Standard error of a mean of values (n, ...) whose groups are independent of each other."""
    sums = _sums(values - values.mean(0), g)[0]
    return np.sqrt((sums**2).sum(0) * len(sums) / max(len(sums) - 1, 1)) / len(values)


def separation(loss, new):
    """Whether the mean loss of some responses is least at their mean: of several sets, a Bregman loss in each."""
    if loss.is_classification:
        return "separation", "cross-entropy", FINE
    y = torch.as_tensor(new.y)
    parts = [part for part in (y, y[::2], y[: len(y) // 2], y[y >= y.median()]) if part.any()]
    slopes = [loss.derivatives(part, part.mean().expand(len(part)))[0] for part in parts]
    off = max((s.mean().abs() / s.abs().mean().clamp(min=1e-300)).item() for s in slopes)
    value = f"slope of the mean loss at the mean: {off:.1g}"
    return "separation", value, DANGER if not off < 1e-6 else FINE if loss.phi is not None else UNKNOWN


def tails(loss, new, random_state):
    if loss.is_classification:
        return "tails", f"bounded by {-np.log(PROBABILITY_FLOOR):.0f}, largest {new.L.max():.2g}", FINE
    values, times = np.unique(new.y, return_counts=True)
    if len(values) <= 2:
        return "tails", "two responses: bounded", FINE
    # The root of a deviance is the size of a deviance residual; for squared loss, of the residual itself.
    z = np.sqrt(new.L) if (new.L >= 0).all() else np.abs(new.L - np.median(new.L))
    if times[0] > 0.1 * len(z):  # mostly zeros, say: the tail is that of what happened
        z = z[new.y > values[0]]
    n, limit = len(z), THRESHOLDS["tail index"]
    if n < FEWEST:
        return "tails", f"{n} responses above the lowest", UNKNOWN
    try:
        wide, theta = (tail_index(z, fraction=max(f, 10 / n), random_state=random_state) for f in (0.4, 0.1))
    except ValueError:  # a tail of zeros
        return "tails", "no tail", FINE
    falls = theta.high < wide.low
    verdict = DANGER if falls and theta.high < limit else UNKNOWN if falls or n < 100 else FINE
    return "tails", f"{theta.estimate:.2f} [{theta.low:.2f}, {theta.high:.2f}], from {wide.estimate:.2f}", verdict


def steepness(loss, new):
    first, _, apart = slopes(loss, new)
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
    missed, p = (chance < limit).sum(), min(1, THRESHOLDS["calibrated"] * chance.min(initial=1) / limit)
    yield "near zero", f"{missed} below {limit:.1g}, {lost} at all models' floor", DANGER if missed or lost else FINE, p


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
        jumps = typical > high or steep > THRESHOLDS["slope"]
        verdict = DANGER if jumps else FINE if typical <= low else UNKNOWN
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
    (low, high), d = THRESHOLDS["parameters"], np.prod(new.X.shape[1:], dtype=int)
    value = f"S {S}, n {n}{' (new data)' if borrowed else ''}, d {d}, M {new.w.shape[1]}"
    return "size", value, FINE if low * n >= S else DANGER if high * n < S else UNKNOWN


def reach(loss, new, random_state):
    # A forest learns on one half where the mean lies beyond the hull; the other half, whose noise it has not seen, says
    # whether it does. If the mean lies in the hull, y exceeds its upper end by at most zero on average on any set that
    # was chosen without looking at y.
    y, f = columns(loss, new.y, new.F)
    features = np.c_[new.X.reshape(len(y), -1), new.F.reshape(len(y), -1)]
    beyond, ends = np.full((2, len(y), y.shape[1], 2), np.nan)
    folds = GroupKFold(2, shuffle=True, random_state=random_state)
    for learn, check in folds.split(features, groups=new.g):
        forest = RandomForestRegressor(50, min_samples_leaf=5, random_state=random_state)
        some = learn[:: -(-len(learn) // MOST)]
        guess = forest.fit(features[some], y[some].squeeze()).predict(features[check]).reshape(len(check), -1)
        for side, (sign, end) in enumerate(((1, f[check].max(1)), (-1, f[check].min(1)))):
            chosen = sign * (guess - end) > 0
            beyond[check, :, side] = np.where(chosen, sign * (y[check] - end), np.nan)
            ends[check, :, side] = np.where(chosen, end, np.nan)
    found = [
        _beyond(loss, y[:, c], beyond[:, c, side], ends[:, c, side], side, new.g)
        for c in range(y.shape[1])
        for side in (0, 1)
    ]
    z, p = max(z for z, _ in found), min(1, len(found) * min(p for _, p in found))
    return "reach", f"{z:.1f} errors, p {p:.2g}", FINE if p < THRESHOLDS["level"] else UNKNOWN, p


def _beyond(loss, y, beyond, ends, side, g):
    """How many standard errors responses lie beyond an end of the hull, and a p-value; NaN are not asked."""
    some = ~np.isnan(beyond)
    groups, blocks = np.unique(g[some], return_inverse=True)
    if len(groups) < FEWEST:
        return 0.0, 1.0
    v = _sums(beyond[some], blocks)[0]
    k, mean, sd = len(v), v.mean(), v.std(ddof=1)
    if sd == 0:
        return 0.0, 1.0
    # Skewed to the left, rare responses above the lower end say, t comes out too large: Johnson's (1978) correction.
    lean = min(0.0, skew(v))
    z = (mean + lean * sd / (6 * k) + lean * mean**2 / (3 * sd)) / (sd / k**0.5)
    p, total, most = t.sf(z, k - 1), y[some].sum(), ends[some].sum()
    if np.isin(y, (0, 1)).all():  # Hoeffding (1956): unequal chances are no worse than equal ones
        law = binom(some.sum(), min(max(most / some.sum(), 0), 1))
    elif loss.power == 1:
        law = poisson(max(most, 0))
    else:
        return z, p
    return z, max(p, law.cdf(total) if side else law.sf(total - 1))


def new_points(average, loss, new, old):
    if old is None:
        for row in ("gap", "drift", "shared rows"):
            yield row, "train not given", UNKNOWN
    else:
        # one spread for both samples: a small one that is lucky in its mean is lucky in its own spread, too
        both = np.concatenate([s.L - s.L.mean() for s in (old, new)])
        ratio = len(old.L) / len(new.L)
        error = _error(both, np.concatenate([old.g, new.g + old.g.max() + 1])) * (ratio + 2 + 1 / ratio) ** 0.5
        gap = new.L.mean() - old.L.mean()
        p = _tail(gap - THRESHOLDS["gap"] * old.L.mean(), error)
        value = f"{gap:.3g} +- {error:.2g}, from {old.L.mean():.3g}"
        yield "gap", value, DANGER if p < LEVELS["gap"] else FINE, p
        yield drift(old, new)
        yield shared(old, new)

    errors = new.L if loss.is_classification else new.y - new.a
    sums, counts = _sums(errors, new.g)
    mean = (sums / counts)[new.g[np.sort(np.unique(new.g, return_index=True)[1])]]  # of groups, as they came
    mean = mean - mean.mean()

    def correlations(orders):
        both = mean[orders[:, 1:]] * mean[orders[:, :-1]]
        error = np.sqrt((both**2).sum(1))  # White's error: noise may grow or shrink along the way
        return np.divide(both.sum(1), error, out=np.zeros(len(both)), where=error > 0)

    z = correlations(np.arange(len(mean))[None])[0]
    p = _permutation(lambda orders: abs(correlations(orders)), abs(z), len(mean))
    yield "order", f"{z:.1f}, p {p:.2g}", DANGER if p < THRESHOLDS["level"] else FINE, p

    gain = loss(new.y, _global(loss, new, old) if hasattr(average, "network_") else new.F.mean(1)) - new.L
    gain[np.abs(gain) <= 1e-12 * np.abs(new.L)] = 0  # rounding: weights that are the same neither gain nor lose
    mean, error = gain.mean(), _error(gain, new.g)
    wins, loses = _tail(mean, error), _tail(-mean, error)
    verdict = FINE if wins < LEVELS["pays"] else DANGER if loses < LEVELS["pays"] else UNKNOWN
    yield "pays", f"{mean:.3g} +- {error:.2g}", verdict, loses


def _tail(mean, error):
    """p-value of a mean that should not be above zero."""
    return norm.sf(mean / error) if error > 0 else float(mean <= 0)


def drift(old, new):
    """Each column by Kolmogorov and Smirnov, and all with the response by a forest that learns on one half."""
    # one row for each group: rows of one group are no independent witnesses
    old, new = (np.c_[s.X.reshape(len(s.y), -1), s.y][np.unique(s.g, return_index=True)[1]] for s in (old, new))
    p = min(ks_2samp(u, v).pvalue for u, v in zip(old.T[:-1], new.T[:-1], strict=True)) * (old.shape[1] - 1)
    halves = [np.random.default_rng(0).permutation(part)[: 2 * MOST] for part in (old, new)]
    learn, check = ([half[i::2] for half in halves] for i in (0, 1))
    forest = RandomForestClassifier(50, min_samples_leaf=5, class_weight="balanced", random_state=0)
    forest.fit(np.concatenate(learn), np.repeat([0, 1], [len(part) for part in learn]))
    scores = [forest.predict_proba(part)[:, 1] for part in check]
    p = min(1, 2 * min(p, mannwhitneyu(scores[1], scores[0], alternative="greater").pvalue))
    return "drift", f"p {p:.2g}", DANGER if p < THRESHOLDS["level"] else FINE, p


def shared(old, new):
    """Rows that are training rows as well, the response included; with few distinct rows it happens by chance."""
    rows = [list(map(bytes, np.ascontiguousarray(np.c_[s.X.reshape(len(s.y), -1), s.y], float))) for s in (old, new)]
    seen = set(rows[0])
    share, chance = np.mean([row in seen for row in rows[1]]), 1 - len(seen) / len(rows[0])
    low = THRESHOLDS["shared"]
    verdict = FINE if share <= low else DANGER if share > 2 * chance else UNKNOWN
    return "shared rows", f"{share:.0%} of the new", verdict


def _global(loss, new, old):
    """Predictions with global weights from the training data, or from the other four fifths of the new."""
    if old is not None:
        return np.einsum("m,nm...->n...", global_weights(old.F, old.y, loss), new.F)
    rival = np.empty_like(new.a)
    for learn, check in KFold(5, shuffle=True, random_state=0).split(new.F):
        rival[check] = np.einsum("m,nm...->n...", global_weights(new.F[learn], new.y[learn], loss), new.F[check])
    return rival


def identification(average, loss, new, n):
    first, second, apart = slopes(loss, new)
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
    verdict, value = DANGER if error > THRESHOLDS["weight error"] else FINE, f"{error:.2g} (closest: {closest})"
    if hasattr(average, "network_") and new.F.shape[1:] == (3,):  # one response, three models: a segment at each x
        ends = optimal_segment(new.F, (new.w * new.F).sum(1))
        length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=-1).mean() / 2**0.5
        value += f", segments {length:.0%} of the simplex"
        verdict = UNKNOWN if verdict == FINE and length > THRESHOLDS["segment"] else verdict
    return "identification", value, verdict
