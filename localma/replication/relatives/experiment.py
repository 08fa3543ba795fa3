"""The run of the comparison with relatives, and its table."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from localma.replication.lab.parts import run_parts
from localma.replication.lab.results import summarise, write_results
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
    if world not in WORLDS:
        raise ValueError(f"world = {world!r} is unknown; choose one of {', '.join(map(repr, WORLDS))}")
    stage = WORLDS[world]
    able = [name for name, method in METHODS.items() if stage.loss in method.losses]
    methods = able if methods is None else list(methods)
    if wrong := [name for name in methods if name not in able]:
        raise ValueError(f"methods contains {wrong[0]!r}, which {world!r} has not; choose from {', '.join(map(repr, able))}")
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
        Columns world, n, method, family, metric, mean, sd, mcse, replications, rank (1 is best), lead and lead_mcse (the method's value minus
        LocalMA's, sample by sample, and its Monte-Carlo error), adaptive_lead and adaptive_lead_mcse (the same with the adaptive LocalMA), seconds (median
        processor time of a fit). "Hull" is an oracle and has no rank.
    """
    rows = []
    for name, values in found.items():
        method, metric = name.rsplit(".", 1)
        if metric == "seconds":
            continue
        row = {"world": world, "n": n, "method": method, "family": METHODS[method].family if method in METHODS else "oracle"}
        row |= {"metric": metric} | summarise(values)
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


def run(
    *,
    full: bool = True,
    replications: int | None = None,
    worlds: Sequence[str] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    jobs: int = 1,
) -> pd.DataFrame:
    """Every method in every world for every sample size.

    Parameters
    ----------
    full : bool
        All sizes, ``FULL`` replications of each; else the smallest size of each world, ``QUICK`` of them.
    replications : int, optional
    worlds : sequence of str, optional
        Keys of :data:`WORLDS`; default all.
    seed : int
    out : path, optional
        Folder for ``relatives.csv``, its provenance and the parts of an unfinished run. None: a temporary one.
    jobs : int
        Parts computed side by side.

    Returns
    -------
    DataFrame
        As :func:`tabulate` makes it.
    """
    replications = replications or (FULL if full else QUICK)
    worlds = list(WORLDS) if worlds is None else list(worlds)
    if wrong := [name for name in worlds if name not in WORLDS]:
        raise ValueError(f"worlds contains {wrong[0]!r}; choose from {', '.join(map(repr, WORLDS))}")
    cells = [(WORLDS[w], n) for w in worlds for n in (WORLDS[w].sizes if full else WORLDS[w].sizes[:1])]
    chunks = {
        f"{world.key(n)}-from-{start}": (world, n, range(start, min(start + CHUNK, replications)))
        for start in range(0, replications, CHUNK)
        for world, n in cells
    }
    configuration = {
        "seed": seed,
        "replications": replications,
        "worlds": {world.name: [n for w, n in cells if w is world] for world, _ in cells},
    }
    configuration["methods"] = list(METHODS)

    def compute(key):
        world, n, which = chunks[key]
        return compare(world.name, n, which, seed=seed)

    def go(folder):
        sizes = [(key, len(which)) for key, (_, _, which) in chunks.items()]
        return run_parts("relatives", sizes, compute, out=folder, configuration=configuration, unit="sample", jobs=jobs)

    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            parts, seconds = go(Path(folder))
    else:
        parts, seconds = go(Path(out))
    tables = []
    for world, n in cells:
        own = [parts[key] for key, (w, size, _) in chunks.items() if (w, size) == (world, n)]
        tables.append(tabulate(world.name, n, {name: np.concatenate([part[name] for part in own]) for name in own[0]}))
    table = pd.concat(tables, ignore_index=True)
    if out is not None:
        write_results("relatives", table, Path(out), configuration=configuration, seconds=seconds)
    return table
