"""The run of the experiment on rents, and the tables that it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from localma.datasets.housing import Housing
from localma.replication.housing import companies
from localma.replication.housing.companies import WIDTH, City, load_tables, prepare_all
from localma.replication.housing.methods import TOLD, ask_more, replicate
from localma.replication.housing.predictions import stored
from localma.replication.lab.experiment import Experiment, made_up, number_of
from localma.replication.lab.parts import chunks
from localma.replication.lab.results import summarise, tidy

#: Shares of D2, the flats that weights are learned from and tested on.
RHOS = (0.1, 0.3, 0.5, 0.7, 0.9)
#: Those of the paper, for both kinds of models; fewer of what it does not ask, where each sample makes choices of its
#: own.
REPETITIONS = {"network": 100, "forest": 100, "more": 40}
CHUNK = {"network": 25, "forest": 5, "more": 10}
KINDS = ("network", "forest")


@dataclass(kw_only=True)
class Rents(Experiment):
    """All tables that are there, both cities, networks and forests, every rho.

    Besides its table it leaves ``-weights``, LocalMA's mean weights for the middle rho, and ``-more``: what the paper
    does not ask, with networks (:func:`~localma.replication.housing.ask_more`). A full run on real rents leaves
    predictions, too.

    Parameters
    ----------
    full : bool
        100 repetitions, as in the paper, and 40 of what it does not ask; otherwise a look at the smallest table.
    synthetic : bool
        Made-up rents; the files are named ``housing-synthetic``.
    repetitions : int, optional
        Of everything, instead of the above.

    Returns
    -------
    DataFrame
        Columns table, city, ptm, rho, n_ptm, n_train, n_test, method, metric, mean, sd, mcse, replications. Metric
        "mspe" is the mean squared prediction error, "excess" how much it exceeds LocalMA's in the same repetition.
    """

    name = "housing"
    summary = "Section 5.1: rents in Beijing and Shanghai, from a model of each district"

    repetitions: int | None = number_of("of the experiment")
    synthetic: bool = made_up()
    device: str = "cpu"

    def prepare(self):
        scale = REPETITIONS if self.full else {"network": 10, "forest": 2, "more": 4}
        self.repetitions = scale if self.repetitions is None else dict.fromkeys(scale, self.repetitions)
        if min(self.repetitions.values()) < 1:
            raise ValueError(f"repetitions must be at least 1, but are {self.repetitions}")
        self.data = load_tables(self.full, synthetic=self.synthetic, seed=self.seed)
        if self.synthetic:
            print(self.data["synthetic"].banner)
        self.rhos = RHOS if self.full else (0.3, 0.7)
        self.cities = prepare_all(self.data)

    def configuration(self):
        return super().configuration() | {
            "rho": self.rhos,
            "rho_is": "share of D2",
            "tables": {
                name: {"checksum": data.checksum, "rows": len(data), "covariates": data.features, "twins": _twins(data)}
                for name, data in self.data.items()
            },
            "districts": {key: dict(zip(c.districts, c.sizes, strict=True)) for key, c in self.cities.items()},
            "networks": {"width": WIDTH} | {city.table: city.settings for city in self.cities.values()},
            "chosen": "learning rates, steps and penalty of each table by housing-tuning.csv: validation on pilot "
            "repetitions, without test halves",
            "forest": {"trees": companies.TREES},
        }

    def cells(self, found):
        return {
            f"{key}-{kind}-{rho:g}-{rows.start}": (key, kind, rho, rows)
            for kind, total in self.repetitions.items()
            for key in self.cities
            for rho in self.rhos
            for rows in chunks(total, CHUNK[kind])
        }

    def measure(self, key, kind, rho, rows):
        city, how = self.cities[key], {"seed": self.seed, "device": self.device}
        return ask_more(city, rho, rows, **how) if kind == "more" else replicate(city, kind, rho, rows, **how)

    def tables(self, found):
        parts = self.by_cell(found)
        tables: dict[str, list] = {"": [], "weights": [], "more": []}
        for (key, city), kind, rho in product(self.cities.items(), KINDS, self.rhos):
            cell = {"table": city.table, "city": city.name, "ptm": kind, "rho": rho}
            errors = parts[key, kind, rho]
            sizes, weights = errors.pop("sizes")[:3].astype(int).tolist(), errors.pop("weights")
            head = cell | dict(zip(("n_ptm", "n_train", "n_test"), sizes, strict=True))
            tables[""] += tabulate(head, errors, "LocalMA")
            if rho == self.rhos[len(self.rhos) // 2]:
                tables["weights"] += tabulate_weights(cell, city, weights)
            if kind == "network":
                tables["more"] += tabulate(cell, parts[key, "more", rho], "AdaptiveLocalMA")
        return {suffix: pd.DataFrame(rows) for suffix, rows in tables.items()}

    def predictions(self, found):
        city = self.cities.get("lianjia2023-Beijing")
        return stored(city, seed=self.seed) if self.full and city else {}


run = Rents.run


def _twins(data: Housing) -> float:
    """Share of rows that equal another in covariates, rent and place: listings that appear twice."""
    rows = pd.DataFrame(data.X).assign(rent=data.rent, city=data.city, district=data.district)
    return round(float(rows.duplicated(keep=False).mean()), 3)


def tabulate(head: dict, errors: dict[str, np.ndarray], rival: str) -> list[dict]:
    """Rows of the table for one cell; "excess" is over the rival, told the district where the method knows it."""
    found = {}
    for method, error in errors.items():
        other = rival + TOLD * (method == "OwnDistrict" or method.endswith(TOLD))
        found[f"{method}.mspe"] = error
        if method != other:
            found[f"{method}.excess"] = error - errors[other]
    return tidy(head, found)


def tabulate_weights(cell: dict, city: City, weights: np.ndarray) -> list[dict]:
    """Mean weight of each model on the flats of each district, from (R, M, M)."""
    rows = []
    for i, m in np.ndindex(weights.shape[1:]):
        place = dict(zip(("lng", "lat"), city.centres[i], strict=True))
        rows.append(
            cell | {"district": city.districts[i], "model": city.districts[m]} | place | summarise(weights[:, i, m])
        )
    return rows
