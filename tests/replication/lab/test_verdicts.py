"""Printed tables against replicated ones."""

import pandas as pd
import pytest

from localma.replication import compare, printed


def test_printed_tables_know_their_rounding():
    assert len(printed(1)) == 36
    assert len(printed(2)) == 12
    assert len(printed(3)) == 12
    one = printed(1).set_index(["setting", "n", "method"])
    assert one.loc[("S2", 600, "GW"), "rounding"] == pytest.approx(0.0005)
    assert one.loc[("S1", 100, "GW"), "rounding"] == pytest.approx(0.005)
    with pytest.raises(ValueError, match="table must be one of 1, 2, 3, 5, but is 9"):
        printed(9)


@pytest.mark.parametrize(
    ("mean", "verdict"), [(10.0, "agrees"), (10.04, "agrees"), (10.2, "differs: higher"), (9.8, "differs: lower")]
)
def test_verdicts(mean, verdict):
    paper = pd.DataFrame({"n": [100], "method": ["GW"], "mean": [10.0], "sd": [0.2], "rounding": [0.005]})
    ours = pd.DataFrame({"n": [100], "method": ["GW"], "mean": [mean], "mcse": [0.01]})
    assert compare(ours, paper)["verdict"].item() == verdict


def test_coarse_agreement_cannot_tell():
    paper = pd.DataFrame({"n": [100], "method": ["GW"], "mean": [0.01], "sd": [0.0], "rounding": [0.005]})
    ours = pd.DataFrame({"n": [100], "method": ["GW"], "mean": [0.007], "mcse": [0.0]})
    assert compare(ours, paper)["verdict"].item() == "cannot tell"
