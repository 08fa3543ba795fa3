"""The worlds: simulated ones and real ones, each draws a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np

from localma.replication.counts import companies as insurers
from localma.replication.digits.companies import repeat
from localma.replication.lab.sample import Sample
from localma.replication.simulation import scenarios

# Replications that are kept together; few, so that little is lost on Ctrl-C.
CHUNK = 5
TEST_SIZE = 2500


@dataclass(frozen=True)
class World:
    """A loss, sample sizes, and ``draw(n, replication, seed)``."""

    loss: str
    sizes: tuple[int, ...]
    draw: Callable[[int, int, int], Sample] = field(repr=False)


def _simulated(scenario, setting, n, replication, seed):
    key = (scenarios.SETTINGS.index(setting), n, replication)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    cell = scenarios.Cell(scenario, setting, n)
    X, F, y = (a[0] for a in scenarios.draw(cell, 1, rng))
    new = rng.standard_normal((TEST_SIZE, 5))
    return Sample(X, F, y, new, scenarios.candidate_models(new), scenarios.true_mean(new, cell))


@lru_cache(CHUNK)  # the sizes of one world take the first rows of the same cut
def _cut(world, replication, seed):
    if world == "digits":
        return repeat(1, seed=1000 * seed + replication).one(0)
    return insurers.sample(max(WORLDS["counts"].sizes), insurers.generator(replication, seed))


def _real(world, n, replication, seed):
    return _cut(world, replication, seed).first(n)


#: The worlds by name, in the order of the table.
WORLDS = {
    "S1": World("squared", (100, 900), partial(_simulated, 1, "S1")),
    "S2": World("squared", (100, 900), partial(_simulated, 1, "S2")),
    "S3": World("squared", (100, 900), partial(_simulated, 1, "S3")),
    "Scenario 2": World("squared", (100, 900), partial(_simulated, 2, "-")),
    "digits": World("cross_entropy", (50, 600), partial(_real, "digits")),
    "counts": World("poisson", (300, 1500), partial(_real, "counts")),
}
