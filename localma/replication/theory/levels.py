"""How often :func:`localma.theory.audit` raises an alarm where nothing is wrong, on problems that no chapter uses.

In all of them the models are frozen and right on average, the mean lies in their hull, and both samples come from the
same distribution. Most have what tempts an audit to an alarm: rare classes or counts, wild noise, clusters, few rows.
The weights are equal ones, but for three problems: there LocalMA has a learner of its own, a level and clipped models.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor

from localma import EqualWeights, LocalMA
from localma.replication.lab.experiment import Experiment, number_of
from localma.theory import Audit, audit


def _gaussian(n, rng, noise):
    X = rng.normal(size=(n, 2))
    F = np.c_[X[:, 0], X[:, 1], X.sum(1)]
    return X, F.mean(1) + NOISES[noise](rng, n), F


def _classes(n, rng, share):
    X = rng.normal(size=(n, 2))
    p = 1 / (1 + (1 - share) / share * np.exp(0.5 * X - 0.125))
    F = np.stack([1 - p, p], -1)
    y = (rng.uniform(size=n) < p.mean(1)).astype(int)
    y[:2] = 0, 1  # a class that is absent is another matter
    return X, y, F


def _counts(n, rng, mean):
    X = rng.normal(size=(n, 2))
    F = mean * np.exp(0.3 * X - 0.045)
    return X, rng.poisson(F.mean(1)).astype(float), F


def _binary(n, rng, share):
    X, y, F = _classes(n, rng, share)
    return X, y.astype(float), F[:, :, 1]


def _clusters(n, rng, number):
    """Clusters with an intercept each, one after the other."""
    group = np.repeat(np.arange(number), n // number)
    X = rng.normal(size=(number, 2))[group] + 0.3 * rng.normal(size=(n, 2))
    F = np.c_[X[:, 0], X[:, 1], X.sum(1)]
    return X, F.mean(1) + rng.normal(size=number)[group] + rng.normal(size=n), F, group


NOISES: dict[str, Callable] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "t3": lambda rng, n: rng.standard_t(3, n),
    "weibull": lambda rng, n: rng.weibull(0.5, n) * rng.choice([-1, 1], n),
}
#: What draws a sample, with which option, the loss, and the numbers of training rows and of new ones.
PROBLEMS: dict[str, tuple] = {
    "classes 5 %": (_classes, 0.05, "cross_entropy", 600, 600),
    "classes 1 %": (_classes, 0.01, "cross_entropy", 600, 600),
    "counts 0.02": (_counts, 0.02, "poisson", 600, 600),
    "counts 0.3": (_counts, 0.3, "poisson", 600, 600),
    "binary": (_binary, 0.3, "squared", 300, 300),
    "laplace": (_gaussian, "laplace", "squared", 300, 300),
    "t3": (_gaussian, "t3", "squared", 300, 300),
    "weibull": (_gaussian, "weibull", "squared", 600, 600),
    "60 and 600": (_gaussian, "normal", "squared", 60, 600),
    "clusters": (_clusters, 50, "squared", 300, 300),
    "t3, LocalMA": (_gaussian, "t3", "squared", 300, 300),
    "counts 0.3, LocalMA": (_counts, 0.3, "poisson", 300, 300),
    "classes 5 %, LocalMA": (_classes, 0.05, "cross_entropy", 300, 300),
}
LEARNERS = {"squared": LinearRegression(), "poisson": PoissonRegressor(), "cross_entropy": LogisticRegression()}


def report(problem: str, seed: int) -> Audit:
    """The audit of one draw of one of ``PROBLEMS``."""
    draw, option, loss, n, m = PROBLEMS[problem]
    rng = np.random.default_rng([seed, zlib.crc32(problem.encode())])
    (X, y, F, *g), (new, y_new, F_new, *g_new) = draw(n, rng, option), draw(m, rng, option)
    average: EqualWeights | LocalMA = EqualWeights(loss=loss)
    if "LocalMA" in problem:
        own = {"direct": LEARNERS[loss], "level": True, "clip": True}
        average = LocalMA(loss=loss, shrinkage=None, progress=False, random_state=seed, **own)
    average.fit(X, y, F=F)
    return audit(average, new, y_new, F=F_new, train=(X, y, F, *g), groups=g_new[0] if g_new else None)


@dataclass(kw_only=True)
class Levels(Experiment):
    """Each problem many times; columns problem, row (of the audit), draws, and the shares of draws with each verdict.

    The row "reach" tests that the mean lies beyond the hull, so there it is "looks fine" that is without a reason.
    """

    name = "audit"
    summary = "how often the audit raises an alarm where nothing is wrong"
    replications: int | None = number_of("draws of each problem")

    def prepare(self):
        self.scaled(replications=(100, 5))

    def cells(self, found):
        return {problem: (problem,) for problem in PROBLEMS}

    def measure(self, problem):
        first = self.seed * self.replications
        verdicts = [report(problem, first + k).table["verdict"] for k in range(self.replications)]
        return {row: np.array([verdict[row] for verdict in verdicts]) for row in verdicts[0].index}

    def tables(self, found):
        shares = ("in danger", "cannot tell", "looks fine")
        rows = [
            {"problem": problem, "row": row, "draws": len(verdicts)} | {k: np.mean(verdicts == k) for k in shares}
            for problem, part in found.items()
            for row, verdicts in part.items()
        ]
        return {"": pd.DataFrame(rows)}
