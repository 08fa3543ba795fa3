"""A city's flats, how a repetition splits them, and the districts' models.

What the paper leaves open and we decide: the split is drawn within each district, so that every district keeps a model;
in Shanghai the two halved districts are Pudong and Minhang; districts with fewer than 30 flats are left out; where a
table has more flats than the paper, a repetition draws as many of each district as the paper's Table 4 counts. Of the
paper's own rents those above the 99th percentile of its three cities together are dropped, which leaves exactly its
4,654 and 5,432 flats; in the other tables, above that of the city.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import RandomForestRegressor
from torch.nn.utils.rnn import pad_sequence

from localma.datasets.housing import TABLES, Housing, load_housing
from localma.engine import Mlp, Training, fit_direct_stack
from localma.replication.lab.results import load_paper
from localma.replication.lab.sample import tensors

#: Districts of which half of D2 is removed.
HALVED = {"Beijing": ("Haidian", "Chaoyang"), "Shanghai": ("Pudong", "Minhang")}
LEAST = 30
TREES = 100
#: Hidden units of every network, the paper's.
WIDTH = 32
#: Settings among which pilots, or a sample, choose for the districts' networks and the direct one.
DIRECT = tuple(
    {"learning_rate": rate, "steps": steps} for rate, steps in ((0.03, 100), (0.1, 100), (0.01, 300), (0.03, 300))
)


def settings_of(models: dict, weights: dict) -> dict[str, dict]:
    """Of one table: the districts' networks and the direct one, which are of one class, share theirs."""
    return {"PTM": models, "DirectModel": models, "LocalMA": weights}


#: Of each table, chosen by :mod:`localma.replication.housing.tuning`: learning rate and steps of the districts'
#: networks and of the direct one; learning rate and penalty of the weight network, the latter at n = 100, from where it
#: falls with the power 3/4 of n, the package's rule.
CONFIGURATION = {
    "lianjia2023": settings_of({"learning_rate": 0.03, "steps": 100}, {"learning_rate": 0.3, "penalty": 0.1}),
    "lianjia2019": settings_of({"learning_rate": 0.03, "steps": 100}, {"learning_rate": 0.1, "penalty": 0.1}),
    "coordinates": settings_of({"learning_rate": 0.03, "steps": 300}, {"learning_rate": 0.1, "penalty": 0.0001}),
}
#: A table without pilots, such as the paper's own or made-up rents, takes the settings of the one that comes closest to
#: the paper's.
CLOSEST = "lianjia2023"


class City(NamedTuple):
    """The flats of one city, ready for the experiment."""

    table: str
    name: str
    X: np.ndarray  #: (n, d)
    y: np.ndarray  #: (n,), log rents
    which: np.ndarray  #: (n,), number of each flat's district
    districts: tuple[str, ...]
    sizes: tuple[int, ...]  #: how many flats of each district a repetition uses
    halved: tuple[int, ...]  #: numbers of the districts of which half of D2 is removed
    centres: np.ndarray  #: (M, 2), mean longitude and latitude of each district's flats, NaN where not known

    @property
    def key(self) -> str:
        """Of table and city."""
        return f"{self.table}-{self.name}"

    @property
    def settings(self) -> dict[str, dict]:
        """The table's part of ``CONFIGURATION``."""
        return CONFIGURATION.get(self.table, CONFIGURATION[CLOSEST])


class Split(NamedTuple):
    """Rows of one repetition."""

    first: list[np.ndarray]  #: D1, one array for each district
    train: np.ndarray
    test: np.ndarray

    @property
    def second(self) -> np.ndarray:
        """D2, the sample first."""
        return np.concatenate([self.train, self.test])


def table4() -> pd.DataFrame:
    """The paper's Table 4: flats of each district."""
    return load_paper("table4_district_counts.csv")


def prepare(data: Housing, city: str) -> City:
    """Drop flats of unknown district, rents above the 99th percentile and districts of fewer than 30 flats.

    Parameters
    ----------
    data : Housing
    city : {"Beijing", "Shanghai"}

    Examples
    --------
    >>> from localma.datasets import load_housing
    >>> from localma.replication import housing
    >>> city = housing.prepare(load_housing(synthetic=True), "Beijing")
    >>> city.districts[:3], sum(city.sizes)
    (('Chaoyang', 'Daxing', 'Fengtai'), 1485)
    """
    flats = data.only(city)
    ceiling = data.ceiling if data.table in ("coordinates", "paper") else np.quantile(flats.rent, 0.99)
    flats = flats.rows((flats.rent <= ceiling) & (flats.district != ""))
    names, counts = np.unique(flats.district, return_counts=True)
    sizes = {str(name): int(count) for name, count in zip(names, counts, strict=True) if count >= LEAST}
    if data.table == "lianjia2023":
        paper = table4().query("city == @city").set_index("district")["n"]
        sizes = {name: min(count, int(paper[name])) for name, count in sizes.items() if name in paper.index}
    missing = [name for name in HALVED[city] if name not in sizes]
    if missing:
        raise ValueError(
            f"district {missing[0]!r} of {city} has fewer than {LEAST} flats in the table {data.table!r}; "
            "the design needs it"
        )
    districts = tuple(sizes)
    flats = flats.rows(np.isin(flats.district, districts))
    which = np.searchsorted(districts, flats.district)
    centres = pd.DataFrame(flats.coordinates).groupby(which).mean().to_numpy()
    halved = tuple(districts.index(name) for name in HALVED[city])
    return City(data.table, city, flats.X, np.log(flats.rent), which, districts, tuple(sizes.values()), halved, centres)


def _sequence(city: City, repetition: int, seed: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(zlib.crc32(city.key.encode()), repetition))


def split(city: City, rho: float, repetition: int, *, seed: int = 0) -> Split:
    """Rows of one repetition for one rho. The same repetition has the same flats in the same order for every rho: D1
    only gets shorter.
    """
    if not 0 < rho < 1:
        raise ValueError(f"rho must lie between 0 and 1, but is {rho}")
    rng = np.random.default_rng(_sequence(city, repetition, seed))
    first, others = [], []
    for m, size in enumerate(city.sizes):
        rows = rng.permutation(np.flatnonzero(city.which == m))[:size]
        cut = min(max(2, round((1 - rho) * size)), size)
        rest = rows[cut:]
        first.append(rows[:cut])
        others.append(rest[: -(-len(rest) // 2)] if m in city.halved else rest)
    second = rng.permutation(np.concatenate(others))
    return Split(first, second[: len(second) // 2], second[len(second) // 2 : 2 * (len(second) // 2)])


def seeds_of(city: City, repetitions: range, seed: int) -> np.ndarray:
    """Seeds (R, M + 2) of networks or forests: the districts' models, a direct one, the weight network."""
    count = len(city.districts) + 2
    return np.stack([_sequence(city, r, seed).spawn(1)[0].generate_state(count) for r in repetitions])


def draw(city: City, rho: float, repetitions: range, *, seed: int = 0, device: str = "cpu"):
    """Of R repetitions the splits, the seeds (R, M + 2), the rows of D2 (R, n), those to learn from first, how many
    these are, and X and y of these rows.
    """
    splits = [split(city, rho, r, seed=seed) for r in repetitions]
    rows = np.stack([s.second for s in splits])
    sample = tensors(city.X[rows], city.y[rows], device=device)
    return splits, seeds_of(city, repetitions, seed), rows, len(splits[0].train), *sample


def networks(city: City, splits: list[Split], seeds: np.ndarray, *, settings: dict | None = None, device: str = "cpu"):
    """A network of each district and repetition, all trained as one stack with ``settings`` (default the table's): what
    they predict for the flats of D2, (R, n, M), those to learn from first.
    """
    R, M = len(splits), len(city.districts)
    rows = [part for s in splits for part in s.first]
    counts = [len(part) for part in rows]
    X, y = (
        pad_sequence(tensors(*(a[part] for part in rows), device=device), batch_first=True) for a in (city.X, city.y)
    )
    options = Training(**(settings or city.settings["PTM"]))
    own = seeds[:, :M].ravel().tolist()
    stack = fit_direct_stack(X, y, seeds=own, counts=counts, network=Mlp(WIDTH), training=options)
    [x] = tensors(city.X[np.stack([s.second for s in splits])], device=device)
    found = [stack.rows(slice(r * M, (r + 1) * M)).predict(x[r].expand(M, -1, -1)) for r in range(R)]
    return torch.stack(found).transpose(1, 2).contiguous()


def forests(city: City, splits: list[Split], seeds: np.ndarray, *, leaf: int = 1) -> tuple[torch.Tensor, np.ndarray]:
    """A forest of each district and repetition, with at least so many flats in a leaf: predictions (R, n, M) as
    :func:`networks`, and of the direct forest for the test, (R, n_test).
    """
    F, direct, M = [], [], len(city.districts)
    for s, row in zip(splits, seeds, strict=True):
        second = city.X[s.second].astype(np.float32)
        parts = zip(s.first, row[:M], strict=True)
        F.append(np.stack([_forest(city, part, k, leaf).predict(second) for part, k in parts], 1))
        direct.append(_forest(city, s.train, row[M], leaf).predict(city.X[s.test].astype(np.float32)))
    return torch.as_tensor(np.stack(F), dtype=torch.float32), np.stack(direct)


def _forest(city: City, rows: np.ndarray, seed: int, leaf: int) -> RandomForestRegressor:
    return RandomForestRegressor(TREES, min_samples_leaf=leaf, random_state=int(seed)).fit(
        city.X[rows].astype(np.float32), city.y[rows]
    )


SMALLEST_FIRST = ("lianjia2019", "coordinates", "lianjia2023", "paper")


def load_tables(full: bool, *, synthetic: bool = False, seed: int = 0) -> dict[str, Housing]:
    """The tables that a run reads: all that are there, or the smallest of them for a look. Each must be put there by
    hand; any one will do.
    """
    if synthetic:
        return {"synthetic": load_housing(synthetic=True, seed=seed)}
    tables, missing = {}, {}
    for table in TABLES if full else SMALLEST_FIRST:
        try:
            tables[table] = load_housing(table)
        except FileNotFoundError as error:
            missing[table] = error
        if tables and not full:
            return tables
    if not tables:
        raise next(iter(missing.values()))
    if missing:
        print(f"housing: without the tables that were not found: {', '.join(missing)}")
    return tables


def prepare_all(tables: dict[str, Housing]) -> dict[str, City]:
    """The cities of all tables, by their keys."""
    cities = [prepare(data, name) for data in tables.values() for name in ("Beijing", "Shanghai") if name in data.city]
    return {city.key: city for city in cities}
