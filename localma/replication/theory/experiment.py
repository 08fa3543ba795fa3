"""The run of all walks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from localma.replication.lab.parts import run_parts
from localma.replication.lab.results import write_results
from localma.replication.theory.walks import cell_key, measure_cell, names, tabulate, walk


def run(*, full: bool = True, seed: int = 0, out: str | Path = "results", jobs: int = 1) -> pd.DataFrame:
    """Measure all walks, cell by cell, resumable; write ``theory.csv`` and its provenance."""
    cells = {name: walk(name).CELLS["full" if full else "quick"] for name in names()}
    tasks = {
        cell_key(name, case, size): (name, case, size, replications) for name, rows in cells.items() for case, size, replications in rows
    }
    configuration = {"seed": seed, "cells": cells}
    parts, seconds = run_parts(
        "theory",
        [(key, 1) for key in tasks],
        lambda key: measure_cell(*tasks[key], seed),
        out=Path(out),
        configuration=configuration,
        unit="cell",
        jobs=jobs,
    )
    results = pd.DataFrame([row for key, job in tasks.items() for row in tabulate(*job[:3], parts[key])])
    write_results("theory", results, Path(out), configuration=configuration, seconds=seconds)
    return results
