"""A sample to learn from, a test, and what frozen models predict for both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from localma.engine import first_smallest
from localma.losses import Loss


class Sample(NamedTuple):
    """What one replication is about, in the engine's order; R of them have an axis in front (:func:`stacked`)."""

    X: np.ndarray  #: (n, d)
    F: np.ndarray  #: (n, M), or (n, M, K)
    y: np.ndarray  #: (n,)
    X_test: np.ndarray
    F_test: np.ndarray
    y_test: np.ndarray  #: responses, or the true means where a simulation knows them
    groups: Any = None  #: (n,), which rows belong together, such as those of a person, or None
    groups_test: Any = None

    def first(self, n: int) -> Sample:
        """The same with the first n rows to learn from."""
        rows: dict[str, Any] = {name: getattr(self, name) for name in ("X", "y", "F", "groups")}
        return self._replace(**{name: a[:n] for name, a in rows.items() if a is not None})

    def one(self, r: int) -> Sample:
        """Replication r of R."""
        return Sample._make(a if a is None else a[r] for a in self)


def tensors(*arrays, device: str | torch.device = "cpu") -> list[torch.Tensor]:
    """As networks take them, in single precision."""
    return [torch.as_tensor(a, dtype=torch.float32, device=device) for a in arrays]


def best_model(F: np.ndarray, y: np.ndarray, loss: Loss) -> np.ndarray:
    """Whose mean loss is smallest in each of R samples, (R,), for F (R, n, M) or (R, n, M, K) and y (R, n): the first
    of equals.
    """
    losses = loss(np.repeat(y, F.shape[2]), F.reshape(-1, *F.shape[3:]))
    return first_smallest(losses.reshape(F.shape[:3]).mean(1))


def stacked(samples: Iterable[Sample]) -> Sample:
    """Samples of one shape, every array with an axis of replications in front."""
    return Sample._make(None if parts[0] is None else np.stack(parts) for parts in zip(*samples, strict=True))
