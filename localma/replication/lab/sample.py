"""A sample to learn from, a test, and what frozen models predict for both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import numpy as np

Arrays = TypeVar("Arrays", bound=tuple)


class Sample(NamedTuple):
    """What one replication is about; R of them have an axis in front (:func:`stacked`)."""

    X: np.ndarray  #: (n, d)
    y: np.ndarray  #: (n,)
    F: np.ndarray  #: (n, M), or (n, M, K)
    X_test: np.ndarray
    y_test: np.ndarray  #: responses, or the true means where a simulation knows them
    F_test: np.ndarray

    def first(self, n: int) -> Sample:
        """The same with the first n rows to learn from."""
        return self._replace(X=self.X[:n], y=self.y[:n], F=self.F[:n])


def stacked(samples: Iterable[Arrays]) -> Arrays:
    """Samples of one shape, every array with an axis of replications in front.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication.lab.sample import Sample, stacked
    >>> stacked([Sample(*np.zeros((6, 5)))] * 3).X.shape
    (3, 5)
    """
    kind, *_ = samples = list(samples)
    return type(kind)(*map(np.stack, zip(*samples, strict=True)))
