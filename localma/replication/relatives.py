"""LocalMA and its relatives on one stage: the same samples, the same frozen models, one table.

Worlds are those of the other chapters: Scenario 1 with its three settings and Scenario 2 (:mod:`localma.replication.simulation`), the digits
of four companies (:mod:`localma.replication.digits`), the counts of five insurers (:mod:`localma.replication.counts`). In each replication
every method gets the same sample, and what it tunes, it tunes inside that sample. Nothing was adjusted to the worlds: every method
runs with its defaults.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, PoissonRegressor, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from localma import relatives as kin
from localma.averages import BestModel, DirectModel, EqualWeights, GlobalMA, LocalMA
from localma.engine import one_thread
from localma.losses import LOSSES
from localma.replication import counts, digits, simulation
from localma.replication.runner import run_parts, summarise, write_results

__all__ = ["METHODS", "WORLDS", "Method", "Sample", "Stacker", "World", "compare", "run", "tabulate"]

FULL, QUICK = 20, 2
# Replications that are kept together; few, so that little is lost on Ctrl-C.
CHUNK = 5
TEST_SIZE = 2500


class Sample(NamedTuple):
    """What one replication is about."""

    X: np.ndarray  #: (n, d)
    y: np.ndarray  #: (n,)
    F: np.ndarray  #: (n, M), or (n, M, K)
    X_test: np.ndarray
    y_test: np.ndarray  #: responses, or the true means where a simulation knows them
    F_test: np.ndarray


# --- worlds -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """A name, a loss, sample sizes, and ``draw(n, replication, seed)``."""

    name: str
    loss: str
    sizes: tuple[int, ...]
    draw: Callable[[int, int, int], Sample] = field(repr=False)

    def key(self, n: int) -> str:
        return f"{self.name.replace(' ', '')}-n{n}"


def _simulated(scenario, setting, n, replication, seed):
    number = ("S1", "S2", "S3", "-").index(setting)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, n, replication)))
    cell = simulation.Cell(scenario, setting, n)
    X, F, y = (a[0] for a in simulation.draw(cell, 1, rng))
    new = rng.standard_normal((TEST_SIZE, 5))
    return Sample(X, y, F, new, simulation.true_mean(new, cell), simulation.candidate_models(new))


@lru_cache(CHUNK)  # the sizes of one world take the first rows of the same cut
def _cut(world, replication, seed):
    if world == "digits":
        return Sample(*(a[0] for a in digits.repeat(1, seed=1000 * seed + replication)))
    cut = counts.sample(max(WORLDS["counts"].sizes), counts.generator(replication, seed))
    return Sample(cut.X, cut.y, cut.F, cut.X_test, cut.y_test, cut.F_test)


def _real(world, n, replication, seed):
    cut = _cut(world, replication, seed)
    return cut._replace(X=cut.X[:n], y=cut.y[:n], F=cut.F[:n])


#: The worlds by name, in the order of the table.
WORLDS = {
    world.name: world
    for world in (
        World("S1", "squared", (100, 900), partial(_simulated, 1, "S1")),
        World("S2", "squared", (100, 900), partial(_simulated, 1, "S2")),
        World("S3", "squared", (100, 900), partial(_simulated, 1, "S3")),
        World("Scenario 2", "squared", (100, 900), partial(_simulated, 2, "-")),
        World("digits", "cross_entropy", (50, 600), partial(_real, "digits")),
        World("counts", "poisson", (300, 1500), partial(_real, "counts")),
    )
}


# --- methods ----------------------------------------------------------------------------------------------------------------------


class Stacker:
    """Any scikit-learn learner on the models' predictions and, if asked, the covariates beside them.

    What ``StackingRegressor(..., cv="prefit", passthrough=True)`` fits, from stored predictions instead of models.

    Parameters
    ----------
    learner : scikit-learn estimator
    passthrough : bool
        Add the covariates.
    logarithm : bool
        Give the learner logarithms of the predictions, for learners with a log link.
    """

    def __init__(self, learner, *, passthrough=True, logarithm=False):
        self.learner, self.passthrough, self.logarithm = learner, passthrough, logarithm

    def _columns(self, X, F):
        flat = np.reshape(np.log(F) if self.logarithm else F, (len(F), -1))
        return np.hstack([flat, X]) if self.passthrough else flat

    def fit(self, X, y, F):
        self.learner.fit(self._columns(X, F), y)
        return self

    def predict(self, X, F):
        return self.learner.predict(self._columns(X, F))

    @property
    def classes_(self):
        return self.learner.classes_

    def predict_proba(self, X, F):
        return self.learner.predict_proba(self._columns(X, F))


def _linear_stacker(loss, seed):
    if loss == "squared":
        return Stacker(RidgeCV())
    if loss == "poisson":
        search = GridSearchCV(PoissonRegressor(max_iter=1000), {"alpha": [1e-3, 1e-2, 0.1, 1.0]}, scoring="neg_mean_poisson_deviance")
        return Stacker(make_pipeline(StandardScaler(), search), logarithm=True)
    return Stacker(LogisticRegression(max_iter=1000))


def _forest(loss, seed):
    if loss == "cross_entropy":
        return RandomForestClassifier(random_state=seed)
    if loss == "poisson":
        return RandomForestRegressor(random_state=seed, **counts.FOREST)
    return RandomForestRegressor(random_state=seed)


def _direct(loss, seed):
    return DirectModel(LogisticRegression(max_iter=1000) if loss == "cross_entropy" else _forest(loss, seed), loss=loss)


@dataclass(frozen=True)
class Method:
    """How a method is made for a loss and a seed, what kind of weights it has, and which losses it takes."""

    make: Callable[[str, int], object] = field(repr=False)
    family: str
    losses: tuple[str, ...] = ("squared", "poisson", "cross_entropy")


def _of(kind, **options):
    """A method of the package with its defaults, and the seed where it has one."""
    known = kind().get_params()

    def make(loss, seed):
        return kind(loss=loss, **({"random_state": seed} if "random_state" in known else {}), **options)

    return make


_MEANS = ("squared", "poisson")
#: The methods by name. Families: constant weights, local weights, no weights (a model of its own on top or instead).
METHODS = {
    "LocalMA": Method(_of(LocalMA, progress=False, shrinkage=None), "local"),  # the paper's
    "LocalMA adaptive": Method(_of(LocalMA, progress=False, shrinkage="cv"), "local"),
    "Hierarchical": Method(_of(kin.HierarchicalStacking), "local"),
    "MoE": Method(_of(kin.MixtureOfExperts), "local"),
    "MoE competitive": Method(_of(kin.MixtureOfExperts, objective="competitive"), "local", _MEANS),  # for classes they are the same
    "Feature stacking": Method(_of(kin.FeatureStacking), "local", ("squared",)),
    "Pan": Method(_of(kin.RightProbability), "local"),
    "Yang neighbours": Method(_of(kin.LocalSelection), "local"),
    "Yang partition": Method(_of(kin.LocalSelection, form="partition"), "local"),
    "GW": Method(_of(GlobalMA), "constant"),
    "Bates-Granger": Method(_of(kin.BatesGranger), "constant", ("squared",)),
    "NNLS": Method(_of(kin.NonNegativeStacking), "constant", ("squared",)),
    "Greedy": Method(_of(kin.GreedySelection), "constant"),
    "ARM": Method(_of(kin.AdaptiveMixing), "constant"),
    "BMA": Method(_of(kin.InformationWeights), "constant"),
    "BestModel": Method(_of(BestModel), "constant"),
    "EWMA": Method(_of(EqualWeights), "constant"),
    "Stacking linear": Method(_linear_stacker, "none"),
    "Stacking forest": Method(lambda loss, seed: Stacker(_forest(loss, seed)), "none"),
    "DirectModel": Method(_direct, "none"),
}


def _all_classes(a, known, sample):
    """Probabilities of all classes from those of the classes that a learner has seen; the others get what add-one smoothing gives them."""
    n, K = len(sample.y), sample.F.shape[2]
    if len(known) == K:
        return a
    everything = np.full((len(a), K), 1 / (n + K))
    everything[:, np.asarray(known, dtype=int)] = a * (1 - (K - len(known)) / (n + K))
    return everything


def score(world: World, method: str, sample: Sample, seed: int) -> dict[str, float]:
    """Fit one method to one sample: ``risk``, for classes ``error`` too, and the fit's processor ``seconds``.

    The risk is the mean loss on the test, or, where the true means are known, the mean excess loss.
    """
    loss = LOSSES[world.loss]
    with threadpool_limits(1), one_thread():
        start = time.process_time()
        fitted = METHODS[method].make(world.loss, seed).fit(sample.X, sample.y, F=sample.F)
        seconds = time.process_time() - start
        predict = fitted.predict_proba if loss.is_classification else fitted.predict
        a = predict(sample.X_test, F=sample.F_test)
    if loss.is_classification:
        a = _all_classes(a, fitted.classes_, sample)
        return {
            "risk": loss(sample.y_test, a).mean(),
            "error": (a.argmax(1) != sample.y_test).mean(),
            "seconds": seconds,
        }
    if world.loss == "squared":
        return {"risk": np.square(a - sample.y_test).mean(), "seconds": seconds}
    # an average without a sign constraint may predict no positive mean; a floor keeps its loss finite, and large
    return {"risk": loss(sample.y_test, np.maximum(a, 1e-6)).mean(), "seconds": seconds}


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
            floor = np.square(simulation.hull_clip(sample.F_test, sample.y_test) - sample.y_test).mean()
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
