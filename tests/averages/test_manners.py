"""Small things that a user meets: progress bars, a missing extra, uncertainty, one row explained, rows that count twice."""

import logging
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tqdm.std import tqdm as plain

import localma
from localma import DirectModel, EqualWeights, LocalMA, Training, load, relatives
from localma.averages import Explanation
from localma.progress import progress_bar

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 2)) @ [[1.0, 0.9], [0.0, 0.3]]  # two columns that go together
F = np.c_[X[:, 0], -X[:, 0], X[:, 1]]
y = np.where(X[:, 1] > 0, F[:, 0], F[:, 1])
P = rng.dirichlet(np.ones(2), (80, 3))
LABELS = np.array(["no", "yes"])[(y > 0).astype(int)]


def fast(**options):
    return LocalMA(**({"random_state": 0, "training": Training(steps=20), "shrinkage": None} | options))


# --- bars and extras -------------------------------------------------------------------


def test_progress_is_hidden_by_the_argument_and_by_the_environment(monkeypatch, capsys):
    def lines(shown):
        with progress_bar("A fit", shown, total=3, mininterval=0, miniters=1) as bar:
            assert bar.disable or bar.delay == 5
            bar.delay = 0
            bar.update(1)
        return capsys.readouterr().err

    assert "A fit" in lines(True)
    assert lines(False) == ""
    with monkeypatch.context() as quiet:
        quiet.setattr(logging.getLogger("localma"), "level", logging.ERROR)
        logging.getLogger("localma").manager._clear_cache()
        assert lines(True) == ""
    logging.getLogger("localma").manager._clear_cache()
    assert "A fit" in lines(True)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    program = "from localma.progress import progress_bar; print(progress_bar('A fit', True).disable)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
    assert issubclass(type(progress_bar("A fit", False)), plain)


@pytest.mark.parametrize("estimator", [LocalMA(loss="nonsense"), DirectModel(loss="nonsense"), EqualWeights(loss=3)])
def test_a_wrong_loss_is_told_by_fit_and_not_by_a_description(estimator):
    assert "loss=" in repr(estimator)
    estimator._repr_html_()
    assert not hasattr(estimator, "predict_proba")
    with pytest.raises((ValueError, TypeError), match="loss"):
        estimator.fit(X, y)


# --- uncertainty of predictions ------------------------------------------------------------


def test_standard_deviations_of_predictions_are_those_of_the_resampled_averages():
    average = fast(bootstrap=4).fit(X, y, F=F)
    mean, std = average.predict(X, F=F, return_std=True)
    np.testing.assert_array_equal(mean, average.predict(X, F=F))
    each = (average._over_bootstrap(X) * F).sum(2)
    np.testing.assert_allclose(std, each.std(0, ddof=1), rtol=1e-9, atol=1e-14)
    assert (std > 0).all()
    np.testing.assert_array_equal(average.predict(X, F[:, [0, 0, 0]], return_std=True)[1].round(12), 0)
    one = fast().fit(X, y, F=F[:, :1])
    np.testing.assert_array_equal(one.predict(X, F=F[:, :1], return_std=True)[1], 0)


def test_standard_deviations_need_a_bootstrap_and_a_mean():
    with pytest.raises(NotFittedError):
        fast(bootstrap=2).predict(X, F=F, return_std=True)
    with pytest.raises(ValueError, match=r"bootstrap=50"):
        fast().fit(X, y, F=F).predict(X, F=F, return_std=True)
    classes = fast(loss="cross_entropy", bootstrap=2).fit(X, LABELS, F=P)
    with pytest.raises(ValueError, match=r"for means, not for labels; weights\(X, return_std=True\)"):
        classes.predict(X, F=P, return_std=True)
    assert classes.weights(X, return_std=True)[1].shape == (80, 3)


# --- one row -----------------------------------------------------------------------------


def test_an_explanation_says_what_the_average_says(tmp_path):
    names = ["up", "down", "other"]
    models = [(name, lambda X, m=m: np.c_[X[:, 0], -X[:, 0], X[:, 1]][:, m]) for m, name in enumerate(names)]
    average = fast(models=models).fit(X, y)
    found = average.explain(X[7])
    assert isinstance(found, Explanation)
    assert list(found.table.index) == [*names, "average"]
    np.testing.assert_array_equal(found.table["weight"][:3], average.weights(X[7:8])[0])
    np.testing.assert_array_equal(found.table["prediction"], [*F[7], average.predict(X[7:8])[0]])
    average.save(tmp_path / "average")
    for again in (
        average.explain(X[7:8]),
        average.explain(list(X[7])),
        load(tmp_path / "average", models).explain(X[7]),
    ):
        pd.testing.assert_frame_equal(again.table, found.table)
        assert again[1:] == found[1:]
    assert "farther than" in repr(found) == str(found)
    assert "<table" in found._repr_html_()
    with pytest.raises(ValueError, match=r"x has 80 rows.*X\[:1\]"):
        average.explain(X)


def test_an_explanation_of_classes_has_a_column_for_each():
    average = EqualWeights(loss="cross_entropy").fit(X, LABELS, F=P)
    found = average.explain(X[:1], F=P[:1])
    assert list(found.table.columns) == ["weight", "no", "yes"]
    np.testing.assert_allclose(found.table.loc["average", ["no", "yes"]].astype(float), P[0].mean(0))
    assert found.distance is found.farther is None
    assert "not measured" in repr(found)


def test_a_row_of_a_frame_with_words():
    frame = pd.DataFrame({"x": X[:, 0], "word": LABELS})
    average = fast(models=[lambda X: X["x"], lambda X: -X["x"]]).fit(frame, y)
    pd.testing.assert_frame_equal(average.explain(frame.iloc[3]).table, average.explain(frame.iloc[[3]]).table)
    usual, new = average.explain(frame.iloc[3]), average.explain(frame.iloc[[3]].assign(word="never seen"))
    assert new.farther == 1 > usual.farther


def test_distance_from_the_sample():
    average = fast().fit(X, y, F=F)
    found = [average.explain(x, F=F[:1]) for x in X]
    ranks = np.argsort(np.argsort([one.distance for one in found])) / 79
    np.testing.assert_allclose([one.farther for one in found], ranks, atol=0.02)
    assert np.median([one.distance for one in found]) == pytest.approx(1, abs=0.02)
    sd = X.std(0)
    together, apart = (average.explain(sd * sign, F=F[:1]) for sign in ([1, 1], [1, -1]))
    assert together.farther < 0.9  # each column is one standard deviation from its mean in both
    assert apart.farther == 1
    other = fast().fit(X * [1000, 1] + [5, 0], y, F=F)  # units do not count
    assert other.explain(X[3] * [1000, 1] + [5, 0], F=F[3:4]).distance == pytest.approx(found[3].distance)
    images = EqualWeights().fit(X.reshape(80, 1, 2), y, F=F)
    assert images.explain(X[:1].reshape(1, 1, 2), F=F[:1]).distance is None
    wide = fast().fit(rng.normal(size=(80, 101)), y, F=F)
    assert wide.sample_ is None
    alone = fast().fit(X[:1], y[:1], F=F[:1])
    assert alone.explain(X[0], F=F[:1]).distance is None
    still = fast().fit(np.zeros((80, 1)), y, F=F)
    assert still.explain([0.0], F=F[:1]).distance == 0
    assert localma.averages.Explanation is Explanation


# --- weights of rows ------------------------------------------------------------------------

TIMES = np.arange(80) % 3  # a row not at all, once, twice
TWICE = np.repeat(np.arange(80), TIMES)


@pytest.mark.parametrize("kind", [EqualWeights, LocalMA, relatives.RightProbability])
@pytest.mark.parametrize(
    ("loss", "target", "given"), [("squared", y, F), ("poisson", abs(y), abs(F)), ("cross_entropy", LABELS, P)]
)
def test_a_row_of_weight_two_scores_as_two_rows(kind, loss, target, given):
    average = (fast if kind is LocalMA else kind)(loss=loss).fit(X, target, F=given)
    weighted = average.score(X, target, F=given, sample_weight=TIMES)
    assert weighted == pytest.approx(average.score(X[TWICE], target[TWICE], F=given[TWICE]), rel=1e-12)
    if kind is EqualWeights:  # which is no perfect average, so that rows differ
        assert weighted != average.score(X, target, F=given)


def body(outputs=1):
    torch.manual_seed(0)
    return torch.nn.Linear(2, outputs)


@pytest.mark.parametrize(
    ("learner", "loss", "target"),
    [
        (LinearRegression(), "squared", y),
        (LogisticRegression(), "cross_entropy", LABELS),
        (body(), "squared", y),
        (body(), "poisson", np.round(abs(y))),
        (body(2), "cross_entropy", LABELS),
    ],
)
def test_a_row_of_weight_two_trains_as_two_rows(learner, loss, target):
    module = isinstance(learner, torch.nn.Module)
    training = Training(steps=60, batch_size=1000, learning_rate=0.05, penalty=0.0, dtype="float64") if module else None
    direct = DirectModel(learner, loss=loss, training=training, random_state=0)
    Z, weight = X, TIMES
    if module:  # which standardises X without weights: columns of -1 and 1 in pairs have mean 0 and scale 1 in any case
        Z, weight = np.r_[np.sign(X[:40]), -np.sign(X[:40])], np.tile(TIMES[:40] + 1, 2)
    rows = np.repeat(np.arange(80), weight)
    say = direct.predict_proba if loss == "cross_entropy" else direct.predict
    direct.fit(Z, target, sample_weight=weight)
    weighted = say(Z)
    direct.fit(Z[rows], target[rows])
    np.testing.assert_allclose(weighted, say(Z), rtol=1e-6)
    direct.fit(Z, target)
    assert not np.allclose(weighted, say(Z), rtol=1e-3)


def test_weights_that_cannot_be():
    average, direct = EqualWeights().fit(X, y, F=F), DirectModel(LinearRegression()).fit(X, y)
    for call in (
        lambda weight: average.score(X, y, F=F, sample_weight=weight),
        lambda weight: direct.score(X, y, sample_weight=weight),
        lambda weight: direct.fit(X, y, sample_weight=weight),
    ):
        for weight, message in ((np.ones(79), "sample_weight"), (-TIMES, "[Nn]egative"), (np.full(80, np.nan), "NaN"),
                                (np.zeros(80), "non-zero")):  # fmt: skip
            with pytest.raises(ValueError, match=message):
                call(weight)


def test_a_pipeline_scores_under_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        models = [lambda X: X[:, 0], lambda X: -X[:, 0]]
        average = EqualWeights(models).set_score_request(sample_weight=True)
        steps = make_pipeline(FunctionTransformer(), average).fit(X, y)
        assert np.isfinite(steps.score(X, y))
        assert steps.score(X, y, sample_weight=TIMES) == steps[-1].score(X, y, sample_weight=TIMES)
        direct = (
            DirectModel(LinearRegression()).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        )
        found = cross_validate(direct, X, y, params={"sample_weight": TIMES + 1.0}, cv=2)
        assert np.isfinite(found["test_score"]).all()
