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
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from localma.baselines import global_weights
from localma.direct import DirectModel
from localma.losses import LOSSES
from localma.network import mlp
from localma.replication.runner import run_parts, summarise, write_results
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
#: Penalties of LocalMA and of the direct network that pilots choose from, in units of the package's own, which falls with the power 3/4 of n.
FACTORS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
PILOT = 10_000  # pilot repetitions, of which penalties are chosen, are numbered from here
FULL, QUICK, CHUNK = 100, 4, 5
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


def direct_glm(X: np.ndarray, y: np.ndarray):
    """Poisson regression with a ridge penalty chosen by five-fold cross-validation: without one, a rare group without visits gets a mean of zero."""
    search = GridSearchCV(
        make_pipeline(StandardScaler(), PoissonRegressor(max_iter=1000)),
        {"poissonregressor__alpha": list(RIDGE)},
        scoring="neg_mean_poisson_deviance",
    )
    return search.fit(X, y)


def direct_network(X: np.ndarray, y: np.ndarray, seed: int, factor: float) -> DirectModel:
    """The package's direct model, a network of 16 hidden units, with ``factor`` times the package's own penalty."""
    options = Options(learning_rate=0.01, steps=500, penalty=factor * Options().resolve(len(y)).penalty)
    network = mlp(X.shape[1], 1, random_state=seed)
    return DirectModel(network, loss="poisson", training=options, progress=False, random_state=seed).fit(X, y)


def local_weights(data: Draw, n: int, seeds: Sequence[int], factor: float, X_new: np.ndarray) -> np.ndarray:
    """Weights (R, ..., 5) of LocalMA at ``X_new`` (R, ..., 9), learned from the first n, with ``factor`` times the package's own penalty."""
    tensors = (torch.as_tensor(a[:, :n], dtype=torch.float32) for a in (data.X, data.F, data.y))
    options = Options(penalty=factor * Options().resolve(n).penalty)
    fit = fit_stack(*tensors, LOSSES["poisson"], seeds=seeds, options=options)
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
            direct["DirectGLM"].append(direct_glm(X[r], y[r]).predict(data.X_test[r]))
            direct["DirectForest"].append(fit_forest(X[r], y[r], seed).predict(data.X_test[r]))
            direct["DirectModel"].append(direct_network(X[r], y[r], seed, factors["DirectModel"]).predict(data.X_test[r]))
    return found | {name: np.stack(a) for name, a in direct.items()}, weights


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


def replicate(repetitions: range, sizes: Sequence[int], factors: dict[str, float], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Some repetitions: ``METHOD.METRIC.n`` (R, 6), over all of the test and over each insurer's customers in it.

    Metrics are deviance and balance (visits predicted over visits observed); ``weights.n`` (R, 6, 5) are LocalMA's mean weights, and
    ``INSURER.deviance`` (R, 6) is what each insurer's model has alone.
    """
    data = repeat(repetitions, seed=seed)
    groups = np.stack([np.ones_like(data.home_test, float), *(data.home_test == m for m in range(len(INSURERS)))], 1)  # (R, 6, 6000)
    share = groups / groups.sum(2, keepdims=True)

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
            for method in METHODS:
                value = {metric: found[f"{method}.{metric}.{n}"][:, g] for metric in ("deviance", "balance")}
                value["lead"] = value["deviance"] - found[f"LocalMA.deviance.{n}"][:, g]
                for metric, values in value.items():
                    if (method, metric) != ("LocalMA", "lead"):
                        rows.append(head | {"n": n, "method": method, "metric": metric} | summarise(values))
            for m, name in enumerate(INSURERS):
                rows.append(head | {"n": n, "method": name, "metric": "weight"} | summarise(found[f"weights.{n}"][:, g, m]))
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
    """The whole experiment: pilots choose the penalties, then every method for every size.

    Parameters
    ----------
    full : bool
        100 repetitions, 10 pilots and all sizes; else a look: 4, 2 and two sizes.
    repetitions, pilots : int, optional
    sizes : sequence of int, optional
    seed : int
    out : path, optional
        Folder for ``counts.csv``, its provenance and the parts of an unfinished run. None: a temporary one.
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
    sizes = tuple(sizes or (SIZES if full else SIZES[::2]))
    if wrong := [n for n in sizes if not 1 <= n <= PARTS[1]]:
        raise ValueError(f"sizes contains {wrong[0]}; n must lie between 1 and {PARTS[1]}")
    settings = {"seed": seed, "pilots": pilots, "sizes": list(sizes), "parts": list(PARTS), "forest": FOREST, "LocalMA": asdict(Options())}
    chunks = [range(start, min(start + CHUNK, repetitions)) for start in range(0, repetitions, CHUNK)]
    named = {f"from-{chunk.start}-to-{chunk.stop}": chunk for chunk in chunks}
    tuned: dict[str, float] = {}

    def compute(key):
        if key == "pilots":
            trials = tune(pilots, sizes=[n for n in sizes if n <= SIZES[3]] or sizes[:1], seed=seed)
            mean = trials.groupby(["method", "factor"])["excess"].mean().unstack()
            return {
                "factor": np.array([chosen(trials)[name] for name in ("LocalMA", "DirectModel")]),
                "excess": mean.loc[["LocalMA", "DirectModel"]].to_numpy(),
            }
        return replicate(named[key], sizes, tuned, seed=seed)

    def go(folder):
        more = {"out": folder, "configuration": settings, "unit": "repetition", "jobs": jobs}
        first, one = run_parts("counts", [("pilots", 1)], compute, **more)
        tuned.update(zip(("LocalMA", "DirectModel"), first["pilots"]["factor"].tolist(), strict=True))
        parts, two = run_parts("counts", [(key, len(chunk)) for key, chunk in named.items()], compute, **more)
        return first["pilots"], list(parts.values()), one + two

    with tempfile.TemporaryDirectory() as temporary:
        pilot, parts, seconds = go(Path(out or temporary))
    table = tabulate({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, sizes)
    if out is not None:
        trials = {
            method: dict(zip(map(str, FACTORS), row.round(4).tolist(), strict=True))
            for method, row in zip(tuned, pilot["excess"], strict=True)
        }
        write_results(
            "counts",
            table,
            Path(out),
            configuration=settings | {"repetitions": repetitions},
            seconds=seconds,
            settings=settings,
            more={"chosen": tuned, "pilots": trials},
        )
    return table


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
