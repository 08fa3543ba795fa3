"""The audit on problems with one designed fault each: its own row raises the alarm, and on problems without a fault no
row does.

Draws per case are few, so that the tests stay quick; each says what a chance failure would take.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.tree import DecisionTreeRegressor

from localma import EqualWeights, GlobalMA, LocalMA, Mlp, Training
from localma.plots import plot_audit
from localma.theory import Audit, audit
from localma.theory.measures import THRESHOLDS
from localma.theory.sample import sample

MODELS = [("sum", lambda X: X[:, 0] + X[:, 1]), ("wave", lambda X: 2 * np.sin(X[:, 1])), ("minus", lambda X: -X[:, 0])]
ROWS = {
    "separation", "shared rows",
    "limits", "extrapolation", "frozen", "tails", "steepness", "smoothness", "models in use", "size", "reach", "gap", "drift", "order",
    "pays", "identification",
}  # fmt: skip
DRAWS = 4


def predictions(X):
    return np.stack([f(X) for _, f in MODELS], -1)


def world(n, rng, noise=None, d=2, shift=0.0):
    """A smooth mixture of the models and noise of variance one: nothing to complain about."""
    X = rng.normal(size=(n, d)) + shift
    z = np.c_[1.5 * X[:, 0], 1.5 * X[:, 1], np.zeros(n)]
    w = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return X, (w * predictions(X)).sum(1) + (rng.normal(size=n) if noise is None else noise(n))


def fitted(train, seed=0, models=MODELS, **options):
    return LocalMA(models, shrinkage=None, progress=False, random_state=seed, **options).fit(*train)


def alarms(case):
    """How many of DRAWS audits raise each alarm."""
    found = [name for seed in range(DRAWS) for name in case(np.random.default_rng(seed), seed).alarms]
    return {name: found.count(name) for name in set(found)}


# --- without a fault ------------------------------------------------------------


def test_a_healthy_problem_raises_no_alarm():
    """Three rows are tests with false-alarm probability 0.001, four draws: an alarm by chance in one of eighty
    suites.
    """

    def healthy(rng, seed):
        train = world(1000, rng)
        return audit(fitted(train, seed), *world(1000, rng), train=train, sizes=[5000] * 3)

    assert alarms(healthy) == {}
    found = healthy(np.random.default_rng(100), 0)
    assert set(found.table.index) == ROWS
    assert found.table.loc["reach", "verdict"] == "cannot tell", "the mean lies in the hull"
    assert found.table.loc["identification", "verdict"] == "cannot tell", "three models, one response: segments"
    assert set(found.table.drop(index=["reach", "identification"])["verdict"]) == {"looks fine"}


def test_healthy_probabilities_and_counts_raise_no_alarm():
    """Calibrated models: an outcome below the limit has probability 0.01 in each draw."""

    def classes(rng, seed):
        X = rng.normal(size=(1500, 2))
        z = 2 * np.stack([X @ [1.0, 0.5], X @ [-0.5, 1.0], 0 * X[:, 0]], -1)
        F = np.stack([np.exp(z), np.exp(z[:, ::-1])], 1)
        F /= F.sum(-1, keepdims=True)
        share = 1 / (1 + np.exp(-X[:, :1]))
        y = ((share * F[:, 0] + (1 - share) * F[:, 1]).cumsum(1) < rng.uniform(size=(1500, 1))).sum(1)
        average = LocalMA(loss="cross_entropy", shrinkage=None, progress=False, random_state=seed).fit(
            X[:1000], y[:1000], F=F[:1000]
        )
        return audit(average, X[1000:], y[1000:], F=F[1000:], train=(X[:1000], y[:1000], F[:1000]))

    def counts(rng, seed):
        X = rng.normal(size=(600, 2))
        F = np.exp(np.c_[0.7 * X[:, 0], 1 - 0.5 * X[:, 0]])
        y = rng.poisson(F @ [0.8, 0.2])
        average = GlobalMA(loss="poisson").fit(X[:300], y[:300], F=F[:300])
        return audit(average, X[300:], y[300:], F=F[300:], train=(X[:300], y[:300], F[:300]))

    assert alarms(classes) == {}
    assert alarms(counts) == {}
    assert "near zero" in classes(np.random.default_rng(9), 0).table.index


def test_false_alarms_of_the_tests_keep_their_probability():
    """At 0.001 each: an alarm in these 100 tests would be one set of seeds in ten, and the seeds are fixed; at 0.02, six in seven.

    For reach in its hardest case, the mean at an end of the hull everywhere.
    """
    count = dict.fromkeys(("drift", "order", "frozen", "reach"), 0)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        (X, _), (new, _) = world(60, rng), world(60, rng)
        y, y_new = (predictions(x).max(1) + rng.normal(size=60) for x in (X, new))
        found = audit(EqualWeights(MODELS).fit(X, y), new, y_new, train=(X, y))
        for name in count:
            count[name] += name in found.alarms
        count["reach"] += found.table.loc["reach", "verdict"] == "looks fine"
    assert sum(count.values()) == 0, count


def test_networks_that_are_averaged_count_once():
    rng = np.random.default_rng(7)
    train, new = world(300, rng), world(300, rng)
    values = [
        audit(
            LocalMA(MODELS, shrinkage=0.01, members=k, training=Training(steps=5), random_state=0).fit(*train),
            *new,
            train=train,
        ).table.loc["size", "value"]
        for k in (1, 3)
    ]
    assert values[0].startswith("S ")
    assert values[0] == values[1]


# --- one fault each ------------------------------------------------------------


def heavy_tails(rng, seed):
    train = world(600, rng, lambda n: rng.standard_t(1.5, n))
    return audit(fitted(train, seed), *world(600, rng, lambda n: rng.standard_t(1.5, n)))


def small_models(rng, seed):
    train = world(300, rng)
    return audit(GlobalMA(MODELS).fit(*train), *world(300, rng), train=train, sizes=[100, 5000, 5000])


def explosion(rng, seed):
    train = world(300, rng)
    wild = [*MODELS, ("seventh power", lambda X: X[:, 0] ** 7)]
    return audit(GlobalMA(wild).fit(*train), *world(300, rng))


def leak(rng, seed):
    (X, y), (new, y_new) = world(300, rng), world(300, rng)
    F, F_new = (np.c_[predictions(x), np.sin(x[:, 0])] for x in (X, new))
    F[:, 3] = y
    return audit(GlobalMA().fit(X, y, F=F), new, y_new, F=F_new, train=(X, y, F))


def steep(rng, seed):
    X = rng.normal(size=(600, 1))
    F = np.c_[np.full(600, 2.0), np.where(rng.uniform(size=600) < 0.005, 1e-4, 1.0)]
    y = rng.gamma(3, 0.5, 600)
    return audit(EqualWeights(loss="gamma").fit(X, y, F=F * [0.001, 1]), X, y, F=F * [0.001, 1])


def overconfident(rng, seed):
    X = rng.normal(size=(300, 1))
    sure = np.where(X > 0, 1 - 1e-7, 1e-7)
    F = np.stack([np.c_[sure, 1 - sure]] * 2, 1)
    y = (rng.uniform(size=300) < np.where(X[:, 0] > 0, 0.1, 0.9)).astype(int)
    F[:, 1] = 0.999 * F[:, 0] + 0.001 * F[:, 0] ** 2 / (F[:, 0] ** 2).sum(1, keepdims=True)
    return audit(EqualWeights(loss="cross_entropy").fit(X, y, F=F), X, y, F=F)


def impossible_counts(rng, seed):
    X = rng.normal(size=(300, 1))
    F = np.where(X > 1, 1e-7, 2.0) * [1, 1.5]
    y = rng.poisson(2.0, 300)
    return audit(EqualWeights(loss="poisson").fit(X, y, F=F), X, y, F=F)


def unseen_between(rng, seed):
    train = world(200, rng, d=20)
    return audit(fitted(train, seed, training=Training(penalty=0.0, steps=1000)), *world(200, rng, d=20))


def cliff(rng, seed):
    def switch(n):
        X = rng.normal(size=(n, 2))
        return X, np.where(X[:, 0] > 0, 5.0, -5.0) + 0.1 * rng.normal(size=n)

    pair = [("up", lambda X: np.full(len(X), 5.0)), ("down", lambda X: np.full(len(X), -5.0))]
    return audit(fitted(switch(800), seed, pair), *switch(800))


def too_few(rng, seed):
    train = world(50, rng)
    return audit(fitted(train, seed), *world(50, rng), train=train)


def overfit(rng, seed):
    train = world(80, rng, d=10)
    return audit(
        fitted(train, seed, training=Training(penalty=0.0, steps=1000), network=Mlp(32)),
        *world(1000, rng, d=10),
        train=train,
    )


def elsewhere(rng, seed):
    train = world(300, rng)
    return audit(GlobalMA(MODELS).fit(*train), *world(300, rng, shift=0.5), train=train)


def in_time(rng, seed):
    def wave(n):
        return np.convolve(rng.normal(size=n + 4), np.full(5, 0.5), "valid")

    return audit(GlobalMA(MODELS).fit(*world(300, rng)), *world(300, rng, wave))


def twins(rng, seed):
    train = world(300, rng)
    return audit(GlobalMA([*MODELS, ("minus again", lambda X: -X[:, 0] - 0.01)]).fit(*train), *world(300, rng))


def towards_the_median(rng, seed):
    train = world(300, rng)
    return audit(EqualWeights(MODELS, loss=lambda y, a: (y - a).abs()).fit(*train), *world(300, rng), train=train)


def seen_before(rng, seed):
    X, y = world(300, rng)
    order = rng.permutation(300)
    return audit(GlobalMA(MODELS).fit(X, y), X[order], y[order], train=(X, y))


def same_margins(rng, seed):
    """Each covariate is as before, but they go together now."""
    X, Z = rng.normal(size=(600, 2)), rng.normal(size=(600, 1)) * [1, 1]
    noise = rng.normal(size=(2, 600))
    train, new = ((x, predictions(x).mean(1) + e) for x, e in zip((X, 0.9 * Z + 0.19**0.5 * X), noise, strict=True))
    return audit(GlobalMA(MODELS).fit(*train), *new, train=train)


def twelve_jumps(rng, seed):
    X, y = rng.uniform(size=(1000, 1)), rng.normal(size=1000)
    average = EqualWeights([lambda X: X[:, 0], lambda X: 1 - X[:, 0]]).fit(X, y)
    jumps = (13 * X[:, 0]).astype(int) % 2
    average._weights = lambda X: np.c_[jumps, 1 - jumps]
    return audit(average, X, y)


FAULTS = {
    towards_the_median: "separation",
    seen_before: "shared rows",
    same_margins: "drift",
    twelve_jumps: "smoothness",
    heavy_tails: "tails",
    small_models: "limits",
    explosion: "extrapolation",
    leak: "frozen",
    steep: "steepness",
    overconfident: "near zero",
    impossible_counts: "near zero",
    unseen_between: "smoothness",
    cliff: "models in use",
    too_few: "size",
    overfit: "gap",
    elsewhere: "drift",
    in_time: "order",
    twins: "identification",
}


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.__name__)
def test_a_fault_raises_its_own_alarm(case):
    """In every draw: an alarm that is missed once in a hundred fails this test for one of twenty-five sets of seeds;
    the seeds are fixed.
    """
    assert alarms(case)[FAULTS[case]] == DRAWS


def test_a_mean_beyond_the_models_is_seen_and_one_within_is_not():
    def shifted(rng, seed, by):
        X, y = world(600, rng)
        return audit(GlobalMA(MODELS).fit(X[:300], y[:300]), X[300:], y[300:] + by).table.loc["reach", "verdict"]

    found = {by: [shifted(np.random.default_rng(seed), seed, by) for seed in range(DRAWS)] for by in (0.0, 3.0, -3.0)}
    assert found[0.0] == ["cannot tell"] * DRAWS
    assert found[3.0] == found[-3.0] == ["looks fine"] * DRAWS


def test_local_weights_that_do_not_pay_are_named_and_those_that_do_are_praised():
    def verdict(train, new, **options):
        return audit(fitted(train, **options), *new, train=train).table.loc["pays", "verdict"]

    rng = np.random.default_rng(0)
    assert verdict(world(1000, rng), world(1000, rng)) == "looks fine"

    def constant(n):
        X = rng.normal(size=(n, 10))
        return X, predictions(X).mean(1) + rng.normal(size=n)

    assert verdict(constant(60), constant(2000), training=Training(penalty=0.0, steps=1000)) == "in danger"


def test_rows_of_one_group_are_one_witness():
    """Thirty groups whose rows are nearly the same: as single rows they drift and have an order, as groups not."""

    def grouped(rng, n=300):
        g = np.repeat(np.arange(30), n // 30)
        X = rng.normal(size=(30, 2))[g] + 0.01 * rng.normal(size=(n, 2))
        return X, predictions(X).mean(1) + rng.normal(size=30)[g] + 0.1 * rng.normal(size=n), g

    rng = np.random.default_rng(1)
    (X, y, g), (new, y_new, g_new) = grouped(rng), grouped(rng)
    average, F = EqualWeights(MODELS).fit(X, y), None
    assert {"drift", "order"} <= set(audit(average, new, y_new, train=(X, y)).alarms)
    found = audit(average, new, y_new, train=(X, y, F, g), groups=g_new)
    assert not {"drift", "order", "frozen"} & set(found.alarms)


def test_a_heavy_tail_that_has_an_index_is_no_violation():
    verdicts = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        noise = [rng.weibull(0.5, 600) * rng.choice([-1, 1], 600) for _ in range(2)]
        (X, y), (new, y_new) = (world(600, rng, lambda n, e=e: e) for e in noise)
        verdicts.append(audit(EqualWeights(MODELS).fit(X, y), new, y_new).table.loc["tails", "verdict"])
    assert "in danger" not in verdicts


def test_identical_models_have_no_standard_error():
    rng = np.random.default_rng(0)
    X, y = world(100, rng)
    same = audit(EqualWeights([MODELS[0], ("copy", MODELS[0][1])]).fit(X, y), *world(100, rng)).table.loc[
        "identification"
    ]
    assert same["value"].startswith("inf")
    assert "sum, copy" in same["value"]


def test_a_loss_without_curvature_is_not_blamed_on_the_models():
    rng = np.random.default_rng(0)
    average = EqualWeights(MODELS, loss=lambda y, a: (y - a).abs()).fit(*world(200, rng))
    table = audit(average, *world(200, rng)).table
    assert tuple(table.loc["identification", ["value", "verdict"]]) == ("no curvature", "cannot tell")


def test_a_loss_with_the_mean_as_its_minimiser_separates():
    rng = np.random.default_rng(0)
    for loss, verdict in ((lambda y, a: (y - a) ** 2 + 1, "cannot tell"), ("squared", "looks fine")):
        table = audit(EqualWeights(MODELS, loss=loss).fit(*world(200, rng)), *world(200, rng)).table
        assert table.loc["separation", "verdict"] == verdict


# --- what it says about what it cannot see ------------------------------------------------------------


def test_without_the_training_data_comparisons_are_not_judged():
    rng = np.random.default_rng(0)
    table = audit(GlobalMA(MODELS).fit(*world(100, rng)), *world(100, rng)).table
    silent = table.index[table["verdict"] == "cannot tell"]
    assert {"limits", "frozen", "gap", "drift"} <= set(silent)
    assert "(new data)" in table.loc["size", "value"]


def test_table_and_its_two_faces():
    rng = np.random.default_rng(0)
    found = twins(rng, 0)
    assert isinstance(found, Audit)
    assert isinstance(found.table, pd.DataFrame)
    assert list(found.table.columns) == ["condition", "measured", "value", "verdict", "what to do", "p", "level"]
    assert set(found.table["verdict"]) <= {"looks fine", "in danger", "cannot tell"}
    assert not found.table.drop(columns=["p", "level"]).isna().any(axis=None)
    assert found.table.loc["order", "level"] == THRESHOLDS["level"]
    ax = plot_audit(found.table, ax=plt.figure().add_subplot())
    assert [text.get_text() for text in ax.texts] == found.table["verdict"].tolist()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == found.table.index.tolist()
    drawn = ax.collections[0].get_offsets()[:, 0]
    assert np.allclose(drawn, found.table["p"].clip(lower=1e-5), equal_nan=True)
    plt.close("all")
    assert "identification: do not read the weights" in repr(found) == str(found)
    assert "<table" in found._repr_html_()
    assert all(name.islower() for name in THRESHOLDS)


def test_the_audit_hears_what_the_average_hears_and_says_what_it_says():
    """Clipped candidates, a level, and a learner whose fit has seen the training rows: the audit's losses are those of
    ``predict``, the learner is no leak, and what lies beyond is told of what models say.
    """
    rng = np.random.default_rng(0)
    (X, y), (new, y_new) = world(300, rng), world(300, rng)
    y, y_new = y + 3, y_new + 3
    average = fitted((X, y), direct=DecisionTreeRegressor(random_state=0))
    found, sampled = audit(average, new, y_new, train=(X, y)), sample(average, X, y, fitted=True)
    assert "frozen" not in found.alarms
    assert ((sample(average, X, y).F[:, -1] - y) ** 2).mean() < 1e-12 < 0.1 < ((sampled.F[:, -1] - y) ** 2).mean()
    average, far = fitted((X, y), level=True), new.copy()
    assert average.level_ is not None
    far[0, 0] = 1e6
    seen = sample(average, far, y_new)
    with pytest.warns(UserWarning, match="clipped"):
        assert np.allclose(seen.a, average.predict(far))
    assert "extrapolation" in audit(average, far, y_new, train=(X, y)).alarms


def test_weights_that_are_the_same_neither_gain_nor_lose():
    rng = np.random.default_rng(0)
    table = audit(EqualWeights(MODELS).fit(*world(100, rng)), *world(100, rng)).table
    assert tuple(table.loc["pays", ["value", "verdict", "p"]]) == ("0 +- 0", "cannot tell", 1.0)


def test_audit_leaves_the_average_alone_and_is_reproducible():
    rng = np.random.default_rng(0)
    average, new = fitted(world(100, rng)), world(100, rng)
    before = average.predict(new[0])
    first, second = audit(average, *new), audit(average, *new)
    pd.testing.assert_frame_equal(first.table, second.table)
    assert (average.predict(new[0]) == before).all()
    assert average.n_features_in_ == 2


def test_audit_takes_images_for_the_weights():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3, 4, 4))
    F = X[:, :2].mean((2, 3))
    table = audit(EqualWeights().fit(X, F.sum(1), F=F), X[::-1], F.sum(1)[::-1], F=F[::-1]).table
    assert table.loc["smoothness", "value"] == "X is no table"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a, X, y: audit("average", X, y), TypeError, "average must be a fitted"),
        (lambda a, X, y: audit(GlobalMA(MODELS), X, y), NotFittedError, "not fitted"),
        (lambda a, X, y: audit(GlobalMA(MODELS[:1]).fit(X, y), X, y), ValueError, "one model"),
        (lambda a, X, y: audit(a, X[:10], y[:10]), ValueError, "10 rows; an audit needs at least 20"),
        (lambda a, X, y: audit(a, X, y[:-1]), ValueError, "X and y differ in length"),
        (lambda a, X, y: audit(a, X[:, :1], y), ValueError, "failed on X"),
        (lambda a, X, y: audit(a, X, np.where(y > 0, np.nan, y)), ValueError, "y contains NaN"),
        (lambda a, X, y: audit(a, np.where(X > 1, np.nan, X), y), ValueError, "X contains NaN"),
        (lambda a, X, y: audit(a, X, y, F=np.ones((3, 3))), ValueError, r"F has shape \(3, 3\)"),
        (lambda a, X, y: audit(a, X, y, train=X), ValueError, "train must be"),
        (lambda a, X, y: audit(a, X, y, train=(X, y)), ValueError, "same data"),
        (lambda a, X, y: audit(a, X, y, sizes=[5]), ValueError, "sizes must be 3 positive numbers"),
        (
            lambda a, X, y: audit(EqualWeights(loss="poisson").fit(X, y > 0, F=X**2 + 1), X, y, F=X**2 + 1),
            ValueError,
            "non-negative",
        ),
    ],
)
def test_wrong_input_is_named(call, error, message):
    rng = np.random.default_rng(0)
    X, y = world(40, rng)
    with pytest.raises(error, match=message):
        call(GlobalMA(MODELS).fit(X, y), *world(40, rng) if "one model" in message else (X, y))
