"""Rents once more, against what whoever knows scikit-learn tries first: stacking and boosting on the agents' answers, a
direct network with a longer list of settings, and forests whose leaves hold more than one flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import RandomForestRegressor
from threadpoolctl import threadpool_limits

from localma.engine import Mlp, first_smallest, fit_local_stack
from localma.losses import LOSSES
from localma.replication.housing.companies import (
    CLOSEST,
    TREES,
    WIDTH,
    City,
    draw,
    forests,
    load_tables,
    networks,
    prepare_all,
)
from localma.replication.housing.methods import choose_direct
from localma.replication.lab.experiment import Experiment, made_up, number_of
from localma.replication.lab.parts import chunks
from localma.replication.lab.results import tidy
from localma.replication.lab.rivals import fit_rival

#: A kind of :mod:`localma.replication.lab.rivals`, and whether it reads the answers F, the covariates X or both.
LEARNERS = {
    "Stacking on F": ("linear", "F"),
    "Stacking on F, X": ("linear", "FX"),
    "Boosting on X": ("boosting", "X"),
    "Boosting on F, X": ("boosting", "FX"),
}
#: Among these each sample chooses for the direct network; LocalMA has fewer penalties.
RATES, STEPS = (0.003, 0.01, 0.03, 0.1, 0.3), (30, 100, 300, 1000, 3000)
LIST = tuple({"learning_rate": rate, "steps": steps} for rate, steps in product(RATES, STEPS))
#: Least flats in a leaf: of the agents' forests, all alike, and of the direct one, which takes the least error out of
#: bag.
LEAVES, OWN_LEAVES = (1, 5, 10), (1, 5, 10, 20, 40)
RHOS = (0.1, 0.9)
#: Repetitions of a full run and of a look; each is a part.
FULL, QUICK = 6, 1


def local(X, F, y, n: int, seeds) -> np.ndarray:
    """What ``LocalMA()`` with the experiment's width predicts for the rows after the first n, (R, n_test)."""
    fit = fit_local_stack(X[:, :n], F[:, :n], y[:, :n], LOSSES["squared"], seeds=seeds, network=Mlp(WIDTH))
    return (fit.weights(X[:, n:]) * F[:, n:]).sum(-1).numpy()


def with_networks(city: City, rho: float, repetitions: range, seed: int = 0) -> dict[str, np.ndarray]:
    """Errors ``METHOD.mspe`` (R,) of LocalMA and its rivals when the agents are networks, and ``DirectModel.end``,
    whether its choice stands at an end of ``LIST``.
    """
    M = len(city.districts)
    splits, seeds, _, n, X, y = draw(city, rho, repetitions, seed=seed)
    F = networks(city, splits, seeds)
    direct, which = choose_direct(X, y, n, seeds[:, M], LIST)
    said = {"LocalMA": local(X, F, y, n, seeds[:, M + 1]), "DirectModel": direct}
    columns = {"F": F, "X": X, "FX": torch.cat([F, X], -1)}
    for name, (kind, reads) in LEARNERS.items():
        a = columns[reads].double().numpy()
        learned = [fit_rival(kind, "squared", x[:n], z[:n]) for x, z in zip(a, y.double().numpy(), strict=True)]
        said[name] = np.stack([one.predict(x[n:]) for one, x in zip(learned, a, strict=True)])
    chosen = [LIST[k].values() for k in which]
    ends = {RATES[0], RATES[-1], STEPS[0], STEPS[-1]}
    return mspe(said, y[:, n:]) | {"DirectModel.end": np.array([float(not ends.isdisjoint(c)) for c in chosen])}


def with_forests(city: City, rho: float, repetitions: range, seed: int = 0) -> dict[str, np.ndarray]:
    """The same of forests: "LocalMA, K" has agents with at least K flats in a leaf, "DirectModel, K" is a forest of
    that kind, and "DirectModel" takes the number that is best out of bag.
    """
    M = len(city.districts)
    splits, seeds, _, n, X, y = draw(city, rho, repetitions, seed=seed)
    said, fitted = {}, {}
    for leaf in LEAVES:
        F, _ = forests(city, splits, seeds, leaf=leaf)
        said[f"LocalMA, {leaf}"] = local(X, F, y, n, seeds[:, M + 1])
    for leaf in OWN_LEAVES:
        how = {"min_samples_leaf": leaf, "oob_score": True}
        fitted[leaf] = [
            RandomForestRegressor(TREES, random_state=int(s), **how).fit(x[:n], z[:n])
            for x, z, s in zip(X.numpy(), y.numpy(), seeds[:, M], strict=True)
        ]
        predicted = [one.predict(x[n:]) for one, x in zip(fitted[leaf], X.numpy(), strict=True)]
        said[f"DirectModel, {leaf}"] = np.stack(predicted)
    best = first_smallest([[-one.oob_score_ for one in some] for some in fitted.values()], 0)
    said["DirectModel"] = np.stack([said[f"DirectModel, {OWN_LEAVES[k]}"][r] for r, k in enumerate(best)])
    return mspe(said, y[:, n:]) | {"DirectModel.end": (best == len(OWN_LEAVES) - 1).astype(float)}


def mspe(said: dict[str, np.ndarray], y: torch.Tensor) -> dict[str, np.ndarray]:
    return {f"{name}.mspe": np.square(a - y.double().numpy()).mean(-1) for name, a in said.items()}


KINDS = {"network": (with_networks, "LocalMA"), "forest": (with_forests, f"LocalMA, {LEAVES[0]}")}


@dataclass(kw_only=True)
class RentsRivals(Experiment):
    """On the first repetitions of :class:`~localma.replication.housing.experiment.Rents`.

    Parameters
    ----------
    full : bool
        Six repetitions of the table that comes closest to the paper's in size, and two shares; otherwise one of the
        smallest table and one share.
    synthetic : bool
        Made-up rents; the files are named ``housing-rivals-synthetic``.
    repetitions : int, optional

    Returns
    -------
    DataFrame
        Columns table, city, ptm, rho, method, metric, mean, sd, mcse, replications. Metric "mspe" is the mean squared
        prediction error, "lead" how much it exceeds LocalMA's in the same repetition (with forests: that of agents
        whose trees grow to the end), "direct" the same over DirectModel's, "end" the share of samples whose choice
        stands at an end of the list.
    """

    name = "housing-rivals"
    summary = "beyond the paper: rents by stacking, boosting, longer lists and larger leaves"
    extent = ("repetitions",)

    repetitions: int | None = number_of("of the experiment")
    synthetic: bool = made_up()

    def prepare(self):
        self.scaled(repetitions=(FULL, QUICK))
        data = load_tables(self.full, synthetic=self.synthetic, seed=self.seed)
        self.data = {CLOSEST: data[CLOSEST]} if CLOSEST in data else data
        self.cities = prepare_all(self.data)
        self.rhos = RHOS if self.full else RHOS[:1]

    def configuration(self):
        return super().configuration() | {
            "rho": self.rhos,
            "tables": {name: table.checksum for name, table in self.data.items()},
            "direct network": LIST,
            "leaves": {"agents": LEAVES, "direct": OWN_LEAVES},
        }

    def cells(self, found):
        return {
            f"{key}-{kind}-{rho:g}-{rows.start}": (key, kind, rho, rows)
            for rows in chunks(self.repetitions, 1)
            for kind in KINDS
            for key in self.cities
            for rho in self.rhos
        }

    def measure(self, key, kind, rho, rows):
        with threadpool_limits(1):
            return KINDS[kind][0](self.cities[key], rho, rows, seed=self.seed)

    def tables(self, found):
        out = []
        for (key, kind, rho), part in self.by_cell(found).items():
            city = self.cities[key]
            head = {"table": city.table, "city": city.name, "ptm": kind, "rho": rho}
            for metric, rival in (("lead", KINDS[kind][1]), ("direct", "DirectModel")):
                part |= {
                    f"{name.removesuffix('mspe')}{metric}": value - part[f"{rival}.mspe"]
                    for name, value in part.items()
                    if name.endswith(".mspe")
                }
            out += tidy(head, part)
        return {"": pd.DataFrame(out)}
