"""The penalties of LocalMA and of the direct network, chosen on pilot repetitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from localma.engine import global_weights
from localma.losses import LOSSES
from localma.replication.counts.companies import PARTS, repeat
from localma.replication.counts.methods import deviance, direct_network, local_weights

#: Penalties of LocalMA and of the direct network that pilots choose from, in units of the package's own, which falls
#: with the power 3/4 of n.
FACTORS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
PILOT = 10_000  # pilot repetitions, of which penalties are chosen, are numbered from here


def try_factors(pilots: int, sizes: Sequence[int], *, seed: int = 0) -> dict[str, np.ndarray]:
    """The penalty of LocalMA and of the direct network with the smallest mean deviance, and what was tried.

    A pilot, which the experiment does not use, learns from the first n customer-years of its sample and is judged on
    the rest of the sample, as far as it holds other persons. Its test stays closed.

    Returns
    -------
    dict of arrays
        ``method`` (k,), ``factor`` (k,), the choice, ``grid`` (L,) and ``excess`` (k, L), by how much the deviance
        exceeds that of GW, on average over sizes and pilots.
    """
    which = range(PILOT, PILOT + pilots)
    data = repeat(which, seed=seed)
    rows = []
    for n in [n for n in sizes if n < PARTS[1]] or sizes[:1]:
        strangers = [~np.isin(p, p[:n]) for p in data.groups]
        gw = global_weights(data.F[:, :n], data.y[:, :n], LOSSES["poisson"])
        base = deviance(data.y, (gw[:, None] * data.F).sum(-1))
        for factor in FACTORS:
            local = (local_weights(data, n, which, factor, data.X) * data.F).sum(-1)
            with threadpool_limits(1):
                networks = [
                    direct_network(data.X[r, :n], data.y[r, :n], k, factor).predict(data.X[r])
                    for r, k in enumerate(which)
                ]
            for method, a in (("LocalMA", local), ("DirectModel", np.stack(networks))):
                excess = deviance(data.y, a) - base
                rows += [(method, factor, d[s].mean()) for d, s in zip(excess, strangers, strict=True)]
    trials = pd.DataFrame(rows, columns=["method", "factor", "excess"])
    mean = trials.groupby(["method", "factor"])["excess"].mean().unstack()
    return {
        "method": np.array(list(mean.index)),
        "factor": mean.idxmin(axis=1).to_numpy(float),
        "grid": mean.columns.to_numpy(float),
        "excess": mean.to_numpy(),
    }
