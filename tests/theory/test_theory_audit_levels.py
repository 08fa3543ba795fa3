"""How often the audit raises an alarm where nothing is wrong, on problems that no chapter uses."""

import pytest

from localma.replication.theory.levels import PROBLEMS, Levels, report
from localma.theory import THRESHOLDS

DRAWS = 8


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_alarms_without_a_reason_are_as_rare_as_stated(name):
    """An alarm in eight draws of four tests is one set of seeds in thirty at level 0.001, and one in two at 0.02; the
    full run has a hundred draws.
    """
    tables = [report(name, seed).table for seed in range(DRAWS)]
    alarms = {row: sum(t.loc[row, "verdict"] == "in danger" for t in tables) for row in ("frozen", "drift", "order")}
    alarms["reach"] = sum(t.loc["reach", "verdict"] == "looks fine" for t in tables)  # here, the mean lies in the hull
    assert sum(alarms.values()) == 0, alarms
    for row in ("tails", "near zero", "separation", "shared rows"):
        if row in tables[0].index:
            assert sum(t.loc[row, "verdict"] == "in danger" for t in tables) == 0, row


def test_a_level_that_is_not_kept_is_seen(monkeypatch):
    monkeypatch.setitem(THRESHOLDS, "level", 0.2)
    tables = [report("laplace", seed).table for seed in range(DRAWS)]
    assert sum(t.loc[row, "verdict"] == "in danger" for t in tables for row in ("drift", "order")) >= 2


def test_levels_are_shares_of_draws():
    table = Levels.run(replications=1)
    assert set(table["problem"]) == set(PROBLEMS)
    assert (table[["in danger", "cannot tell", "looks fine"]].sum(axis=1) == 1).all()
