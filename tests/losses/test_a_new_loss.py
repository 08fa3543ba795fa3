"""A loss that nobody knew, declared here and nowhere else, goes through everything that takes a loss."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from localma import (
    LOSSES,
    BestModel,
    DirectModel,
    EqualWeights,
    GlobalMA,
    LocalMA,
    Loss,
    Training,
    load,
    relatives,
    theory,
)

#: Twice the negative log-likelihood of a geometric distribution with mean a: the row that a new loss is.
GEOMETRIC = Loss(
    "geometric",
    lambda y, a: (
        2 * ((1 + y) * torch.log1p(a) - torch.xlogy(y, a)) - 2 * ((1 + y) * torch.log1p(y) - torch.xlogy(y, y))
    ),
    lambda t: 2 * (torch.xlogy(t, t) - (1 + t) * torch.log1p(t)),
    "non-negative",
    "positive",
    log_likelihood=0.5,
)

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (150, 2))
F = np.exp(np.stack([1 + X[:, 0], 1 - X[:, 0], 1 + X[:, 1]], 1))
MU = np.where(X[:, 0] > 0, F[:, 0], F[:, 1])
y = rng.geometric(1 / (1 + MU)) - 1.0


@pytest.fixture(autouse=True)
def row(monkeypatch):
    monkeypatch.setitem(LOSSES, "geometric", GEOMETRIC)


QUICK = {"training": Training(steps=60), "shrinkage": None, "random_state": 0}
TAKERS = [
    EqualWeights(loss="geometric"),
    BestModel(loss="geometric"),
    GlobalMA(loss="geometric"),
    LocalMA(loss="geometric", **QUICK),
    relatives.InformationWeights(loss="geometric"),
    relatives.AdaptiveMixing(loss="geometric", random_state=0),
    relatives.GreedySelection(loss="geometric"),
    relatives.MixtureOfExperts(loss="geometric", penalty=0.01),
    relatives.MixtureOfExperts(loss="geometric", penalty=0.01, objective="competitive"),
    relatives.HierarchicalStacking(loss="geometric", penalty=0.01),
    relatives.RightProbability(loss="geometric"),
    relatives.LocalSelection(loss="geometric", size=20),
]


@pytest.mark.parametrize("average", TAKERS, ids=lambda average: type(average).__name__)
def test_every_average_takes_it(average):
    fitted = clone(average).fit(X, y, F=F)
    w = fitted.weights(X)
    np.testing.assert_allclose(w.sum(1), 1)
    assert (w >= 0).all()
    worst = max(GEOMETRIC(y, F[:, m]).mean() for m in range(3))
    assert GEOMETRIC(y, fitted.predict(X, F=F)).mean() < worst
    with pytest.raises(ValueError, match="y must be non-negative for the geometric loss"):
        clone(average).fit(X, -1 - y, F=F)


def test_its_global_weights_are_the_best_on_a_grid():
    w = GlobalMA(loss="geometric").fit(X, y, F=F).weights_
    others = rng.dirichlet(np.ones(3), 3000)
    assert GEOMETRIC(y, F @ w).mean() <= min(GEOMETRIC(y, F @ v).mean() for v in others) + 1e-9


@pytest.mark.parametrize("average", TAKERS[:4], ids=lambda average: type(average).__name__)
def test_saved_and_loaded(average, tmp_path):
    fitted = clone(average).fit(X, y, F=F)
    fitted.save(tmp_path / "a")
    np.testing.assert_array_equal(load(tmp_path / "a").predict(X, F=F), fitted.predict(X, F=F))
    assert load(tmp_path / "a").loss == "geometric"


def test_theory_and_direct_training():
    np.testing.assert_allclose(GEOMETRIC.divergence(MU, F[:, 2]), GEOMETRIC(MU, F[:, 2]), atol=1e-10)
    assert theory.oracle_risk("geometric", F, MU) == 0
    assert np.isfinite(theory.lipschitz_constant("geometric", 0.5, 5))
    audit = theory.audit(LocalMA(loss="geometric", **QUICK).fit(X, y, F=F), X, y, F=F, sizes=[500] * 3)
    assert "limits" not in audit.alarms
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    direct = DirectModel(network, loss="geometric", random_state=0, progress=False).fit(X, y)
    assert GEOMETRIC(y, direct.predict(X)).mean() < GEOMETRIC(y, np.full(150, y.mean())).mean()
