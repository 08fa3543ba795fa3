"""The default's additions, each switched on and off."""

import numpy as np
import pytest

from localma import GlobalMA, LocalMA
from localma.replication import load_results
from localma.replication.simulation import Cell, additions, candidate_models, draw, true_mean
from localma.replication.simulation.scenarios import generator


@pytest.fixture(scope="module")
def outside():
    """Scenario 2, where the truth lies outside the models' range: one sample."""
    return additions.Additions().measure(Cell(2, "-", 100), range(1))


def test_a_copy_without_level_is_a_fit_without_level(outside):
    cell = Cell(2, "-", 100)
    rng, seeds = generator(0, cell, 0)
    (X,), (F,), (y,) = draw(cell, 1, rng)
    new = rng.standard_normal((additions.TEST_SIZE, 5))
    for name, how in (("Default", {}), ("Level", {"level": True}), ("Direct", {"direct": additions.LEARNER})):
        average = LocalMA(progress=False, random_state=int(seeds[0]), **how).fit(X, y, F=F)
        a = average.predict(new, F=candidate_models(new))
        assert outside[f"{name}.mse"][0] == pytest.approx(np.mean((a - true_mean(new, cell)) ** 2), rel=1e-6)
    a = GlobalMA().fit(X, y, F=F).predict(new, F=candidate_models(new))
    assert outside["GW.mse"][0] == pytest.approx(np.mean((a - true_mean(new, cell)) ** 2))


def test_what_is_far_away_is_clipped_and_what_is_near_is_not(outside):
    assert outside["Default, not clipped.mse"] == pytest.approx(outside["Default.mse"], rel=0.05)
    assert outside["Default, not clipped.typed"] > 10 * outside["Default.typed"]
    assert outside["Default, clipped alone.mse"] == pytest.approx(outside["Default.mse"], rel=0.05)
    assert outside["Default.typed"] < outside["Default, clipped alone.typed"]
    assert outside["Level.mse"] < outside["Default.mse"]


def test_a_quick_run_has_every_cell(monkeypatch):
    monkeypatch.setattr(additions, "WORLDS", additions.WORLDS[1:2])
    table = additions.Additions.run()
    assert (table["replications"] == additions.QUICK).all()
    assert {"mse", "typed", "far", "taken", "lead"} == set(table["metric"])


def test_committed_results_are_complete():
    table, provenance = load_results("additions")
    assert provenance["configuration"] == additions.Additions(full=True).configuration()
    assert len(table.groupby(["setting", "n"])) == len(additions.WORLDS)
    assert table["replications"].eq(table["setting"].map(additions.FULL)).all()
