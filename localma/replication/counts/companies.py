"""The table, its persons, the five insurers and their models, and how a repetition deals persons to insurers, sample
and test.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from localma.checks import choose
from localma.replication.lab.sample import Sample, stacked

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
#: A forest gives no price on fewer customer-years than a leaf holds; so no price is zero either.
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
    """Number of each row's run of consecutive rows that share contract, limitation and chronic diseases: a person, at
    times a few of one family; (N,) for X (N, 9) in the table's order.

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
    """Whose customer each row (..., 9) was: number of the insurer in the order of ``INSURERS``, (...)."""
    at = dict(zip(COVARIATES, np.moveaxis(X, -1, 0), strict=True))
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


def insurers(X: np.ndarray, y: np.ndarray, seed: int) -> list[Any]:
    """Each insurer's model, fitted to its own customers among the rows given, X (n, 9) and y (n,); the seed is of the
    forests.
    """
    home = clientele(X)
    found = []
    for m, (_, kind) in enumerate(INSURERS.values()):
        own = X[home == m], y[home == m]
        found.append(fit_glm(*own) if kind == "glm" else fit_forest(*own, seed + m))
    return found


def sample(n: int, rng: np.random.Generator, *, by: str = "person") -> Sample:
    """One repetition: cut the table, fit the insurers' models to their part, draw n customer-years to learn from.

    Parameters
    ----------
    n : int
        At most 6,000. The first rows of a larger sample are a smaller one's: rows stand in random order.
    rng : numpy Generator
    by : {"person", "row"}
        What the cut keeps together. "row" puts years of one person on several sides, which is wrong; an exercise shows
        what it does.

    Returns
    -------
    Sample
        X (n, 9), visits y (n,), F (n, 5), the expected visits by each insurer's model, a test of 6,000 customer-years,
        and the persons' numbers as groups.

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
    choose("by", by, ("person", "row"))
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
        models = insurers(X[first], y[first], int(rng.integers(2**31 - len(INSURERS))))
        F, F_test = (np.stack([model.predict(X[rows]) for model in models], 1) for rows in (pool, test))
    return Sample(X[pool], F, y[pool], X[test], F_test, y[test], who[pool], who[test])


def generator(repetition: int, seed: int = 0) -> np.random.Generator:
    """The randomness of one repetition."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(repetition,)))


def repeat(repetitions: int | range = 10, *, seed: int = 0, n: int = PARTS[1]) -> Sample:
    """Several repetitions of :func:`sample` (how many, or which), stacked: every array with an axis of repetitions in
    front.
    """
    which = range(repetitions) if isinstance(repetitions, int) else repetitions
    bar = tqdm(which, desc="insurers", unit="cut", delay=5, leave=False)
    return stacked(sample(n, generator(r, seed)) for r in bar)
