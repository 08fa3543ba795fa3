"""LocalMA against every other method on the digits."""

from __future__ import annotations

import pandas as pd

from localma.replication.lab.verdicts import better


def verdicts(table: pd.DataFrame, *, z: float = 3.0) -> pd.DataFrame:
    """LocalMA against every other method in a table of :func:`compare_methods`, repetition by repetition.

    Indexed by n and the other method; columns difference (the mean), mcse (its Monte-Carlo error) and verdict, which is
    "cannot tell" for less than ``z`` of these errors.
    """
    wide = table.pivot_table(index=["n", "repetition"], columns="method", values="accuracy")
    gain = wide.rsub(wide["LocalMA"], axis=0).drop(columns="LocalMA")
    groups = gain.groupby("n")
    mean, error = groups.mean().stack(), (groups.std() / groups.count() ** 0.5).stack()
    return pd.DataFrame({"difference": mean, "mcse": error, "verdict": better(mean, error, z)})
