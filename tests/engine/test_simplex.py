"""What a solver finds out of a loss that does not say it: no more work than for one that does, and never other
weights.
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import linprog

from localma import LOSSES, GlobalMA, Loss, pinball
from localma.engine import global_weights, simplex, simplex_lp
from localma.engine.rows import Blocks
from localma.losses import resolve_loss


def own_squared(y, a):
    return (y - a) ** 2


def own_poisson(y, a):
    return 2 * (torch.xlogy(y, y) - torch.xlogy(y, a) - y + a)


def own_absolute(y, a):
    return (y - a).abs()


def sample(n=300, M=3, seed=0):
    rng = np.random.default_rng(seed)
    F = np.exp(0.5 * rng.normal(size=(n, M)))
    return F, rng.poisson(F[:, :2] @ [0.6, 0.4]).astype(float)


def work(loss, F, y, monkeypatch):
    """Starts of Newton's method, and observations at which the loss is differentiated, in one fit."""
    counts = {"starts": 0, "observations": 0}
    newton, derivatives, slope = simplex._newton, Loss.derivatives, Loss.slope

    def counted(key, function, size):
        def call(*args):
            counts[key] += size(args)
            return function(*args)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(simplex, "_newton", counted("starts", newton, lambda args: 1))
        patch.setattr(Loss, "derivatives", counted("observations", derivatives, lambda args: args[2].numel()))
        patch.setattr(Loss, "slope", counted("observations", slope, lambda args: args[2].numel() / 2))
        GlobalMA(loss=loss).fit(np.zeros((len(y), 1)), y, F=F)
    return counts["starts"], counts["observations"] / len(y)


def test_a_loss_of_ones_own_costs_little_more_than_the_one_that_declares_itself(monkeypatch):
    F, y = sample(3000, 5)
    assert work("squared", F, y, monkeypatch) == (0, 1)
    starts, looks = work(own_squared, F, y, monkeypatch)
    assert starts == 0
    assert looks < 2
    starts, looks = work("poisson", F, y, monkeypatch)
    own_starts, own_looks = work(own_poisson, F, y, monkeypatch)
    assert starts == own_starts == 1
    assert looks <= own_looks <= looks + 7  # once to see that it is no parabola, five times to see that it is convex
    assert work(replace(resolve_loss(own_poisson), convex=False), F, y, monkeypatch)[0] == 6
    assert work(replace(resolve_loss(own_squared), quadratic=False), F, y, monkeypatch)[0] == 1


@pytest.mark.parametrize("n", [20, 3000])
def test_what_is_found_gives_the_weights_of_what_is_declared(n):
    for seed in range(5):
        F, y = sample(n, 4, seed)
        for own, name, atol in ((own_squared, "squared", 1e-12), (own_poisson, "poisson", 0)):
            np.testing.assert_allclose(
                global_weights(F, y, resolve_loss(own)), global_weights(F, y, LOSSES[name]), atol=atol
            )


def test_a_weighted_square_is_one_quadratic_programme(monkeypatch):
    def weighted(y, a):
        return (1 + y) * (y - 1.5 * a) ** 2

    F, y = sample()
    root = np.sqrt(1 + y)
    expected = global_weights(1.5 * root[:, None] * F, root * y, LOSSES["squared"])
    np.testing.assert_allclose(global_weights(F, y, resolve_loss(weighted)), expected, atol=1e-12)
    np.testing.assert_allclose(global_weights(F, y, Loss("weighted", weighted, quadratic=True)), expected, atol=1e-12)
    assert work(weighted, F, y, monkeypatch)[0] == 0


def test_a_parabola_with_exceptions_is_not_taken_for_one():
    """Huber's loss is a parabola wherever the first look falls; ten gross errors lie between."""

    def huber(y, a):
        return torch.nn.functional.huber_loss(a, y, reduction="none", delta=20.0)

    F, y = sample(3000)
    y[1:11] = F[1:11].mean(1) + 20.01
    loss = resolve_loss(huber)
    w = global_weights(F, y, loss)
    np.testing.assert_allclose(w, global_weights(F, y, replace(loss, quadratic=False)), atol=1e-12)
    rows = Blocks(torch.tensor(F.T[None].copy()), torch.tensor(y[None]), torch.ones(1, 3000), loss)
    assert not simplex._parabola(rows, loss, 1e-10)[1].any()
    believed, done = simplex._parabola(rows, loss, np.inf)  # without the last word of the gap: other weights
    assert done.all()
    assert np.abs(believed[0].numpy() - w).max() > 1e-4


def test_a_loss_that_bends_down_is_started_from_every_vertex(monkeypatch):
    """Two valleys: equal weights lie on the slope to the shallow one."""
    tilted = Loss("tilted", lambda y, a: (a**2 - 1) ** 2 + 0.3 * (a - y))
    F, y = np.tile([-1.5, 2.0], (20, 1)), np.zeros(20)
    a = F[0] @ global_weights(F, y, tilted)
    grid = np.linspace(-1.5, 2, 3501)
    values = tilted(np.zeros_like(grid), grid)
    assert a == pytest.approx(grid[values.argmin()], abs=1e-3)
    assert work(tilted, F, y, monkeypatch)[0] == 3
    believed = F[0] @ global_weights(F, y, replace(tilted, convex=True))
    assert tilted([0.0], [believed])[0] > values.min() + 0.1


def test_a_wild_model_does_not_certify_the_first_start():
    """In the unit that a wild model stretches, the gap of the first start looks closed long before the weights are
    good.
    """
    quartic = Loss("quartic", lambda y, a: (y - a) ** 4)
    astray = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        F = rng.normal(size=(50, 3))
        y = F @ [0.6, 0.4, 0] + rng.normal(size=50)
        F[:, 2] *= 1e4
        value, best, first = (
            quartic(y, F @ global_weights(F, y, loss)).mean()
            for loss in (quartic, replace(quartic, convex=False), replace(quartic, convex=True))
        )
        assert value == pytest.approx(best, rel=1e-8)
        astray += first > 1.1 * best
    assert astray > 0


@pytest.mark.parametrize("noise", ["gamma", "exponential"])
def test_gamma_weights_close_the_gap(noise):
    """Where the loss bends down for some observations, the clamped curvature alone stalls at a gap of 1e-7."""
    loss = LOSSES["gamma"]
    for seed in [2, 66, 101, 256]:
        rng = np.random.default_rng(seed)
        F = np.exp(0.7 * rng.normal(size=(80, 3)))
        mu = F @ [0.5, 0.3, 0.2]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            w = global_weights(
                F, mu * (rng.exponential(size=80) if noise == "exponential" else rng.gamma(2, 0.5, 80)), loss
            )
        assert w.sum() == pytest.approx(1)


# --- linear programmes ------------------------------------------------------------


def primal(E, slopes):
    """The same programme as textbooks write it: weights, and the positive and negative parts of the errors."""
    n, M = E.shape
    A = sparse.vstack(
        [
            sparse.hstack([sparse.csr_array(E), sparse.eye_array(n), -sparse.eye_array(n)]),
            sparse.csr_array(np.r_[np.ones(M), np.zeros(2 * n)][None]),
        ]
    )
    cost = np.r_[np.zeros(M), np.full(n, slopes[0]), np.full(n, slopes[1])]
    return linprog(cost, A_eq=A, b_eq=np.r_[np.zeros(n), 1.0], method="highs").x[:M]


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_linear_programme_agrees_with_its_primal(unit):
    rng = np.random.default_rng(0)
    for slopes in [(1, 1), (0.9, 0.1), (0.2, 0.8), (4, 1)]:
        E = rng.normal(size=(101, 4)) + rng.normal(size=(101, 1)) + [0, 0.2, 0.4, 3]
        w = simplex_lp(unit * E, slopes)[0]
        assert (w >= 0).all()
        np.testing.assert_allclose(w, primal(E, slopes), atol=1e-9)
        others = rng.dirichlet(np.ones(4), 1000) @ E.T
        cost = np.maximum(-slopes[0] * others, slopes[1] * others).mean(1)
        assert np.maximum(-slopes[0] * (E @ w), slopes[1] * (E @ w)).mean() <= cost.min() + 1e-12


def test_kinked_losses_are_exact_and_silent_in_stacks_too():
    rng = np.random.default_rng(1)
    F = rng.normal(size=(3, 2, 60, 3))
    y = F @ [0.5, 0.5, 0] + rng.standard_t(2, (3, 2, 60))
    for loss in (LOSSES["absolute"], pinball(0.8)):
        w = global_weights(F, y, loss)  # a warning would be an error
        for i in range(3):
            np.testing.assert_array_equal(w[i, 1], global_weights(F[i, 1], y[i, 1], loss))
            np.testing.assert_allclose(w[i, 1], primal(F[i, 1] - y[i, 1][:, None], loss.slopes), atol=1e-9)
    np.testing.assert_allclose(global_weights(F, y, LOSSES["absolute"]), global_weights(F, y, pinball(0.5)), atol=1e-9)


def test_kinks_that_are_not_declared_are_told_of():
    F, y = sample(30)
    with pytest.warns(UserWarning, match="slopes="):
        GlobalMA(loss=own_absolute).fit(np.zeros((30, 1)), y, F=F)
    E = np.tile([np.nan, 1.0], (3, 1))
    with pytest.raises((FloatingPointError, ValueError)):
        simplex_lp(E, (1, 1))
