"""What one replication is about."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Sample(NamedTuple):
    """What one replication is about."""

    X: np.ndarray  #: (n, d)
    y: np.ndarray  #: (n,)
    F: np.ndarray  #: (n, M), or (n, M, K)
    X_test: np.ndarray
    y_test: np.ndarray  #: responses, or the true means where a simulation knows them
    F_test: np.ndarray
