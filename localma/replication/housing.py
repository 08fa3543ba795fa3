"""Section 5.1 of the paper: log rents in Beijing and Shanghai, one pre-trained model per district.

A repetition splits a city's flats into D1, which trains the districts' models, and D2, of which half of the flats in two districts are
removed and the rest is halved into a sample to learn from and a test. ``rho`` is the share of D2: as it grows, weights and the direct model
get more data and the districts' models less. The ten covariates of the paper contain neither district nor coordinates, so the weight network
does not see where a flat is; in the table ``coordinates`` it sees nothing else.

What the paper leaves open and we decide: the split is drawn within each district, so that every district keeps a model; in Shanghai the two
halved districts are Pudong and Minhang; districts with fewer than 30 flats are left out; where a table has more flats than the paper, a
repetition draws as many of each district as the paper's Table 4 counts.
"""

from __future__ import annotations

import zlib
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import RandomForestRegressor

from localma.baselines import global_weights
from localma.datasets.housing import TABLES, Housing, load_housing
from localma.direct import fit_direct_stack
from localma.files import write_arrays
from localma.losses import LOSSES
from localma.replication.runner import run_parts, summarise, write_results
from localma.training import Options, fit_stack

__all__ = [
    "CONFIGURATION",
    "HALVED",
    "METHODS",
    "RHOS",
    "City",
    "Split",
    "evaluate",
    "forests",
    "networks",
    "prepare",
    "run",
    "split",
    "tune",
]

#: Shares of D2, the flats that weights are learned from and tested on.
RHOS = (0.1, 0.3, 0.5, 0.7, 0.9)
METHODS = ("LocalMA", "GW", "EWMA", "DirectModel", "BestPTM")
#: Districts of which half of D2 is removed.
HALVED = {"Beijing": ("Haidian", "Chaoyang"), "Shanghai": ("Pudong", "Minhang")}
LEAST = 30
TREES = 100
#: Hidden units are the paper's. The rest is chosen by :func:`tune` among ``GRID``: learning rate and steps of the districts' networks and of the direct one;
#: learning rate and penalty of the weight network, the latter at n = 100, from where it falls with the power 3/4 of n, the package's rule.
CONFIGURATION = {
    "width": 32,
    "PTM": {"learning_rate": 0.03, "steps": 100},
    "DirectModel": {"learning_rate": 0.03, "steps": 100},
    "LocalMA": {"learning_rate": 0.1, "penalty": 0.01},
}
_NETWORKS = tuple({"learning_rate": rate, "steps": steps} for rate, steps in ((0.03, 100), (0.1, 100), (0.01, 300), (0.03, 300)))
GRID = {
    "PTM": _NETWORKS,
    "DirectModel": _NETWORKS,
    "LocalMA": tuple({"learning_rate": rate, "penalty": penalty} for rate in (0.03, 0.1) for penalty in (0.01, 0.03, 0.1)),
}
#: A forest's repetition costs more than ten times a network's: two to five seconds.
REPETITIONS = {"network": 100, "forest": 20}
CHUNK = {"network": 25, "forest": 5}
PILOT = 10_000  # pilot repetitions, of which configurations are chosen, are numbered from here


class City(NamedTuple):
    """The flats of one city, ready for the experiment."""

    key: str  #: of table and city
    X: np.ndarray  #: (n, d)
    y: np.ndarray  #: (n,), log rents
    which: np.ndarray  #: (n,), number of each flat's district
    districts: tuple[str, ...]
    sizes: tuple[int, ...]  #: how many flats of each district a repetition uses
    halved: tuple[int, ...]  #: numbers of the districts of which half of D2 is removed
    centres: np.ndarray  #: (M, 2), mean longitude and latitude of each district's flats, NaN where not known


class Predictions(NamedTuple):
    """What :func:`save_predictions` stored: R repetitions of one cell, whose average can be rerun without the rents' source."""

    F: np.ndarray  #: (R, n, M), predicted log rents
    y: np.ndarray  #: (R, n), log rents
    which: np.ndarray  #: (R, n), number of each flat's district
    districts: list[str]
    n_train: int  #: so many flats, the first ones, are learned from; the others are the test


class Split(NamedTuple):
    """Rows of one repetition."""

    first: list[np.ndarray]  #: D1, one array for each district
    train: np.ndarray
    test: np.ndarray


def table4() -> pd.DataFrame:
    """The paper's Table 4: flats of each district."""
    with (files("localma.replication") / "paper" / "table4_district_counts.csv").open() as file:
        return pd.read_csv(file)


def prepare(data: Housing, city: str) -> City:
    """Drop flats of unknown district, rents above the city's 99th percentile and districts of fewer than 30 flats.

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
    flats = flats.rows((flats.rent <= np.quantile(flats.rent, 0.99)) & (flats.district != ""))
    names, counts = np.unique(flats.district, return_counts=True)
    if data.table == "lianjia2023":
        paper = table4().query("city == @city").set_index("district")["n"]
        sizes = {str(name): int(min(count, paper[name])) for name, count in zip(names, counts, strict=True) if name in paper.index}
    else:
        sizes = {str(name): int(count) for name, count in zip(names, counts, strict=True) if count >= LEAST}
    missing = [name for name in HALVED[city] if name not in sizes]
    if missing:
        raise ValueError(f"district {missing[0]!r} of {city} has fewer than {LEAST} flats in the table {data.table!r}; the design needs it")
    districts = tuple(sizes)
    flats = flats.rows(np.isin(flats.district, districts))
    which = np.searchsorted(districts, flats.district)
    centres = np.full((len(districts), 2), np.nan)
    for m in range(len(districts)):
        known = flats.coordinates[(which == m) & ~np.isnan(flats.coordinates[:, 0])]
        if len(known):
            centres[m] = known.mean(0)
    halved = tuple(districts.index(name) for name in HALVED[city])
    return City(f"{data.table}-{city}", flats.X, np.log(flats.rent), which, districts, tuple(sizes.values()), halved, centres)


def _sequence(city: City, repetition: int, seed: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(zlib.crc32(city.key.encode()), repetition))


def split(city: City, rho: float, repetition: int, *, seed: int = 0) -> Split:
    """Rows of one repetition for one rho. The same repetition has the same flats in the same order for every rho: D1 only gets shorter."""
    if not 0 < rho < 1:
        raise ValueError(f"rho must lie between 0 and 1, but is {rho}")
    rng = np.random.default_rng(_sequence(city, repetition, seed))
    first, second = [], []
    for m, size in enumerate(city.sizes):
        rows = rng.permutation(np.flatnonzero(city.which == m))[:size]
        cut = min(max(2, round((1 - rho) * size)), size)
        rest = rows[cut:]
        first.append(rows[:cut])
        second.append(rest[: -(-len(rest) // 2)] if m in city.halved else rest)
    second = rng.permutation(np.concatenate(second))
    return Split(first, second[: len(second) // 2], second[len(second) // 2 : 2 * (len(second) // 2)])


def _seeds(city: City, repetitions: range, seed: int, count: int) -> np.ndarray:
    """Seeds of networks or forests, (repetitions, count)."""
    return np.stack([_sequence(city, r, seed).spawn(1)[0].generate_state(count) for r in repetitions])


def networks(city: City, splits: list[Split], seeds: np.ndarray, *, settings: dict | None = None, device: str = "cpu"):
    """A network of each district and repetition, all trained as one stack, and what they predict.

    Parameters
    ----------
    city : City
    splits : list of R Split
    seeds : array of shape (R, M)
    settings : dict, optional
        Of ``localma.training.Options``; default those of ``CONFIGURATION``.

    Returns
    -------
    Tensor of shape (R, n, M)
        Predictions for the flats of D2, those to learn from first.
    """
    R, M, d = len(splits), len(city.districts), city.X.shape[1]
    rows = [part for s in splits for part in s.first]
    counts = [len(part) for part in rows]
    X = torch.zeros(R * M, max(counts), d, device=device)
    y = torch.zeros(R * M, max(counts), device=device)
    for b, part in enumerate(rows):
        X[b, : len(part)] = torch.as_tensor(city.X[part])
        y[b, : len(part)] = torch.as_tensor(city.y[part])
    options = Options(**(settings or CONFIGURATION["PTM"]))
    stack = fit_direct_stack(X, y, seeds=seeds.ravel(), counts=counts, width=CONFIGURATION["width"], options=options)
    second = _second(splits)
    x = torch.as_tensor(city.X[second], dtype=torch.float32, device=device)
    found = [stack.rows(slice(r * M, (r + 1) * M)).predict(x[r].expand(M, -1, -1)) for r in range(R)]
    return torch.stack(found).transpose(1, 2).contiguous()


def forests(city: City, splits: list[Split], seeds: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """A forest of each district and repetition: predictions (R, n, M) as :func:`networks`, and of the direct forest for the test, (R, n_test)."""
    F, direct = [], []
    for s, row in zip(splits, seeds, strict=True):
        second = city.X[np.concatenate([s.train, s.test])].astype(np.float32)
        F.append(np.stack([_forest(city, part, k).predict(second) for part, k in zip(s.first, row, strict=False)], 1))
        direct.append(_forest(city, s.train, row[-1]).predict(city.X[s.test].astype(np.float32)))
    return torch.as_tensor(np.stack(F), dtype=torch.float32), np.stack(direct)


def _forest(city: City, rows: np.ndarray, seed: int) -> RandomForestRegressor:
    return RandomForestRegressor(TREES, random_state=int(seed)).fit(city.X[rows].astype(np.float32), city.y[rows])


def _second(splits: list[Split]) -> np.ndarray:
    return np.stack([np.concatenate([s.train, s.test]) for s in splits])


def direct_networks(X, y, n: int, seeds, settings: dict | None = None) -> np.ndarray:
    """Predictions (R, n_test) for the rows after the first n, of networks trained on the first n."""
    options = Options(**(settings or CONFIGURATION["DirectModel"]))
    stack = fit_direct_stack(X[:, :n], y[:, :n], seeds=seeds, width=CONFIGURATION["width"], options=options)
    return stack.predict(X[:, n:]).cpu().numpy()


def evaluate(X, F, y, n: int, direct: np.ndarray, seeds, *, settings: dict | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Mean squared prediction error of every method in R repetitions at once.

    Parameters
    ----------
    X, F, y : Tensors of shapes (R, N, d), (R, N, M), (R, N)
        The first n observations are learned from, the others are the test.
    n : int
    direct : array of shape (R, N - n)
        The direct model's predictions for the test.
    seeds : sequence of int, length R
        Of the weight networks.

    Returns
    -------
    errors : dict of method to array (R,)
    weights : array of shape (R, N - n, M)
        LocalMA's, on the test.
    """
    settings = settings or CONFIGURATION["LocalMA"]
    options = Options(
        learning_rate=settings["learning_rate"],
        penalty=settings["penalty"] * (100 / n) ** 0.75,
        # settings were chosen, and the committed tables made, with a validation part above a thousand flats
        validation_fraction=min(0.1, 10_000 / n) if n > 1000 else 0.0,
    )
    fit = fit_stack(X[:, :n], F[:, :n], y[:, :n], LOSSES["squared"], seeds=seeds, width=CONFIGURATION["width"], options=options)
    weights = fit.weights(X[:, n:]).double().cpu().numpy()
    known, truth = F.double().cpu().numpy(), y.double().cpu().numpy()
    gw = global_weights(known[:, :n], truth[:, :n], LOSSES["squared"])
    test, target = known[:, n:], truth[:, n:]
    predictions = {
        "LocalMA": (weights * test).sum(-1),
        "GW": (gw[:, None] * test).sum(-1),
        "EWMA": test.mean(-1),
        "DirectModel": direct,
    }
    errors = {name: np.square(a - target).mean(-1) for name, a in predictions.items()}
    errors["BestPTM"] = np.square(test - target[..., None]).mean(1).min(-1)  # the best on the test, as in the paper: an oracle
    return errors, weights


def replicate(city: City, kind: str, rho: float, repetitions: range, *, seed: int = 0, device: str = "cpu") -> dict[str, np.ndarray]:
    """Some repetitions of one cell: ``METHOD`` (R,), its errors, and ``weights`` (R, M, M): of each district's flats on each district's model."""
    M = len(city.districts)
    splits = [split(city, rho, r, seed=seed) for r in repetitions]
    seeds = _seeds(city, repetitions, seed, M + 2)
    second, n = _second(splits), len(splits[0].train)
    X, y = (torch.as_tensor(a[second], dtype=torch.float32, device=device) for a in (city.X, city.y))
    if kind == "network":
        F = networks(city, splits, seeds[:, :M], device=device)
        direct = direct_networks(X, y, n, seeds[:, M])
    else:
        F, direct = forests(city, splits, seeds[:, : M + 1])
        F = F.to(device)
    errors, weights = evaluate(X, F, y, n, direct, seeds[:, M + 1])
    home = np.eye(M)[city.which[second[:, n:]]]  # (R, n_test, M)
    mean = np.einsum("rni,rnm->rim", home, weights) / np.maximum(home.sum(1), 1)[..., None]
    return errors | {"weights": mean, "sizes": np.array([sum(map(len, splits[0].first)), n, len(splits[0].test)])}


def tell(city: City, rho: float, repetitions: range, *, seed: int = 0, device: str = "cpu") -> dict[str, np.ndarray]:
    """Not in the paper: what the district is worth. Errors (R,) of LocalMA and DirectModel, both networks, without and with the district told.

    ``OwnDistrict`` asks for each flat the model of its own district, with nothing learned at all.
    """
    M = len(city.districts)
    splits = [split(city, rho, r, seed=seed) for r in repetitions]
    seeds = _seeds(city, repetitions, seed, M + 2)
    second, n = _second(splits), len(splits[0].train)
    X, y = (torch.as_tensor(a[second], dtype=torch.float32, device=device) for a in (city.X, city.y))
    F = networks(city, splits, seeds[:, :M], device=device)
    district = torch.as_tensor(city.which[second], device=device)
    told = torch.cat([X, torch.nn.functional.one_hot(district, M).to(X)], -1)
    own = F.gather(-1, district.unsqueeze(-1)).squeeze(-1)
    errors = {"OwnDistrict": (own - y)[:, n:].square().mean(-1).cpu().numpy()}
    for words, x in (("", X), (" told the district", told)):
        found, _ = evaluate(x, F, y, n, direct_networks(x, y, n, seeds[:, M]), seeds[:, M + 1])
        errors |= {f"{method}{words}": found[method] for method in ("LocalMA", "DirectModel")}
    return errors


def tune(cities: list[City], *, rhos=(0.1, 0.5), pilots: int = 5, seed: int = 0, device: str = "cpu") -> pd.DataFrame:
    """Validation errors of all configurations in ``GRID``, on pilot repetitions that the experiment does not use, and without their test halves.

    A quarter of what each network would learn from is held out: of each district's D1 for its model, of the training half for the direct model and the
    weights. The score is the error relative to the best configuration, averaged over cities and shares: one configuration for all.

    Returns
    -------
    DataFrame
        Columns network, learning_rate, steps, penalty, score. The choice has the lowest score; districts' networks and direct model, which are of one class,
        share the setting with the lowest mean of their two. ``load_results("housing-tuning")`` has the scores.
    """
    records = []
    repetitions = range(PILOT, PILOT + pilots)
    for city in cities:
        M = len(city.districts)
        seeds = _seeds(city, repetitions, seed, M + 2)
        for rho in rhos:
            whole = [split(city, rho, r, seed=seed) for r in repetitions]
            n = len(whole[0].train) * 3 // 4
            train = np.stack([s.train for s in whole])
            X, y = (torch.as_tensor(a[train], dtype=torch.float32, device=device) for a in (city.X, city.y))
            F = networks(city, [Split(s.first, s.train, s.test[:0]) for s in whole], seeds[:, :M], device=device)
            nothing = np.zeros((pilots, train.shape[1] - n))

            def own(settings, whole=whole, seeds=seeds, city=city):
                error = []
                for s, row in zip(whole, seeds[:, :-2], strict=True):
                    cuts = [max(1, len(part) * 3 // 4) for part in s.first]
                    held = np.concatenate([part[c:] for part, c in zip(s.first, cuts, strict=True)])
                    few = Split([part[:c] for part, c in zip(s.first, cuts, strict=True)], held, held[:0])
                    F = networks(city, [few], row[None], settings=settings, device=device)[0].cpu().numpy()
                    error.append(np.square(F[np.arange(len(held)), city.which[held]] - city.y[held]).mean())
                return np.mean(error)

            measure = {
                "PTM": own,
                "DirectModel": lambda settings, X=X, y=y, n=n, seeds=seeds: np.square(
                    direct_networks(X, y, n, seeds[:, -2], settings) - y[:, n:].cpu().numpy()
                ).mean(),
                "LocalMA": lambda settings, X=X, F=F, y=y, n=n, seeds=seeds, nothing=nothing: evaluate(
                    X, F, y, n, nothing, seeds[:, -1], settings=settings
                )[0]["LocalMA"].mean(),
            }
            for network, grid in GRID.items():
                errors = np.array([measure[network](settings) for settings in grid])
                records += [{"network": network} | s | {"ratio": e} for s, e in zip(grid, errors / errors.min(), strict=True)]
    table = pd.DataFrame(records, columns=["network", "learning_rate", "steps", "penalty", "ratio"])
    scores = table.groupby(["network", "learning_rate", "steps", "penalty"], dropna=False)["ratio"].mean().rename("score").reset_index()
    return scores.sort_values(["network", "score"], ignore_index=True)


def run(
    *,
    full: bool = False,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path = "results",
    jobs: int = 1,
    synthetic: bool = False,
    path=None,
    repetitions: dict[str, int] | None = None,
) -> pd.DataFrame:
    """All tables that are there, both cities, networks and forests, every rho.

    Writes, each with its provenance, ``housing.csv``; ``housing-weights.csv``, LocalMA's mean weights for the middle rho; and ``housing-district.csv``, what
    the district would be worth (:func:`tell`).

    Parameters
    ----------
    full : bool
        100 repetitions with networks and 20 with forests, whose cost forbids more; otherwise a look at the smallest table.
    synthetic : bool
        Made-up rents; the files are named ``housing-synthetic``.
    path : path, optional
        Folder of the data; see :func:`localma.datasets.load_housing`.
    repetitions : dict, optional
        Of "network" and "forest", instead of the above.

    Returns
    -------
    DataFrame
        Columns table, city, ptm, rho, n_ptm, n_train, n_test, method, metric, mean, sd, mcse, replications. Metric "mspe" is the mean squared
        prediction error, "excess" how much it exceeds LocalMA's in the same repetition.
    """
    name = "housing-synthetic" if synthetic else "housing"
    if synthetic:
        tables = {"synthetic": load_housing(synthetic=True, seed=seed)}
        print(tables["synthetic"].banner)
    else:
        tables = {table: load_housing(table, path=path) for table in (TABLES if full else ("lianjia2019",)) if table != "paper"}
        if full:
            try:
                tables["paper"] = load_housing("paper", path=path)
            except FileNotFoundError:
                pass  # it asks for a download by hand; the provenance says which tables were used
    repetitions = repetitions or (REPETITIONS if full else {"network": 10, "forest": 2})
    rhos = RHOS if full else (0.3, 0.7)
    cities = {f"{t}-{c}": (t, c, prepare(data, c)) for t, data in tables.items() for c in ("Beijing", "Shanghai") if c in data.city}
    configuration = {
        "seed": seed,
        "device": device,
        "rho": rhos,
        "rho_is": "share of D2",
        "repetitions": repetitions,
        "tables": {t: {"checksum": data.checksum, "rows": len(data), "covariates": data.features} for t, data in tables.items()},
        "districts": {key: dict(zip(c.districts, c.sizes, strict=True)) for key, (_, _, c) in cities.items()},
        "networks": CONFIGURATION,
        "chosen": "learning rates and steps by localma.replication.housing.tune: validation on pilot repetitions, without test halves",
        "forest": {"trees": TREES},
    }
    chunks = {
        f"{key}-{kind}-{rho:g}-{start}": (key, kind, rho, range(start, min(start + CHUNK[kind], total)))
        for kind, total in repetitions.items()
        for key in cities
        for rho in rhos
        for start in range(0, total, CHUNK[kind])
    }

    def compute(part):
        key, kind, rho, rows = chunks[part]
        return replicate(cities[key][2], kind, rho, rows, seed=seed, device=device)

    def go(suffix, compute, sizes):
        settings = {"out": Path(out), "configuration": configuration, "unit": "repetition", "jobs": jobs}
        return run_parts(name + suffix, sizes, compute, **settings)

    def write(suffix, records, seconds):
        table = pd.DataFrame(records)
        write_results(name + suffix, table, Path(out), configuration=configuration, seconds=seconds, device=device)
        return table

    middle = rhos[len(rhos) // 2]
    total = repetitions.get("network", 0)
    if total:
        parts, seconds = go(
            "-district", lambda key: tell(cities[key][2], middle, range(total), seed=seed, device=device), [(k, total) for k in cities]
        )
        records = []
        for key, (table, city, _) in cities.items():
            for method, values in parts[key].items():
                records.append({"table": table, "city": city, "ptm": "network", "rho": middle, "method": method} | summarise(values))
        write("-district", records, seconds)
    sizes = [(part, len(chunk[3])) for part, chunk in chunks.items()]
    parts, seconds = go("", compute, sizes)
    records, shares = [], []
    for key, (table, city, here) in cities.items():
        for kind in repetitions:
            for rho in rhos:
                found = [parts[p] for p, chunk in chunks.items() if chunk[:3] == (key, kind, rho)]
                n_ptm, n_train, n_test = (int(k) for k in found[0]["sizes"])
                cell = {"table": table, "city": city, "ptm": kind, "rho": rho}
                errors = {method: np.concatenate([part[method] for part in found]) for method in METHODS}
                for method in METHODS:
                    row = cell | {"n_ptm": n_ptm, "n_train": n_train, "n_test": n_test, "method": method}
                    records.append(row | {"metric": "mspe"} | summarise(errors[method]))
                    if method != "LocalMA":
                        records.append(row | {"metric": "excess"} | summarise(errors[method] - errors["LocalMA"]))
                if rho == middle:
                    weights = np.concatenate([part["weights"] for part in found])
                    for i, m in np.ndindex(weights.shape[1:]):
                        place = dict(zip(("lng", "lat"), here.centres[i], strict=True))
                        shares.append(
                            cell | {"district": here.districts[i], "model": here.districts[m]} | place | summarise(weights[:, i, m])
                        )
    write("-weights", shares, seconds)
    return write("", records, seconds)


def save_predictions(city: City, *, repetitions: int = 5, rho: float = 0.5, seed: int = 0, out: str | Path = "results") -> Path:
    """``housing-predictions.npz``: what the districts' networks predict for the flats of D2, so that the averaging can be rerun without the rents' source.

    Those of :class:`Predictions`, log rents as float16 after ``centre`` is subtracted: rounded to a thousandth of a rent or less near the centre.
    """
    splits = [split(city, rho, r, seed=seed) for r in range(repetitions)]
    seeds = _seeds(city, range(repetitions), seed, len(city.districts) + 2)
    F = networks(city, splits, seeds[:, :-2]).numpy()
    second = _second(splits)
    centre = round(float(city.y.mean()), 2)
    arrays = {
        "F": (F - centre).astype(np.float16),
        "y": (city.y[second] - centre).astype(np.float16),
        "which": city.which[second].astype(np.int8),
        "districts": np.array(city.districts),
        "centre": np.array(centre),
        "n_train": np.array(len(splits[0].train)),
    }
    place = Path(out) / "housing-predictions.npz"
    place.parent.mkdir(parents=True, exist_ok=True)

    write_arrays(place, arrays, compressed=True)
    return place


def load_predictions() -> Predictions:
    """The stored predictions of Beijing's 13 district networks for ten repetitions with rho = 0.5, from the table ``lianjia2023``.

    Examples
    --------
    >>> from localma.replication import housing
    >>> housing.load_predictions().F.shape
    (10, 1856, 13)
    """
    with (files("localma.replication") / "results" / "housing-predictions.npz").open("rb") as file, np.load(file) as stored:
        centre = float(stored["centre"])
        F, y = (stored[name].astype(float) + centre for name in ("F", "y"))
        return Predictions(F, y, stored["which"].astype(int), stored["districts"].tolist(), int(stored["n_train"]))
