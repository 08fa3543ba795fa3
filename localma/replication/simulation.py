r"""Section 4 of the paper: Tables 1-3, and the weight-function figure.

The paper's regression functions and constants are lost in the text that we work from. What stands here is a calibrated
reconstruction: simple functions chosen to meet the printed EWMA and GW columns, with the LocalMA column left untouched. It is the test.
The book's chapters "Scenario 1" and "Scenario 2" (``book/simulations``) tell the story.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from localma.engine import Options, fit_stack, global_weights
from localma.losses import LOSSES
from localma.replication.runner import run_parts, summarise, write_results

__all__ = [
    "CELLS",
    "CONFIGURATION",
    "Cell",
    "candidate_models",
    "draw",
    "fit_cell",
    "hull_clip",
    "replicate",
    "run",
    "true_mean",
    "true_weights",
]

SIZES = (100, 300, 600, 900)
TEST_SIZE = 2500
FULL, QUICK = 500, 20
# Replications that are drawn, trained and kept together: enough to fill both cores' tiles, few enough to lose little on Ctrl-C.
CHUNK = 250

#: theta[m - 1, j - 1] = 2.5 sin(m j), the logits' slopes in S1
THETA = 2.5 * np.sin(np.outer(np.arange(1, 4), np.arange(1, 6)))
CONSTANT = {"S2": np.full(3, 1 / 3), "S3": np.array([0.7, 0.2, 0.1])}

#: The one configuration of LocalMA, the same in every cell: the package's defaults, chosen by ``python -m localma.replication tuning``.
CONFIGURATION = {"width": 16, "depth": 1} | asdict(Options())


@dataclass(frozen=True)
class Cell:
    """One cell of the tables: Scenario 1 with setting S1, S2 or S3, or Scenario 2 (setting "-"), and a sample size.

    ``slope`` multiplies the logits' slopes in S1: 1 is the paper's world, 0 that of S2, between them lies the rest.
    """

    scenario: int
    setting: str
    n: int
    slope: float = 1.0

    @property
    def key(self) -> str:
        between = "" if self.slope == 1 else f"-slope{self.slope:g}"
        return f"scenario{self.scenario}-{self.setting.strip('-') or 'all'}{between}-n{self.n}"


CELLS = tuple(Cell(1, s, n) for s in ("S1", "S2", "S3") for n in SIZES) + tuple(Cell(2, "-", n) for n in SIZES)


def candidate_models(X: np.ndarray) -> np.ndarray:
    """Predictions F (..., n, 3) of the three pre-trained models at X (..., n, 5)."""
    x1, x2, x3, x4, x5 = np.moveaxis(X, -1, 0)
    return np.stack([5**0.5 * (x1 + x2), 20**0.5 * np.sin(x3 + x4), 5**0.5 * (x5**2 - 1)], -1)


def true_weights(X: np.ndarray, setting: str, slope: float = 1.0) -> np.ndarray:
    """The weights w(x) of Scenario 1, (..., n, 3)."""
    if setting == "S1":
        logits = slope * X @ THETA.T
        w = np.exp(logits - logits.max(-1, keepdims=True))
        return w / w.sum(-1, keepdims=True)
    return np.broadcast_to(CONSTANT[setting], (*X.shape[:-1], 3))


def true_mean(X: np.ndarray, cell: Cell) -> np.ndarray:
    """The regression function mu(x), (..., n)."""
    F = candidate_models(X)
    if cell.scenario == 1:
        return (true_weights(X, cell.setting, cell.slope) * F).sum(-1)
    return F.max(-1) + 2.2 * X[..., 0] + 0.5 * X[..., 1]


def draw(cell: Cell, replications: int, rng: np.random.Generator, n: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples (X, F, y) of shapes (R, n, 5), (R, n, 3), (R, n): x standard normal, noise of variance one.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication import simulation
    >>> X, F, y = simulation.draw(simulation.Cell(1, "S1", 300), 10, np.random.default_rng(0))
    >>> X.shape, F.shape, y.shape
    ((10, 300, 5), (10, 300, 3), (10, 300))
    """
    X = rng.standard_normal((replications, n or cell.n, 5))
    return X, candidate_models(X), true_mean(X, cell) + rng.standard_normal(X.shape[:-1])


def hull_clip(F: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """The best that any weights can do at each x: mu clipped to the range of the models, (..., n)."""
    return np.clip(mu, F.min(-1), F.max(-1))


def generator(seed: int, cell: Cell, chunk: int) -> tuple[np.random.Generator, np.ndarray]:
    """Random numbers of one chunk and seeds of its networks: the same whichever cells and however many replications are run."""
    setting = ("S1", "S2", "S3", "-").index(cell.setting)
    sequence = np.random.SeedSequence(seed, spawn_key=(setting, cell.n, chunk))
    data, networks = sequence.spawn(2)
    return np.random.default_rng(data), networks.generate_state(CHUNK)


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
    fit = fit_stack(x, f, y, LOSSES["squared"], seeds=seeds[:replications], width=width, depth=depth, options=Options(**settings))
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
