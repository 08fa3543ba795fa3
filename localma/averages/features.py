"""What weights read of X: an array of numbers, whatever it is that the models read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_union
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import _num_samples

from localma.averages.packing import record
from localma.checks import check_same_rows

__all__ = ["TableFeatures", "as_frame", "learn_features", "read_features"]

#: Categories of a column that get an indicator: the most frequent ones.
CATEGORIES = 20

#: What pandas calls a column of words.
WORDS = ("string", "categorical", "boolean")


#: And one of numbers, which may hold them as objects or, as Arrow does, as decimals.
NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")


def as_frame(X: Any) -> Any:
    """X as it is, but frames of other libraries (Polars, Arrow) as pandas' and columns that hold numbers as numbers."""
    names = getattr(X, "column_names", getattr(X, "columns", None))
    if names is None:
        return X
    if not isinstance(X, pd.DataFrame):
        X = pd.DataFrame({name: np.asarray(X[name]) for name in names})
    return X.apply(_plain) if any(dtype.kind == "O" or not isinstance(dtype, np.dtype) for dtype in X.dtypes) else X


def _plain(column: pd.Series) -> pd.Series:
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in NUMBERS and (column.dtype == object or kind == "decimal"):
        return pd.Series(_numbers(column), column.index)
    return column.astype("boolean") if isinstance(column.dtype, pd.ArrowDtype) and kind == "boolean" else column


@record
class TableFeatures(NamedTuple):
    """How the columns of a data frame become numbers: scikit-learn's transformers with all that they know as
    parameters, so that a file can hold it.
    """

    names: list  #: of the columns that are read
    columns: list  #: of each: None (as it is), a number (for what is missing), or a list of categories

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """The numbers of a frame, (n, d)."""
        X = as_frame(X)
        absent = [name for name in self.names if name not in getattr(X, "columns", ())]
        if absent:
            raise ValueError(f"X has no columns {absent}")
        parts = [_words(X[a]) if isinstance(how, list) else _numbers(X[a]) for a, how in zip(*self, strict=True)]
        steps = [(_transformer(how), [j]) for j, how in enumerate(self.columns)]
        return make_column_transformer(*steps, sparse_threshold=0).fit_transform(
            pd.DataFrame(dict(enumerate(parts)), index=X.index)
        )


def _transformer(how):
    if how is None:
        return "passthrough"
    if isinstance(how, list):
        return OneHotEncoder(categories=[how], handle_unknown="ignore", sparse_output=False)
    return make_union(
        SimpleImputer(strategy="constant", fill_value=how, keep_empty_features=True), MissingIndicator(features="all")
    )


def _numbers(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype=float, na_value=np.nan)


def _words(column: pd.Series) -> pd.Series:
    """Words as objects; None for what is missing."""
    return column.astype("string").astype(object).where(column.notna(), None)


def _learn_table(X: pd.DataFrame) -> TableFeatures:
    columns: list = []
    unread = {}
    for name, column in X.items():
        if pd.api.types.is_numeric_dtype(column):
            values = _numbers(column)
            gaps = np.isnan(values)
            columns.append((0.0 if gaps.all() else float(np.nanmedian(values))) if gaps.any() else None)
        elif pd.api.types.infer_dtype(column, skipna=True) in WORDS:
            count = _words(column).value_counts(dropna=False)
            frequent = sorted(count.items(), key=lambda item: (-item[1], str(item[0])))[:CATEGORIES]
            known = sorted(word for word, _ in frequent if not pd.isna(word))
            columns.append(known + [None] * any(pd.isna(word) for word, _ in frequent))
        else:
            unread[name] = str(column.dtype)
    if unread:
        raise ValueError(
            f"X has columns that are neither numbers nor categories: {unread}; name those that the weights shall read,"
            " features=[...], or give a function or a transformer that makes numbers of them"
        )
    if not X.columns.is_unique:
        raise ValueError(f"X has columns of one name: {list(X.columns[X.columns.duplicated()])}; rename them")
    return TableFeatures(list(X.columns), columns)


def learn_features(features: Any, X: Any) -> Any:
    """What makes numbers of X, learned from the X of a fit; None where it is the numbers of X itself."""
    if features is None:
        X = as_frame(X)
        plain = not isinstance(X, pd.DataFrame) or all(
            pd.api.types.is_numeric_dtype(dtype) and not X.iloc[:, j].isna().any() for j, dtype in enumerate(X.dtypes)
        )
        return None if plain else _learn_table(X)
    if isinstance(features, (list, tuple, np.ndarray, pd.Index)):
        X = as_frame(X)
        absent = [name for name in features if not isinstance(X, pd.DataFrame) or name not in X.columns]
        if absent or not len(features):
            known = f"the columns {list(X.columns)}" if isinstance(X, pd.DataFrame) else "no names of columns"
            raise ValueError(
                f"features is {list(features)}, but X has {known}; name columns of a data frame, or give a function of"
                " X such as lambda X: X[:, [0, 2]]"
            )
        return _learn_table(X[list(features)])
    if hasattr(features, "fit") and hasattr(features, "transform") and not isinstance(features, type):
        try:
            return clone(features).fit(X)
        except Exception as error:
            raise ValueError(
                f"features failed on X: {type(error).__name__}: {error}. It is fitted to X alone; one that needs y is"
                " fitted on other rows and given as a function, features=transformer.transform"
            ) from error
    if callable(features) and not isinstance(features, type):
        return features
    raise TypeError(
        f"features must be a list of column names, a function of X or a scikit-learn transformer, but is {features!r}"
    )


def read_features(features: Any, X: Any) -> Any:
    """The numbers that learned features make of X, one row for each of its rows."""
    try:
        Z = features.transform(X) if hasattr(features, "transform") else features(X)
        check_same_rows(X=X, features=Z)
    except Exception as error:
        raise ValueError(f"features failed on X: {type(error).__name__}: {error}") from error
    if _num_samples(Z) != _num_samples(X):
        raise ValueError(f"features gave {_num_samples(Z)} rows for the {_num_samples(X)} rows of X; give one for each")
    return Z.toarray() if issparse(Z) else Z
