"""What all estimators share: a loss and its checks, frozen candidate models, predictions, a score, and what a file keeps of a fit."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils import ClassifierTags, RegressorTags, check_consistent_length, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from localma.averages.candidates import align_classes, classes_of, name_models, predict_candidates
from localma.checks import _advice, check_numeric_columns, check_same_rows
from localma.engine import Mlp, Training, first_smallest
from localma.files import write_arrays
from localma.losses import LOSSES, Loss, resolve_loss

__all__ = ["LossEstimator", "ModelAverage", "predicts_probabilities"]

FORMAT = 1

#: The averages that can be saved, by the name that a file gives: a class that says ``saved=True`` enters itself.
KINDS: dict[str, type[ModelAverage]] = {}


#: Of parameters that are groups of settings.
DEFAULTS = {"network": Mlp(), "training": Training()}


def predicts_probabilities(estimator) -> bool:
    """Whether an estimator's loss is one of classification; raises AttributeError otherwise, as :func:`available_if` wants it."""
    if not estimator._resolve_loss().is_classification:
        raise AttributeError(f"predict_proba needs loss='cross_entropy', but loss is {estimator.loss!r}; use predict")
    return True


class LossEstimator(BaseEstimator):
    """What an average and a directly trained model share: a loss, its checks, predictions on its scale, a score."""

    def set_params(self, **params):
        """As of every estimator; ``training__steps`` and its like replace one field of a frozen parameter (of its default where that is None)."""
        nested = {key: params.pop(key) for key in list(params) if key.split("__")[0] in DEFAULTS and "__" in key}
        super().set_params(**params)
        for key, value in nested.items():
            name, field = key.split("__", 1)
            if name not in self.get_params(deep=False):
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}")
            settings = DEFAULTS[name] if getattr(self, name) is None else getattr(self, name)
            if field not in settings.get_params():
                raise ValueError(f"{key}: {settings} has no field {field!r}; choose one of {', '.join(settings.get_params())}")
            setattr(self, name, replace(settings, **{field: value}))
        return self

    def _resolve_loss(self) -> Loss:
        return resolve_loss(self.loss)

    def _validate(self, X) -> np.ndarray:
        """X as a finite array; the models themselves get X as the user gave it."""
        check_numeric_columns(X)
        with _advice():
            return validate_data(self, X, reset=False, allow_nd=True, dtype="numeric")

    def _validate_sample(self, X, y) -> tuple[np.ndarray, np.ndarray]:
        """X and y of a fit as finite arrays of one length, y in the loss's domain."""
        loss = self._resolve_loss()
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None; give one response per row of X")
        check_numeric_columns(X)
        check_same_rows(X=X, y=y)
        given = np.ravel(np.asarray(y))
        if given.dtype.kind in "mM":
            raise ValueError("y holds dates or durations; give numbers, such as days since the first")
        if given.dtype == object and pd.isna(given).any():
            i = int(pd.isna(given).argmax())
            raise ValueError(f"y[{i}] is {given[i]}, a missing value. Drop these rows, from X as well, or impute y.")
        words = given[:1]
        if not loss.is_classification and len(words) and isinstance(words[0], str):
            raise ValueError(
                f"y holds words ({str(words[0])!r}), but the {loss.name} loss needs numbers; for class labels use loss='cross_entropy'"
            )
        with _advice():
            X, y = validate_data(self, X, y, y_numeric=not loss.is_classification, allow_nd=True, dtype="numeric")
        if loss.is_classification:
            check_classification_targets(y)
        else:
            y = y.astype(float)
        loss.check_response(y)
        return X, y

    def _encode(self, y) -> np.ndarray:
        """Labels as positions in ``classes_``."""
        y = np.asarray(y)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y contains the class labels {unknown[:5].tolist()}, which the models do not know (they know {self.classes_.tolist()}); "
                "drop these rows or add a model that was trained on them"
            )
        return np.searchsorted(self.classes_, y)

    def _decode(self, probabilities) -> np.ndarray:
        return self.classes_[first_smallest(-probabilities, 1)]

    def score(self, X, y, F=None) -> float:
        """Accuracy for cross-entropy, otherwise the share of deviance explained, 1 - loss / loss of the mean of y (R2 for squared loss)."""
        loss = self._resolve_loss()
        prediction, y = self.predict(X, F=F), column_or_1d(y)  # a column would broadcast against the predictions
        check_consistent_length(prediction, y)
        if loss.is_classification:
            return float(np.mean(prediction == y))
        y = y.astype(float)
        total = loss(y, np.full_like(y, y.mean())).mean()
        return float(1 - loss(y, prediction).mean() / total) if total else float("nan")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        loss = self._resolve_loss()
        tags.target_tags.required = True
        if loss.is_classification:
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        else:
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
            tags.target_tags.positive_only = loss.response in ("non-negative", "positive")
        return tags


class ModelAverage(LossEstimator):
    """Base of all averages of frozen candidate models: a subclass says how weights are fitted and computed.

    Subclasses define ``_fit_weights(X, F, y, loss)`` and ``_weights(X)``; see :class:`localma.EqualWeights` for the smallest one.
    """

    def __init_subclass__(cls, saved: bool = False, **more):
        super().__init_subclass__(**more)
        if saved:
            KINDS[cls.__name__] = cls

    def __sklearn_clone__(self):
        # scikit-learn would clone each candidate and so forget what it was trained on; candidates are data here
        keep = {"models", "network"}
        params = {k: v if k in keep else clone(v, safe=False) for k, v in self.get_params(deep=False).items()}
        copy = type(self)(**params)
        if hasattr(self, "_metadata_request"):  # set_fit_request(F=True) and its like
            copy._metadata_request = deepcopy(self._metadata_request)
        return copy

    def __sklearn_is_fitted__(self) -> bool:
        # a subclass sets one of these last, so that a fit that failed does not count
        return hasattr(self, "weights_") or hasattr(self, "network_")

    def fit(self, X, y, F=None):
        """Fit the weights; the candidate models stay as they are.

        Parameters
        ----------
        X : array or DataFrame of shape (n, ...)
            Covariates: given to the models as they are, and to a weight network as numbers.
        y : array of shape (n,)
            Responses, or class labels for cross-entropy.
        F : array of shape (n, M), or (n, M, K) for cross-entropy, optional
            Precomputed predictions, used instead of calling the models; required where ``models`` is None. The columns of a DataFrame must be
            named as the models, in their order. Classes, along the last axis, are in the sorted order of their labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Naming the argument, for wrong shapes, NaN, responses or predictions outside the loss's domain, or a model that fails.
        """
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)  # of the fit before: if this one fails, nothing may be left that only looks fitted
        loss = self._resolve_loss()
        check_same_rows(X=X, y=y, F=F)
        array, y = self._validate_sample(X, y)
        F = self._candidate_predictions(X, len(array), F, loss, y)
        if loss.is_classification:
            y = self._encode(y)
        else:
            loss.check_value(y[:2], F[:2].mean(1))
        self._fit_weights(array, F, np.asarray(y, dtype=float), loss)
        return self

    def weights(self, X) -> np.ndarray:
        """Weights w(x) of shape (n, M): non-negative, each row summing to one."""
        check_is_fitted(self)
        return self._weights(self._validate(X))

    def predict(self, X, F=None) -> np.ndarray:
        """Predicted means (n,), or class labels for cross-entropy; ``F`` as in :meth:`fit`."""
        average = self._average(X, F)
        return self._decode(average) if average.ndim == 2 else average

    @available_if(predicts_probabilities)
    def predict_proba(self, X, F=None) -> np.ndarray:
        """Class probabilities (n, K), columns in the order of ``classes_``; only with the cross_entropy loss."""
        return self._average(X, F)

    def _average(self, X, F):
        check_is_fitted(self)
        array = self._validate(X)
        F = self._candidate_predictions(X, len(array), F, self._resolve_loss())
        return np.einsum("nm,nm...->n...", self._weights(array), F)

    def _candidate_predictions(self, X, n, F, loss, y=None) -> np.ndarray:
        """F from the argument or from the models, checked; in a fit (y given) also the models' names and classes."""
        fitting, called, proba = y is not None, F is None, loss.is_classification
        if self.models is None and F is None:
            raise ValueError("F is missing: models is None, so give the candidates' predictions F of shape (n, M) here")
        if self.models is not None:
            names, models = name_models(self.models)
        classes = align_classes(names, models) if proba and self.models is not None else None
        if F is None:
            X = X if hasattr(X, "shape") else np.asarray(X)  # a DataFrame stays one: models may ask for columns by name
            F = predict_candidates(names, models, X, n, classes if fitting or not proba else self.classes_, proba)
        else:
            columns = [str(c) for c in F.columns] if hasattr(F, "columns") else None
            try:
                F = np.require(F, dtype=float, requirements="CW")  # torch warns of pandas' read-only arrays and refuses reversed ones
            except (TypeError, ValueError) as error:
                raise ValueError(f"F must be an array of numbers: {error}") from None
            if F.ndim != (3 if proba else 2) or F.shape[0] != n or 0 in F.shape:
                expected = f"({n}, M, K)" if proba else f"({n}, M)"
                if F.ndim == 2 and F.shape[1] == n != F.shape[0]:
                    expected += "; give its transpose, F.T"
                elif F.ndim == 2 and F.shape[0] == n and proba:
                    expected += "; of two classes with P the probability of the second, give np.stack([1 - P, P], -1)"
                raise ValueError(f"F has shape {F.shape}, but X has {n} rows and the loss is {loss.name}: expected {expected}")
            if self.models is not None and F.shape[1] != len(names):
                raise ValueError(f"F has {F.shape[1]} columns for {len(names)} models; give one column per model, in their order")
            if not fitting:
                names = self.model_names_
            elif self.models is None:
                names = columns or [f"f{m + 1}" for m in range(F.shape[1])]
            numbered = columns == [str(m) for m in range(F.shape[1])] and set(columns).isdisjoint(names)  # a frame made from an array
            if columns not in (None, names) and not numbered:
                way = f"reorder them: F[{names}]" if set(columns) == set(names) else "give these, or an array of columns in their order"
                raise ValueError(f"F has the columns {columns}, but the models are {names}; {way}")
        if not np.isfinite(F).all():
            i, m = np.argwhere(~np.isfinite(F))[0][:2]
            what = f"the prediction of model {names[m]!r} for row {i}" if called else f"F[{i}, {m}]"
            raise ValueError(f"{what} is NaN or infinite; impute it or drop the row or the model")
        loss.check_predictions(F, None if self.models is None else names)
        if fitting:
            self.n_models_, self.model_names_ = F.shape[1], names
            if proba:
                self.classes_ = classes_of(classes, F.shape[2], y)
        elif F.shape[1] != self.n_models_ or (proba and F.shape[2] != len(self.classes_)):
            raise ValueError(
                f"F has shape {F.shape}, but the fit saw M = {self.n_models_} models"
                + (f" and {len(self.classes_)} classes" if proba else "")
            )
        return F

    def save(self, path) -> None:
        """Write the fitted average to one file that :func:`localma.load` reads: arrays and a JSON header, no code, no candidate models."""
        check_is_fitted(self)
        if type(self) not in KINDS.values():
            raise TypeError(f"only {', '.join(sorted(KINDS))} can be saved, not {type(self).__name__}")
        header, arrays = self._pack()
        header["shapes"] = {name: list(a.shape) for name, a in arrays.items()}
        write_arrays(path, {"header": np.array(json.dumps(header))} | arrays)

    def _pack(self) -> tuple[dict, dict]:
        """Header and arrays of a saved file; a subclass adds what it has more."""
        loss = self._resolve_loss()
        key = next((key for key, known in LOSSES.items() if known == loss), None)  # equal, not the same: clones copy it
        params = {name: _plain(value) for name, value in self.get_params(deep=False).items() if name not in ("models", "loss", "network")}
        header = {
            "format": FORMAT,
            "localma": version("localma"),
            "estimator": type(self).__name__,
            "loss": key or loss.name,
            "loss_is_key": key is not None,
            "params": {name: value for name, value in params.items() if value is not ...},
            "n_models": self.n_models_,
            "model_names": self.model_names_,
            "n_features_in": self.n_features_in_,
        }
        arrays = {}
        if hasattr(self, "feature_names_in_"):
            header["feature_names_in"] = self.feature_names_in_.tolist()
        if hasattr(self, "classes_"):
            arrays["classes"] = np.asarray(self.classes_.tolist())  # labels of pandas are Python objects; in a file they need a type
        if hasattr(self, "weights_"):
            arrays["weights"] = self.weights_
        if hasattr(self, "best_"):
            header["best"], arrays["losses"] = self.best_, self.losses_
        return header, arrays

    def _unpack(self, header, arrays, network, path) -> None:
        """Take back what a subclass packed more."""


def _plain(value):
    """A value that JSON can hold, or ... where there is none."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, (bool, int, float, str)) else ...
