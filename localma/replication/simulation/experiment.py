"""The run of Tables 1-3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from localma.engine import Mlp, Training, fit_stack, global_weights
from localma.engine.tiles import in_threads
from localma.losses import LOSSES
from localma.replication.lab.experiment import Experiment, number_of, option
from localma.replication.lab.parts import chunks, joined
from localma.replication.lab.sample import tensors
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
NETWORK, TRAINING = Mlp(), Training(learning_rate=0.1, epsilon=1e-8)
#: Replications whose errors are computed at once.
ROWS = 10
CONFIGURATION = asdict(NETWORK) | asdict(TRAINING)


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
    rng, seeds = generator(seed, cell, chunk)
    # always the whole chunk's numbers, so that asking for fewer replications gives the first of the same ones
    sample = tuple(a[:replications] for a in draw(cell, CHUNK, rng))
    X, F, y = tensors(*sample, device=device)
    how: dict[str, Any] = {"seeds": seeds[:replications], "network": NETWORK, "training": TRAINING}
    return fit_stack(X, F, y, LOSSES["squared"], **how), sample, rng


def errors(estimated: dict[str, Any], X: np.ndarray, cell: Cell) -> dict[str, np.ndarray]:
    """Means over points X (R, n, 5), each of shape (R,), of some methods' weights, (R, n, 3), (R, 1, 3) or a function
    that gives those of some rows.

    ``METHOD.mse`` of (prediction - mu)^2, and in Scenario 1 ``METHOD.weight_error`` of the Euclidean distance to the
    true weights. In Scenario 2 method "Hull" is the floor under every average, local or not; in Scenario 1 the truth is
    in the hull and the floor is zero.
    """

    def look(rows: slice) -> dict[str, np.ndarray]:
        x, found = X[rows], {}
        F = _by_model(candidate_models(x))
        truth = _by_model(true_weights(x, cell.setting, cell.slope)) if cell.scenario == 1 else None
        mu = true_mean(x, cell) if truth is None else (truth * F).sum(-1)
        for method, w in estimated.items():
            w = _by_model(w(rows) if callable(w) else w[rows])
            found[f"{method}.mse"] = np.square((w * F).sum(-1) - mu).mean(-1)
            if truth is not None:
                found[f"{method}.weight_error"] = np.sqrt(np.square(w - truth).sum(-1)).mean(-1)
        if truth is None:
            found["Hull.mse"] = np.square(hull_clip(F, mu) - mu).mean(-1)
        return found

    # few rows at a time, whose numbers stay in a core's cache
    return joined(in_threads(look, [slice(r.start, r.stop) for r in chunks(len(X), ROWS)]))


def _by_model(a: np.ndarray) -> np.ndarray:
    """The same numbers (R, n, 3), those of each model side by side in memory: a sum over three neighbours is slow."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, -1, 0)), 0, -1)


def replicate(cell: Cell, replications: int, *, seed: int = 0, chunk: int = 0, device: str = "cpu") -> dict:
    """Run up to ``CHUNK`` replications of one cell at once.

    Returns
    -------
    dict of arrays of shape (replications,)
        ``METHOD.METRIC``, see :func:`errors`.
    """
    fit, (_, F, y), rng = fit_cell(cell, replications, seed=seed, chunk=chunk, device=device)
    test = rng.standard_normal((replications, TEST_SIZE, 5))
    estimated = {
        "LocalMA": lambda rows: fit.rows(rows).weights(*tensors(test[rows], device=device)).cpu().numpy(),
        "GW": global_weights(F, y, LOSSES["squared"])[:, None, :],
        "EWMA": np.full((replications, 1, 3), 1 / 3),
    }
    found = errors(estimated, test, cell)
    return dict(sorted(found.items(), key=lambda column: column[0].split(".")[1]))  # metric by metric


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
            f"{cell.key}-{rows.start}": (cell, rows)
            for cell in CELLS
            if cell.scenario in self.scenarios
            for rows in chunks(self.replications, CHUNK)
        }

    def measure(self, cell, rows):
        return replicate(cell, len(rows), seed=self.seed, chunk=rows.start // CHUNK, device=self.device)

    def tables(self, found):
        return {"": self.tidied(found, lambda cell: cell.head)}


run = Simulation.run
