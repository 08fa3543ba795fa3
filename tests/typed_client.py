"""A user's program with types, for test_types.py: what it calls must have the types that it says."""

import numpy as np
import torch

import localma
from localma.relatives import GreedySelection, MixtureOfExperts
from localma.theory import Audit, audit

rng = np.random.default_rng(0)
X: np.ndarray = rng.uniform(-1, 1, (100, 2))
y: np.ndarray = X[:, 0] ** 2
F: np.ndarray = np.stack([X[:, 0], -X[:, 0]], 1)

network = localma.WeightNetwork(localma.mlp(2, 2))
local: localma.LocalMA = localma.LocalMA(
    network=network, loss=localma.LOSSES["squared"], progress=False, random_state=0
).fit(X, y, F=F)
weights: np.ndarray = local.weights(X)
predictions: np.ndarray = local.predict(X, F=F)
explained: float = local.score(X, y, F=F)

rivals = [
    localma.GlobalMA(),
    localma.EqualWeights(),
    localma.BestModel(),
    MixtureOfExperts(random_state=0),
    GreedySelection(),
]
errors: list[float] = [float(np.mean((rival.fit(X, y, F=F).predict(X, F=F) - y) ** 2)) for rival in rivals]

localma.GlobalMA().fit(X, y, F=F).save("average.npz")
found: Audit = audit(localma.load("average.npz"), X, y, F=F)
alarms: list[str] = found.alarms

skewed: localma.Loss = localma.tweedie(1.7)
losses: np.ndarray = skewed(np.ones(3), np.full(3, 2.0))
logits: torch.Tensor = localma.mlp(2, 2)(torch.zeros(1, 2))
