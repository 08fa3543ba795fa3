"""What an average and a directly trained model share: a loss and its checks, predictions on its scale, a score."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from safetensors.numpy import save
from sklearn.base import BaseEstimator
from sklearn.utils import ClassifierTags, RegressorTags, _safe_indexing, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, _check_y, check_is_fitted, validate_data
from torch import nn

from localma.averages.features import as_frame
from localma.averages.packing import digest, name_of, pack
from localma.checks import _advice, check_numeric_columns, check_reach, check_same_rows, plain
from localma.engine import Mlp, Training, first_smallest
from localma.files import write_atomically
from localma.losses import Loss, resolve_loss

__all__ = ["LossEstimator", "counted", "predicts_probabilities"]

#: Of parameters that are groups of settings.
DEFAULTS = {"network": Mlp(), "training": Training()}


def predicts_probabilities(estimator) -> bool:
    """Whether an estimator's loss is one of classification; else AttributeError, as :func:`available_if` wants it."""
    loss = estimator._known_loss()
    if loss is None or not loss.is_classification:
        raise AttributeError(f"predict_proba needs loss='cross_entropy', but loss is {estimator.loss!r}; use predict")
    return True


def counted(sample_weight, *arrays) -> tuple:
    """The weights of rows, checked, and the arrays (or None), both without the rows of weight zero."""
    if sample_weight is None:
        return None, *arrays
    given = [a for a in arrays if a is not None]
    check_same_rows(X=given[0], sample_weight=sample_weight, **{"yF"[k]: a for k, a in enumerate(arrays[1:3])})
    check_consistent_length(*given)
    if isinstance(sample_weight, (str, dict)):
        way = "compute_sample_weight of sklearn.utils.class_weight makes numbers of it"
        raise ValueError(f"sample_weight must be an array of numbers, but is {sample_weight!r}; {way}")
    weight = _check_sample_weight(sample_weight, given[0], dtype=float, ensure_non_negative=True)
    rows = np.flatnonzero(weight)
    if len(rows) == len(weight):
        return weight, *arrays
    return weight[rows], *(None if a is None else _safe_indexing(a, rows) for a in arrays)


#: Of saved files; what an earlier one holds is not guessed.
FORMAT = 3

#: Every class that can be saved, by module and name; of one that is defined twice, as in a cell that is run again, the
#: last.
KINDS: dict[tuple[str, str], type[LossEstimator]] = {}


class LossEstimator(BaseEstimator):
    """What an average and a directly trained model share: a loss, its checks, predictions on its scale, a score, a
    file.
    """

    def __init_subclass__(cls, **more):
        super().__init_subclass__(**more)
        KINDS[cls.__module__, cls.__name__] = cls

    def _learned(self) -> list[str]:
        """Names of what a fit has found, by scikit-learn's convention."""
        return [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]

    def _forget(self) -> None:
        for name in self._learned():
            delattr(self, name)

    def set_params(self, **params: Any) -> Self:
        """As of every estimator; ``training__steps`` and its like replace one field of a frozen parameter (of its
        default where that is None).
        """
        nested = {key: params.pop(key) for key in list(params) if key.split("__")[0] in DEFAULTS and "__" in key}
        super().set_params(**params)
        for key, value in nested.items():
            name, field = key.split("__", 1)
            if name not in self.get_params(deep=False):
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}")
            settings = DEFAULTS[name] if getattr(self, name) is None else getattr(self, name)
            if field not in settings.get_params():
                raise ValueError(
                    f"{key}: {settings} has no field {field!r}; choose one of {', '.join(settings.get_params())}"
                )
            setattr(self, name, replace(settings, **{field: value}))
        return self

    def _resolve_loss(self) -> Loss:
        return resolve_loss(self.loss)

    def _known_loss(self) -> Loss | None:
        """The loss, or None where ``fit`` will say what is wrong with it: a mere description must not fail."""
        with suppress(ValueError, TypeError):
            return self._resolve_loss()
        return None

    def _read(self, X, reset: bool = False) -> np.ndarray:
        """X as a finite array of numbers, its columns those of the fit; ``reset`` in the fit itself."""
        X = as_frame(X)
        check_numeric_columns(X)
        check_same_rows(X=X)
        with _advice():
            array = plain(validate_data(self, X, reset=reset, allow_nd=True, dtype="numeric"))
        check_reach("X", array)
        return array

    def _response(self, X, y, F=None) -> np.ndarray:
        """y of a sample as a finite array in the loss's domain, X and F having its rows."""
        loss = self._resolve_loss()
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; give one response per row"
                " of X"
            )
        check_same_rows(X=X, y=y, F=F)
        given = np.asarray(y)
        if given.ndim == 2 and given.shape[1] > 1:
            n, q = given.shape
            raise ValueError(
                f"y has {q} columns, but an average is of one response. Fit one for each column, with models or F of"
                " its own (MultiOutputRegressor gives each the same models); or, for weights that they share, one to"
                f" the longer sample np.repeat(X, {q}, 0), y.ravel(), with F of shape ({n * q}, M)"
            )
        given = given.ravel()
        if given.dtype.kind in "mM":
            raise ValueError("y holds dates or durations; give numbers, such as days since the first")
        if given.dtype == object and pd.isna(given).any():
            i = int(pd.isna(given).argmax())
            raise ValueError(f"y[{i}] is {given[i]}, a missing value. Drop these rows, from X as well, or impute y.")
        if not loss.is_classification and len(given) and isinstance(given[0], str):
            raise ValueError(
                f"y holds words ({str(given[0])!r}), but the {loss.name} loss needs numbers; for class labels use"
                " loss='cross_entropy'"
            )
        with _advice():
            y = np.asarray(_check_y(y, y_numeric=not loss.is_classification, estimator=self))
            check_consistent_length(X, y)
        if loss.is_classification:
            check_classification_targets(y)
        else:
            y = y.astype(float)
            check_reach("y", y)
        loss.check_response(y)
        return y

    def _encode(self, y) -> np.ndarray:
        """Labels as positions in ``classes_``."""
        y = np.asarray(y)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y contains the class labels {unknown[:5].tolist()}, which the models do not know (they know"
                f" {self.classes_.tolist()}); drop these rows or add a model that was trained on them. A model that"
                " numbers the labels, such as XGBoost's, is given as a function: model.predict_proba"
            )
        return np.searchsorted(self.classes_, y)

    def _decode(self, probabilities) -> np.ndarray:
        return self.classes_[first_smallest(-probabilities, 1)]

    def score(self, X: ArrayLike, y: Any, F: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy for cross-entropy, otherwise the share of deviance explained, 1 - loss / loss of the mean of y.

        For squared loss that is R2. ``sample_weight`` of shape (n,): a row with weight two counts as two rows.
        """
        check_same_rows(X=X, y=y, F=F, sample_weight=sample_weight)
        loss = self._resolve_loss()
        prediction, y = self.predict(X, F=F), column_or_1d(y)  # a column would broadcast against the predictions
        check_consistent_length(prediction, y)
        weight = _check_sample_weight(sample_weight, y, dtype=float, ensure_non_negative=True)
        if loss.is_classification:
            return float(np.average(prediction == y, weights=weight))
        y = y.astype(float)
        total = np.average(loss(y, np.full_like(y, np.average(y, weights=weight))), weights=weight)
        return float(1 - np.average(loss(y, prediction), weights=weight) / total) if total else float("nan")

    def save(self, path: str | Path) -> None:
        """Write what was fitted to one file that :func:`localma.load` reads: arrays and a JSON header in the
        safetensors format, no code, no models.

        Raises
        ------
        TypeError
            Naming what was learned that only code can describe, such as a classifier of scikit-learn's.
        """
        check_is_fitted(self)
        arrays: dict[str, np.ndarray] = {}
        params, name, given = {}, type(self).__name__, self.get_params(deep=False)
        for key, value in given.items():
            if key not in ("models", "loss", "learner") and not isinstance(value, nn.Module):
                with suppress(TypeError):  # what is code is given to ``load`` again, or takes its default
                    params[key] = pack(value, arrays, key)
        learned = {}
        for key in self._learned():
            try:
                learned[key] = pack(getattr(self, key), arrays, key)
            except TypeError as error:
                # ``load`` is given these, as it is a network's code
                if key not in ("features_", "direct_", "learner_"):
                    raise TypeError(f"{name} cannot be saved: {error}; pickle it, for readers who trust you") from None
                learned[key] = {"code": key}
        header = {"format": FORMAT, "localma": version("localma"), "module": type(self).__module__, "estimator": name}
        header |= {"params": params, "learned": learned}
        if "loss" in given:
            header["loss"] = name_of(self._resolve_loss())
        text = {"localma": json.dumps(header | {"digest": digest(header, arrays)})}
        write_atomically(path, lambda place: place.write_bytes(save(arrays, text)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        loss = self._known_loss()
        tags.target_tags.required = True
        if loss is not None and loss.is_classification:
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        else:
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
            tags.target_tags.positive_only = loss is not None and loss.response in ("non-negative", "positive")
        return tags
