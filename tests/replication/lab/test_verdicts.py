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
    ("theirs", "sd", "mean", "mcse", "verdict"),
    [
        (10.0, 0.2, 10.0, 0.01, "agrees"),
        (10.0, 0.2, 10.04, 0.01, "agrees"),
        (10.0, 0.2, 10.2, 0.01, "differs: higher"),
        (10.0, 0.2, 9.8, 0.01, "differs: lower"),
        (0.01, 0.0, 0.007, 0.0, "cannot tell"),  # too coarse
    ],
)
def test_verdicts(theirs, sd, mean, mcse, verdict):
    paper = pd.DataFrame({"n": [100], "method": ["GW"], "mean": [theirs], "sd": [sd], "rounding": [0.005]})
    ours = pd.DataFrame({"n": [100], "method": ["GW"], "mean": [mean], "mcse": [mcse]})
    assert compare(ours, paper)["verdict"].item() == verdict
