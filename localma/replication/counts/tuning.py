"""The penalties of LocalMA and of the direct network, chosen on pilot repetitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from localma.engine import global_weights
from localma.losses import LOSSES
from localma.replication.counts.companies import PARTS, SIZES, repeat
from localma.replication.counts.methods import deviance, direct_network, local_weights

#: Penalties of LocalMA and of the direct network that pilots choose from, in units of the package's own, which falls
#: with the power 3/4 of n.
FACTORS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
PILOT = 10_000  # pilot repetitions, of which penalties are chosen, are numbered from here


def tune(pilots: int = 10, *, sizes: Sequence[int] = SIZES[:4], seed: int = 0) -> pd.DataFrame:
    """Deviance of LocalMA and of the direct network for every penalty, on pilot repetitions that the experiment does
    not use.

    A pilot learns from the first n customer-years of its sample and is judged on the rest of the sample, as far as it
    holds other persons. Its test stays closed.

    Returns
    -------
    DataFrame
        Columns method, n, factor, repetition, excess (deviance above that of GW).
    """
    which = range(PILOT, PILOT + pilots)
    data = repeat(which, seed=seed)
    rows = []
    for n in sizes:
        strangers = [~np.isin(p, p[:n]) for p in data.groups]
        gw = global_weights(data.F[:, :n], data.y[:, :n], LOSSES["poisson"])

        def excess(a, strangers=strangers, gw=gw):
            difference = deviance(data.y, a) - deviance(data.y, (gw[:, None] * data.F).sum(-1))
            return [d[s].mean() for d, s in zip(difference, strangers, strict=True)]

        for factor in FACTORS:
            a = (local_weights(data, n, which, factor, data.X) * data.F).sum(-1)
            with threadpool_limits(1):
                networks = [
                    direct_network(data.X[r, :n], data.y[r, :n], k, factor).predict(data.X[r])
                    for r, k in enumerate(which)
                ]
            for method, found in (("LocalMA", excess(a)), ("DirectModel", excess(np.stack(networks)))):
                rows += [(method, n, factor, r, value) for r, value in zip(which, found, strict=True)]
    return pd.DataFrame(rows, columns=["method", "n", "factor", "repetition", "excess"])


def try_factors(pilots: int, sizes: Sequence[int], *, seed: int = 0) -> dict[str, np.ndarray]:
    """The factor of each method with the smallest mean excess over :func:`tune`'s sizes and pilots, and what was tried.

    Returns
    -------
    dict of arrays
        ``method`` (k,), ``factor`` (k,), the choice, ``grid`` (L,) and ``excess`` (k, L).
    """
    trials = tune(pilots, sizes=[n for n in sizes if n < PARTS[1]] or sizes[:1], seed=seed)
    mean = trials.groupby(["method", "factor"])["excess"].mean().unstack()
    return {
        "method": np.array(list(mean.index)),
        "factor": mean.idxmin(axis=1).to_numpy(float),
        "grid": mean.columns.to_numpy(float),
        "excess": mean.to_numpy(),
    }
