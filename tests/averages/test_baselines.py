"""Global weights against scipy's constrained optimum and their optimality conditions."""

import numpy as np
import pytest
import torch
from scipy import optimize

from localma import LOSSES, BestModel, EqualWeights, GlobalMA, Loss, tweedie
from localma.engine import global_weights, simplex_qp

KINDS = [
    "plain",
    "fewer rows than models",
    "identical",
    "collinear",
    "nearly identical",
    "one far off",
    "no curvature",
    "linear part only",
]


def problem(kind, rng):
    M = int(rng.integers(2, 8))
    n = max(1, M - 2) if kind == "fewer rows than models" else 40
    F, y = rng.normal(size=(n, M)), rng.normal(size=n)
    y = y + F[:, 0]
    if kind == "identical":
        F[:, 1:] = F[:, :1]
    elif kind == "collinear":
        F[:, -1] = 0.5 * F[:, 0] + 0.5 * F[:, 1 % (M - 1)]
    elif kind == "nearly identical":
        F = F[:, :1] + 1e-7 * F
    elif kind == "one far off":
        F[:, -1] += 1e4
    G, c = F.T @ F / n, F.T @ y / n
    if kind in ("no curvature", "linear part only"):
        G = G * (0 if kind == "linear part only" else 1e-9)
    return G, c


def objective(G, c, w):
    return 0.5 * w @ G @ w - c @ w


def by_slsqp(value, gradient, M):
    """The best of scipy's constrained optima from the centre and from each corner."""
    best = None
    for start in [np.full(M, 1 / M), *(0.9 * np.eye(M) + 0.1 / M)]:
        found = optimize.minimize(
            value, start, jac=gradient, method="SLSQP", bounds=[(0, 1)] * M,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}, options={"ftol": 1e-15, "maxiter": 500},
        )  # fmt: skip
        w = np.maximum(found.x, 0) / np.maximum(found.x, 0).sum()
        best = w if best is None or value(w) < value(best) else best
    return best


def assert_optimal(gradient, w, tolerance):
    """The conditions of optimality: on the simplex, and no model has a smaller partial derivative than the average over
    w.
    """
    assert (w >= 0).all()
    assert w.sum() == pytest.approx(1, abs=1e-14)
    assert gradient @ w - gradient.min() <= tolerance


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("kind", KINDS)
def test_quadratic_programme_is_exact(kind, scale):
    rng = np.random.default_rng(0)
    for _ in range(12):
        G, c = problem(kind, rng)
        G, c = scale**2 * G, scale**2 * c
        size = np.abs(G).max() + np.ptp(c)
        w = simplex_qp(G, c)
        assert_optimal(G @ w - c, w, 1e-12 * size)
        reference = by_slsqp(
            lambda w, G=G, c=c, s=size: objective(G, c, w) / s, lambda w, G=G, c=c, s=size: (G @ w - c) / s, len(c)
        )
        assert objective(G, c, w) <= objective(G, c, reference) + 1e-12 * size


def test_agrees_with_nnls():
    """Non-negative least squares with a heavy row for the sum: another algorithm for the same problem."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        F, y = rng.normal(size=(30, 5)), rng.normal(size=30)
        heavy = 1e6
        reference, _ = optimize.nnls(np.vstack([F, np.full(5, heavy)]), np.append(y, heavy))
        np.testing.assert_allclose(global_weights(F, y, LOSSES["squared"]), reference, atol=1e-7)


@pytest.mark.parametrize("M", [20, 100])
def test_many_models(M):
    rng = np.random.default_rng(3)
    F, y = rng.normal(size=(60, M)), rng.normal(size=60)
    w = global_weights(F, y, LOSSES["squared"])
    assert_optimal(2 * F.T @ (F @ w - y) / 60, w, 1e-11)


def test_batches_equal_single_problems():
    rng = np.random.default_rng(4)
    F, y = rng.normal(size=(2, 30, 25, 4)), rng.normal(size=(2, 30, 25))
    F[0, ::3, :, 1] = F[0, ::3, :, 0]  # degenerate ones among them
    F[1, ::4, :, 2] = 0.5 * F[1, ::4, :, 0] + 0.5 * F[1, ::4, :, 1]
    w = global_weights(F, y, LOSSES["squared"])
    assert w.shape == (2, 30, 4)
    for i in range(2):
        for j in range(30):
            alone = global_weights(F[i, j], y[i, j], LOSSES["squared"])
            np.testing.assert_allclose(F[i, j] @ w[i, j], F[i, j] @ alone, atol=1e-10)


def sample(loss, n, M, rng, unit=1.0):
    if loss.is_classification:
        F = rng.dirichlet(np.ones(3), (n, M))
        y = np.array([rng.choice(3, p=0.6 * f[0] + 0.4 * f[1 % M]) for f in F]).astype(float)
        return F, y
    F = rng.normal(size=(n, M))
    if loss.prediction == "positive":
        F = np.exp(0.7 * F) * unit
        mu = 0.6 * F[:, 0] + 0.4 * F[:, 1 % M]
        y = rng.gamma(2, mu / 2)
        return F, np.round(y) if loss.name == "poisson" else y
    return F * unit, unit * (0.6 * F[:, 0] + 0.4 * F[:, 1 % M] + rng.normal(size=n))


@pytest.mark.parametrize("unit", [1.0, 1e4])
@pytest.mark.parametrize("loss", [*LOSSES.values(), tweedie(1.2), tweedie(3.0)], ids=lambda loss: loss.name)
def test_weights_for_every_loss_are_within_1e_8_of_the_optimum(loss, unit):
    rng = np.random.default_rng(5)
    for trial in range(6):
        M = (2, 3, 5)[trial % 3]
        F, y = sample(loss, 50, M, rng, unit)
        if trial == 5:
            F[:, 2] = F[:, 0]  # identical models

        def value(w, F=F, y=y):
            return loss(y, np.einsum("m,nm...->n...", w, F)).mean()

        G = loss.candidates(torch.tensor(y), torch.tensor(F).movedim(0, -1))
        size = loss.scale(G, torch.tensor(y)).item()
        linear = loss.linear(G).numpy()

        def gradient(w, linear=linear, y=y):
            return (linear * loss.derivatives(torch.tensor(y), torch.tensor(w @ linear))[0].numpy()).mean(1)

        w = global_weights(F, y, loss)
        if loss.slopes is None:  # at a kink, where an optimum may lie, there is no gradient
            assert_optimal(gradient(w), w, 1e-8 * size)
        reference = by_slsqp(lambda w, f=value, s=size: f(w) / s, lambda w, g=gradient, s=size: g(w) / s, M)
        assert value(w) <= value(reference) + 1e-8 * size


def test_nearly_identical_models_do_not_stall_the_search():
    """Two models that differ by 1e-4 around 1000: all of the curvature is in their difference."""
    rng = np.random.default_rng(6)
    mu = 1000 + rng.normal(size=200)
    F = np.stack([mu + 1e-4 * rng.normal(size=200), mu + 1e-4 * rng.normal(size=200)], 1)
    y = rng.poisson(F @ [0.5, 0.5]).astype(float)
    w = global_weights(F, y, LOSSES["poisson"])
    values = [LOSSES["poisson"](y, F @ [s, 1 - s]).mean() for s in np.linspace(0, 1, 101)]
    assert LOSSES["poisson"](y, F @ w).mean() <= min(values) + 1e-12


@pytest.mark.parametrize("loss", [*LOSSES.values()], ids=lambda loss: loss.name)
def test_training_loss_is_at_most_that_of_the_best_model_and_of_equal_weights(loss):
    rng = np.random.default_rng(7)
    for n in (5, 50):
        F, y = sample(loss, n, 4, rng)
        labels = y.astype(int) if loss.is_classification else y
        w = global_weights(F, y, loss)
        mean = loss(y, np.einsum("m,nm...->n...", w, F)).mean()
        assert mean <= min(loss(y, F[:, m]).mean() for m in range(4)) + 1e-12
        assert mean <= loss(y, F.mean(1)).mean() + 1e-12
        best = BestModel(loss=loss).fit(np.zeros((n, 1)), labels, F=F) if len(np.unique(y)) > 1 else None
        if best is not None:
            np.testing.assert_allclose(best.losses_, [loss(y, F[:, m]).mean() for m in range(4)])
            assert best.weights_.argmax() == best.losses_.argmin()


def test_a_perfect_model_gets_all_weight():
    rng = np.random.default_rng(8)
    F = rng.normal(size=(30, 3))
    np.testing.assert_allclose(global_weights(F, F[:, 1], LOSSES["squared"]), [0, 1, 0], atol=1e-12)
    F = np.exp(F)
    np.testing.assert_allclose(global_weights(F, F[:, 1], LOSSES["gamma"]), [0, 1, 0], atol=1e-4)


def test_weights_sum_to_one_exactly_enough_even_when_nothing_moves():
    F = np.full((10, 3), 2.0)  # identical: the search stops where it starts, at 1/3 each
    w = global_weights(F, np.arange(1.0, 11), LOSSES["poisson"])
    assert w.dtype == np.float64
    assert w.sum() == pytest.approx(1, abs=1e-15)


def test_a_loss_that_is_only_called_squared_is_not_taken_for_it():
    def squared(y, a):
        return (y - a).abs() ** 1.5

    F, y = np.array([[0.0, 1.0]] * 10), np.array([0.0] * 7 + [1.0] * 3)
    w = GlobalMA(loss=squared).fit(np.zeros((10, 1)), y, F=F).weights_
    # 0.7 a^0.5 = 0.3 (1 - a)^0.5 at the optimum
    assert w[1] == pytest.approx(0.09 / 0.58, abs=1e-4)


def test_equal_weights_and_best_model():
    F, y = np.array([[1.0, 4.0], [2.0, 4.0]]), np.array([1.0, 3.0])
    X = np.zeros((2, 1))
    np.testing.assert_array_equal(EqualWeights().fit(X, y, F=F).predict(X, F=F), [2.5, 3])
    best = BestModel().fit(X, y, F=F)
    assert best.best_ == "f1"
    np.testing.assert_array_equal(best.losses_, [0.5, 5])
    np.testing.assert_array_equal(best.weights(X), [[1, 0], [1, 0]])


def test_a_loss_that_is_not_finite_is_refused_rather_than_averaged():
    logarithm = Loss("log", lambda y, a: (a.log() - y).square())
    with pytest.raises(ValueError, match="log loss is not finite for averages of F"):
        GlobalMA(loss=logarithm).fit(np.zeros((3, 1)), [0.2, 0.5, 0.3], F=-np.ones((3, 2)))


def test_read_only_predictions_pass_without_a_warning():
    F = np.broadcast_to(np.array([[1.0, 3.0]]), (4, 2))
    np.testing.assert_allclose(global_weights(F, np.full(4, 2.5), LOSSES["squared"]), [0.25, 0.75])


@pytest.mark.parametrize("name", ["poisson", "gamma", "cross_entropy"])
def test_the_best_of_several_starts_does_not_hang_on_the_last_digits(name):
    """Predictions that differ by 1e-9 give the same global weights, in each of 100 draws."""
    rng = np.random.default_rng(3)
    F = rng.uniform(1, 9, (100, 80, 3))
    mu = F @ np.array([0.6, 0.4, 0.0])
    if name == "cross_entropy":
        F = np.stack([F / 10, 1 - F / 10], -1)
        y = (rng.uniform(size=mu.shape) < 1 - mu / 10).astype(float)
    else:
        y = rng.poisson(mu) if name == "poisson" else rng.gamma(4.0, mu / 4)
    nudged = F * (1 + 1e-9 * rng.standard_normal(F.shape))
    if name == "cross_entropy":
        nudged = nudged / nudged.sum(-1, keepdims=True)
    before, after = (global_weights(f, y, LOSSES[name]) for f in (F, nudged))
    assert np.abs(after - before).max() < 1e-4
