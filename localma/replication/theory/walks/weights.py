"""Theorem 3: Table 2 of the paper and beyond, with two distances, in double precision; chapter ``book/theory/weights``.

"first": mean Euclidean distance of the weights to the true ones, what Table 2 shows. "second": to the nearest *optimal*
weights, what the theorem is about. A size is n.
"""

from __future__ import annotations

import numpy as np

from localma import theory
from localma.engine import Mlp, Training, global_weights
from localma.losses import LOSSES
from localma.replication.simulation import scenarios
from localma.replication.theory.walks import local_weights

TEST_SIZE = 1000
#: What is done to the candidates in the two cases that break identification: model 3 is the mean of the others, model 2
#: is model 1.
CHANGES = {
    "S3 collinear": lambda F: np.stack([F[..., 0], F[..., 1], F[..., :2].mean(-1)], -1),
    "S3 twins": lambda F: np.stack([F[..., 0], F[..., 0], F[..., 2]], -1),
}
EIGHT_POINTS = np.random.default_rng(0).standard_normal((8, 5))  # where x lives in the last of the cases
SIZES = {100: 200, 300: 200, 600: 200, 900: 200, 3000: 60, 10_000: 30}
CASES = ("S1", "S2", "S3", "S1 softmax-linear", *CHANGES, "S1 eight points")
CELLS = {
    "quick": [(case, n, 20) for case in CASES[:3] for n in (100, 300, 900)],
    "full": [(case, n, r) for case in CASES for n, r in SIZES.items()],
}
#: The class that S1's truth belongs to, and nothing else: no hidden layer, no penalty, trained until it is fitted.
SOFTMAX_LINEAR = {
    "network": Mlp(depth=0),
    "training": Training(learning_rate=0.3, penalty=0.0, steps=600, validation_fraction=0.0),
}


def invisible_twin(F: np.ndarray) -> np.ndarray:
    r"""Smooth weights (..., 3) with the same average as equal weights everywhere: :math:`1/3` plus a step along
    :func:`localma.theory.invisible_direction`.

    The step is :math:`q / (3 \sqrt{1 + |q|^2})`, shorter than a third, so that no weight is negative.
    """
    q = theory.invisible_direction(F)
    return (1 + q / np.sqrt(1 + (q**2).sum(-1, keepdims=True))) / 3


def measure(case: str, size: int, replications: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Both distances and the root of the risk on new points, for each replication."""
    setting = case.split()[0]
    change = CHANGES.get(case, lambda F: F)

    def draw(n):
        if case == "S1 eight points":
            X = EIGHT_POINTS[rng.integers(8, size=(replications, n))]
        else:
            X = rng.standard_normal((replications, n, 5))
        F, w = change(scenarios.candidate_models(X)), scenarios.true_weights(X, setting)
        return X, F, w, (w * F).sum(-1)

    X, F, _, mu = draw(size)
    y = mu + rng.standard_normal(mu.shape)
    seeds = rng.integers(2**31, size=replications).tolist()
    settings = SOFTMAX_LINEAR if case == "S1 softmax-linear" else {}
    weights = local_weights(X, F, y, seeds, **settings)
    new, F_new, truth, mu = draw(TEST_SIZE)
    estimates = {"LocalMA": weights(new)}
    if case in ("S1", "S2", "S3"):
        estimates |= {"GW": global_weights(F, y, LOSSES["squared"])[:, None, :], "EWMA": np.full((1, 1, 3), 1 / 3)}
    found: dict[str, np.ndarray] = {}
    for method, w in estimates.items():
        w = np.broadcast_to(w, truth.shape)
        gap = (w * F_new).sum(-1) - mu
        second = theory.distance_to_optimal_set(w, F_new, mu)
        found |= {
            f"{method} first": np.linalg.norm(w - truth, axis=-1).mean(-1),
            f"{method} second": second.mean(-1),
            f"{method} second, L2": np.sqrt((second**2).mean(-1)),
            f"{method} root risk": np.sqrt((gap**2).mean(-1)),
            f"{method} bound, L2": np.sqrt((theory.distance_bound(w, F_new, mu) ** 2).mean(-1)),
        }
    if case == "S2":
        # nature may have used the invisible twin of equal weights: the data are the same, and so is the fit
        apart = estimates["LocalMA"] - invisible_twin(F_new)
        found["LocalMA first, twin truth"] = np.linalg.norm(apart, axis=-1).mean(-1)
    return found
