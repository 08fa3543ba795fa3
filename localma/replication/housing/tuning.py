"""How the settings of the experiment on rents were chosen: by validation on pilot repetitions, without a flat of their test halves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from localma.replication.housing.experiment import load_tables, prepare_all
from localma.replication.housing.methods import City, Split, direct_networks, evaluate, networks, seeds_of, split
from localma.replication.runner import run_parts, write_results

_NETWORKS = tuple({"learning_rate": rate, "steps": steps} for rate, steps in ((0.03, 100), (0.1, 100), (0.01, 300), (0.03, 300)))
GRID = {
    "PTM": _NETWORKS,
    "DirectModel": _NETWORKS,
    "LocalMA": tuple({"learning_rate": rate, "penalty": penalty} for rate in (0.03, 0.1) for penalty in (0.01, 0.03, 0.1)),
}
#: Looked at after the full run, because the penalty that was chosen is the smallest of ``GRID``: what would wider lists have said?
WIDER = {
    "LocalMA": tuple(
        {"learning_rate": rate, "penalty": penalty} for rate in (0.03, 0.1, 0.3) for penalty in (0.001, 0.003, 0.01, 0.03, 0.1)
    )
}
SHARES = (0.1, 0.5)  # of D2
PILOT = 10_000  # pilot repetitions are numbered from here; the experiment's are fewer


def validate(
    city: City, rho: float, grid: dict[str, tuple[dict, ...]] | None = None, *, pilots: int = 5, seed: int = 0, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Validation error of each setting of a grid, by default ``GRID``, relative to the best one, by what the setting is for.

    A quarter of what each network would learn from is held out: of each district's D1 for its model, of the training half for the direct model and the
    weights. Only pilot repetitions are looked at, which the experiment does not use, and nothing of their test halves.

    Examples
    --------
    >>> from localma.datasets import load_housing
    >>> from localma.replication import housing
    >>> city = housing.prepare(load_housing(synthetic=True), "Shanghai")
    >>> ratio = housing.validate(city, 0.5, pilots=1)
    >>> list(ratio), ratio["PTM"].shape, float(ratio["PTM"].min())
    (['PTM', 'DirectModel', 'LocalMA'], (4,), 1.0)
    """
    M, repetitions = len(city.districts), range(PILOT, PILOT + pilots)
    seeds = seeds_of(city, repetitions, seed, M + 2)
    whole = [split(city, rho, r, seed=seed) for r in repetitions]
    n = len(whole[0].train) * 3 // 4
    train = np.stack([s.train for s in whole])
    X, y = (torch.as_tensor(a[train], dtype=torch.float32, device=device) for a in (city.X, city.y))
    F = networks(city, [Split(s.first, s.train, s.test[:0]) for s in whole], seeds[:, :M], device=device)

    def of_districts(settings):
        error = []
        for s, row in zip(whole, seeds[:, :M], strict=True):
            cuts = [max(1, len(part) * 3 // 4) for part in s.first]
            held = np.concatenate([part[c:] for part, c in zip(s.first, cuts, strict=True)])
            few = Split([part[:c] for part, c in zip(s.first, cuts, strict=True)], held, held[:0])
            predicted = networks(city, [few], row[None], settings=settings, device=device)[0].cpu().numpy()
            error.append(np.square(predicted[np.arange(len(held)), city.which[held]] - city.y[held]).mean())
        return np.mean(error)

    def of_direct(settings):
        return np.square(direct_networks(X, y, n, seeds[:, M], settings) - y[:, n:].cpu().numpy()).mean()

    def of_weights(settings):
        nothing = np.zeros((pilots, train.shape[1] - n))
        return evaluate(X, F, y, n, nothing, seeds[:, M + 1], settings=settings)[0]["LocalMA"].mean()

    measures = {"PTM": of_districts, "DirectModel": of_direct, "LocalMA": of_weights}
    errors = {network: np.array([measures[network](one) for one in settings]) for network, settings in (grid or GRID).items()}
    return {network: error / error.min() for network, error in errors.items()}


def tune(
    *,
    full: bool = True,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path = "results",
    jobs: int = 1,
    synthetic: bool = False,
    path=None,
    pilots: int | None = None,
) -> pd.DataFrame:
    """Score every setting in ``GRID``: :func:`validate`, averaged over cities and shares, for one configuration for all.

    Writes ``housing-tuning.csv``; and ``housing-tuning-wider.csv``, in which the settings in ``WIDER`` are scored in each cell on its own.

    Parameters
    ----------
    full : bool
        Five pilot repetitions of every table, but for the paper's own; otherwise two of the smallest.
    seed, device, out, jobs, synthetic, path
        As for :func:`run`.
    pilots : int, optional
        Instead of the scale's.

    Returns
    -------
    DataFrame
        Columns network, learning_rate, steps, penalty, score. The choice has the lowest score; districts' networks and direct model, which are of one class,
        share the setting with the lowest mean of their two. ``load_results("housing-tuning")`` has the scores.
    """
    pilots = pilots or (5 if full else 2)
    tables = {t: data for t, data in load_tables(full, synthetic=synthetic, seed=seed, path=path).items() if t != "paper"}
    cities = prepare_all(tables)
    tasks = {f"{key}-{rho:g}": (table, name, city, rho) for key, (table, name, city) in cities.items() for rho in SHARES}

    def score(suffix, grid, tabulate):
        name = f"housing-tuning{suffix}" + "-synthetic" * synthetic
        configuration = {"seed": seed, "pilots": pilots, "rho": SHARES, "tables": list(tables), "grid": grid}
        settings = configuration | {"device": device}

        def compute(key):
            *_, city, rho = tasks[key]
            return validate(city, rho, grid, pilots=pilots, seed=seed, device=device)

        kept = {"out": Path(out), "configuration": settings, "unit": "cell", "jobs": jobs}
        parts, seconds = run_parts(name, [(key, 1) for key in tasks], compute, **kept)
        table = tabulate(grid, {task[:2] + task[3:]: parts[key] for key, task in tasks.items()})
        write_results(name, table, Path(out), configuration=configuration, seconds=seconds, device=device, settings=settings)
        return table

    table = score("", GRID, _over_cells)
    score("-wider", WIDER, _by_cell)
    return table


def _over_cells(grid: dict, ratios: dict[tuple, dict[str, np.ndarray]]) -> pd.DataFrame:
    rows = [
        {"network": network} | setting | {"score": np.mean([ratio[network][k] for ratio in ratios.values()])}
        for network, settings in grid.items()
        for k, setting in enumerate(settings)
    ]
    table = pd.DataFrame(rows, columns=["network", "learning_rate", "steps", "penalty", "score"])
    return table.sort_values(["network", "score"], ignore_index=True)


def _by_cell(grid: dict, ratios: dict[tuple, dict[str, np.ndarray]]) -> pd.DataFrame:
    return pd.DataFrame(
        {"network": network, "table": table, "city": city, "rho": rho} | setting | {"ratio": ratio[network][k]}
        for (table, city, rho), ratio in ratios.items()
        for network, settings in grid.items()
        for k, setting in enumerate(settings)
    )
