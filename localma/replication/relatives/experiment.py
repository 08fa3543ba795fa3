"""The run of the comparison with relatives, and its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from localma.checks import choose
from localma.replication.lab.experiment import Experiment, number_of
from localma.replication.lab.parts import chunks
from localma.replication.lab.results import summarise
from localma.replication.relatives.methods import METHODS, score
from localma.replication.relatives.worlds import CHUNK, WORLDS
from localma.replication.simulation import scenarios

FULL, QUICK = 20, 2


def compare(
    world: str, n: int, replications: int | range = QUICK, *, methods: Sequence[str] | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """Some replications of one world: arrays ``METHOD.METRIC``, one entry for each.

    Parameters
    ----------
    world : str
        A key of :data:`WORLDS`.
    n : int
    replications : int or range
        How many, or which.
    methods : sequence of str, optional
        Keys of :data:`METHODS`; default all that take the world's loss.
    seed : int

    Examples
    --------
    >>> from localma.replication import relatives
    >>> found = relatives.compare("S2", 100, 3, methods=["GW", "EWMA"])
    >>> found["EWMA.risk"].round(9)  # right, in this world
    array([0., 0., 0.])
    """
    choose("world", world, WORLDS)
    stage = WORLDS[world]
    able = [name for name, method in METHODS.items() if stage.loss in method.losses]
    methods = able if methods is None else list(methods)
    if wrong := [name for name in methods if name not in able]:
        raise ValueError(
            f"methods contains {wrong[0]!r}, which {world!r} has not; choose from {', '.join(map(repr, able))}"
        )
    which = range(replications) if isinstance(replications, int) else replications
    found: dict[str, list[float]] = {}
    for r in which:
        sample = stage.draw(n, r, seed)
        for method in methods:
            for metric, value in score(stage, method, sample, 1000 * seed + r).items():
                found.setdefault(f"{method}.{metric}", []).append(value)
        if world == "Scenario 2":  # the best that any weights on the simplex could do
            floor = np.square(scenarios.hull_clip(sample.F_test, sample.y_test) - sample.y_test).mean()
            found.setdefault("Hull.risk", []).append(floor)
    return {name: np.array(values) for name, values in found.items()}


def tabulate(world: str, n: int, found: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row for each method and metric of :func:`compare`.

    Returns
    -------
    DataFrame
        Columns world, n, method, family, metric, mean, sd, mcse, replications, rank (1 is best), lead and lead_mcse
        (the method's value minus LocalMA's, sample by sample, and its Monte-Carlo error), adaptive_lead and
        adaptive_lead_mcse (the same with the adaptive LocalMA), seconds (median processor time of a fit). "Hull" is an
        oracle and has no rank.
    """
    rows = []
    for name, values in found.items():
        method, metric = name.rsplit(".", 1)
        if metric == "seconds":
            continue
        family = METHODS[method].family if method in METHODS else "oracle"
        row = {"world": world, "n": n, "method": method, "family": family, "metric": metric} | summarise(values)
        for lead, rival in (("lead", f"LocalMA.{metric}"), ("adaptive_lead", f"LocalMA adaptive.{metric}")):
            if rival in found and method in METHODS:
                paired = summarise(values - found[rival])
                row |= {lead: paired["mean"], f"{lead}_mcse": paired["mcse"]}
        row["seconds"] = np.median(found[f"{method}.seconds"]) if method in METHODS else np.nan
        rows.append(row)
    table = pd.DataFrame(rows)
    ranked = table[table["family"] != "oracle"]
    table["rank"] = ranked.groupby("metric")["mean"].rank(method="min")
    return table


@dataclass(kw_only=True)
class Relatives(Experiment):
    """Every method in every world for every sample size.

    Parameters
    ----------
    full : bool
        All sizes, 20 replications of each; else the smallest size of each world, 2 of them.
    replications : int, optional

    Returns
    -------
    DataFrame
        As :func:`tabulate` makes it.
    """

    name = "relatives"
    summary = "beyond the paper: LocalMA and its relatives in six worlds, one table"
    extent = ("replications", "worlds")

    replications: int | None = number_of("in each cell")

    def prepare(self):
        self.scaled(replications=(FULL, QUICK))
        self.worlds = {name: list(world.sizes if self.full else world.sizes[:1]) for name, world in WORLDS.items()}

    def configuration(self):
        return super().configuration() | {"worlds": self.worlds, "methods": list(METHODS)}

    def cells(self, found):
        return {
            f"{name}-n{n}-from-{which.start}": (name, n, which)
            for which in chunks(self.replications, CHUNK)
            for name, sizes in self.worlds.items()
            for n in sizes
        }

    def measure(self, world, n, which):
        return compare(world, n, which, seed=self.seed)

    def tables(self, found):
        tables = [tabulate(*cell, part) for cell, part in self.by_cell(found).items()]
        return {"": pd.concat(tables, ignore_index=True)}


run = Relatives.run
