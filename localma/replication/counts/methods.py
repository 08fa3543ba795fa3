"""Ways to a price: averages of the insurers' models and models of one's own.

A penalty comes from pilots (:mod:`localma.replication.counts.tuning`), or from cross-validation within the sample, over
rows or over persons (:func:`cross_validate_persons`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from localma.averages import DirectModel
from localma.engine import (
    CrossValidation,
    Training,
    automatic_penalty,
    cross_validate,
    fit_stack,
    global_weights,
    grid,
    mlp,
)
from localma.engine.validation import SMALLER
from localma.losses import LOSSES
from localma.replication.counts.companies import clientele, fit_forest
from localma.replication.lab.rivals import fit_rival
from localma.replication.lab.sample import Sample, tensors

#: Learners of scikit-learn's: a kind of :mod:`localma.replication.lab.rivals`, and whether it reads log F, X or both.
#: Without a penalty, a regression gives a rare group that made no visit in the sample a mean of zero.
RIVALS = {
    "DirectGLM": ("linear", "X"),
    "Regression on log F": ("linear", "F"),
    "Regression on log F, X": ("linear", "FX"),
}
#: For some repetitions and sizes, as they take long.
BOOSTING = {"Boosting on X": ("boosting", "X"), "Boosting on log F, X": ("boosting", "FX")}
METHODS = (
    "LocalMA",
    "LocalMA untuned",
    "GW",
    "EWMA",
    "BestModel",
    "OwnInsurer",
    "DirectForest",
    "DirectModel",
    "OnePrice",
    *RIVALS,
)


def direct_network(X: np.ndarray, y: np.ndarray, seed: int, factor: float) -> DirectModel:
    """The package's direct model, a network of 16 hidden units, with ``factor`` times the package's own penalty."""
    options = Training(learning_rate=0.01, steps=500, penalty=factor * automatic_penalty(len(y)))
    network = mlp(X.shape[1], 1, random_state=seed)
    return DirectModel(network, loss="poisson", training=options, progress=False, random_state=seed).fit(X, y)


def local_weights(data: Sample, n: int, seeds: Sequence[int], factor: float, X_new: np.ndarray) -> np.ndarray:
    """Weights (R, ..., 5) of LocalMA at ``X_new`` (R, ..., 9), learned from the first n, with ``factor`` times the
    package's own penalty.
    """
    options = Training(penalty=factor * automatic_penalty(n))
    *sample, new = tensors(*(a[:, :n] for a in (data.X, data.F, data.y)), X_new)
    return fit_stack(*sample, LOSSES["poisson"], seeds=seeds, training=options).weights(new).double().numpy()


def deviance(y: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Poisson deviance, twice the Kullback-Leibler loss, of each observation; arrays of one shape."""
    y, a = np.broadcast_arrays(y, a)
    return LOSSES["poisson"](y.ravel(), a.ravel()).reshape(y.shape)


def predict(
    data: Sample, n: int, seeds: Sequence[int], factors: dict[str, float]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What every method but ``RIVALS`` predicts for the test after learning from the first n customer-years; the weight
    networks are one stack.

    Parameters
    ----------
    data : Sample
        Of R repetitions, from :func:`repeat`.
    n : int
    seeds : sequence of int, length R
        Of the networks and of the direct forest.
    factors : dict
        Penalties of "LocalMA" and "DirectModel" in units of the package's own; from :func:`tune`.

    Returns
    -------
    predictions : dict of method to array (R, 6000)
    weights : array of shape (R, 6000, 5)
        LocalMA's on the test.
    """
    y, F = data.y[:, :n], data.F[:, :n]
    weights, untuned = (local_weights(data, n, seeds, factor, data.X_test) for factor in (factors["LocalMA"], 1.0))
    best = deviance(y[..., None], F).mean(1).argmin(1)
    found = {
        "LocalMA": (weights * data.F_test).sum(-1),
        "LocalMA untuned": (untuned * data.F_test).sum(-1),
        "GW": (global_weights(F, y, LOSSES["poisson"])[:, None] * data.F_test).sum(-1),
        "EWMA": data.F_test.mean(-1),
        "BestModel": data.F_test[np.arange(len(y)), :, best],
        "OwnInsurer": np.take_along_axis(data.F_test, clientele(data.X_test)[..., None], -1)[..., 0],
        "OnePrice": np.broadcast_to(y.mean(1)[:, None], data.y_test.shape),
    }
    own: dict[str, list] = {"DirectForest": [], "DirectModel": []}
    with threadpool_limits(1):
        for r, seed in enumerate(seeds):
            one = data.one(r).first(n)
            own["DirectForest"].append(fit_forest(one.X, one.y, seed).predict(one.X_test))
            own["DirectModel"].append(direct_network(one.X, one.y, seed, factors["DirectModel"]).predict(one.X_test))
    return found | {name: np.stack(a) for name, a in own.items()}, weights


def rivals(data: Sample, n: int, which: dict[str, tuple[str, str]] = RIVALS) -> dict[str, np.ndarray]:
    """What ``RIVALS`` (or ``BOOSTING``) predict for the test after learning from the first n, (R, 6000); each person is
    in one fold.
    """

    def predict(one: Sample, kind: str, reads: str) -> np.ndarray:
        sample, test = (
            np.hstack([{"F": np.log(F), "X": X}[part] for part in reads])
            for X, F in ((one.X, one.F), (one.X_test, one.F_test))
        )
        return fit_rival(kind, "poisson", sample, one.y, one.groups).predict(test)

    with threadpool_limits(1):
        samples = [data.one(r).first(n) for r in range(len(data.y))]
        return {name: np.stack([predict(one, *how) for one in samples]) for name, how in which.items()}


def cross_validate_persons(X, F, y, person: np.ndarray, seed: int) -> CrossValidation:
    """:func:`localma.engine.cross_validate` for one sample, a person's years held out together, as
    ``LocalMA.fit(..., groups=person)`` does.

    Parameters
    ----------
    X, F, y : Tensors of shapes (n, 9), (n, 5), (n,)
    person : array of shape (n,)
    seed : int
    """
    loss = LOSSES["poisson"]

    def fit(rows, seeds, penalties, start, sample_weight):
        x, f, target = (a.expand(len(rows), *a.shape) for a in (X, F, y))
        how = {"penalties": penalties, "start": start, "sample_weight": sample_weight}
        return fit_stack(
            x, f, target, loss, seeds=seeds, training=Training().resolve(len(X), shrunk=True), **how
        ).logits(x)

    n = len(y)
    return cross_validate(
        fit, F.unsqueeze(0), y.unsqueeze(0), loss, grid(n), grid(n, SMALLER), seeds=[seed], groups=person
    )
