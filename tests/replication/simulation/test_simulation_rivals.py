"""Scikit-learn's learners on the samples and test points of Tables 1-3."""

import numpy as np
import pytest

from localma.replication import load_results, simulation
from localma.replication.simulation import CELLS, Cell, rivals

EVERY = [method for some in rivals.RIVALS.values() for method in some]


def _by_hand(columns, columns_test, y, mu):
    A, A_test = (np.column_stack([np.ones(len(Z)), Z]) for Z in (columns, columns_test))
    return np.mean((A_test @ np.linalg.lstsq(A, y, rcond=None)[0] - mu) ** 2)


@pytest.mark.parametrize("cell", [Cell(1, "S3", 100), Cell(2, "-", 100)], ids=lambda cell: cell.key)
def test_least_squares_meets_the_tables_samples_and_test_points(cell):
    found, table = rivals.Rivals().measure("linear", cell, range(2)), simulation.replicate(cell, 2)
    _, (X, F, y), rng = simulation.fit_cell(cell, 2)
    X_test = rng.standard_normal((2, 2500, 5))
    F_test, mu = simulation.candidate_models(X_test), simulation.true_mean(X_test, cell)
    for r in range(2):
        on_models = _by_hand(F[r], F_test[r], y[r], mu[r])
        assert found["Least squares on F.mse"][r] == pytest.approx(on_models)
        both = np.hstack([F[r], X[r]]), np.hstack([F_test[r], X_test[r]])
        assert found["Least squares on F, x.mse"][r] == pytest.approx(_by_hand(*both, y[r], mu[r]))
        assert found["Least squares on F.lead"][r] == pytest.approx(on_models - table["LocalMA.mse"][r])
    assert abs(found["Ridge on F, x.mse"] / found["Least squares on F, x.mse"] - 1).max() < 0.2


def test_trees_on_the_covariates_alone_see_no_model(monkeypatch):
    seen = []
    learner, read = rivals.RIVALS["boosting"]["Boosting on x"]
    monkeypatch.setattr(type(learner), "fit", lambda self, Z, y: seen.append(Z.shape) or self)
    monkeypatch.setattr(type(learner), "predict", lambda self, Z: np.zeros(len(Z)))
    rivals.Rivals().measure("boosting", Cell(2, "-", 100), range(1))
    assert read == "x"
    assert seen == [(100, 8), (100, 5)]


def test_a_quick_run_has_every_cell(monkeypatch):
    monkeypatch.setattr(rivals, "CELLS", CELLS[:1])
    table = rivals.Rivals.run(replications=4)
    assert set(table["method"]) == {*EVERY}
    assert table.set_index(["method", "metric"]).loc["Boosting on x"]["replications"].eq(2).all()


def test_committed_results_are_complete_and_of_this_configuration():
    table, provenance = load_results("simulation-rivals")
    assert len(table) == len(CELLS) * len(EVERY) * 2
    boosting = table["method"].str.startswith("Boosting")
    said = provenance["configuration"]
    assert (table.loc[~boosting, "replications"] == said["replications"]).all()
    assert (table.loc[boosting, "replications"] == said["replications of boosting"]).all()
    assert said["rivals"] == rivals.Rivals(full=True).configuration()["rivals"]
    wide = table.pivot(index=["setting", "n"], columns=["metric", "method"], values="mean")
    local = load_results("simulation")[0].query("metric == 'mse' and method == 'LocalMA'")
    local = local.set_index(["setting", "n"])["mean"]
    for method in rivals.RIVALS["linear"]:
        # the same LocalMA as in the table, up to the arithmetic of the day
        np.testing.assert_allclose(wide["mse", method] - wide["lead", method], local.loc[wide.index], rtol=5e-3)
