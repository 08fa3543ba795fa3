"""The quantities of the theory part, against closed forms, against scipy and against what the losses compute."""

import numpy as np
import pytest
from scipy.optimize import minimize, nnls

from localma import LOSSES, Loss
from localma.theory import decompose, distance_to_optimal_set, in_sample_risk, oracle_prediction, oracle_risk

SCALAR = ["squared", "poisson", "gamma", "tweedie"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_risk_of_a_known_bias_is_its_square(rng):
    mu = rng.normal(size=(3, 50))
    bias = np.array([0.0, 1.0, -2.0])
    assert np.allclose(in_sample_risk("squared", mu, mu + bias[:, None]), bias**2, atol=1e-12)


def test_risk_of_probabilities_is_kullback_and_leiblers(rng):
    mu, a = rng.dirichlet(np.ones(4), (2, 3, 20))
    assert np.allclose(in_sample_risk("cross_entropy", mu, a), (mu * np.log(mu / a)).sum(-1).mean(-1))


@pytest.mark.parametrize("name", SCALAR)
def test_oracle_is_at_least_as_good_as_a_fine_grid_of_averages(name, rng):
    """A fact about one response: whatever the loss, no average beats the clipped mean, and a grid comes close to it."""
    loss = LOSSES[name]
    F, mu = rng.uniform(1, 3, (200, 3)), rng.uniform(0.5, 4, 200)
    best = loss.divergence(mu, oracle_prediction(loss, F, mu))
    grid = F.min(1) + np.linspace(0, 1, 2001)[:, None] * np.ptp(F, 1)
    values = loss.divergence(np.broadcast_to(mu, grid.shape), grid).min(0)
    assert (best <= values + 1e-12).all()
    assert np.allclose(best, values, atol=1e-5)


def test_oracle_of_probabilities_meets_scipy(rng):
    n, M, K = 25, 3, 4
    F, mu = rng.dirichlet(np.ones(K), (n, M)), rng.dirichlet(np.ones(K), n)
    ours = LOSSES["cross_entropy"].divergence(mu, oracle_prediction("cross_entropy", F, mu))
    for i in range(n):
        there = minimize(
            lambda w, i=i: (mu[i] * np.log(mu[i] / (w @ F[i]))).sum(),
            np.full(M, 1 / M),
            method="SLSQP",
            bounds=[(0, 1)] * M,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert abs(ours[i] - there.fun) < 1e-8


def test_oracle_of_probabilities_satisfies_its_optimality_conditions(rng):
    """sum_k mu_k f_mk / a_k is at most one for each model: no model can still improve the average; in a stack, zeros
    included.
    """
    F, mu = rng.dirichlet(np.ones(5), (2, 300, 4)), rng.dirichlet(np.ones(5), (2, 300))
    mu[:, :50, 0] = 0
    mu /= mu.sum(-1, keepdims=True)
    a = oracle_prediction("cross_entropy", F, mu)
    assert np.allclose(a.sum(-1), 1)
    assert ((mu / a)[..., None, :] * F).sum(-1).max() < 1 + 1e-8


def test_oracle_within_the_hull_has_no_risk(rng):
    F, w = rng.dirichlet(np.ones(3), (100, 3)), rng.dirichlet(np.ones(3), 100)
    assert oracle_risk("cross_entropy", F, (w[:, :, None] * F).sum(1)) < 1e-8
    scalar = rng.normal(size=(100, 3))
    assert oracle_risk("squared", scalar, (w * scalar).sum(1)) == 0


def test_a_loss_that_need_not_separate_is_refused():
    absolute = Loss("absolute", lambda y, a: (y - a).abs())
    for call in (lambda: oracle_risk(absolute, [[0.0, 1.0]], [0.5]), lambda: in_sample_risk(absolute, [0.5], [0.5])):
        with pytest.raises(ValueError, match=r"absolute.*phi"):
            call()


@pytest.mark.parametrize("name", SCALAR)
def test_decomposition_is_an_identity(name, rng):
    mu, a, b, c = rng.uniform(0.5, 4, (4, 6, 80))
    y = rng.gamma(3, mu / 3)
    terms = decompose(name, y, mu, a, b, c)
    assert terms.excess.shape == (6,)
    assert np.allclose(terms.excess, terms.approximation + terms.training + terms.stochastic, rtol=0, atol=1e-10)


def test_decomposition_of_probabilities_is_an_identity(rng):
    mu, a, b, c = rng.dirichlet(np.ones(3) * 4, (4, 6, 80))
    y = (rng.uniform(size=(6, 80, 1)) > mu.cumsum(-1)).sum(-1)
    terms = decompose("cross_entropy", y, mu, a, b, c)
    assert np.allclose(terms.excess, terms.approximation + terms.training + terms.stochastic, rtol=0, atol=1e-10)


def test_stochastic_term_of_squared_loss_is_the_cross_term(rng):
    mu, y, a, b = rng.normal(size=(4, 90))
    assert np.isclose(decompose("squared", y, mu, a, b, mu).stochastic, 2 * np.mean((y - mu) * (a - b)))


def test_stochastic_term_of_least_squares_has_the_mean_of_theory(rng):
    """Projection on p columns, against the noise-free fit: mean 2 p / n, the covariance penalty; 2000 draws, a z of 4
    (one in 16,000).
    """
    n, p, R = 50, 4, 2000
    A = np.linalg.qr(rng.normal(size=(n, p)))[0]
    mu = rng.normal(size=n)
    y = mu + rng.normal(size=(R, n))
    terms = decompose(
        "squared", y, np.broadcast_to(mu, y.shape), y @ A @ A.T, np.broadcast_to(mu @ A @ A.T, y.shape), mu
    )
    assert abs(terms.stochastic.mean() - 2 * p / n) < 4 * terms.stochastic.std() / R**0.5
    assert (terms.training <= 1e-12).all(), "least squares minimises"


def test_distance_to_a_point_is_the_norm():
    w, F = np.array([[0.2, 0.8], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    assert np.allclose(distance_to_optimal_set(w, F, [0.4, 7.0]), [0.4 * 2**0.5, 0.5 * 2**0.5])


def test_distance_is_zero_for_identical_models_and_within_the_set(rng):
    w = rng.dirichlet(np.ones(3), (4, 50))
    F = rng.normal(size=(4, 50, 3))
    assert distance_to_optimal_set(w, np.ones_like(F), np.zeros((4, 50))).max() < 1e-12
    assert distance_to_optimal_set(w, F, (w * F).sum(-1)).max() < 1e-12


@pytest.mark.parametrize("M", [3, 4])
def test_distance_meets_scipy(M, rng):
    n = 40
    w, F, mu = rng.dirichlet(np.ones(M), n), rng.normal(size=(n, M)), 1.2 * rng.normal(size=n)
    F[:5, 1] = F[:5, 0]  # two of the models agree
    ours, goal = distance_to_optimal_set(w, F, mu), np.clip(mu, F.min(1), F.max(1))
    for i in range(n):
        A = np.vstack([np.eye(M), 1e5 * np.ones(M), 1e5 * F[i]])  # the two equations enter with a large factor
        there = nnls(A, np.r_[w[i], 1e5, 1e5 * goal[i]])[0]
        assert abs(ours[i] - np.linalg.norm(there - w[i])) < 1e-5


def test_too_many_models_are_refused_by_number():
    with pytest.raises(ValueError, match="13 models"):
        distance_to_optimal_set(np.full((1, 13), 1 / 13), np.zeros((1, 13)), [0.0])
