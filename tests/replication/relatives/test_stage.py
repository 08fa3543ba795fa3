"""LocalMA and its relatives on one stage."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV

from localma import LOSSES
from localma.engine import global_weights
from localma.replication import relatives as stage
from localma.replication.__main__ import main
from localma.replication.relatives import experiment, methods


def sample(n=80, d=2, M=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    F = np.stack([X[:, 0], -X[:, 0] + 0.5, np.full(n, 0.3), X[:, -1]], 1)[:, :M]
    w = np.exp(2 * X[:, :1] * np.arange(M))
    w /= w.sum(1, keepdims=True)
    return X, F, (w * F).sum(1) + 0.3 * rng.normal(size=n)


def classes(n=90, K=3, M=3, seed=1):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    F = rng.dirichlet(np.ones(K), (n, M))
    y = np.array([rng.choice(K, p=F[i, int(X[i, 0] > 0)]) for i in range(n)])
    return X, F, y


def test_every_method_runs_where_its_loss_allows():
    for world, n in (("S3", 60), ("digits", 50), ("counts", 120)):
        stage_ = stage.WORLDS[world]
        found = stage.compare(world, n, 1, seed=3)
        able = {name for name, method in stage.METHODS.items() if stage_.loss in method.losses}
        assert {name.rsplit(".", 1)[0] for name in found} == able
        assert all(np.isfinite(values).all() and len(values) == 1 for values in found.values())
        assert all(values >= 0 for name, values in found.items())


def test_all_methods_see_the_same_sample_and_replications_do_not_depend_on_each_other():
    both = stage.compare("S2", 100, 2, methods=["GW", "EWMA", "BestModel"])
    second = stage.compare("S2", 100, range(1, 2), methods=["BestModel", "GW"])
    for method in ("GW", "BestModel"):
        assert both[f"{method}.risk"][1] == second[f"{method}.risk"][0]
    sample_ = stage.WORLDS["S2"].draw(100, 1, 0)
    w = global_weights(sample_.F, sample_.y, LOSSES["squared"])
    assert second["GW.risk"][0] == pytest.approx(np.mean((sample_.F_test @ w - sample_.y_test) ** 2))
    assert not np.allclose(both["GW.risk"][0], both["GW.risk"][1])


def test_floor_holds_for_averages_and_not_for_stacking():
    found = stage.compare(
        "Scenario 2", 300, 3, methods=["LocalMA", "Hierarchical", "Yang neighbours", "Stacking linear"]
    )
    for method in ("LocalMA", "Hierarchical", "Yang neighbours"):
        assert (found[f"{method}.risk"] > found["Hull.risk"]).all()
    assert (found["Stacking linear.risk"] < found["Hull.risk"]).all()


def test_stacker_is_what_scikit_learn_fits_with_prefit_models():
    X, _, y = sample(n=100)
    models = [("up", LinearRegression().fit(X, X[:, 0])), ("down", LinearRegression().fit(X, -X[:, 1] + 1))]
    F = np.stack([m.predict(X) for _, m in models], 1)
    theirs = StackingRegressor(models, final_estimator=RidgeCV(), cv="prefit", passthrough=True).fit(X, y)
    np.testing.assert_allclose(stage.Stacker(RidgeCV()).fit(X, y, F).predict(X, F), theirs.predict(X), atol=1e-10)
    X, _, y = classes()
    models = [(c, LogisticRegression(C=C).fit(X, y)) for c, C in (("a", 0.1), ("b", 1.0))]
    F = np.stack([m.predict_proba(X) for _, m in models], 1)
    theirs = StackingClassifier(models, final_estimator=LogisticRegression(), cv="prefit").fit(X, y)
    ours = stage.Stacker(LogisticRegression(), passthrough=False).fit(X, y, F)
    np.testing.assert_allclose(ours.predict_proba(X, F), theirs.predict_proba(X), atol=1e-8)


def test_a_class_that_a_learner_never_saw_gets_some_probability():
    drawn = stage.WORLDS["digits"].draw(600, 0, 0)
    few = drawn._replace(**{name: getattr(drawn, name)[drawn.y != 9][:40] for name in ("X", "y", "F")})
    direct = stage.METHODS["DirectModel"].make("cross_entropy", 0).fit(few.X, few.y)
    assert direct.predict_proba(few.X_test).shape[1] < 10
    a = methods._all_classes(direct.predict_proba(few.X_test), direct.classes_, few)
    np.testing.assert_allclose(a.sum(1), 1)
    np.testing.assert_allclose(a[:, 9], 1 / 50)
    assert (a[:, direct.classes_.astype(int)].argmax(1) == direct.predict_proba(few.X_test).argmax(1)).all()
    for method in ("DirectModel", "Stacking linear"):
        assert methods.score(stage.WORLDS["digits"], method, few, 0)["risk"] < 4


def test_table_pairs_with_localma_and_ranks():
    found = {"LocalMA.risk": np.array([1.0, 3.0]), "LocalMA.seconds": np.ones(2), "GW.risk": np.array([2.0, 5.0]),
             "GW.seconds": np.array([0.0, 4.0]), "Hull.risk": np.array([0.5, 0.5])}  # fmt: skip
    table = stage.tabulate("Scenario 2", 100, found).set_index("method")
    assert table.loc["GW", ["mean", "lead", "rank", "seconds", "family"]].tolist() == [3.5, 1.5, 2, 2, "constant"]
    assert table.loc["GW", "lead_mcse"] == pytest.approx(np.std([1, 2], ddof=1) / 2**0.5)
    assert table.loc["LocalMA", ["rank", "lead"]].tolist() == [1, 0]
    assert table.loc["Hull", ["rank", "lead"]].isna().all()


def test_command_writes_the_table(tmp_path, monkeypatch):
    few = {name: stage.METHODS[name] for name in ("LocalMA", "GW", "EWMA")}
    monkeypatch.setattr(experiment, "METHODS", few)
    monkeypatch.setattr(experiment, "WORLDS", {name: stage.WORLDS[name] for name in ("S1", "Scenario 2")})
    assert main(["relatives", "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "relatives.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["relatives.csv", "relatives.json"]
    assert table.groupby("world").size().to_dict() == {"S1": 3, "Scenario 2": 4}
    assert (table["replications"] == experiment.QUICK).all()
    direct = stage.compare("S1", 100, experiment.QUICK)
    mean = table.set_index(["world", "method"])["mean"]
    for method in few:
        assert mean["S1", method] == pytest.approx(direct[f"{method}.risk"].mean(), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stage.compare("S9", 100, 1), "world must be one of 'S1', .*, but is 'S9'"),
        (lambda: stage.compare("digits", 50, 1, methods=["NNLS"]), "methods contains 'NNLS', which 'digits' has not"),
    ],
)
def test_stage_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
