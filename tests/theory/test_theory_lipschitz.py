"""Lipschitz constants against autograd on a fine grid, against difference quotients, and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from localma import LOSSES, Loss, tweedie
from localma.losses import PROBABILITY_FLOOR
from localma.theory import lipschitz_constant

SCALAR = {"squared": LOSSES["squared"], "poisson": LOSSES["poisson"], "gamma": LOSSES["gamma"]} | {
    f"tweedie({p})": tweedie(p) for p in (1.1, 1.5, 3.0)
}
RANGES = [((0.1, 5.0), (0.1, 5.0)), ((0.5, 20.0), (0.3, 1.0)), ((1.0, 2.0), (4.0, 4.0)), ((2.0, 9.0), (1.5, 1.5))]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("predictions", "responses"), RANGES)
@pytest.mark.parametrize("name", SCALAR)
def test_closed_form_is_the_largest_derivative_by_autograd(name, predictions, responses):
    """Never exceeded on a grid of 20,001 predictions, and reached by it up to its resolution."""
    K = lipschitz_constant(name if name in LOSSES else SCALAR[name], *predictions, y=responses)
    a = torch.linspace(*predictions, 20_001, dtype=torch.float64)
    slopes = [SCALAR[name].derivatives(torch.full_like(a, y), a)[0].abs().max() for y in np.linspace(*responses, 11)]
    assert np.isclose(max(slopes), K, rtol=1e-5)
    assert max(slopes) <= K * (1 + 1e-12)


@pytest.mark.parametrize(("predictions", "responses"), RANGES)
@pytest.mark.parametrize("name", SCALAR)
def test_no_difference_quotient_of_loss_or_divergence_exceeds_it(name, predictions, responses, rng):
    loss = SCALAR[name]
    K = lipschitz_constant(loss, *predictions, y=responses)
    y, (a, b) = rng.uniform(*responses, 5000), rng.uniform(*predictions, (2, 5000))
    for values in (loss(y, a) - loss(y, b), loss.divergence(y, a) - loss.divergence(y, b)):
        assert (np.abs(values) <= K * np.abs(a - b) + 1e-9).all()


def test_the_largest_slope_of_gamma_may_lie_between_the_ends():
    """2 (a - y) / a^2 is largest at a = 2 y, where it is 1 / (2 y); the ends (1.1 and 20, y = 1) are flatter."""
    assert np.isclose(lipschitz_constant("gamma", 1.1, 20, y=(1, 1)), 0.5)
    assert max(2 * (a - 1) / a**2 for a in (1.1, 20)) < 0.2


def test_known_constants():
    B = 2.5
    assert lipschitz_constant("squared", -B, B) == 4 * B
    assert lipschitz_constant("poisson", 0.1, 3, y=(0, 5)) == pytest.approx(2 * (5 / 0.1 - 1))
    assert lipschitz_constant("cross_entropy", PROBABILITY_FLOOR, 1) == 1 / PROBABILITY_FLOOR
    assert lipschitz_constant("squared", -B, B, y=(-np.inf, np.inf)) == np.inf
    assert lipschitz_constant("poisson", 1, 2, y=(0, np.inf)) == np.inf


@pytest.mark.parametrize("K", [2, 5])
def test_cross_entropy_in_three_norms(K, rng):
    """With a floor under probabilities: at most 1/floor in the maximum norm and 1/(2 floor) in the sum of absolute
    differences; both are reached.
    """
    floor = 0.02
    a, b = floor + (1 - K * floor) * rng.dirichlet(np.full(K, 0.3), (2, 20_000))
    y = rng.integers(K, size=20_000)
    bound = lipschitz_constant("cross_entropy", floor, 1)
    assert bound == 1 / floor
    moved = np.abs(LOSSES["cross_entropy"](y, a) - LOSSES["cross_entropy"](y, b))
    assert (moved <= bound * np.abs(a - b).max(1) + 1e-9).all()
    assert (moved <= bound / 2 * np.abs(a - b).sum(1) + 1e-9).all()
    edge, h = np.full(K, floor), 1e-7
    edge[1] = 1 - (K - 1) * floor
    near = edge + h * np.eye(K)[0] - h * np.eye(K)[1]
    change = abs(float(np.diff(LOSSES["cross_entropy"]([0, 0], np.stack([edge, near])))[0]))
    assert change / h == pytest.approx(bound, rel=1e-4)
    assert change / (2 * h) == pytest.approx(bound / 2, rel=1e-4)
    mu = rng.dirichlet(np.ones(K), 20_000)
    moved = np.abs(LOSSES["cross_entropy"].divergence(mu, a) - LOSSES["cross_entropy"].divergence(mu, b))
    assert (moved <= bound * np.abs(a - b).max(1) + 1e-9).all()


def test_other_losses_are_looked_at_on_a_grid():
    huber = Loss("huber", lambda y, a: torch.nn.functional.huber_loss(a, y, reduction="none", delta=1.5))
    assert np.isclose(lipschitz_constant(huber, -4, 4), 1.5)
    assert lipschitz_constant(lambda y, a: (y - a).abs(), -1, 1) == 1
    disguised = replace(LOSSES["gamma"], power=None)
    assert np.isclose(lipschitz_constant(disguised, 0.5, 4), lipschitz_constant("gamma", 0.5, 4), rtol=1e-9)


def test_a_loss_is_known_by_what_it_computes_not_by_its_name():
    assert np.isclose(lipschitz_constant(Loss("squared", lambda y, a: (y - a) ** 4), -1, 1), 32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lipschitz_constant("squared", 1, 1), "lower < upper"),
        (lambda: lipschitz_constant("squared", 0, np.inf), "must be finite"),
        (lambda: lipschitz_constant("squared", np.nan, 1), "must be finite"),
        (lambda: lipschitz_constant("squared", 0, 1, y=(2, 1)), "y must be an interval"),
        (lambda: lipschitz_constant("poisson", 0, 1), "lower must be positive.*infinitely steep at zero"),
        (lambda: lipschitz_constant("poisson", 1, 2, y=(-1, 2)), "y must be non-negative"),
        (lambda: lipschitz_constant("gamma", 1, 2, y=(0, 2)), "y must be positive"),
        (lambda: lipschitz_constant("cross_entropy", 0, 1), "probabilities with lower > 0.*floor"),
        (lambda: lipschitz_constant("cross_entropy", 0.1, 1, y=(0, 1)), "y is not for the cross_entropy loss"),
        (lambda: lipschitz_constant(lambda y, a: (y - a).abs(), -1, 1, y=(-np.inf, 0)), "y must be finite.*grid"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
