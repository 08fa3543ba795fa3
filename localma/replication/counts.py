"""Doctor's visits: five insurers price their own customers, and their books are merged (the RAND health insurance experiment).

The table comes with statsmodels (``statsmodels.datasets.randhie``): 20,190 customer-years, the number of outpatient visits in each, and nine covariates
of contract and health. Each insurer knows one kind of customer: four sell one contract each and take only the healthy, a fifth takes everybody
else, whatever the contract. Healthy means: no physical limitation, health rated good or excellent. Generalized linear models and forests alternate. All of
them are frozen; weights are learned from n customer-years of the whole population, under the Poisson Kullback-Leibler loss.

The table names no persons, but the years of a person stand in consecutive rows and share what never changes. :func:`persons` finds these runs, and a
repetition deals whole runs to the insurers, to the sample and to the test, so that nobody stands on two sides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import PoissonRegressor
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from localma.baselines import global_weights
from localma.direct import DirectModel
from localma.losses import LOSSES
from localma.network import mlp
from localma.replication.runner import run_parts, summarise, write_results
from localma.shrinkage import FOLDS, MEMBERS, MULTIPLES, fit_shrunk_stack, grid, member_seeds, rescale, soften, subset
from localma.training import Options, fit_stack

__all__ = [
    "COVARIATES",
    "FACTORS",
    "INSURERS",
    "METHODS",
    "SIZES",
    "Draw",
    "chosen",
    "clientele",
    "deviance",
    "direct_glm",
    "direct_network",
    "findings",
    "fit_forest",
    "fit_glm",
    "insurers",
    "load",
    "local_weights",
    "persons",
    "predict",
    "repeat",
    "replicate",
    "run",
    "sample",
    "tabulate",
    "tune",
]

COVARIATES = ("lncoins", "idp", "lpi", "fmde", "physlm", "disea", "hlthg", "hlthf", "hlthp")
#: What never changes over a person's years in the table.
FIXED = ("lncoins", "idp", "lpi", "fmde", "physlm", "disea")
#: Each insurer's customers, and the kind of its model.
INSURERS = {
    "free": ("healthy, pay nothing", "glm"),
    "deductible": ("healthy, pay the first part of a year's bills themselves", "forest"),
    "quarter": ("healthy, pay a quarter", "glm"),
    "half": ("healthy, pay half or 95 per cent", "forest"),
    "fund": ("not healthy, whatever they pay", "glm"),
}
#: Sizes of the sample from which weights (or a direct model) are learned.
SIZES = (300, 600, 1500, 3000, 6000)
#: Customer-years for the insurers, to draw samples from, and for the test.
PARTS = (8000, 6000, 6000)
#: A forest gives no price on fewer customer-years; so no price is zero either.
METHODS = (
    "LocalMA",
    "LocalMA untuned",
    "GW",
    "EWMA",
    "BestModel",
    "OwnInsurer",
    "DirectGLM",
    "DirectForest",
    "DirectModel",
    "OnePrice",
)
#: LocalMA with a penalty of each sample's own choice, by cross-validation over rows (the package's ``shrinkage="cv"``) or over persons.
FOLD_METHODS = ("CV rows", "CV persons")
#: Penalties of LocalMA and of the direct network that pilots choose from, in units of the package's own, which falls with the power 3/4 of n.
FACTORS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
PILOT = 10_000  # pilot repetitions, of which penalties are chosen, are numbered from here
FULL, QUICK, CHUNK = 30, 4, 5
#: Sizes, repetitions and repetitions of a part of the comparison of folds.
FOLD_SIZES = SIZES[::2]
FOLD_FULL, FOLD_QUICK, FOLD_CHUNK = 8, 2, 2
RIDGE = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
FOREST = {"n_estimators": 100, "criterion": "poisson", "min_samples_leaf": 20}


@cache
def _table() -> pd.DataFrame:
    from statsmodels.datasets import randhie  # with the plots extra, as in the walks

    return randhie.load_pandas().data.astype(float)


def load() -> tuple[np.ndarray, np.ndarray]:
    """Covariates (20190, 9), in the order of ``COVARIATES``, and visits (20190,).

    Examples
    --------
    >>> from localma.replication import counts
    >>> X, y = counts.load()
    >>> X.shape, f"{y.mean():.2f}"
    ((20190, 9), '2.86')
    """
    table = _table()
    return table[list(COVARIATES)].to_numpy(copy=True), table["mdvis"].to_numpy(copy=True)


def persons(X: np.ndarray) -> np.ndarray:
    """Number of each row's run of consecutive rows that share contract, limitation and chronic diseases: a person, at times a few of one family.

    Parameters
    ----------
    X : array of shape (N, 9)
        In the table's order.

    Returns
    -------
    array of shape (N,)

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication import counts
    >>> sizes = np.bincount(counts.persons(counts.load()[0]))
    >>> len(sizes), np.bincount(sizes).argsort()[:-3:-1].tolist()  # runs, and their two commonest lengths
    (5094, [3, 5])
    """
    fixed = X[:, [COVARIATES.index(name) for name in FIXED]]
    return np.concatenate([[0], (np.diff(fixed, axis=0) != 0).any(1).cumsum()])


def clientele(X: np.ndarray) -> np.ndarray:
    """Whose customer each row was: number of the insurer in the order of ``INSURERS``, (N,)."""
    at = dict(zip(COVARIATES, X.T, strict=True))
    share = np.exp(at["lncoins"]) - 1  # in per cent
    contract = np.select([at["idp"] == 1, share < 1, share < 40], [1, 0, 2], 3)
    healthy = (at["physlm"] < 0.5) & (at["hlthf"] == 0) & (at["hlthp"] == 0)
    return np.where(healthy, contract, 4)


class _GLM(NamedTuple):
    coefficients: np.ndarray
    columns: np.ndarray

    def predict(self, X):
        return np.exp(self.coefficients[0] + X[:, self.columns] @ self.coefficients[1:])


def fit_glm(X: np.ndarray, y: np.ndarray) -> _GLM:
    """Poisson regression (statsmodels, log link) on the columns of X (n, d) that vary; it has ``predict``."""
    from statsmodels.api import GLM, families

    columns = np.flatnonzero(np.ptp(X, axis=0) > 0)
    design = np.column_stack([np.ones(len(X)), X[:, columns]])
    return _GLM(np.asarray(GLM(y, design, family=families.Poisson()).fit().params), columns)


def fit_forest(X: np.ndarray, y: np.ndarray, seed: int) -> RandomForestRegressor:
    """A forest of scikit-learn's, grown with the Poisson criterion."""
    return RandomForestRegressor(random_state=seed, **FOREST).fit(X, y)


def insurers(X: np.ndarray, y: np.ndarray, seed: int, kinds: Sequence[str] | None = None) -> list[tuple[str, object]]:
    """Each insurer's model, fitted to its own customers among the rows given.

    Parameters
    ----------
    X : array of shape (n, 9)
    y : array of shape (n,)
    seed : int
        Of the forests.
    kinds : sequence of {"glm", "forest"}, optional
        One for each insurer; default those of ``INSURERS``.

    Returns
    -------
    list of (name, model) pairs
        As :class:`localma.LocalMA` takes them.
    """
    kinds = [kind for _, kind in INSURERS.values()] if kinds is None else list(kinds)
    if len(kinds) != len(INSURERS) or not set(kinds) <= {"glm", "forest"}:
        raise ValueError(f"kinds must name 'glm' or 'forest' for each of the {len(INSURERS)} insurers, but is {kinds}")
    home = clientele(X)
    found = []
    for m, (name, kind) in enumerate(zip(INSURERS, kinds, strict=True)):
        own = home == m
        found.append((name, fit_glm(X[own], y[own]) if kind == "glm" else fit_forest(X[own], y[own], seed + m)))
    return found


class Draw(NamedTuple):
    """One repetition: a sample to learn from, a test, and what the five frozen models predict for both. R repetitions have an axis in front."""

    X: np.ndarray  #: (n, 9)
    y: np.ndarray  #: (n,), visits
    F: np.ndarray  #: (n, 5), expected visits by each insurer's model
    X_test: np.ndarray  #: (6000, 9)
    y_test: np.ndarray
    F_test: np.ndarray
    home_test: np.ndarray  #: (6000,), whose customer each row of the test was
    person_test: np.ndarray  #: (6000,), number of the person
    person: np.ndarray  #: (n,), the same for the sample


def sample(n: int, rng: np.random.Generator, *, kinds: Sequence[str] | None = None, by: str = "person") -> Draw:
    """One repetition: cut the table, fit the insurers' models to their part, draw n customer-years to learn from.

    Parameters
    ----------
    n : int
        At most 6,000. The first rows of a larger sample are a smaller one's: rows stand in random order.
    rng : numpy Generator
    kinds : sequence of {"glm", "forest"}, optional
        As in :func:`insurers`.
    by : {"person", "row"}
        What the cut keeps together. "row" puts years of one person on several sides, which is wrong; an exercise shows what it does.

    Returns
    -------
    Draw

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication import counts
    >>> draw = counts.sample(300, np.random.default_rng(0))
    >>> draw.F.shape, draw.F_test.shape, bool(draw.F.min() > 0)
    ((300, 5), (6000, 5), True)
    """
    if not 1 <= n <= PARTS[1]:
        raise ValueError(f"n must lie between 1 and {PARTS[1]}, but is {n}")
    if by not in ("person", "row"):
        raise ValueError(f"by must be 'person' or 'row', but is {by!r}")
    X, y = load()
    who = persons(X)
    unit = who if by == "person" else np.arange(len(y))
    rank = rng.permutation(unit.max() + 1)[unit]
    order = np.argsort(rank, kind="stable")
    # a part ends with the person who fills it; what is then left over of the table goes to the test
    ends, start = [], 0
    for size in PARTS[:2]:
        last = rank[order[start + size - 1]]
        start = int(np.searchsorted(rank[order], last, side="right"))
        ends.append(start)
    first, pool, test = np.split(order, ends)
    pool, test = rng.permutation(pool)[:n], rng.permutation(test)[: PARTS[2]]
    with threadpool_limits(1):
        models = insurers(X[first], y[first], int(rng.integers(2**31 - len(INSURERS))), kinds)
        F, F_test = (np.stack([model.predict(X[rows]) for _, model in models], 1) for rows in (pool, test))
    return Draw(X[pool], y[pool], F, X[test], y[test], F_test, clientele(X[test]), who[test], who[pool])


def generator(repetition: int, seed: int = 0) -> np.random.Generator:
    """The randomness of one repetition."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(repetition,)))


def repeat(repetitions: int | range = 10, *, seed: int = 0, n: int = PARTS[1], **more) -> Draw:
    """Several repetitions, stacked: every array of :class:`Draw` with an axis of repetitions in front.

    Parameters
    ----------
    repetitions : int or range
        How many, or which.
    seed : int
    n, **more
        As in :func:`sample`.
    """
    which = range(repetitions) if isinstance(repetitions, int) else repetitions
    draws = [sample(n, generator(r, seed), **more) for r in tqdm(which, desc="insurers", unit="cut", delay=5, leave=False)]
    return Draw(*map(np.stack, zip(*draws, strict=True)))


def direct_glm(X: np.ndarray, y: np.ndarray, person: np.ndarray):
    """Poisson regression with a ridge penalty chosen by five-fold cross-validation, each person in one fold.

    Without a penalty, a rare group that made no visit in the sample gets a mean of zero.
    """
    search = GridSearchCV(
        make_pipeline(StandardScaler(), PoissonRegressor(max_iter=1000)),
        {"poissonregressor__alpha": list(RIDGE)},
        scoring="neg_mean_poisson_deviance",
        cv=GroupKFold(5),
    )
    return search.fit(X, y, groups=person)


def direct_network(X: np.ndarray, y: np.ndarray, seed: int, factor: float) -> DirectModel:
    """The package's direct model, a network of 16 hidden units, with ``factor`` times the package's own penalty."""
    options = Options(learning_rate=0.01, steps=500, penalty=factor * Options().resolve(len(y)).penalty)
    network = mlp(X.shape[1], 1, random_state=seed)
    return DirectModel(network, loss="poisson", training=options, progress=False, random_state=seed).fit(X, y)


def local_weights(data: Draw, n: int, seeds: Sequence[int], factor: float, X_new: np.ndarray) -> np.ndarray:
    """Weights (R, ..., 5) of LocalMA at ``X_new`` (R, ..., 9), learned from the first n, with ``factor`` times the package's own penalty."""
    options = Options(penalty=factor * Options().resolve(n).penalty)
    fit = fit_stack(*_tensors(data, n), LOSSES["poisson"], seeds=seeds, options=options)
    return fit.weights(torch.as_tensor(X_new, dtype=torch.float32)).double().numpy()


def deviance(y: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Poisson deviance, twice the Kullback-Leibler loss, of each observation; arrays of one shape."""
    y, a = np.broadcast_arrays(y, a)
    return LOSSES["poisson"](y.ravel(), a.ravel()).reshape(y.shape)


def predict(data: Draw, n: int, seeds: Sequence[int], factors: dict[str, float]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What every method predicts for the test after learning from the first n customer-years; the weight networks are one stack.

    Parameters
    ----------
    data : Draw
        Of R repetitions, from :func:`repeat`.
    n : int
    seeds : sequence of int, length R
        Of the networks and of the direct forest.
    factors : dict
        Penalties of "LocalMA" and "DirectModel" in units of the package's own; from :func:`tune`.

    Returns
    -------
    predictions : dict of method to array (R, 6000)
    weights : array of shape (R, 6000, 5)
        LocalMA's on the test.
    """
    X, y, F = data.X[:, :n], data.y[:, :n], data.F[:, :n]
    weights, untuned = (local_weights(data, n, seeds, factor, data.X_test) for factor in (factors["LocalMA"], 1.0))
    best = deviance(y[..., None], F).mean(1).argmin(1)
    found = {
        "LocalMA": (weights * data.F_test).sum(-1),
        "LocalMA untuned": (untuned * data.F_test).sum(-1),
        "GW": (global_weights(F, y, LOSSES["poisson"])[:, None] * data.F_test).sum(-1),
        "EWMA": data.F_test.mean(-1),
        "BestModel": data.F_test[np.arange(len(y)), :, best],
        "OwnInsurer": np.take_along_axis(data.F_test, data.home_test[..., None], -1)[..., 0],
        "OnePrice": np.broadcast_to(y.mean(1)[:, None], data.y_test.shape),
    }
    direct: dict[str, list] = {"DirectGLM": [], "DirectForest": [], "DirectModel": []}
    with threadpool_limits(1):
        for r, seed in enumerate(seeds):
            direct["DirectGLM"].append(direct_glm(X[r], y[r], data.person[r, :n]).predict(data.X_test[r]))
            direct["DirectForest"].append(fit_forest(X[r], y[r], seed).predict(data.X_test[r]))
            direct["DirectModel"].append(direct_network(X[r], y[r], seed, factors["DirectModel"]).predict(data.X_test[r]))
    return found | {name: np.stack(a) for name, a in direct.items()}, weights


def _tensors(data: Draw, n: int):
    return tuple(torch.as_tensor(a[:, :n], dtype=torch.float32) for a in (data.X, data.F, data.y))


def folds_of_persons(person: np.ndarray, seed: int, folds: int = FOLDS) -> np.ndarray:
    """Which fold holds each row out, (n,): all rows of a person are in one.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication import counts
    >>> fold = counts.folds_of_persons(np.array([7, 7, 2, 2, 9, 7]), seed=0, folds=3)
    >>> len(set(fold)), len(set(fold[[0, 1, 5]]))
    (3, 1)
    """
    names, which = np.unique(person, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % folds)[which]


def cross_validate_persons(X, F, y, person: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`localma.shrinkage.cross_validate` for one sample, but a person's years are held out together.

    Parameters
    ----------
    X, F, y : Tensors of shapes (n, 9), (n, 5), (n,)
    person : array of shape (n,)
    seed : int

    Returns
    -------
    shrinkage : array of shape (L + 1,)
        Candidates, infinity (global weights) last.
    difference : array of shape (n, L + 1)
        Held-out deviance of each row minus that of global weights.
    """
    loss, penalties, n = LOSSES["poisson"], grid(len(y)), len(y)
    held = folds_of_persons(person, seed)
    rows = np.arange(FOLDS).repeat(len(penalties))
    gw = np.stack([global_weights(F[held != k].numpy(), y[held != k].numpy(), loss) for k in range(FOLDS)])
    fit = fit_stack(
        *(a.expand(len(rows), *a.shape) for a in (X, F, y)),
        loss,
        seeds=np.random.SeedSequence(seed).generate_state(FOLDS)[rows],
        penalties=torch.as_tensor(np.tile(penalties, FOLDS), dtype=X.dtype),
        start=torch.as_tensor(soften(gw), dtype=X.dtype)[rows],
        sample_weight=torch.as_tensor(held != rows[:, None], dtype=X.dtype),
    )
    w = fit.weights(X.expand(len(rows), *X.shape)).double().numpy().reshape(FOLDS, len(penalties), n, -1)
    own = w[held, :, np.arange(n)]  # (n, L, 5)
    local = deviance(y.numpy()[:, None], np.einsum("nlm,nm->nl", own, F.double().numpy()))
    constant = deviance(y.numpy(), (gw[held] * F.double().numpy()).sum(1))
    return np.append(penalties, np.inf), np.column_stack([local - constant[:, None], np.zeros(n)])


def clustered_error(values: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Standard error of the mean of ``values`` (n, ...) when rows of one person depend on each other.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication import counts
    >>> values = np.random.default_rng(0).normal(size=100)
    >>> four = np.repeat(values, 4)  # the same information, four times
    >>> float(counts.clustered_error(four, np.repeat(np.arange(100), 4)) / counts.clustered_error(values, np.arange(100)))
    1.0
    """
    centred = values - values.mean(0)
    sums = np.zeros((person.max() + 1, *values.shape[1:]))
    np.add.at(sums, person, centred)
    return np.sqrt((sums**2).sum(0)) / len(values)


def compare_folds(repetitions: range, sizes: Sequence[int], *, seed: int = 0) -> dict[str, np.ndarray]:
    """The penalty chosen by cross-validation over rows, as ``LocalMA(shrinkage="cv")`` does it, and over persons.

    ``METHOD.METRIC.n`` as :func:`replicate` gives them, for the methods "CV rows" and "CV persons"; and ``rows.n``, ``persons.n`` and ``test.n``
    (R, L + 1), the excess over global weights that each penalty has on held-out rows, on held-out persons, and on the test.
    """
    data, loss = repeat(repetitions, seed=seed), LOSSES["poisson"]
    seeds = [1000 * seed + r for r in repetitions]
    R, share = len(seeds), _shares(data)
    found = {}
    for n in sizes:
        sample, X_test = _tensors(data, n), torch.as_tensor(data.X_test, dtype=torch.float32)
        rows = fit_shrunk_stack(*sample, loss, seeds=seeds)
        gw = (rows.global_weights[:, None] * data.F_test).sum(-1)
        # the same with persons held out together
        seen = [subset(n, s) for s in seeds]
        pairs = [
            cross_validate_persons(*(a[r, i] for a in sample), data.person[r, i], s)
            for r, (i, s) in enumerate(zip(seen, seeds, strict=True))
        ]
        difference = np.stack([d.mean(0) for _, d in pairs])
        error = np.stack([clustered_error(d, data.person[r, i]) for r, ((_, d), i) in enumerate(zip(pairs, seen, strict=True))])
        best = difference[:, :-1].argmin(1)
        everyone = np.arange(R)
        chosen = np.where(difference[everyone, best] < -error[everyone, best], best, difference.shape[1] - 1)
        shrinkage = rescale(pairs[0][0], len(seen[0]), n)
        # every penalty on the whole sample: one network each for the truth, five for those that were chosen
        L, start = len(shrinkage) - 1, torch.as_tensor(soften(rows.global_weights), dtype=torch.float32)

        def fit(which, seeds, penalties, sample=sample, start=start, X_test=X_test, data=data):
            stack = fit_stack(
                *(a[which] for a in sample),
                loss,
                seeds=seeds,
                penalties=torch.as_tensor(penalties, dtype=torch.float32),
                start=start[which],
            )
            return (stack.weights(X_test[which]).double().numpy() * data.F_test[which]).sum(-1)

        each = everyone.repeat(L)
        truth = fit(each, np.repeat(seeds, L), np.tile(shrinkage[:-1], R)).reshape(R, L, -1)
        members = everyone.repeat(MEMBERS)
        finite = np.minimum(shrinkage[chosen], shrinkage[-2])
        average = fit(members, np.concatenate([member_seeds(s, MEMBERS) for s in seeds]), finite[members]).reshape(R, MEMBERS, -1).mean(1)
        predictions = {
            "CV rows": (rows.weights(X_test).double().numpy() * data.F_test).sum(-1),
            "CV persons": np.where((chosen == L)[:, None], gw, average),
        }
        base = deviance(data.y_test, gw)
        found |= {f"rows.{n}": rows.cross_validation.difference, f"persons.{n}": difference}
        found[f"test.{n}"] = np.column_stack([deviance(data.y_test[:, None], truth).mean(2) - base.mean(1)[:, None], np.zeros(R)])
        for method, a in predictions.items():
            found[f"{method}.deviance.{n}"] = np.einsum("rgn,rn->rg", share, deviance(data.y_test, a))
            found[f"{method}.balance.{n}"] = np.einsum("rgn,rn->rg", share, a) / np.einsum("rgn,rn->rg", share, data.y_test)
    return found


def tune(pilots: int = 10, *, sizes: Sequence[int] = SIZES[:4], seed: int = 0) -> pd.DataFrame:
    """Deviance of LocalMA and of the direct network for every penalty, on pilot repetitions that the experiment does not use.

    A pilot learns from the first n customer-years of its sample and is judged on the rest of the sample, as far as it holds other persons. Its
    test stays closed.

    Returns
    -------
    DataFrame
        Columns method, n, factor, repetition, excess (deviance above that of GW).
    """
    which = range(PILOT, PILOT + pilots)
    data = repeat(which, seed=seed)
    rows = []
    for n in sizes:
        strangers = [~np.isin(p, p[:n]) for p in data.person]
        gw = global_weights(data.F[:, :n], data.y[:, :n], LOSSES["poisson"])

        def excess(a, strangers=strangers, gw=gw):
            difference = deviance(data.y, a) - deviance(data.y, (gw[:, None] * data.F).sum(-1))
            return [d[s].mean() for d, s in zip(difference, strangers, strict=True)]

        for factor in FACTORS:
            a = (local_weights(data, n, which, factor, data.X) * data.F).sum(-1)
            with threadpool_limits(1):
                networks = [direct_network(data.X[r, :n], data.y[r, :n], k, factor).predict(data.X[r]) for r, k in enumerate(which)]
            for method, found in (("LocalMA", excess(a)), ("DirectModel", excess(np.stack(networks)))):
                rows += [(method, n, factor, r, value) for r, value in zip(which, found, strict=True)]
    return pd.DataFrame(rows, columns=["method", "n", "factor", "repetition", "excess"])


def chosen(trials: pd.DataFrame) -> dict[str, float]:
    """The factor of each method with the smallest excess over all sizes of :func:`tune`."""
    mean = trials.groupby(["method", "factor"])["excess"].mean().unstack()
    return {str(method): float(factor) for method, factor in mean.idxmin(axis=1).items()}


def _shares(data: Draw) -> np.ndarray:
    """Averages over all of the test, and over each insurer's customers in it: (R, 6, 6000)."""
    groups = np.stack([np.ones_like(data.home_test, float), *(data.home_test == m for m in range(len(INSURERS)))], 1)
    return groups / groups.sum(2, keepdims=True)


def replicate(repetitions: range, sizes: Sequence[int], factors: dict[str, float], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Some repetitions: ``METHOD.METRIC.n`` (R, 6), over all of the test and over each insurer's customers in it.

    Metrics are deviance and balance (visits predicted over visits observed); ``weights.n`` (R, 6, 5) are LocalMA's mean weights, and
    ``INSURER.deviance`` (R, 6) is what each insurer's model has alone.
    """
    data = repeat(repetitions, seed=seed)
    share = _shares(data)

    def mean(a):
        return np.einsum("rgn,rn->rg", share, a)

    found = {f"{name}.deviance": mean(deviance(data.y_test, data.F_test[..., m])) for m, name in enumerate(INSURERS)}
    for n in sizes:
        predictions, weights = predict(data, n, [1000 * seed + r for r in repetitions], factors)
        for method, a in predictions.items():
            found[f"{method}.deviance.{n}"] = mean(deviance(data.y_test, a))
            found[f"{method}.balance.{n}"] = mean(a) / mean(data.y_test)
        found[f"weights.{n}"] = np.einsum("rgn,rnm->rgm", share, weights)
    return found


def tabulate(found: dict[str, np.ndarray], sizes: Sequence[int]) -> pd.DataFrame:
    """The tidy table of :func:`run` from all repetitions' arrays."""
    rows = []
    for g, group in enumerate(["all", *INSURERS]):
        head = {"customers": group}
        for name in INSURERS:
            rows.append(head | {"n": 0, "method": name, "metric": "deviance"} | summarise(found[f"{name}.deviance"][:, g]))
        for n in sizes:
            for method in (m for m in (*METHODS, *FOLD_METHODS) if f"{m}.deviance.{n}" in found):
                value = {metric: found[f"{method}.{metric}.{n}"][:, g] for metric in ("deviance", "balance")}
                # the first repetitions, where a method has fewer
                value["lead"] = value["deviance"] - found[f"LocalMA.deviance.{n}"][: len(value["deviance"]), g]
                for metric, values in value.items():
                    if (method, metric) != ("LocalMA", "lead"):
                        rows.append(head | {"n": n, "method": method, "metric": metric} | summarise(values))
            for m, name in enumerate(INSURERS):
                rows.append(head | {"n": n, "method": name, "metric": "weight"} | summarise(found[f"weights.{n}"][:, g, m]))
    return pd.DataFrame(rows)


def tabulate_folds(found: dict[str, np.ndarray], sizes: Sequence[int]) -> pd.DataFrame:
    """The tidy table of what each judge says of each penalty, from :func:`compare_folds`."""
    rows = []
    for n in sizes:
        for judge in ("rows", "persons", "test"):
            for factor, values in zip((*MULTIPLES, np.inf), found[f"{judge}.{n}"].T, strict=True):
                rows.append({"n": n, "judge": judge, "factor": factor, "metric": "excess"} | summarise(values))
    return pd.DataFrame(rows)


def run(
    *,
    full: bool = True,
    repetitions: int | None = None,
    sizes: Sequence[int] | None = None,
    pilots: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    jobs: int = 1,
) -> pd.DataFrame:
    """The whole experiment: pilots choose the penalties, then every method for every size; then two ways to cross-validate.

    Parameters
    ----------
    full : bool
        30 repetitions (8 for the two ways), 10 pilots and all sizes; else a look: 4, 2, 2 and two sizes.
    repetitions, pilots : int, optional
    sizes : sequence of int, optional
    seed : int
    out : path, optional
        Folder for ``counts.csv``, ``counts-folds.csv``, their provenance and the parts of an unfinished run. None: a temporary one.
    jobs : int
        Parts computed side by side.

    Returns
    -------
    DataFrame
        Columns customers, n, method, metric, mean, sd, mcse, replications. Customers are "all" of the test or those of one insurer; metric "deviance" is
        the mean Poisson deviance (of an insurer's model alone with n = 0), "lead" the method's deviance minus LocalMA's, "balance" the visits
        predicted over those observed, "weight" LocalMA's mean weight on an insurer.
    """
    repetitions = repetitions or (FULL if full else QUICK)
    pilots = pilots or (10 if full else 2)
    sizes = tuple(sizes or (SIZES if full else SIZES[:2]))
    if wrong := [n for n in sizes if not 1 <= n <= PARTS[1]]:
        raise ValueError(f"sizes contains {wrong[0]}; n must lie between 1 and {PARTS[1]}")
    fold_sizes = [n for n in sizes if n in FOLD_SIZES] or sizes[:1]
    chunks = {f"from-{r.start}-to-{r.stop}": r for r in _chunks(repetitions, CHUNK)}
    folds = {f"folds-{r.start}-to-{r.stop}": r for r in _chunks(min(repetitions, FOLD_FULL if full else FOLD_QUICK), FOLD_CHUNK)}
    settings = {"seed": seed, "pilots": pilots, "sizes": list(sizes), "parts": list(PARTS), "forest": FOREST, "LocalMA": asdict(Options())}
    tuned: dict[str, float] = {}

    def compute(key):
        if key == "pilots":
            trials = tune(pilots, sizes=[n for n in sizes if n < PARTS[1]] or sizes[:1], seed=seed)
            mean = trials.groupby(["method", "factor"])["excess"].mean().unstack()
            return {
                "factor": np.array([chosen(trials)[name] for name in mean.index]),
                "excess": mean.to_numpy(),
                "method": np.array(list(mean.index)),
            }
        if key in folds:
            return compare_folds(folds[key], fold_sizes, seed=seed)
        return replicate(chunks[key], sizes, tuned, seed=seed)

    def go(folder):
        more = {"out": folder, "configuration": settings, "unit": "repetition", "jobs": jobs}
        first, one = run_parts("counts", [("pilots", pilots)], compute, **more)
        pilot = first["pilots"]
        tuned.update(zip(pilot["method"].tolist(), pilot["factor"].tolist(), strict=True))
        parts, two = run_parts("counts", [(key, len(c)) for key, c in (chunks | folds).items()], compute, **more)
        main, second = ([parts[key] for key in keys] for keys in (chunks, folds))
        joined = [{name: np.concatenate([part[name] for part in kind]) for name in kind[0]} for kind in (main, second)]
        return pilot, *joined, one + two

    with tempfile.TemporaryDirectory() as temporary:
        pilot, main, second, seconds = go(Path(out or temporary))
    table = tabulate(main | second, sizes)
    if out is not None:
        trials = {
            m: dict(zip(map(str, FACTORS), row.round(4).tolist(), strict=True)) for m, row in zip(tuned, pilot["excess"], strict=True)
        }
        about = {"configuration": settings | {"repetitions": repetitions}, "seconds": seconds, "settings": settings}
        write_results("counts-folds", tabulate_folds(second, fold_sizes), Path(out), **about)
        write_results("counts", table, Path(out), **about, more={"chosen": tuned, "pilots": trials})
    return table


def _chunks(repetitions: int, size: int) -> list[range]:
    return [range(start, min(start + size, repetitions)) for start in range(0, repetitions, size)]


def findings(table: pd.DataFrame, *, z: float = 3.0) -> pd.DataFrame:
    """LocalMA against every other method, size by size.

    Parameters
    ----------
    table : DataFrame
        From :func:`run`.
    z : float
        A difference counts beyond so many Monte-Carlo errors.

    Returns
    -------
    DataFrame
        Columns n, method, lead, mcse, verdict ("LocalMA better", "LocalMA worse" or "cannot tell").

    Examples
    --------
    >>> from localma.replication import counts, load_results
    >>> list(counts.findings(load_results("counts")[0]).columns)
    ['n', 'method', 'lead', 'mcse', 'verdict']
    """
    lead = table.query("customers == 'all' and metric == 'lead'")
    word = np.select(
        [lead["mean"] > z * lead["mcse"], lead["mean"] < -z * lead["mcse"]], ["LocalMA better", "LocalMA worse"], "cannot tell"
    )
    found = lead.assign(lead=lead["mean"], verdict=word)[["n", "method", "lead", "mcse", "verdict"]]
    return found.reset_index(drop=True)
