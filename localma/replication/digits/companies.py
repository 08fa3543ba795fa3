"""The images, how a repetition cuts them, and the four companies."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from localma.replication.lab.sample import Sample, stacked

#: The classes of each company, as in the paper: four each, the neighbours share two.
OWN = {"A": (0, 1, 2, 3), "B": (2, 3, 4, 5), "C": (4, 5, 6, 7), "D": (6, 7, 8, 9)}
#: Whether each class (row) is one of each company's (column).
KNOWS = np.array([[k in own for own in OWN.values()] for k in range(10)])


def split(seed: int) -> tuple[np.ndarray, ...]:
    """Indices of the images for the companies, for the weights and for the test, in random order."""
    return tuple(np.split(np.random.default_rng(seed).permutation(1797), [600, 1200]))


def train_companies(X: np.ndarray, y: np.ndarray, *, others: int = 1) -> list[tuple[str, LogisticRegression]]:
    """Each company's logistic regression, fitted to all images X (n, 64) of its own digits y (n,) and to the first
    ``others`` images of each other digit; (name, model) pairs, as :class:`localma.LocalMA` takes them.
    """
    few = np.concatenate([np.flatnonzero(y == k)[:others] for k in range(10)])
    models = []
    for name, own in OWN.items():
        mine = np.isin(y, own)
        mine[few] = True
        models.append((name, LogisticRegression(max_iter=1000).fit(X[mine], y[mine])))
    return models


def repeat(repetitions: int = 50, *, seed: int = 0, others: int = 1) -> Sample:
    """Cut the images, train the companies and store what they predict, for seeds ``seed``, ``seed + 1``, ...

    Returns
    -------
    Sample
        Of R repetitions: 600 images to learn from and 597 for the test, pixels between 0 and 1; F of (R, 600, 4, 10).
    """
    X, y = load_digits(return_X_y=True)
    X = X / 16
    rows = []
    with threadpool_limits(1):  # products this small are faster on one thread
        for r in tqdm(range(seed, seed + repetitions), desc="companies", unit="cut", delay=5, leave=False):
            first, sample, test = split(r)
            models = train_companies(X[first], y[first], others=others)
            F, F_test = (np.stack([model.predict_proba(X[part]) for _, model in models], 1) for part in (sample, test))
            rows.append(Sample(X[sample], F, y[sample], X[test], F_test, y[test]))
    return stacked(rows)
