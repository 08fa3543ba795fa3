"""The digits experiment: what it promises about its cuts, its companies and its stack."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from localma import BestModel, EqualWeights, GlobalMA, LocalMA
from localma.replication import digits


@pytest.fixture(scope="module")
def data():
    return digits.repeat(3, seed=5)


@pytest.fixture(scope="module")
def found(data):
    """Its table and weights for 80 images."""
    return digits.compare_methods(data, sizes=(80,), seed=5)


def test_parts_do_not_overlap_and_differ_between_seeds():
    parts = digits.split(0)
    assert [len(part) for part in parts] == [600, 600, 597]
    assert len(np.unique(np.concatenate(parts))) == 1797 == len(load_digits().target)
    assert not np.array_equal(parts[0], digits.split(1)[0])


@pytest.mark.parametrize("others", [1, 3])
def test_companies_know_all_classes_and_few_foreign_images(others, monkeypatch):
    X, y = load_digits(return_X_y=True)
    seen = []
    fit = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda self, X, y: (seen.append(y), fit(self, X, y))[1])
    models = digits.train_companies(X[:600] / 16, y[:600], others=others)
    assert [name for name, _ in models] == list(digits.OWN)
    for (_, model), labels, own in zip(models, seen, digits.OWN.values(), strict=True):
        assert list(model.classes_) == list(range(10))
        assert [np.sum(labels == k) for k in range(10)] == [
            np.sum(y[:600] == k) if k in own else others for k in range(10)
        ]


def test_stack_equals_estimators_alone(data, found):
    table, weights = found
    for r in range(3):
        alone = LocalMA(loss="cross_entropy", shrinkage=None, random_state=5 + r).fit(
            data.X[r, :80], data.y[r, :80], F=data.F[r, :80]
        )
        # rounding in single precision grows over a hundred steps; another replication's weights are far away
        np.testing.assert_allclose(weights[80][r], alone.weights(data.X_test[r]), atol=1e-3)
        assert np.abs(weights[80][(r + 1) % 3] - alone.weights(data.X_test[(r + 1) % 3])).max() > 0.1
        accuracy = np.mean(alone.predict(data.X_test[r], F=data.F_test[r]) == data.y_test[r])
        assert table.query("method == 'LocalMA' and repetition == @r").accuracy.item() == pytest.approx(
            accuracy, abs=0.002
        )


def test_other_methods_equal_their_estimators(data, found):
    first = found[0].query("repetition == 0").set_index("method").accuracy
    for method, kind in {"GW": GlobalMA, "EWMA": EqualWeights, "BestModel": BestModel}.items():
        alone = kind(loss="cross_entropy").fit(data.X[0, :80], data.y[0, :80], F=data.F[0, :80])
        accuracy = np.mean(alone.predict(data.X_test[0], F=data.F_test[0]) == data.y_test[0])
        assert first[method] == pytest.approx(accuracy, abs=0.002)


def test_weights_that_read_answers_and_stacking_equal_their_estimators(data, found):
    first = found[0].query("repetition == 0").set_index("method").accuracy
    said, said_test = digits.answers(data.F[0]), digits.answers(data.F_test[0])
    assert said[3, 10:20] == pytest.approx(np.log(np.maximum(data.F[0, 3, 1], 1e-6)))
    y, F = data.y[0, :80], data.F[0, :80]
    alone = LocalMA(loss="cross_entropy", shrinkage=None, random_state=5).fit(said[:80], y, F=F)
    right = np.mean(alone.predict(said_test, F=data.F_test[0]) == data.y_test[0])
    assert first["LocalMA, answers"] == pytest.approx(right, abs=0.002)
    both, both_test = np.hstack([said, data.X[0]]), np.hstack([said_test, data.X_test[0]])
    for method, x, x_test in (("Stacking", said, said_test), ("Stacking, pixels", both, both_test)):
        fit = LogisticRegression(max_iter=1000).fit(x[:80], y)
        assert first[method] == pytest.approx(fit.score(x_test, data.y_test[0]), abs=0.004)


def test_verdicts_are_paired(data):
    table, _ = digits.compare_methods(data, sizes=(25, 80), seed=5)
    verdict = digits.verdicts(table)
    wide = table.query("n == 80").pivot_table(index="repetition", columns="method", values="accuracy")
    gain = wide["LocalMA"] - wide["EWMA"]
    assert verdict.difference[80, "EWMA"] == pytest.approx(gain.mean())
    assert verdict.mcse[80, "EWMA"] == pytest.approx(gain.sem())
    assert set(verdict.verdict) <= {"LocalMA better", "LocalMA worse", "cannot tell"}
    assert len(verdict) == 2 * (len(digits.METHODS) - 1)
