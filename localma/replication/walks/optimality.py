r"""Theorem 1 at work: the in-sample risk of LocalMA over the best that any weights can do, in Scenario 2, for growing n.

All in double precision. The comparison network is trained on the same points without noise.
"""

from __future__ import annotations

import numpy as np
import torch

from localma import theory
from localma.losses import LOSSES
from localma.replication import simulation
from localma.training import fit_stack

__all__ = ["CELLS", "measure"]

CELLS = {
    "quick": [("scenario 2", n, 20) for n in (100, 300, 1000)],
    "full": [("scenario 2", n, 200) for n in (100, 300, 1000, 3000)],
}


def measure(case: str, size: int, replications: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The ratio of risks and the terms of the decomposition, for each replication."""
    X, F, y = simulation.draw(simulation.Cell(2, "-", size), replications, rng)
    mu = simulation.true_mean(X, simulation.Cell(2, "-", size))
    seeds = rng.integers(2**31, size=replications).tolist()
    tensors = {name: torch.as_tensor(values) for name, values in {"X": X, "F": F, "y": y, "mu": mu}.items()}

    def predict(target):
        fit = fit_stack(tensors["X"], tensors["F"], tensors[target], LOSSES["squared"], seeds=seeds)
        return (fit.weights(tensors["X"]).numpy() * F).sum(-1)

    best = theory.oracle_prediction("squared", F, mu)
    terms = theory.decompose("squared", y, mu, predict("y"), predict("mu"), best)
    floor = theory.in_sample_risk("squared", mu, best)
    return {"ratio": 1 + terms.excess / floor} | {name: values / floor for name, values in terms._asdict().items()}
