"""The run of the experiment on rents, and the tables that it leaves."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from localma.datasets.housing import Housing
from localma.replication.housing.companies import TREES, WIDTH, City, load_tables, prepare_all
from localma.replication.housing.methods import METHODS, TOLD, ask_more, replicate
from localma.replication.housing.predictions import save_predictions
from localma.replication.lab.parts import run_parts
from localma.replication.lab.results import summarise, write_results

#: Shares of D2, the flats that weights are learned from and tested on.
RHOS = (0.1, 0.3, 0.5, 0.7, 0.9)
#: Those of the paper, for both kinds of models; fewer of what it does not ask, where each sample makes choices of its own.
REPETITIONS = {"network": 100, "forest": 100, "more": 40}
CHUNK = {"network": 25, "forest": 5, "more": 10}
KINDS = ("network", "forest")


def run(
    *,
    full: bool = False,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path = "results",
    jobs: int = 1,
    synthetic: bool = False,
    path=None,
    repetitions: int | dict[str, int] | None = None,
) -> pd.DataFrame:
    """All tables that are there, both cities, networks and forests, every rho.

    Writes, each with its provenance, ``housing.csv``; ``housing-weights.csv``, LocalMA's mean weights for the middle rho; and ``housing-more.csv``: what the
    paper does not ask, with networks (:func:`~localma.replication.housing.ask_more`). A full run on real rents writes ``housing-predictions.npz``, too.

    Parameters
    ----------
    full : bool
        100 repetitions, as in the paper, and 40 of what it does not ask; otherwise a look at the smallest table.
    synthetic : bool
        Made-up rents; the files are named ``housing-synthetic``.
    path : path, optional
        Folder of the data; see :func:`localma.datasets.load_housing`.
    repetitions : int or dict, optional
        Instead of the above: a number for all, or by "network", "forest" and "more".

    Returns
    -------
    DataFrame
        Columns table, city, ptm, rho, n_ptm, n_train, n_test, method, metric, mean, sd, mcse, replications. Metric "mspe" is the mean squared
        prediction error, "excess" how much it exceeds LocalMA's in the same repetition.
    """
    name = "housing" + "-synthetic" * synthetic
    if repetitions is None:
        repetitions = REPETITIONS if full else {"network": 10, "forest": 2, "more": 4}
    elif isinstance(repetitions, int):
        repetitions = dict.fromkeys(REPETITIONS, repetitions)
    if min(repetitions.values()) < 1:
        raise ValueError(f"repetitions must be at least 1, but are {repetitions}")
    tables = load_tables(full, synthetic=synthetic, seed=seed, path=path)
    if synthetic:
        print(tables["synthetic"].banner)
    rhos = RHOS if full else (0.3, 0.7)
    middle = rhos[len(rhos) // 2]
    cities = prepare_all(tables)
    configuration = {
        "seed": seed,
        "device": device,
        "rho": rhos,
        "rho_is": "share of D2",
        "repetitions": repetitions,
        "tables": {
            t: {"checksum": data.checksum, "rows": len(data), "covariates": data.features, "twins": _twins(data)}
            for t, data in tables.items()
        },
        "districts": {key: dict(zip(c.districts, c.sizes, strict=True)) for key, c in cities.items()},
        "networks": {"width": WIDTH} | {city.table: city.settings for city in cities.values()},
        "chosen": "learning rates, steps and penalty of each table by housing-tuning.csv: validation on pilot repetitions, without test halves",
        "forest": {"trees": TREES},
    }
    chunks = {
        f"{key}-{kind}-{rho:g}-{start}": (key, kind, rho, range(start, min(start + CHUNK[kind], total)))
        for kind, total in repetitions.items()
        for key in cities
        for rho in rhos
        for start in range(0, total, CHUNK[kind])
    }

    def compare(part):
        key, kind, rho, rows = chunks[part]
        return replicate(cities[key], kind, rho, rows, seed=seed, device=device)

    def compare_more(part):
        key, _, rho, rows = chunks[part]
        return ask_more(cities[key], rho, rows, seed=seed, device=device)

    def work(*kinds):
        return [(part, len(chunk[3])) for part, chunk in chunks.items() if chunk[1] in kinds]

    kept = {"out": Path(out), "configuration": configuration, "unit": "repetition", "jobs": jobs}
    parts, seconds = run_parts(name, work(*KINDS), compare, **kept)
    more, more_seconds = run_parts(f"{name}-more", work("more"), compare_more, **kept)

    # all parts are there: only now is anything written, and their parts dropped
    def write(suffix, records, seconds):
        table = pd.DataFrame(records)
        write_results(name + suffix, table, Path(out), configuration=configuration, seconds=seconds, device=device)
        return table

    if full and "lianjia2023" in tables:
        save_predictions(cities["lianjia2023-Beijing"], seed=seed, out=out)

    def of_cell(parts, *cell):
        return [parts[part] for part, chunk in chunks.items() if chunk[:3] == cell]

    records, shares, extra = [], [], []
    for (key, city), kind, rho in product(cities.items(), [k for k in KINDS if k in repetitions], rhos):
        cell = {"table": city.table, "city": city.name, "ptm": kind, "rho": rho}
        found = of_cell(parts, key, kind, rho)
        records += tabulate(cell, found)
        if rho == middle:
            shares += tabulate_weights(cell, city, np.concatenate([part["weights"] for part in found]))
        if kind == "network" and "more" in repetitions:
            extra += tabulate_more(cell, of_cell(more, key, "more", rho))
    if extra:
        write("-more", extra, more_seconds)
    write("-weights", shares, seconds)
    return write("", records, seconds)


def _twins(data: Housing) -> float:
    """Share of rows that equal another in covariates, rent and place: listings that appear twice."""
    rows = pd.DataFrame(data.X).assign(rent=data.rent, city=data.city, district=data.district)
    return round(float(rows.duplicated(keep=False).mean()), 3)


def tabulate(cell: dict, found: list[dict[str, np.ndarray]]) -> list[dict]:
    """Rows of the table for one cell, from its parts."""
    rows = []
    sizes = dict(zip(("n_ptm", "n_train", "n_test"), found[0]["sizes"].astype(int).tolist(), strict=True))
    errors = {method: np.concatenate([part[method] for part in found]) for method in METHODS}
    for method in METHODS:
        row = cell | sizes | {"method": method}
        rows.append(row | {"metric": "mspe"} | summarise(errors[method]))
        if method != "LocalMA":
            rows.append(row | {"metric": "excess"} | summarise(errors[method] - errors["LocalMA"]))
    return rows


def tabulate_more(cell: dict, found: list[dict[str, np.ndarray]]) -> list[dict]:
    """As :func:`tabulate`; "excess" is over the adaptive LocalMA that knows as much."""
    rows = []
    errors = {method: np.concatenate([part[method] for part in found]) for method in found[0]}
    for method, error in errors.items():
        row = cell | {"method": method}
        rows.append(row | {"metric": "mspe"} | summarise(error))
        told = TOLD if method == "OwnDistrict" or method.endswith(TOLD) else ""
        if method != (best := f"AdaptiveLocalMA{told}"):
            rows.append(row | {"metric": "excess"} | summarise(error - errors[best]))
    return rows


def tabulate_weights(cell: dict, city: City, weights: np.ndarray) -> list[dict]:
    """Mean weight of each model on the flats of each district, from (R, M, M)."""
    rows = []
    for i, m in np.ndindex(weights.shape[1:]):
        place = dict(zip(("lng", "lat"), city.centres[i], strict=True))
        rows.append(cell | {"district": city.districts[i], "model": city.districts[m]} | place | summarise(weights[:, i, m]))
    return rows
