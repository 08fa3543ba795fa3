"""The worlds of the simulations: models, true weights and means, and draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

SETTINGS = ("S1", "S2", "S3", "-")
SIZES = (100, 300, 600, 900)
TEST_SIZE = 2500
# Replications that are drawn, trained and kept together: enough to fill both cores' tiles, few enough to lose little on
# Ctrl-C.
CHUNK = 250
#: theta[m - 1, j - 1] = 2.5 sin(m j), the logits' slopes in S1
THETA = 2.5 * np.sin(np.outer(np.arange(1, 4), np.arange(1, 6)))
CONSTANT = {"S2": np.full(3, 1 / 3), "S3": np.array([0.7, 0.2, 0.1])}


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

    @property
    def head(self) -> dict[str, object]:
        """Its columns in a table."""
        return {"scenario": self.scenario, "setting": self.setting, "n": self.n}


CELLS = tuple(Cell(1, s, n) for s in SETTINGS[:3] for n in SIZES) + tuple(Cell(2, "-", n) for n in SIZES)


def candidate_models(X: np.ndarray) -> np.ndarray:
    """Predictions F (..., n, 3) of the three pre-trained models at X (..., n, 5)."""
    x1, x2, x3, x4, x5 = np.moveaxis(X, -1, 0)
    return np.stack([5**0.5 * (x1 + x2), 20**0.5 * np.sin(x3 + x4), 5**0.5 * (x5**2 - 1)], -1)


def true_weights(X: np.ndarray, setting: str, slope: float = 1.0) -> np.ndarray:
    """The weights w(x) of Scenario 1, (..., n, 3)."""
    if setting == "S1":
        return softmax(slope * X @ THETA.T, -1)
    return np.broadcast_to(CONSTANT[setting], (*X.shape[:-1], 3))


def true_mean(X: np.ndarray, cell: Cell) -> np.ndarray:
    """The regression function mu(x), (..., n)."""
    F = candidate_models(X)
    if cell.scenario == 1:
        return (true_weights(X, cell.setting, cell.slope) * F).sum(-1)
    return F.max(-1) + 2.2 * X[..., 0] + 0.5 * X[..., 1]


def draw(
    cell: Cell, replications: int, rng: np.random.Generator, n: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    """Random numbers of one chunk and seeds of its networks: the same whichever cells and however many replications are
    run.
    """
    key = (SETTINGS.index(cell.setting), cell.n, chunk)
    data, networks = np.random.SeedSequence(seed, spawn_key=key).spawn(2)
    return np.random.default_rng(data), networks.generate_state(CHUNK)
