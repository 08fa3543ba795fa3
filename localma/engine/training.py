"""How to train: steps, batches, penalty; what is "auto" follows from the sample size."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from numbers import Real

import torch

from localma.checks import check_whole, choose

__all__ = ["Settings", "Training", "automatic_penalty"]


@dataclass(frozen=True)
class Settings:
    """A frozen dataclass that is one parameter of an estimator: its fields are searched over as
    ``parameter__field``.
    """

    def get_params(self, deep: bool = True) -> dict:
        """The fields, as scikit-learn asks for them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __repr__(self) -> str:  # as scikit-learn shows its estimators: what differs from the defaults
        given = [
            f"{field.name}={value!r}" for field in fields(self) if (value := getattr(self, field.name)) != field.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"


def automatic_penalty(n: int) -> float:
    """lambda_n = 0.01 (100 / n)^(3/4), chosen with the learning rate by ``python -m localma.replication tuning``."""
    return 0.01 * (100 / n) ** 0.75


@dataclass(frozen=True, repr=False)
class Training(Settings):
    """How to train a network; ``"auto"`` values are resolved from the sample size by :meth:`resolve`.

    Parameters
    ----------
    steps : int or "auto"
        Adam steps, one full cycle of the learning rate. Auto: 100, and 100 sqrt(n / 1000) for n above 1000; at least
        500 for a directly trained network and for weights from a module of your own.
    batch_size : int or "auto"
        Observations per step. Auto: all up to n = 1024, mini-batches of 1024 above.
    learning_rate : float or "auto"
        Peak of the one-cycle schedule (Smith & Topin 2019). Auto: 0.1; 0.01 for a directly trained network and for
        weights from a module of your own.
    penalty : float or "auto"
        lambda in ``criterion + lambda * sum of squared weights`` (not biases); the criterion is the loss divided by
        :meth:`Loss.scale`, so lambda has no unit. Auto: :func:`automatic_penalty`. A ``shrinkage`` takes its place.
    validation_fraction : float or "auto"
        Share held out to choose the best step. Auto: 0, since the penalty and the cycle regularise, while the step that
        looks best on few observations often is not (in S1 with n = 1500 a tenth held out triples the risk).
    patience : int or None
        Stop after so many evaluations without improvement (there are about 100 in a fit). None: run the whole cycle.
    epsilon : float or "auto"
        Adam divides a gradient by its own running size plus this (Kingma & Ba 2015, Algorithm 1). Auto: 1e-8, as Adam
        ships; a tenth of the automatic penalty where weights are shrunk. Close to global weights, where no direction
        pays, steps would follow the signs of rounding errors; with this much more in the denominator (neither criterion
        nor penalty has a unit) they shrink with the gradient, and what is learned is a continuous function of the data.
        A gradient below it is small beside that of the penalty on a weight of a tenth.
    dtype : {"auto", "float32", "float64"}
        Auto: float32, and float64 where the data's digits need it (times in seconds since 1970, a response with a large
        offset). Stacks train in the type of their tensors.

    Examples
    --------
    >>> from localma import Training
    >>> Training(steps=50).resolve(100)
    Training(steps=50, batch_size=100, learning_rate=0.1, penalty=0.01, validation_fraction=0.0, epsilon=1e-08)
    """

    steps: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float | str = "auto"
    penalty: float | str = "auto"
    validation_fraction: float | str = "auto"
    patience: int | None = None
    epsilon: float | str = "auto"
    dtype: str = "auto"

    def resolve(self, n: int, *, shrunk: bool = False, careful: bool = False) -> Training:
        """The same with every "auto" (but dtype's) replaced, checked for ``n`` observations.

        ``shrunk`` says that weights are shrunk towards global ones; ``careful`` asks for smaller steps, and more of
        them: of networks that predict directly, and of modules of one's own, of which nothing is known.
        """
        penalty, steps = automatic_penalty(n), round(100 * max(1.0, n / 1000) ** 0.5)
        auto = {
            "steps": max(500, steps) if careful else steps,
            "batch_size": min(n, 1024),
            "learning_rate": 0.01 if careful else 0.1,
            "penalty": penalty,
            "validation_fraction": 0.0,
            "epsilon": 0.1 * penalty if shrunk else 1e-8,
        }
        chosen = replace(self, **{name: value for name, value in auto.items() if _is_auto(getattr(self, name))})
        chosen._check(n)
        return chosen

    def n_validation(self, n: int) -> int:
        return round(float(self.validation_fraction) * n)

    def floating(self, otherwise: torch.dtype) -> torch.dtype:
        """The torch type that ``dtype`` names."""
        return otherwise if self.dtype == "auto" else getattr(torch, self.dtype)

    def _check(self, n: int) -> None:
        check_whole("steps", self.steps, 0, ' or "auto"')
        check_whole("batch_size", self.batch_size, 1, ' or "auto"')
        if self.patience is not None:
            check_whole("patience", self.patience, 1, " or None")
        choose("dtype", self.dtype, ("auto", "float32", "float64"))
        # a number that compares false with everything (NaN) fails these as well
        for name in ("learning_rate", "epsilon"):
            if not (isinstance(value := getattr(self, name), Real) and 0 < float(value) < math.inf):
                raise ValueError(f'{name} must be a positive number or "auto", but is {value!r}')
        if not (isinstance(self.penalty, Real) and 0 <= self.penalty < math.inf):
            raise ValueError(f'penalty must be a non-negative number or "auto", but is {self.penalty!r}')
        if not (isinstance(self.validation_fraction, Real) and 0 <= self.validation_fraction < 1):
            raise ValueError(
                f'validation_fraction must be a number in [0, 1) or "auto", but is {self.validation_fraction!r}'
            )
        if self.validation_fraction and not 1 <= self.n_validation(n) < n:
            raise ValueError(
                f"validation_fraction = {self.validation_fraction:g} of n = {n} observations leaves "
                f"{self.n_validation(n)} for validation and "
                f"{n - self.n_validation(n)} for training; give more data or validation_fraction=0"
            )
        if self.patience is not None and not self.validation_fraction:
            raise ValueError("patience needs a validation part: set validation_fraction above 0, or patience=None")


def _is_auto(value) -> bool:
    return isinstance(value, str) and value == "auto"
