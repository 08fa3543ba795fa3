"""``level=``: what all candidates together lack, and no weights on the simplex can reach."""

import numpy as np
import pytest

from localma import LOSSES, GlobalMA, LocalMA, load, pinball
from localma.averages.level import at_level, level_of

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 2))
F = np.column_stack([X[:, 0], -X[:, 0]])
truth = np.where(X[:, 1] > 0, X[:, 0], -X[:, 0])
y = truth + 2 + 0.5 * rng.normal(size=200)
QUICK = {"shrinkage": 0.01, "members": 1, "random_state": 0}


@pytest.mark.parametrize("average", [GlobalMA(), LocalMA(**QUICK)])
def test_models_that_are_all_too_low_are_lifted(average, tmp_path):
    low = np.mean((average.fit(X, y, F=F).predict(X, F=F) - y) ** 2)  # the mutant: no level
    average.set_params(level=True).fit(X, y, F=F)
    assert 1 < average.level_ < 2.2  # weights that move have reached a part of it
    gain, error = average.level_gain_
    assert gain > 3 * error
    assert np.mean((average.predict(X, F=F) - y) ** 2) < low / 2
    said = average.explain(X[0], F=F[:1])
    assert said.table.loc["average", "prediction"] == pytest.approx(average.predict(X[:1], F=F[:1])[0])
    assert f"Level, the same at every row: {average.level_:.4f}"[:-2] in repr(said)
    average.save(tmp_path / "average")
    np.testing.assert_array_equal(load(tmp_path / "average").predict(X, F=F), average.predict(X, F=F))


@pytest.mark.parametrize("average", [GlobalMA(level=True), LocalMA(level=True, **QUICK)])
def test_no_level_is_taken_where_none_is_missing(average):
    """Of twenty samples most take none, and the few that do hardly move."""
    levels = []
    for seed in range(20 if isinstance(average, GlobalMA) else 2):
        noise = np.random.default_rng(seed).normal(size=200)
        average.fit(X, F.mean(1) + noise, F=F)
        levels.append(average.level_ or 0.0)
    assert np.mean(np.array(levels) != 0) <= 0.5
    assert np.abs(levels).max() < 0.3


def test_the_residual_says_when_to_try():
    assert LocalMA(**QUICK).fit(X, y, F=F).fit_info_.residual > 10
    assert abs(LocalMA(**QUICK).fit(X, y - 2, F=F).fit_info_.residual) < 4
    labels, P = np.arange(200) % 2, np.tile([[0.9, 0.1], [0.8, 0.2]], (200, 1, 1))
    assert abs(LocalMA(loss="cross_entropy", **QUICK).fit(X, labels, F=P).fit_info_.residual) > 5


@pytest.mark.parametrize("loss", ["squared", "poisson", "gamma", "tweedie", pinball(0.8)])
def test_the_level_is_the_best_number(loss):
    loss = LOSSES.get(loss, loss)
    a, target = rng.gamma(3, size=500), rng.gamma(5, size=500)
    best = level_of(loss, target, a)
    value = [loss(target, at_level(loss, a, best + step)).mean() for step in (-0.05, 0, 0.05)]
    assert value[1] < min(value[0], value[2])


def test_classes_get_the_shares_of_the_sample():
    P, loss = rng.dirichlet(np.ones(3), 3000), LOSSES["cross_entropy"]
    tilted = P * [1, 4, 0.5]
    labels = (tilted.cumsum(1) < rng.random((3000, 1)) * tilted.sum(1, keepdims=True)).sum(1)
    level = level_of(loss, labels, P)
    np.testing.assert_allclose(level, np.log([1, 4, 0.5]) - np.log([1, 4, 0.5]).mean(), atol=0.2)
    moved = at_level(loss, P, level)
    np.testing.assert_allclose(moved.mean(0), np.bincount(labels) / 3000, atol=0.002)
    average = GlobalMA(loss="cross_entropy", level=True).fit(P[:, :2], labels, F=np.stack([P, P], 1))
    assert loss(labels, average.predict_proba(P[:, :2], F=np.stack([P, P], 1))).mean() < loss(labels, P).mean() - 0.1
