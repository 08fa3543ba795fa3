"""The default with each of its additions switched on and off, in the worlds of Tables 1-3: candidates that are clipped
and weights that are global far from the sample, a level, and a candidate of one's own.

New rows are met three times: as they are; after a typing error, which makes one covariate of each ten times as large;
and where the covariate is indeed as large as that. "Clipped alone" leaves the weights as they are. The book's chapter
"Local weights at work" (``book/replication/weights_at_work``) reads the table.
"""

from __future__ import annotations

import warnings
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from localma.averages import GlobalMA, LocalMA
from localma.engine import one_thread
from localma.replication.lab.experiment import Experiment
from localma.replication.lab.parts import chunks
from localma.replication.simulation.scenarios import Cell, candidate_models, draw, generator, true_mean

WORLDS = tuple(
    Cell(scenario, setting, n)
    for n in (100, 300, 1000)
    for scenario, setting in ((1, "S1"), (1, "S2"), (1, "S3"), (2, "-"))
)
#: The candidate of one's own.
LEARNER = HistGradientBoostingRegressor(
    max_iter=50, max_leaf_nodes=8, min_samples_leaf=5, early_stopping=False, random_state=0
)
TEST_SIZE = 1000
#: By how much a typing error multiplies.
TYPED = 10
#: Replications by setting, more of those whose bound is tight; of a look, and of a part.
FULL, QUICK, PART = {"S1": 50, "S2": 200, "S3": 200, "-": 50}, 2, 25


def averages(X, F, y, seed: int) -> dict:
    """All averages of one sample, from three fits: what the level adds is taken from a copy that has none."""
    how: dict[str, Any] = {"level": True, "progress": False, "random_state": seed}
    level, both = (LocalMA(**how, direct=own).fit(X, y, F=F) for own in (None, LEARNER))
    default, direct = copy(level), copy(both)
    default.level_ = direct.level_ = None
    found = {"GW": GlobalMA().fit(X, y, F=F), "Default": default, "Level": level, "Direct": direct}
    found["Level, direct"] = both
    for name in ("GW", "Default"):
        found[f"{name}, not clipped"] = copy(found[name]).set_params(clip=False)
    found["Default, clipped alone"] = copy(default)
    found["Default, clipped alone"].global_weights_ = None
    return found


def replicate(cell: Cell, rng: np.random.Generator, seed: int) -> dict[str, float]:
    """One replication, ``METHOD.METRIC``: mean squared distances to the true mean, "mse" of new rows as they are drawn,
    "typed" of those with a typing error, whose mean is that of the right row, and "far" of rows that lie there;
    "taken", whether held-out rows asked for the level, or the learner; and "lead", of "mse", by how much GW's is
    smaller.
    """
    (X,), (F,), (y,) = draw(cell, 1, rng)
    here = rng.standard_normal((TEST_SIZE, 5))
    typed = here.copy()
    typed[np.arange(TEST_SIZE), np.arange(TEST_SIZE) % 5] *= TYPED
    mu, mu_there = true_mean(here, cell), true_mean(typed, cell)
    fitted = averages(X, F, y, seed)
    said = {name: [one.predict(x, F=candidate_models(x)) for x in (here, typed)] for name, one in fitted.items()}
    found = {}
    for name, (a, b) in said.items():
        for metric, error in {"mse": a - mu, "typed": b - mu, "far": b - mu_there}.items():
            found[f"{name}.{metric}"] = np.square(error).mean()
    found["Level.taken"] = float(fitted["Level"].level_ is not None)
    found["Direct.taken"] = float(fitted["Level, direct"].direct_ is not None)
    return found | {f"{name}.lead": found[f"{name}.mse"] - found["GW.mse"] for name in said}


@dataclass(kw_only=True)
class Additions(Experiment):
    """Every world for n = 100, 300 and 1,000.

    Parameters
    ----------
    full : bool
        200 replications of S2 and S3 and 50 of the others; otherwise a look.

    Returns
    -------
    DataFrame
        Columns scenario, setting, n, method, metric, mean, sd, mcse, replications; metrics as in :func:`replicate`.
    """

    name = "additions"
    summary = "beyond the paper: what clipping, a level and a learner of one's own add in Tables 1 and 3"
    extent = ("replications",)

    def configuration(self):
        replications = FULL if self.full else dict.fromkeys(FULL, QUICK)
        return super().configuration() | {"replications": replications, "learner": repr(LEARNER), "typed": TYPED}

    def cells(self, found):
        total = self.configuration()["replications"]
        return {
            f"{cell.key}-{rows.start}": (cell, rows) for cell in WORLDS for rows in chunks(total[cell.setting], PART)
        }

    def measure(self, cell, rows):
        rng, seeds = generator(self.seed, cell, rows.start // PART)
        with threadpool_limits(1), one_thread(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "at .* rows", UserWarning)  # that predictions were clipped is the point
            found = [replicate(cell, rng, int(seed)) for seed in seeds[: len(rows)]]
        return {name: np.array([one[name] for one in found]) for name in found[0]}

    def tables(self, found):
        return {"": self.tidied(found, lambda cell: cell.head)}
