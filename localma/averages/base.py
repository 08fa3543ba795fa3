"""What all averages share: frozen candidate models, weights, predictions, a file."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from localma.averages.candidates import (
    candidate_predictions,
    classes_of,
    clipped,
    known_classes,
    name_candidates,
    usual_range,
)
from localma.averages.estimator import LossEstimator, counted, predicts_probabilities
from localma.averages.explanation import Explanation, Surroundings, explained, one_row
from localma.averages.features import learn_features, read_features
from localma.averages.level import at_level
from localma.checks import check_reach, check_same_rows, check_seed, choose
from localma.engine.rows import pieces
from localma.losses import Loss
from localma.losses.loss import LossLike

__all__ = ["ModelAverage"]


class ModelAverage(LossEstimator):
    """Base of all averages of frozen candidate models: a subclass says how weights are fitted and computed.

    Subclasses define ``_fit_weights(X, F, y, loss, sample_weight=None)`` and ``_weights(X)``; see
    :class:`localma.EqualWeights` for the smallest one. What they learn goes to attributes that end with an underscore,
    and these are what :meth:`save` writes. A subclass with settings checks them in ``_check``.
    """

    #: What makes numbers of X for the weights; a subclass with weights that read X may have it as a setting.
    features: Any = None
    features_: Any = None  #: as a fit has learned it; None: X as it is
    simplex: bool = True  #: weights are non-negative and sum to one
    direct_: Any = None  #: a fitted learner that is the last candidate; None: all are the user's
    level_: Any = None  #: what is added to all candidates together, see ``localma.averages.level``; None: nothing
    sample_: Surroundings | None = None
    clip: bool = True  #: for a subclass that does not have it as a setting
    in_blocks: bool = False  #: the fit walks F block by block, whatever its precision and wherever it lies
    range_: np.ndarray | None = None  #: within which candidates are heard, (2, M); None: wherever they are

    def __init__(self, models: Sequence[Any] | None = None, *, loss: LossLike = "squared", clip: bool = True) -> None:
        self.models = models
        self.loss = loss
        self.clip = clip

    def __sklearn_clone__(self):
        # scikit-learn would clone each candidate and so forget what it was trained on; candidates are data here
        keep = {"models", "network"}
        params = {k: v if k in keep else clone(v, safe=False) for k, v in self.get_params(deep=False).items()}
        copy = type(self)(**params)
        if hasattr(self, "_metadata_request"):  # set_fit_request(F=True) and its like
            copy._metadata_request = deepcopy(self._metadata_request)
        return copy

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_models_")

    def _read(self, X, reset=False):
        if reset:
            self.features_ = learn_features(self.features, X)
        if self.features_ is not None:
            Z = read_features(self.features_, X)
            try:
                return super()._read(Z, reset)
            except (ValueError, TypeError) as error:
                raise ValueError(f"of what features made of X: {error}") from error
        try:
            return super()._read(X, reset)
        except (ValueError, TypeError) as error:
            way = " Or say by features= what the weights shall read; the models get X as it is." if reset else ""
            raise type(error)(f"{error}{way}") from error

    def _check(self, X, y, M: int, loss: Loss) -> None:
        """Raise ValueError or TypeError for a setting that cannot be; ``fit`` calls it before it asks any model.

        Parameters
        ----------
        X, y : array of shapes (n, ...) and (n,)
            Checked; for classes, y holds the labels as they were given.
        M : int
            Number of candidates.
        loss : Loss
        """

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        F: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Fit the weights; the candidate models stay as they are.

        Parameters
        ----------
        X : array or DataFrame of shape (n, ...)
            Covariates: given to the models as they are, and to a weight network as numbers.
        y : array of shape (n,)
            Responses, or class labels for cross-entropy.
        F : array of shape (n, M), or (n, M, K) for cross-entropy, optional
            Precomputed predictions, used instead of calling the models; required where ``models`` is None. The columns
            of a DataFrame must be named as the models, in their order. Classes, along the last axis, are in the sorted
            order of their labels.
        sample_weight : array of shape (n,), optional
            How much each row counts, such as ``compute_sample_weight("balanced", y)`` of scikit-learn's for a class
            weight. Rows of weight zero are left out before anything else. To constant weights two is the row twice;
            folds, batches, steps and standard errors still count rows.
        classes : array of shape (K,), optional
            The sorted class labels, where neither the models nor y tell all of them. A model that does not know one of
            them gives it the probability zero then, with a warning, and is not refused.

        Raises
        ------
        ValueError
            Naming the argument, for wrong shapes, NaN, responses or predictions outside the loss's domain, or a model
            that fails.

        Notes
        -----
        A sample beyond memory lies on disk (``numpy.load`` with ``mmap_mode="r"``; :func:`localma.on_disk` puts batches
        there). Localized, global and equal weights and the best model walk through such X and F block by block: in
        single precision, and without models, learners or levels of the average's own, no copy of the whole is made.
        They give what arrays in memory give, to the last digit.
        """
        return self._fit(X, y, F, sample_weight, classes)

    def _fit(self, X, y, F, sample_weight=None, classes=None, groups=None, **more):
        """A fit; ``groups`` and ``more`` are what a subclass's ``fit`` takes besides, for its ``_check`` and
        ``_fit_weights``.
        """
        self._forget()
        try:
            loss = self._resolve_loss()
            sample_weight, X, y, F, groups = counted(sample_weight, X, y, F, groups)
            more |= {} if groups is None else {"groups": np.asarray(groups)}
            y = self._response(X, y, F)
            array = self._read(X, reset=True)
            names, models, F = name_candidates(self.models, F, len(array), loss)
            if not loss.is_classification:
                loss.check_value(y[:2], np.full(len(y[:2]), 0.5))  # which lies in every domain
            check_seed(getattr(self, "random_state", None))
            choose("clip", self.clip, (True, False))
            self._check(array, y, len(names), loss, **more)
            if sample_weight is not None:
                more["sample_weight"] = sample_weight
                if "sample_weight" not in inspect.signature(self._fit_weights).parameters:
                    raise TypeError(f"{type(self).__name__} takes no sample_weight: its _fit_weights has none")
            if classes is not None and not loss.is_classification:
                raise ValueError(f"classes is given, but loss is {loss.name!r}; leave it out, or is it cross_entropy?")
            classes = known_classes(names, models, classes) if loss.is_classification else None
            F = candidate_predictions(names, models, F, X, len(array), loss, classes)
            check_reach("F", F)
            self.model_names_ = names
            target = y
            if loss.is_classification:
                self.classes_ = classes_of(classes, F.shape[2], y)
                target = self._encode(y)
            F = F if self.in_blocks else np.require(F, float, "W")
            F = self._with_direct(X, F, y, loss, **more)
            self.n_models_ = F.shape[1]
            target = np.asarray(target, dtype=float)
            self._fit_weights(array, F, target, loss, **more)
            F = F[:, : self.n_models_]  # a learner that gains nothing has left
            self.range_ = None if loss.is_classification else usual_range(F, y)
            self._fit_level(array, F, target, loss, **more)
            self.sample_ = Surroundings.of(array)
        except BaseException:
            self._forget()  # of this fit: nothing may be left that only looks fitted
            raise
        return self

    def _with_direct(self, X, F, y, loss, **more):
        """F with the column of a learner of the average's own, if it has one."""
        return F

    def _fit_level(self, X, F, y, loss, **more):
        """Learn ``level_``, where a subclass has one."""

    def weights(self, X: ArrayLike) -> np.ndarray:
        """Weights w(x) of shape (n, M): non-negative, each row summing to one."""
        check_is_fitted(self)
        return self._weights(self._read(X))

    def predict(self, X: ArrayLike, F: ArrayLike | None = None) -> np.ndarray:
        """Predicted means (n,), or class labels for cross-entropy; ``F`` as in :meth:`fit`."""
        average = self._average(X, F)
        return self._decode(average) if average.ndim == 2 else average

    @available_if(predicts_probabilities)
    def predict_proba(self, X: ArrayLike, F: ArrayLike | None = None) -> np.ndarray:
        """Class probabilities (n, K), columns in the order of ``classes_``; only with the cross_entropy loss."""
        return self._average(X, F)

    def _average(self, X, F):
        return self._combine(*self._votes(X, F))

    def _combine(self, array, F):
        """The average of the predictions F, by the weights at what they read, ``array``."""
        average = np.empty((len(F), *F.shape[2:]))
        for rows in pieces(len(F)):
            np.einsum("nm,nm...->n...", self._weights(array[rows]), F[rows], out=average[rows])
        if average.ndim == 2:  # weights, and the models' probabilities, sum to one up to rounding alone
            np.maximum(average, 0, out=average)
            average /= average.sum(1, keepdims=True, dtype=np.longdouble)
        return average if self.level_ is None else at_level(self._resolve_loss(), average, self.level_)

    def explain(self, x: ArrayLike, F: ArrayLike | None = None) -> Explanation:
        """The average at one row: weights, what each model says, what the average says, how far x lies from the sample.

        Parameters
        ----------
        x : array of shape (d,), Series, or X of one row
        F : array of shape (1, M) or (1, M, K), optional
            As in :meth:`fit`.

        Returns
        -------
        Explanation
            Its ``table`` has a row for each model and one for the average, with the columns weight and prediction, or
            one for each class. Its ``distance`` is that of what the weights read, where this is a table of up to 100
            columns: softmax weights look as sure far from the sample as within it.

        Raises
        ------
        ValueError
            For more than one row.

        Examples
        --------
        >>> from localma import EqualWeights
        >>> models = [("up", lambda X: X[:, 0]), ("down", lambda X: -X[:, 0])]
        >>> EqualWeights(models).fit([[1.0], [2.0]], [0.0, 0.0]).explain([5.0])
                 weight  prediction
        up          0.5           5
        down        0.5          -5
        average       1           0
        Distance from the sample: not measured.
        """
        array, F = self._votes(one_row(x), F)
        says = np.stack([*F[0], self._combine(array, F)[0]])
        names, columns = [*self.model_names_, "average"], getattr(self, "classes_", ["prediction"])
        return explained(names, columns, self._weights(array)[0], says, array, self.sample_, self.level_)

    def _votes(self, X, F) -> tuple[np.ndarray, np.ndarray]:
        """X as an array and what is averaged: the candidates' predictions, clipped unless that is switched off."""
        array, F = self._predictions(X, F)
        return array, (F if self.range_ is None or not self.clip else clipped(F, self.range_, self.model_names_))

    def _predictions(self, X, F) -> tuple[np.ndarray, np.ndarray]:
        """X as an array and the candidates' predictions, both as in the fit."""
        check_is_fitted(self)
        check_same_rows(X=X, F=F)
        array, loss, classes = self._read(X), self._resolve_loss(), getattr(self, "classes_", None)
        given = self.model_names_ if self.direct_ is None else self.model_names_[:-1]
        names, models, F = name_candidates(self.models, F, len(array), loss, given)
        F = candidate_predictions(names, models, F, X, len(array), loss, classes)
        if F.shape[1] != len(given) or (classes is not None and F.shape[2] != len(classes)):
            raise ValueError(
                f"F has shape {F.shape}, but the fit saw M = {len(given)} models"
                + (f" and {len(classes)} classes" if classes is not None else "")
            )
        if self.direct_ is not None:
            own = candidate_predictions(self.model_names_[-1:], [self.direct_], None, X, len(array), loss, classes)
            F = np.concatenate([F, own], 1)
        return array, F
