"""How the weight network's training was chosen for the experiment on CIFAR-10: one rule, written down before the first
number was seen.

The rule: over samples of 1,000 and of 10,000 images and a few repetitions of each, the candidate with the highest mean
accuracy on the held-out images wins; on a tie, the one with the lower log loss. One candidate for all sample sizes. No
test image is read.

An earlier validation, kept as ``cifar10-tuning-early.csv``, had been repeated with lists that changed, and its winner
sat at the edge of the last list. So this one takes held-out images that the earlier one had never scored, and companies
that were trained without them: they answer as they would answer to test images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
import pandas as pd

from localma.datasets.cifar10 import load_cifar10
from localma.engine import global_weights, one_thread
from localma.losses import LOSSES
from localma.replication.cifar10 import companies
from localma.replication.cifar10.companies import Material
from localma.replication.cifar10.methods import fit_weights, scores
from localma.replication.cifar10.networks import choose_family
from localma.replication.lab.experiment import Experiment, made_up

#: Steps and penalty of each candidate; the rest is fixed. Without a step the weights are nearly equal, and with a
#: penalty of 100 they do not depend on the image: beyond the ends of both lists there is little but the two baselines.
GRID = tuple(product((40, 75, 150, 300, 600), (0.3, 1.0, 3.0, 10.0, 100.0)))
FIXED = {"channels": (16, 32, 64), "batch_size": 128, "learning_rate": 0.003}
SIZES = (1000, 10_000)
REPETITIONS = 4


def held_out(n: int, seed: int = 0) -> np.ndarray:
    """Positions of a tenth of ``n`` training images, none of which the earlier validation had scored."""
    # what the earlier one held out: a tenth in each of two repetitions, drawn like this
    spent = [np.random.default_rng([seed, 2, r]).permutation(n)[: n // 10] for r in range(2)]
    fresh = np.setdiff1d(np.arange(n), np.concatenate(spent))
    return np.sort(np.random.default_rng([seed, 3]).choice(fresh, n // 10, replace=False))


@lru_cache(maxsize=1)
def material(synthetic: bool = False, seed: int = 0) -> Material:
    """The experiment's material with the held-out training images in place of the test images; four companies of its
    own, trained without them.
    """
    data = load_cifar10(synthetic=synthetic)
    held = held_out(len(data.labels), seed)
    rest = np.setdiff1d(np.arange(len(data.labels)), held)
    family = "pixels" if synthetic else choose_family()
    [X] = companies.seen(family, data.images)
    F, F_held, C = companies.train_companies([x[rest] for x in X], data.labels[rest], [x[held] for x in X], seed=seed)
    images = {"images": data.images[rest], "test_images": data.images[held]}
    data = replace(data, **images, labels=data.labels[rest], test_labels=data.labels[held])
    return Material(data, family, F, F_held, C)


@dataclass(kw_only=True)
class Validation(Experiment):
    """The score of every candidate of :data:`GRID`.

    Returns
    -------
    DataFrame
        Columns method, steps, penalty, accuracy at each n, accuracy (their mean), mcse (of the mean, over repetitions)
        and log_loss; LocalMA's candidates, then GW and EWMA, for which steps and penalty are empty.
    """

    name = "cifar10-tuning"
    summary = "how the weight network of the photographs is trained"
    tunes = "cifar10"

    synthetic: bool = made_up()

    @property
    def material(self):  # kept by each process for itself
        return material(self.synthetic, self.seed)

    def configuration(self):
        data = self.material.data
        return super().configuration() | {
            "images": f"{data.origin} {data.checksum}".strip(),
            "held out": "5,000 training images that trained no company here and were in no earlier validation",
            "rule": "highest mean accuracy on the held-out images over sizes and repetitions; "
            "the lower log loss on a tie",
            "sizes": SIZES,
            "repetitions": REPETITIONS,
            "grid": GRID,
            "fixed": FIXED,
            "companies": {"C": list(self.material.C)},
        }

    def cells(self, found):
        sizes = (min(n, len(self.material.data.labels)) for n in SIZES)
        return {f"n{n}-r{r}": (n, r) for n in sizes for r in range(REPETITIONS)}

    def measure(self, n, r):
        """On one sample: accuracy in per cent and log loss of each candidate, of global and of equal weights."""
        data, F = self.material.data, self.material.F
        mine = np.random.default_rng([self.seed, 4, r]).permutation(len(data.labels))[:n]
        images, labels, F = data.images[mine], data.labels[mine], F[mine]
        held = data.test_images.astype(np.float32)
        candidates = [FIXED | {"steps": steps, "penalty": penalty} for steps, penalty in GRID]
        with one_thread():
            how = {"seed": 1000 + self.seed + r}
            weights = [fit_weights(images, labels, F, configuration=one, **how).weights(held) for one in candidates]
            weights += [global_weights(F, labels, LOSSES["cross_entropy"]), np.full(4, 0.25)]
            return {"scores": np.array([scores(w, self.material.F_test, data.test_labels) for w in weights])}

    def tables(self, found):
        found = np.stack([part["scores"] for part in found.values()])
        found = found.reshape(len(SIZES), REPETITIONS, -1, 2)  # the last: accuracy, log loss
        accuracy = found[..., 0]
        table = pd.DataFrame([*GRID, (np.nan, np.nan), (np.nan, np.nan)], columns=["steps", "penalty"])
        table.insert(0, "method", ["LocalMA"] * len(GRID) + ["GW", "EWMA"])
        for n, of_size in zip(SIZES, accuracy, strict=True):
            table[f"accuracy n = {n}"] = of_size.mean(0)
        table["accuracy"] = accuracy.mean((0, 1))
        table["mcse"] = accuracy.mean(0).std(0, ddof=1) / REPETITIONS**0.5
        table["log_loss"] = found[..., 1].mean((0, 1))
        return {"": table}


def choose(table: pd.DataFrame) -> dict[str, float]:
    """The candidate that the rule picks from the table of :class:`Validation`."""
    best = table[table["method"] == "LocalMA"].sort_values(["accuracy", "log_loss"], ascending=[False, True]).iloc[0]
    return {"steps": int(best["steps"]), "penalty": float(best["penalty"])}
