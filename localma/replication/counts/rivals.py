"""LocalMA against what whoever knows scikit-learn tries first, on the draws of :class:`Counts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from localma.replication.counts.companies import INSURERS, SIZES, repeat
from localma.replication.counts.experiment import judge, means_by_customer
from localma.replication.counts.methods import local_weights
from localma.replication.lab.experiment import Experiment, number_of
from localma.replication.lab.parts import chunks
from localma.replication.lab.results import load_results, tidy
from localma.replication.lab.rivals import fit_rival
from localma.replication.lab.sample import Sample

#: A kind of :mod:`localma.replication.lab.rivals`, and whether it reads log F, X or both.
REGRESSIONS = {
    "Regression on X": ("linear", "X"),
    "Regression on log F": ("linear", "F"),
    "Regression on log F, X": ("linear", "FX"),
}
#: For fewer repetitions, as they take long.
BOOSTING = {"Boosting on X": ("boosting", "X"), "Boosting on log F, X": ("boosting", "FX")}
#: Repetitions of a full run and of a look: of the regressions and of boosting; and of a part.
FULL, QUICK, CHUNK = (30, 8), (2, 1), 2


def prices(data: Sample, n: int, which: dict[str, tuple[str, str]] = REGRESSIONS) -> dict[str, np.ndarray]:
    """What ``REGRESSIONS`` (or ``BOOSTING``) predict for the test after learning from the first n, (R, 6000); each
    person is in one fold.

    Examples
    --------
    >>> from localma.replication import counts
    >>> {name: a.shape for name, a in counts.prices(counts.repeat(1), 300).items()}["Regression on log F, X"]
    (1, 6000)
    """

    def predict(one: Sample, kind: str, reads: str) -> np.ndarray:
        sample, test = (
            np.hstack([{"F": np.log(F), "X": X}[part] for part in reads])
            for X, F in ((one.X, one.F), (one.X_test, one.F_test))
        )
        return fit_rival(kind, "poisson", sample, one.y, one.groups).predict(test)

    with threadpool_limits(1):
        samples = [data.one(r).first(n) for r in range(len(data.y))]
        return {name: np.stack([predict(one, *how) for one in samples]) for name, how in which.items()}


@dataclass(kw_only=True)
class CountsRivals(Experiment):
    """Regressions and boosting of scikit-learn's beside LocalMA, whose penalty is the one that the pilots of
    :class:`~localma.replication.counts.experiment.Counts` chose.

    Parameters
    ----------
    full : bool
        The 30 repetitions of ``Counts`` (8 for boosting) and three sizes; else a look: 2, 1 and one size.
    repetitions : int, optional
    sizes : sequence of int, optional

    Returns
    -------
    DataFrame
        Columns customers, n, method, metric, mean, sd, mcse, replications. Metric "deviance" is the mean Poisson
        deviance on the test, of all customers or of one insurer's, "lead" the method's minus LocalMA's, "gain" that of
        the regression on X minus the method's, "balance" the visits predicted over those observed.
    """

    name = "counts-rivals"
    summary = "beyond the paper: visits to the doctor, by LocalMA and by scikit-learn"
    extent = ("repetitions",)

    repetitions: int | None = number_of("of the experiment")
    sizes: Sequence[int] | None = None

    def prepare(self):
        (regressions, boosting) = FULL if self.full else QUICK
        self.scaled(repetitions=(regressions, regressions))
        self.boosted = min(self.repetitions, boosting)
        self.sizes = list(self.sizes or (SIZES[::2] if self.full else SIZES[:1]))
        self.factor = load_results("counts")[1]["chosen"]["LocalMA"]

    def configuration(self):
        return super().configuration() | {"factor": self.factor}

    def cells(self, found):
        return {
            f"{kind}-{rows.start}-to-{rows.stop}": (kind, rows)
            for kind, total in (("linear", self.repetitions), ("boosting", self.boosted))
            for rows in chunks(total, CHUNK)
        }

    def measure(self, kind, repetitions):
        """``METHOD.METRIC.n`` (R, 6), over all of the test and over each insurer's customers in it."""
        data = repeat(repetitions, seed=self.seed)
        mean = means_by_customer(data)
        found = {}
        for n in self.sizes:
            said = prices(data, n, REGRESSIONS if kind == "linear" else BOOSTING)
            if kind == "linear":
                seeds = [1000 * self.seed + r for r in repetitions]
                weights = local_weights(data, n, seeds, self.factor, data.X_test)
                said["LocalMA"] = (weights * data.F_test).sum(-1)
            found |= judge(mean, said, data.y_test, n)
        return found

    def tables(self, found):
        everything = {key: values for part in self.by_cell(found).values() for key, values in part.items()}
        rows = []
        for g, customers in enumerate(["all", *INSURERS]):
            for n in self.sizes:
                end = f".{n}"
                one = {key.removesuffix(end): v[:, g] for key, v in everything.items() if key.endswith(end)}
                for method in (*REGRESSIONS, *BOOSTING):
                    own = one[f"{method}.deviance"]  # of the first repetitions, where a method has fewer
                    one[f"{method}.lead"] = own - one["LocalMA.deviance"][: len(own)]
                    one[f"{method}.gain"] = one["Regression on X.deviance"][: len(own)] - own
                rows += tidy({"customers": customers, "n": n}, one)
        return {"": pd.DataFrame(rows)}
