"""The estimators: the invariants of averaging, problems with a known answer, and scikit-learn's contract."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.sparse import issparse
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from localma import (
    LOSSES,
    BestModel,
    DirectModel,
    EqualWeights,
    GlobalMA,
    LocalMA,
    Mlp,
    Training,
    WeightNetwork,
    mlp,
    tweedie,
)
from tests.kinds import make

AVERAGES = [LocalMA, GlobalMA, EqualWeights, BestModel]


def row_sum(X):
    return np.asarray(X, dtype=float).sum(1)


def first_column(X):
    return np.asarray(X, dtype=float)[:, 0]


class Frozen:
    """A candidate with a name that is the same in every process: it becomes part of the tests' names."""

    def __init__(self, function):
        self.function = function

    def predict(self, X):
        return self.function(X.toarray() if issparse(X) else X)

    def __repr__(self):
        return self.function.__name__


def sample(n=200, M=3, seed=0, loss="squared"):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    share = 1 / (1 + np.exp(-3 * X[:, 0]))
    if loss == "cross_entropy":
        F = rng.dirichlet(np.ones(3), (n, M))
        p = share[:, None] * F[:, 0] + (1 - share[:, None]) * F[:, 1 % M]
        return X, np.array([rng.choice(3, p=row) for row in p]), F
    F = rng.normal(size=(n, M)) * 2
    F = np.exp(F / 3) if loss != "squared" else F
    mu = share * F[:, 0] + (1 - share) * F[:, 1 % M]
    y = mu + 0.3 * rng.normal(size=n) if loss == "squared" else rng.gamma(4, mu / 4)
    return X, np.round(y) if loss == "poisson" else y, F


# --- invariants ------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", AVERAGES)
def test_weights_are_on_the_simplex(kind, loss):
    X, y, F = sample(loss=loss)
    average = make(kind, loss=loss).fit(X, y, F=F)
    far = np.vstack([X, 1e3 * X])
    w = average.weights(far)
    assert w.shape == (400, 3)
    assert (w >= 0).all()
    np.testing.assert_allclose(w.sum(1), 1, rtol=0, atol=1e-14)
    if kind is LocalMA:
        assert w[:200].std(0).max() > 0.05


@pytest.mark.parametrize("loss", LOSSES)
def test_permuting_the_models_permutes_the_weights(loss):
    X, y, F = sample(loss=loss)
    order = [2, 0, 1]
    for kind in AVERAGES:
        average = make(kind, loss=loss, training=Training(dtype="float64"))
        w = average.fit(X, y, F=F).weights(X)
        permuted = average.fit(X, y, F=F[:, order]).weights(X)
        np.testing.assert_allclose(permuted, w[:, order], atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", AVERAGES)
def test_identical_models_make_the_prediction_weight_free(kind, loss):
    X, y, F = sample(loss=loss)
    F = np.repeat(F[:, :1], 3, axis=1)
    average = make(kind, loss=loss).fit(X, y, F=F)
    out = average.predict_proba(X, F=F) if loss == "cross_entropy" else average.predict(X, F=F)
    np.testing.assert_allclose(out, F[:, 0], rtol=1e-12)


def test_no_training_is_equal_weights():
    X, y, F = sample()
    np.testing.assert_array_equal(
        make(LocalMA, training=Training(steps=0), shrinkage=None).fit(X, y, F=F).predict(X, F=F),
        EqualWeights().fit(X, y, F=F).predict(X, F=F),
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_a_constant_network_is_gw(loss):
    X, y, F = sample(loss=loss)
    gw = GlobalMA(loss=loss).fit(X, y, F=F).weights_
    linear = {"network": Mlp(depth=0), "training": Training(penalty=0.0, steps=600, dtype="float64")}
    constant = make(LocalMA, loss=loss, **linear).fit(np.ones((200, 1)), y, F=F)
    atol = 2e-2 if loss == "absolute" else 5e-3  # at a kink, steps do not die down
    # where a weight of GW is zero, a softmax only tends to it
    np.testing.assert_allclose(constant.weights(np.ones((1, 1)))[0], gw, atol=atol)
    stiff = make(LocalMA, loss=loss, training=Training(penalty=1e3, steps=600, dtype="float64")).fit(X, y, F=F)
    np.testing.assert_allclose(stiff.weights(X), np.tile(gw, (200, 1)), atol=atol)


def test_units_of_y_and_shifts_change_nothing():
    X, y, F = sample()
    double = Training(dtype="float64")
    w = make(LocalMA, training=double).fit(X, y, F=F).weights(X)
    for other in (
        make(LocalMA, training=double).fit(X, 1e3 * y, F=1e3 * F),
        make(LocalMA, training=double).fit(X, y + 10, F=F + 10),
    ):
        np.testing.assert_allclose(other.weights(X), w, atol=1e-6)
    np.testing.assert_allclose(
        make(LocalMA, training=double).fit(100 * X + 7, y, F=F).weights(100 * X + 7), w, atol=1e-6
    )


# --- problems with a known answer ------------------------------------------------------------


def test_two_experts_without_noise():
    """Each expert is right on its half, so w*(x) is an indicator. No noise and a fixed seed: nothing here is random."""
    X = np.linspace(-1, 1, 400)[:, None]
    average = LocalMA(
        [lambda X: -X[:, 0], lambda X: X[:, 0]], random_state=0, training=Training(steps=400, penalty=0.0)
    ).fit(X, np.abs(X[:, 0]))
    w = average.weights(np.array([[-0.9], [-0.3], [0.3], [0.9]]))
    np.testing.assert_allclose(w[:, 1], [0, 0, 1, 1], atol=0.05)
    assert np.abs(average.predict(X) - np.abs(X[:, 0])).max() < 0.05


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_weights_are_recovered(dtype):
    """w*(x) = softmax of a linear map, which the network contains. Over 12 other seeds the mean weight error lay
    between 0.005 and 0.011 (mean 0.008, sd 0.002): a right program exceeds 0.03 with probability below 1e-6.
    """
    rng = np.random.default_rng(0)
    X, F = rng.normal(size=(4000, 2)), 3 * rng.normal(size=(4000, 3))
    logits = X @ np.array([[1.0, -1, 0], [0, 1, -1]])
    w = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (w * F).sum(1) + 0.1 * rng.normal(size=4000)
    average = LocalMA(random_state=0, training=Training(dtype=dtype)).fit(X, y, F=F)
    error = np.linalg.norm(average.weights(X) - w, axis=1).mean()
    gw = np.linalg.norm(GlobalMA().fit(X, y, F=F).weights(X) - w, axis=1).mean()
    assert error < 0.03 < gw


def test_class_probabilities_are_recovered():
    """Two classifiers, each right on its half; the average's log-loss must come near that of the truth.

    Over 15 other seeds the excess was at most 0.012 for LocalMA and at least 0.33 for GW: false alarms have probability
    below 1e-4.
    """
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, (2000, 1))
    p = np.where(X > 0, 0.1, 0.9)
    y = (rng.random((2000, 1)) < p)[:, 0].astype(int)
    F = np.stack([np.full((2000, 2), [0.1, 0.9]), np.full((2000, 2), [0.9, 0.1])], 1)
    average = LocalMA(loss="cross_entropy", random_state=0).fit(X, y, F=F)
    loss = LOSSES["cross_entropy"]
    truth = loss(y, np.hstack([1 - p, p])).mean()
    assert loss(y, average.predict_proba(X, F=F)).mean() < truth + 0.03
    assert loss(y, GlobalMA(loss="cross_entropy").fit(X, y, F=F).predict_proba(X, F=F)).mean() > truth + 0.2


@pytest.mark.parametrize("n", [50, 20_000])
def test_defaults_are_sensible_for_small_and_large_samples(n):
    """Signal: far better than GW on new data. No signal: no worse than a mild overfit.

    Over 30 (n = 50) and 6 (n = 20,000) other seeds the ratio to GW was 0.16 and 0.08 at most, the error without signal
    0.19 and 0.003 at most: false alarms have probability below 1e-4.
    """
    X, y, F = sample(n, seed=2)
    Xt, yt, Ft = sample(4000, seed=3)
    mse = {kind: np.mean((yt - make(kind).fit(X, y, F=F).predict(Xt, F=Ft)) ** 2) for kind in (LocalMA, GlobalMA)}
    assert mse[LocalMA] < 0.5 * mse[GlobalMA]
    rng = np.random.default_rng(4)
    flat, flat_t = F @ [0.5, 0.3, 0.2] + rng.normal(size=n), Ft @ [0.5, 0.3, 0.2]
    mse = np.mean((flat_t - make(LocalMA).fit(X, flat, F=F).predict(Xt, F=Ft)) ** 2)
    assert mse < (0.6 if n == 50 else 0.02)  # equal weights: 0.19; noise variance: 1


# --- scikit-learn's contract -------------------------------------------------------------------------------------------------------


def not_met(estimator):
    if isinstance(estimator, DirectModel):
        return {}
    poor = "asks for a good fit, but fixed candidate models (a column, a row sum) are no good on the check's data"
    rows = "folds and the units of X count rows, however much these weigh; test_sample_weight.py has what holds"
    weights = {"check_sample_weight_equivalence_on_dense_data": rows} if isinstance(estimator, LocalMA) else {}
    return {"check_regressors_train": poor} | weights


@pytest.mark.filterwarnings(
    "ignore:the squared loss of model"
)  # the checks' responses have nothing to do with these models
@parametrize_with_checks(
    [
        LocalMA([Frozen(row_sum), Frozen(first_column)], training=Training(steps=20)),
        GlobalMA([Frozen(row_sum), Frozen(first_column)]),
        EqualWeights([Frozen(row_sum), Frozen(first_column)]),
        BestModel([Frozen(row_sum), Frozen(first_column)]),
        DirectModel(LinearRegression()),
        DirectModel(LogisticRegression(), loss="cross_entropy"),
    ],
    expected_failed_checks=not_met,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", AVERAGES)
def test_clone_keeps_candidates_fitted_and_identical(kind):
    X, y, _ = sample()
    models = [("line", LinearRegression().fit(X, y)), ("sum", row_sum)]
    average = make(kind, models)
    again = clone(average)
    assert again is not average
    assert again.models is models
    assert again.fit(X, y).predict(X).shape == (200,)
    assert not hasattr(average, "n_models_")
    body = nn.Linear(2, 2)
    assert clone(LocalMA(models, network=body)).network is body
    assert clone(LocalMA(models, loss=tweedie(1.7))).loss.name == "tweedie(1.7)"


def test_constructor_only_stores():
    parameters = {"loss": "poisson", "network": Mlp(7), "training": Training(steps=3), "random_state": 5}
    average = LocalMA([row_sum], **parameters)
    assert {name: average.get_params()[name] for name in parameters} == parameters
    assert average.set_params(network__width=9, training__steps=4).network == Mlp(9)
    assert average.training == Training(steps=4)
    assert parameters["training"] == Training(steps=3)  # frozen: another average may hold it, too
    assert LocalMA().set_params(training__penalty=0.1).training == Training(penalty=0.1)
    with pytest.raises(ValueError, match=r"training__step: .*no field 'step'; choose one of steps, batch_size"):
        average.set_params(training__step=4)
    with pytest.raises(ValueError, match="GlobalMA has no parameter 'training'"):
        GlobalMA().set_params(training__steps=4)
    assert LocalMA().get_params()["models"] is None
    assert GlobalMA().get_params() == {"models": None, "loss": "squared", "clip": True, "level": False}


def test_grid_search_and_pipeline():
    X, y, _ = sample(60)
    models = [row_sum, first_column]
    search = GridSearchCV(
        LocalMA(models, random_state=0, training=Training(steps=5)),
        {"network__width": [2, 4], "training__penalty": [0.0, 0.1]},
        cv=2,
    ).fit(X, y)
    assert search.best_estimator_.weights(X).shape == (60, 2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    pipeline = make_pipeline(StandardScaler(), LocalMA(models, random_state=0, training=Training(steps=5))).fit(X, y)
    assert pipeline.predict(X).shape == (60,)
    assert np.isfinite(pipeline.score(X, y))
    assert len(cross_val_score(GlobalMA(models), X, y, cv=3)) == 3


def test_metadata_routing_carries_precomputed_predictions():
    X, y, F = sample(90)
    with sklearn.config_context(enable_metadata_routing=True):
        average = LocalMA(random_state=0, training=Training(steps=5)).set_fit_request(F=True).set_score_request(F=True)
        assert clone(average).get_metadata_routing().fit.requests["F"] is True
        search = GridSearchCV(average, {"network__width": [2, 3]}, cv=3).fit(X, y, F=F)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        steps = make_pipeline(FunctionTransformer(), GlobalMA().set_fit_request(F=True).set_predict_request(F=True))
        assert steps.fit(X, y, F=F).predict(X, F=F).shape == (90,)


def test_pandas_input_reaches_models_by_name():
    X, y, _ = sample()
    frame = pd.DataFrame(X, columns=["size", "age"])
    models = [("line", LinearRegression().fit(frame, y)), ("size", lambda X: X["size"].to_numpy())]
    average = LocalMA(models, random_state=0, training=Training(steps=10)).fit(frame, pd.Series(y))
    np.testing.assert_array_equal(average.feature_names_in_, ["size", "age"])
    assert average.model_names_ == ["line", "size"]
    np.testing.assert_array_equal(average.weights(frame), average.weights(frame.copy()))
    with pytest.raises(ValueError, match="feature names"):
        average.predict(frame[["age", "size"]])


class Counting:
    """A fitted model that counts its calls."""

    def __init__(self, function):
        self.function, self.calls, self.rows = function, 0, 0

    def predict(self, X):
        self.calls, self.rows = self.calls + 1, self.rows + len(X)
        return self.function(X)


@pytest.mark.parametrize("kind", AVERAGES)
def test_models_are_called_once_per_data_set(kind):
    X, y, _ = sample()
    models = [Counting(row_sum), Counting(first_column)]
    average = make(kind, models).fit(X, y)
    assert [(m.calls, m.rows) for m in models] == [(1, 200)] * 2
    average.predict(X[:7])
    assert [(m.calls, m.rows) for m in models] == [(2, 207)] * 2
    average.weights(X)
    average.predict(X, F=np.zeros((200, 2)))
    assert [m.calls for m in models] == [2, 2]
    average.score(X, y)
    assert [m.calls for m in models] == [3, 3]


def test_torch_models_are_handed_back_as_they_came():
    X, y, _ = sample()
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    model.train()
    model[1].eval()  # a part in another mode than the whole
    before = copy.deepcopy(model.state_dict())
    frame = X.astype(np.float32)
    average = LocalMA([model, row_sum], random_state=0, training=Training(steps=5)).fit(frame, y)
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    np.testing.assert_array_equal(average.predict(X), average.predict(X))  # no dropout in its predictions
    assert LocalMA([model], training=Training(steps=1)).fit([[1, 2], [3, 4]], [0.0, 1.0]).predict([[1, 2]]).shape == (
        1,
    )  # whole numbers


@pytest.mark.parametrize("kind", AVERAGES)
def test_precomputed_predictions_equal_models(kind):
    X, y, _ = sample()
    F = np.stack([row_sum(X), first_column(X)], 1)
    given = make(kind).fit(X, y, F=F)
    called = make(kind, [row_sum, first_column]).fit(X, y)
    np.testing.assert_array_equal(given.predict(X, F=F), called.predict(X))
    np.testing.assert_array_equal(given.weights(X), called.weights(X))
    assert given.score(X, y, F=F) == called.score(X, y)


@pytest.mark.parametrize("kind", AVERAGES)
def test_one_model_has_weight_one(kind):
    X, y, _ = sample()
    average = make(kind, [row_sum]).fit(X, y)
    np.testing.assert_array_equal(average.weights(X[:3]), np.ones((3, 1)))
    np.testing.assert_array_equal(average.predict(X), row_sum(X))


@pytest.mark.parametrize("kind", AVERAGES)
def test_not_fitted(kind):
    for call in (lambda a: a.weights([[1.0]]), lambda a: a.predict([[1.0]]), lambda a: a.save("never")):
        with pytest.raises(NotFittedError):
            call(kind([row_sum]))


def test_score():
    X, y, _ = sample()
    average = GlobalMA([row_sum, first_column]).fit(X, y)
    r2 = 1 - np.mean((y - average.predict(X)) ** 2) / np.var(y)
    assert average.score(X, y) == pytest.approx(r2)
    assert average.score(X, y[:, None]) == pytest.approx(r2)  # a column does not broadcast
    with pytest.raises(ValueError, match="inconsistent"):
        average.score(X, y[:1])
    X, y, F = sample(loss="gamma")
    average = GlobalMA(loss="gamma").fit(X, y, F=F)
    assert average.score(X, y, F=F) == pytest.approx(
        sklearn.metrics.d2_tweedie_score(y, average.predict(X, F=F), power=2)
    )


def test_fit_info_tells_what_happened():
    X, y, F = sample(300)
    info = LocalMA(random_state=0, training=Training(steps=40, validation_fraction=0.2)).fit(X, y, F=F).fit_info_
    assert info.train_loss.shape == (40,)
    assert info.validation_loss.shape == info.validation_steps.shape == (41,)
    assert info.best_step == info.validation_steps[info.validation_loss.argmin()]
    assert info.training.batch_size == 300
    assert 0 < info.weight_entropy < 1
    assert info.gradient_norm > 0
    assert info.train_loss[-1] < info.train_loss[0]


@pytest.mark.filterwarnings("ignore:the network is not trained to its end")
def test_same_seed_same_bits():
    X, y, F = sample()
    first, again, other = (
        LocalMA(random_state=s, training=Training(steps=20, batch_size=32)).fit(X, y, F=F).weights(X) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-6
    body = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    first, again = (
        LocalMA(network=body, random_state=1, training=Training(steps=20, learning_rate=0.1)).fit(X, y, F=F).weights(X)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    LocalMA(random_state=None, training=Training(steps=1)).fit(X, y, F=F)
    LocalMA(random_state=np.random.RandomState(0), training=Training(steps=1)).fit(X, y, F=F)


def test_pickle():
    X, y, F = sample(loss="gamma")
    for loss in ("gamma", tweedie(1.7)):
        average = LocalMA(loss=loss, random_state=0, training=Training(steps=5)).fit(X, y, F=F)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(average)).predict(X, F=F), average.predict(X, F=F))


# --- cross-entropy ---------------------------------------------------------------------------------------------------------------


def labelled(n=150):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 2))
    return X, np.array(["blue", "green", "red"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)]


@pytest.mark.parametrize("kind", AVERAGES)
def test_classification_with_string_labels(kind):
    X, y = labelled()
    models = [LogisticRegression().fit(X[:70], y[:70]), RandomForestClassifier(10, random_state=0).fit(X[70:], y[70:])]
    average = make(kind, models, loss="cross_entropy").fit(X, y)
    np.testing.assert_array_equal(average.classes_, ["blue", "green", "red"])
    p = average.predict_proba(X)
    np.testing.assert_allclose(p.sum(1), 1)
    w = average.weights(X)
    np.testing.assert_allclose(p, w[:, :1] * models[0].predict_proba(X) + w[:, 1:] * models[1].predict_proba(X))
    np.testing.assert_array_equal(average.predict(X), average.classes_[p.argmax(1)])
    assert average.score(X, y) == np.mean(average.predict(X) == y)
    assert is_classifier(average)
    assert is_regressor(kind())
    assert not hasattr(kind(), "predict_proba")
    assert average.score(X, pd.Series(y)) == average.score(X, y)


class Shuffled:
    """A classifier whose classes_ are not sorted."""

    def __init__(self, model, order):
        self.model, self.order = model, order
        self.classes_ = model.classes_[order]

    def predict_proba(self, X):
        return self.model.predict_proba(X)[:, self.order]


def test_columns_are_aligned_by_classes():
    X, y = labelled()
    model = LogisticRegression().fit(X, y)
    straight = EqualWeights([model, model], loss="cross_entropy").fit(X, y)
    shuffled = EqualWeights([Shuffled(model, [2, 0, 1]), Shuffled(model, [1, 2, 0])], loss="cross_entropy").fit(X, y)
    np.testing.assert_allclose(shuffled.predict_proba(X), straight.predict_proba(X))
    np.testing.assert_array_equal(shuffled.predict(X), model.predict(X))
    # a class that the models know and the sample lacks, with models called or not
    few = y != "red"
    F = np.stack([model.predict_proba(X[few])] * 2, 1)
    for extra in ({}, {"F": F}):
        average = EqualWeights([model, model], loss="cross_entropy").fit(X[few], y[few], **extra)
        np.testing.assert_array_equal(average.classes_, ["blue", "green", "red"])


def test_labels_of_precomputed_predictions():
    X, _, F = sample(loss="cross_entropy")
    numbers = np.arange(200) % 2  # class 2 does not occur, but its column says that it exists
    np.testing.assert_array_equal(EqualWeights(loss="cross_entropy").fit(X, numbers, F=F).classes_, [0, 1, 2])
    names = np.array(["a", "b", "c"], dtype=object)[np.arange(200) % 3]
    np.testing.assert_array_equal(EqualWeights(loss="cross_entropy").fit(X, names, F=F).classes_, ["a", "b", "c"])
    with pytest.raises(ValueError, match="K = 3 columns"):
        EqualWeights(loss="cross_entropy").fit(X, names[np.arange(200) % 2], F=F)


# --- weight networks of one's own ------------------------------------------------------------


def test_convolutional_body_on_images():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 50, (120, 1, 8, 8)).astype(np.uint8)
    bright = rng.random(120) < 0.5
    X[bright] += 100
    F = rng.normal(size=(120, 2))
    y = np.where(bright, F[:, 0], F[:, 1])

    def cnn(M):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, M))

    average = LocalMA(network=cnn, random_state=0, training=Training(steps=200, learning_rate=0.02)).fit(X, y, F=F)
    w = average.weights(X)
    assert w[bright, 0].mean() > 0.9
    assert w[~bright, 0].mean() < 0.1


def test_embedding_body_on_tokens():
    rng = np.random.default_rng(0)
    X = rng.integers(2, 10, (120, 6))
    said = rng.random(120) < 0.5
    X[:, 3] = np.where(said, 1, 0)
    F = rng.normal(size=(120, 2))
    body = nn.Sequential(nn.EmbeddingBag(10, 8), nn.Linear(8, 2))
    average = LocalMA(network=body, random_state=0, training=Training(steps=300, learning_rate=0.05)).fit(
        X, np.where(said, F[:, 0], F[:, 1]), F=F
    )
    w = average.weights(X)
    assert w[said, 0].mean() > 0.75
    assert w[~said, 0].mean() < 0.25


def test_linear_gate_on_whole_numbers_and_as_a_weight_network():
    X, y, F = sample()
    whole = np.round(2 * X).astype(int)
    gate = LocalMA(network=nn.Linear(2, 3), random_state=0, training=Training(steps=100, learning_rate=0.05)).fit(
        whole, y, F=F
    )
    np.testing.assert_array_equal(gate.weights(whole), gate.weights(whole.astype(float)))
    assert gate.weights(whole).std() > 0.05
    how = {"random_state": 0, "training": Training(steps=100, learning_rate=0.05)}
    wrapped = LocalMA(network=WeightNetwork(mlp(2, 3)), **how).fit(X, y, F=F)
    plain = LocalMA(network=mlp(2, 3), **how).fit(X, y, F=F)
    np.testing.assert_array_equal(wrapped.weights(X), plain.weights(X))
    torch.manual_seed(0)
    start = WeightNetwork(nn.Linear(2, 3), zero_output=False)
    kept = LocalMA(network=start, training=Training(steps=0)).fit(X, y, F=F)
    np.testing.assert_allclose(kept.weights(X), start(torch.tensor(X).float()).detach(), atol=1e-6)


def test_a_module_of_ones_own_is_trained_to_its_end_or_the_user_is_told():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (1400, 3))
    y, F = X[:, 0] ** 2 + 0.1 * rng.normal(size=1400), np.column_stack([-X[:, 0], X[:, 0]]) - 1 / 6
    train, new = slice(400), slice(400, None)

    def score(**how):
        fit = LocalMA(shrinkage=None, random_state=0, **how).fit(X[train], y[train], F=F[train])
        return fit.score(X[new], y[new], F=F[new])

    assert score(network=lambda M: mlp(3, M)) > score() - 0.02
    with pytest.warns(ConvergenceWarning, match=r"second half of 500 steps the loss fell by \d% of its whole"):
        early = score(network=nn.Linear(3, 2))
    assert score(network=nn.Linear(3, 2), training=Training(learning_rate=0.3)) > early + 0.1  # what the warning says


# --- DirectModel ------------------------------------------------------------


def test_direct_model_with_scikit_learn():
    X, y, F = sample()
    direct = DirectModel(LinearRegression()).fit(X, y, F=F)
    np.testing.assert_array_equal(direct.predict(X, F=F), LinearRegression().fit(X, y).predict(X))
    assert direct.score(X, y) == pytest.approx(LinearRegression().fit(X, y).score(X, y))
    X, y = labelled()
    learner = LogisticRegression()
    direct = DirectModel(learner, loss="cross_entropy").fit(X, y)
    assert not hasattr(learner, "coef_")
    assert direct.score(X, y) == learner.fit(X, y).score(X, y)
    assert direct.predict_proba(X).shape == (150, 3)
    assert clone(direct).fit(X, y).score(X, y) == direct.score(X, y)


def test_direct_model_with_torch():
    rng = np.random.default_rng(0)
    X = 50 + 10 * rng.normal(size=(300, 2))
    mu = np.exp(0.05 * (X[:, 0] - 50))
    direct = DirectModel(mlp(2, 1), random_state=0).fit(X, 1000 * mu)
    assert direct.score(X, 1000 * mu) > 0.98
    np.testing.assert_array_equal(
        direct.predict(X), DirectModel(mlp(2, 1), random_state=0).fit(X, 1000 * mu).predict(X)
    )
    counts = rng.poisson(mu).astype(float)
    direct = DirectModel(mlp(2, 1), loss="poisson", training=Training(steps=300, learning_rate=0.02)).fit(X, counts)
    assert np.corrcoef(np.log(direct.predict(X)), np.log(mu))[0, 1] > 0.9
    images, labels = rng.normal(size=(100, 1, 4, 4)), np.repeat(["a", "b"], 50)
    images[50:] += 2
    body = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, 2))
    direct = DirectModel(body, loss="cross_entropy", random_state=None).fit(images, labels)
    assert direct.score(images, labels) > 0.95
    np.testing.assert_allclose(direct.predict_proba(images).sum(1), 1)
    tokens = np.repeat([[1, 2], [3, 4]], 20, axis=0)
    body = nn.Sequential(nn.EmbeddingBag(5, 4), nn.Linear(4, 2))
    assert (
        DirectModel(body, loss="cross_entropy")
        .fit(tokens, np.repeat(["a", "b"], 20))
        .score(tokens, np.repeat(["a", "b"], 20))
        == 1
    )


def test_direct_model_stands_in_for_a_candidate():
    X, y, _ = sample()
    direct = DirectModel(LinearRegression()).fit(X, y)
    assert GlobalMA([direct, row_sum]).fit(X, y).weights_[0] > 0.9


@pytest.mark.parametrize(
    "more", [{"shrinkage": "cv"}, {"shrinkage": None, "bootstrap": 3}, {"shrinkage": None, "groups": True}]
)
def test_a_validation_part_would_mix_what_must_stay_apart(more):
    X, y, F = np.random.default_rng(0).normal(size=(3, 40, 2)) * [[[1.0]], [[1.0]], [[2.0]]]
    groups = np.arange(40) // 2 if more.pop("groups", False) else None
    with pytest.raises(ValueError, match=r"validation_fraction = 0\.2"):
        LocalMA(training=Training(validation_fraction=0.2), progress=False, **more).fit(X, y[:, 0], F=F, groups=groups)


@pytest.mark.parametrize("where", [{"offset": 1e8}, {"offset": -1.7e9}, {"shift": 1.7e9}])
def test_digits_that_float32_would_lose_are_kept(where, two_halves):
    plain, far = (
        LocalMA(random_state=0, progress=False).fit(X, y, F=F) for X, y, F in (two_halves(), two_halves(**where))
    )
    assert next(far.network_.parameters()).dtype == torch.float64
    assert next(plain.network_.parameters()).dtype == torch.float32
    X, y, F = two_halves(**where)
    error = np.mean((far.predict(X, F=F) - y) ** 2)
    X, y, F = two_halves()
    assert error < 1.05 * np.mean((plain.predict(X, F=F) - y) ** 2)


def test_a_model_in_another_unit_is_named(two_halves):
    X, y, F = two_halves()
    F = np.c_[F, 100 * F[:, 0]]
    with pytest.warns(UserWarning, match=r"squared loss of model 'f3' is .* another unit"):
        LocalMA(random_state=0, progress=False, training=Training(steps=5)).fit(X, y, F=F)
    F[:, 2] = F[:, 0]
    F[7, 2] = 1e3
    with pytest.warns(UserWarning, match=r"'f3'.*row 7\)"):
        LocalMA(random_state=0, progress=False, training=Training(steps=5)).fit(X, y, F=F)
