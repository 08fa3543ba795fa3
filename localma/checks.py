"""Arguments, checked in one place: an error names the argument and says what to give instead."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

__all__ = ["check_numeric_columns", "check_same_rows", "check_seed", "check_whole", "choose", "resolve_seed"]


#: What makes a fit reproducible (an int) or not.
RandomState: TypeAlias = int | np.random.RandomState | None


def check_seed(random_state) -> None:
    """Raise ValueError unless :func:`resolve_seed` can make a seed of it."""
    if isinstance(random_state, (int, np.integer)):
        known = 0 <= random_state < 2**63 and not isinstance(random_state, bool)
    else:
        known = random_state is None or random_state is np.random or isinstance(random_state, np.random.RandomState)
    if not known:
        known_ones = "an int from 0 to 2**63 - 1, a numpy RandomState or None"
        raise ValueError(f"random_state must be {known_ones}, but is {random_state!r}")


def resolve_seed(random_state: object) -> int:
    """A torch seed from a ``random_state``: an int is the seed itself, all else is drawn from as scikit-learn does."""
    check_seed(random_state)
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return check_random_state(random_state).randint(2**31)


def check_numeric_columns(X: Any) -> None:
    """Raise ValueError naming the columns of a DataFrame that hold no numbers."""
    if hasattr(X, "columns"):
        words = [
            name for name, dtype in zip(X.columns, X.dtypes, strict=True) if not pd.api.types.is_numeric_dtype(dtype)
        ]
        if words:
            raise ValueError(
                f"X has columns that hold no numbers: {words}; encode them as numbers (for example with OneHotEncoder)"
            )


def check_same_rows(**given: object) -> None:
    """Raise ValueError if frames or series carry the same row labels in another order: rows are matched by position."""
    index = {name: a.index for name, a in given.items() if isinstance(a, (pd.DataFrame, pd.Series))}
    for name, own in index.items():
        first = next(iter(index))
        if (
            len(own) == len(index[first])
            and not own.equals(index[first])
            and own.symmetric_difference(index[first]).empty
        ):
            raise ValueError(
                f"{name} has the rows of {first} in another order; rows are matched by position, so give"
                f" {name}.loc[{first}.index]"
            )


@contextmanager
def _advice() -> Iterator[None]:
    """scikit-learn's checks with a way out that fits averages (its own suggests estimators that accept NaN)."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        if "inconsistent numbers of samples" in message:
            message = f"X and y differ in length; give one response per row of X. {message}"
        elif message.startswith(("Input y contains", "Input contains")):
            message = (
                f"{message.replace('Input contains', 'Input y contains')} Drop these rows, from X as well, or impute y."
            )
        elif message.startswith("Input X contains"):
            message = f"{message.splitlines()[0]} Drop these rows, or impute X (for example with SimpleImputer)."
        raise ValueError(message) from None


def check_whole(name: str, value: object, least: int, or_else: str = "") -> None:
    """Raise ValueError unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}{or_else}, but is {value!r}")


def choose(name: str, value: object, options: Collection) -> None:
    """Raise ValueError unless ``value`` is one of the options."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, but is {value!r}")
