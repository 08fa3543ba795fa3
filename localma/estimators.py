r""":class:`LocalMA`, the method of the paper."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from localma.base import ModelAverage, resolve_seed
from localma.devices import check_device
from localma.network import (
    ModuleStack,
    Standardize,
    WeightNetwork,
    check_output,
    mlp_from_parameters,
    module_input,
    split_parameters,
)
from localma.training import Options, StackFit, fit_stack, train

__all__ = ["FitInfo", "LocalMA"]


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
        Body of the weight network, mapping X to M logits (a copy is trained), or a function that makes one from M. Its last linear layer
        is set to zero; give a :class:`localma.WeightNetwork` with ``zero_output=False`` to keep it. It reads X unscaled, in ``dtype``, or as
        whole numbers if X holds such and the body has an embedding layer (tokens). Default: a ReLU network of ``depth`` layers of
        ``width`` units on standardised inputs.
    width, depth : int
        Hidden units per layer and hidden layers of the default network.
    steps, batch_size, penalty, validation_fraction, patience
        See :class:`localma.training.Options`.
    learning_rate : float or "auto"
        Peak of the learning-rate cycle. Auto: 0.1 for the default network, 0.001 for one of your own.
    dtype : {"float32", "float64"}
    device : str
        Where to train and predict: "cpu", "cuda", ...
    progress : bool
        A progress bar for fits that take longer than five seconds.
    random_state : int, RandomState or None
        An int makes the fit reproducible.

    Notes
    -----
    Derived, and rebuilt in ten lines of torch, in the book's chapter "From global to local weights" (``book/method/local_weights``).

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
        seed = resolve_seed(self.random_state)
        dtype = _torch_dtype(self.dtype)
        check_device(self.device)
        if self.network is not None and not callable(self.network):  # modules are callable
            raise TypeError(f"network must be a torch.nn.Module or a function of M that makes one, not {type(self.network).__name__}")
        if self.network is None and X.ndim != 2:
            raise ValueError(f"X has shape {X.shape}, but the default network reads (n, d); flatten X or give network= a body of your own")
        if self.n_models_ == 1:  # nothing to learn: the simplex is a point
            self.network_ = None
            self.fit_info_ = FitInfo(options, 0, np.empty(0), np.empty(0), np.empty(0, int), 0.0, 0.0)
            return
        f, target = (torch.tensor(a, dtype=dtype, device=self.device).unsqueeze(0) for a in (F, y))
        with tqdm(total=options.steps, desc="LocalMA", unit="step", delay=5, leave=False, disable=not self.progress) as bar:
            if self.network is None:
                x = torch.tensor(X, dtype=dtype, device=self.device).unsqueeze(0)
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
            network = (body if isinstance(body, WeightNetwork) else WeightNetwork(body)).to(self.device, dtype)
            x = module_input(network, X).unsqueeze(0)
            check_output("network", network, x[0], self.n_models_, "one logit per model")
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

    def _weights(self, X):
        if self.network_ is None:
            return np.ones((len(X), 1))
        x = module_input(self.network_, X)
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
