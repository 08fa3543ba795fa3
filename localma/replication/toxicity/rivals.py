"""What the paper does not ask of toxic sentences: the package's default, the dictators among the candidates, and what
scikit-learn makes of the same numbers. All of it reads what the full run stored, so no sentence is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import logit
from threadpoolctl import threadpool_limits

from localma.engine import fit_local_stack
from localma.replication.lab.experiment import Experiment, number_of
from localma.replication.lab.parts import chunks
from localma.replication.lab.results import load_results, tidy
from localma.replication.lab.rivals import fit_rival
from localma.replication.lab.sample import tensors
from localma.replication.toxicity.methods import CE, DICTATORS, METHODS, compare_methods, learn, scores, splits
from localma.replication.toxicity.predictions import Predictions, load_predictions

#: The package's default, ``LocalMA()``, and, with the two dictators beside the companies, this and the table's LocalMA.
AVERAGES = ("Default", "Default, dictators", "LocalMA, dictators")
#: A kind of :mod:`localma.replication.lab.rivals`, and whether it reads the companies' log-odds F, the sentence X or
#: both.
REGRESSIONS = {
    "Regression on F": ("linear", "F"),
    "Regression on X": ("linear", "X"),
    "Regression on F, X": ("linear", "FX"),
}
#: For fewer repetitions, as it takes long.
BOOSTING = {"Boosting on F, X": ("boosting", "FX")}
SHARES = (0.9, 0.5, 0.1)
#: Repetitions of a full run and of a look: of the averages and regressions, and of boosting; and of a part.
FULL, QUICK, CHUNK = (20, 10), (2, 1), 5


def learned(known: Predictions, train: np.ndarray, test: np.ndarray, which: dict) -> dict[str, np.ndarray]:
    """Probability of toxic by ``REGRESSIONS`` or ``BOOSTING`` for the test rows (R, m), learned from (R, k) rows."""
    columns = {"F": logit(known.probability.clip(1e-3, 1 - 1e-3)), "X": known.summary}
    found = {}
    with threadpool_limits(1):
        for name, (kind, reads) in which.items():
            a = np.hstack([columns[one] for one in reads])
            fits = [fit_rival(kind, "cross_entropy", a[rows], known.toxic[rows]) for rows in train]
            found[name] = np.stack([fit.predict_proba(a[rows])[:, 1] for fit, rows in zip(fits, test, strict=True)])
    return found


def averaged(known: Predictions, train, test, *, penalty: float, seed: int) -> dict[str, np.ndarray]:
    """The same by ``AVERAGES``; repetition r has the seed ``seed + r``, and the table's LocalMA this penalty."""
    x, F, y = known.summary, known.candidates().astype(np.float32), known.toxic
    crowd = np.concatenate([F, np.broadcast_to(DICTATORS, (len(y), 2, 2))], 1)

    def toxic(weights, F):
        return (weights * F[test, :, 1]).sum(-1)

    def default(F):
        fit = fit_local_stack(*tensors(x[train], F[train], y[train]), CE, seeds=range(seed, seed + len(train)))
        return toxic(fit.weights(*tensors(x[test])).numpy(), F)

    return {
        "Default": default(F),
        "Default, dictators": default(crowd),
        "LocalMA, dictators": toxic(learn(x, crowd, y, train, test, penalty=penalty, seed=seed), crowd),
    }


@dataclass(kw_only=True)
class CommentsRivals(Experiment):
    """On the Hebrew splits of :class:`~localma.replication.toxicity.experiment.Comments`. Everything reads the 32
    principal components of the encoder's numbers that are stored; the table's methods, with its settings, once more as
    well.

    Parameters
    ----------
    full : bool
        20 repetitions (10 of boosting) and three shares; else a look: 2, 1 and one share.
    repetitions : int, optional
    shares : sequence of float, optional

    Returns
    -------
    DataFrame
        Columns case, share, n, method, metric, mean, sd, mcse, replications. Metric "lead" is the default's accuracy
        minus the method's.
    """

    name = "toxicity-rivals"
    summary = "beyond the paper: toxic or not, by the package's default and by scikit-learn"
    extent = ("repetitions", "shares")

    repetitions: int | None = number_of("of the experiment")
    shares: Sequence[float] | None = None

    def prepare(self):
        averages, boosting = FULL if self.full else QUICK
        self.scaled(repetitions=(averages, averages))
        self.boosted = min(self.repetitions, boosting)
        self.shares = tuple(self.shares or (SHARES if self.full else SHARES[1:2]))
        self.penalty = load_results("toxicity")[1]["chosen"]["minilm"]["penalty"]

    def configuration(self):
        said = {"cases": ["he"], "penalty": self.penalty, "reads": "32 principal components"}
        return super().configuration() | said

    def cells(self, found):
        kinds = (("averages", self.repetitions), ("boosting", self.boosted))
        return {
            f"{share:g}--{kind}--{rows.start}": (share, kind, rows)
            for share, (kind, total) in product(self.shares, kinds)
            for rows in chunks(total, CHUNK)
        }

    def measure(self, share, kind, rows):
        known = load_predictions().only("he")
        y = known.toxic
        order = splits(len(y), rows.stop, seed=self.seed)[rows.start :]
        train, test = np.split(order, [round(share * len(y))], axis=1)
        if kind == "boosting":
            return scores(learned(known, train, test, BOOSTING), y[test])
        seed = self.seed + rows.start
        found = compare_methods(known.summary, known.probability, y, order, share, penalty=self.penalty, seed=seed)
        toxic = averaged(known, train, test, penalty=self.penalty["weights"], seed=seed)
        return found | scores(toxic | learned(known, train, test, REGRESSIONS), y[test])

    def tables(self, found):
        parts = self.by_cell(found)
        size, rows = len(load_predictions().only("he").toxic), []
        for share in self.shares:
            one = parts[share, "averages"] | parts[share, "boosting"]
            for method in (*METHODS, *AVERAGES[1:], *REGRESSIONS, *BOOSTING):
                own = one[f"{method}.accuracy"]  # of the first repetitions, where a method has fewer
                one[f"{method}.lead"] = one["Default.accuracy"][: len(own)] - own
            rows += tidy({"case": "he", "share": share, "n": round(share * size)}, one)
        return {"": pd.DataFrame(rows)}
