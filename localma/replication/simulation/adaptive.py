"""A LocalMA that need not know which world it is in: the simulation's tables with its column, the worlds between, and
its bands.

Three parts. ``tables``: the cells of Tables 1-3, on the same samples and test points as the simulation's command.
``scan``: S1 with the slopes of its logits multiplied by t, from constant weights (t = 0) towards the paper's S1 (t =
1), beside every fixed penalty. ``bands``: how often the bootstrap's intervals cover the true weights of S1. The book's
chapter "The default against its goals" (``book/replication/adaptive``) reads the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from localma.engine import MULTIPLES, Training, automatic_penalty, first_smallest, fit_local_stack, fit_stack, grid
from localma.engine.shrinkage import MEMBERS
from localma.engine.validation import FOLDS, LARGER, SMALLER
from localma.losses import LOSSES
from localma.replication.lab.experiment import Experiment
from localma.replication.lab.parts import chunks
from localma.replication.lab.sample import tensors
from localma.replication.simulation.experiment import CONFIGURATION, errors
from localma.replication.simulation.scenarios import CELLS, CHUNK, TEST_SIZE, Cell, draw, generator, true_weights

LOSS = LOSSES["squared"]
SLOPES = (0.0, 0.1, 0.2, 0.4, 0.8)
SCAN = tuple(Cell(1, "S1", n, slope) for slope in SLOPES for n in (100, 300, 900))
BANDS = tuple(Cell(1, "S1", n) for n in (100, 300, 900))
#: replications of the tables, of the scan, of the bands; and networks of resampled data for each band
FULL, QUICK = (500, 50, 50, 50), (8, 4, 4, 20)
#: replications to a part: all folds, penalties and members of so many train together
PART = {"tables": 125, "scan": 50, "bands": 25}


def _sample(cell: Cell, rows: range, seed: int, part: str):
    """Replications ``rows`` of a cell, their networks' seeds and the test points, all those of the simulation's
    command.

    Scan and bands have replications of their own, which start after those that the tables can reach.
    """
    first = rows.start // CHUNK
    rng, seeds = generator(seed, cell, first + {"tables": 0, "scan": 1000, "bands": 2000}[part])
    mine = slice(rows.start - first * CHUNK, rows.stop - first * CHUNK)
    X, F, y = (a[mine] for a in draw(cell, CHUNK, rng))
    # replication by replication the same test points as there, where a chunk's are drawn at once
    test = rng.standard_normal((mine.stop, TEST_SIZE, 5))[mine]
    return (X, F, y), seeds[mine], test


def _bold(sample, seeds, fit, fresh, careful):
    """Weights as ``careful``, but below the list the smallest held-out loss decides, whether it beats the list's end by
    a standard error or not.
    """
    cv, end = fit.cross_validation, len(SMALLER)
    rows = np.flatnonzero(cv.chosen == end)
    low = end - first_smallest(cv.loss[rows, end::-1])
    rows, low = rows[low < end], low[low < end]
    weights = careful.copy()
    if len(rows):
        some = fit_local_stack(*(a[rows] for a in sample), LOSS, seeds=seeds[rows], shrinkage=cv.shrinkage[low])
        weights[rows] = some.weights(fresh[rows]).cpu().numpy()
    return weights


def _bands(cell, sample, seeds, test, bootstrap):
    """Whether the mean of the networks plus or minus two standard deviations over resampled data covers the true
    weights, and how wide that is.
    """
    fit = fit_local_stack(*sample, LOSS, seeds=seeds, bootstrap=bootstrap)
    [fresh] = tensors(test, device=sample[0].device)
    centre, truth = fit.weights(fresh).double().cpu().numpy(), true_weights(test, cell.setting, cell.slope)
    with torch.no_grad():
        each = [torch.stack([body(x) for body in own]).double() for own, x in zip(fit.resampled, fresh, strict=True)]
    sd = torch.stack([logits.softmax(-1).std(0) for logits in each]).cpu().numpy()
    out = {}
    for level, z in ((0.8, 1.2816), (0.95, 1.96)):
        out[f"band {level:g}.coverage"] = (np.abs(truth - centre) <= z * sd).mean((1, 2))
        out[f"band {level:g}.half_width"] = (z * sd).mean((1, 2))
    out["band 0.95.error"] = np.abs(truth - centre).mean((1, 2))
    return out


@dataclass(kw_only=True)
class Adaptive(Experiment):
    """The column "Adaptive" of Tables 1-3, the scan between the worlds, and the bands' coverage.

    Returns
    -------
    DataFrame
        Columns part, scenario, setting, slope, n, method, metric, mean, sd, mcse, replications.
    """

    name = "adaptive"
    summary = "beyond the paper: the tables with cross-validated shrinkage, and the worlds between"

    device: str = "cpu"

    def prepare(self):
        *sizes, self.bootstrap = FULL if self.full else QUICK
        self.replications = dict(zip(PART, sizes, strict=True))

    def configuration(self):
        return super().configuration() | {
            "replications": self.replications,
            "bootstrap": self.bootstrap,
            "folds": FOLDS,
            "members": MEMBERS,
            "multiples": MULTIPLES,
            "smaller multiples": SMALLER,
            "larger multiples": LARGER,
            "penalty at n = 100": automatic_penalty(100),
            "LocalMA": CONFIGURATION,
            "epsilon at n = 100": Training().resolve(100, shrunk=True).epsilon,
        }

    def cells(self, found):
        return {
            f"{part}-{cell.key}-{rows.start}": (part, cell, rows)
            for part, own in {"tables": CELLS, "scan": SCAN, "bands": BANDS}.items()
            for cell in own
            for rows in chunks(self.replications[part], PART[part])
        }

    def measure(self, part, cell, rows):
        """``METHOD.METRIC`` (R,): "fixed K" is the K-th penalty of the grid, "choice K" whether cross-validation chose
        it (the last is global weights, negative ones are the smaller penalties, those beyond the grid the larger ones);
        "Adaptive, bold" takes smaller penalties without evidence of a standard error.
        """
        (X, F, y), seeds, test = _sample(cell, rows, self.seed, part)
        X, F, y, fresh = tensors(X, F, y, test, device=self.device)
        sample = X, F, y
        if part == "bands":
            return _bands(cell, sample, seeds, test[:, :500], self.bootstrap)
        fit = fit_local_stack(*sample, LOSS, seeds=seeds)
        found = {"Adaptive": fit.weights(fresh).cpu().numpy(), "GW": fit.global_weights[:, None, :]}
        found["Adaptive, bold"] = _bold(sample, seeds, fit, fresh, found["Adaptive"])
        if part == "scan":
            plain = fit_stack(*sample, LOSS, seeds=seeds)
            found["LocalMA"] = plain.weights(fresh).cpu().numpy()
            for k, penalty in enumerate(grid(cell.n)):
                fixed = fit_local_stack(*sample, LOSS, seeds=seeds, shrinkage=penalty)
                found[f"fixed {k}"] = fixed.weights(fresh).cpu().numpy()
        out = errors(found, test, cell)
        out.pop("Hull.mse", None)  # the simulation's own table has it
        chosen = fit.cross_validation.chosen - len(SMALLER)
        places = range(-len(SMALLER), len(MULTIPLES) + len(LARGER) + 1)
        return out | {f"choice {k}.share": (chosen == k).astype(float) for k in places}

    def tables(self, found):
        def head(part, cell):
            return {"part": part, "scenario": cell.scenario, "setting": cell.setting, "slope": cell.slope, "n": cell.n}

        return {"": self.tidied(found, head)}
