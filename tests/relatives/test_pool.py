"""The logarithmic pool: against scipy, by its defining properties, and where it is the ordinary average."""

import numpy as np
import pytest
from scipy import optimize, special

from localma import LOSSES
from localma.relatives import LogarithmicPool, MixtureOfExperts


def classes(n=120, K=3, M=3, seed=1):
    rng = np.random.default_rng(seed)
    X, F = rng.normal(size=(n, 2)), rng.dirichlet(np.ones(K), (n, M))
    return X, F, np.array([rng.choice(K, p=F[i, int(X[i, 0] > 0)]) for i in range(n)])


def counts(n=150, seed=2):
    rng = np.random.default_rng(seed)
    X, F = rng.normal(size=(n, 2)), rng.gamma(2, size=(n, 3)) + 0.1
    return X, F, rng.poisson(F[:, 0] ** 0.6 * F[:, 1] ** 0.4).astype(float)


def by_scipy(loss, y, parameter, mean):
    """The best constant weights, from a general solver for the simplex."""
    found = optimize.minimize(
        lambda w: loss(y, mean(np.einsum("m,nm...->n...", w, parameter))).mean(),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints=optimize.LinearConstraint(np.ones((1, 3)), 1, 1),
        options={"ftol": 1e-12},
    )
    return found.x


@pytest.mark.parametrize("loss", ["cross_entropy", "poisson"])
def test_constant_weights_are_the_best_of_the_simplex(loss):
    X, F, y = classes() if loss == "cross_entropy" else counts()
    mean = (lambda a: special.softmax(a, 1)) if loss == "cross_entropy" else np.exp
    pool = LogarithmicPool(loss=loss, gate="constant").fit(X, y, F=F)
    w = pool.weights(X[:1])[0]
    np.testing.assert_allclose(w, by_scipy(LOSSES[loss], y, np.log(F), mean), atol=2e-3)
    answer = pool.predict_proba(X, F=F) if loss == "cross_entropy" else pool.predict(X, F=F)
    geometric = np.prod(F ** w.reshape(-1, *[1] * (F.ndim - 2)), axis=1)
    scale = geometric.sum(-1, keepdims=True) if loss == "cross_entropy" else 1.0
    np.testing.assert_allclose(answer, geometric / scale, rtol=1e-9)


def test_for_squared_loss_it_is_the_ordinary_average():
    rng = np.random.default_rng(0)
    X, F = rng.normal(size=(80, 2)), rng.normal(size=(80, 3))
    y = np.where(X[:, 0] > 0, F[:, 0], F[:, 1])
    pool, experts = (kind(random_state=0).fit(X, y, F=F) for kind in (LogarithmicPool, MixtureOfExperts))
    assert pool.penalty_ == experts.penalty_
    np.testing.assert_allclose(pool.weights(X), experts.weights(X), atol=1e-6)


def test_local_weights_find_who_is_right_where():
    X, F, y = classes(n=600)
    local, constant = (LogarithmicPool(loss="cross_entropy", gate=g, random_state=0) for g in ("linear", "constant"))
    assert local.fit(X, y, F=F).weights([[2.0, 0], [-2.0, 0]])[[0, 1], [1, 0]].min() > 0.6
    loss = LOSSES["cross_entropy"]
    risk = [loss(y, pool.fit(X, y, F=F).predict_proba(X, F=F)).mean() for pool in (local, constant)]
    assert risk[0] < risk[1] - 0.02


def test_to_pool_and_then_to_learn_is_to_learn_and_then_to_pool():
    """External Bayesianity: new evidence, the same for all models, may come before or after."""
    X, F, y = classes()
    pool = LogarithmicPool(loss="cross_entropy", random_state=0).fit(X, y, F=F)
    evidence = np.array([0.2, 1.0, 3.0])
    first, after = F * evidence, pool.predict_proba(X, F=F) * evidence
    first /= first.sum(-1, keepdims=True)
    np.testing.assert_allclose(
        pool.predict_proba(X, F=first), after / after.sum(-1, keepdims=True), rtol=1e-9
    )  # fmt: skip
    linear = MixtureOfExperts(loss="cross_entropy", random_state=0).fit(X, y, F=F)
    other = linear.predict_proba(X, F=F) * evidence
    assert abs(linear.predict_proba(X, F=first) - other / other.sum(-1, keepdims=True)).max() > 0.01


def test_a_model_that_says_never_does_not_forbid():
    F = np.tile([[0.0, 1.0], [0.9, 0.1]], (20, 1, 1))
    pool = LogarithmicPool(loss="cross_entropy", gate="constant").fit(np.zeros((20, 1)), np.arange(20) % 4 // 3, F=F)
    p = pool.predict_proba([[0.0]], F=F[:1])
    assert np.isfinite(p).all()
    assert p[0, 0] == pytest.approx(0.75, abs=1e-3)  # the share in the sample, which a mixture of both can meet


def test_models_that_agree_and_losses_without_probabilities():
    X, F, y = classes()
    same = LogarithmicPool(loss="cross_entropy").fit(X, y, F=F[:, [0, 0]])
    np.testing.assert_allclose(same.predict_proba(X, F=F[:, [0, 0]]), F[:, 0])
    with pytest.raises(ValueError, match=r"loss = 'gamma' has no probabilities that could be pooled; use 'squared'"):
        LogarithmicPool(loss="gamma").fit(X, y + 1.0, F=F[:, :, 0])
