"""What the labelled images teach without any company: a new last layer on a network that anybody may have, as each
company trained one; the same that also reads the companies' answers; and LocalMA with it as a fifth candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_limits

from localma.averages import LocalMA
from localma.datasets.cifar10 import load_cifar10
from localma.engine import one_thread
from localma.replication.cifar10.networks import FAMILIES, choose_family, features
from localma.replication.cifar10.predictions import load_predictions
from localma.replication.cifar10.rivals import SIZES, draws, judged
from localma.replication.digits.methods import answers
from localma.replication.lab.experiment import Experiment, number_of
from localma.replication.lab.rivals import fit_rival

REPETITIONS, QUICK_REPETITIONS = 2, 1


def learned(x, F, y, x_test, F_test, *, seed: int) -> dict[str, np.ndarray]:
    """What each method answers on the test, (m, 10), after a look at features (n, d), answers (n, 4, 10) and classes
    (n,), all ten of them.
    """
    said, said_test = answers(F), answers(F_test)
    both, both_test = np.hstack([said, x]), np.hstack([said_test, x_test])
    left, right = (partial(_columns, part=part) for part in (slice(said.shape[1]), slice(said.shape[1], None)))
    with threadpool_limits(1), one_thread():
        own = fit_rival("linear", "cross_entropy", x, y)
        direct = make_pipeline(FunctionTransformer(right), own.best_estimator_)
        average = LocalMA(loss="cross_entropy", features=left, direct=direct, random_state=seed, progress=False)
        return {
            "last layer": own.predict_proba(x_test),
            "last layer, answers": fit_rival("linear", "cross_entropy", both, y).predict_proba(both_test),
            "LocalMA, last layer": average.fit(both, y, F=F).predict_proba(both_test, F=F_test),
        }


def _columns(a, part: slice):
    return a[:, part]


@lru_cache(maxsize=1)
def _known():
    """Features, answers and labels, for training and for the test, and the network of the features."""
    name = FAMILIES[choose_family()][0]
    data = load_cifar10()
    known = []
    for part, images, labels in (("train", data.images, data.labels), ("test", data.test_images, data.test_labels)):
        F, y = load_predictions(part)
        if not np.array_equal(y, labels):
            raise ValueError(
                f"the stored answers are not to these {data.origin} images: run cifar10 with them first, at full scale"
            )
        known.append((features(name, images).astype(np.float32), F, y))
    return *known, name


@dataclass(kw_only=True)
class Direct(Experiment):
    """Direct models on the samples of :class:`~localma.replication.cifar10.rivals.Rivals`; needs images and a network.

    Returns
    -------
    DataFrame
        Columns n, method, metric (accuracy in per cent, log loss), mean, sd, mcse, replications.
    """

    name = "cifar10-direct"
    summary = "photographs by a last layer of one's own, with and without the four companies"
    extent = ("repetitions",)

    repetitions: int | None = number_of("of the experiment")

    def prepare(self):
        self.scaled(repetitions=(REPETITIONS, QUICK_REPETITIONS))

    def configuration(self):
        return super().configuration() | {"sizes": SIZES, "network": _known()[-1], "answers": "cifar10-predictions.npz"}

    def cells(self, found):
        return {f"n{n}-r{r}": (n, r) for n, r in draws(self.repetitions)}

    def measure(self, n, r):
        (x, F, y), (x_test, F_test, y_test), _ = _known()
        mine = np.random.default_rng([self.seed, 1, r]).permutation(len(y))[:n]
        answer = learned(x[mine], F[mine], y[mine], x_test, F_test, seed=self.seed + r)
        return {name: np.array([value]) for name, value in judged(answer, y_test).items()}

    def tables(self, found):
        return {"": self.tidied(found, lambda n: {"n": n})}
