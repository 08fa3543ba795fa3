"""Images, pre-trained networks, and the four companies that put a last layer of their own on them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from localma.datasets.cifar10 import CLASSES, Cifar10, load_cifar10
from localma.engine import first_smallest
from localma.replication.cifar10.networks import FAMILIES, choose_family, features
from localma.replication.digits.companies import OWN
from localma.replication.lab.cache import cached

COMPANIES = tuple(OWN)  # whose classes are numbered as in ``CLASSES``
OTHERS = 50
#: Choices of each company's ridge penalty (C of scikit-learn), by the log loss on a tenth of its own images.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Material:
    """What all repetitions share: the images, and what the four companies say about each."""

    data: Cifar10
    family: str  #: whose networks: "tflite", "torchvision", or "pixels" for the made-up images
    F: np.ndarray  #: (50000, 4, 10), float32, class probabilities for the training images
    F_test: np.ndarray
    C: tuple[float, ...]  #: the penalty that each company chose


def company_images(labels: np.ndarray, own: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Indices of a company's images: all of its own classes, and ``OTHERS`` at random among the rest."""
    mine = np.isin(labels, own)
    return np.concatenate([np.flatnonzero(mine), rng.choice(np.flatnonzero(~mine), OTHERS, replace=False)])


def train_companies(X: list[np.ndarray], labels: np.ndarray, X_test: list[np.ndarray], *, seed: int = 0):
    """Train the four last layers on features of each company's own network, (n, d_m) and (n_test, d_m).

    The seed is that of the images of other classes and of the tenth that chooses the penalty. Returned are class
    probabilities (n, 4, 10) and (n_test, 4, 10), and the penalty that each company chose.
    """
    told = [_company(m, X[m], labels, X_test[m], seed) for m in range(4)]
    F, F_test, C = zip(*told, strict=True)
    return np.stack(F, 1), np.stack(F_test, 1), C


def _company(m: int, X: np.ndarray, labels: np.ndarray, X_test: np.ndarray, seed: int):
    rng = np.random.default_rng([seed, m])
    mine = rng.permutation(company_images(labels, OWN[COMPANIES[m]], rng))
    y, tenth = labels[mine], len(mine) // 10
    if lacks := [CLASSES[k] for k in range(10) if k not in y]:
        raise ValueError(f"company {COMPANIES[m]} has no image of {', '.join(lacks)}; take another seed")
    # features of 8 bits have no units; each company scales its own
    scaler = StandardScaler().fit(X[mine].astype(np.float32))
    x, everything, test = (scaler.transform(a.astype(np.float32)) for a in (X[mine], X, X_test))
    with threadpool_limits(1):  # threads that wait for each other cost more than they bring on a machine that is shared
        held = [_log_loss(_last_layer(C, x[tenth:], y[tenth:]), x[:tenth], y[:tenth]) for C in PENALTIES]
        C = PENALTIES[first_smallest(held)]
        model = _last_layer(C, x, y)
        return model.predict_proba(everything), model.predict_proba(test), C


def _last_layer(C: float, x: np.ndarray, y: np.ndarray) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough: a company's model is what it is
        return LogisticRegression(C=C, max_iter=100, tol=1e-3).fit(x, y)


def _log_loss(model: LogisticRegression, x: np.ndarray, y: np.ndarray) -> float:
    """Of the images whose class the model has seen: with fifty strangers, all of one class may lie in the tenth that is
    held out.
    """
    known = np.isin(y, model.classes_)
    p = model.predict_proba(x[known])[np.arange(known.sum()), np.searchsorted(model.classes_, y[known])]
    return float(-np.log(np.maximum(p, 1e-12)).mean())


@lru_cache(maxsize=1)
def material(synthetic: bool = False, seed: int = 0) -> Material:
    """Images, features and companies; what takes long is kept in the user cache.

    Raises
    ------
    FileNotFoundError
        If the images or the networks are not there, with the ways out.
    """
    data = load_cifar10(synthetic=synthetic)
    family = "pixels" if synthetic else choose_family()

    def train():
        X, X_test = seen(family, data.images, data.test_images)
        return train_companies(X, data.labels, X_test, seed=seed)

    key = data.checksum, family, seed, OTHERS, PENALTIES
    return Material(data, family, *(train() if synthetic else cached("companies", train, *key)))


def seen(family: str, *sets: np.ndarray) -> list[list[np.ndarray]]:
    """Features of each set of images by each network of a family; no network has seen made-up pictures, so at these
    each company looks through random sums of pixels.
    """
    if family == "pixels":
        rng = np.random.default_rng(0)
        looks = [rng.standard_normal((3072, 60)).astype(np.float32) / 3072 for _ in OWN]
        return [[images.reshape(-1, 3072).astype(np.float32) @ A for A in looks] for images in sets]
    count = sum(len(images) for images in sets)
    print(f"cifar10: first {count:,} images go through {', '.join(FAMILIES[family])}: many minutes, unless kept")
    return [[features(name, images) for name in FAMILIES[family]] for images in sets]
