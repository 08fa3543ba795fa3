"""Arguments, checked in one place: an error names the argument and says what to give instead."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

__all__ = [
    "check_answers",
    "check_numeric_columns",
    "check_reach",
    "check_same_rows",
    "check_seed",
    "check_whole",
    "choose",
    "plain",
    "resolve_seed",
]

#: Beyond it, or below its inverse, squares are no numbers.
REACH = 1e150


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
    dtypes = X.dtypes.items() if isinstance(X, pd.DataFrame) else ()
    words = [name for name, dtype in dtypes if not pd.api.types.is_numeric_dtype(dtype)]
    if words:
        raise ValueError(
            f"X has columns that hold no numbers: {words}; encode them as numbers (for example with OneHotEncoder)"
        )


def check_same_rows(**given: Any) -> None:
    """Raise ValueError if frames or series carry the same row labels in another order, since rows are matched by
    position; or if entries are masked, since a mask would be lost.
    """
    for name, values in given.items():
        if np.ma.is_masked(values):
            row = np.argwhere(np.ma.getmaskarray(values))[0][0]
            raise ValueError(f"{name} is masked in row {row}: drop such rows, or give {name}.filled(...)")
    index = {name: a.index for name, a in given.items() if isinstance(a, (pd.DataFrame, pd.Series))}
    for name, own in index.items():
        first, labels = next(iter(index.items()))
        if len(own) == len(labels) and not own.equals(labels) and own.symmetric_difference(labels).empty:
            raise ValueError(
                f"{name} has the rows of {first} in another order; rows are matched by position, so give"
                f" {name}.loc[{first}.index]"
            )


def check_reach(name: str, values: np.ndarray) -> None:
    """Raise ValueError for finite numbers that have no square; of the smallest ones only if there are no others."""
    if values.size and values.dtype.kind == "f":
        largest = float(max(values.max(), -values.min()))
        if largest > REACH or 0 < largest < 1 / REACH:
            place = np.unravel_index(np.abs(values).argmax(), values.shape)
            entry = f"{name}[{', '.join(map(str, place))}] = {values[place]:.3g}"
            raise ValueError(f"{entry} has no square in floating point; correct or drop the row, or change the unit.")


def check_answers(name: str, values: np.ndarray) -> None:
    """Raise ValueError if a network gives no numbers for some rows, which its precision cannot hold."""
    wrong = ~np.isfinite(values).reshape(len(values), -1).all(1)
    if wrong.any():
        raise ValueError(
            f"{name} gives no numbers for {wrong.sum()} of {len(values)} rows, row {wrong.argmax()} of X first: too"
            " large for its precision, such as a code for missing; correct or drop these rows"
        )


def plain(values: Any) -> np.ndarray:
    """Numbers as a copy would hold them, native and in C order, in a precision that numpy and torch share."""
    array = np.asarray(values)
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "f":  # half precision cannot add up, the longest one torch does not know
        dtype = np.promote_types(dtype, np.float32) if dtype.itemsize < 8 else np.dtype(float)
    return np.require(array, dtype, "C")


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
