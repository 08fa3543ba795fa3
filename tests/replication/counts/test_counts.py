"""The visits to the doctor: what the experiment promises about its cuts, its insurers and its stack."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import PoissonRegressor
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from localma import BestModel, EqualWeights, GlobalMA, LocalMA
from localma.engine import Training, automatic_penalty, grid
from localma.replication import counts, load_results
from localma.replication.counts import companies, experiment, rivals, tuning


@pytest.fixture(scope="module", autouse=True)
def small_forests():
    """What is tested here holds for forests of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(companies.FOREST, "n_estimators", 10)
        yield


@pytest.fixture(scope="module")
def table():
    return counts.load()


def test_a_persons_years_stand_together_and_nobody_stands_on_two_sides(table, monkeypatch):
    X, y = table
    who = counts.persons(X)
    runs = np.bincount(who)
    assert len(who) == len(y) == runs.sum() == 20190
    assert (
        np.isin(runs, [3, 5]).mean() > 0.75
    )  # the terms of the experiment: were runs no persons, no length would stand out
    seen = {}
    fit = companies.insurers
    monkeypatch.setattr(companies, "insurers", lambda X, y, seed: (seen.update(first=(X, y)), fit(X, y, seed))[1])
    whole = counts.sample(6000, np.random.default_rng(3))
    first, test = seen["first"], set(whole.groups_test)

    def persons_of(X_part, y_part):
        """Persons that hold at least one row like these; a person is known by a fingerprint of covariates that nobody else has."""
        prints = {}
        for row, person in zip(X.round(6).tolist(), who, strict=True):
            prints.setdefault(tuple(row), set()).add(person)
        found = [prints[tuple(row)] for row in X_part.round(6).tolist()]
        return {next(iter(p)) for p in found if len(p) == 1}

    a, b = persons_of(*first), persons_of(whole.X, whole.y)
    assert min(len(a), len(b)) > 500
    assert not (a & b) | (a & test) | (b & test)
    by_row = counts.sample(6000, np.random.default_rng(3), by="row")
    assert persons_of(by_row.X, by_row.y) & set(by_row.groups_test)


def test_smaller_samples_are_the_first_rows_of_larger_ones():
    small, large = (counts.sample(n, counts.generator(2)) for n in (100, 400))
    for name, a in small._asdict().items():
        b = getattr(large, name)
        assert np.array_equal(a, b if name.endswith("_test") else b[:100]), name
    assert not np.array_equal(small.y, counts.sample(100, counts.generator(2, seed=1)).y)


def test_clientele_by_hand():
    rows = {  # lncoins, idp, lpi, fmde, physlm, disea, good, fair, poor
        0: (0, 0, 0, 0, 0, 5, 1, 0, 0),
        1: (np.log(101), 1, 0, 0, 0, 5, 1, 0, 0),
        2: (np.log(26), 0, 0, 0, 0, 5, 0, 0, 0),
        3: (np.log(96), 0, 0, 0, 0, 5, 0, 0, 0),
        4: (0, 0, 0, 0, 1, 5, 0, 0, 0),
    }
    assert counts.clientele(np.array(list(rows.values()), float)).tolist() == list(rows)
    assert counts.clientele(np.array([[0, 0, 0, 0, 0, 5, 0, 1, 0], [0, 1, 0, 0, 0, 5, 0, 0, 1]], float)).tolist() == [
        4,
        4,
    ]


def test_each_insurer_learns_from_its_own_customers_alone(table):
    X, y = (a[::5] for a in table)
    home = counts.clientele(X)
    models = companies.insurers(X, y, 0)
    for m, model in enumerate(models):
        own = home == m
        strangers = np.where(own, y, y + 1)
        assert np.array_equal(model.predict(X[:50]), companies.insurers(X, strangers, 0)[m].predict(X[:50]))
        assert model.predict(X[own]).mean() == pytest.approx(y[own].mean(), rel=1e-6 if m % 2 == 0 else 0.1)


def test_glm_is_that_of_scikit_learn(table):
    X, y = (a[:3000] for a in table)
    scale = X.std(0) + (X.std(0) == 0)
    other = PoissonRegressor(alpha=0, max_iter=5000, tol=1e-10).fit(X / scale, y).predict(X / scale)
    assert np.allclose(counts.fit_glm(X, y).predict(X), other, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must lie between 1 and 6000"),
        ({"n": 6001}, "n must lie between 1 and 6000"),
        ({"n": 10, "by": "family"}, "by must be one of 'person', 'row'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        counts.sample(rng=np.random.default_rng(0), **arguments)


@pytest.fixture(scope="module")
def small():
    """Two repetitions of every method at a small size, and what a run makes of them."""
    return experiment.replicate(range(2), (80,), {"LocalMA": 10.0, "DirectModel": 100.0})


def test_the_stack_is_the_estimators_fit():
    data = counts.repeat(2, n=80)
    found, weights = counts.predict(data, 80, [7, 8], {"LocalMA": 10.0, "DirectModel": 100.0})
    assert set(found) == set(counts.METHODS)
    assert all(a.shape == (2, 6000) and (a > 0).all() for a in found.values())
    X, F, y, X_test, F_test, *_ = (a[1] for a in data)
    penalty = 10 * automatic_penalty(80)
    ways = {
        "LocalMA": LocalMA(loss="poisson", clip=False, training=Training(penalty=penalty), random_state=8),
        "GW": GlobalMA(loss="poisson", clip=False),
        "EWMA": EqualWeights(loss="poisson", clip=False),
        "BestModel": BestModel(loss="poisson", clip=False),
    }
    for name, method in ways.items():
        assert np.allclose(found[name][1], method.fit(X, y, F=F).predict(X_test, F=F_test), rtol=2e-3), name
    assert np.allclose(weights.sum(-1), 1)
    assert np.allclose(found["OnePrice"][1], y.mean())
    own = counts.clientele(X_test)
    assert np.array_equal(found["OwnInsurer"][1], F_test[np.arange(6000), own])


def test_a_rival_reads_what_it_says():
    """The regressions, with the penalty that folds of persons choose, by hand."""
    data = counts.repeat(1, n=300)
    X, F, y, X_test, F_test, _, person, _ = data.one(0)
    found = counts.prices(data, 300)

    def by_hand(train, test):
        ways = [
            make_pipeline(StandardScaler(), PoissonRegressor(alpha=a, max_iter=5000, tol=1e-8))
            for a in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
        ]
        how = {"cv": GroupKFold(5), "groups": person, "scoring": "neg_mean_poisson_deviance"}
        scores = [cross_val_score(way, train, y, **how).mean() for way in ways]
        return ways[int(np.argmax(scores))].fit(train, y).predict(test)

    pairs = {"F": (np.log(F), np.log(F_test)), "X": (X, X_test)}
    for name, (_, reads) in counts.REGRESSIONS.items():
        train, test = (np.hstack([pairs[one][k] for one in reads]) for k in (0, 1))
        np.testing.assert_allclose(found[name][0], by_hand(train, test), rtol=1e-3, err_msg=name)


def test_rivals_are_judged_beside_the_localma_of_the_experiment(monkeypatch):
    """On the same draws: LocalMA's column is that of ``replicate``."""
    monkeypatch.setattr(rivals, "BOOSTING", {"Boosting on X": ("boosting", "X")})
    table = counts.CountsRivals.run(repetitions=2, sizes=(80,))
    cell = table.query("customers == 'all'").set_index(["method", "metric"])["mean"]
    factor = load_results("counts")[1]["chosen"]["LocalMA"]
    theirs = experiment.replicate(range(2), (80,), {"LocalMA": factor, "DirectModel": 100.0})
    assert cell["LocalMA", "deviance"] == pytest.approx(theirs["LocalMA.deviance.80"][:, 0].mean(), rel=1e-4)
    name = "Regression on log F"
    assert cell[name, "lead"] == pytest.approx(cell[name, "deviance"] - cell["LocalMA", "deviance"])
    assert cell[name, "gain"] == pytest.approx(cell["Regression on X", "deviance"] - cell[name, "deviance"])
    assert cell["Regression on X", "gain"] == 0
    verdict = counts.verdicts(table)
    assert set(verdict["method"]) == {*counts.REGRESSIONS, "Boosting on X"}


def test_parts_add_up_to_the_whole(small):
    data = counts.repeat(2)
    share = np.stack([np.bincount(h, minlength=5) for h in counts.clientele(data.X_test)]) / 6000
    for method in counts.METHODS:
        value = small[f"{method}.deviance.80"]
        assert np.allclose((value[:, 1:] * share).sum(1), value[:, 0]), method
    assert np.allclose(small["weights.80"].sum(-1), 1)
    table = experiment.tabulate(small, (80,))
    cell = table.query("customers == 'all' and n == 80").set_index(["method", "metric"])["mean"]
    assert cell["GW", "lead"] == pytest.approx(cell["GW", "deviance"] - cell["LocalMA", "deviance"])
    verdict = counts.verdicts(table)
    assert set(verdict["verdict"]) <= {"LocalMA better", "LocalMA worse", "cannot tell"}
    assert len(verdict) == len(counts.METHODS) - 1


def test_folds_hold_out_persons():
    found = experiment.compare_folds(range(1), (80,))["persons.80"][0]
    one = counts.repeat(1).one(0).first(80)
    average = LocalMA(loss="poisson", random_state=0, progress=False).fit(one.X, one.y, F=one.F, groups=one.groups)
    cv = average.cv_results_
    np.testing.assert_allclose(found, cv["difference"][np.isin(cv["shrinkage"], [*grid(80), np.inf])], atol=1e-5)


def test_a_run_writes_its_tables_and_repeats_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "FACTORS", (10.0, 100.0))
    options = {"full": False, "repetitions": 1, "pilots": 1, "sizes": (30,)}
    table = counts.run(**options, out=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        f"counts{part}.{end}" for part in ("", "-folds") for end in ("csv", "json")
    }
    again = experiment.replicate(range(1), (30,), json.loads((tmp_path / "counts.json").read_text())["chosen"])
    pd.testing.assert_frame_equal(
        experiment.tabulate(again, (30,)), table[~table["method"].isin(counts.FOLD_METHODS)].reset_index(drop=True)
    )
    written = pd.read_csv(tmp_path / "counts.csv", keep_default_na=False, na_values=[""])
    assert np.allclose(written["mean"], table["mean"], rtol=1e-5)
    assert set(counts.FOLD_METHODS) <= set(table["method"])
    judges = pd.read_csv(tmp_path / "counts-folds.csv")
    assert (judges[np.isinf(judges["factor"])]["mean"] == 0).all()


def test_the_committed_results_say_what_the_chapter_is_built_on():
    table, provenance = load_results("counts")
    assert provenance["configuration"]["repetitions"] == experiment.FULL
    verdict = counts.verdicts(table).set_index(["n", "method"])["verdict"]
    assert verdict[6000, "GW"] == "LocalMA better"
    assert verdict[300, "LocalMA untuned"] == "LocalMA better"
    judges = load_results("counts-folds")[0].set_index(["n", "judge", "factor"])["mean"]
    assert judges[6000, "rows", 1.6] < 0 < judges[6000, "test", 1.6]
