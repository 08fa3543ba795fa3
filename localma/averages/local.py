r""":class:`LocalMA`, the method of the paper."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from torch import nn

from localma.averages.base import ModelAverage
from localma.averages.candidates import warn_of_odd_models
from localma.averages.crossfit import check_learner, need_weights, with_direct
from localma.averages.fitinfo import fit_info, in_sample, warn_of_late_fall
from localma.averages.level import at_level, learn_level, residual
from localma.checks import RandomState, check_answers, check_whole, choose, resolve_seed
from localma.engine import Mlp, Training, WeightNetwork, check_device, fit_local_stack
from localma.engine.devices import one_thread, resolve_dtype
from localma.engine.local import ModulesFit
from localma.engine.networks import Constant, Mixture, module_input
from localma.engine.rows import shared
from localma.engine.shrinkage import MEMBERS
from localma.engine.simplex import start_weights
from localma.engine.validation import FOLDS, fold_numbers
from localma.losses.loss import LossLike
from localma.progress import progress_bar

__all__ = ["LocalMA"]

#: Parameters of a network that one thread evaluates faster than several.
SMALL = 2**16


class LocalMA(ModelAverage):
    r"""Localized model averaging: :math:`f(x) = \sum_m w_m(x) f_m(x)` with weights from a softmax network, equations
    (2)-(7) of the paper.

    Parameters
    ----------
    models : list, optional
        Fitted candidate models: scikit-learn estimators, torch modules (probabilities, not logits, for cross-entropy),
        callables, or (name, model) pairs of these. They are called once per data set and never changed. None: every
        call gets predictions ``F``.
    loss : str, Loss or callable
        A key of :data:`localma.LOSSES`, a :class:`localma.Loss` (such as ``tweedie(1.7)``), or a callable
        ``loss(y, a)`` of torch tensors.
    clip : bool
        No absurd votes. Each candidate is held at a new row within the range of y and of its own predictions in the
        sample, widened by its width on either side; a warning names rows and models. A narrower range would cut
        predictions that are right. And far outside the sample, as after a typing error, where softmax weights may be
        sure of a model that extrapolates without bounds, weights are global: where a row is 1.5 times as far from the
        mean as any of the sample (as :meth:`explain` measures). False: candidates and weights are taken at their word.
        Class probabilities need none of it, and fewer than ten rows give no range.
    network : Mlp, torch.nn.Module or callable, optional
        What maps x to M logits. :class:`localma.Mlp`: a ReLU network on standardised inputs (default
        ``Mlp(width=16, depth=1)``). A module of your own (a copy is trained), or a function that makes one from M; its
        last linear layer is set to zero, unless you give a :class:`localma.WeightNetwork` with ``zero_output=False``.
        It reads X unscaled, or as whole numbers if X holds such and the module has an embedding layer (tokens).
    features : list of column names, callable or transformer, optional
        What the network reads; the models get X as it came. A scikit-learn transformer is cloned and fitted to the X of
        the sample, once and without y, so that held-out responses stay unseen in every fold; one that needs y is fitted
        on other rows and given as a function, ``transformer.transform``. Default: X itself; of a data frame (or of the
        columns that are named) numbers as they are, an indicator for each of the 20 most frequent categories, and the
        median for missing numbers, with an indicator of its own, where the sample had some.
    direct : scikit-learn regressor or classifier, optional
        A learner that is trained on the sample itself and is the last candidate, "direct". It reads X as the models do.
        The weights hear it on rows that it was not trained on (:func:`localma.cross_fit`, in the folds that choose the
        shrinkage, groups held together); predictions come from its fit to all rows. Kept only if held-out rows gain a
        standard error by it, since one candidate more is one weight more to learn (without cross-validation always).
        Give it a ``random_state`` where it draws. Do not put a model that has seen the sample into ``models``.
    level : bool
        Add what all candidates together lack, and no weights can reach: the mean residual of held-out rows (a factor
        for positive means, for classes a number for the logit of each). Taken only if held-out rows gain a standard
        error by it; ``fit_info_.residual`` says when to try. Off by default: it is not in the paper.
    training : Training, optional
        Steps, batches, learning rate, precision: see :class:`localma.Training`. A search sets ``training__steps`` and
        its like.
    shrinkage : "auto", "cv", float or None
        How far to shrink the weights towards the global ones. A number: train from global weights with this penalty on
        the network's weights, not its biases (infinity: global weights themselves). "cv": choose the number by
        cross-validation, with global weights among the candidates and kept unless another beats them by a standard
        error. None: the paper's method, which starts from equal weights and has the penalty of ``training``. Auto: "cv"
        for an Mlp, unless ``training`` says how to regularise (a penalty or a validation part) or there are fewer than
        ten observations; None for a module of your own, whose 45 to 65 trainings may be dear.
    members : int or "auto"
        Networks, from different initial values, whose weights are averaged; those of your own need a function as
        ``network``, since a module has one start. Auto: 5 with a shrinkage and up to n = 10,000 for an Mlp, otherwise
        1.
    bootstrap : int
        Networks of resampled data, for ``weights(X, return_std=True)``.
    device : str
        Where to train and predict: "cpu", "cuda", ...
    progress : bool
        A progress bar for fits that take longer than five seconds.
    random_state : int, RandomState or None
        An int makes the fit reproducible.

    Notes
    -----
    Derived, and rebuilt in ten lines of torch, in the book's chapter "From global to local weights"
    (``book/core/local_weights``).

    Attributes
    ----------
    network_ : WeightNetwork
        The fitted network, or the average of several (None for a single model).
    fit_info_ : FitInfo
        Of the first network.
    shrinkage_ : float or None
        The penalty of the fit, infinite where global weights were kept.
    cv_results_ : dict of arrays of shape (L + 1,), or None
        For each ``shrinkage`` that was tried, increasing, the mean held-out ``loss``, its ``difference`` to that of
        global weights with ``standard_error``, and whether it was ``chosen``.
    bootstrap_ : Mixture or None
    features_ : object
        What makes numbers of X, fitted; None where the network reads X itself.
    direct_ : object
        The learner, fitted to all rows; None without one, or where it was not kept.
    direct_gain_ : pair of float, or None
        How much less the average with the learner loses on held-out rows, and the standard error.
    level_, level_gain_
        The level, None where it was not taken; how much less held-out rows lose by it, and the standard error.
    range_, global_weights_
        Least and largest prediction that is not clipped, (2, M); the weights far outside, (M,). None for classes.
    n_models_, model_names_, classes_
    n_features_in_, feature_names_in_
        Of what the network reads.

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

    in_blocks = True
    direct_gain_: tuple[float, float] | None = None
    level_gain_: tuple[float, float] | None = None
    global_weights_: np.ndarray | None = None

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        loss: LossLike = "squared",
        clip: bool = True,
        network: Mlp | nn.Module | Callable[[int], nn.Module] | None = None,
        features: Any = None,
        direct: Any = None,
        level: bool = False,
        training: Training | None = None,
        shrinkage: float | str | None = "auto",
        members: int | str = "auto",
        bootstrap: int = 0,
        device: str = "cpu",
        progress: bool = True,
        random_state: RandomState = None,
    ) -> None:
        self.models = models
        self.loss = loss
        self.clip = clip
        self.network = network
        self.features = features
        self.direct = direct
        self.level = level
        self.training = training
        self.shrinkage = shrinkage
        self.members = members
        self.bootstrap = bootstrap
        self.device = device
        self.progress = progress
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        F: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit the weights; the candidate models stay as they are.

        Parameters
        ----------
        X, y, F, sample_weight, classes
            As in every average: see :meth:`localma.averages.ModelAverage.fit`.
        groups : array of shape (n,), optional
            Which observations belong together, such as the rows of one person: cross-validation holds them out
            together, and ``bootstrap`` draws them together. Without it, rows that resemble each other make local
            weights look better than they are.

        Raises
        ------
        ValueError
            As in every average, and for fewer than ten groups.
        """
        if sample_weight is not None and self.direct is not None:
            need_weights(self.direct, "direct")
        return self._fit(X, y, F, sample_weight, classes, groups, seed=resolve_seed(self.random_state))

    def _check(self, X, y, M, loss, groups=None, seed=0):
        network, training, shrinkage, _ = self._settings(len(y))
        if groups is not None and groups.shape != (len(y),):
            raise ValueError(
                f"groups has shape {groups.shape}, but there are {len(y)} observations; give one entry for each"
            )
        apart = groups is not None or shrinkage == "cv" or self.bootstrap
        if apart and training.validation_fraction not in ("auto", 0):
            given = training.validation_fraction
            raise ValueError(f"validation_fraction = {given} mixes what groups, folds and bootstraps keep apart; set 0")
        if isinstance(network, Mlp) and X.ndim != 2:
            raise ValueError(
                f"X has shape {X.shape}, but the default network reads (n, d); flatten X or give network= a body of"
                " your own"
            )
        choose("level", self.level, (True, False))
        if self.direct is not None:
            check_learner(self.direct, "direct", loss.is_classification)
        if self.direct is not None or self.level:
            fold_numbers(len(y), seed, groups)
        check_whole("bootstrap", self.bootstrap, 0)
        check_device(self.device)

    def _with_direct(self, X, F, y, loss, groups=None, seed=0, sample_weight=None):
        if self.direct is None:
            return F
        how = {"groups": groups, "random_state": seed, "sample_weight": sample_weight}
        F, self.direct_ = with_direct(self.direct, X, F, y, getattr(self, "classes_", None), **how)
        name = "direct" if "direct" not in self.model_names_ else "direct (cross-fitted)"
        self.model_names_ = [*self.model_names_, name]
        loss.check_predictions(F, self.model_names_)
        return F

    def _fit_weights(self, X, F, y, loss, groups=None, seed=0, sample_weight=None):
        n = len(y)
        network, training, shrinkage, members = self._settings(n)
        dtype = resolve_dtype(training.dtype, y, *([X] if X.ndim == 2 else []))
        warn_of_odd_models(self.model_names_, F, y, loss, X, self.direct_ is not None, sample_weight)
        resolved = training.resolve(n, shrunk=shrinkage is not None, careful=not isinstance(network, Mlp))
        self.cv_results_ = self.bootstrap_ = None
        self.shrinkage_ = None if shrinkage is None else 0.0
        if self.n_models_ == 1:  # nothing to learn: the simplex is a point
            self.fit_info_, self.network_ = fit_info(resolved, None, 0.0), None
            return
        x = shared(X, dtype if isinstance(network, Mlp) else None, self.device)
        f, target = (shared(a, device=self.device) for a in (F, y))
        training = replace(training, dtype=str(dtype).removeprefix("torch."))
        how = {"network": network, "training": training, "shrinkage": shrinkage, "members": members, "seeds": [seed]}
        how |= {"bootstrap": self.bootstrap, "groups": groups}
        how["sample_weight"] = None if sample_weight is None else sample_weight[None]
        with progress_bar("LocalMA", self.progress, unit_scale=True) as bar:
            fit = fit_local_stack(x[None], f[None], target[None], loss, progress=bar, **how)
            if self.direct_ is not None and fit.cross_validation is not None:
                without = fit_local_stack(x[None], f[None, :, :-1], target[None], loss, progress=bar, **how)
                gain, error = (float(a[0]) for a in without.cross_validation.gain(fit.cross_validation))
                self.direct_gain_ = gain, error
                if not gain > error:
                    fit, f = without, f[:, :-1]
                    del self.direct_
                    self.n_models_, self.model_names_ = self.n_models_ - 1, self.model_names_[:-1]
        if not loss.is_classification:
            gw = fit.global_weights
            self.global_weights_ = start_weights(F, y, loss, sample_weight) if gw is None else gw[0]
        body = fit.body(0, dtype, self.device)
        if shrinkage is not None:
            self.shrinkage_ = float(fit.shrinkage[0])
        if fit.cross_validation is not None:
            self.cv_results_ = fit.cross_validation.columns(0)
        if self.bootstrap:
            self.bootstrap_ = Mixture(fit.resampled[0]).eval()
        self.network_ = WeightNetwork(body, zero_output=False).eval()
        if isinstance(fit.stack, ModulesFit):
            warn_of_late_fall(resolved, fit.stack.history)
        a, entropy = in_sample(self, X, F[:, : self.n_models_], sample_weight)
        trained = None if isinstance(body, Constant) else fit.stack.history
        self.fit_info_ = fit_info(resolved, trained, entropy, residual(loss, y, a, groups, sample_weight))

    def _fit_level(self, X, F, y, loss, groups=None, seed=0, sample_weight=None):
        if self.level:
            quick = {"shrinkage": self.shrinkage_, "members": 1, "bootstrap": 0, "direct": None, "progress": False}
            self.level_, self.level_gain_ = learn_level(self, X, F, y, loss, groups, seed, sample_weight, **quick)

    def _settings(self, n):
        """Network, training, shrinkage (None, "cv" or a number) and members of a fit to n observations, checked."""
        network = Mlp() if self.network is None else self.network
        training = Training() if self.training is None else self.training
        own = not isinstance(network, Mlp)
        if own and not callable(network):  # modules are callable
            raise TypeError(
                "network must be an Mlp, a torch.nn.Module or a function of M that makes one, not"
                f" {type(network).__name__}"
            )
        if not isinstance(training, Training):
            raise TypeError(f"training must be a localma.Training or None, not {type(training).__name__}")
        training.resolve(n)
        if not own:
            network.sizes(1, 1)
        shrinkage, members = self.shrinkage, self.members
        if isinstance(shrinkage, str) and shrinkage == "auto":
            plain = not own and training.penalty == "auto" and training.validation_fraction in ("auto", 0)
            shrinkage = "cv" if plain and n >= 2 * FOLDS else None
        number = isinstance(shrinkage, numbers.Real) and not isinstance(shrinkage, bool) and shrinkage >= 0
        if not number and shrinkage not in ("cv", None):
            raise ValueError(
                f'shrinkage must be "auto", "cv", a non-negative number or None, but is {self.shrinkage!r}'
            )
        if shrinkage is not None and training.penalty != "auto":
            raise ValueError(
                f"training.penalty = {training.penalty!r} and shrinkage = {self.shrinkage!r} both say how strong the"
                ' penalty is; leave penalty at "auto", or give shrinkage=None'
            )
        if isinstance(members, str) and members == "auto":
            members = MEMBERS if shrinkage is not None and not own and n <= 10_000 else 1
        check_whole("members", members, 1, ' or "auto"')
        if members > 1 and isinstance(network, nn.Module):
            raise ValueError(
                f"members = {members} networks would all start at the values of network; give a function of M that"
                " makes one"
            )
        return network, training, shrinkage, members

    def weights(self, X: ArrayLike, return_std: bool = False) -> Any:
        """Weights w(x) of shape (n, M): non-negative, each row summing to one.

        Parameters
        ----------
        X : array of shape (n, ...)
        return_std : bool
            Also give the standard deviation of each weight over the networks of resampled data, (n, M); it needs a fit
            with ``bootstrap`` of at least two. The shrinkage is held at its choice, so the uncertainty of that choice
            is not in it.
        """
        if not return_std:
            return super().weights(X)
        self._need_bootstrap()
        return self._weights(array := self._read(X)), self._over_bootstrap(array).std(0, ddof=1)

    def predict(self, X: ArrayLike, F: ArrayLike | None = None, return_std: bool = False) -> Any:
        """Predicted means (n,), or class labels for cross-entropy.

        Parameters
        ----------
        X, F
            As in :meth:`fit`.
        return_std : bool
            Also give the standard deviation of each mean over the networks of resampled data, (n,), as
            :meth:`weights` does: how sure the *weights* are, and not how far y may lie from its mean.
        """
        if not return_std:
            return super().predict(X, F)
        self._need_bootstrap()
        if self._resolve_loss().is_classification:
            raise ValueError("return_std=True is for means, not for labels; weights(X, return_std=True) goes with both")
        array, F = self._votes(X, F)
        means = np.einsum("bnm,nm->bn", self._over_bootstrap(array), F)
        means = means if self.level_ is None else at_level(self._resolve_loss(), means, self.level_)
        return self._combine(array, F), means.std(0, ddof=1)

    def _need_bootstrap(self):
        check_is_fitted(self)
        if self.n_models_ > 1 and (self.bootstrap_ is None or len(self.bootstrap_.bodies) < 2):
            raise ValueError("return_std=True needs networks of resampled data; fit with LocalMA(bootstrap=50), say")

    def _over_bootstrap(self, X):
        """Weights of each network of resampled data, (bootstrap, n, M)."""
        if self.network_ is None:
            return np.ones((2, len(X), 1))
        x = module_input(self.network_, X)
        with torch.no_grad():
            parts = [self.bootstrap_.members(part).double() for part in x.split(4096 if x.ndim == 2 else 256)]
        return torch.softmax(torch.cat(parts, 1), -1).cpu().numpy()

    def _weights(self, X):
        if self.network_ is None:
            return np.ones((len(X), 1))
        small = sum(p.numel() for p in self.network_.parameters()) < SMALL
        rows, w = 8192 if X.ndim == 2 else 1024, np.empty((len(X), self.n_models_))
        with torch.no_grad(), one_thread(small):  # in pieces that fit the cache; in float64, so that rows sum to one
            for k in range(0, len(X), rows):
                logits = self.network_.body(module_input(self.network_, X[k : k + rows])).double()
                w[k : k + rows] = torch.softmax(logits, 1).cpu().numpy()
        check_answers("the weight network", w)
        if self.clip and all(known is not None for known in (self.range_, self.sample_, self.global_weights_)):
            w[self.sample_.far(X)] = self.global_weights_
        return w
