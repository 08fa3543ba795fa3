"""Bad input: the error names the argument and the fix, and comes before any training."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC
from torch import nn

from localma import BestModel, DirectModel, EqualWeights, GlobalMA, LocalMA, Loss, Training, mlp
from localma.checks import check_numeric_columns
from localma.engine import Mlp
from localma.relatives import FeatureStacking, LocalSelection, MixtureOfExperts, RightProbability

AVERAGES = [LocalMA, GlobalMA, EqualWeights, BestModel]
X = np.random.default_rng(0).normal(size=(20, 2))
y = X.sum(1)
F = np.stack([X[:, 0], X[:, 1]], 1)
LABELS = np.array(["a", "b"])[(y > 0).astype(int)]


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    """Weights must not be fitted in any of these tests: an error has to come first."""

    def trained(*arguments, **options):
        raise AssertionError("training started")

    for name in (
        "localma.engine.local.train",
        "localma.averages.direct.train",
        "localma.averages.constant.global_weights",
    ):
        monkeypatch.setattr(name, trained)
    monkeypatch.setattr(EqualWeights, "_fit_weights", trained)
    monkeypatch.setattr(BestModel, "_fit_weights", trained)


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def one(X):
    return np.asarray(X)[:, 0]


@pytest.mark.parametrize("kind", AVERAGES)
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        # shapes
        ((X, y[:-1], F), {}, ValueError, r"X and y differ in length; give one response per row"),
        ((X[:-1], y, F), {}, ValueError, r"X and y differ in length"),
        ((X, y, F[:-1]), {}, ValueError, r"F has shape \(19, 2\), but X has 20 rows .*expected \(20, M\)"),
        ((X, y, F[:, 0]), {}, ValueError, r"F has shape \(20,\).*expected \(20, M\)"),
        ((X, y, F[:, :0]), {}, ValueError, r"F has shape \(20, 0\)"),
        ((X, y, F[:, :, None]), {}, ValueError, r"F has shape \(20, 2, 1\)"),
        ((X, y, np.full((20, 2), "x")), {}, ValueError, r"F must be an array of numbers"),
        ((X, np.stack([y, y], 1), F), {}, ValueError, r"y has 2 columns, but an average is of one response"),
        ((X[:0], y[:0], F[:0]), {}, ValueError, r"0 sample"),
        ((X, None, F), {}, ValueError, r"requires y.*give one response per row"),
        ((X, y), {}, ValueError, r"F is missing: models is None, so give"),
        # NaN and infinity
        ((X, changed(y, 3, np.nan), F), {}, ValueError, r"y contains NaN.*[Dd]rop"),
        ((X, changed(y, 3, -np.inf), F), {}, ValueError, r"y contains infinity.*[Dd]rop"),
        ((X, y, changed(F, (3, 1), np.nan)), {}, ValueError, r"F\[3, 1\] is NaN or infinite; impute"),
        # domains
        ((X, changed(abs(y), 2, -1), abs(F)), {"loss": "poisson"}, ValueError, r"y must be non-negative .*y\[2\] = -1\. Drop"),
        ((X, changed(abs(y), 2, 0), abs(F)), {"loss": "gamma"}, ValueError, r"y must be positive .*y\[2\] = 0\. Drop"),
        ((X, abs(y), changed(abs(F), (4, 1), 0)), {"loss": "poisson"}, ValueError, r"F must be positive.*F\[4, 1\] = 0\. Clip"),
        ((X, abs(y), changed(abs(F), (4, 0), -2)), {"loss": "tweedie"}, ValueError, r"F must be positive.*F\[4, 0\] = -2"),
        ((X, y, F), {"loss": "nonsense"}, ValueError, r"loss = 'nonsense' is unknown; choose one of"),
        ((X, y, F), {"loss": 3}, TypeError, r"loss must be"),
        ((X, y, F), {"loss": lambda y, a: (y - a).square().mean()}, ValueError, r"must return .* not their mean; it gave \(\)"),
        ((X, y, F), {"loss": lambda y, a: np.abs(y - a)}, ValueError, r"loss '<lambda>' failed .* with torch"),
        ((X, y, F), {"loss": lambda y, a: 0.0}, ValueError, r"must return .* it gave float"),
        # models
        ((X, y), {"models": []}, ValueError, r"models is empty; give"),
        ((X, y), {"models": one}, TypeError, r"models must be a list"),
        ((X, y), {"models": "ab"}, TypeError, r"models must be a list"),
        ((X, y), {"models": (m for m in [one, one])}, TypeError, r"models is a generator, which one fit uses up; give list\(models\)"),
        ((X, y), {"models": [one, 3]}, TypeError, r"models\[1\] has no predict method"),
        ((X, y), {"models": [("a", one, 1)]}, TypeError, r"models\[0\] is a tuple"),
        ((X, y), {"models": [("a", one), ("a", one)]}, ValueError, r"distinct names"),
        ((X, y), {"models": [one, LinearRegression()]}, ValueError, r"model 'f2' failed on X: NotFittedError"),
        ((X, y), {"models": [("bad", lambda X: 1 / 0)]}, ValueError, r"model 'bad' failed on X: ZeroDivisionError"),
        ((X, y), {"models": [lambda X: np.ones(3)]}, ValueError, r"model 'f1' returned predictions of shape \(3,\) for 20 rows"),
        ((X, y), {"models": [lambda X: np.ones((20, 2))]}, ValueError, r"model 'f1' returned .*expected \(20,\)"),
        ((X, y), {"models": [lambda X: ["x"] * 20]}, ValueError, r"model 'f1' failed on X"),
        ((X, y), {"models": [lambda X: changed(y, 5, np.nan)]}, ValueError, r"model 'f1' for row 5 is NaN or infinite; impute"),
        ((X, y), {"models": [nn.Linear(3, 1)]}, ValueError, r"model 'f1' failed on X"),
        ((X, abs(y)), {"models": [("low", one)], "loss": "poisson"}, ValueError, r"model 'low' must be positive.*Clip"),
        ((X, y, F), {"models": [one]}, ValueError, r"F has 2 columns for 1 models; give one column per model"),
        ((X, y, pd.DataFrame(F, columns=["a", "c"])), {"models": [("a", one), ("b", one)]}, ValueError,
         r"F has the columns \['a', 'c'\], but the models are \['a', 'b'\]; give these"),
    ],
)  # fmt: skip
def test_every_average_refuses(kind, arguments, options, error, message):
    with pytest.raises(error, match=message):
        kind(**options).fit(*arguments)


READS_X = [LocalMA, FeatureStacking, RightProbability, LocalSelection, MixtureOfExperts]


@pytest.mark.parametrize("kind", READS_X)
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (X[:, 0], ValueError, r"Expected 2D array.*(?s:.*)Reshape.*(?s:.*)features="),
        (scipy.sparse.csr_matrix(X), TypeError, r"X.*dense.*features="),
        (changed(X, (1, 1), np.nan), ValueError, r"X contains NaN.*features="),
        (changed(X, (1, 1), np.inf), ValueError, r"X contains infinity.*features="),
        (LABELS[:, None], ValueError, r"numeric.*features="),
    ],
)
def test_weights_that_read_X_refuse_what_is_no_number(kind, given, error, message):
    with pytest.raises(error, match=message):
        kind().fit(given, y, F=F)


PROBABILITIES = np.full((20, 2, 2), 0.5)


@pytest.mark.parametrize("kind", AVERAGES)
@pytest.mark.parametrize(
    ("models", "target", "given", "message"),
    [
        ([LogisticRegression().fit(X, LABELS)], changed(LABELS, 0, "c"), None, r"labels \['c'\], which the models do not know.*drop"),
        ([LogisticRegression().fit(X, LABELS), LogisticRegression().fit(X, np.resize(["a", "b", "c"], 20))], LABELS, None,
         r"model 'f1' does not know \['c'\]; refit"),
        ([("svm", LinearSVC().fit(X, LABELS))], LABELS, None, r"model 'svm' has predict but no predict_proba.*calibrate"),
        ([one], LABELS, None, r"model 'f1' returned predictions of shape \(20,\).*expected \(20, number of classes\)"),
        ([lambda X: np.full((20, 2), 0.5), lambda X: np.full((20, 3), 1 / 3)], LABELS, None, r"disagree on the number of classes"),
        ([LogisticRegression().fit(X, LABELS), lambda X: np.full((20, 3), 1 / 3)], LABELS, None, r"'f2' returned 3 class prob.*2 classes"),
        ([lambda X: np.full((20, 2), 0.7)], LABELS, None, r"model 'f1' must give class probabilities.*sums to 1\.4.*softmax"),
        (None, LABELS, PROBABILITIES[:, 0], r"F has shape \(20, 2\).*expected \(20, M, K\)"),
        (None, LABELS, 2 * PROBABILITIES, r"F\[:, 0\] must give class probabilities.*softmax"),
        (None, np.resize(["a", "b", "c"], 20), PROBABILITIES, r"y holds 3 class labels.*K = 2 columns; number"),
        (None, y, PROBABILITIES, r"label type"),
        ([LogisticRegression().fit(X, LABELS)], LABELS, np.full((20, 1, 3), 1 / 3), r"F has K = 3 .*but there are 2 classes.*\['a', 'b'\]"),
    ],
)  # fmt: skip
def test_every_average_refuses_classes(kind, models, target, given, message):
    with pytest.raises(ValueError, match=message):
        kind(models, loss="cross_entropy").fit(X, target, F=given)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"training": Training(steps=-1)}, ValueError, "steps"),
        ({"training": Training(dtype="float16")}, ValueError, "dtype"),
        ({"device": "nowhere"}, ValueError, r"device = 'nowhere'.*cpu"),
        ({"random_state": "seed"}, ValueError, "random_state must be an int.*'seed'"),
        ({"random_state": -1}, ValueError, r"random_state must be an int from 0 to 2\*\*63 - 1.*is -1"),
        ({"random_state": 2**63}, ValueError, "random_state must be an int from 0.*9223372036854775808"),
        ({"random_state": True}, ValueError, "random_state must be an int.*True"),
        ({"network": mlp(2, 2), "members": 3}, ValueError, r"members = 3 .*network.*function of M"),
        ({"network": Mlp(width=0)}, ValueError, "width"),
        ({"network": Mlp(depth=-1)}, ValueError, "depth"),
        ({"network": Mlp(width=2.5)}, ValueError, "width"),
        ({"network": 5}, TypeError, "network must be"),
        ({"network": lambda M: 5}, TypeError, "body must be"),
        ({"network": mlp(3, 2)}, ValueError, r"network failed on one row of X, of shape \(1, 2\)"),
        ({"network": mlp(2, 3)}, ValueError, r"network maps one row of X to shape \(1, 3\), but must give \(1, 2\)"),
        ({"network": nn.Flatten()}, ValueError, "zero_output"),
    ],
)
def test_local_average_refuses_options(options, error, message):
    with pytest.raises(error, match=message):
        LocalMA(**options).fit(X, y, F=F)


def test_default_network_reads_tables():
    with pytest.raises(ValueError, match=r"X has shape \(20, 2, 1\).*flatten X or give network="):
        LocalMA().fit(X[:, :, None], y, F=F)


@pytest.mark.parametrize("kind", AVERAGES)
def test_at_prediction(kind, monkeypatch):
    monkeypatch.undo()
    average = kind().fit(X, y, F=F)
    if kind is LocalMA:
        with pytest.raises(ValueError, match="2 features"):
            average.predict(X[:, :1], F=F)
        with pytest.raises(ValueError, match="NaN"):
            average.weights(changed(X, (0, 0), np.nan))
    with pytest.raises(ValueError, match=r"F has shape \(20, 1\), but the fit saw M = 2"):
        average.predict(X, F=F[:, :1])
    with pytest.raises(ValueError, match=r"F has shape \(20, 2\), but X has 3 rows"):
        average.predict(X[:3], F=F)
    with pytest.raises(ValueError, match="F is missing"):
        average.predict(X)
    with pytest.raises(AttributeError, match="predict_proba") as error:
        average.predict_proba(X, F=F)
    assert "needs loss='cross_entropy'" in str(error.value.__cause__)


@pytest.mark.parametrize(
    ("learner", "loss", "target", "error", "message"),
    [
        (None, "squared", y, TypeError, "learner must be"),
        ("model", "squared", y, TypeError, "learner must be"),
        (mlp(3, 1), "squared", y, ValueError, r"learner failed on one row of X"),
        (mlp(2, 2), "squared", y, ValueError, r"learner maps one row of X to shape \(1, 2\), but must give \(1, 1\)"),
        (mlp(2, 3), "cross_entropy", LABELS, ValueError, r"must give \(1, 2\): one logit per class"),
        (mlp(2, 1), "gamma", y, ValueError, "y must be positive"),
        (LinearRegression(), "squared", changed(y, 0, np.nan), ValueError, "y contains NaN"),
        (LinearRegression(), "squared", None, ValueError, "requires y"),
    ],
)
def test_direct_model_refuses(learner, loss, target, error, message):
    with pytest.raises(error, match=message):
        DirectModel(learner, loss=loss).fit(X, target)


def test_columns_of_words_are_named():
    X = pd.DataFrame({"area": np.arange(20.0), "city": ["here", "there"] * 10})
    with pytest.raises(ValueError, match=r"no numbers: \['city'\].*encode"):
        DirectModel(mlp(2, 1)).fit(X, np.arange(20.0))


def test_a_loss_names_its_domains_correctly():
    with pytest.raises(ValueError, match=r"prediction = 'unit' is no domain.*between 0 and 1"):
        Loss("bernoulli", lambda y, a: y - a, prediction="unit")
    bernoulli = Loss(
        "bernoulli", lambda y, a: -torch.xlogy(y, a) - torch.xlogy(1 - y, 1 - a), prediction="between 0 and 1"
    )
    with pytest.raises(ValueError, match=r"F must be between 0 and 1 for the bernoulli loss, but F\[1, 1\] = 1.5"):
        GlobalMA(loss=bernoulli).fit(np.zeros((3, 1)), [0.2, 0.5, 0.3], F=[[0.2, 0.5], [0.3, 1.5], [0.4, 0.2]])


def test_words_as_response_and_holes_in_X_are_named():
    X, F = np.zeros((4, 1)), np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"y holds words \('a'\).*cross_entropy"):
        GlobalMA().fit(X, list("abab"), F=F)
    holes = np.array([[0.0], [np.nan], [1], [2]])
    with pytest.raises(ValueError, match=r"X contains NaN.*impute X") as caught:
        LocalMA().fit(holes, np.zeros(4), F=F)
    assert "HistGradientBoosting" not in str(caught.value)


def test_direct_model_refuses_other_training_options():
    with pytest.raises(TypeError, match=r"training must be a localma\.Training or None, not dict"):
        DirectModel(mlp(2, 1), training={"steps": 3}).fit(X, y)


@pytest.mark.parametrize("kind", AVERAGES)
def test_predictions_are_checked_at_prediction_too(kind, monkeypatch):
    monkeypatch.undo()
    average = kind(loss="poisson").fit(X, abs(y), F=abs(F))
    with pytest.raises(ValueError, match=r"F must be positive for the poisson loss, but F\[3, 1\] = -0.5\. Clip"):
        average.predict(X, F=changed(abs(F), (3, 1), -0.5))
    average = kind(loss="cross_entropy").fit(X, LABELS, F=PROBABILITIES)
    for predict in (average.predict, average.predict_proba):
        with pytest.raises(ValueError, match=r"F\[:, 1\] must give class probabilities.*row 4 sums to 2\b.*softmax"):
            predict(X, F=changed(PROBABILITIES, (4, 1), 1.0))
    with pytest.raises(
        ValueError, match=r"F\[:, 0\] must give class probabilities.*row 4 sums to 1 and its smallest entry is -1\."
    ):
        average.predict(X, F=changed(PROBABILITIES, (4, 0), [2, -1]))
    rounded = np.random.default_rng(0).dirichlet(np.ones(2), (20, 2)).astype(np.float32)
    np.testing.assert_allclose(average.predict_proba(X, F=rounded).sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", AVERAGES)
def test_named_predictions_are_those_of_the_fit(kind, monkeypatch):
    monkeypatch.undo()
    frame = pd.DataFrame(F, columns=["a", "b"])
    for models in (None, [("a", one), ("b", one)]):
        average = kind(models).fit(X, y, F=frame)
        for same in (frame, F, pd.DataFrame(F)):  # without names, the order counts
            np.testing.assert_array_equal(average.predict(X, F=same), average.predict(X, F=F))
        for columns, way in ((["a", "c"], "give these"), ([0, "b"], "give these"), (["b", "a"], "reorder")):
            with pytest.raises(ValueError, match=rf"F has the columns .*, but the models are \['a', 'b'\]; {way}"):
                average.predict(X, F=pd.DataFrame(F, columns=columns))
    average = kind().fit(X, y, F=pd.DataFrame(F)[[1, 0]])
    with pytest.raises(ValueError, match=r"F has the columns \['0', '1'\], but the models are \['1', '0'\]; reorder"):
        average.predict(X, F=pd.DataFrame(F))


@pytest.mark.parametrize("kind", AVERAGES)
@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        ((y, F[:, [0, 1, 1]]), {"loss": lambda y, a: (y - a).mean()}, "must return"),
        ((abs(y), -abs(F[:, [0, 1, 1]])), {"loss": "poisson"}, "F must be positive"),
        ((changed(y, 0, np.nan), F), {}, "y contains NaN"),
    ],
)
def test_a_refit_that_fails_does_not_count(kind, more, options, message, monkeypatch):
    monkeypatch.undo()
    average = kind().fit(X, y, F=F)
    with pytest.raises(ValueError, match=message):
        average.set_params(**options).fit(X, *more)
    with pytest.raises(NotFittedError):
        average.set_params(loss="squared").predict(X, F=F)


def test_columns_of_one_name_are_told_apart():
    twice = pd.DataFrame(np.ones((3, 2)), columns=["area", "area"])
    check_numeric_columns(twice)
    with pytest.raises(ValueError, match=r"no numbers: \['area'\]"):
        check_numeric_columns(pd.concat([twice, pd.DataFrame({"area": list("abc")})], axis=1))


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.array([1.0, None, *range(28)], dtype=object), r"y\[1\] is None, a missing value"),
        (pd.Series([1.0, pd.NA, *range(28)], dtype=object), r"y\[1\] is <NA>"),
        (np.arange(30).astype("datetime64[D]"), "dates or durations"),
    ],
)
def test_responses_that_are_no_numbers(y, words, two_halves):
    X, _, F = two_halves()
    with pytest.raises(ValueError, match=words):
        EqualWeights().fit(X[:30], y, F=F[:30])


def test_advice_that_fits_the_mistake(two_halves):
    X, y, F = two_halves()
    labels = (y > 0.3).astype(int)
    P = np.stack([np.full((400, 2), 0.5)] * 2, 1)
    cases = [
        (lambda: EqualWeights(F).fit(X, y), "fit\\(X, y, F=...\\)"),
        (lambda: EqualWeights({"a": np.sin}).fit(X, y), "models.items"),
        (lambda: EqualWeights().fit(X, y, F=F.T), "F.T"),
        (lambda: EqualWeights(loss="cross_entropy").fit(X, labels, F=P[..., 1]), "np.stack"),
        (lambda: EqualWeights(loss="cross_entropy").fit(X, labels, F=P * 100), "divide by 100"),
        (lambda: EqualWeights(loss="cross_entropy").fit(X, labels, F=P * 1.01), "divide each row"),
        (
            lambda: EqualWeights(loss="cross_entropy").fit(X[labels == 1], labels[labels == 1], F=P[labels == 1]),
            "row of class 0",
        ),
        (lambda: EqualWeights([LogisticRegression().fit(X, labels)]).fit(X, labels), "is a classifier"),
        (lambda: LocalMA(bootstrap=True).fit(X, y, F=F), "bootstrap must be a whole number"),
        (lambda: LocalMA().fit(X, y, F=F, groups=np.arange(400) // 100), "GlobalMA"),
    ]
    for go, words in cases:
        with pytest.raises((ValueError, TypeError), match=words):
            go()
