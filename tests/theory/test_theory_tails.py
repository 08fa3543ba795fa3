"""Tail indices and Orlicz norms against closed forms, on repeated draws; each z of 4 fails by chance once in 16,000."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from localma.replication.theory.walks import tails as walk
from localma.theory import orlicz_norm, tail_index, weibull_plot


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def estimates(draw, **settings):
    return np.array([tail_index(draw(), bootstrap=0, **settings).estimate for _ in range(300)])


def test_hazards_are_the_means_of_ordered_exponentials(rng):
    """For standard exponential variables t is H itself: 5000 samples of 7, a z of 4 for each of the 7 (one failure in
    2300).
    """
    plots = np.array([weibull_plot(z) for z in rng.exponential(size=(5000, 7))])
    t, H = plots[:, 0], plots[0, 1]
    assert (np.abs(t.mean(0) - H) < 4 * t.std(0) / 5000**0.5).all()
    assert (np.diff(H) < 0).all()
    assert np.isclose(H[0], 1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6 + 1 / 7)


@pytest.mark.parametrize("theta", [0.5, 1, 2, 4])
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_index_of_a_weibull_tail_is_its_shape(theta, fraction, rng):
    """Unbiased up to 2 %, the share of the logarithm's curvature at the few largest values."""
    found = estimates(lambda: 7 * rng.weibull(theta, 2000), fraction=fraction)
    assert abs(found.mean() / theta - 1) < 0.02 + 4 * found.std() / theta / 300**0.5


def test_index_forgets_sign_and_unit(rng):
    z = rng.laplace(size=500)
    assert np.allclose(tail_index(z), tail_index(-1000 * np.abs(z)))


def test_index_of_other_tails_moves_with_the_fraction_as_theory_says(rng):
    """Gaussian: below 2 and rising as the tail shrinks. Bounded: rising without end. Power tail: falling. Medians of
    300 draws.
    """
    draws = {"normal": rng.standard_normal, "uniform": rng.uniform, "t": lambda size: rng.standard_t(3, size)}
    medians = {
        name: [np.median(estimates(lambda draw=draw: draw(size=5000), fraction=f)) for f in (0.5, 0.1, 0.02)]
        for name, draw in draws.items()
    }
    low, middle, high = medians["normal"]
    assert low < middle < high < 2
    low, middle, high = medians["uniform"]
    assert 2 * low < middle
    assert 2 * middle < high
    low, middle, high = medians["t"]
    assert low > middle > high


def test_index_meets_the_slope_of_the_true_quantiles(rng):
    """What a Gaussian sample's index estimates: the slope through the normal quantiles at the plot's hazards, not 2."""
    n, k = 5000, 500
    H = weibull_plot(np.ones(n), fraction=k / n)[1]
    slope = np.polyfit(np.log(H), np.log(stats.halfnorm.isf(np.exp(-H))), 1)[0]
    found = estimates(lambda: rng.normal(size=n))
    assert 1.4 < 1 / slope < 1.8
    assert abs(found.mean() * slope - 1) < 0.02 + 4 * found.std() * slope / 300**0.5


def test_interval_of_the_index_covers_as_often_as_it_says(rng):
    """400 samples: at least 90 % of intervals of 95 %; for true coverage 94 % that fails once in 1000."""
    covered = [low < 1 < high for _, low, high in (tail_index(rng.exponential(size=2000)) for _ in range(400))]
    assert np.mean(covered) > 0.90


def test_bootstrap_draws_order_statistics_like_resampling_does(rng):
    """The short cut against the long way, 4000 resamples of one sample: spreads agree within 10 % (their own error is
    1.6 %).
    """
    z, B = rng.exponential(size=200), 4000
    long = [tail_index(rng.choice(z, 200), fraction=0.2, bootstrap=0).estimate for _ in range(B)]
    ours = tail_index(z, fraction=0.2, bootstrap=B)
    assert abs((ours.high - ours.low) / np.subtract(*np.quantile(long, [0.975, 0.025])) - 1) < 0.1


def test_equal_values_have_an_infinite_index():
    assert tail_index(np.tile([1.0, -1.0], 100)).estimate == np.inf


@pytest.mark.parametrize("theta", [0.5, 1, 2, 3])
def test_norm_is_the_root_of_its_equation(theta, rng):
    z = rng.normal(size=300)
    K = orlicz_norm(z, theta, bootstrap=0).estimate
    assert np.isclose(
        K, brentq(lambda K: np.exp((np.abs(z) / K) ** theta).mean() - 2, 0.5 * K, 2 * K, xtol=1e-13), rtol=1e-9
    )


def test_norm_of_simple_samples():
    assert np.isclose(orlicz_norm([1.0, -1.0], 2, bootstrap=0).estimate, np.log(2) ** -0.5)
    assert np.isclose(
        orlicz_norm([0.0, 0.0, 0.0, 1.0], 1, bootstrap=0).estimate, 1 / np.log(5)
    )  # three ones and e^(1/K) have a mean of two
    assert orlicz_norm([0.0, 0.0], 1) == (0, 0, 0)


def test_norm_scales_and_does_not_overflow(rng):
    z = rng.standard_t(1, 500)
    small, large = (orlicz_norm(c * z, 2) for c in (1e-150, 1e150))
    assert np.allclose(np.array(large) / 1e150, np.array(small) * 1e150, rtol=1e-9)
    assert small.estimate > 0


@pytest.mark.parametrize(
    ("draw", "theta", "norm"),
    [
        (lambda rng, n: rng.normal(0, 3, n), 2, 3 * (8 / 3) ** 0.5),
        (lambda rng, n: rng.exponential(size=n), 1, 2.0),
        (lambda rng, n: rng.laplace(size=n), 1, 2.0),
        (lambda rng, n: rng.weibull(0.5, n), 0.5, 4.0),
        (lambda rng, n: rng.uniform(-1, 1, n), 1, brentq(lambda K: K * np.expm1(1 / K) - 2, 0.5, 2)),
    ],
    ids=["normal", "exponential", "laplace", "weibull", "uniform"],
)
def test_norm_comes_near_its_closed_form_and_nearer_with_n(draw, theta, norm, rng):
    """200 samples of 100, 1000 and 10,000: the median error falls, and the last is below 4 %."""
    errors = [
        np.median([abs(orlicz_norm(draw(rng, n), theta, bootstrap=0).estimate / norm - 1) for _ in range(200)])
        for n in (100, 1000, 10_000)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.04


def test_norm_of_a_power_tail_diverges(rng):
    """Cauchy: growing by more than 5 for ten times the sample (about 10 / log 10), in the median of 200."""
    norms = [
        np.median([orlicz_norm(rng.standard_cauchy(n), 1, bootstrap=0).estimate for _ in range(200)])
        for n in (100, 1000, 10_000)
    ]
    assert norms[1] > 5 * norms[0]
    assert norms[2] > 5 * norms[1]


def test_interval_of_a_bounded_variables_norm_covers(rng):
    """200 samples: at least 89 % of intervals of 95 %; for true coverage 94.5 % that fails once in 500."""
    norm = brentq(lambda K: K * np.expm1(1 / K) - 2, 0.5, 2)
    covered = [
        low < norm < high for _, low, high in (orlicz_norm(rng.uniform(size=500), 1, bootstrap=100) for _ in range(200))
    ]
    assert np.mean(covered) > 0.89


def test_results_depend_on_the_seed_alone(rng):
    z = rng.normal(size=200)
    for call in (lambda seed: tail_index(z, random_state=seed), lambda seed: orlicz_norm(z, 2, random_state=seed)):
        assert call(1) == call(1) != call(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tail_index(np.ones((2, 3))), r"z must have shape \(n,\)"),
        (lambda: tail_index([1.0, np.nan]), r"z\[1\] = nan"),
        (lambda: tail_index(np.ones(50)), "leaves 5 for the tail; 10 are needed"),
        (lambda: tail_index(np.r_[1, np.zeros(199)]), "z has fewer than 20 values that are not zero"),
        (lambda: tail_index(np.ones(100), fraction=0), "fraction must"),
        (lambda: tail_index(np.ones(200), bootstrap=-1), "bootstrap must"),
        (lambda: orlicz_norm([1.0], 0), "theta must be a positive number"),
        (lambda: orlicz_norm([1.0], np.inf), "largest absolute value"),
        (lambda: orlicz_norm([], 1), "n at least 1"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", walk.UPPER)
def test_walk_draws_the_largest_as_if_all_had_been_drawn(name, rng):
    """Two ways to the largest of 50, 4000 times each: Kolmogorov and Smirnov's p-value is above 1e-4, in all but one of
    10,000 seeds.
    """
    direct = np.abs(walk.NOISES[name]((4000, 50), rng)).max(1)
    assert stats.ks_2samp(walk.measure(f"max {name}", 50, 4000, rng)["largest"], direct).pvalue > 1e-4


def test_walk_noises_have_variance_one_or_the_gaussians_quartiles(rng):
    for name, draw in walk.NOISES.items():
        z = draw(200_000, rng)
        if name in ("t3", "t1.5"):  # no fourth moment: compare quartiles with scipy's
            law = stats.t(float(name[1:]))
            scale = 3**-0.5 if name == "t3" else stats.norm.ppf(0.75) / law.ppf(0.75)
            assert np.isclose(np.median(np.abs(z)), scale * law.ppf(0.75), rtol=0.02)
        else:
            assert np.isclose(z.var(), 1, rtol=0.08)
