"""Rents against what scikit-learn makes of the same flats."""

import numpy as np
import pytest

from localma.datasets import load_housing
from localma.replication import housing, load_results
from localma.replication.housing import companies, methods, rivals


@pytest.fixture(scope="module")
def city():
    return housing.prepare(load_housing(synthetic=True), "Beijing")


def test_direct_network_and_stacking_are_those_of_the_sample(city, monkeypatch):
    monkeypatch.setattr(rivals, "LIST", rivals.LIST[:2])
    monkeypatch.setattr(rivals, "LEARNERS", {"Stacking on F": ("linear", "F")})
    found = rivals.with_networks(city, 0.5, range(1))
    splits, seeds, _, n, X, y = companies.draw(city, 0.5, range(1))
    direct = [methods.direct_networks(X, y, n, seeds[:, -2], one) for one in rivals.LIST]
    errors = [np.square(a - y[:, n:].numpy()).mean() for a in direct]
    assert np.isclose(found["DirectModel.mspe"], errors, rtol=1e-4).any()
    assert found["DirectModel.end"] == 1, "both have the smallest rate"
    equal = companies.networks(city, splits, seeds).mean(-1)[:, n:]
    assert found["Stacking on F.mspe"] < (equal - y[:, n:]).square().mean().item()


def test_the_direct_forest_chooses_out_of_bag(city, monkeypatch):
    monkeypatch.setattr(rivals, "LEAVES", (1,))
    monkeypatch.setattr(rivals, "OWN_LEAVES", (1, 100))
    monkeypatch.setattr(rivals, "TREES", 20)
    monkeypatch.setattr(companies, "TREES", 5)
    found = rivals.with_forests(city, 0.5, range(1))
    assert found["DirectModel.mspe"] == found["DirectModel, 1.mspe"] < found["DirectModel, 100.mspe"]
    assert found["DirectModel.end"] == 0


def test_committed_results_are_complete():
    table, provenance = load_results("housing-rivals")
    said = provenance["configuration"]
    assert said["leaves"] == {"agents": list(rivals.LEAVES), "direct": list(rivals.OWN_LEAVES)}
    assert said["direct network"] == list(rivals.LIST)
    assert (table["replications"] == said["repetitions"]).all()
    assert set(table["method"]) >= {"LocalMA", "DirectModel", *rivals.LEARNERS}
