"""How the settings of the experiment on rents were chosen: by validation on pilot repetitions, without a flat of their
test halves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from localma.replication.housing.companies import (
    CLOSEST,
    CONFIGURATION,
    DIRECT,
    City,
    Split,
    load_tables,
    networks,
    prepare_all,
    seeds_of,
    settings_of,
    split,
)
from localma.replication.housing.methods import direct_networks, evaluate
from localma.replication.lab.experiment import Experiment, made_up
from localma.replication.lab.sample import tensors

GRID = {
    "PTM": DIRECT,
    "DirectModel": DIRECT,
    "LocalMA": tuple(
        {"learning_rate": rate, "penalty": penalty}
        for rate in (0.03, 0.1, 0.3, 1.0)
        for penalty in (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    ),
}
SHARES = (0.1, 0.5)  # of D2
PILOT = 10_000  # pilot repetitions are numbered from here; the experiment's are fewer


def validate(city: City, rho: float, *, pilots: int = 5, seed: int = 0, device: str = "cpu") -> dict[str, np.ndarray]:
    """Validation error of each setting in ``GRID``, relative to the best one, by what the setting is for.

    A quarter of what each network would learn from is held out: of each district's D1 for its model, of the training
    half for the direct model and the weights. Only pilot repetitions are looked at, which the experiment does not use,
    and nothing of their test halves.
    """
    M, repetitions = len(city.districts), range(PILOT, PILOT + pilots)
    seeds = seeds_of(city, repetitions, seed)
    whole = [split(city, rho, r, seed=seed) for r in repetitions]
    n = len(whole[0].train) * 3 // 4
    train = np.stack([s.train for s in whole])
    X, y = tensors(city.X[train], city.y[train], device=device)
    F = networks(city, [Split(s.first, s.train, s.test[:0]) for s in whole], seeds, device=device)

    def of_districts(settings):
        error = []
        for s, row in zip(whole, seeds, strict=True):
            parts = [np.split(part, [max(1, len(part) * 3 // 4)]) for part in s.first]
            held = np.concatenate([last for _, last in parts])
            few = Split([first for first, _ in parts], held, held[:0])
            predicted = networks(city, [few], row[None], settings=settings, device=device)[0].cpu().numpy()
            error.append(np.square(predicted[np.arange(len(held)), city.which[held]] - city.y[held]).mean())
        return np.mean(error)

    def of_direct(settings):
        return np.square(direct_networks(X, y, n, seeds[:, M], settings) - y[:, n:].cpu().numpy()).mean()

    def of_weights(settings):
        nothing = np.zeros((pilots, train.shape[1] - n))
        return evaluate(X, F, y, n, nothing, seeds[:, M + 1], settings=settings)[0]["LocalMA"].mean()

    measures = {"PTM": of_districts, "DirectModel": of_direct, "LocalMA": of_weights}
    errors = {network: np.array([measures[network](one) for one in settings]) for network, settings in GRID.items()}
    return {network: error / error.min() for network, error in errors.items()}


@dataclass(kw_only=True)
class RentsTuning(Experiment):
    """The score of every setting in ``GRID`` by :func:`validate`, in each cell of the experiment that is looked at.

    The configuration of each table is :func:`choose`'s.

    Parameters
    ----------
    full : bool
        Ten pilot repetitions of every table, but for the paper's own; otherwise two of the smallest.
    synthetic
        As for :class:`~localma.replication.housing.experiment.Rents`.
    pilots : int, optional
        Instead of the scale's.

    Returns
    -------
    DataFrame
        Columns network, table, city, rho, learning_rate, steps, penalty, ratio: the validation error relative to that
        of the cell's best setting.
    """

    name = "housing-tuning"
    summary = "how the networks of the rents are trained"
    tunes = "housing"

    pilots: int | None = None
    synthetic: bool = made_up()
    device: str = "cpu"

    def prepare(self):
        self.scaled(pilots=(10, 2))
        data = load_tables(self.full, synthetic=self.synthetic, seed=self.seed)
        data.pop("paper", None)
        if not data:
            known = ", ".join(CONFIGURATION)
            raise ValueError(
                f"the pilots need one of the tables {known}; the paper's own takes the settings of {CLOSEST}"
            )
        self.cities = prepare_all(data)
        self.data = {name: table.checksum for name, table in data.items()}

    def configuration(self):
        return super().configuration() | {"rho": SHARES, "tables": self.data, "grid": GRID}

    def cells(self, found):
        return {f"{key}-{rho:g}": (city, rho) for key, city in self.cities.items() for rho in SHARES}

    def measure(self, city, rho):
        return validate(city, rho, pilots=self.pilots, seed=self.seed, device=self.device)

    def tables(self, found):
        rows = [
            {"network": network, "table": city.table, "city": city.name, "rho": rho}
            | setting
            | {"ratio": found[key][network][k]}
            for network, settings in GRID.items()
            for key, (city, rho) in self.cells(found).items()
            for k, setting in enumerate(settings)
        ]
        columns = ["network", "table", "city", "rho", "learning_rate", "steps", "penalty", "ratio"]
        return {"": pd.DataFrame(rows, columns=columns)}


def choose(found: pd.DataFrame) -> dict[str, dict]:
    """A configuration for each table: the settings with the lowest mean ratio over its cells in the table of
    :class:`RentsTuning`.

    Districts' networks and direct model, which are of one class, share one: that with the lowest mean of their two.
    What is chosen for the districts' networks decides what the weight networks average; so ``CONFIGURATION`` is a fixed
    point: with it, the choice is itself.

    Examples
    --------
    >>> from localma.replication import load_results
    >>> from localma.replication.housing.companies import CONFIGURATION
    >>> from localma.replication.housing.tuning import choose
    >>> choose(load_results("housing-tuning")[0]) == CONFIGURATION
    True
    """
    choice = {}
    for table, rows in found.groupby("table", sort=False):
        score = rows.groupby(["network", "learning_rate", "steps", "penalty"], dropna=False)["ratio"].mean()
        rate, _, penalty = score["LocalMA"].idxmin()
        rate_of_models, steps, _ = (
            score.drop("LocalMA").groupby(["learning_rate", "steps", "penalty"], dropna=False).mean().idxmin()
        )
        models = {"learning_rate": float(rate_of_models), "steps": int(steps)}
        choice[table] = settings_of(models, {"learning_rate": float(rate), "penalty": float(penalty)})
    return choice
