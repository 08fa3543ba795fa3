"""Models get X as it came, weights what ``features`` makes of it; constant weights read nothing."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from localma import BestModel, DirectModel, EqualWeights, GlobalMA, LocalMA, load
from localma.theory import audit
from tests.kinds import AVERAGES, make

n = 200
rng = np.random.default_rng(0)
x, word = rng.uniform(-1, 1, n), rng.choice(["left", "right"], n)
FRAME = pd.DataFrame({"x": x, "word": word, "day": pd.date_range("2020-01-01", periods=n)})
y = np.where(word == "left", -x, x)
F = np.c_[-x, x]
TEXTS = [f"{'bad' if a < 0 else 'good'} and {b}" for a, b in zip(x, word, strict=True)]
GATES = [kind for kind in AVERAGES if "features" in kind().get_params()]
CONSTANT = [kind for kind in AVERAGES if kind not in GATES]


class Asked:
    """A model that keeps what it was asked."""

    def __call__(self, X):
        self.X = X
        return x[: X.shape[0]]


def test_the_kinds_are_those_that_are_meant():
    assert {"GlobalMA", "EqualWeights", "BestModel", "GreedySelection"} <= {kind.__name__ for kind in CONSTANT}
    assert {"LocalMA", "MixtureOfExperts", "QuantileAverage"} <= {kind.__name__ for kind in GATES}


@pytest.mark.parametrize("kind", CONSTANT)
@pytest.mark.parametrize("X", [FRAME, scipy.sparse.csr_matrix(np.c_[x]), np.array(TEXTS), x, np.full((n, 1), np.nan)])
def test_constant_weights_read_nothing(kind, X):
    models = [Asked(), Asked()]
    average = make(kind, models=models).fit(X, y)
    assert models[0].X is models[1].X is X
    assert average.weights(X).shape == (n, 2)
    average.predict(X[:5])
    assert models[0].X.shape[0] == 5
    with pytest.raises(ValueError, match="X and y differ in length"):
        average.fit(X[:5], y)
    with pytest.raises(ValueError, match="X has 0 samples"):
        average.fit(X[:0], y[:0])


@pytest.mark.parametrize("kind", GATES)
def test_models_get_X_and_weights_its_features(kind):
    models = [Asked(), Asked()]
    options = {"models": models, "features": lambda X: np.c_[X["x"], X["word"] == "left"]}
    average = make(kind, **options).fit(FRAME, y)
    assert models[0].X is models[1].X is FRAME
    assert average.n_features_in_ == 2
    numbers = np.c_[x, word == "left"].astype(float)
    same = make(kind).fit(numbers, y, F=np.c_[x, x])
    np.testing.assert_array_equal(average.weights(FRAME), same.weights(numbers))
    np.testing.assert_array_equal(average.weights(FRAME.assign(more="of it")), same.weights(numbers))


WAYS = {
    "names": (FRAME, ["word"]),
    "function": (FRAME, lambda X: X[["word"]] == "left"),
    "transformer": (FRAME, make_column_transformer((OneHotEncoder(), ["word"]))),
    "texts": (TEXTS, CountVectorizer(binary=True)),
    "sparse": (scipy.sparse.csr_matrix(np.c_[x, word == "left"]), lambda X: X[:, [1]]),
    "default": (FRAME[["x", "word"]], None),
}


@pytest.mark.parametrize(("X", "features"), WAYS.values(), ids=WAYS)
def test_what_depends_on_a_word_is_found(X, features, tmp_path):
    average = LocalMA(features=features, random_state=0).fit(X, y, F=F)
    assert average.score(X, y, F=F) > 0.98
    again = clone(average)
    assert again.features_ is None
    np.testing.assert_array_equal(again.fit(X, y, F=F).weights(X), average.weights(X))
    average.save(tmp_path / "average")
    code = callable(features) or hasattr(features, "transform")
    if code:
        with pytest.raises(ValueError, match=r"features that are code.*average\.features_"):
            load(tmp_path / "average")
    loaded = load(tmp_path / "average", features=average.features_ if code else None)
    np.testing.assert_array_equal(loaded.weights(X), average.weights(X))
    np.testing.assert_array_equal(loaded.fit(X, y, F=F).weights(X), average.weights(X))


def test_transformers_are_cloned_and_must_be_fitted_in_load(tmp_path):
    X, scaler = np.c_[x], StandardScaler()
    average = LocalMA(features=scaler, random_state=0).fit(X, y, F=F)
    assert not hasattr(scaler, "mean_")
    assert average.features_.mean_ == pytest.approx(x.mean())
    average.save(tmp_path / "average")
    with pytest.raises(NotFittedError):
        load(tmp_path / "average", features=scaler)
    search = GridSearchCV(LocalMA([lambda X: -X[:, 0], lambda X: X[:, 0]], features=scaler, random_state=0),
                          {"features__with_mean": [True, False]}, cv=2).fit(X, y)  # fmt: skip
    assert search.best_estimator_.features_.with_mean in (True, False)


def test_a_frame_becomes_numbers():
    X = FRAME[["x", "word"]].copy()
    X["count"] = pd.array([*range(n - 2), None, None], dtype="Int64")
    X["class"] = pd.Categorical.from_codes(np.arange(n) % 30, [f"c{k:02}" for k in range(30)])
    X.loc[:49, "class"] = np.nan
    X["flag"] = pd.Series([True, False] * (n // 2), dtype=object)
    average = LocalMA(random_state=0).fit(X, y, F=F)
    Z = average.features_.transform(X)
    median = np.median(np.arange(n - 2))
    counts = X["class"].value_counts()
    known = sorted(sorted(counts.index, key=lambda c: (-counts[c], c))[:19])
    expected = [
        x,
        word == "left",
        word == "right",
        X["count"].fillna(int(median)) if median.is_integer() else X["count"].astype(float).fillna(median),
        X["count"].isna(),
        *[X["class"] == c for c in known],
        X["class"].isna(),
        X["flag"] == False,  # noqa: E712
        X["flag"] == True,  # noqa: E712
    ]
    np.testing.assert_array_equal(Z, np.stack([np.asarray(column, dtype=float) for column in expected], 1))
    new = X.iloc[::-1][["flag", "class", "count", "word", "x"]].assign(extra="not read")
    np.testing.assert_array_equal(average.features_.transform(new), Z[::-1])  # columns go by name
    unknown = average.features_.transform(X.assign(word="up"))
    assert not unknown[:, 1:3].any()
    with pytest.raises(ValueError, match=r"features failed on X: .*X has no columns \['word'\]"):
        average.weights(X.drop(columns="word"))
    with pytest.raises(ValueError, match="of what features made of X: Input X contains NaN"):
        average.weights(X.assign(x=np.nan))  # the sample had no gaps in x, so nothing says what they mean


def test_a_frame_of_numbers_is_read_as_it_is():
    X = pd.DataFrame({"a": x, "b": x > 0})
    average = LocalMA(random_state=0).fit(X, y, F=F)
    assert average.features_ is None
    np.testing.assert_array_equal(average.feature_names_in_, ["a", "b"])
    with pytest.raises(ValueError, match="feature names"):
        average.weights(X[["b", "a"]])


@pytest.mark.parametrize(
    ("X", "features", "error", "message"),
    [
        (FRAME, None, ValueError, r"X has columns that are neither numbers nor categories: \{'day': 'datetime64.*features="),
        (FRAME.assign(day=[3, "a"] * (n // 2)), None, ValueError, r"neither numbers nor categories: \{'day': 'object'"),
        (pd.concat([FRAME[["word"]]] * 2, axis=1), None, ValueError, r"columns of one name: \['word'\]; rename"),
        (FRAME, ["x", "nowhere"], ValueError, r"features is \['x', 'nowhere'\], but X has the columns \['x', 'word', 'day'\]"),
        (FRAME, [], ValueError, r"features is \[\], but X has the columns"),
        (np.c_[x], ["x"], ValueError, r"features is \['x'\], but X has no names of columns.*lambda X"),
        (FRAME, "x", TypeError, r"features must be a list of column names.*is 'x'"),
        (FRAME, StandardScaler, TypeError, r"features must be a list of column names"),
        (FRAME, StandardScaler(), ValueError, r"features failed on X: .*fitted to X alone"),
        (np.c_[x], SelectKBest(k=1), ValueError, r"features failed on X: ValueError: .*requires y.*needs y.*transformer\.transform"),
        (FRAME, lambda X: X["nowhere"], ValueError, r"features failed on X: KeyError: 'nowhere'"),
        (FRAME, lambda X: X["x"], ValueError, r"of what features made of X: Expected a 2-dimensional"),
        (FRAME, lambda X: X[["word"]], ValueError, r"of what features made of X: X has columns that hold no numbers"),
        (FRAME, lambda X: X[["x"]][:3], ValueError, r"features gave 3 rows for the 200 rows of X"),
        (FRAME, lambda X: X[["x"]][::-1], ValueError, r"features has the rows of X in another order"),
        (FRAME, lambda X: X[["x"]].where(X["x"] > 0), ValueError, r"of what features made of X: Input X contains NaN"),
    ],
)  # fmt: skip
def test_features_that_cannot_be(X, features, error, message):
    model = Asked()
    with pytest.raises(error, match=message):
        LocalMA([model, model], features=features).fit(X, y)
    assert not hasattr(model, "X")


def test_features_that_change_their_columns_are_refused():
    average = LocalMA(features=lambda X: pd.get_dummies(X["word"]), random_state=0).fit(FRAME, y, F=F)
    with pytest.raises(ValueError, match=r"of what features made of X: .*feature names(?s:.*)right"):
        average.weights(FRAME[word == "left"])


def test_gaps_in_an_array():
    X = np.c_[x, np.where(word == "left", np.nan, 1.0)]
    average = LocalMA(features=SimpleImputer(add_indicator=True), random_state=0).fit(X, y, F=F)
    assert average.score(X, y, F=F) > 0.98


def test_an_audit_reads_what_the_weights_read():
    average = LocalMA(features=["x", "word"], random_state=0).fit(FRAME[:100], y[:100], F=F[:100])
    table = audit(average, FRAME[100:], y[100:], F=F[100:], train=(FRAME[:100], y[:100], F[:100])).table
    assert "d 3" in table.loc["size", "value"]
    average = LocalMA(random_state=0).fit(FRAME[["x"]], y, F=F)
    assert "pays" in audit(average, FRAME[["x"]], y, F=F).table.index
    with pytest.raises(ValueError, match="no numbers"):
        audit(GlobalMA().fit(FRAME, y, F=F), FRAME, y, F=F)


def test_a_learner_of_scikit_learn_reads_X_itself():
    pipeline = make_pipeline(make_column_transformer((OneHotEncoder(), ["word"]), ("passthrough", ["x"])),
                             LinearRegression())  # fmt: skip
    direct = DirectModel(pipeline).fit(FRAME, y)
    np.testing.assert_array_equal(direct.predict(FRAME), clone(pipeline).fit(FRAME, y).predict(FRAME))
    np.testing.assert_array_equal(direct.feature_names_in_, FRAME.columns)
    np.testing.assert_array_equal(
        direct.fit(FRAME[::-1], y[::-1]).predict(FRAME).round(9), direct.predict(FRAME).round(9)
    )


@pytest.mark.parametrize("kind", [EqualWeights, BestModel, GlobalMA, LocalMA])
def test_a_table_with_words_and_gaps_needs_no_workaround(kind):
    X = FRAME.assign(x=FRAME["x"].mask(rng.random(n) < 0.1)).drop(columns="day")
    encode = make_column_transformer((SimpleImputer(), ["x"]), (OneHotEncoder(), ["word"]))
    models = [make_pipeline(clone(encode), LinearRegression()).fit(X[half], y[half]) for half in (x < 0, x > 0)]
    assert np.isfinite(make(kind, models=models).fit(X, y).score(X, y))
