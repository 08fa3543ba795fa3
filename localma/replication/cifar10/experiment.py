"""The run of the experiment on photographs: Table 5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from localma.datasets.cifar10 import CLASSES
from localma.replication.cifar10.companies import COMPANIES, KNOWS, OTHERS, Material, material
from localma.replication.cifar10.methods import CONFIGURATION, cool, repetition, scores
from localma.replication.cifar10.networks import FAMILIES
from localma.replication.cifar10.predictions import stored
from localma.replication.lab.experiment import Experiment, made_up, number_of
from localma.replication.lab.parts import chunks, joined
from localma.replication.lab.results import summarise

SIZES = tuple(range(1000, 10_001, 1000))
REPETITIONS, CHUNK = 50, 5
QUICK_SIZES, QUICK_REPETITIONS = (1000, 4000), 3


@dataclass(kw_only=True)
class Photographs(Experiment):
    """Table 5, and a table of the mean weights.

    Parameters
    ----------
    full : bool
        Ten sample sizes and 50 repetitions; otherwise two and three, for a look.
    synthetic : bool
        Made-up images; writes ``cifar10-synthetic.csv`` and its like instead.
    repetitions, sizes : optional
        Instead of the scale's.

    Returns
    -------
    DataFrame
        Columns n, method, metric, mean, sd, mcse, replications; n is 0 for what does not depend on it.
    """

    name = "cifar10"
    summary = "Section 5.3: photographs of ten classes, from four networks that know four of them each"
    extent = ("repetitions", "sizes")

    repetitions: int | None = number_of("of the experiment")
    sizes: tuple[int, ...] | None = None
    synthetic: bool = made_up()

    def prepare(self):
        self.scaled(repetitions=(REPETITIONS, QUICK_REPETITIONS))
        data = self.material.data
        if data.banner:
            print(data.banner)
        sizes = self.sizes or (SIZES if self.full else QUICK_SIZES)
        self.sizes = tuple(dict.fromkeys(min(n, len(data.labels)) for n in sizes))

    @property
    def material(self):  # kept by each process for itself
        return material(self.synthetic, self.seed)

    def configuration(self):
        family = self.material.family
        return super().configuration() | {
            "images": f"{self.material.data.origin} {self.material.data.checksum}".strip(),
            "networks": dict(zip(COMPANIES, FAMILIES.get(family, [family] * 4), strict=True)),
            "companies": {
                "others": OTHERS,
                "C": list(self.material.C),
                "C chosen by": "log loss on a tenth of each company's own images",
            },
            "LocalMA": CONFIGURATION,
            "LocalMA chosen by": "cifar10-tuning.csv: accuracy on 5,000 training images that no earlier validation "
            "had scored",
            "augmentation": "flip, rotation within 15 degrees, brightness and contrast 0.2; weight network only",
        }

    def cells(self, found):
        return {
            f"n{n}-r{rows.start}-{rows.stop}": (n, rows)
            for rows in chunks(self.repetitions, CHUNK if self.full else 1)
            for n in self.sizes
        }

    def measure(self, n, rows):
        found = [repetition(r, n, self.material, seed=self.seed) for r in rows]
        return {name: np.stack([one[name] for one in found]) for name in found[0]}

    def tables(self, found):
        cells = self.cells(found)
        results = {n: joined(found[key] for key, cell in cells.items() if cell[0] == n) for n in self.sizes}
        return {"": tabulate(results, self.material), "weights": tabulate_weights(results)}

    def predictions(self, found):
        return stored(self.material)


run = Photographs.run


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
        add(
            0,
            f"company {company}",
            "accuracy at home, training images",
            100 * right[KNOWS[things.data.labels, m]].mean(),
        )
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
            add(
                0,
                method,
                f"accuracy, n = {last} against {first}",
                results[last][method][:, 0] - results[first][method][:, 0],
            )
    return pd.DataFrame(rows)


def tabulate_weights(results: dict[int, dict[str, np.ndarray]]) -> pd.DataFrame:
    """Mean weight of each company on the test images of each class."""
    return pd.DataFrame(
        {"n": n, "class": CLASSES[k], "company": company, "knows": int(KNOWS[k, m])}
        | summarise(cell["by_class"][:, k, m])
        for n, cell in results.items()
        for k in range(10)
        for m, company in enumerate(COMPANIES)
    )
