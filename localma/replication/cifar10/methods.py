"""LocalMA with a convolutional weight network and its rivals, on one sample of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from localma.averages import LocalMA
from localma.engine import Training, global_weights, one_thread
from localma.losses import LOSSES
from localma.replication.cifar10.companies import Material
from localma.replication.cifar10.networks import weight_network
from localma.replication.digits.companies import KNOWS

#: LocalMA in every cell; steps and penalty are what the rule of :mod:`localma.replication.cifar10.tuning` picked.
CONFIGURATION = {"channels": (16, 32, 64), "steps": 75, "batch_size": 128, "learning_rate": 0.003, "penalty": 1.0}


def fit_weights(
    images: np.ndarray, labels: np.ndarray, F: np.ndarray, *, seed: int, configuration: dict | None = None
) -> LocalMA:
    """LocalMA with a convolutional weight network."""
    settings = dict(configuration or CONFIGURATION)
    channels = settings.pop("channels")
    average = LocalMA(
        loss="cross_entropy",
        network=lambda outputs: weight_network(outputs, channels),
        training=Training(**settings),
        progress=False,
        random_state=seed,
    )
    return average.fit(images.astype(np.float32), labels, F=F)


def cool(F: np.ndarray) -> np.ndarray:
    """Class probabilities (..., K) at a temperature of two, less sure of themselves: their square roots, scaled to sum
    to one again.
    """
    cooled = F**0.5
    return cooled / cooled.sum(-1, keepdims=True)


def marks(p: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Accuracy in per cent and log loss of class probabilities (n, K)."""
    return 100 * (p.argmax(-1) == y).mean(), -np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean()


def scores(w: np.ndarray, F: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The :func:`marks` of an average."""
    return marks((w[..., None] * F).sum(-2), y)


def repetition(r: int, n: int, things: Material, *, seed: int = 0) -> dict[str, Any]:
    """One sample of n training images, the weights learned from it, and what they do on the test images."""
    data = things.data
    order = np.random.default_rng([seed, 1, r]).permutation(len(data.labels))[:n]
    F, y, y_test = things.F[order], data.labels[order], data.test_labels
    with one_thread():  # of both cores the better use is two processes (--jobs 2)
        average = fit_weights(data.images[order], y, F, seed=seed + r)
        w = average.weights(data.test_images.astype(np.float32))
        constant = global_weights(F, y, LOSSES["cross_entropy"])
    found: dict[str, Any] = {}
    for method, one in (("LocalMA", w), ("GW", constant)):
        found[f"{method}.accuracy"], found[f"{method}.log loss"] = scores(one, things.F_test, y_test)
        found[f"{method}.accuracy, answers cooled"] = scores(one, cool(things.F_test), y_test)[0]
    by_class = np.stack([w[y_test == k].mean(0) for k in range(10)])
    return found | {"constant": constant, "by_class": by_class, "routed": (w * KNOWS[y_test]).sum(1).mean()}
