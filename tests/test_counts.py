"""The visits to the doctor: what the experiment promises about its cuts, its insurers and its stack."""

import numpy as np
import pytest

from localma.replication import counts


@pytest.fixture(scope="module")
def table():
    return counts.load()


def test_a_persons_years_stand_together_and_nobody_stands_on_two_sides(table, monkeypatch):
    X, y = table
    who = counts.persons(X)
    runs = np.bincount(who)
    assert len(who) == len(y) == runs.sum() == 20190
    assert np.isin(runs, [3, 5]).mean() > 0.75  # the terms of the experiment: were runs no persons, no length would stand out
    seen = {}
    fit = counts.insurers
    monkeypatch.setattr(counts, "insurers", lambda X, y, seed, kinds: (seen.update(first=(X, y)), fit(X, y, seed, kinds))[1])
    whole = counts.sample(6000, np.random.default_rng(3))
    first, test = seen["first"], set(whole.person_test)

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
    assert persons_of(by_row.X, by_row.y) & set(by_row.person_test)


def test_smaller_samples_are_the_first_rows_of_larger_ones():
    small, large = (counts.sample(n, counts.generator(2)) for n in (100, 400))
    assert all(np.array_equal(a, b[:100]) for a, b in zip(small[:3], large[:3], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(small[3:], large[3:], strict=True))
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
    assert counts.clientele(np.array([[0, 0, 0, 0, 0, 5, 0, 1, 0], [0, 1, 0, 0, 0, 5, 0, 0, 1]], float)).tolist() == [4, 4]


def test_each_insurer_learns_from_its_own_customers_alone(table):
    X, y = (a[::5] for a in table)
    home = counts.clientele(X)
    models = counts.insurers(X, y, 0)
    assert [name for name, _ in models] == list(counts.INSURERS)
    for m, (_, model) in enumerate(models):
        own = home == m
        strangers = np.where(own, y, y + 1)
        assert np.array_equal(model.predict(X[:50]), counts.insurers(X, strangers, 0)[m][1].predict(X[:50]))
        assert model.predict(X[own]).mean() == pytest.approx(y[own].mean(), rel=1e-6 if m % 2 == 0 else 0.1)


def test_glm_is_that_of_scikit_learn(table):
    from sklearn.linear_model import PoissonRegressor

    X, y = (a[:3000] for a in table)
    scale = X.std(0) + (X.std(0) == 0)
    other = PoissonRegressor(alpha=0, max_iter=5000, tol=1e-10).fit(X / scale, y).predict(X / scale)
    assert np.allclose(counts.fit_glm(X, y).predict(X), other, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must lie between 1 and 6000"),
        ({"n": 6001}, "n must lie between 1 and 6000"),
        ({"n": 10, "by": "family"}, "by must be 'person' or 'row'"),
        ({"n": 10, "kinds": ["glm"] * 4}, "for each of the 5 insurers"),
        ({"n": 10, "kinds": ["tree"] * 5}, "'glm' or 'forest'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        counts.sample(rng=np.random.default_rng(0), **arguments)
