"""What the companies' answers give without any image: equal weights, prior correction, pools and calibration.

The paper's experiment again, with the same samples of training images and the same test, but what is learned is learned
from what the four companies say (:func:`localma.replication.cifar10.load_predictions`), so that it runs without images
and networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from localma.averages import LocalMA
from localma.engine import global_weights, one_thread
from localma.losses import LOSSES
from localma.relatives import LogarithmicPool
from localma.replication.cifar10.companies import OTHERS, company_images
from localma.replication.cifar10.methods import marks
from localma.replication.cifar10.predictions import load_predictions
from localma.replication.digits.companies import OWN
from localma.replication.digits.methods import answers
from localma.replication.lab.experiment import Experiment, number_of
from localma.replication.lab.results import tidy
from localma.replication.lab.rivals import fit_rival

SIZES = (250, 1000, 10_000)
#: Repetitions of a full run and of a look: of all that is learned, and of boosting, which takes long.
FULL, QUICK = (10, 1), (2, 1)
#: Repetitions of the largest sample, at most: it takes minutes, and its errors are small.
LARGEST = 2


def draws(repetitions: int) -> list[tuple[int, int]]:
    """Sizes and numbers of the samples."""
    return [(n, r) for r in range(repetitions) for n in SIZES if n < max(SIZES) or r < LARGEST]


def class_shares(labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Share of each class among the images that trained each company, (4, 10); ``labels`` are those of all training
    images.
    """
    mine = [company_images(labels, own, np.random.default_rng([seed, m])) for m, own in enumerate(OWN.values())]
    counts = np.array([np.bincount(labels[images], minlength=10) for images in mine])
    return counts / counts.sum(1, keepdims=True)


def correct_priors(F: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Class probabilities (..., M, K) as they would be had each company met all classes equally often: divided by its
    class ``shares`` (M, K), and scaled to sum to one again.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication.cifar10 import correct_priors
    >>> correct_priors(np.array([[0.9, 0.1]]), np.array([[0.9, 0.1]]))
    array([[0.5, 0.5]])
    """
    corrected = F / shares
    return corrected / corrected.sum(-1, keepdims=True)


def geometric(F: np.ndarray) -> np.ndarray:
    """Geometric mean over the companies, scaled to sum to one: (..., M, K) to (..., K)."""
    return softmax(np.log(np.maximum(F, 1e-12)).mean(-2), -1)


def learned(F: np.ndarray, y: np.ndarray, F_test: np.ndarray, shares: np.ndarray, *, seed: int) -> dict:
    """What each method but boosting answers on the test, (n, 10), after a look at a sample of answers and classes."""
    loss, x, x_test = LOSSES["cross_entropy"], answers(F), answers(F_test)

    def constant(F, F_test):
        return (global_weights(F, y, loss)[:, None] * F_test).sum(1)

    def pool(gate):
        fitted = LogarithmicPool(loss="cross_entropy", gate=gate, random_state=seed).fit(x, y, F=F)
        return fitted.predict_proba(x_test, F=F_test)

    with threadpool_limits(1), one_thread():
        local = LocalMA(loss="cross_entropy", random_state=seed, progress=False).fit(x, y, F=F)
        own = [(answers(F[:, [m]]), answers(F_test[:, [m]])) for m in range(F.shape[1])]
        plain = LogisticRegression(max_iter=1000, solver="newton-cg")  # ten columns need no choice of the penalty
        calibrated = np.stack([probabilities(plain.fit(a, y), b) for a, b in own], 1)
        return {
            "GW": constant(F, F_test),
            "GW, corrected": constant(correct_priors(F, shares), correct_priors(F_test, shares)),
            "log pool, constant": pool("constant"),
            "log pool, local": pool("linear"),
            "LocalMA, answers": local.predict_proba(x_test, F=F_test),
            "calibrated": calibrated.mean(1),
            "calibrated, geometric": geometric(calibrated),
            "stacking": regress("linear", x, y, x_test),
        }


def regress(kind: str, x: np.ndarray, y: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Class probabilities (m, 10) by a learner of :mod:`localma.replication.lab.rivals`."""
    with threadpool_limits(1):
        return probabilities(fit_rival(kind, "cross_entropy", x, y), x_test)


def probabilities(model, x: np.ndarray) -> np.ndarray:
    """Of all ten classes, (m, 10); next to nothing for those that the model has not met."""
    p = np.full((len(x), 10), 1e-12)
    p[:, model.classes_] = model.predict_proba(x)
    return p


def unlearned(F: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
    """What each method answers that needs no sample, (n, 10)."""
    corrected = correct_priors(F, shares)
    answer = {"EWMA": F.mean(1), "EWMA, corrected": corrected.mean(1), "geometric": geometric(F)}
    return answer | {"geometric, corrected": geometric(corrected)}


@lru_cache(maxsize=1)
def _said():
    """All answers and labels, for training and for the test, and the companies' class shares."""
    train, test = load_predictions("train"), load_predictions()
    return *train, *test, class_shares(train[1])


def judged(answer: dict[str, np.ndarray], y: np.ndarray) -> dict[str, float]:
    """``METHOD.accuracy`` in per cent and ``METHOD.log loss``."""
    found = {}
    for name, p in answer.items():
        found[f"{name}.accuracy"], found[f"{name}.log loss"] = marks(p, y)
    return found


@dataclass(kw_only=True)
class Rivals(Experiment):
    """Averages and rivals that need the companies' answers alone, on the samples of the experiment on photographs.

    Returns
    -------
    DataFrame
        Columns n (0 where nothing is learned), method, metric (accuracy in per cent, log loss), mean, sd, mcse,
        replications.
    """

    name = "cifar10-rivals"
    summary = "four companies' answers to photographs: what prior correction, pools and stacking make of them"
    extent = ("repetitions",)

    repetitions: int | None = number_of("of the experiment")

    def prepare(self):
        repetitions, boosting = FULL if self.full else QUICK
        self.scaled(repetitions=(repetitions, repetitions))
        self.boosted = min(self.repetitions, boosting)

    def configuration(self):
        return super().configuration() | {"sizes": SIZES, "others": OTHERS, "answers": "cifar10-predictions.npz"}

    def cells(self, found):
        return {
            f"n{n}-{kind}-r{r}": (n, kind, r)
            for kind, total in (("averages", self.repetitions), ("boosting", self.boosted))
            for n, r in draws(total)
        }

    def measure(self, n, kind, r):
        F, y, F_test, y_test, shares = _said()
        order = np.random.default_rng([self.seed, 1, r]).permutation(len(y))[:n]
        F, y = F[order], y[order]
        if kind == "boosting":
            answer = {"boosting": regress("boosting", answers(F), y, answers(F_test))}
        else:
            answer = learned(F, y, F_test, shares, seed=self.seed + r)
        return {name: np.array([value]) for name, value in judged(answer, y_test).items()}

    def tables(self, found):
        _, _, F_test, y_test, shares = _said()
        rows = tidy({"n": 0}, judged(unlearned(F_test, shares), y_test))
        for (n, _), part in self.by_cell(found).items():
            rows += tidy({"n": n}, part)
        return {"": pd.DataFrame(rows).sort_values("n", kind="stable")}
