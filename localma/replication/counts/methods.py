"""Ways to a price: averages of the insurers' models and models of one's own.

Penalties come from pilots (:mod:`localma.replication.counts.tuning`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import PoissonRegressor
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from localma.averages import DirectModel
from localma.engine import Training, automatic_penalty, fit_stack, global_weights, mlp
from localma.losses import LOSSES
from localma.replication.counts.companies import clientele, fit_forest
from localma.replication.lab.sample import Sample, best_model, tensors

METHODS = (
    "LocalMA",
    "LocalMA untuned",
    "GW",
    "EWMA",
    "BestModel",
    "OwnInsurer",
    "DirectGLM",
    "DirectForest",
    "DirectModel",
    "OnePrice",
)
RIDGE = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def direct_glm(X: np.ndarray, y: np.ndarray, person: np.ndarray):
    """Poisson regression with a ridge penalty chosen by five-fold cross-validation, each person in one fold.

    Without a penalty, a rare group that made no visit in the sample gets a mean of zero.
    """
    search = GridSearchCV(
        make_pipeline(StandardScaler(), PoissonRegressor(max_iter=1000)),
        {"poissonregressor__alpha": list(RIDGE)},
        scoring="neg_mean_poisson_deviance",
        cv=GroupKFold(5),
    )
    return search.fit(X, y, groups=person)


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
    X, F, y, new = tensors(*(a[:, :n] for a in (data.X, data.F, data.y)), X_new)
    return fit_stack(X, F, y, LOSSES["poisson"], seeds=seeds, training=options).weights(new).double().numpy()


def deviance(y: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Poisson deviance, twice the Kullback-Leibler loss, of each observation; arrays of one shape."""
    y, a = np.broadcast_arrays(y, a)
    return LOSSES["poisson"](y.ravel(), a.ravel()).reshape(y.shape)


def predict(
    data: Sample, n: int, seeds: Sequence[int], factors: dict[str, float]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What every method predicts for the test after learning from the first n customer-years; the weight networks are
    one stack.

    Parameters
    ----------
    data : Sample
        Of R repetitions, from :func:`repeat`.
    n : int
    seeds : sequence of int, length R
        Of the networks and of the direct forest.
    factors : dict
        Penalties of "LocalMA" and "DirectModel" in units of the package's own, as the pilots chose them.

    Returns
    -------
    predictions : dict of method to array (R, 6000)
    weights : array of shape (R, 6000, 5)
        LocalMA's on the test.
    """
    X, y, F = data.X[:, :n], data.y[:, :n], data.F[:, :n]
    weights, untuned = (local_weights(data, n, seeds, factor, data.X_test) for factor in (factors["LocalMA"], 1.0))
    best = best_model(F, y, LOSSES["poisson"])
    found = {
        "LocalMA": (weights * data.F_test).sum(-1),
        "LocalMA untuned": (untuned * data.F_test).sum(-1),
        "GW": (global_weights(F, y, LOSSES["poisson"])[:, None] * data.F_test).sum(-1),
        "EWMA": data.F_test.mean(-1),
        "BestModel": data.F_test[np.arange(len(y)), :, best],
        "OwnInsurer": np.take_along_axis(data.F_test, clientele(data.X_test)[..., None], -1)[..., 0],
        "OnePrice": np.broadcast_to(y.mean(1)[:, None], data.y_test.shape),
    }
    direct: dict[str, list] = {"DirectGLM": [], "DirectForest": [], "DirectModel": []}
    with threadpool_limits(1):
        for r, seed in enumerate(seeds):
            direct["DirectGLM"].append(direct_glm(X[r], y[r], data.groups[r, :n]).predict(data.X_test[r]))
            direct["DirectForest"].append(fit_forest(X[r], y[r], seed).predict(data.X_test[r]))
            direct["DirectModel"].append(
                direct_network(X[r], y[r], seed, factors["DirectModel"]).predict(data.X_test[r])
            )
    return found | {name: np.stack(a) for name, a in direct.items()}, weights
