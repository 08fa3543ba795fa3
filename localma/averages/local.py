r""":class:`LocalMA`, the method of the paper."""

from __future__ import annotations

import copy
import math
import numbers
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from localma.averages.base import ModelAverage
from localma.averages.candidates import warn_of_other_units
from localma.averages.packing import record
from localma.checks import check_whole, resolve_seed
from localma.engine import History, Options, WeightNetwork, check_device, cross_validate, fit_stack, grid, train, training
from localma.engine.devices import resolve_dtype
from localma.engine.local import body_of
from localma.engine.networks import Mixture, check_output, constant_network, module_input, start_at
from localma.engine.shrinkage import MEMBERS, member_seeds
from localma.engine.simplex import soften, start_weights
from localma.engine.stacks import ModulesStack, ModuleStack
from localma.engine.validation import FOLDS, SMALLER, rescale, subset

__all__ = ["FitInfo", "LocalMA"]


@record
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
        See :class:`localma.engine.Options`.
    learning_rate : float or "auto"
        Peak of the learning-rate cycle. Auto: 0.1 for the default network, 0.001 for one of your own.
    shrinkage : "auto", "cv", float or None
        How far to shrink the weights towards the global ones. A number: train from global weights with this penalty on the network's
        weights, not its biases (infinity: global weights themselves). "cv": choose the number by cross-validation, with global weights among
        the candidates and kept unless another beats them by a standard error. None: the paper's method, which starts from equal weights and has ``penalty``.
        Auto: "cv" for the default network, unless ``penalty`` or ``validation_fraction`` is given or there are fewer than ten observations; None for
        a body of your own, whose 40 to 60 trainings may be dear.
    members : int or "auto"
        Networks, from different initial values, whose weights are averaged; those of your own need a function as ``network``, since a
        module has one start. Auto: 5 with a shrinkage and up to n = 10,000 for the default network, otherwise 1.
    bootstrap : int
        Networks of resampled data, for ``weights(X, return_std=True)``.
    dtype : {"auto", "float32", "float64"}
        Auto: float32, and float64 where the data's digits need it (times in seconds since 1970, a response with a large offset).
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
        The fitted network, or the average of several (None for a single model).
    fit_info_ : FitInfo
        Of the first network.
    shrinkage_ : float or None
        The penalty of the fit, infinite where global weights were kept.
    cv_results_ : dict of arrays of shape (L + 1,), or None
        For each ``shrinkage`` that was tried, increasing, the mean held-out ``loss``, its ``difference`` to that of global weights with ``standard_error``,
        and whether it was ``chosen``.
    bootstrap_ : Mixture or None
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
        shrinkage="auto",
        members="auto",
        bootstrap=0,
        dtype="auto",
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
        self.shrinkage = shrinkage
        self.members = members
        self.bootstrap = bootstrap
        self.dtype = dtype
        self.device = device
        self.progress = progress
        self.random_state = random_state

    def fit(self, X, y, F=None, groups=None):
        """Fit the weights; the candidate models stay as they are.

        Parameters
        ----------
        X, y, F
            As in every average: see :meth:`localma.GlobalMA.fit`.
        groups : array of shape (n,), optional
            Which observations belong together, such as the rows of one person: cross-validation holds them out together, and ``bootstrap``
            draws them together. Without it, rows that resemble each other make local weights look better than they are.

        Raises
        ------
        ValueError
            As in every average, and for fewer than ten groups.
        """
        self._groups = None if groups is None else np.asarray(groups)
        try:
            return super().fit(X, y, F)
        finally:
            del self._groups

    def _fit_weights(self, X, F, y, loss):
        groups = self._groups
        if groups is not None and groups.shape != (len(y),):
            raise ValueError(f"groups has shape {groups.shape}, but there are {len(y)} observations; give one entry for each")
        n = len(y)
        options = self._options(n)
        shrinkage, members = self._resolve_shrinkage(n)
        check_whole("bootstrap", self.bootstrap, 0)
        if options.validation_fraction and (groups is not None or shrinkage == "cv" or self.bootstrap):
            given = options.validation_fraction
            raise ValueError(f"validation_fraction = {given} mixes what groups, folds and bootstraps keep apart; set 0")
        seed, dtype = resolve_seed(self.random_state), resolve_dtype(self.dtype, y, *([X] if X.ndim == 2 else []))
        check_device(self.device)
        if self.network is not None and not callable(self.network):  # modules are callable
            raise TypeError(f"network must be a torch.nn.Module or a function of M that makes one, not {type(self.network).__name__}")
        if self.network is None and X.ndim != 2:
            raise ValueError(f"X has shape {X.shape}, but the default network reads (n, d); flatten X or give network= a body of your own")
        warn_of_other_units(self.model_names_, F, y, loss)
        self.cv_results_ = self.bootstrap_ = None
        self.shrinkage_ = None if shrinkage is None else 0.0
        if self.n_models_ == 1:  # nothing to learn: the simplex is a point
            self.fit_info_, self.network_ = _fit_info(options, None, 0.0), None
            return
        f, target = (torch.tensor(a, dtype=dtype, device=self.device) for a in (F, y))
        x = X if self.network is not None else torch.tensor(X, dtype=dtype, device=self.device)
        networks = members + self.bootstrap + (FOLDS * len(grid(n)) if shrinkage == "cv" else 0)
        with tqdm(
            total=options.steps * networks, desc="LocalMA", unit="step", unit_scale=True, delay=5, leave=False, disable=not self.progress
        ) as bar:

            def fit(index, seeds, **more):
                """Networks on the observations ``index`` (all: None), as one stack."""
                bar.total = max(bar.total, bar.n + options.steps * len(seeds))  # smaller penalties, too, may be tried
                sample = (x, f, target) if index is None else (x[index], f[index], target[index])
                train_on = self._fit_default if self.network is None else self._fit_bodies
                return train_on(*sample, loss, options if index is None else self._options(len(index)), seeds, dtype, bar, more)

            start = None
            if shrinkage is not None:
                w = start_weights(F, y, loss)
                start = torch.as_tensor(soften(w), dtype=dtype, device=self.device).expand(members, -1)
                if shrinkage == "cv":
                    shrinkage = self._cross_validate(fit, f, target, loss, seed, groups)
                self.shrinkage_ = float(shrinkage)
            if shrinkage is not None and math.isinf(shrinkage):
                network, history = constant_network(w, dtype, self.device), None
            else:
                penalties = None if shrinkage is None else torch.full((members,), shrinkage, dtype=dtype, device=self.device)
                seeds = member_seeds(seed, members)
                bodies, history, _ = fit(None, seeds, penalties=penalties, start=start)
                network = WeightNetwork(bodies[0] if members == 1 else Mixture(bodies), zero_output=False).eval()
            if self.bootstrap:
                self.bootstrap_ = self._fit_bootstrap(fit, F, y, loss, shrinkage, seed, dtype, groups)
        self.network_ = network
        w = self._weights(X)
        entropy = -(w * np.log(np.maximum(w, 1e-300))).sum(1).mean() / math.log(self.n_models_)
        self.fit_info_ = _fit_info(options, history, entropy)

    def _options(self, n):
        rate = self.learning_rate if self.learning_rate != "auto" else (Options.learning_rate if self.network is None else 1e-3)
        epsilon = Options.epsilon if self._resolve_shrinkage(n)[0] is None else training(n).epsilon
        return Options(self.steps, self.batch_size, rate, self.penalty, self.validation_fraction, self.patience, epsilon).resolve(n)

    def _resolve_shrinkage(self, n):
        """(None, "cv" or a number, how many networks to average)."""
        shrinkage, members = self.shrinkage, self.members
        if isinstance(shrinkage, str) and shrinkage == "auto":
            plain = self.network is None and self.penalty == "auto" and self.validation_fraction in ("auto", 0)
            shrinkage = "cv" if plain and n >= 2 * FOLDS else None
        if isinstance(shrinkage, numbers.Real) and not isinstance(shrinkage, bool):
            if not shrinkage >= 0:
                raise ValueError(f"shrinkage must not be negative, but is {shrinkage!r}")
        elif shrinkage not in ("cv", None):
            raise ValueError(f'shrinkage must be "auto", "cv", a non-negative number or None, but is {self.shrinkage!r}')
        if shrinkage is not None and self.penalty != "auto":
            raise ValueError(
                f"penalty = {self.penalty!r} and shrinkage = {self.shrinkage!r} both say how strong the penalty is; "
                'leave penalty at "auto", or give shrinkage=None'
            )
        if isinstance(members, str) and members == "auto":
            members = MEMBERS if shrinkage is not None and self.network is None and n <= 10_000 else 1
        check_whole("members", members, 1, ' or "auto"')
        if members > 1 and isinstance(self.network, nn.Module):
            raise ValueError(f"members = {members} networks would all start at the values of network; give a function of M that makes one")
        return shrinkage, members

    def _cross_validate(self, fit, f, target, loss, seed, groups):
        index = subset(len(target), seed)

        def logits(rows, seeds, penalties, start, sample_weight):
            return fit(index, seeds, penalties=penalties, start=start, sample_weight=sample_weight)[2]()

        n = len(index)
        groups = None if groups is None else groups[index]
        one = f[index].unsqueeze(0), target[index].unsqueeze(0)
        cv = cross_validate(logits, *one, loss, grid(n), grid(n, SMALLER), seeds=[seed], groups=groups)
        self.cv_results_ = cv.columns(0)
        return rescale(cv.shrinkage[cv.chosen[0]], n, len(target))

    def _fit_bootstrap(self, fit, F, y, loss, shrinkage, seed, dtype, groups):
        """Networks of resampled data, each started at that sample's global weights; the shrinkage stays as it is."""
        B, n = self.bootstrap, len(y)
        rng = np.random.default_rng([seed, 2])
        of = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
        draws = of.max() + 1
        counts = rng.multinomial(draws, np.full(draws, 1 / draws), B)[:, of]
        more = {"sample_weight": torch.as_tensor(counts, dtype=dtype, device=self.device)}
        if shrinkage is not None:
            w = np.stack([start_weights(np.repeat(F, c, 0), np.repeat(y, c), loss) for c in counts])
            if math.isinf(shrinkage):
                return Mixture([constant_network(v, dtype, self.device).body for v in w])
            more["start"] = torch.as_tensor(soften(w), dtype=dtype, device=self.device)
            more["penalties"] = torch.full((B,), shrinkage, dtype=dtype, device=self.device)
        seeds = [int(s) for s in np.random.SeedSequence([seed, 3]).generate_state(B)]
        return Mixture(fit(None, seeds, **more)[0]).eval()

    def _fit_default(self, x, f, target, loss, options, seeds, dtype, bar, more):
        """Bodies, history, and a function that gives the logits at x, of a stack of the package's own networks."""
        B = len(seeds)
        x, f, target = (a.expand(B, *a.shape) for a in (x, f, target))
        workers = 1 if B == 1 else None
        fitted = fit_stack(
            x, f, target, loss, seeds=seeds, width=self.width, depth=self.depth, options=options, workers=workers, progress=bar, **more
        )
        return [body_of(fitted, b, dtype) for b in range(B)], fitted.history, lambda: fitted.logits(x)

    def _fit_bodies(self, X, f, target, loss, options, seeds, dtype, bar, more):
        """The same for bodies of the user's own."""
        B = len(seeds)
        with torch.random.fork_rng(devices=[self.device] if self.device != "cpu" else []):
            bodies = []
            for seed in seeds:
                torch.manual_seed(seed)  # for a factory's initial values and for dropout
                body = copy.deepcopy(self.network) if isinstance(self.network, nn.Module) else self.network(self.n_models_)
                network = (body if isinstance(body, WeightNetwork) else WeightNetwork(body)).to(self.device, dtype)
                bodies.append(network.body)
            x = module_input(network, X)
            check_output("network", network, x, self.n_models_, "one logit per model")
            if more.get("start") is not None:
                start_at(bodies, more["start"])
            G = loss.candidates(target, f.movedim(0, -1))
            targets = [a.expand(B, *a.shape) for a in (G, target)]
            if more.get("sample_weight") is not None:
                targets.append(more["sample_weight"] / more["sample_weight"].mean(1, keepdim=True))
            unit = loss.scale(*targets).unsqueeze(1)

            def criterion(logits, G, target, *share):
                value = loss.of_logits(logits, G, target) / unit
                return value * share[0] if share else value

            # one module trains as it is; several as one stack, which few kinds of layers do not take
            stack = ModuleStack(bodies[0]) if B == 1 else ModulesStack(bodies)
            generators = [torch.Generator().manual_seed(int(s)) for s in seeds]
            history = train(stack, x.expand(B, *x.shape), criterion, targets, options, generators, bar, more.get("penalties"))
            bodies = [bodies[0].eval()] if B == 1 else stack.unstack()

        def logits():
            with torch.no_grad():
                return torch.stack([torch.cat([body(part) for part in x.split(1024)]).T for body in bodies])

        return bodies, history, logits

    def weights(self, X, return_std=False):
        """Weights w(x) of shape (n, M): non-negative, each row summing to one.

        Parameters
        ----------
        X : array of shape (n, ...)
        return_std : bool
            Also give the standard deviation of each weight over the networks of resampled data, (n, M); it needs a fit with ``bootstrap`` of
            at least two. The shrinkage is held at its choice, so the uncertainty of that choice is not in it.
        """
        w = super().weights(X)
        if not return_std:
            return w
        if self.n_models_ > 1 and (self.bootstrap_ is None or len(self.bootstrap_.bodies) < 2):
            raise ValueError("return_std=True needs networks of resampled data; fit with LocalMA(bootstrap=50), say")
        return w, self._over_bootstrap(self._validate(X)).std(0, ddof=1) if self.n_models_ > 1 else np.zeros_like(w)

    def _over_bootstrap(self, X):
        """Weights of each network of resampled data, (bootstrap, n, M)."""
        x = module_input(self.network_, X)
        with torch.no_grad():
            parts = [self.bootstrap_.members(part).double() for part in x.split(4096 if x.ndim == 2 else 256)]
        return torch.softmax(torch.cat(parts, 1), -1).cpu().numpy()

    def _weights(self, X):
        if self.network_ is None:
            return np.ones((len(X), 1))
        x = module_input(self.network_, X)
        with torch.no_grad():  # in pieces, so that a large X needs no large activations; in float64, so that rows sum to one
            logits = torch.cat([self.network_.body(part).double() for part in x.split(65536 if x.ndim == 2 else 1024)])
        return torch.softmax(logits, 1).cpu().numpy()


def _fit_info(options: Options, history: History | None, entropy: float) -> FitInfo:
    """Of the first network of a stack; None where nothing was trained."""
    if history is None:
        return FitInfo(options, 0, np.empty(0), np.empty(0), np.empty(0, int), 0.0, float(entropy))
    curves = (history.train_loss[:, 0].cpu().numpy(), history.validation_loss[:, 0].cpu().numpy())
    evaluated = np.asarray(history.evaluated_at, dtype=int)
    return FitInfo(options, int(history.best_step[0]), *curves, evaluated, float(history.gradient_norm[0]), float(entropy))
