"""The run of Tables 1-3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from localma.engine import Mlp, Training, fit_stack, global_weights
from localma.losses import LOSSES
from localma.replication.lab.experiment import Experiment, number_of, option
from localma.replication.lab.parts import chunks, joined
from localma.replication.lab.results import summarise
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
#: The one configuration of LocalMA, the same in every cell: the package's defaults, chosen by
#: ``python -m localma.replication tuning``.
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
    fit = fit_stack(
        x,
        f,
        y,
        LOSSES["squared"],
        seeds=seeds[:replications],
        network=Mlp(width, depth=depth),
        training=Training(**settings),
    )
    return fit, sample, rng


def replicate(cell: Cell, replications: int, *, seed: int = 0, chunk: int = 0, device: str = "cpu") -> dict:
    """Run up to ``CHUNK`` replications of one cell at once.

    Returns
    -------
    dict of arrays of shape (replications,)
        ``METHOD.mse``, mean over the test set of (prediction - mu)^2, and in Scenario 1 ``METHOD.weight_error``, mean
        Euclidean distance of the weights to the true ones. In Scenario 2 method "Hull" is the floor under every
        average, local or not.
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


@dataclass(kw_only=True)
class Simulation(Experiment):
    """Tables 1-3.

    Parameters
    ----------
    replications : int, optional
        Per cell; the paper has 500, a quick run 20.
    scenarios : sequence of {1, 2}

    Returns
    -------
    DataFrame
        Columns scenario, setting, n, method, metric, mean, sd, mcse, replications.
    """

    name = "simulation"
    summary = "Tables 1-3: LocalMA, GW and EWMA in Scenarios 1 and 2"

    replications: int | None = number_of("in each cell")
    scenarios: Sequence[int] = option(
        (1, 2), flag="scenario", type=int, choices=(1, 2), nargs="+", help="only these scenarios (default both)"
    )
    device: str = "cpu"

    def prepare(self):
        self.scaled(replications=(FULL, QUICK))
        if not {*self.scenarios} & {1, 2}:
            raise ValueError(f"scenarios must contain 1 or 2, but is {self.scenarios!r}")

    def configuration(self):
        return super().configuration() | {"scenarios": sorted(self.scenarios), "LocalMA": CONFIGURATION}

    def cells(self, found):
        return {
            f"{cell.key}-{chunk}": (cell, chunk, len(rows))
            for cell in CELLS
            if cell.scenario in self.scenarios
            for chunk, rows in enumerate(chunks(self.replications, CHUNK))
        }

    def measure(self, cell, chunk, size):
        return replicate(cell, size, seed=self.seed, chunk=chunk, device=self.device)

    def tables(self, found):
        by_cell: dict[Cell, list] = {}
        for key, (cell, *_) in self.cells(found).items():
            by_cell.setdefault(cell, []).append(found[key])
        rows = [
            {"scenario": cell.scenario, "setting": cell.setting, "n": cell.n}
            | dict(zip(("method", "metric"), name.split("."), strict=True))
            | summarise(values)
            for cell, parts in by_cell.items()
            for name, values in joined(parts).items()
        ]
        return {"": pd.DataFrame(rows)}


run = Simulation.run
