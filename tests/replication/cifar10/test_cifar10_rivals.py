"""What the companies' answers give: Bayes' formula, the pools, and the table."""

import numpy as np
import pytest

from localma.datasets.cifar10 import load_cifar10
from localma.losses import LOSSES
from localma.replication import cifar10
from localma.replication.cifar10 import direct, rivals
from localma.replication.lab.rivals import LEARNERS


@pytest.fixture(autouse=True)
def one_setting_of_each_learner(monkeypatch):
    monkeypatch.setitem(LEARNERS["linear", "cross_entropy"][1], "C", [0.1])
    monkeypatch.setitem(LEARNERS["boosting", "cross_entropy"][1], "max_iter", [2])


def test_prior_correction_is_bayes_formula():
    """Companies that know the truth up to the shares of their classes agree once these are divided out."""
    rng = np.random.default_rng(0)
    likelihood, shares = rng.random((50, 1, 4)), rng.dirichlet(np.ones(4), 3)
    F = likelihood * shares
    F /= F.sum(-1, keepdims=True)
    truth = likelihood[:, 0] / likelihood[:, 0].sum(-1, keepdims=True)
    for p in rivals.unlearned(F, shares).items():
        assert (p[1].argmax(1) == truth.argmax(1)).all() or "corrected" not in p[0]
    np.testing.assert_allclose(cifar10.correct_priors(F, shares), np.broadcast_to(truth[:, None], F.shape))
    np.testing.assert_allclose(cifar10.geometric(cifar10.correct_priors(F, shares)), truth)
    assert abs(F.mean(1) - truth).max() > 0.1


def test_class_shares_are_of_the_images_that_trained_the_companies():
    labels = np.repeat(np.arange(10), 5000)
    shares = cifar10.class_shares(labels)
    np.testing.assert_allclose(shares.sum(1), 1)
    for company, own in zip(shares, cifar10.OWN.values(), strict=True):
        np.testing.assert_allclose(company[list(own)], 5000 / 20_050)
        assert 0 < np.delete(company, own).min() <= 50 / 20_050 / 6


def test_every_rival_answers_with_probabilities_and_a_lacking_class_costs_no_error():
    F, y, F_test, y_test, shares = rivals._said()
    rows = np.random.default_rng(0).permutation(np.flatnonzero(y != 3))[:150]
    answer = rivals.learned(F[rows], y[rows], F_test[:200], shares, seed=0) | rivals.unlearned(F_test[:200], shares)
    for p in answer.values():
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
        assert np.isfinite(LOSSES["cross_entropy"](y_test[:200], p)).all()
    perfect = rivals.judged({"sure": np.eye(10)[y_test[:200]]}, y_test[:200])
    assert perfect == pytest.approx({"sure.accuracy": 100, "sure.log loss": 0})


def test_the_table_says_what_needs_no_sample(monkeypatch):
    monkeypatch.setattr(rivals, "SIZES", (150,))
    table = cifar10.Rivals.run(repetitions=2)
    methods = table.groupby("n")["method"].unique()
    assert set(methods[0]) == {"EWMA", "EWMA, corrected", "geometric", "geometric, corrected"}
    assert {"GW", "stacking", "LocalMA, answers", "boosting"} < set(methods[150])
    assert set(table.query("method == 'boosting'")["replications"]) == {1}
    F, y = cifar10.load_predictions()
    equal = table.query("method == 'EWMA' and metric == 'accuracy'")["mean"].item()
    assert equal == pytest.approx(100 * np.mean(F.mean(1).argmax(1) == y))


def test_a_last_layer_learns_what_no_company_knows(monkeypatch):
    """Companies that guess, features that tell: only what reads the features is right."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(np.arange(10), 50))
    x = (np.eye(10)[y] + 0.2 * rng.normal(size=(500, 10))).astype(np.float32)
    F = rng.dirichlet(np.ones(10), size=(500, 4))
    monkeypatch.setattr(rivals, "SIZES", (150,))
    monkeypatch.setattr(direct, "_known", lambda: ((x, F, y), (x[:200], F[:200], y[:200]), "none"))
    table = cifar10.Direct.run().query("metric == 'accuracy'").set_index("method")["mean"]
    assert table["last layer"] > 90
    assert table["last layer, answers"] > 80
    assert table["LocalMA, last layer"] > 80


def test_stored_answers_to_other_images_are_refused(monkeypatch):
    data = load_cifar10(synthetic=True)
    monkeypatch.setattr(direct, "load_cifar10", lambda: data)
    monkeypatch.setattr(direct, "choose_family", lambda: "tflite")
    with pytest.raises(ValueError, match="run cifar10 with them first"):
        direct._known.__wrapped__()
