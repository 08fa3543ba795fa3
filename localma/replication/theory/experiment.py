"""The run of all walks."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from localma.replication.lab.experiment import Experiment
from localma.replication.theory.walks import measure_cell, names, tabulate, walk


@dataclass(kw_only=True)
class Theory(Experiment):
    """Every walk, cell by cell; columns as those of :func:`localma.replication.theory.walks.table`."""

    name = "theory"
    summary = "the theory part's measurements: every condition and theorem"

    def prepare(self):
        self.walks = {name: walk(name).CELLS["full" if self.full else "quick"] for name in names()}

    def configuration(self):
        return super().configuration() | {"cells": self.walks}

    def modules(self):
        return [*super().modules(), *(walk(name).__name__ for name in self.walks)]

    def cells(self, found):
        return {
            f"{name}/{case}/{size}": (name, case, size, replications)
            for name, rows in self.walks.items()
            for case, size, replications in rows
        }

    def measure(self, *cell):
        return measure_cell(*cell, self.seed)

    def tables(self, found):
        rows = [row for key, cell in self.cells(found).items() for row in tabulate(*cell[:3], found[key])]
        return {"": pd.DataFrame(rows)}
