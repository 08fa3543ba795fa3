"""Which weights are optimal: the segment, the invisible direction and the bound of the distance; and what the two walks
compute.
"""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import linprog
from sklearn.tree import DecisionTreeRegressor

from localma.replication import simulation
from localma.replication.theory.walks import limits, weights
from localma.theory import (
    distance_bound,
    distance_to_optimal_set,
    invisible_direction,
    optimal_segment,
    oracle_prediction,
    weight_set,
)


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(3), (4, 300)), rng.normal(size=(4, 300, 3)), rng.normal(size=(4, 300))


def test_invisible_direction_changes_no_average(sample):
    _, F, _ = sample
    q = invisible_direction(F)
    assert np.allclose(q.sum(-1), 0)
    assert np.allclose((q * F).sum(-1), 0, atol=1e-12)
    assert (np.linalg.norm(q, axis=-1) > 0).all()


def test_segment_is_optimal_along_the_invisible_direction_and_ends_at_the_border(sample):
    _, F, mu = sample
    ends = optimal_segment(F, mu)
    assert ends.shape == (4, 300, 2, 3)
    assert np.allclose(ends.sum(-1), 1)
    assert ends.min() > -1e-12
    assert np.allclose((ends * F[:, :, None]).sum(-1), oracle_prediction("squared", F, mu)[..., None])
    assert (ends.min(-1) < 1e-12).all(), "a longer segment would fit"
    step = ends[..., 1, :] - ends[..., 0, :]
    assert np.allclose(np.cross(step, invisible_direction(F)), 0, atol=1e-12)


def test_distance_to_the_set_is_the_distance_to_its_segment(sample):
    """An independent way to the same number: project on the segment."""
    w, F, mu = sample
    first, second = np.moveaxis(optimal_segment(F, mu), -2, 0)
    step = second - first
    length = (step**2).sum(-1)
    share = np.clip(((w - first) * step).sum(-1) / np.where(length > 0, length, 1), 0, 1)
    nearest = first + share[..., None] * step
    assert np.allclose(np.linalg.norm(w - nearest, axis=-1), distance_to_optimal_set(w, F, mu), atol=1e-9)


@pytest.mark.parametrize(
    ("F", "mu", "unique"), [([0.0, 0.0, 1.0], 0.5, False), ([1.0, 1.0, 1.0], 3.0, False), ([0.0, 1.0, 2.0], 9.0, True)]
)
def test_segment_with_equal_models_or_the_truth_outside(F, mu, unique):
    (ends,) = optimal_segment([F], [mu])
    assert np.allclose(ends.sum(-1), 1)
    assert ends.min() >= 0
    assert np.allclose(ends @ F, np.clip(mu, min(F), max(F)))
    assert np.allclose(*ends) == unique or F[0] == F[2]


@pytest.mark.parametrize("M", [2, 3, 5])
def test_bound_holds_and_is_sharp_for_two_models(M):
    rng = np.random.default_rng(M)
    w, F, mu = rng.dirichlet(np.full(M, 0.5), 5000), rng.normal(size=(5000, M)), rng.normal(size=5000)
    distance, bound = distance_to_optimal_set(w, F, mu), distance_bound(w, F, mu)
    assert (distance <= bound + 1e-9).all()
    if M == 2:
        assert np.allclose(distance, bound, atol=1e-9)
    else:
        assert (distance < 0.9 * bound).any()


def test_bound_of_a_tiny_gap_can_be_the_whole_simplex():
    """Where it blows up: the truth at the end of the range, and the two lowest predictions nearly equal."""
    w, F, mu = [[0.0, 1.0, 0.0]], [[0.0, 1e-6, 1.0]], [0.0]
    assert np.isclose(distance_to_optimal_set(w, F, mu), 2**0.5).all()
    assert np.isclose(distance_bound(w, F, mu), 2**0.5).all()
    assert distance_bound(w, [[2.0, 2.0, 2.0]], [2.0]) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_segment(np.ones((5, 2)), np.ones(5)), r"F has shape \(5, 2\).*three models"),
        (lambda: invisible_direction(1.0), r"F has shape \(\)"),
        (lambda: distance_bound(np.ones((5, 1)), np.ones((5, 1)), np.ones(5)), r"F has shape \(5, 1\).*at least two"),
    ],
)
def test_wrong_number_of_models_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_invisible_twin_is_on_the_simplex_and_predicts_the_same():
    X = np.random.default_rng(0).standard_normal((2000, 5))
    F = simulation.candidate_models(X)
    twin = weights.invisible_twin(F)
    assert twin.min() > 0
    assert np.allclose(twin.sum(-1), 1)
    assert np.allclose((twin * F).sum(-1), F.mean(-1))
    assert np.linalg.norm(twin - 1 / 3, axis=-1).mean() > 0.2


def test_changes_leave_the_optimal_weights_what_the_chapter_says():
    F = np.random.default_rng(0).normal(size=(50, 3))
    collinear, twins = weights.CHANGES["S3 collinear"](F), weights.CHANGES["S3 twins"](F)
    w = simulation.CONSTANT["S3"]
    assert np.allclose(collinear @ w, collinear @ (w + 0.04 * np.array([1, 1, -2])))
    assert np.allclose(twins @ w, twins @ [0.45, 0.45, 0.1])


# --- limits ------------------------------------------------------------


def test_lines_are_least_squares_and_their_limit_is_the_projection():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (3, 40))
    y = x**2 + rng.standard_normal(x.shape)
    for row, beta in enumerate(limits.fit_lines(x, y)):
        assert np.allclose(beta, sm.OLS(y[row], sm.add_constant(x[row])).fit().params, atol=1e-12)
    grid = (np.arange(20_000) + 0.5) / 20_000
    for low, high in limits.DOMAINS:
        z = low + (high - low) * grid
        assert np.allclose(limits.fit_lines(z, z**2), limits.population_line(low, high).coefficients, atol=1e-8)


def test_sandwich_is_that_of_statsmodels_on_a_large_sample():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 200_000)
    y = x**2 + limits.NOISE * rng.standard_normal(len(x))
    robust = sm.OLS(y, sm.add_constant(x)).fit(cov_type="HC0").cov_params()
    assert np.allclose(limits.population_line(0, 1).covariance, len(x) * robust, rtol=0.02)


def test_optimal_weights_average_the_limits_to_the_truth():
    x = limits.GRID
    w = limits.optimal_weights(x)
    lines = np.array([limits.population_line(*domain).coefficients for domain in limits.DOMAINS])
    assert w.min() > -1e-12
    assert np.allclose(w.sum(-1), 1)
    assert np.allclose((w * (lines[:, 0] + x[:, None] * lines[:, 1])).sum(-1), 0.75 * x**2)


def test_population_tree_is_what_scikit_learn_grows_on_a_dense_noise_free_sample():
    x = (np.arange(50_000) + 0.5) / 50_000
    tree = DecisionTreeRegressor(max_depth=2).fit(x[:, None], x**2)
    leaves = limits.population_tree(2)
    inside = np.array([(low + high) / 2 for low, high, _ in leaves])
    assert np.allclose(tree.predict(inside[:, None]), [value for *_, value in leaves], atol=1e-3)
    assert np.allclose(
        np.sort(tree.tree_.threshold[tree.tree_.feature >= 0]), [high for _, high, _ in leaves[:-1]], atol=1e-3
    )


def test_network_with_the_same_seed_is_the_same_network():
    x, y = limits.infinite_sample(2, 100)
    once, again = (limits.fit_networks(x, y, [3, 4], steps=20)(limits.HOME) for _ in range(2))
    assert np.array_equal(once, again)
    assert not np.allclose(once[0], once[1])


@pytest.mark.parametrize("walk", [limits, weights])
def test_every_case_of_the_cells_is_measured(walk):
    for case in {case for case, *_ in walk.CELLS["full"]}:
        found = walk.measure(case, 100, 2, np.random.default_rng(0))
        assert all(
            values.shape == (2,) and np.isfinite(values).all() and (values >= 0).all()
            for name, values in found.items()
            if "signed" not in name
        )


@pytest.mark.parametrize("M", [2, 3, 5])
def test_weight_set_has_the_extremes_that_linear_programming_finds(M):
    rng = np.random.default_rng(M)
    F, centre = rng.normal(size=(20, M)).round(1), rng.normal(size=20)
    low, high = centre - 0.3, centre + 0.2
    corners = weight_set(F, low, high)
    best = [np.clip(end, F.min(1), F.max(1)) for end in (low, high)]
    assert corners.shape == (20, M * M, M)
    assert np.allclose(corners.sum(-1), 1)
    assert (corners >= 0).all()
    for i, m in np.ndindex(20, M):
        for sign, found in ((1, corners.min(1)), (-1, corners.max(1))):
            band = {"A_ub": [F[i], -F[i]], "b_ub": [best[1][i] + 1e-9, 1e-9 - best[0][i]]}
            extreme = linprog(sign * np.eye(M)[m], A_eq=np.ones((1, M)), b_eq=[1], **band)
            assert np.isclose(found[i, m], sign * extreme.fun, atol=1e-6)


def test_weight_set_of_a_band_without_width_is_the_optimal_segment(sample):
    _, F, mu = sample
    corners, ends = weight_set(F, mu, mu), optimal_segment(F, mu)
    assert np.allclose(corners.min(-2), ends.min(-2))
    assert np.allclose(corners.max(-2), ends.max(-2))
    with pytest.raises(ValueError, match="low must be at most high"):
        weight_set(F, mu + 1, mu)
