"""What two lines of scikit-learn do with the same models, on the samples and test points of Tables 1-3.

A regression of y on the models' predictions F, on F and the covariates x, ridge regression, and boosted trees on F and
x, or on x alone. None of them is an average: coefficients need not be positive or sum to one. The book's chapter "What
a table shows" (``book/core/simulations``) reads the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from localma.replication.lab.experiment import Experiment, number_of
from localma.replication.lab.parts import chunks
from localma.replication.lab.sample import tensors
from localma.replication.simulation.experiment import CONFIGURATION, FULL, QUICK, errors, fit_cell
from localma.replication.simulation.scenarios import CELLS, CHUNK, TEST_SIZE, candidate_models, true_mean

#: Leaves of five, as the default's twenty hardly split a hundred observations.
BOOSTING = HistGradientBoostingRegressor(learning_rate=0.05, min_samples_leaf=5, random_state=0)
#: By kind, so that boosting, which takes a hundred times as long, may have fewer replications: the learner, and of F
#: and x what it reads.
RIVALS = {
    "linear": {
        "Least squares on F": (LinearRegression(), "F"),
        "Least squares on F, x": (LinearRegression(), "Fx"),
        "Ridge on F, x": (make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))), "Fx"),
    },
    "boosting": {
        "Boosting on F, x": (BOOSTING, "Fx"),
        "Boosting on x": (BOOSTING, "x"),
    },
}
#: Boosting has the first replications, one for so many of the others.
SHARE = 20


@dataclass(kw_only=True)
class Rivals(Experiment):
    """Tables 1 and 3 for those who would rather regress.

    Parameters
    ----------
    replications : int, optional
        Per cell; 500, in a quick run 20. Boosting has a twentieth of them, the first ones.

    Returns
    -------
    DataFrame
        Columns scenario, setting, n, method, metric, mean, sd, mcse, replications.
    """

    name = "simulation-rivals"
    summary = "Tables 1 and 3 for least squares, ridge regression and boosting on the models' predictions"

    replications: int | None = number_of("in each cell")
    device: str = "cpu"

    def prepare(self):
        self.scaled(replications=(FULL, QUICK))

    def configuration(self):
        rivals = {method: [repr(learner), read] for some in RIVALS.values() for method, (learner, read) in some.items()}
        fewer = {"replications of boosting": self._of("boosting")}
        return super().configuration() | fewer | {"rivals": rivals, "LocalMA": CONFIGURATION}

    def _of(self, kind):
        return self.replications if kind == "linear" else max(2, self.replications // SHARE)

    def cells(self, found):
        return {
            f"{kind}-{cell.key}-{rows.start}": (kind, cell, rows)
            for kind in RIVALS
            for cell in CELLS
            for rows in chunks(self._of(kind), CHUNK)
        }

    def measure(self, kind, cell, rows):
        """``METHOD.mse`` (R,), of (prediction - mu)^2 at the test points, and ``METHOD.lead``, by how much LocalMA's is
        smaller.
        """
        R = len(rows)
        fit, (X, F, y), rng = fit_cell(cell, R, seed=self.seed, chunk=rows.start // CHUNK, device=self.device)
        X_test = rng.standard_normal((R, TEST_SIZE, 5))
        F_test, mu = candidate_models(X_test), true_mean(X_test, cell)
        weights = fit.weights(*tensors(X_test, device=self.device)).cpu().numpy()
        local = errors({"LocalMA": weights}, X_test, cell)["LocalMA.mse"]
        mine = {"F": F, "Fx": np.concatenate([F, X], -1), "x": X}
        new = {"F": F_test, "Fx": np.concatenate([F_test, X_test], -1), "x": X_test}
        out = {}
        with threadpool_limits(1):
            for method, (learner, read) in RIVALS[kind].items():
                guess = [learner.fit(mine[read][r], y[r]).predict(new[read][r]) for r in range(R)]
                out[f"{method}.mse"] = np.square(guess - mu).mean(-1)
                out[f"{method}.lead"] = out[f"{method}.mse"] - local
        return out

    def tables(self, found):
        return {"": self.tidied(found, lambda kind, cell: cell.head)}
