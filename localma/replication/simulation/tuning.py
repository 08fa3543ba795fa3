"""How LocalMA's configuration was chosen: cross-validation within pilot samples, no test point and no regression
function looked at.

The pilot samples come from the simulation's cells but from random numbers of their own. Each configuration is scored by
its cross-validated squared error, in each cell relative to the best configuration there, averaged over cells: one
configuration for all.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from localma.engine import Mlp, Training, fit_stack
from localma.losses import LOSSES
from localma.replication.lab.experiment import Experiment
from localma.replication.lab.sample import tensors
from localma.replication.simulation.scenarios import CELLS, SETTINGS, SIZES, draw

FOLDS = 5
PILOTS_QUICK, PILOTS_FULL = 4, 20
#: width (32 units cost twice the time of 16), peak learning rate, and the penalty: its value at n = 100 and the power
#: of n with which it falls
GRID = tuple(
    (width, rate, *penalty)
    for width, rate in itertools.product((8, 16), (0.05, 0.1))
    for penalty in ((0.0, 0.0), *itertools.product((0.005, 0.01, 0.02), (0.5, 0.75, 1.0)))
)


@dataclass(kw_only=True)
class Tuning(Experiment):
    """The score of every configuration of :data:`GRID`; the first row of the table is the choice."""

    name = "tuning"
    summary = "choose LocalMA's configuration by cross-validation within pilot samples"

    pilots: int | None = None
    device: str = "cpu"

    def prepare(self):
        self.scaled(pilots=(PILOTS_FULL, PILOTS_QUICK))

    def configuration(self):
        return super().configuration() | {"folds": FOLDS, "sizes": SIZES, "grid": GRID}

    def cells(self, found):
        return {cell.key: (cell,) for cell in CELLS}

    def measure(self, cell):
        """Cross-validated squared error of each configuration and pilot sample, (len(GRID), pilots)."""
        # a spawn key that starts like no cell's: pilot samples are not among the simulation's
        key = (99, SETTINGS.index(cell.setting), cell.n)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        sample = tensors(*draw(cell, self.pilots, rng), device=self.device)
        folds = torch.arange(cell.n) % FOLDS  # the sample is in random order
        # folds times pilots: one stack
        x, f, target = (torch.cat([a[:, folds != k] for k in range(FOLDS)]) for a in sample)
        X, F, y = (torch.cat([a[:, folds == k] for k in range(FOLDS)]) for a in sample)
        out = np.empty((len(GRID), self.pilots))
        for g, (width, rate, penalty, power) in enumerate(GRID):
            n = target.shape[1]
            options = Training(learning_rate=rate, penalty=penalty * (100 / n) ** power)
            network, seeds = Mlp(width), range(FOLDS * self.pilots)
            fit = fit_stack(x, f, target, LOSSES["squared"], seeds=seeds, network=network, training=options)
            error = (fit.weights(X) * F).sum(-1) - y
            out[g] = error.square().mean(-1).reshape(FOLDS, self.pilots).mean(0).cpu()
        return {"error": out}

    def tables(self, found):
        table = pd.DataFrame(GRID, columns=["width", "learning_rate", "penalty", "power"])
        ratios = []
        for key, part in found.items():
            risk = part["error"].mean(1)
            table[key] = risk
            ratios.append(risk / risk.min())
        table.insert(4, "score", np.mean(ratios, 0))
        return {"": table.sort_values("score", ignore_index=True)}
