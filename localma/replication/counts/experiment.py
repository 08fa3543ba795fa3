"""The run: every method for every size of the sample, two ways to cross-validate, and the tables that they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from localma.engine import MULTIPLES, Training, fit_local_stack
from localma.engine.validation import SMALLER, rescale
from localma.losses import LOSSES
from localma.replication.counts.companies import FOREST, INSURERS, PARTS, SIZES, clientele, repeat
from localma.replication.counts.methods import METHODS, deviance, predict
from localma.replication.counts.tuning import try_factors
from localma.replication.lab.experiment import Experiment, number_of
from localma.replication.lab.parts import chunks, joined
from localma.replication.lab.results import summarise, tidy
from localma.replication.lab.sample import Sample, tensors

#: LocalMA with a penalty of each sample's own choice, by cross-validation over rows (the package's ``shrinkage="cv"``)
#: or over persons.
FOLD_METHODS = ("CV rows", "CV persons")
FULL, QUICK, CHUNK = 30, 4, 5
#: Sizes, repetitions and repetitions of a part of the comparison of folds.
FOLD_SIZES = SIZES[::2]
FOLD_FULL, FOLD_QUICK, FOLD_CHUNK = 8, 2, 2


def means_by_customer(data: Sample):
    """A function that averages values (R, 6000, ...) over all of the test, and over each insurer's customers in it, to
    (R, 6, ...).
    """
    home = clientele(data.X_test)
    groups = np.stack([np.ones_like(home, float), *(home == m for m in range(len(INSURERS)))], 1)
    return partial(np.einsum, "rgn,rn...->rg...", groups / groups.sum(2, keepdims=True))


def judge(mean, predictions: dict[str, np.ndarray], y: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """``METHOD.deviance.n`` and ``METHOD.balance.n`` (R, 6) of predictions (R, 6000); balance is the visits predicted
    over those observed.
    """
    found = {}
    for method, a in predictions.items():
        found[f"{method}.deviance.{n}"] = mean(deviance(y, a))
        found[f"{method}.balance.{n}"] = mean(a) / mean(y)
    return found


def replicate(
    repetitions: range, sizes: Sequence[int], factors: dict[str, float], *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Some repetitions: what :func:`judge` says of each method, over all of the test and over each insurer's customers
    in it; ``weights.n`` (R, 6, 5), LocalMA's mean weights; and ``INSURER.deviance`` (R, 6), of each insurer's model
    alone.
    """
    data = repeat(repetitions, seed=seed)
    mean = means_by_customer(data)
    found = {f"{name}.deviance": mean(deviance(data.y_test, data.F_test[..., m])) for m, name in enumerate(INSURERS)}
    for n in sizes:
        predictions, weights = predict(data, n, [1000 * seed + r for r in repetitions], factors)
        found |= judge(mean, predictions, data.y_test, n) | {f"weights.{n}": mean(weights)}
    return found


def averaged(fit, X, F: np.ndarray) -> np.ndarray:
    """Predictions (R, n) of averages at X (R, n, d), of models' predictions (R, n, M)."""
    return (fit.weights(X).double().numpy() * F).sum(-1)


def compare_folds(repetitions: range, sizes: Sequence[int], *, seed: int = 0) -> dict[str, np.ndarray]:
    """The penalty chosen by cross-validation over rows, as ``LocalMA(shrinkage="cv")`` does it, and over persons.

    Of the methods "CV rows" and "CV persons" what :func:`judge` says; and ``rows.n``, ``persons.n`` and ``test.n``
    (R, L + 1), the excess over global weights that each penalty has on held-out rows, on held-out persons, and on the
    test.
    """
    data, loss = repeat(repetitions, seed=seed), LOSSES["poisson"]
    seeds = [1000 * seed + r for r in repetitions]
    mean = means_by_customer(data)
    found: dict[str, np.ndarray] = {}
    for n in sizes:
        X, F, y, X_test = tensors(*(a[:, :n] for a in (data.X, data.F, data.y)), data.X_test)
        sample = X, F, y
        rows = fit_local_stack(*sample, loss, seeds=seeds)
        assert rows.cross_validation is not None  # its penalty was chosen
        # the same with persons held out together, sample by sample
        persons = [
            fit_local_stack(X[[r]], F[[r]], y[[r]], loss, seeds=[s], groups=data.groups[r, :n])
            for r, s in enumerate(seeds)
        ]
        together: list[Any] = [one.cross_validation for one in persons]
        # smaller and larger penalties are tried in some repetitions only
        judged = [*range(len(SMALLER), len(SMALLER) + len(MULTIPLES)), -1]
        difference = np.concatenate([cv.difference[:, judged] for cv in together])
        shrinkage = rescale(together[0].shrinkage, together[0].held_out.shape[1], n)

        # the truth: one network for each penalty on the whole sample; where it is infinite, global weights
        each, every = np.arange(len(seeds)).repeat(len(judged)), np.tile(shrinkage[judged], len(seeds))
        again: dict[str, Any] = {"seeds": np.take(seeds, each), "shrinkage": every, "members": 1}
        fit = fit_local_stack(X[each], F[each], y[each], loss, **again)
        truth = deviance(data.y_test[each], averaged(fit, X_test[each], data.F_test[each])).mean(1)
        truth = truth.reshape(-1, len(judged))
        predictions = {
            "CV rows": averaged(rows, X_test, data.F_test),
            "CV persons": np.concatenate([*map(averaged, persons, X_test[:, None], data.F_test[:, None])]),
        }
        found |= {f"rows.{n}": rows.cross_validation.difference[:, judged], f"persons.{n}": difference}
        found[f"test.{n}"] = truth - truth[:, -1:]
        found |= judge(mean, predictions, data.y_test, n)
    return found


def tabulate(found: dict[str, np.ndarray], sizes: Sequence[int]) -> pd.DataFrame:
    """The tidy table of :func:`run` from all repetitions' arrays."""
    rows = []
    for g, group in enumerate(["all", *INSURERS]):
        alone = {f"{name}.deviance": found[f"{name}.deviance"][:, g] for name in INSURERS}
        rows += tidy({"customers": group, "n": 0}, alone)
        for n in sizes:
            value = {}
            for method in (m for m in (*METHODS, *FOLD_METHODS) if f"{m}.deviance.{n}" in found):
                for metric in ("deviance", "balance"):
                    value[f"{method}.{metric}"] = found[f"{method}.{metric}.{n}"][:, g]
                if method != "LocalMA":
                    own = value[f"{method}.deviance"]  # of the first repetitions, where a method has fewer
                    value[f"{method}.lead"] = own - value["LocalMA.deviance"][: len(own)]
            value |= {f"{name}.weight": found[f"weights.{n}"][:, g, m] for m, name in enumerate(INSURERS)}
            rows += tidy({"customers": group, "n": n}, value)
    return pd.DataFrame(rows)


def tabulate_folds(found: dict[str, np.ndarray], sizes: Sequence[int]) -> pd.DataFrame:
    """The tidy table of what each judge says of each penalty, from :func:`compare_folds`."""
    return pd.DataFrame(
        {"n": n, "judge": judge, "factor": factor, "metric": "excess"} | summarise(values)
        for n in sizes
        for judge in ("rows", "persons", "test")
        for factor, values in zip((*MULTIPLES, np.inf), found[f"{judge}.{n}"].T, strict=True)
    )


@dataclass(kw_only=True)
class Counts(Experiment):
    """Pilots choose the penalties, then every method for every size; then two ways to cross-validate, a table of its
    own.

    Parameters
    ----------
    full : bool
        30 repetitions (8 for the two ways), 10 pilots and all sizes; else a look: 4, 2, 2 and two sizes.
    repetitions, pilots : int, optional
    sizes : sequence of int, optional

    Returns
    -------
    DataFrame
        Columns customers, n, method, metric, mean, sd, mcse, replications. Customers are "all" of the test or those of
        one insurer; metric "deviance" is the mean Poisson deviance (of an insurer's model alone with n = 0), "lead" the
        method's deviance minus LocalMA's, "balance" the visits predicted over those observed, "weight" LocalMA's mean
        weight on an insurer.
    """

    name = "counts"
    summary = "beyond the paper: visits to the doctor, five insurers, one merged book"
    extent = ("repetitions",)

    repetitions: int | None = number_of("of the experiment")
    pilots: int | None = None
    sizes: Sequence[int] | None = None

    def prepare(self):
        self.scaled(repetitions=(FULL, QUICK), pilots=(10, 2))
        self.sizes = list(self.sizes or (SIZES if self.full else SIZES[:2]))
        if wrong := [n for n in self.sizes if not 1 <= n <= PARTS[1]]:
            raise ValueError(f"sizes contains {wrong[0]}; n must lie between 1 and {PARTS[1]}")
        self.fold_sizes = [n for n in self.sizes if n in FOLD_SIZES] or self.sizes[:1]

    def configuration(self):
        return super().configuration() | {"parts": PARTS, "forest": FOREST, "LocalMA": asdict(Training())}

    def cells(self, found):
        if "pilots" not in found:
            return {"pilots": (try_factors, self.pilots, self.sizes)}
        factors = dict(zip(found["pilots"]["method"].tolist(), found["pilots"]["factor"].tolist(), strict=True))
        folds = min(self.repetitions, FOLD_FULL if self.full else FOLD_QUICK)
        main = {
            f"from-{r.start}-to-{r.stop}": (replicate, r, self.sizes, factors) for r in chunks(self.repetitions, CHUNK)
        }
        return main | {
            f"folds-{r.start}-to-{r.stop}": (compare_folds, r, self.fold_sizes) for r in chunks(folds, FOLD_CHUNK)
        }

    def measure(self, what, *cell):
        return what(*cell, seed=self.seed)

    def tables(self, found):
        main, folds = (
            joined(part for key, part in found.items() if key.startswith(kind)) for kind in ("from", "folds")
        )
        return {"": tabulate(main | folds, self.sizes), "folds": tabulate_folds(folds, self.fold_sizes)}

    def remarks(self, found):
        pilots = found["pilots"]
        methods, grid = pilots["method"].tolist(), map(str, pilots["grid"].tolist())
        excess = pd.DataFrame(pilots["excess"].round(4), index=methods, columns=list(grid))
        return {
            "chosen": dict(zip(methods, pilots["factor"].tolist(), strict=True)),
            "pilots": excess.to_dict(orient="index"),
        }


run = Counts.run
