"""The run of the experiment on photographs: Table 5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from localma.datasets.cifar10 import CLASSES
from localma.replication.cifar10.companies import COMPANIES, OTHERS, Material, material
from localma.replication.cifar10.methods import CONFIGURATION, cool, repetition, scores
from localma.replication.cifar10.networks import FAMILIES
from localma.replication.cifar10.predictions import stored
from localma.replication.digits.companies import KNOWS
from localma.replication.lab.experiment import Experiment, made_up, number_of
from localma.replication.lab.parts import chunks
from localma.replication.lab.results import summarise, tidy

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
        results = {n: part for (n,), part in self.by_cell(found).items()}
        return {"": tabulate(results, self.material), "weights": tabulate_weights(results)}

    def predictions(self, found):
        return stored(self.material)


run = Photographs.run


def tabulate(results: dict[int, dict[str, np.ndarray]], things: Material) -> pd.DataFrame:
    """One row per size, method and metric; accuracies and gains in per cent of the test images."""
    y, F, labels = things.data.test_labels, things.F_test, things.data.labels
    equal = np.full(4, 0.25)
    fixed = {}
    for method, w in [*((f"company {c}", np.eye(4)[m]) for m, c in enumerate(COMPANIES)), ("EWMA", equal)]:
        fixed[f"{method}.accuracy"], fixed[f"{method}.log loss"] = scores(w, F, y)
    fixed["EWMA.accuracy, answers cooled"] = scores(equal, cool(F), y)[0]
    for m, c in enumerate(COMPANIES):
        right, home = F[:, m].argmax(-1) == y, KNOWS[y, m]
        fixed[f"company {c}.accuracy at home"] = 100 * right[home].mean()
        fixed[f"company {c}.accuracy abroad"] = 100 * right[~home].mean()
        right = things.F[:, m].argmax(-1) == labels
        fixed[f"company {c}.accuracy at home, training images"] = 100 * right[KNOWS[labels, m]].mean()
    fixed["anybody.accuracy"] = 100 * (F.argmax(-1) == y[:, None]).any(1).mean()
    rows = tidy({"n": 0}, fixed)
    for n, cell in results.items():
        found = {name: values for name, values in cell.items() if "." in name}
        found["LocalMA.gain over GW"] = cell["LocalMA.accuracy"] - cell["GW.accuracy"]
        found["LocalMA.gain over EWMA"] = cell["LocalMA.accuracy"] - fixed["EWMA.accuracy"]
        found["LocalMA.weight on companies that know"] = cell["routed"]
        rows += tidy({"n": n}, found | {f"GW.weight of {c}": cell["constant"][:, m] for m, c in enumerate(COMPANIES)})
    # changes with n, sample by sample: the samples of one repetition are nested
    first, last = min(results), max(results)
    for accuracy in ("LocalMA.accuracy", "GW.accuracy"):
        if first < last:
            change = results[last][accuracy] - results[first][accuracy]
            rows += tidy({"n": 0}, {f"{accuracy}, n = {last} against {first}": change})
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
