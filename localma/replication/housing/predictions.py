"""What the districts' networks predict, for whoever has no rents: averages can be learned and scored again from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from localma.replication.housing.companies import City, draw, networks
from localma.replication.lab.results import load_arrays


class Predictions(NamedTuple):
    """What the full run stored: R repetitions of one cell, whose average can be rerun without the rents' source."""

    F: np.ndarray  #: (R, n, M), predicted log rents
    y: np.ndarray  #: (R, n), log rents
    which: np.ndarray  #: (R, n), number of each flat's district
    districts: list[str]
    n_train: int  #: so many flats, the first ones, are learned from; the others are the test


def stored(city: City, *, repetitions: int = 10, rho: float = 0.5, seed: int = 0) -> dict[str, np.ndarray]:
    """What the districts' networks predict for the flats of D2.

    Arrays of :class:`Predictions`, log rents as float16 after ``centre`` is subtracted: rounded to a thousandth of a
    rent or less near the centre.
    """
    splits, seeds, second, n, *_ = draw(city, rho, range(repetitions), seed=seed)
    F = networks(city, splits, seeds).numpy()
    centre = round(float(city.y.mean()), 2)
    return {
        "F": (F - centre).astype(np.float16),
        "y": (city.y[second] - centre).astype(np.float16),
        "which": city.which[second].astype(np.int8),
        "districts": np.array(city.districts),
        "centre": np.array(centre),
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
    F, y = (stored[name].astype(float) + float(stored["centre"]) for name in ("F", "y"))
    return Predictions(F, y, stored["which"].astype(int), stored["districts"].tolist(), int(stored["n_train"]))
