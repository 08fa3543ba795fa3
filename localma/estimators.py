r"""The estimators' common contract, and :class:`LocalMA`, the method of the paper."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils import ClassifierTags, RegressorTags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn
from tqdm import tqdm

from localma.candidates import align_classes, name_models, predict_candidates
from localma.losses import Loss, resolve_loss
from localma.network import (
    ModuleStack,
    Standardize,
    WeightNetwork,
    mlp_from_parameters,
    split_parameters,
)
from localma.training import Options, StackFit, fit_stack, train

__all__ = ["FitInfo", "LocalMA", "ModelAverage"]


class LossEstimator(BaseEstimator):
    """What an average and a directly trained model share: a loss, its checks, predictions on its scale, a score."""

    def _resolve_loss(self) -> Loss:
        return resolve_loss(self.loss)

    def _validate(self, X, y=None):
        """X as a finite array (and, in a fit, y); the models themselves get X as the user gave it."""
        fitting = y is not None
        options = {"allow_nd": True, "reset": fitting, "dtype": "numeric"}
        if not fitting:
            return validate_data(self, X, **options)
        loss = self._resolve_loss()
        X, y = validate_data(self, X, y, y_numeric=not loss.is_classification, **options)
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
        return self.classes_[probabilities.argmax(1)]

    def score(self, X, y, F=None) -> float:
        """Accuracy for cross-entropy, otherwise the share of deviance explained, 1 - loss / loss of the mean of y (R2 for squared loss)."""
        loss = self._resolve_loss()
        prediction = self.predict(X, F=F)
        if loss.is_classification:
            return float(np.mean(prediction == np.asarray(y)))
        y = np.asarray(y, dtype=float)
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
            tags.target_tags.positive_only = loss.response == "positive"
        return tags


class ModelAverage(LossEstimator):
    """Base of all averages of frozen candidate models: a subclass says how weights are fitted and computed.

    Subclasses define ``_fit_weights(X, F, y, loss)`` and ``_weights(X)``; see :class:`localma.EqualWeights` for the smallest one.
    """

    def __sklearn_clone__(self):
        # scikit-learn would clone each candidate and so forget what it was trained on; candidates are data here
        keep = {"models", "network"}
        params = {k: v if k in keep else clone(v, safe=False) for k, v in self.get_params(deep=False).items()}
        return type(self)(**params)

    def fit(self, X, y, F=None):
        """Fit the weights; the candidate models stay as they are.

        Parameters
        ----------
        X : array or DataFrame of shape (n, ...)
            Covariates: given to the models as they are, and to a weight network as numbers.
        y : array of shape (n,)
            Responses, or class labels for cross-entropy.
        F : array of shape (n, M), or (n, M, K) for cross-entropy, optional
            Precomputed predictions, used instead of calling the models; required where ``models`` is None.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Naming the argument, for wrong shapes, NaN, responses or predictions outside the loss's domain, or a model that fails.
        """
        loss = self._resolve_loss()
        array, y = self._validate(X, y)
        F = self._candidate_predictions(X, len(array), F, loss, y)
        loss.check_predictions(F, None if self.models is None else self.model_names_)
        if loss.is_classification:
            y = self._encode(y)
        self._fit_weights(array, F, np.asarray(y, dtype=float), loss)
        return self

    def weights(self, X) -> np.ndarray:
        """Weights w(x) of shape (n, M): non-negative, each row summing to one."""
        check_is_fitted(self, "n_models_")
        return self._weights(self._validate(X))

    def predict(self, X, F=None) -> np.ndarray:
        """Predicted means (n,), or class labels for cross-entropy; ``F`` as in :meth:`fit`."""
        average = self._average(X, F)
        return self._decode(average) if average.ndim == 2 else average

    def predict_proba(self, X, F=None) -> np.ndarray:
        """Class probabilities (n, K), columns in the order of ``classes_``; only with the cross_entropy loss."""
        if not self._resolve_loss().is_classification:
            raise AttributeError(f"predict_proba needs loss='cross_entropy', but loss is {self.loss!r}; use predict")
        return self._average(X, F)

    def _average(self, X, F):
        check_is_fitted(self, "n_models_")
        array = self._validate(X)
        F = self._candidate_predictions(X, len(array), F, self._resolve_loss())
        return np.einsum("nm,nm...->n...", self._weights(array), F)

    def _candidate_predictions(self, X, n, F, loss, y=None) -> np.ndarray:
        """F from the argument or from the models, checked; in a fit (y given) also the models' names and classes."""
        fitting, proba = y is not None, loss.is_classification
        if self.models is None and F is None:
            raise ValueError("F is missing: models is None, so give the candidates' predictions F of shape (n, M) here")
        if self.models is not None:
            names, models = name_models(self.models)
        if F is None:
            classes = align_classes(names, models) if proba else None
            X = X if hasattr(X, "shape") else np.asarray(X)  # a DataFrame stays one: models may ask for columns by name
            F = predict_candidates(names, models, X, n, classes if fitting or not proba else self.classes_, proba)
        else:
            classes = None
            F = np.asarray(F, dtype=float)
            if F.ndim != (3 if proba else 2) or F.shape[0] != n or 0 in F.shape:
                expected = f"({n}, M, K)" if proba else f"({n}, M)"
                raise ValueError(f"F has shape {F.shape}, but X has {n} rows and the loss is {loss.name}: expected {expected}")
            if self.models is None:
                names = [f"f{m + 1}" for m in range(F.shape[1])]
            elif F.shape[1] != len(names):
                raise ValueError(f"F has {F.shape[1]} columns for {len(names)} models; give one column per model, in their order")
        if not np.isfinite(F).all():
            i, m = np.argwhere(~np.isfinite(F))[0][:2]
            raise ValueError(f"the prediction of model {names[m]!r} for row {i} is NaN or infinite; impute it or drop the row or the model")
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
            return known
        labels = np.unique(y)
        if len(labels) == K:
            return labels
        if np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0 and labels.max() < K:
            return np.arange(K)
        raise ValueError(
            f"y holds {len(labels)} class labels, but the predictions have K = {K} columns; number the classes 0 to {K - 1} in the order of the columns"
        )

    def save(self, path) -> None:
        """Write the fitted average to one file that :func:`localma.load` reads: arrays and a JSON header, no code, no candidate models."""
        from localma.storage import save  # storage rebuilds estimators, so it imports this module

        save(self, path)


class FitInfo(NamedTuple):
    """Diagnostics of a LocalMA fit; losses are per observation and divided by ``scale``, so without unit."""

    options: Options  #: the training options with every "auto" resolved
    best_step: int  #: the step whose parameters were kept
    train_loss: np.ndarray  #: criterion of each step's batch, (steps,)
    validation_loss: np.ndarray  #: at each evaluation; empty without a validation part
    validation_steps: np.ndarray  #: when these were taken
    gradient_norm: float  #: at the last step; far from zero: train longer
    weight_entropy: float  #: mean entropy of w(x) over the sample divided by log M: 1 equal weights, 0 one model everywhere


class LocalMA(ModelAverage):
    r"""Localized model averaging: :math:`f(x) = \sum_m w_m(x) f_m(x)` with weights from a softmax network, equations (2)-(7) of the paper.

    Parameters
    ----------
    models : list, optional
        Fitted candidate models: scikit-learn estimators, torch modules (probabilities, not logits, for cross-entropy), callables, or
        (name, model) pairs of these. They are called once per data set and never changed. None: every call gets predictions ``F``.
    loss : str, Loss or callable
        A key of :data:`localma.LOSSES`, a :class:`localma.Loss` (such as ``tweedie(1.7)``), or a callable ``loss(y, a)`` of torch tensors.
    network : torch.nn.Module or callable, optional
        Body of the weight network, mapping X to M logits (a copy is trained), or a function that makes one from M. Default: a ReLU network
        of ``depth`` layers of ``width`` units on standardised inputs.
    width, depth : int
        Hidden units per layer and hidden layers of the default network.
    steps, batch_size, penalty, validation_fraction, patience
        See :class:`localma.training.Options`.
    learning_rate : float or "auto"
        Peak of the learning-rate cycle. Auto: 0.05 for the default network, 0.001 for one of your own.
    dtype : {"float32", "float64"}
    device : str
        Where to train and predict: "cpu", "cuda", ...
    progress : bool
        A progress bar for fits that take longer than five seconds.
    random_state : int, RandomState or None
        An int makes the fit reproducible.

    Attributes
    ----------
    network_ : WeightNetwork
        The fitted network (None for a single model).
    fit_info_ : FitInfo
    n_models_, model_names_, classes_

    Examples
    --------
    Two experts, each right on one half of the line:

    >>> import numpy as np
    >>> from localma import LocalMA
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> experts = [("left", lambda X: -X[:, 0]), ("right", lambda X: X[:, 0])]
    >>> average = LocalMA(experts, random_state=0).fit(X, abs(X[:, 0]))
    >>> average.weights([[-0.8], [0.8]]).round()
    array([[1., 0.],
           [0., 1.]])
    """

    def __init__(
        self,
        models=None,
        *,
        loss="squared",
        network=None,
        width=16,
        depth=1,
        steps="auto",
        batch_size="auto",
        learning_rate="auto",
        penalty="auto",
        validation_fraction="auto",
        patience=None,
        dtype="float32",
        device="cpu",
        progress=True,
        random_state=None,
    ):
        self.models = models
        self.loss = loss
        self.network = network
        self.width = width
        self.depth = depth
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.penalty = penalty
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.dtype = dtype
        self.device = device
        self.progress = progress
        self.random_state = random_state

    def _fit_weights(self, X, F, y, loss):
        rate = self.learning_rate if self.learning_rate != "auto" else (Options.learning_rate if self.network is None else 1e-3)
        options = Options(self.steps, self.batch_size, rate, self.penalty, self.validation_fraction, self.patience).resolve(len(y))
        seed = (
            self.random_state if isinstance(self.random_state, (int, np.integer)) else check_random_state(self.random_state).randint(2**31)
        )
        dtype = _torch_dtype(self.dtype)
        if self.n_models_ == 1:  # nothing to learn: the simplex is a point
            self.network_ = None
            self.fit_info_ = FitInfo(options, 0, np.empty(0), np.empty(0), np.empty(0, int), 0.0, 0.0)
            return
        f, target = (torch.as_tensor(a, dtype=dtype, device=self.device).unsqueeze(0) for a in (F, y))
        with tqdm(
            total=options.steps,
            desc="LocalMA",
            unit="step",
            delay=5,
            leave=False,
            disable=not self.progress,
        ) as bar:
            if self.network is None:
                if X.ndim != 2:
                    raise ValueError(
                        f"X has shape {X.shape}, but the default network reads (n, d); flatten X or give network= a body of your own"
                    )
                x = torch.as_tensor(X, dtype=dtype, device=self.device).unsqueeze(0)
                fit = fit_stack(
                    x,
                    f,
                    target,
                    loss,
                    seeds=[seed],
                    width=self.width,
                    depth=self.depth,
                    options=options,
                    workers=1,
                    progress=bar,
                )
                self.network_, history = _unstack(fit, dtype), fit.history
            else:
                self.network_, history = self._fit_body(X, f, target, loss, options, seed, dtype, bar)
        w = self._weights(X)
        entropy = -(w * np.log(np.maximum(w, 1e-300))).sum(1).mean() / math.log(self.n_models_)
        self.fit_info_ = FitInfo(
            options,
            int(history.best_step),
            history.train_loss[:, 0].cpu().numpy(),
            history.validation_loss[:, 0].cpu().numpy(),
            np.asarray(history.evaluated_at, dtype=int),
            float(history.gradient_norm),
            float(entropy),
        )

    def _fit_body(self, X, f, target, loss, options, seed, dtype, bar):
        with torch.random.fork_rng(devices=[self.device] if self.device != "cpu" else []):
            torch.manual_seed(seed)  # for a factory's initial values and for dropout
            body = copy.deepcopy(self.network) if isinstance(self.network, nn.Module) else self.network(self.n_models_)
            network = WeightNetwork(body).to(self.device, dtype)
            x = self._network_input(X).unsqueeze(0)
            with torch.no_grad():
                shape = tuple(network.eval()(x[0, :1]).shape)
            if shape != (1, self.n_models_):
                raise ValueError(f"network maps one row of X to shape {shape}, but must give (1, {self.n_models_}): one logit per model")
            G = loss.candidates(target, f.movedim(1, -1))
            unit = loss.scale(G, target).unsqueeze(1)

            def criterion(logits, G, target):
                return loss.of_logits(logits, G, target) / unit

            history = train(
                ModuleStack(network.body),
                x,
                criterion,
                (G, target),
                options,
                [torch.Generator().manual_seed(seed)],
                bar,
            )
        return network.eval(), history

    def _network_input(self, X) -> torch.Tensor:
        """X on the network's device; whole numbers stay whole for a body of the user's own (tokens for an embedding)."""
        x = torch.as_tensor(np.asarray(X), device=self.device)
        return x if self.network is not None and not x.is_floating_point() else x.to(_torch_dtype(self.dtype))

    def _weights(self, X):
        if self.network_ is None:
            return np.ones((len(X), 1))
        x = self._network_input(X)
        with torch.no_grad():  # in pieces, so that a large X needs no large activations; in float64, so that rows sum to one
            logits = torch.cat([self.network_.body(part).double() for part in x.split(65536 if x.ndim == 2 else 1024)])
        return torch.softmax(logits, 1).cpu().numpy()


def _torch_dtype(name: str) -> torch.dtype:
    if name not in ("float32", "float64"):
        raise ValueError(f'dtype must be "float32" or "float64", but is {name!r}')
    return getattr(torch, name)


def _unstack(fit: StackFit, dtype: torch.dtype) -> WeightNetwork:
    """The network of a stack of one, with its standardisation in front."""
    layers = split_parameters(fit.values[0], fit.sizes)
    body = nn.Sequential(
        Standardize(fit.mean[0], fit.scale[0]),
        *mlp_from_parameters(layers, dtype).to(fit.values.device),
    )
    return WeightNetwork(body, zero_output=False).eval()
