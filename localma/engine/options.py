"""How to train: steps, batches, penalty; what is "auto" follows from the sample size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real

from localma.checks import check_whole

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """How to train; ``"auto"`` values are resolved from the sample size by :meth:`resolve`.

    Parameters
    ----------
    steps : int or "auto"
        Adam steps, one full cycle of the learning rate. Auto: 100, and 100 sqrt(n / 1000) for n above 1000.
    batch_size : int or "auto"
        Observations per step. Auto: all up to n = 1024, mini-batches of 1024 above.
    learning_rate : float
        Peak of the one-cycle schedule (Smith & Topin 2019).
    penalty : float or "auto"
        lambda in ``criterion + lambda * sum of squared weights`` (not biases); the criterion is the loss divided by
        :meth:`Loss.scale`, so lambda has no unit. Auto: 0.01 (100 / n)^(3/4), chosen with the learning rate by ``python -m localma.replication tuning``.
    validation_fraction : float or "auto"
        Share held out to choose the best step. Auto: 0, since the penalty and the cycle regularise, while the step that looks best on few
        observations often is not (in S1 with n = 1500 a tenth held out triples the risk).
    epsilon : float
        Adam divides a gradient by its own running size plus this (Kingma & Ba 2015, Algorithm 1).
    patience : int or None
        Stop after so many evaluations without improvement (there are about 100 in a fit). None: run the whole cycle.

    Examples
    --------
    >>> from localma.engine import Options
    >>> Options(steps=50).resolve(100)
    Options(steps=50, batch_size=100, learning_rate=0.1, penalty=0.01, validation_fraction=0.0, patience=None, epsilon=1e-08)
    """

    steps: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float = 0.1
    penalty: float | str = "auto"
    validation_fraction: float | str = "auto"
    patience: int | None = None
    epsilon: float = 1e-8

    def resolve(self, n: int) -> Options:
        """The same options with every "auto" replaced, checked for a sample of ``n`` observations."""
        auto = {
            "steps": round(100 * max(1.0, n / 1000) ** 0.5),
            "batch_size": min(n, 1024),
            "penalty": 0.01 * (100 / n) ** 0.75,
            "validation_fraction": 0.0,
        }
        chosen = replace(self, **{name: value for name, value in auto.items() if getattr(self, name) == "auto"})
        chosen._check(n)
        return chosen

    def n_validation(self, n: int) -> int:
        return round(self.validation_fraction * n)

    def _check(self, n: int) -> None:
        check_whole("steps", self.steps, 0, ' or "auto"')
        check_whole("batch_size", self.batch_size, 1, ' or "auto"')
        if self.patience is not None:
            check_whole("patience", self.patience, 1, " or None")
        # a number that compares false with everything (NaN) fails these as well
        if not (isinstance(self.learning_rate, Real) and 0 < self.learning_rate < math.inf):
            raise ValueError(f"learning_rate must be a positive number, but is {self.learning_rate!r}")
        if not (isinstance(self.epsilon, Real) and 0 < self.epsilon < math.inf):
            raise ValueError(f"epsilon must be a positive number, but is {self.epsilon!r}")
        if not (isinstance(self.penalty, Real) and 0 <= self.penalty < math.inf):
            raise ValueError(f'penalty must be a non-negative number or "auto", but is {self.penalty!r}')
        if not (isinstance(self.validation_fraction, Real) and 0 <= self.validation_fraction < 1):
            raise ValueError(f'validation_fraction must be a number in [0, 1) or "auto", but is {self.validation_fraction!r}')
        if self.validation_fraction and not 1 <= self.n_validation(n) < n:
            raise ValueError(
                f"validation_fraction = {self.validation_fraction:g} of n = {n} observations leaves "
                f"{self.n_validation(n)} for validation and "
                f"{n - self.n_validation(n)} for training; give more data or validation_fraction=0"
            )
        if self.patience is not None and not self.validation_fraction:
            raise ValueError("patience needs a validation part: set validation_fraction above 0, or patience=None")
