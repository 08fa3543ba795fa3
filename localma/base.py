"""What all estimators share: a loss and its checks, frozen candidate models, predictions, a score."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils import ClassifierTags, RegressorTags, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from localma.candidates import align_classes, name_models, predict_candidates
from localma.losses import Loss, resolve_loss

__all__ = ["LossEstimator", "ModelAverage", "first_smallest", "predicts_probabilities", "resolve_seed"]


def resolve_seed(random_state) -> int:
    """A torch seed from an estimator's ``random_state``: an int is the seed itself, anything else is drawn from as scikit-learn does."""
    try:
        if not isinstance(random_state, (int, np.integer)):
            return check_random_state(random_state).randint(2**31)
        if 0 <= random_state < 2**63 and not isinstance(random_state, bool):
            return int(random_state)
    except ValueError:
        pass
    raise ValueError(f"random_state must be an int from 0 to 2**63 - 1, a numpy RandomState or None, but is {random_state!r}")


def first_smallest(values, axis: int = -1, rounding: float = 1e-9) -> np.ndarray:
    """Where the smallest value stands; of those that are equal up to this share of it, the first, so that no rounding error decides.

    Examples
    --------
    >>> from localma.base import first_smallest
    >>> int(first_smallest([2.0, 0.3, 0.1 + 0.2, 0.3 - 1e-16]))
    1
    """
    values = np.asarray(values)
    least = values.min(axis, keepdims=True)
    return (values <= least + rounding * np.abs(least)).argmax(axis)


def predicts_probabilities(estimator) -> bool:
    """Whether an estimator's loss is one of classification; raises AttributeError otherwise, as :func:`available_if` wants it."""
    if not estimator._resolve_loss().is_classification:
        raise AttributeError(f"predict_proba needs loss='cross_entropy', but loss is {estimator.loss!r}; use predict")
    return True


def check_numeric_columns(X) -> None:
    """Raise ValueError naming the columns of a DataFrame that hold no numbers."""
    if hasattr(X, "columns"):
        words = [name for name, dtype in zip(X.columns, X.dtypes, strict=True) if not pd.api.types.is_numeric_dtype(dtype)]
        if words:
            raise ValueError(
                f"X has columns that hold no numbers: {words}; encode them as numbers (for example with OneHotEncoder), and if the models need "
                "them as they are, pass the models' predictions as F"
            )


def check_same_rows(**given) -> None:
    """Raise ValueError if frames or series carry the same row labels in another order: rows are matched by position."""
    index = {name: a.index for name, a in given.items() if isinstance(a, (pd.DataFrame, pd.Series))}
    for name, own in index.items():
        first = next(iter(index))
        if len(own) == len(index[first]) and not own.equals(index[first]) and own.symmetric_difference(index[first]).empty:
            raise ValueError(
                f"{name} has the rows of {first} in another order; rows are matched by position, so give {name}.loc[{first}.index]"
            )


@contextmanager
def _advice():
    """scikit-learn's checks with a way out that fits averages (its own suggests estimators that accept NaN)."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        if "inconsistent numbers of samples" in message:
            message = f"X and y differ in length; give one response per row of X. {message}"
        elif message.startswith(("Input y contains", "Input contains")):
            message = f"{message.replace('Input contains', 'Input y contains')} Drop these rows, from X as well, or impute y."
        elif message.startswith("Input X contains"):
            message = f"{message.splitlines()[0]} Drop these rows, or impute X (for example with SimpleImputer)."
        raise ValueError(message) from None


class LossEstimator(BaseEstimator):
    """What an average and a directly trained model share: a loss, its checks, predictions on its scale, a score."""

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
                self.classes_ = self._classes(classes, F.shape[2], y)
        elif F.shape[1] != self.n_models_ or (proba and F.shape[2] != len(self.classes_)):
            raise ValueError(
                f"F has shape {F.shape}, but the fit saw M = {self.n_models_} models"
                + (f" and {len(self.classes_)} classes" if proba else "")
            )
        return F

    @staticmethod
    def _classes(known, K, y):
        if known is not None:
            if len(known) != K:
                raise ValueError(f"F has K = {K} columns, but the models know {len(known)} classes; give one for each of {known.tolist()}")
            return known
        labels = np.unique(y)
        if len(labels) == K:
            return labels
        # without a class 0 the labels might as well be 1 to K
        if np.issubdtype(labels.dtype, np.integer) and labels.min() == 0 and labels.max() < K:
            return np.arange(K)
        raise ValueError(
            f"y holds {len(labels)} class labels, but the predictions have K = {K} columns; "
            f"number the classes 0 to {K - 1} in the order of the columns, and have a row of class 0"
        )

    def save(self, path) -> None:
        """Write the fitted average to one file that :func:`localma.load` reads: arrays and a JSON header, no code, no candidate models."""
        from localma.storage import save  # storage rebuilds estimators, so it imports this module

        save(self, path)
