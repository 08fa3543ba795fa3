"""Housing: the design as the paper describes it, the methods, the run."""

import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from localma import LOSSES, BestModel, EqualWeights, GlobalMA
from localma.datasets import housing as data_module
from localma.datasets import load_housing
from localma.engine import global_weights
from localma.replication import housing, load_results
from localma.replication.__main__ import main
from localma.replication.housing import companies, experiment, methods, tuning
from localma.replication.lab.results import load_arrays
from tests.rents import paper_csv


@pytest.fixture(scope="module")
def flats():
    return load_housing(synthetic=True)


@pytest.fixture(scope="module")
def city(flats):
    return housing.prepare(flats, "Shanghai")


def test_rents_above_the_percentile_and_small_districts_are_dropped(flats):
    here = flats.only("Beijing")
    design = housing.prepare(flats, "Beijing")
    assert np.exp(design.y).max() <= np.quantile(here.rent, 0.99)
    few = flats.rows((flats.district != "Huairou") | (np.cumsum(flats.district == "Huairou") < 20))
    assert "Huairou" not in housing.prepare(few, "Beijing").districts
    with pytest.raises(ValueError, match="Haidian"):
        housing.prepare(flats.rows(flats.district != "Haidian"), "Beijing")


def test_of_the_papers_own_rents_the_percentile_is_that_of_all_its_cities(flats):
    own = replace(flats, table="paper", ceiling=float(np.quantile(flats.rent, 0.9)))
    assert np.exp(housing.prepare(own, "Beijing").y).max() <= own.ceiling
    assert np.exp(housing.prepare(replace(own, table="synthetic"), "Beijing").y).max() > own.ceiling


@pytest.mark.skipif("LOCALMA_DATA" not in os.environ, reason="the rents are not here: LOCALMA_DATA is not set")
def test_so_cut_the_papers_rents_are_as_many_as_it_says():
    data, paper = load_housing("coordinates"), housing.table4().groupby("city")["n"].sum()
    assert (
        {city: int((data.only(city).rent <= data.ceiling).sum()) for city in paper.index}
        == paper.to_dict()
        == {"Beijing": 4654, "Shanghai": 5432}
    )


@pytest.mark.skipif("LOCALMA_DATA" not in os.environ, reason="the rents are not here: LOCALMA_DATA is not set")
@pytest.mark.parametrize("table", ["lianjia2023", "lianjia2019", "coordinates"])
def test_real_districts_are_those_of_the_paper(table):
    data = load_housing(table)
    for name in set(data.city):
        design = housing.prepare(data, name)
        assert min(design.sizes) >= companies.LEAST
        if table != "lianjia2019":
            paper = housing.table4().query("city == @name")
            assert set(design.districts) == set(paper["district"])
            assert sum(design.sizes) == pytest.approx(paper["n"].sum(), rel=0.03)


def test_split_is_the_papers(city):
    shares = []
    for rho in (0.2, 0.8):
        s = housing.split(city, rho, 3)
        first = np.concatenate(s.first)
        used = np.concatenate([first, s.train, s.test])
        assert len(np.unique(used)) == len(used), "no flat has two parts"
        assert len(s.train) == len(s.test)
        for m, part in enumerate(s.first):
            assert (city.which[part] == m).all()
            assert len(part) == round((1 - rho) * city.sizes[m])
            left = np.sum(city.which[used] == m) - len(part)
            whole = city.sizes[m] - len(part)
            assert left in (
                ([-(-whole // 2)] if m in city.halved else [whole])
                + [whole - 1] * (m not in city.halved)
                + [-(-whole // 2) - 1]
            )
        shares.append(s)
    assert set(np.concatenate(shares[1].first)) < set(np.concatenate(shares[0].first)), "D1 only gets shorter"
    again = housing.split(city, 0.8, 3)
    np.testing.assert_array_equal(again.train, shares[1].train)
    assert not np.array_equal(housing.split(city, 0.8, 4).train, shares[1].train)
    with pytest.raises(ValueError, match="rho"):
        housing.split(city, 1.0, 0)


def test_fewer_repetitions_are_the_first_of_more(city):
    two, one = (methods.replicate(city, "network", 0.5, range(k)) for k in (2, 1))
    for method in housing.METHODS:
        assert two[method].shape == (2,)
        assert two[method][0] == pytest.approx(one[method][0], rel=1e-3), method
    np.testing.assert_allclose(two["weights"].sum(-1), 1, atol=1e-6)


def test_methods_equal_their_estimators(city):
    s = housing.split(city, 0.5, 0)
    F = companies.networks(city, [s], np.arange(len(city.districts))[None])
    second = np.concatenate([s.train, s.test])
    X, y = (torch.as_tensor(a[second], dtype=torch.float32)[None] for a in (city.X, city.y))
    n = len(s.train)
    errors, _ = methods.evaluate(X, F, y, n, np.zeros((1, len(s.test))), [0], settings=city.settings["LocalMA"])
    known, truth = F[0].double().numpy(), y[0].double().numpy()
    for name, kind, part in (
        ("GW", GlobalMA, slice(n)),
        ("EWMA", EqualWeights, slice(n)),
        ("BestPTM", BestModel, slice(n, None)),
    ):
        fitted = kind().fit(city.X[second][part], truth[part], F=known[part])
        assert errors[name][0] == pytest.approx(
            np.square(fitted.predict(city.X[s.test], F=known[n:]) - truth[n:]).mean(), rel=1e-6
        )


def test_forests_see_their_own_district(city):
    s = housing.split(city, 0.5, 0)
    F, direct = companies.forests(city, [s], np.arange(len(city.districts) + 1)[None])
    assert F.shape == (1, len(s.train) + len(s.test), len(city.districts))
    assert direct.shape == (1, len(s.test))
    m = 2
    low, high = city.y[s.first[m]].min(), city.y[s.first[m]].max()
    assert low - 1e-4 <= F[0, :, m].min() <= F[0, :, m].max() <= high + 1e-4, (
        "a forest predicts means of what it has seen"
    )
    stump, _ = companies.forests(city, [s], np.arange(len(city.districts) + 1)[None], leaf=len(city.y))
    assert np.ptp(stump[0, :, m].numpy()) < 1e-6, "one leaf holds all"


def test_told_the_district(city):
    found = housing.ask_more(city, 0.5, range(2))
    errors = methods.replicate(city, "network", 0.5, range(2))
    for method in ("LocalMA", "DirectModel"):
        np.testing.assert_allclose(found[method], errors[method], rtol=1e-3)
        assert found[f"{method}{methods.TOLD}"].shape == (2,)
    assert found["AdaptiveLocalMA"].mean() < errors["EWMA"].mean()
    assert found["OwnDistrict"].mean() < errors["EWMA"].mean(), "made-up rents follow the district's own law"


def test_each_sample_chooses_the_setting_of_its_direct_network(monkeypatch):
    """Two samples: the first is met by the long training only, the second by the short one; the last quarter judges."""
    asked = []

    def trained(X, y, n, seeds, settings):
        asked.append((X.shape[1], n))
        level = {100: (0.0, 1.0), 300: (1.0, 0.0)}[settings["steps"]]
        return np.array(level)[:, None] * np.ones((2, X.shape[1] - n))

    monkeypatch.setattr(methods, "direct_networks", trained)
    X, y = torch.zeros(2, 50, 1), torch.ones(2, 50)
    found, which = methods.choose_direct(X, y, 40, [0, 1], ({"steps": 100}, {"steps": 300}))
    assert which.tolist() == [1, 0]
    np.testing.assert_array_equal(found, np.ones((2, 10)))
    assert asked == [(40, 30)] * 2 + [(50, 40)] * 2, "the test is not looked at before the choice"


@pytest.mark.slow
def test_command_line(tmp_path, capsys, nowhere, monkeypatch):
    assert main(["housing", "--out", str(tmp_path / "none")]) == 2
    assert "LOCALMA_DATA" in capsys.readouterr().err
    monkeypatch.setattr(companies, "TREES", 3)
    quick = dict(experiment.REPETITIONS)
    assert main(["housing", "--synthetic", "--repetitions", "2", "--out", str(tmp_path)]) == 0
    assert "SYNTHETIC" in capsys.readouterr().out
    assert experiment.Rents(synthetic=True).repetitions == {"network": 10, "forest": 2, "more": 4}
    assert quick == experiment.REPETITIONS
    names = sorted(p.name for p in tmp_path.iterdir() if p.is_file())
    assert names == [
        f"housing-synthetic{part}"
        for part in ("-more.csv", "-more.json", "-weights.csv", "-weights.json", ".csv", ".json")
    ]
    table = pd.read_csv(tmp_path / "housing-synthetic.csv")
    assert set(table["table"]) == {"synthetic"}
    assert set(table["ptm"]) == {"network", "forest"}
    assert (table["replications"] == 2).all()
    wide = table.query("metric == 'mspe'").pivot(index=["city", "ptm", "rho"], columns="method", values="mean")
    gap = table.query("metric == 'excess' and method == 'GW'").set_index(["city", "ptm", "rho"])["mean"]
    np.testing.assert_allclose(gap, wide["GW"].loc[gap.index] - wide["LocalMA"].loc[gap.index], atol=1e-5)
    assert json.loads((tmp_path / "housing-synthetic.json").read_text())["configuration"]["rho_is"] == "share of D2"
    assert len(housing.verdicts(table)) == 2 * 2 * 5


def test_one_table_is_enough_for_the_experiment(nowhere, capsys, monkeypatch):
    """The paper's own table, which asks for a visit by hand, or any other."""
    monkeypatch.setitem(data_module.ROWS, "paper", 4)
    (nowhere / "housing").mkdir()
    paper = paper_csv(nowhere / "housing")
    monkeypatch.setenv("LOCALMA_DATA", str(nowhere))
    assert list(companies.load_tables(False)) == ["paper"]
    assert not capsys.readouterr().out
    assert list(companies.load_tables(True)) == ["paper"]
    assert (
        capsys.readouterr().out
        == "housing: without the tables that were not found: lianjia2023, lianjia2019, coordinates\n"
    )
    paper.unlink()
    with pytest.raises(FileNotFoundError, match="bj_sh_lianjia_ids"):
        companies.load_tables(True)


def test_a_run_of_the_papers_table_alone(flats, tmp_path, monkeypatch):
    """Nothing in it waits for a table that is not there."""
    alone = replace(flats, table="paper")
    monkeypatch.setattr(experiment, "load_tables", lambda *_, **__: {"paper": alone})
    monkeypatch.setattr(companies, "TREES", 3)
    monkeypatch.setattr(experiment, "RHOS", (0.5,))
    table = housing.run(full=True, repetitions=1, out=tmp_path)
    assert set(table["table"]) == {"paper"}
    assert not (tmp_path / "housing-predictions.npz").exists()


def test_an_interrupted_run_writes_nothing_and_goes_on(tmp_path, monkeypatch):
    """Cut in its last part, what the paper does not ask: no table stands there without the others, and no part is computed again."""
    monkeypatch.setattr(companies, "TREES", 3)
    calls = []

    def counted(name, cut=None):
        honest = getattr(experiment, name)

        def go(*args, **options):
            calls.append(name)
            if calls.count(name) == cut:
                raise KeyboardInterrupt
            return honest(*args, **options)

        monkeypatch.setattr(experiment, name, go)

    counted("replicate")
    counted("ask_more", cut=2)
    with pytest.raises(KeyboardInterrupt):
        housing.run(synthetic=True, repetitions=1, out=tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == []
    table = housing.run(synthetic=True, repetitions=1, out=tmp_path)
    cells = 2 * 2 * 2  # cities, rhos, kinds
    assert (calls.count("replicate"), calls.count("ask_more")) == (cells, cells // 2 + 1)
    assert (table["replications"] == 1).all()
    assert not [p.name for p in tmp_path.iterdir() if p.is_dir()]
    with pytest.raises(ValueError, match="repetitions must be at least 1"):
        housing.run(synthetic=True, repetitions=0)


def test_tuning_scores_every_configuration(city, monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "GRID", {name: grid[:2] for name, grid in housing.GRID.items()})
    monkeypatch.setattr(tuning, "SHARES", (0.5,))
    found = housing.RentsTuning.run(synthetic=True, pilots=1, out=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "housing-tuning-synthetic.csv",
        "housing-tuning-synthetic.json",
    ]
    assert len(found) == 2 * 3 * 2  # cities, networks, settings
    assert (found.groupby(["network", "city"])["ratio"].min() == 1).all()
    for name in ("Beijing", "Shanghai"):
        ratio = tuning.validate(housing.prepare(load_housing(synthetic=True), name), 0.5, pilots=1)
        for network in housing.GRID:
            np.testing.assert_allclose(found.query("city == @name and network == @network")["ratio"], ratio[network])
    choice = housing.choose(found)
    assert list(choice) == ["synthetic"]
    assert choice["synthetic"]["PTM"] == choice["synthetic"]["DirectModel"]
    assert all(setting in tuning.GRID[network] for network, setting in choice["synthetic"].items())


def test_the_choice_is_the_lowest_mean():
    """Made-up scores: the best of each is put where it must be found."""
    rows = []
    for network, grid in housing.GRID.items():
        for k, setting in enumerate(grid):
            for city in ("Beijing", "Shanghai"):
                lucky = k == 0 and city == "Beijing"  # the best in one city alone is not the choice
                rows.append(
                    {"table": "t", "network": network, "city": city, "rho": 0.5}
                    | setting
                    | {"ratio": 1.2 if lucky else 1.5 - 0.2 * (k == 2)}
                )
    found = pd.DataFrame(
        rows, columns=["network", "table", "city", "rho", "learning_rate", "steps", "penalty", "ratio"]
    )
    assert housing.choose(found) == {
        "t": {network: housing.GRID[network][2] for network in ("PTM", "DirectModel", "LocalMA")}
    }
    found.loc[(found["network"] == "PTM") & (found["learning_rate"] == 0.03) & (found["steps"] == 300), "ratio"] = 1.0
    choice = housing.choose(found)["t"]
    assert choice["PTM"] == choice["DirectModel"] == {"learning_rate": 0.03, "steps": 300}, "the two share a setting"


def test_the_configuration_is_the_choice_of_the_tuning_and_inside_its_lists():
    found, _ = load_results("housing-tuning")
    assert housing.choose(found) == companies.CONFIGURATION
    for settings in companies.CONFIGURATION.values():
        for name in ("learning_rate", "penalty"):
            tried = sorted({setting[name] for setting in housing.GRID["LocalMA"]})
            assert settings["LocalMA"][name] in tried[1:-1]


def test_a_table_without_pilots_takes_the_settings_of_the_closest(city):
    assert city.table == "synthetic"
    assert city.settings == companies.CONFIGURATION[companies.CLOSEST]


def test_committed_results_are_real_and_whole():
    table, provenance = load_results("housing")
    assert set(table["table"]) - {"paper"} == {"lianjia2023", "lianjia2019", "coordinates"}
    for name, entry in provenance["configuration"]["tables"].items():
        if name != "paper":
            assert data_module.TABLES[name].checksum.startswith(f"sha256:{entry['checksum']}")
    assert sorted(table["rho"].unique()) == list(housing.RHOS)
    assert (table["replications"] == 100).all()
    assert provenance["configuration"]["networks"] == {"width": companies.WIDTH} | companies.CONFIGURATION
    weights, _ = load_results("housing-weights")
    sums = weights.groupby(["table", "city", "ptm", "district"])["mean"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-4)
    more, _ = load_results("housing-more")
    same = more.merge(table, on=["table", "city", "ptm", "rho", "method", "metric"]).query("metric == 'mspe'")
    assert (same["replications_x"] == 40).all()
    assert ((same["mean_x"] - same["mean_y"]).abs() < 4 * same["mcse_x"]).all(), "the same repetitions, fewer of them"
    assert len(same) == 2 * len(
        table.query("ptm == 'network'")[["table", "city", "rho"]].drop_duplicates()
    )  # LocalMA and DirectModel


def test_stored_predictions_are_those_of_the_full_run():
    table, _ = load_results("housing")
    stored = housing.load_predictions()
    assert np.isfinite(stored.F).all()
    cell = "table == 'lianjia2023' and city == 'Beijing' and ptm == 'network' and rho == 0.5 and metric == 'mspe'"
    rows = table.query(cell).set_index("method")
    F, y, n = stored.F, stored.y, stored.n_train
    w = global_weights(F[:, :n], y[:, :n], LOSSES["squared"])
    found = np.square((w[:, None] * F[:, n:]).sum(-1) - y[:, n:]).mean(-1)
    equal = np.square(F[:, n:].mean(-1) - y[:, n:]).mean(-1)
    mean, error = rows.loc["EWMA", "mean"], rows.loc["EWMA", "sd"] / len(y) ** 0.5
    unit = mean / equal.mean()  # which is not stored
    assert abs(unit * found.mean() - rows.loc["GW", "mean"]) < error
    assert not abs(unit * found.mean() - rows.loc["EWMA", "mean"]) < error


def test_no_rent_can_be_computed_from_what_is_stored():
    """All that is left of a flat is measured from the mean prediction for it, which is gone, as the unit is."""
    stored = load_arrays("housing")
    assert set(stored) == {"F", "y", "which", "districts", "n_train"}
    F, y = stored["F"].astype(float), stored["y"].astype(float)
    np.testing.assert_allclose(F.mean(-1), 0, atol=2e-3)
    assert np.square(y).mean() == pytest.approx(1, abs=1e-3)


@pytest.mark.skipif("LOCALMA_DATA" not in os.environ, reason="the rents are not here: LOCALMA_DATA is not set")
def test_committed_cell_is_computed_again():
    city = housing.prepare(load_housing(), "Beijing")
    found = methods.replicate(city, "network", 0.9, range(25))["LocalMA"]
    table, _ = load_results("housing")
    cell = (
        "table == 'lianjia2023' and city == 'Beijing' and ptm == 'network' and rho == 0.9 and method == 'LocalMA' and"
        " metric == 'mspe'"
    )
    mean, sd = table.query(cell)[["mean", "sd"]].iloc[0]
    assert abs(found.mean() - mean) < 4 * sd / 5
