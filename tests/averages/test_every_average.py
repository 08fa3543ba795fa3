"""What every average promises, found from the exports, so that a new one is held to it as well."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV

from localma import DirectModel, EqualWeights, load, relatives
from localma.averages import ModelAverage
from localma.averages.packing import record
from localma.theory import audit
from tests.kinds import AVERAGES, make

VARIANTS = {
    "BatesGranger": {"covariance": "diagonal"},
    "InformationWeights": {"prior": np.array([0.2, 0.3, 0.5]), "n_parameters": [1, 2, 3]},
    "LocalMA": {"shrinkage": None, "bootstrap": 3},
    "LogarithmicPool": {"gate": "constant"},
    "LocalSelection": {"form": "partition", "size": 2},
    "MixtureOfExperts": {"objective": "competitive", "penalty": 0.1},
    "QuantileAverage": {"level": 0.9, "cells": 2},
}
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
F = rng.gamma(3, size=(60, 3))
y = np.where(X[:, 0] > 0, F[:, 0], F[:, 1]) + rng.random(60)
P = rng.dirichlet(np.ones(3), (60, 3))
LABELS = np.array(["no", "perhaps", "yes"])[np.arange(60) % 3]


def cases():
    """Each average with each kind of loss that it takes, and with settings of its own."""
    for kind in AVERAGES:
        for loss in ("squared", "poisson", "cross_entropy"):
            average, target, candidates = make(kind, loss=loss), *((LABELS, P) if loss == "cross_entropy" else (y, F))
            try:
                average._check(X, target, 3, average._resolve_loss())
            except ValueError as error:
                assert loss != "squared" and "loss" in str(error)  # noqa: PT017, PT018
                continue
            if "loss" in average.get_params() or loss == "squared":
                yield pytest.param(average, target, candidates, id=f"{kind.__name__}-{loss}")
        if kind.__name__ in VARIANTS:
            yield pytest.param(make(kind, **VARIANTS[kind.__name__]), y, F, id=f"{kind.__name__}-variant")


@pytest.mark.parametrize(("average", "target", "candidates"), list(cases()))
def test_a_round_trip_is_bit_equal(average, target, candidates, tmp_path):
    average.fit(X, target, F=candidates).save(tmp_path / "average.npz")
    again = load(tmp_path / "average.npz")
    assert type(again) is type(average)
    np.testing.assert_equal(again.get_params(), average.get_params())
    assert again._learned() == average._learned()
    far = np.vstack([X, 9 * X])
    np.testing.assert_array_equal(again.weights(far), average.weights(far))
    np.testing.assert_array_equal(again.predict(X, F=candidates), average.predict(X, F=candidates))
    assert again.score(X, target, F=candidates) == average.score(X, target, F=candidates)
    if candidates is P:
        np.testing.assert_array_equal(again.predict_proba(X, F=P), average.predict_proba(X, F=P))
    again.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "average.npz").read_bytes()


@pytest.mark.parametrize("kind", [*AVERAGES, DirectModel])
def test_rows_in_another_order_are_refused_everywhere(kind):
    frame, target, candidates = pd.DataFrame(X), pd.Series(y), pd.DataFrame(F)
    order = rng.permutation(60)
    average = make(kind, **({"learner": LinearRegression()} if kind is DirectModel else {}))
    average.fit(frame, target, F=candidates)
    for call in (
        lambda: average.score(frame, target.iloc[order], F=candidates),
        lambda: average.score(frame, target, F=candidates.iloc[order]),
        lambda: average.score(frame.iloc[order], target, F=candidates),
        lambda: clone(average).fit(frame, target.iloc[order], F=candidates),
        *([] if kind is DirectModel else [lambda: average.predict(frame, F=candidates.iloc[order])]),
        *([] if kind is DirectModel else [lambda: clone(average).fit(frame, target, F=candidates.iloc[order])]),
    ):
        with pytest.raises(
            ValueError,
            match=r"[yF] has the rows of X in another order; rows are matched by position, so give [yF]\.loc",
        ):
            call()
    together = average.score(frame.iloc[order], target.iloc[order], F=candidates.iloc[order])
    assert together == pytest.approx(average.score(frame, target, F=candidates))


def test_a_model_that_sorts_its_rows_is_refused():
    frame = pd.DataFrame(X)
    with pytest.raises(ValueError, match=r"model 'f1' failed on X: .*prediction has the rows of X in another order"):
        EqualWeights([lambda X: X.sort_values(0)[0]]).fit(frame, y)


class Counting:
    """A model that counts how often it is asked."""

    calls = 0

    def predict(self, X):
        self.calls += 1
        return np.asarray(X)[:, 0]


# anything can say whether it is true
SETTINGS = [(kind, name) for kind in AVERAGES for name in kind().get_params() if name not in ("models", "progress")]


@pytest.mark.parametrize(("kind", "name"), SETTINGS)
def test_a_setting_that_cannot_be_is_found_before_a_model_is_asked(kind, name):
    models = [Counting(), Counting()]
    average = make(kind, models=models)
    repr(average.set_params(**{name: "nonsense"}))
    assert not hasattr(average, "predict_proba")
    with pytest.raises(
        (ValueError, TypeError),
        match="could not convert"
        if (kind, name) == (relatives.QuantileAverage, "level")
        else rf"{name}.* (is|not|cannot) ",
    ):
        average.fit(X, y)
    assert [model.calls for model in models] == [0, 0]
    with pytest.raises(NotFittedError):
        average.weights(X)


@pytest.mark.parametrize("K", [2, 3, 10, 100])
def test_probabilities_sum_to_one_and_stay_between_zero_and_one(K):
    for P in (
        rng.dirichlet(np.full(K, 0.3), (300, 4)),
        np.eye(K)[np.zeros((300, 4), int)],
        rng.dirichlet(np.ones(K), (300, 4)).astype(np.float32),
    ):
        labels = np.arange(300) % K
        average = make(relatives.InformationWeights, loss="cross_entropy", prior=[0.1, 0.2, 0.3, 0.4]).fit(
            X[[0] * 300], labels, F=P
        )
        p = average.predict_proba(X[[0] * 300], F=P)
        assert p.min() >= 0
        assert p.max() <= 1
        assert max(abs(math.fsum(row) - 1) for row in p) <= np.finfo(float).eps


# --- a new average ------------------------------------------------------------


class InverseLoss(ModelAverage):
    """Weights proportional to a power of one over the mean loss: all that a new average has to define."""

    def __init__(self, models=None, *, loss="squared", power=1.0):
        super().__init__(models, loss=loss)
        self.power = power

    def _check(self, X, y, M, loss):
        if not (isinstance(self.power, float) and self.power > 0):
            raise ValueError(f"power must be a positive float, but is {self.power!r}")

    def _fit_weights(self, X, F, y, loss):
        self.losses_ = np.array([loss(y, f).mean() for f in np.moveaxis(F, 1, 0)])
        self.share_ = self.losses_**-self.power / (self.losses_**-self.power).sum()

    def _weights(self, X):
        return np.tile(self.share_, (len(X), 1))


def test_a_new_average_is_one_class(tmp_path):
    models = [("first", lambda X: X[:, 0]), ("second", lambda X: X[:, 1]), ("both", lambda X: X.sum(1))]
    X = rng.normal(size=(200, 2))
    y = X[:, 0] + 0.3 * rng.normal(size=200)
    average = InverseLoss(models).fit(X[:100], y[:100])
    assert average.predict(X).shape == (200,)
    assert average.score(X, y) > EqualWeights(models).fit(X, y).score(X, y)
    assert clone(average).get_params() == average.get_params()
    with pytest.raises(NotFittedError):
        clone(average).predict(X)
    average.save(tmp_path / "average")
    np.testing.assert_array_equal(load(tmp_path / "average", models).predict(X), average.predict(X))
    assert "pays" in audit(average, X[100:], y[100:]).table.index
    search = GridSearchCV(InverseLoss(models), {"power": [0.5, 2.0]}, cv=2).fit(X, y)
    assert search.best_params_ == {"power": 2.0}
    with pytest.raises(ValueError, match="power must be"):
        InverseLoss([Counting()], power="nonsense").fit(X, y)
    P = rng.dirichlet(np.ones(2), (200, 3))
    classes = InverseLoss(loss="cross_entropy").fit(X, y > 0, F=P)
    classes.save(tmp_path / "classes")
    np.testing.assert_array_equal(load(tmp_path / "classes").predict_proba(X, F=P), classes.predict_proba(X, F=P))


@record
@dataclass(frozen=True)
class Plan:
    steps: int = 3
    rates: tuple = (0.1, math.inf)


class Planned(EqualWeights):
    def __init__(self, models=None, *, loss="squared", plan=None, of=None):
        super().__init__(models, loss=loss)
        self.plan = plan
        self.of = of


def test_settings_that_are_a_dataclass_come_back(tmp_path):
    average = Planned(plan=Plan(steps=5), of=np.random.RandomState(0)).fit(X, y, F=F)
    average.save(tmp_path / "average")
    assert load(tmp_path / "average").plan == Plan(steps=5)
    assert load(tmp_path / "average").of is None  # what only code can describe has its default


def test_of_a_class_that_is_defined_again_the_last_one_counts(tmp_path):
    def define(factor):
        class Twice(EqualWeights):
            simplex = False

            def _weights(self, X):
                return factor * super()._weights(X)

        return Twice

    first, second = define(1), define(2)
    first().fit(X, y, F=F).save(tmp_path / "average")
    assert type(load(tmp_path / "average")) is second
    own = type("EqualWeights", (EqualWeights,), {"__module__": "of.mine"})
    own().fit(X, y, F=F).save(tmp_path / "own")
    assert type(load(tmp_path / "own")) is own
    EqualWeights().fit(X, y, F=F).save(tmp_path / "average")
    assert type(load(tmp_path / "average")) is EqualWeights


def test_a_fit_that_fails_leaves_nothing_that_looks_fitted():
    class Failing(InverseLoss):
        def _fit_weights(self, X, F, y, loss):
            self.share_ = np.ones(3) / 3
            raise KeyboardInterrupt

    average = Failing()
    with pytest.raises(KeyboardInterrupt):
        average.fit(X, y, F=F)
    assert average._learned() == []
