"""What the districts' networks predict, for whoever has no rents: averages can be learned and scored again from it.

The rents are others' and have no stated licence. So nothing is stored from which one could be computed: predictions and
log rents less the mean of the predictions, which no average's error depends on. That mean is not kept; the unit can be
read off EWMA's error in ``housing.csv``, and gives no rent without the mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from localma.replication.housing.companies import City, draw, networks
from localma.replication.lab.results import load_arrays


class Predictions(NamedTuple):
    """What the full run stored: R repetitions of one cell, whose average can be rerun without the rents' source."""

    F: np.ndarray  #: (R, n, M), predicted log rents less their mean over the M networks
    y: np.ndarray  #: (R, n), log rents less the same mean, in a unit in which their mean square is one
    which: np.ndarray  #: (R, n), number of each flat's district
    districts: list[str]
    n_train: int  #: so many flats, the first ones, are learned from; the others are the test


def stored(city: City, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of :class:`Predictions`, rounded to half precision, from ten repetitions with rho = 0.5."""
    splits, seeds, second, n, *_ = draw(city, 0.5, range(10), seed=seed)
    F = networks(city, splits, seeds).numpy()
    mean = F.mean(-1)
    F, y = F - mean[..., None], city.y[second] - mean
    unit = np.sqrt(np.square(y).mean())
    return {
        "F": (F / unit).astype(np.float16),
        "y": (y / unit).astype(np.float16),
        "which": city.which[second].astype(np.int8),
        "districts": np.array(city.districts),
        "n_train": np.array(n),
    }


def load_predictions() -> Predictions:
    """The stored predictions of Beijing's 13 district networks for ten repetitions with rho = 0.5, from the table
    ``lianjia2023``.

    Examples
    --------
    >>> from localma.replication import housing
    >>> housing.load_predictions().F.shape
    (10, 1856, 13)
    """
    stored = load_arrays("housing")
    F, y = (stored[name].astype(float) for name in ("F", "y"))
    return Predictions(F, y, stored["which"].astype(int), stored["districts"].tolist(), int(stored["n_train"]))
