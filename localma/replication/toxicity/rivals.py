"""What the paper does not ask of toxic sentences: the package's default, the dictators among the candidates, and what
scikit-learn makes of the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import logit
from threadpoolctl import threadpool_limits

from localma.engine import fit_local_stack
from localma.replication.lab.parts import chunks, joined
from localma.replication.lab.results import tidy
from localma.replication.lab.rivals import fit_rival
from localma.replication.lab.sample import tensors
from localma.replication.toxicity.experiment import CASES, Comments
from localma.replication.toxicity.methods import CE, DICTATORS, METHODS, ROLES, compare_methods, learn, scores, splits

#: Averages that read all of the encoder's numbers: the package's default, ``LocalMA()``, and, with the two dictators
#: beside the companies, this and the table's LocalMA.
AVERAGES = ("Default", "Default, dictators", "LocalMA, dictators")
#: Learners of scikit-learn's: a kind of :mod:`localma.replication.lab.rivals`, and what it reads: the companies'
#: log-odds F, the encoder's numbers X, or the principal components S of these, as boosting is slow on hundreds.
RIVALS = {
    "Regression on F": ("linear", "F"),
    "Regression on X": ("linear", "X"),
    "Regression on F, X": ("linear", "FX"),
    "Boosting on F, X": ("boosting", "FS"),
}
CHUNK = 5


def predict(x, summary, P, y, train, test, *, penalty: dict, seed: int) -> dict[str, np.ndarray]:
    """Probability of toxic by ``AVERAGES`` and ``RIVALS`` for the test rows, (R, m), after learning from (R, k) rows.

    Parameters
    ----------
    x, summary : arrays of shapes (n, d), (n, 32)
        The encoder's numbers and their principal components.
    P : array of shape (n, M)
        Of toxic, by the companies.
    y : array of shape (n,)
    train, test : arrays of row numbers
    penalty : dict
        The table's.
    seed : int
        Repetition r has seed + r.
    """
    F = np.stack([1 - P, P], -1).astype(np.float32)
    crowd = np.concatenate([F, np.broadcast_to(DICTATORS, (len(y), 2, 2))], 1)
    seeds = range(seed, seed + len(train))

    def toxic(weights, F):
        return (weights * F[test, :, 1]).sum(-1)

    def default(F):
        fit = fit_local_stack(*tensors(x[train], F[train], y[train]), CE, seeds=seeds)
        return toxic(fit.weights(*tensors(x[test])).numpy(), F)

    found = {
        "Default": default(F),
        "Default, dictators": default(crowd),
        "LocalMA, dictators": toxic(learn(x, crowd, y, train, test, penalty=penalty["weights"], seed=seed), crowd),
    }
    columns = {"F": logit(P.clip(1e-3, 1 - 1e-3)), "X": x, "S": summary}
    with threadpool_limits(1):
        for name, (kind, reads) in RIVALS.items():
            a = np.hstack([columns[one] for one in reads])
            fits = [fit_rival(kind, "cross_entropy", a[rows], y[rows]) for rows in train]
            found[name] = np.stack([fit.predict_proba(a[rows])[:, 1] for fit, rows in zip(fits, test, strict=True)])
    return found


@dataclass(kw_only=True)
class CommentsRivals(Comments):
    """On the same draws as :class:`~localma.replication.toxicity.experiment.Comments`, with a frozen encoder.

    Parameters
    ----------
    full : bool
        Hebrew, three shares, 20 repetitions, the MiniLM encoder; else a look.
    repetitions, encoder, cases, shares, device, synthetic
        As of ``Comments``.

    Returns
    -------
    DataFrame
        Columns as of ``Comments``; metric "lead" is the default's accuracy minus the method's.
    """

    name = "toxicity-rivals"
    summary = "beyond the paper: toxic or not, by the package's default and by scikit-learn"
    extent = ("cases", "shares", "encoder", "finetune", "replications")
    sizes = (20, 2)
    whole = (("he",), (0.9, 0.5, 0.1))

    def cells(self, found):
        first, *_ = super().cells(found)
        if first not in found:
            return {first: (self.hire,)}
        answers, parts = found[first], chunks(self.repetitions, CHUNK)
        return {first: ()} | {
            f"{self.encoder}--{case}--{share:g}--{rows.start}": (self.compare_more, case, share, rows, answers)
            for case, share, rows in product(self.cases, self.shares, parts)
        }

    def compare_more(self, case, share, rows, answers):
        """Some repetitions of all methods for one case and share."""
        x = np.concatenate([part.x for part in self.sentences(*CASES[case]).values()])
        y, P, summary = (
            np.concatenate([answers[f"{what}-{code}"] for code in CASES[case]])
            for what in ("toxic", "probability", "summary")
        )
        order = splits(len(y), rows.stop, seed=self.seed)[rows.start :]
        train, test = np.split(order, [round(share * len(y))], axis=1)
        how = {"penalty": dict(zip(ROLES, answers["penalty"].tolist(), strict=True)), "seed": self.seed + rows.start}
        found = compare_methods(x, P, y, order, share, device=self.device, **how)
        return found | scores(predict(x, summary / 32, P, y, train, test, **how), y[test])

    def tables(self, found):
        answers, *_ = found.values()
        rows = []
        for case, share in product(self.cases, self.shares):
            start = f"{self.encoder}--{case}--{share:g}--"
            one = joined(part for key, part in found.items() if key.startswith(start))
            names = [name for name in (*METHODS, *AVERAGES, *RIVALS) if name != "Default"]
            one |= {f"{name}.lead": one["Default.accuracy"] - one[f"{name}.accuracy"] for name in names}
            n = sum(len(answers[f"toxic-{code}"]) for code in CASES[case])
            rows += tidy({"encoder": self.encoder, "case": case, "share": share, "n": round(share * n)}, one)
        return {"": pd.DataFrame(rows)}

    def predictions(self, found):
        return {}
