"""Four companies and ten digits: the design of the paper's Section 5.3 scaled down to scikit-learn's 1,797 bundled images.

Chapter *First real data* tells the story; this module holds what is longer than a screen. Each repetition cuts the images anew: 600 for the
companies, 600 that the weights may be learned from, 597 for the test. The first two do not overlap, so that the companies' models are fixed
functions, independent of the sample, as the theory asks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from localma.engine import fit_stack, global_weights
from localma.losses import LOSSES

__all__ = ["METHODS", "OWN", "SIZES", "Repetitions", "companies", "compare_methods", "repeat", "split", "verdicts"]

#: The classes of each company, as in the paper: four each, the neighbours share two.
OWN = {"A": (0, 1, 2, 3), "B": (2, 3, 4, 5), "C": (4, 5, 6, 7), "D": (6, 7, 8, 9)}
#: Sizes of the sample from which weights (or a direct model) are learned.
SIZES = (25, 50, 100, 200, 400, 600)
METHODS = ("LocalMA", "GW", "EWMA", "BestModel", "DirectModel")


def split(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the images for the companies, for the weights and for the test, in random order."""
    return tuple(np.split(np.random.default_rng(seed).permutation(1797), [600, 1200]))


def companies(X: np.ndarray, y: np.ndarray, *, others: int = 1) -> list[tuple[str, LogisticRegression]]:
    """Each company's logistic regression, fitted to all images of its own classes and to ``others`` images of each other class.

    Parameters
    ----------
    X : array of shape (n, 64)
    y : array of shape (n,)
        Digits. The first ``others`` images of a class are those that a stranger to it sees.
    others : int

    Returns
    -------
    list of (name, model) pairs
        As :class:`localma.LocalMA` takes them.
    """
    few = np.concatenate([np.flatnonzero(y == k)[:others] for k in range(10)])
    models = []
    for name, own in OWN.items():
        mine = np.isin(y, own)
        mine[few] = True
        models.append((name, LogisticRegression(max_iter=1000).fit(X[mine], y[mine])))
    return models


class Repetitions(NamedTuple):
    """What R repetitions share: a sample of n = 600 to learn from and a test of 597 images each, with the four models' predictions."""

    X: np.ndarray  #: (R, 600, 64), pixels between 0 and 1
    y: np.ndarray  #: (R, 600)
    F: np.ndarray  #: (R, 600, 4, 10), class probabilities
    X_test: np.ndarray  #: (R, 597, 64)
    y_test: np.ndarray
    F_test: np.ndarray


def repeat(repetitions: int = 50, *, seed: int = 0, others: int = 1) -> Repetitions:
    """Cut the images, train the companies and store what they predict, for seeds ``seed``, ``seed + 1``, ..."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    rows = []
    with threadpool_limits(1):  # products this small are faster on one thread
        for r in tqdm(range(seed, seed + repetitions), desc="companies", unit="cut", delay=5, leave=False):
            first, sample, test = split(r)
            models = companies(X[first], y[first], others=others)
            F, F_test = (np.stack([model.predict_proba(X[part]) for _, model in models], 1) for part in (sample, test))
            rows.append((X[sample], y[sample], F, X[test], y[test], F_test))
    return Repetitions(*map(np.stack, zip(*rows, strict=True)))


def compare_methods(data: Repetitions, sizes=SIZES, *, seed: int = 0) -> tuple[pd.DataFrame, dict[int, np.ndarray]]:
    """Test accuracy of every method for every n; all weight networks of one n are trained as one stack.

    Parameters
    ----------
    data : Repetitions
    sizes : sequence of int
        Each n takes the first n images of the 600.
    seed : int
        Repetition r trains its network with seed + r.

    Returns
    -------
    table : DataFrame
        Columns method, n, repetition, accuracy.
    weights : dict of n to array (R, 597, 4)
        LocalMA's weights on the test images.
    """
    R = len(data.y)
    loss = LOSSES["cross_entropy"]
    everyone = np.arange(R)

    def accuracy(probabilities):
        return (probabilities.argmax(-1) == data.y_test).mean(-1)

    weights, records = {}, []
    for n in tqdm(sizes, desc="methods", unit="size", delay=5, leave=False):
        X, y, F = data.X[:, :n], data.y[:, :n], data.F[:, :n]
        tensors = (torch.as_tensor(a, dtype=torch.float32) for a in (X, F, y))
        fit = fit_stack(*tensors, loss, seeds=range(seed, seed + R))
        weights[n] = fit.weights(torch.as_tensor(data.X_test, dtype=torch.float32)).numpy()
        constant = global_weights(F, y, loss)
        best = np.stack([loss(y.ravel(), F[:, :, m].reshape(-1, 10)).reshape(R, n).mean(1) for m in range(4)], 1).argmin(1)
        with threadpool_limits(1):
            direct = [LogisticRegression(max_iter=1000).fit(X[r], y[r]).predict(data.X_test[r]) for r in range(R)]
        result = {
            "LocalMA": accuracy((weights[n][..., None] * data.F_test).sum(2)),
            "GW": accuracy((constant[:, None, :, None] * data.F_test).sum(2)),
            "EWMA": accuracy(data.F_test.mean(2)),
            "BestModel": accuracy(data.F_test[everyone, :, best]),
            "DirectModel": (np.stack(direct) == data.y_test).mean(1),
        }
        records += [(method, n, r, value) for method in METHODS for r, value in enumerate(result[method])]
    return pd.DataFrame(records, columns=["method", "n", "repetition", "accuracy"]), weights


def verdicts(table: pd.DataFrame, *, z: float = 3.0) -> pd.DataFrame:
    """LocalMA against every other method, repetition by repetition: the mean difference, its Monte-Carlo error, and a verdict.

    Parameters
    ----------
    table : DataFrame
        From :func:`compare_methods`.
    z : float
        A difference of less than ``z`` Monte-Carlo errors is called "cannot tell".

    Returns
    -------
    DataFrame
        Indexed by n and the other method; columns difference, mcse, verdict.
    """
    wide = table.pivot_table(index=["n", "repetition"], columns="method", values="accuracy")
    gain = wide.rsub(wide["LocalMA"], axis=0).drop(columns="LocalMA")
    groups = gain.groupby("n")
    mean, error = groups.mean().stack(), (groups.std() / groups.count() ** 0.5).stack()
    word = np.select([mean > z * error, mean < -z * error], ["LocalMA better", "LocalMA worse"], "cannot tell")
    return pd.DataFrame({"difference": mean, "mcse": error, "verdict": word})
