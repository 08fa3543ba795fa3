"""What averages of any kind are measured against: a model trained directly on the target sample."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from torch import nn

from localma.averages.crossfit import weighted
from localma.averages.estimator import LossEstimator, predicts_probabilities
from localma.checks import RandomState, check_answers, check_same_rows, resolve_seed
from localma.engine import Training, train
from localma.engine.devices import alone, resolve_dtype
from localma.engine.networks import check_output, module_input
from localma.engine.stacks import ModuleStack
from localma.engine.tiles import standardization
from localma.losses.loss import LossLike
from localma.progress import progress_bar

__all__ = ["DirectModel"]


class DirectModel(LossEstimator):
    """A model trained directly on the target sample, behind the averages' interface, so that it stands in the same
    tables.

    Parameters
    ----------
    learner : scikit-learn estimator or torch.nn.Module
        A copy of it is fitted. A module maps (n, ...) to (n, 1), or to (n, K) logits for cross-entropy; for losses of
        positive means its output is the logarithm of the mean. It reads standardised inputs, or whole numbers as they
        are if it has an embedding layer.
    loss : str, Loss or callable
        What a module is trained with, and how :meth:`score` counts; a scikit-learn learner brings its own.
    training : Training, optional
        Of a module: see :class:`localma.Training`.
    progress : bool
        A progress bar for a module whose training takes longer than five seconds.
    random_state : int, RandomState or None
        For a module's batches and dropout; an int makes the fit reproducible.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from localma import DirectModel
    >>> DirectModel(LinearRegression()).fit([[0.0], [1.0]], [1.0, 3.0]).predict([[2.0]]).round(6)
    array([5.])
    """

    def __init__(
        self,
        learner: Any = None,
        *,
        loss: LossLike = "squared",
        training: Training | None = None,
        progress: bool = True,
        random_state: RandomState = None,
    ) -> None:
        self.learner = learner
        self.loss = loss
        self.training = training
        self.progress = progress
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: ArrayLike, F: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train a copy of the learner on (X, y); ``F`` is accepted and ignored, as a direct model has no candidates.

        ``sample_weight`` of shape (n,) goes to the ``fit`` of a scikit-learn learner; in that of a module a row with
        weight two has twice the loss.
        """
        target = self._response(X, y)
        weight = None
        if sample_weight is not None:
            check_same_rows(X=X, sample_weight=sample_weight)
            weight = _check_sample_weight(sample_weight, target, dtype=float, ensure_non_negative=True)
        loss = self._resolve_loss()
        if loss.is_classification:
            self.classes_ = np.unique(target)
        if isinstance(self.learner, nn.Module):
            response = self._encode(target) if loss.is_classification else target
            self._fit_module(self._read(X, reset=True), response, loss, weight)
        elif hasattr(self.learner, "fit"):
            more = weighted(self.learner, "learner", weight)
            self.learner_ = clone(self.learner).fit(X, target, **more)  # X itself: words, or gaps, are its business
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)  # of an earlier fit
                if hasattr(self.learner_, name):
                    setattr(self, name, getattr(self.learner_, name))
        else:
            raise TypeError(
                f"learner must be a scikit-learn estimator or a torch.nn.Module, not {type(self.learner).__name__}"
            )
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if hasattr(self.learner, "__sklearn_tags__"):
            tags.input_tags = get_tags(self.learner).input_tags
        return tags

    def _fit_module(self, X, y, loss, weight):
        if not isinstance(self.training, (Training, type(None))):
            raise TypeError(f"training must be a localma.Training or None, not {type(self.training).__name__}")
        training = (self.training or Training()).resolve(len(y), careful=True)
        seed = resolve_seed(self.random_state)
        dtype = resolve_dtype(training.dtype, y, *([X] if X.ndim == 2 else []))
        learner = copy.deepcopy(self.learner).to(dtype)
        x = module_input(learner, X)
        self.shift_ = None
        if x.is_floating_point():  # not tokens
            mean, scale = standardization(x.reshape(1, len(x), -1))
            self.shift_ = (mean.reshape(x.shape[1:]), scale.reshape(x.shape[1:]))
            x = self._standardize(x)
        outputs = len(self.classes_) if loss.is_classification else 1
        check_output("learner", learner, x, outputs, "one logit per class" if loss.is_classification else "one number")
        # a module starts near zero, so zero should mean "predict the mean of y"
        mean = np.average(y, weights=weight)
        unit = float(np.average((y - mean) ** 2, weights=weight)) or 1.0
        if loss.prediction == "positive":
            self.response_ = (float(np.log(max(mean, 1e-12))), 1.0)
        else:
            self.response_ = (float(mean), unit**0.5)
        share = np.ones(len(y)) if weight is None else weight / weight.mean()
        targets = [torch.tensor(a, dtype=dtype).unsqueeze(0) for a in (share, y)]

        def criterion(output, share, target):
            if loss.is_classification:
                return -share * torch.log_softmax(output, 1).gather(1, target.long().unsqueeze(1)).squeeze(1)
            value = loss.value(target, self._mean(output[:, 0], loss))
            return share * (value / unit if loss.quadratic else value)

        generators = [torch.Generator().manual_seed(seed)]
        bar = progress_bar("DirectModel", self.progress, total=training.steps)
        with bar, alone(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            train(ModuleStack([learner]), x.unsqueeze(0), criterion, targets, training, generators, bar)
        self.learner_ = learner.eval()

    def _standardize(self, x):
        return x if self.shift_ is None else (x - self.shift_[0]) / self.shift_[1]

    def _mean(self, output, loss):
        a = self.response_[0] + self.response_[1] * output
        return a.exp() if loss.prediction == "positive" else a

    def _output(self, X):
        x = self._standardize(module_input(self.learner_, self._read(X)))
        with torch.no_grad():  # in pieces, so that a large X needs no large activations
            output = torch.cat([self.learner_(part) for part in x.split(65536 if x.ndim == 2 else 1024)])
        check_answers("the learner", output.numpy())
        return output

    def predict(self, X: ArrayLike, F: ArrayLike | None = None) -> np.ndarray:
        """Predicted means (n,), or class labels for cross-entropy."""
        check_is_fitted(self, "learner_")
        loss = self._resolve_loss()
        if not isinstance(self.learner_, nn.Module):
            return self.learner_.predict(X)
        if loss.is_classification:
            return self._decode(self._output(X).numpy())
        return self._mean(self._output(X)[:, 0], loss).double().numpy()

    @available_if(predicts_probabilities)
    def predict_proba(self, X: ArrayLike, F: ArrayLike | None = None) -> np.ndarray:
        """Class probabilities (n, K)."""
        check_is_fitted(self, "learner_")
        if isinstance(self.learner_, nn.Module):
            return torch.softmax(self._output(X).double(), 1).numpy()
        return self.learner_.predict_proba(X)
