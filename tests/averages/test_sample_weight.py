"""``sample_weight`` in ``fit``: a row of weight zero is no row, one of weight two is two rows where rows are all that counts."""

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from localma import (
    LOSSES,
    BestModel,
    DirectModel,
    EqualWeights,
    GlobalMA,
    LocalMA,
    Mlp,
    Training,
    cross_fit,
    pinball,
    relatives,
)
from localma.averages import ModelAverage
from localma.averages.level import level_of
from localma.engine import fit_local_stack, global_weights
from localma.engine.validation import cross_validate as choose_penalty
from localma.engine.validation import grid, mean_and_error
from tests.kinds import AVERAGES, make

QUICK = {"training": Training(steps=15), "members": 1}
rng = np.random.default_rng(0)
n = 80
corner = np.sign(rng.normal(size=(n // 2, 2)))
X = np.r_[corner, -corner]  # in pairs, which weights leave centred and scaled as they are
offset = rng.permuted(np.tile([0.0, 1.0, 3.0], (n, 1)), axis=1)  # models differ as much at each row
y = np.where(X[:, 0] > 0, offset[:, 0], offset[:, 1]) + rng.gamma(3, size=n)
F = offset + y.mean() + X[:, :1] / 2
P = rng.dirichlet(np.ones(3), (n, 3))
LABELS = np.array(["a", "b", "c"])[np.arange(n) % 3]
TIMES = np.tile(rng.integers(1, 4, n // 2), 2)
SOME = np.where(np.arange(n) % 4 == 1, 0, TIMES)


def weights(average, target=y, given=F, rows=slice(None), **more):
    return average.fit(X[rows], target[rows], F=given[rows], **more).weights(X)


@pytest.mark.parametrize("kind", AVERAGES)
def test_a_row_of_weight_zero_is_no_row(kind):
    average, kept = make(kind, **QUICK), SOME > 0
    whole = weights(average, sample_weight=SOME)
    np.testing.assert_array_equal(whole, weights(average, rows=kept, sample_weight=SOME[kept]))
    absurd, wild = np.where(kept, y, 1e9), np.where(kept[:, None], F, -1e9)
    np.testing.assert_array_equal(whole, weights(average, absurd, wild, sample_weight=SOME))
    with pytest.raises(
        ValueError, match="sample_weight must be an array of numbers, but is 'balanced'; compute_sample_weight"
    ):
        average.fit(X, y, F=F, sample_weight="balanced")
    frame, target = pd.DataFrame(X), pd.Series(y)
    with pytest.raises(ValueError, match="y has the rows of X in another order"):
        average.fit(frame, target[::-1], F=F, sample_weight=SOME)
    for wrong, message in ((TIMES[:-1], "sample_weight"), (-TIMES, "[Nn]egative"), (np.full(n, np.nan), "NaN")):
        with pytest.raises(ValueError, match=message):
            average.fit(X, y, F=F, sample_weight=wrong)


TWICE = [
    (EqualWeights, {}, 0),
    (BestModel, {}, 0),
    (relatives.BatesGranger, {}, 1e-9),
    (relatives.BatesGranger, {"covariance": "diagonal"}, 1e-9),
    (relatives.InformationWeights, {"n_parameters": [1, 2, 3]}, 1e-9),
    (relatives.NonNegativeStacking, {}, 1e-9),
    (relatives.GreedySelection, {}, 0),
    (relatives.MixtureOfExperts, {"penalty": 0.1}, 1e-5),
    (relatives.MixtureOfExperts, {"penalty": 0.1, "objective": "competitive"}, 1e-5),
    (relatives.HierarchicalStacking, {"penalty": 0.1}, 1e-5),
    (relatives.LogarithmicPool, {"penalty": 0.1}, 1e-5),
    (relatives.RightProbability, {}, 1e-9),
    (relatives.LocalSelection, {"form": "partition", "size": 1}, 0),
    (relatives.QuantileAverage, {"cells": 1, "level": 0.8}, 1e-9),
    (LocalMA, {"shrinkage": np.inf}, 1e-9),
    *[(GlobalMA, {"loss": loss}, 1e-6) for loss in (*LOSSES.values(), pinball(0.8), lambda y, a: (y - a) ** 4)],
]  # of more rows others make other halves, folds, neighbours or batches


@pytest.mark.parametrize(("kind", "options", "atol"), TWICE)
def test_a_row_of_weight_two_is_two_rows(kind, options, atol):
    average, rows = make(kind, **options), np.repeat(np.arange(n), TIMES)
    data = (LABELS, P) if average._resolve_loss().is_classification else (y, F)
    weighted = weights(average, *data, sample_weight=TIMES)
    np.testing.assert_allclose(weighted, weights(average, *data, rows=rows), atol=atol)
    if (
        kind not in (EqualWeights, BestModel, relatives.LocalSelection)
        and options.get("loss") is not LOSSES["absolute"]
    ):
        assert np.abs(weighted - weights(average, *data)).max() > 1e-3
    rare = 10.0 ** np.where(F[:, 2] - y == np.max(F[:, 2] - y), 9, 0)  # the others might as well not be there
    if kind in (BestModel, relatives.LocalSelection) and average._resolve_loss() is LOSSES["squared"]:
        nearest = np.abs(F - y[:, None])[rare > 1].argmin()
        assert weights(average, sample_weight=rare)[rare > 1].argmax() == nearest


def test_a_network_minimises_the_loss_of_two_rows():
    """One batch of all rows: the same function from the same start."""
    training = Training(steps=40, batch_size=1000, learning_rate=0.02, penalty=1e-3, dtype="float64")
    average, rows = make(LocalMA, shrinkage=None, training=training), np.repeat(np.arange(n), TIMES)
    for data in ((y, F), (LABELS, P)):
        average.set_params(loss="squared" if data[1] is F else "cross_entropy")
        weighted = weights(average, *data, sample_weight=TIMES)
        np.testing.assert_allclose(weighted, weights(average, *data, rows=rows), atol=1e-9)
        np.testing.assert_allclose(weighted, weights(average, *data, sample_weight=7.0 * TIMES), atol=1e-9)
        assert np.abs(weighted - weights(average, *data)).max() > 1e-3


def test_the_mean_of_weighted_values_and_its_error():
    d, share = rng.normal(1, 1, (5, 200)), rng.gamma(2, size=200)
    share /= share.mean()
    mean, error = mean_and_error(d, None, share)
    np.testing.assert_allclose(mean, np.average(d, 1, share))
    w = share / share.sum()
    np.testing.assert_allclose(error**2, 200 / 199 * np.square(w * (d - mean[:, None])).sum(1))
    draws = rng.integers(0, 200, (4000, 200))
    again = np.array([np.average(d[0, i], weights=share[i]) for i in draws])
    assert error[0] == pytest.approx(again.std(), rel=0.05)
    assert (share * d[0]).std() / 200**0.5 > 1.1 * error[0]  # the mutant: weights that vary are no noise of the mean
    for groups in (None, np.arange(200) // 4):
        for one, other in zip(mean_and_error(d, groups), mean_and_error(d, groups, np.ones(200)), strict=True):
            np.testing.assert_allclose(one, other)
    pair = np.repeat(share[::2] / share[::2].mean(), 2)
    sums = (pair * (d[0] - np.average(d[0], weights=pair))).reshape(-1, 2).sum(1)
    expected = np.sqrt(100 / 99 * np.square(sums).sum()) / 200
    assert mean_and_error(d[:1], np.arange(200) // 2, pair)[1][0] == pytest.approx(expected)


def test_cross_validation_counts_rows_by_their_weight():
    """Local weights gain on the rows that count and lose on those that hardly do; without weights they lose."""
    gain, count = np.where(np.arange(n) < 20, -1.0, 1.0), np.where(np.arange(n) < 20, 100.0, 1.0)
    target, candidates = torch.zeros(1, n), torch.ones(1, n, 2) + torch.tensor([0.0, 1e-3])

    def fit(rows, seeds, penalties, start, counts):
        seen.append(counts)
        return torch.zeros(len(rows), 2, n)

    loss = LOSSES["squared"]
    seen = []
    more = {"seeds": [0], "sample_weight": count[None]}
    found = choose_penalty(fit, candidates, target, loss, grid(n), **more)
    assert set(seen[0].unique().tolist()) == {0.0, *np.unique(count / count.mean()).astype(np.float32).tolist()}
    plain = choose_penalty(fit, candidates, target, loss, grid(n), seeds=[0])
    np.testing.assert_allclose(found.share.mean(), 1)
    other = type(found)(**{**vars(found), "held_out": found.held_out - gain})
    assert (
        found.gain(other)[0][0] < 0 < plain.gain(type(plain)(**{**vars(plain), "held_out": plain.held_out - gain}))[0]
    )


def test_samples_side_by_side_have_weights_of_their_own():
    given = [torch.tensor(np.stack([a, a[::-1].copy()])) for a in (X + rng.normal(size=X.shape), F, y)]
    count = np.stack([TIMES, TIMES[rng.permutation(n)]]).astype(float)
    how = {"training": Training(steps=15), "network": Mlp(width=4), "members": 2, "bootstrap": 2}
    both = fit_local_stack(*given, LOSSES["squared"], seeds=[3, 4], sample_weight=count, **how)
    for r in range(2):
        one = [a[r : r + 1] for a in given]
        alone = fit_local_stack(*one, LOSSES["squared"], seeds=[3 + r], sample_weight=count[r : r + 1], **how)
        torch.testing.assert_close(both.weights(given[0])[r], alone.weights(one[0])[0])
    other = fit_local_stack(*given, LOSSES["squared"], seeds=[3, 4], **how)
    assert (both.weights(given[0]) - other.weights(given[0])).abs().max() > 1e-3


@pytest.mark.parametrize("loss", [*LOSSES.values(), pinball(0.8)], ids=lambda loss: loss.name)
def test_a_level_counts_rows_by_their_weight(loss):
    rows = np.repeat(np.arange(n), TIMES)
    target, a = (np.arange(n) % 3, P[:, 0]) if loss.is_classification else (y, F[:, 0])
    weighted = level_of(loss, target, a, TIMES)
    np.testing.assert_allclose(weighted, level_of(loss, target[rows], a[rows]), rtol=0.05, atol=0.02)
    if loss.slopes is None and not loss.is_classification:  # whose shares are smoothed by a row
        assert weighted == pytest.approx(level_of(loss, target[rows], a[rows]))
        assert weighted != pytest.approx(level_of(loss, target, a))


def test_levels_and_learners_take_weights():
    short = F - 3 * (X[:, :1] > 0) - 3
    average = make(GlobalMA, level=True).fit(X, y, F=short, sample_weight=np.where(X[:, 0] > 0, 1e-3, 1))
    assert average.level_ == pytest.approx(np.mean((y - average.weights_ @ short.T)[X[:, 0] < 0]), abs=0.3)
    assert average.level_ < make(GlobalMA, level=True).fit(X, y, F=short).level_ - 0.5
    rows = np.repeat(np.arange(n), TIMES)
    direct = make(LocalMA, direct=LinearRegression(), shrinkage=1.0, members=1, training=Training(steps=5))
    direct.fit(X, y, F=F, sample_weight=TIMES)
    np.testing.assert_allclose(direct.direct_.coef_, LinearRegression().fit(X[rows], y[rows]).coef_)
    column = cross_fit(LinearRegression(), X, y, sample_weight=TIMES, random_state=0)
    assert np.abs(column - cross_fit(LinearRegression(), X, y, random_state=0)).max() > 1e-3
    asked = []
    for learner in (KNeighborsRegressor(), make_pipeline(StandardScaler(), LinearRegression())):
        with pytest.raises(
            TypeError, match=r"direct is (?s:.*)whose fit takes no sample_weight; give a learner(?s:.*)routing"
        ):
            LocalMA([asked.append], direct=learner).fit(X, y, sample_weight=TIMES)
    assert asked == []
    for name, average in (("classifier", relatives.RightProbability(classifier=KNeighborsClassifier())),
                          ("learner", DirectModel(KNeighborsRegressor()))):  # fmt: skip
        with pytest.raises(TypeError, match=f"{name} is KNeighbors.*whose fit takes no sample_weight"):
            average.fit(X, y, F=F, sample_weight=TIMES)
    with sklearn.config_context(enable_metadata_routing=True):
        last = LinearRegression().set_fit_request(sample_weight=True)
        steps = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), last)
        direct.set_params(direct=steps).fit(X, y, F=F, sample_weight=TIMES)
        expected = LinearRegression().fit(X[rows], y[rows]).predict(X)
        np.testing.assert_allclose(direct.direct_.predict(X), expected)


def test_weights_of_classes_are_weights_of_rows():
    balance = compute_sample_weight({"a": 5, "b": 1, "c": 1}, LABELS)
    expected = global_weights(P, np.arange(n) % 3, LOSSES["cross_entropy"], balance)
    np.testing.assert_array_equal(
        weights(make(GlobalMA, loss="cross_entropy"), LABELS, P, sample_weight=balance)[0], expected
    )


def test_weights_of_rows_and_F_are_routed():
    """As scikit-learn does it: what ``fit`` and ``score`` ask for, searches and cross-validation cut to their folds."""
    F_and_weights = {"F": F, "sample_weight": TIMES}
    with sklearn.config_context(enable_metadata_routing=True):
        average = (
            make(GlobalMA).set_fit_request(F=True, sample_weight=True).set_score_request(F=True, sample_weight=True)
        )
        found = cross_validate(average, X, y, params=F_and_weights, cv=2, return_estimator=True)
        for k, test in enumerate((np.arange(40), np.arange(40, 80))):
            train = np.setdiff1d(np.arange(n), test)
            alone = make(GlobalMA).fit(X[train], y[train], F[train], sample_weight=TIMES[train])
            np.testing.assert_array_equal(found["estimator"][k].weights_, alone.weights_)
            assert found["test_score"][k] == alone.score(X[test], y[test], F[test], TIMES[test])
        search = GridSearchCV(average, {"loss": ["squared", "poisson"]}, cv=2).fit(X, y, **F_and_weights)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    plain = GridSearchCV(
        make(GlobalMA, models=[lambda X: X[:, 0] + 5, lambda X: 5 - X[:, 0]]), {"level": [False, True]}, cv=2
    )
    plain.fit(X, y, sample_weight=TIMES)  # without routing, scikit-learn takes them for fit
    assert plain.best_estimator_.n_models_ == 2


def test_an_average_without_weights_of_rows_says_so():
    class InverseLoss(ModelAverage):
        def _fit_weights(self, X, F, y, loss):
            raise AssertionError

    with pytest.raises(TypeError, match="InverseLoss takes no sample_weight"):
        InverseLoss().fit(X, y, F=F, sample_weight=TIMES)


def test_classes_that_a_model_does_not_know_and_classes_of_F_alone():
    three, two = LogisticRegression().fit(X, LABELS), LogisticRegression().fit(X[LABELS != "b"], LABELS[LABELS != "b"])
    models = [("three", three), ("two", two)]
    with pytest.raises(
        ValueError, match=r"'two' does not know \['b'\]; refit.*fit\(\.\.\., classes=\['a', 'b', 'c'\]\)"
    ):
        EqualWeights(models, loss="cross_entropy").fit(X, LABELS)
    with pytest.warns(UserWarning, match=r"model 'two' does not know the classes \['b'\].*zero"):
        average = GlobalMA(models, loss="cross_entropy").fit(X, LABELS, classes=["a", "b", "c"])
    says = average.weights_ @ np.stack([three.predict_proba(X), np.insert(two.predict_proba(X), 1, 0, 1)], 1)
    np.testing.assert_allclose(average.predict_proba(X), says)
    for target in (LABELS, y):
        with pytest.raises(ValueError, match=r"classes is \['a', 'b'\], but model 'three' knows \['c'\]|leave it out"):
            GlobalMA(models, loss="cross_entropy" if target is LABELS else "squared").fit(X, target, classes=["a", "b"])
    # of F alone: a class that this sample lacks
    F2 = P
    seen = LABELS != "b"
    with pytest.raises(ValueError, match=r"y holds 2 class labels.*K = 3 columns.*classes="):
        GlobalMA(loss="cross_entropy").fit(X[seen], LABELS[seen], F=F2[seen])
    average = GlobalMA(loss="cross_entropy").fit(X[seen], LABELS[seen], F=F2[seen], classes=["a", "b", "c"])
    assert list(average.classes_) == ["a", "b", "c"]
    for wrong in (["c", "b", "a"], ["a", "a", "b"], [["a"], ["b"]]):
        with pytest.raises(ValueError, match="classes must be distinct labels in their sorted order"):
            average.fit(X, LABELS, F=P, classes=wrong)
    with pytest.raises(ValueError, match=r"F has K = 3 columns, but there are 2 classes"):
        average.fit(X, LABELS, F=P, classes=["a", "b"])


class Numbered:
    """As XGBoost's: labels are numbers."""

    def __init__(self, model):
        self.model, self.classes_ = model, np.arange(3)

    def predict_proba(self, X):
        return self.model.predict_proba(X)


def test_a_model_that_does_not_know_a_class_makes_no_other_suspicious():
    """Zero for a class that occurs costs so much that any other model would look as if it had seen the sample."""
    sure = np.where(np.eye(3)[np.arange(n) % 3] > 0, 0.8, 0.1)
    blind = np.tile([0.5, 0.0, 0.5], (n, 1))
    average = LocalMA(loss="cross_entropy", random_state=0, shrinkage=1.0, **QUICK)
    average.fit(X, LABELS, F=np.stack([sure, blind], 1))  # a warning would be an error
    seen = np.where(np.eye(3)[np.arange(n) % 3] > 0, 0.96, 0.02)
    with pytest.warns(UserWarning, match="was it trained on these rows"):
        average.fit(X, LABELS, F=np.stack([seen, blind], 1))


def test_numbers_beside_words():
    model = LogisticRegression().fit(X, LABELS)
    numbered = Numbered(model)
    with pytest.raises(
        ValueError, match=r"model 'xgb' has the numbers \[0, 1, 2\], others words; give \('xgb', model\.predict_proba\)"
    ):
        EqualWeights([("words", model), ("xgb", numbered)], loss="cross_entropy").fit(X, LABELS)
    average = EqualWeights([("words", model), ("xgb", numbered.predict_proba)], loss="cross_entropy").fit(X, LABELS)
    np.testing.assert_allclose(average.predict_proba(X), model.predict_proba(X))
    with pytest.raises(
        ValueError, match=r"labels \['a', 'b', 'c'\], which the models do not know.*model\.predict_proba"
    ):
        EqualWeights([("xgb", numbered)], loss="cross_entropy").fit(X, LABELS)
    with pytest.raises(ValueError, match=r"\(80, number of classes\); of two classes.*np\.stack\(\[1 - P, P\], -1\)"):
        EqualWeights([lambda X: np.full(len(X), 0.3)], loss="cross_entropy").fit(X, LABELS)
