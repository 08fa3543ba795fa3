"""At a new row no candidate is heard that lies far beyond all that the sample has seen."""

import numpy as np
import pytest

from localma import LOSSES, EqualWeights, GlobalMA, LocalMA, load, relatives
from localma.averages.explanation import Surroundings

MODELS = [lambda X: -X[:, 0] + 0.01 * X[:, 1], lambda X: X[:, 0], lambda X: 0.4 + 0.1 * X[:, 0]]
TYPING_ERRORS = np.array([[0.9, 1000.0], [-0.9, 1000.0], [0.9, -1000.0], [-0.9, -1000.0]])


def sample(seed, n=300):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.uniform(-1, 1, n), rng.normal(size=n)])
    return X, abs(X[:, 0]) + 0.1 * rng.normal(size=n)


def worst(average):
    return abs(average.predict(TYPING_ERRORS)).max()


def squared_error(average):
    """At rows whose true mean is .9, the second covariate's error left aside."""
    return np.mean((average.predict(TYPING_ERRORS) - 0.9) ** 2)


@pytest.mark.filterwarnings("ignore:at 4 of 4 rows")
@pytest.mark.parametrize(("shrinkage", "samples"), [(0.01, 20), (None, 3)])
def test_after_a_typing_error_local_weights_cost_no_more_than_global_ones(shrinkage, samples):
    """In every sample; the mutants, without the range and with the range alone, fail in nearly all."""
    free, only_clipped = [], []
    for seed in range(samples):
        X, y = sample(seed)
        local = LocalMA(MODELS, shrinkage=shrinkage, members=1, random_state=seed, progress=False).fit(X, y)
        limit = 1.05 * squared_error(GlobalMA(MODELS).fit(X, y))
        assert squared_error(local) <= limit
        free.append(squared_error(local.set_params(clip=False)) > limit)
        local.set_params(clip=True).global_weights_ = None
        only_clipped.append(squared_error(local) > limit)
    assert np.mean(free) > 0.9
    assert np.mean(only_clipped) > 0.9


def test_a_warning_names_the_rows_and_models():
    X, y = sample(0)
    average = GlobalMA(MODELS).fit(X, y)
    with pytest.warns(UserWarning, match=r"at 4 of 4 rows \(0, 1, 2, 3\) predictions of 'f1' lie far beyond"):
        average.predict(TYPING_ERRORS)


def test_in_the_sample_and_near_it_nothing_changes():
    X, y = sample(1)
    average = LocalMA(MODELS, shrinkage=0.01, members=1, random_state=0).fit(X, y)
    near = np.concatenate([X, 1.2 * X])
    free = average.set_params(clip=False).predict(near), average.weights(near)
    np.testing.assert_array_equal(average.set_params(clip=True).predict(near), free[0])
    np.testing.assert_array_equal(average.weights(near), free[1])
    np.testing.assert_array_equal(average.weights(TYPING_ERRORS), np.tile(GlobalMA(MODELS).fit(X, y).weights_, (4, 1)))


def test_of_rows_like_the_sample_fewer_than_one_in_n_is_far():
    rng, n = np.random.default_rng(0), 40
    for draw in (rng.standard_normal, lambda shape: rng.standard_t(3, shape)):
        for d in (1, 5, 20):
            Z = draw((50, n + 100, d))
            assert np.mean([Surroundings.of(z[:n]).far(z[n:]) for z in Z]) < 1 / n


def test_the_range_is_that_of_each_model_and_of_y_with_a_margin():
    X = np.linspace(0, 1, 11)[:, None]
    average = EqualWeights([lambda X: X[:, 0], lambda X: 5 * X[:, 0]]).fit(X, np.linspace(-1, 2, 11))
    np.testing.assert_allclose(average.range_, [[-1 - 3, -1 - 6], [2 + 3, 5 + 6]])
    np.testing.assert_allclose(average.predict([[2.2]]), (2.2 + 11) / 2)  # at the margin, without a warning
    with pytest.warns(UserWarning, match=r"at 1 of 2 rows \(1\) predictions of 'f1', 'f2' lie far"):
        np.testing.assert_allclose(average.predict([[0.0], [9.0]]), [0, (5 + 11) / 2])


def test_explain_score_bands_and_files_clip_as_predict_does(tmp_path):
    X, y = sample(0, 100)
    average = LocalMA(MODELS, shrinkage=1.0, members=1, bootstrap=2, random_state=0).fit(X, y)
    average.save(tmp_path / "average")
    with pytest.warns(UserWarning, match="lie far beyond"):
        predicted, band = average.predict(TYPING_ERRORS, return_std=True)
    for again in (average, load(tmp_path / "average", MODELS)):
        with pytest.warns(UserWarning, match="lie far beyond"):
            np.testing.assert_array_equal(again.predict(TYPING_ERRORS), predicted)
        with pytest.warns(UserWarning, match="lie far beyond"):
            table = again.explain(TYPING_ERRORS[0]).table
        assert table.loc["average", "prediction"] == pytest.approx(predicted[0])
        assert table.loc["f1", "prediction"] == average.range_[1, 0]
        with pytest.warns(UserWarning, match="lie far beyond"):
            assert again.score(TYPING_ERRORS, [1.0, 1, 1, 2]) > average.set_params(clip=False).score(
                TYPING_ERRORS, [1.0, 1, 1, 2]
            )
        average.set_params(clip=True)
    assert band.max() < 4


def test_an_older_file_has_no_range_and_clips_nothing():
    X, y = sample(0, 50)
    average = GlobalMA(MODELS).fit(X, y)
    clipped = np.einsum("m,nm", average.weights_, np.stack([f(TYPING_ERRORS) for f in MODELS], 1))
    del average.range_
    np.testing.assert_allclose(average.predict(TYPING_ERRORS), clipped)


def test_probabilities_and_the_smallest_samples_are_left_alone():
    X, y = sample(0, 9)
    assert EqualWeights(MODELS).fit(X, y).range_ is None
    P = np.random.default_rng(0).dirichlet(np.ones(3), (30, 2))
    assert EqualWeights(loss="cross_entropy").fit(P[:, 0], np.arange(30) % 3, F=P).range_ is None


@pytest.mark.parametrize("loss", ["squared", "absolute", "poisson", "gamma", "tweedie"])
def test_every_loss_of_numbers_clips(loss):
    F = np.random.default_rng(0).gamma(3, size=(40, 2))
    average = GlobalMA(loss=loss).fit(F, F.mean(1), F=F)
    with pytest.warns(UserWarning, match=r"at 1 of 1 rows \(0\) predictions of 'f1' lie far beyond"):
        near = average.predict(F[:1], F=[[1e9, 1.0]])
    assert LOSSES[loss](F[:1, 0], near) < LOSSES[loss](F[:1, 0], np.array([1e8]))


def test_a_relative_clips_as_well():
    X, y = sample(0)
    stacking = relatives.FeatureStacking(MODELS, clip=False).fit(X, y)
    wild = worst(stacking)
    with pytest.warns(UserWarning, match="lie far beyond"):
        assert worst(stacking.set_params(clip=True)) < wild
