"""The theory part's measurements, walks: one module each, small while a chapter is read, large in
``python -m localma.replication theory``.

A walk is a module of this package with two names. ``CELLS = {"quick": [...], "full": [...]}`` lists what is measured as
tuples ``(case, size, replications)``: a case is a string, a size is what a rate is stated in (n, N, a number of
parameters, ...). ``measure(case, size, replications, rng)`` returns a dictionary of arrays of shape (replications,),
one for each quantity. Add a file, and it is found.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from localma.checks import choose
from localma.engine import fit_stack
from localma.losses import LOSSES
from localma.replication.lab.experiment import Experiment
from localma.replication.lab.results import summarise


def names() -> list[str]:
    """Of the walks, each a module of this package."""
    return sorted(module.name for module in iter_modules(__path__))


def walk(name: str) -> ModuleType:
    choose("name", name, names())
    return import_module(f"{__name__}.{name}")


def measure_cell(name: str, case: str, size: int, replications: int, seed: int) -> dict[str, np.ndarray]:
    # a cell's random numbers depend on nothing but its own name and the seed
    key = (zlib.crc32(f"{name}/{case}".encode()), size)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    found = walk(name).measure(case, size, replications, rng)
    return {quantity: np.asarray(values, dtype=float) for quantity, values in found.items()}


def tabulate(name: str, case: str, size: int, found: dict[str, np.ndarray]) -> list[dict]:
    rows = []
    for quantity, values in found.items():
        quantiles = dict(zip(("q05", "median", "q95"), np.quantile(values, (0.05, 0.5, 0.95)), strict=True))
        rows.append({"walk": name, "case": case, "size": size, "quantity": quantity} | summarise(values) | quantiles)
    return rows


def local_weights(X, F, y, seeds, **how) -> Callable[[np.ndarray], np.ndarray]:
    """LocalMA with squared loss on each of R samples, as :func:`localma.engine.fit_stack` takes them, in double
    precision: a function that gives weights (R, k, M) at points (R, k, d).
    """
    x, f, t = map(torch.as_tensor, (X, F, y))
    fit = fit_stack(x, f, t, LOSSES["squared"], seeds=seeds, **how)
    return lambda X: fit.weights(torch.as_tensor(X)).numpy()


def midpoints(points: int, d: int) -> np.ndarray:
    """Of equal cells of [0, 1]^d, (1, points^d, d)."""
    line = (np.arange(points) + 0.5) / points
    return np.stack(np.meshgrid(*[line] * d, indexing="ij"), -1).reshape(1, -1, d)


def table(name: str) -> pd.DataFrame:
    """Measure the quick cells of one of :func:`names` now.

    Columns are walk, case, size, quantity, mean, sd, mcse, replications, q05, median, q95, as of
    ``load_results("theory")``.
    """
    rows = []
    for case, size, replications in walk(name).CELLS["quick"]:
        rows += tabulate(name, case, size, measure_cell(name, case, size, replications, seed=0))
    return pd.DataFrame(rows)


@dataclass(kw_only=True)
class Theory(Experiment):
    """Every walk, cell by cell; columns as those of :func:`table`."""

    name = "theory"
    summary = "the theory part's measurements: every condition and theorem"

    def prepare(self):
        self.walks = {name: walk(name).CELLS["full" if self.full else "quick"] for name in names()}

    def configuration(self):
        return super().configuration() | {"cells": self.walks}

    def modules(self):
        return [*super().modules(), *(walk(name).__name__ for name in self.walks)]

    def cells(self, found):
        return {
            f"{name}/{case}/{size}": (name, case, size, replications)
            for name, rows in self.walks.items()
            for case, size, replications in rows
        }

    def measure(self, *cell):
        return measure_cell(*cell, self.seed)

    def tables(self, found):
        rows = [row for key, cell in self.cells(found).items() for row in tabulate(*cell[:3], found[key])]
        return {"": pd.DataFrame(rows)}


class Slope(NamedTuple):
    """A fitted rate: the slope of log mean in log size, with its 95 % interval."""

    estimate: float
    low: float
    high: float
    #: Chi-squared over degrees of freedom: near one if a straight line fits the means within their Monte-Carlo errors.
    misfit: float


def fitted_slope(size, mean, mcse) -> Slope:
    """Weighted least squares of log mean on log size.

    The weights are the Monte-Carlo precisions. Where a straight line does not fit within these errors (misfit above
    one), the interval is as much wider: a t interval with the scale estimated from the residuals. It then says how well
    *a line* describes these sizes, no more.

    Parameters
    ----------
    size, mean, mcse : arrays of shape (k,), all positive, k at least 3

    Examples
    --------
    >>> from localma.replication.theory.walks import fitted_slope
    >>> round(fitted_slope([10, 100, 1000], [1.0, 0.1, 0.01], [0.01, 0.001, 0.0001]).estimate, 6)
    -1.0
    """
    import statsmodels.api as sm  # with the plots extra, like the chapters that need it

    size, mean, mcse = (np.asarray(values, dtype=float) for values in (size, mean, mcse))
    if not (len(size) >= 3 and (size > 0).all() and (mean > 0).all() and (mcse > 0).all()):
        raise ValueError("size, mean and mcse must be positive and have at least 3 entries")
    model = sm.WLS(np.log(mean), sm.add_constant(np.log(size)), weights=(mcse / mean) ** -2)
    misfit = float(model.fit().scale)
    line = model.fit() if misfit > 1 else model.fit(cov_type="fixed scale")
    low, high = line.conf_int()[1]
    return Slope(float(line.params[1]), float(low), float(high), misfit)
