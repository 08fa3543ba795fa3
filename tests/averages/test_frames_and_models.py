"""Frames of other libraries, models that are asked in batches or kept in a cache, exposures, several responses."""

import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from joblib import Memory
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor

from localma import LOSSES, DirectModel, EqualWeights, GlobalMA, LocalMA, Training, batched, mlp
from localma.averages.features import as_frame

rng = np.random.default_rng(0)
n = 120
x, word = rng.uniform(-1, 1, n), rng.choice(["left", "right"], n)
y = np.where(word == "left", -x, x)
F = np.c_[-x, x]
COLUMNS = {"x": x, "word": word, "flag": x > 0, "count": [None, *range(n - 1)]}


class Frame:
    """The least that a frame of another library has: columns by name, which numpy can read."""

    def __init__(self, columns, rows=slice(None)):
        self._columns = {name: np.asarray(column)[rows] for name, column in columns.items()}

    columns = property(lambda self: list(self._columns))
    shape = property(lambda self: (len(self["x"]), len(self._columns)))

    def __getitem__(self, key):
        return self._columns[key] if isinstance(key, str) else Frame(self._columns, key)


class Table(Frame):
    """As Arrow has it: ``columns`` are arrays without their names."""

    column_names = property(lambda self: list(self._columns))
    columns = property(lambda self: list(self._columns.values()))


def frames():
    found = [pytest.param(Frame(COLUMNS), id="columns"), pytest.param(Table(COLUMNS), id="column_names")]
    for library, make in (("polars", "DataFrame"), ("pyarrow", "table")):
        try:
            module = __import__(library)
        except ImportError:
            continue
        found.append(
            pytest.param(getattr(module, make)({name: list(column) for name, column in COLUMNS.items()}), id=library)
        )
    return found


def quick(**options):
    return LocalMA(random_state=0, progress=False, members=1, shrinkage=1.0, training=Training(steps=20), **options)


@pytest.mark.parametrize("frame", frames())
def test_frames_of_other_libraries_are_read(frame):
    asked = []
    models = [lambda X: asked.append(X) or -x, lambda X: x]
    expected = quick().fit(pd.DataFrame(COLUMNS), y, F=F)
    np.testing.assert_array_equal(
        quick(models=models).fit(frame, y).weights(frame), expected.weights(pd.DataFrame(COLUMNS))
    )
    assert asked[0] is frame  # models get X as it came
    some = quick(features=["x", "word"]).fit(frame, y, F=F)
    other = quick(features=["x", "word"]).fit(pd.DataFrame(COLUMNS), y, F=F)
    np.testing.assert_array_equal(some.weights(frame), other.weights(pd.DataFrame(COLUMNS)))
    numbers = {name: COLUMNS[name] for name in ("x", "flag")}
    if isinstance(frame, Frame):
        plain = type(frame)(numbers)
        np.testing.assert_allclose(
            quick().fit(plain, y, F=F).weights(plain), quick().fit(pd.DataFrame(numbers), y, F=F).weights(plain)
        )
        DirectModel(mlp(2, 1), training=Training(steps=3), random_state=0).fit(plain, y).predict(plain)
    named = type(frame)({"x": x, "down": -x}) if isinstance(frame, Frame) else frame
    models = [("up", len), ("down", len)]
    if isinstance(frame, Frame):
        with pytest.raises(ValueError, match=r"F has the columns \['x', 'down'\], but the models are \['up', 'down'\]"):
            GlobalMA(models).fit(frame, y, F=named)
    with pytest.raises(ValueError, match=r"X has no columns \['x', 'word'\]"):
        some.weights(np.c_[x, x])


def test_numbers_that_are_kept_as_objects():
    plain = pd.DataFrame({"a": x, "b": np.arange(n) % 5, "c": np.where(x > 0, x, np.nan), "d": x > 0})
    odd = pd.DataFrame({"a": [Decimal(repr(float(v))) for v in x], "b": pd.Series(np.arange(n) % 5, dtype=object),
                        "c": [float(v) if v > 0 else None for v in x], "d": pd.array(x > 0, dtype="boolean")})  # fmt: skip
    odd["c"] = odd["c"].astype(object)
    first, second = quick().fit(plain, y, F=F), quick().fit(odd, y, F=F)
    np.testing.assert_array_equal(first.weights(plain), second.weights(odd))
    np.testing.assert_array_equal(quick().fit(plain[["a", "b"]], y, F=F).weights(plain[["a", "b"]]),
                                  quick().fit(odd[["a", "b"]], y, F=F).weights(odd[["a", "b"]]))  # fmt: skip
    for same in (plain, np.c_[x], [[1.0]], pd.Series(x)):
        assert as_frame(same) is same
    with pytest.raises(ValueError, match="neither numbers nor categories"):
        quick().fit(odd.assign(e=[3, "a"] * (n // 2)), y, F=F)


def test_arrow_behind_pandas():
    pa = pytest.importorskip("pyarrow")
    plain = pd.DataFrame({"a": x, "flag": x > 0, "word": word})
    arrow = pd.DataFrame({"a": pd.array([Decimal(f"{v:.6f}") for v in x], pd.ArrowDtype(pa.decimal128(12, 6))),
                          "flag": pd.array(x > 0, pd.ArrowDtype(pa.bool_())),
                          "word": pd.array(word, pd.ArrowDtype(pa.string()))})  # fmt: skip
    for columns in (["a", "flag"], ["a", "flag", "word"]):
        one, other = (quick().fit(X[columns], y, F=F).weights(X[columns]) for X in (plain, arrow))
        np.testing.assert_allclose(one, other, atol=1e-4)


# --- asking -------------------------------------------------------------------------------


def first_column(rows):
    CALLS.append(len(rows))
    return np.asarray(rows)[:, 0].astype(float)


CALLS: list[int] = []


@pytest.mark.parametrize("X", [np.c_[x, x], pd.DataFrame(np.c_[x, x], index=rng.permutation(n)), [[v, v] for v in x]],
                         ids=["array", "frame", "list"])  # fmt: skip
def test_a_few_rows_at_a_time(X):
    CALLS.clear()
    whole = EqualWeights([first_column]).fit(X, x)
    few = EqualWeights([batched(first_column, 50)]).fit(X, x)
    assert CALLS == [120, 50, 50, 20]
    np.testing.assert_array_equal(few.predict(X), whole.predict(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(batched(first_column, 7)))(X), x)
    proba = EqualWeights([batched(lambda rows: np.tile([0.3, 0.7], (len(rows), 1)), 50)], loss="cross_entropy")
    assert proba.fit(X, word).predict_proba(X).shape == (n, 2)


def test_batches_that_cannot_be():
    for wrong in (0, 2.5, True):
        with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1"):
            batched(first_column, wrong)
    with pytest.raises(
        TypeError, match="ask is a DirectModel, which is no function; give its predict or predict_proba"
    ):
        batched(DirectModel(), 3)
    frame = pd.DataFrame({"x": x})
    with pytest.raises(ValueError, match=r"model 'f1' failed on X: .*prediction has the rows of X in another order"):
        EqualWeights([batched(lambda X: X["x"].sort_values(), 50)]).fit(frame, y)
    with pytest.raises(ValueError, match=r"returned predictions of shape \(360,\)"):
        EqualWeights([batched(lambda X: np.ones(3 * len(X)), 50)]).fit(frame, y)


def test_answers_are_kept_by_joblib(tmp_path):
    memory = Memory(tmp_path, verbose=0)
    X, model = np.c_[x], batched(memory.cache(first_column), 50)
    CALLS.clear()
    average = GlobalMA([("service", model), ("zero", lambda X: 0 * X[:, 0])])
    search = GridSearchCV(average, {"loss": ["squared", "absolute"], "level": [False, True]}, cv=2).fit(X, y)
    asked = len(CALLS)
    assert asked <= 2 * 2 * 2 + 3  # each half in two batches, in training and in test, and the whole
    again = search.fit(X, y).predict(X)
    assert len(CALLS) == asked
    np.testing.assert_array_equal(again, GridSearchCV(
        average.set_params(models=[("service", first_column), ("zero", lambda X: 0 * X[:, 0])]),
        {"loss": ["squared", "absolute"], "level": [False, True]}, cv=2).fit(X, y).predict(X))  # fmt: skip
    assert len(CALLS) > asked + 10  # the mutant: without a cache


class Greedy(torch.nn.Module):
    most = 0

    def forward(self, X):
        Greedy.most = max(Greedy.most, len(X))
        return X.flatten(1).sum(1, keepdim=True).squeeze()


def test_modules_are_asked_in_pieces():
    images = rng.normal(size=(2049, 1, 2, 2))
    says = EqualWeights([Greedy()]).fit(images, np.zeros(2049)).predict(images)
    np.testing.assert_allclose(says, images.sum((1, 2, 3)), rtol=1e-4, atol=1e-5)
    assert Greedy.most == 683


def test_an_order_that_only_labels_tell_is_refused():
    def sorts(X):
        return pd.Series(X[:, 0]).sort_values()

    for model in (sorts, lambda X: sorts(X).to_frame()):
        with pytest.raises(
            ValueError, match=r"model 'f1' failed on X: .*prediction has the rows of X in another order"
        ):
            EqualWeights([model]).fit(np.c_[x], y)
        with pytest.raises(ValueError, match="prediction has the rows of X in another order"):
            EqualWeights([model]).fit(np.c_[x], y, F=np.c_[x]).predict(np.c_[x])
    kept = EqualWeights([lambda X: sorts(X).sort_index()]).fit(np.c_[x], y)
    np.testing.assert_array_equal(kept.predict(np.c_[x]), x)
    subset = pd.DataFrame(
        {"x": x}, index=rng.permutation(1000)[:n]
    )  # labels that are no row numbers say nothing of arrays
    np.testing.assert_array_equal(
        EqualWeights([lambda X: pd.Series(subset["x"])]).fit(np.c_[x], y).predict(np.c_[x]), x
    )


# --- exposure and several responses ----------------------------------------------------------


def claims():
    rng = np.random.default_rng(3)
    X = pd.DataFrame({"const": 1.0, "age": rng.normal(size=2000), "exposure": rng.uniform(0.1, 3, 2000)})
    X["rate"] = np.exp(0.3 + 0.5 * X["age"])
    return X, rng.poisson(X["exposure"] * X["rate"])


def test_a_result_with_an_exposure_says_the_rate_and_is_refused():
    X, count = claims()
    read = ["const", "age"]
    fitted = sm.GLM(count, X[read], family=sm.families.Poisson(), exposure=X["exposure"]).fit()
    shifted = sm.Poisson(count, X[read], offset=np.log(X["exposure"])).fit(disp=0)
    for model, what in ((fitted, "exposure"), (fitted.predict, "exposure"), (shifted, "offset")):
        with pytest.raises(ValueError, match=rf"model 'glm' was fitted with {what}=.*result\.predict\(X, {what}=X"):
            GlobalMA([("glm", model)], loss="poisson").fit(X[read], count)
    GlobalMA([("glm", fitted)], loss="poisson").fit(X[read], count, F=fitted.fittedvalues.to_frame("glm"))
    plain = sm.GLM(count, X[read], family=sm.families.Poisson()).fit()
    models = [
        ("glm", lambda X: fitted.predict(X[read], exposure=X["exposure"])),
        ("flat", lambda X: 1.3 * X["exposure"]),
    ]
    average = GlobalMA(models, loss="poisson").fit(X, count)
    loss, mean = LOSSES["poisson"], np.full(2000, count.mean())
    D2 = 1 - loss(count, fitted.fittedvalues).mean() / loss(count, mean).mean()
    assert average.score(X, count) == pytest.approx(D2, abs=0.005)
    by_rate = GlobalMA([plain], loss="poisson").fit(X[read], count)
    assert by_rate.score(X[read], count) < D2 - 0.2  # the mutant: without exposures


def test_rates_weighted_by_exposure_are_counts():
    """deviance(y, e r) = e deviance(y / e, r), and an average of e r_m is e times that of the r_m."""
    X, _ = claims()
    e = np.where(X["age"] > 0, 9, 1) * X["exposure"].to_numpy()  # where the models' errors are others
    count = rng.poisson(e * X["rate"])
    rates = np.c_[1.5 * np.sqrt(X["rate"]), np.full(2000, 1.3), X["rate"] ** 2]
    loss = LOSSES["poisson"]
    np.testing.assert_allclose(loss(count, e * rates[:, 0]), e * loss(count / e, rates[:, 0]), atol=1e-9)
    counts = GlobalMA(loss="poisson").fit(X, count, F=e[:, None] * rates)
    weighted = GlobalMA(loss="poisson").fit(X, count / e, F=rates, sample_weight=e)
    np.testing.assert_allclose(counts.weights_, weighted.weights_, atol=1e-6)
    assert np.abs(counts.weights_ - GlobalMA(loss="poisson").fit(X, count / e, F=rates).weights_).max() > 0.01


def test_several_responses():
    X, Y = np.c_[x, x**2], np.c_[x, y]
    models = [lambda X: X[:, 0], lambda X: -X[:, 0]]
    with pytest.raises(
        ValueError, match=r"y has 2 columns, but an average is of one response\. .*MultiOutputRegressor"
    ):
        GlobalMA(models).fit(X, Y)
    together = MultiOutputRegressor(GlobalMA(models)).fit(X, Y)
    np.testing.assert_allclose(together.predict(X)[:, 1], GlobalMA(models).fit(X, y).predict(X))
    # weights that both share: those with the smallest sum of both losses
    F2 = rng.normal(size=(n, 2, 3))  # (n, q, M)
    shared = GlobalMA().fit(np.repeat(X, 2, 0), Y.ravel(), F=F2.reshape(2 * n, 3)).weights_

    def total(w):
        return np.square(F2 @ w - Y).sum()

    others = rng.dirichlet(np.ones(3), 500)
    assert all(total(shared) <= total(w) for w in others)
    assert list(EqualWeights().fit(X, y[:, None].ravel(), F=F).weights_) == [0.5, 0.5]
