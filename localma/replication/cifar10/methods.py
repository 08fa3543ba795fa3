"""LocalMA with a convolutional weight network and its rivals, on one sample of images."""

from __future__ import annotations

import numpy as np

from localma.averages import LocalMA
from localma.engine import Training, global_weights, one_thread
from localma.losses import LOSSES
from localma.replication.cifar10.companies import Material
from localma.replication.cifar10.networks import weight_network
from localma.replication.digits.companies import KNOWS

TEMPERATURE = 2.0  #: of the companies' answers where a row of the table says that they were cooled
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


def cool(F: np.ndarray, temperature: float = TEMPERATURE) -> np.ndarray:
    """Class probabilities (..., K) made less sure of themselves: raised to the power of one over the temperature, and
    scaled to sum to one again.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication.cifar10.methods import cool
    >>> cool(np.array([0.9, 0.1])).round(2)
    array([0.75, 0.25])
    """
    cooled = F ** (1 / temperature)
    return cooled / cooled.sum(-1, keepdims=True)


def scores(w: np.ndarray, F: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Accuracy in per cent and log loss of an average."""
    p = (w[..., None] * F).sum(-2)
    return 100 * (p.argmax(-1) == y).mean(), -np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean()


def repetition(r: int, n: int, things: Material, *, seed: int = 0) -> dict[str, np.ndarray]:
    """One sample of n training images, the weights learned from it, and what they do on the test images."""
    data = things.data
    order = np.random.default_rng([seed, 1, r]).permutation(len(data.labels))[:n]
    F, y, y_test = things.F[order], data.labels[order], data.test_labels
    with one_thread():  # of both cores the better use is two processes (--jobs 2)
        average = fit_weights(data.images[order], y, F, seed=seed + r)
        w = average.weights(data.test_images.astype(np.float32))
        constant = global_weights(F, y, LOSSES["cross_entropy"])
    cooled = cool(things.F_test)
    return {
        "LocalMA": np.array(scores(w, things.F_test, y_test)),
        "GW": np.array(scores(constant, things.F_test, y_test)),
        "LocalMA cooled": np.array(scores(w, cooled, y_test)),
        "GW cooled": np.array(scores(constant, cooled, y_test)),
        "constant": constant,
        "by_class": np.stack([w[y_test == k].mean(0) for k in range(10)]),
        "routed": np.array((w * KNOWS[y_test]).sum(1).mean()),
    }
