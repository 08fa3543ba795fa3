"""Condition 2 at work: how the largest of N variables grows, and what noise with heavier tails costs LocalMA.

Cases ``max NAME``: the size is N, the largest of N independent absolute values is drawn at once, as a quantile of the
right law. Cases ``noise NAME``: the size is n, Scenario 1 with the weights S1, where the best risk is zero; all in
double precision. The noise has variance one; the t distribution with 1.5 degrees of freedom has none, and is scaled to
the Gaussian's quartiles instead. All sizes are trained alike: on the whole sample in each step, with no part held out,
as the package does by itself up to n = 1000. Otherwise a change of training would pass for a change of rate.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from localma import theory
from localma.engine import Training
from localma.replication.simulation import scenarios
from localma.replication.theory.walks import local_weights


def _weibull(size, rng):
    """Symmetric, its absolute value Weibull with shape 1/2: the tail index is 1/2, E Z^2 = Gamma(5) before scaling."""
    return rng.choice([-1.0, 1.0], size) * rng.weibull(0.5, size) / 24**0.5


#: Draws of (size, rng), from light to heavy tails.
NOISES = {
    "gaussian": lambda size, rng: rng.standard_normal(size),
    "laplace": lambda size, rng: rng.laplace(size=size) / 2**0.5,
    "weibull": _weibull,
    "t3": lambda size, rng: rng.standard_t(3, size) / 3**0.5,
    "t1.5": lambda size, rng: rng.standard_t(1.5, size) * stats.norm.ppf(0.75) / stats.t(1.5).ppf(0.75),
}
#: P(|Z| > t) of the same laws, inverted.
UPPER = {
    "gaussian": lambda p: stats.norm.isf(p / 2),
    "laplace": lambda p: -np.log(p) / 2**0.5,
    "weibull": lambda p: np.log(p) ** 2 / 24**0.5,
    "t3": lambda p: stats.t(3).isf(p / 2) / 3**0.5,
}
CELLS = {
    "quick": [(f"max {name}", 10**k, 2000) for name in UPPER for k in (2, 4, 6)]
    + [(f"noise {name}", n, 20) for name in NOISES for n in (100, 300, 1000)],
    "full": [(f"max {name}", 10**k, 20_000) for name in UPPER for k in (1, 2, 3, 4, 5, 6)]
    + [(f"noise {name}", n, 200) for name in NOISES for n in (100, 300, 1000, 3000)],
}


def measure(case: str, size: int, replications: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The largest absolute value; or LocalMA's in-sample risk and the largest absolute noise; for each replication."""
    what, name = case.split(" ")
    if what == "max":
        # the smallest of N uniform p-values: 1 - U^(1/N), without its rounding
        return {"largest": UPPER[name](-np.expm1(np.log(rng.uniform(size=replications)) / size))}
    cell = scenarios.Cell(1, "S1", size)
    X = rng.standard_normal((replications, size, 5))
    F, mu, noise = scenarios.candidate_models(X), scenarios.true_mean(X, cell), NOISES[name]((replications, size), rng)
    seeds, options = rng.integers(2**31, size=replications).tolist(), Training(batch_size=size, validation_fraction=0.0)
    a = (local_weights(X, F, mu + noise, seeds, training=options)(X) * F).sum(-1)
    return {"risk": theory.in_sample_risk("squared", mu, a), "largest": np.abs(noise).max(-1)}
