"""What an average does at one row of X, and how far that row lies from the sample of the fit."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from sklearn.covariance import LedoitWolf

from localma.averages.packing import record
from localma.engine.rows import pieces

__all__ = ["Explanation", "Surroundings", "explained", "one_row"]

#: Columns, above which a sample is not described by its covariances.
WIDEST = 100
#: Rows, evenly spread, that are enough to describe it.
MOST = 10_000
#: A row this many times as far from the sample's mean as any of its rows is outside: a smaller number sees more typing
#: errors, a larger one leaves more rows the local weights that are right.
FAR = 1.5


@record
class Surroundings(NamedTuple):
    """What is kept of a sample's rows, and none of them: where and how wide they lie."""

    mean: np.ndarray  #: (d,)
    scale: np.ndarray  #: (d,)
    precision: np.ndarray  #: of the standardised columns, (d, d)
    distances: np.ndarray  #: quantiles of the rows' distances from the mean, (101,)

    @classmethod
    def of(cls, Z: np.ndarray) -> Self | None:
        """Of the rows (n, d) that weights read; None where that is no table."""
        if Z.ndim != 2 or len(Z) < 2 or not 0 < Z.shape[1] <= WIDEST:
            return None
        Z = Z[:: -(-len(Z) // MOST)]
        mean, scale = Z.mean(0), Z.std(0)
        scale[scale == 0] = 1.0
        # shrunk, so that a direction in which the sample does not vary counts as well
        precision = LedoitWolf(assume_centered=True).fit((Z - mean) / scale).precision_
        here = cls(mean, scale, precision, np.zeros(101))
        return here._replace(distances=np.quantile(here.distance(Z), np.linspace(0, 1, 101)))

    def distance(self, Z: np.ndarray) -> np.ndarray:
        """Mahalanobis distances of rows from the sample's mean, (n,)."""
        z = (Z - self.mean) / self.scale
        return np.sqrt(np.maximum(((z @ self.precision) * z).sum(1), 0))

    def far(self, Z: np.ndarray) -> np.ndarray:
        """Which rows lie far outside the sample, (n,). Of rows like the sample's fewer than one in n are, as measured
        where columns are normal, or of Student's t with three degrees of freedom.
        """
        limit = FAR * self.distances[-1]
        return np.concatenate([self.distance(Z[k]) > limit for k in pieces(len(Z))])


class Explanation(NamedTuple):
    """What :meth:`localma.averages.ModelAverage.explain` found at one row of X."""

    table: pd.DataFrame  #: a row for each model and for the average: its weight, and what it says
    distance: float | None  #: from the sample's mean (Mahalanobis), in units of its median row's; None: nothing is read
    farther: float | None  #: share of the sample's rows that lie nearer to its mean
    level: Any = None  #: by which the average differs from the weighted sum: added, or a factor of positive means

    def __repr__(self) -> str:
        return f"{self.table.to_string(float_format='{:.4g}'.format)}\n{self._place()}"

    def _repr_html_(self) -> str:
        return f"{self.table.to_html(float_format='{:.4g}'.format)}<p>{self._place()}</p>"

    def _place(self) -> str:
        level = "" if self.level is None else f"Level, the same at every row: {np.round(self.level, 4)}. "
        if self.distance is None:
            return f"{level}Distance from the sample: not measured."
        return level + (
            f"Distance from the sample's mean: {self.distance:.3g} times that of its median row, farther than"
            f" {self.farther:.0%} of its rows."
        )


def explained(names, columns, weights, says, array, sample: Surroundings | None, level=None) -> Explanation:
    """Weights (M,) and what models and average say, (M + 1,) or (M + 1, K), as a table; and where the row lies."""
    table = pd.DataFrame(says.reshape(len(says), -1), names, columns)
    table.insert(0, "weight", [*weights, weights.sum()])
    if sample is None:
        return Explanation(table, None, None, level)
    far, usual = float(sample.distance(array)[0]), sample.distances
    farther = float(np.interp(far, usual, np.linspace(0, 1, len(usual))))
    return Explanation(table, far / (usual[len(usual) // 2] or 1.0), farther, level)


def one_row(x):
    """One row of X as an X of one row."""
    if isinstance(x, pd.Series):
        return x.to_frame().T.infer_objects()
    if not hasattr(x, "shape"):
        x = np.asarray(x)
    X = x[None] if len(x.shape) == 1 else x
    if X.shape[0] != 1:
        raise ValueError(f"x has {X.shape[0]} rows, of which one can be explained; give X[:1], say, or X.iloc[[0]]")
    return X
