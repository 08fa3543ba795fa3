"""The run of the experiment on photographs: Table 5."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from localma.datasets.cifar10 import CLASSES
from localma.replication.cifar10.companies import COMPANIES, KNOWS, OTHERS, Material, material
from localma.replication.cifar10.methods import CONFIGURATION, cool, repetition, scores
from localma.replication.cifar10.networks import FAMILIES
from localma.replication.cifar10.predictions import save_predictions
from localma.replication.lab.parts import run_parts
from localma.replication.lab.results import summarise, write_results

SIZES = tuple(range(1000, 10_001, 1000))
REPETITIONS, CHUNK = 50, 5
QUICK_SIZES, QUICK_REPETITIONS = (1000, 4000), 3


def _part(key: str, synthetic: bool, seed: int) -> dict[str, np.ndarray]:
    n, first, last = (int(word.lstrip("nr")) for word in key.split("-"))
    things = material(synthetic, seed)
    rows = [repetition(r, n, things, seed=seed) for r in range(first, last)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def run(
    *,
    full: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    jobs: int = 1,
    synthetic: bool = False,
    repetitions: int | None = None,
    sizes: tuple[int, ...] | None = None,
) -> pd.DataFrame:
    """Table 5.

    Parameters
    ----------
    full : bool
        Ten sample sizes and 50 repetitions; otherwise two and three, for a look.
    seed : int
    out : path, optional
        Folder for ``cifar10.csv``, ``cifar10-weights.csv``, their provenance and ``cifar10-predictions.npz``. None: nothing is kept.
    jobs : int
        Processes side by side.
    synthetic : bool
        Made-up images; writes ``cifar10-synthetic.csv`` and its like instead.
    repetitions, sizes : optional
        Instead of the scale's.

    Returns
    -------
    DataFrame
        Columns n, method, metric, mean, sd, mcse, replications; n is 0 for what does not depend on it.
    """
    sizes = tuple(sizes or (SIZES if full else QUICK_SIZES))
    repetitions = repetitions or (REPETITIONS if full else QUICK_REPETITIONS)
    things = material(synthetic, seed)
    if things.data.banner:
        print(things.data.banner)
        sizes = tuple(sorted({min(n, len(things.data.labels)) for n in sizes}))
    name = "cifar10" + "-synthetic" * synthetic
    # what a part depends on; how many there are is left out, so that a longer run goes on where a shorter one stopped
    settings = {
        "seed": seed,
        "images": f"{things.data.origin} {things.data.checksum}".strip(),
        "networks": dict(zip(COMPANIES, FAMILIES.get(things.family, [things.family] * 4), strict=True)),
        "companies": {"others": OTHERS, "C": list(things.C), "C chosen by": "log loss on a tenth of each company's own images"},
        "LocalMA": CONFIGURATION | {"channels": list(CONFIGURATION["channels"])},
        "LocalMA chosen by": "cifar10-tuning.csv: accuracy on 5,000 training images that no earlier validation had scored",
        "augmentation": "flip, rotation within 15 degrees, brightness and contrast 0.2; weight network only",
    }
    configuration = settings | {"repetitions": repetitions, "sizes": list(sizes)}
    starts = range(0, repetitions, CHUNK if full else 1)
    ranges = [(r, min(r + starts.step, repetitions)) for r in starts]
    keys = [(f"n{n}-r{first}-{last}", last - first) for first, last in ranges for n in sizes]

    def compute(key):
        return _part(key, synthetic, seed)

    with tempfile.TemporaryDirectory() as folder:
        where = Path(out) if out is not None else Path(folder)
        parts, seconds = run_parts(name, keys, compute, out=where, configuration=settings, jobs=jobs)
        results = {
            n: {k: np.concatenate([parts[key][k] for key, _ in keys if key.startswith(f"n{n}-")]) for k in parts[keys[0][0]]} for n in sizes
        }
        table, weights = tabulate(results, things), tabulate_weights(results)
        if out is not None:
            save_predictions(where / f"{name}-predictions.npz", things)
            write_results(name.replace("cifar10", "cifar10-weights"), weights, where, configuration=configuration, seconds=seconds)
            write_results(name, table, where, configuration=configuration, seconds=seconds, settings=settings)
    return table


def tabulate(results: dict[int, dict[str, np.ndarray]], things: Material) -> pd.DataFrame:
    """One row per size, method and metric; accuracies and gains in per cent of the test images."""
    y, F = things.data.test_labels, things.F_test
    rows = []

    def add(n, method, metric, values):
        rows.append({"n": n, "method": method, "metric": metric} | summarise(np.atleast_1d(np.asarray(values, float))))

    singles = {f"company {c}": np.eye(4)[m] for m, c in enumerate(COMPANIES)} | {"EWMA": np.full(4, 0.25)}
    fixed = {method: scores(w, F, y) for method, w in singles.items()}
    for method, (accuracy, loss) in fixed.items():
        add(0, method, "accuracy", accuracy)
        add(0, method, "log loss", loss)
    add(0, "EWMA", "accuracy, answers cooled", scores(singles["EWMA"], cool(F), y)[0])
    for m, company in enumerate(COMPANIES):
        right = F[:, m].argmax(-1) == y
        home = KNOWS[y, m]
        add(0, f"company {company}", "accuracy at home", 100 * right[home].mean())
        add(0, f"company {company}", "accuracy abroad", 100 * right[~home].mean())
        right = things.F[:, m].argmax(-1) == things.data.labels
        add(0, f"company {company}", "accuracy at home, training images", 100 * right[KNOWS[things.data.labels, m]].mean())
    add(0, "anybody", "accuracy", 100 * (F.argmax(-1) == y[:, None]).any(1).mean())
    for n, cell in results.items():
        for method in ("LocalMA", "GW"):
            add(n, method, "accuracy", cell[method][:, 0])
            add(n, method, "log loss", cell[method][:, 1])
            add(n, method, "accuracy, answers cooled", cell[f"{method} cooled"][:, 0])
        add(n, "LocalMA", "gain over GW", cell["LocalMA"][:, 0] - cell["GW"][:, 0])
        add(n, "LocalMA", "gain over EWMA", cell["LocalMA"][:, 0] - fixed["EWMA"][0])
        add(n, "LocalMA", "weight on companies that know", cell["routed"])
        for m, company in enumerate(COMPANIES):
            add(n, "GW", f"weight of {company}", cell["constant"][:, m])
    # changes with n, sample by sample: the samples of one repetition are nested
    first, last = min(results), max(results)
    if first < last:
        for method in ("LocalMA", "GW"):
            add(0, method, f"accuracy, n = {last} against {first}", results[last][method][:, 0] - results[first][method][:, 0])
    return pd.DataFrame(rows)


def tabulate_weights(results: dict[int, dict[str, np.ndarray]]) -> pd.DataFrame:
    """Mean weight of each company on the test images of each class."""
    return pd.DataFrame(
        {"n": n, "class": CLASSES[k], "company": company, "knows": int(KNOWS[k, m])} | summarise(cell["by_class"][:, k, m])
        for n, cell in results.items()
        for k in range(10)
        for m, company in enumerate(COMPANIES)
    )
