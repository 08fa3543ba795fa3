"""The run of Tables 1-3."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from localma.engine import Mlp, Training, fit_stack, global_weights
from localma.losses import LOSSES
from localma.replication.lab.parts import run_parts
from localma.replication.lab.results import summarise, write_results
from localma.replication.simulation.scenarios import (
    CELLS,
    CHUNK,
    TEST_SIZE,
    Cell,
    candidate_models,
    draw,
    generator,
    hull_clip,
    true_mean,
    true_weights,
)

FULL, QUICK = 500, 20
#: The one configuration of LocalMA, the same in every cell: the package's defaults, chosen by ``python -m localma.replication tuning``.
CONFIGURATION = asdict(Mlp()) | asdict(Training(learning_rate=0.1, epsilon=1e-8))


def fit_cell(cell: Cell, replications: int, *, seed: int = 0, chunk: int = 0, device: str = "cpu"):
    """Draw and fit up to ``CHUNK`` replications of one cell in one stack.

    Returns
    -------
    fit : StackFit
        One weight network per replication.
    sample : tuple of arrays
        X (R, n, 5), F (R, n, 3) and y (R, n).
    rng : numpy Generator
        Where it stands after the draw, for test data.
    """
    if not 1 <= replications <= CHUNK:
        raise ValueError(f"replications must lie between 1 and {CHUNK}, but is {replications}; run() takes more")
    settings = dict(CONFIGURATION)
    width, depth = settings.pop("width"), settings.pop("depth")
    rng, seeds = generator(seed, cell, chunk)
    # always the whole chunk's numbers, so that asking for fewer replications gives the first of the same ones
    sample = tuple(a[:replications] for a in draw(cell, CHUNK, rng))
    x, f, y = (torch.as_tensor(a, dtype=torch.float32, device=device) for a in sample)
    fit = fit_stack(x, f, y, LOSSES["squared"], seeds=seeds[:replications], network=Mlp(width, depth=depth), training=Training(**settings))
    return fit, sample, rng


def replicate(cell: Cell, replications: int, *, seed: int = 0, chunk: int = 0, device: str = "cpu") -> dict:
    """Run up to ``CHUNK`` replications of one cell at once.

    Returns
    -------
    dict of arrays of shape (replications,)
        ``METHOD.mse``, mean over the test set of (prediction - mu)^2, and in Scenario 1 ``METHOD.weight_error``, mean Euclidean distance of the weights
        to the true ones. In Scenario 2 method "Hull" is the floor under every average, local or not.
    """
    fit, (_, F, y), rng = fit_cell(cell, replications, seed=seed, chunk=chunk, device=device)
    gw = global_weights(F, y, LOSSES["squared"])
    test = rng.standard_normal((replications, TEST_SIZE, 5))
    F, mu = candidate_models(test), true_mean(test, cell)
    local = fit.weights(torch.as_tensor(test, dtype=torch.float32, device=device)).cpu().numpy()
    estimated = {"LocalMA": local, "GW": gw[:, None, :], "EWMA": np.full((1, 1, 3), 1 / 3)}
    out = {f"{method}.mse": np.square((w * F).sum(-1) - mu).mean(-1) for method, w in estimated.items()}
    if cell.scenario == 2:  # in Scenario 1 the truth is in the hull and the floor is zero
        out["Hull.mse"] = np.square(hull_clip(F, mu) - mu).mean(-1)
    else:
        truth = true_weights(test, cell.setting, cell.slope)
        out |= {f"{m}.weight_error": np.sqrt(np.square(w - truth).sum(-1)).mean(-1) for m, w in estimated.items()}
    return out


def tabulate(cells, replicates: dict[str, dict]) -> pd.DataFrame:
    """One row per cell, method and metric: mean, sd, Monte-Carlo error, number of replications."""
    rows = [
        {"scenario": cell.scenario, "setting": cell.setting, "n": cell.n}
        | dict(zip(("method", "metric"), name.split("."), strict=True))
        | summarise(values)
        for cell in cells
        for name, values in replicates[cell.key].items()
    ]
    return pd.DataFrame(rows)


def run(
    *, replications: int = FULL, scenarios=(1, 2), seed: int = 0, device: str = "cpu", out: str | Path | None = None, jobs: int = 1
) -> pd.DataFrame:
    """Tables 1-3.

    Parameters
    ----------
    replications : int
        Per cell; the paper has 500.
    scenarios : sequence of {1, 2}
    seed : int
    device : str
    out : path, optional
        Folder for ``simulation.csv`` and its provenance, and for the parts of an unfinished run. None: a temporary one.
    jobs : int
        Parts computed side by side.

    Returns
    -------
    DataFrame
        Columns scenario, setting, n, method, metric, mean, sd, mcse, replications.
    """
    if replications < 1:
        raise ValueError(f"replications must be at least 1, but is {replications}")
    cells = [c for c in CELLS if c.scenario in scenarios]
    if not cells:
        raise ValueError(f"scenarios must contain 1 or 2, but is {scenarios!r}")
    configuration = {"seed": seed, "replications": replications, "scenarios": sorted(scenarios), "device": device, "LocalMA": CONFIGURATION}
    chunks = {
        f"{cell.key}-{chunk}": (cell, chunk, min(CHUNK, replications - chunk * CHUNK))
        for cell in cells
        for chunk in range(-(-replications // CHUNK))
    }

    def compute(key):
        cell, chunk, size = chunks[key]
        return replicate(cell, size, seed=seed, chunk=chunk, device=device)

    def go(folder):
        return run_parts("simulation", [(k, j[2]) for k, j in chunks.items()], compute, out=folder, configuration=configuration, jobs=jobs)

    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            parts, seconds = go(Path(folder))
    else:
        parts, seconds = go(Path(out))
    by_cell: dict[str, dict] = {cell.key: {} for cell in cells}
    for key, (cell, _, _) in chunks.items():
        for name, values in parts[key].items():
            by_cell[cell.key][name] = np.concatenate([by_cell[cell.key].get(name, np.empty(0)), values])
    table = tabulate(cells, by_cell)
    if out is not None:
        write_results("simulation", table, Path(out), configuration=configuration, seconds=seconds, device=device)
    return table
