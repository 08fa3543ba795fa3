"""The methods: LocalMA, its relatives of the package, and learners on top of the models or instead of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from localma import relatives as kin
from localma.averages import BestModel, DirectModel, EqualWeights, GlobalMA, LocalMA
from localma.engine import one_thread
from localma.losses import LOSSES
from localma.replication.counts.companies import FOREST
from localma.replication.lab.sample import Sample
from localma.replication.relatives.worlds import World

LEAST = 1e-6  # of a probability or a mean, before its logarithm is taken


class Stacker:
    """Any scikit-learn learner on the models' predictions and, if asked, the covariates beside them.

    What ``StackingRegressor(..., cv="prefit", passthrough=True)`` fits, from stored predictions instead of models.

    Parameters
    ----------
    learner : scikit-learn estimator
    passthrough : bool
        Add the covariates.
    logarithm : bool
        Give the learner logarithms of the predictions, for learners with a log or logistic link.
    """

    def __init__(self, learner, *, passthrough=True, logarithm=False):
        self.learner, self.passthrough, self.logarithm = learner, passthrough, logarithm

    def _columns(self, X, F):
        flat = np.reshape(np.log(np.maximum(F, LEAST)) if self.logarithm else F, (len(F), -1))
        return np.hstack([flat, X]) if self.passthrough else flat

    def fit(self, X, y, F):
        self.learner.fit(self._columns(X, F), y)
        return self

    def predict(self, X, F):
        return self.learner.predict(self._columns(X, F))

    @property
    def classes_(self):
        return self.learner.classes_

    def predict_proba(self, X, F):
        return self.learner.predict_proba(self._columns(X, F))


def _linear_stacker(loss, passthrough):
    """Linear on the scale of the loss; on the predictions alone least squares needs no penalty."""
    if loss == "squared":
        return Stacker(RidgeCV() if passthrough else LinearRegression(), passthrough=passthrough)
    if loss == "cross_entropy":
        return Stacker(LogisticRegression(max_iter=1000), passthrough=passthrough, logarithm=True)
    search = GridSearchCV(
        PoissonRegressor(max_iter=1000), {"alpha": [1e-3, 1e-2, 0.1, 1.0]}, scoring="neg_mean_poisson_deviance"
    )
    return Stacker(make_pipeline(StandardScaler(), search), passthrough=passthrough, logarithm=True)


def _boosting(loss, seed):
    how = {"learning_rate": 0.05, "min_samples_leaf": 5, "random_state": seed}
    if loss == "cross_entropy":
        return HistGradientBoostingClassifier(**how)
    kind, scoring = {"poisson": ("poisson", "neg_mean_poisson_deviance"), "squared": ("squared_error", None)}[loss]
    learner = HistGradientBoostingRegressor(loss=kind, **how)
    return GridSearchCV(learner, {"max_iter": [10, 30, 100]}, scoring=scoring, cv=3)


def _forest(loss, seed):
    if loss == "cross_entropy":
        return RandomForestClassifier(random_state=seed)
    if loss == "poisson":
        return RandomForestRegressor(random_state=seed, **FOREST)
    return RandomForestRegressor(random_state=seed)


def _own(loss, seed):
    return LogisticRegression(max_iter=1000) if loss == "cross_entropy" else _forest(loss, seed)


@dataclass(frozen=True)
class Method:
    """How a method is made for a loss and a seed, what kind of weights it has, and which losses it takes."""

    make: Callable[[str, int], Any] = field(repr=False)
    family: str
    losses: tuple[str, ...] = ("squared", "poisson", "cross_entropy")


def _of(kind, **options):
    """A method of the package with its defaults, and the seed where it has one."""
    known = kind().get_params()

    def make(loss, seed):
        # weights are compared here, so every candidate is taken at its word
        return kind(loss=loss, clip=False, **({"random_state": seed} if "random_state" in known else {}), **options)

    return make


_MEANS = ("squared", "poisson")
#: The methods by name. Families: constant weights, local weights, no weights (a model of its own on top or instead).
METHODS = {
    "LocalMA": Method(_of(LocalMA, progress=False, shrinkage=None), "local"),  # the paper's
    "LocalMA adaptive": Method(_of(LocalMA, progress=False, shrinkage="cv"), "local"),
    # with one candidate more: the learner of DirectModel
    "LocalMA direct": Method(
        lambda loss, seed: _of(LocalMA, progress=False, shrinkage="cv", direct=_own(loss, seed))(loss, seed), "local"
    ),
    "Hierarchical": Method(_of(kin.HierarchicalStacking), "local"),
    "MoE": Method(_of(kin.MixtureOfExperts), "local"),
    # for classes it is the same
    "MoE competitive": Method(_of(kin.MixtureOfExperts, objective="competitive"), "local", _MEANS),
    # for squared loss they are MoE and GW
    "Log pool": Method(_of(kin.LogarithmicPool), "local", ("poisson", "cross_entropy")),
    "Log pool constant": Method(_of(kin.LogarithmicPool, gate="constant"), "constant", ("poisson", "cross_entropy")),
    "Feature stacking": Method(_of(kin.FeatureStacking), "local", ("squared",)),
    "Pan": Method(_of(kin.RightProbability), "local"),
    "Yang neighbours": Method(_of(kin.LocalSelection), "local"),
    "Yang partition": Method(_of(kin.LocalSelection, form="partition"), "local"),
    "GW": Method(_of(GlobalMA), "constant"),
    "Bates-Granger": Method(_of(kin.BatesGranger), "constant", ("squared",)),
    "NNLS": Method(_of(kin.NonNegativeStacking), "constant", ("squared",)),
    "Greedy": Method(_of(kin.GreedySelection), "constant"),
    "ARM": Method(_of(kin.AdaptiveMixing), "constant"),
    "BMA": Method(_of(kin.InformationWeights), "constant"),
    "BestModel": Method(_of(BestModel), "constant"),
    "EWMA": Method(_of(EqualWeights), "constant"),
    "Stacking F": Method(lambda loss, seed: _linear_stacker(loss, False), "none"),
    "Stacking linear": Method(lambda loss, seed: _linear_stacker(loss, True), "none"),
    "Stacking boosting": Method(lambda loss, seed: Stacker(_boosting(loss, seed)), "none"),
    "Stacking forest": Method(lambda loss, seed: Stacker(_forest(loss, seed)), "none"),
    "DirectModel": Method(lambda loss, seed: DirectModel(_own(loss, seed), loss=loss), "none"),
    "Boosting": Method(lambda loss, seed: DirectModel(_boosting(loss, seed), loss=loss), "none"),
}


def _all_classes(a, known, sample):
    """Probabilities of all classes from those of the classes that a learner has seen; the others get what add-one
    smoothing gives them.
    """
    n, K = len(sample.y), sample.F.shape[2]
    if len(known) == K:
        return a
    everything = np.full((len(a), K), 1 / (n + K))
    everything[:, np.asarray(known, dtype=int)] = a * (1 - (K - len(known)) / (n + K))
    return everything


def score(world: World, method: str, sample: Sample, seed: int) -> dict[str, float]:
    """Fit one method to one sample: ``risk``, for classes ``error`` too, and the fit's processor ``seconds``.

    The risk is the mean loss on the test, or, where the true means are known, the mean excess loss.
    """
    loss = LOSSES[world.loss]
    with threadpool_limits(1), one_thread():
        start = time.process_time()
        fitted = METHODS[method].make(world.loss, seed).fit(sample.X, sample.y, F=sample.F)
        seconds = time.process_time() - start
        predict = fitted.predict_proba if loss.is_classification else fitted.predict
        a = predict(sample.X_test, F=sample.F_test)
    if loss.is_classification:
        a = _all_classes(a, fitted.classes_, sample)
        return {
            "risk": loss(sample.y_test, a).mean(),
            "error": (a.argmax(1) != sample.y_test).mean(),
            "seconds": seconds,
        }
    if world.loss == "squared":
        return {"risk": np.square(a - sample.y_test).mean(), "seconds": seconds}
    # an average without a sign constraint may predict no positive mean; a floor keeps its loss finite, and large
    return {"risk": loss(sample.y_test, np.maximum(a, LEAST)).mean(), "seconds": seconds}
