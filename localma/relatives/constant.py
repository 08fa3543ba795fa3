"""Relatives with one set of weights for all inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls
from scipy.special import softmax

from localma.averages.constant import _Constant
from localma.checks import RandomState, check_whole, choose, resolve_seed
from localma.engine import first_smallest
from localma.losses.loss import LossLike
from localma.relatives.common import (
    log_likelihood,
    losses_of_models,
    need_likelihood,
    need_squared,
    variances,
    weights_of,
)

__all__ = ["AdaptiveMixing", "BatesGranger", "GreedySelection", "InformationWeights", "NonNegativeStacking"]


class BatesGranger(_Constant):
    r"""Weights from the second moments S of the models' errors: :math:`w \propto S^{-1} 1`, or
    :math:`w_m \propto 1 / S_{mm}`.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; squared loss only.
    covariance : {"full", "diagonal"}
        Full: the best weights that sum to one, whatever their signs (GW without its sign constraint). Diagonal: as if
        errors were uncorrelated; these weights are positive.

    Attributes
    ----------
    weights_ : array of shape (M,)
        They sum to one; with the full matrix some may be negative.

    Notes
    -----
    Source: Bates and Granger (1969), The combination of forecasts. Simplified: all observations count the same, where
    the source forgets old ones. Where S is singular (identical models) the least-norm solution is taken. Diagonal is
    the better choice when n is small against M and errors are hardly correlated; full when two models err together and
    one can be subtracted from the other.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import BatesGranger
    >>> y = np.zeros(4)
    >>> F = np.array([[1.0, 2], [1, -2], [-1, 2], [-1, -2]])  # uncorrelated errors with variances one and four
    >>> BatesGranger().fit(y[:, None], y, F=F).weights_.round(6)
    array([0.8, 0.2])
    """

    simplex = False

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        loss: LossLike = "squared",
        clip: bool = True,
        covariance: str = "full",
    ) -> None:
        super().__init__(models, loss=loss, clip=clip)
        self.covariance = covariance

    def _check(self, X, y, M, loss):
        need_squared("BatesGranger", loss)
        choose("covariance", self.covariance, ("full", "diagonal"))

    def _fit_weights(self, X, F, y, loss, sample_weight=None):
        errors = y[:, None] - F
        if self.covariance == "diagonal":
            precision = 1 / variances(errors**2, sample_weight)
            self.weights_ = precision / precision.sum()
            return
        M = F.shape[1]
        S = errors.T @ (weights_of(y, sample_weight)[:, None] * errors) / len(y)
        kkt = np.ones((M + 1, M + 1))  # S w = multiplier and sum w = 1, solved so that a singular S does no harm
        kkt[:M, :M] = S / (np.trace(S) / M or 1.0)
        kkt[M, M] = 0
        self.weights_ = np.linalg.lstsq(kkt, np.eye(M + 1)[M], rcond=None)[0][:M]


class InformationWeights(_Constant):
    r"""Smoothed AIC or BIC, and Bayesian model averaging: :math:`w_m \propto \pi_m \exp(-\mathrm{IC}_m / 2)`.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; squared (Gaussian errors, each model with a variance of its own), poisson or
        cross_entropy.
    criterion : {"aic", "bic"}
        How many units of deviance a fitted parameter costs: 2, or log n.
    n_parameters : int or array of shape (M,)
        Parameters of each model that were estimated *on this sample*. Frozen models have none, and then AIC and BIC
        weights are the same.
    prior : array of shape (M,), optional
        Prior probabilities; equal ones by default.

    Attributes
    ----------
    weights_ : array of shape (M,)

    Notes
    -----
    Sources: Buckland, Burnham and Augustin (1997), Model selection: an integral part of inference; Hoeting, Madigan,
    Raftery and Volinsky (1999), Bayesian model averaging: a tutorial. For frozen models both are the posterior
    probabilities of Bayesian model averaging: exactly so where a model is a likelihood (Poisson, classes), and for
    Gaussian errors with the prior density :math:`1 / \sigma^2`. Simplified: nothing for frozen models; otherwise BIC
    stands for a marginal likelihood. The better choice when one model is right and must be found; as n grows it becomes
    the best single model, not the best average.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import InformationWeights
    >>> F = np.array([[[0.9, 0.1], [0.6, 0.4]]])  # probabilities of two classes from two models, one observation
    >>> InformationWeights(loss="cross_entropy").fit([[0.0]], [0], F=F).weights_.round(6)
    array([0.6, 0.4])
    """

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        loss: LossLike = "squared",
        clip: bool = True,
        criterion: str = "bic",
        n_parameters: ArrayLike = 0,
        prior: ArrayLike | None = None,
    ) -> None:
        super().__init__(models, loss=loss, clip=clip)
        self.criterion = criterion
        self.n_parameters = n_parameters
        self.prior = prior

    def _check(self, X, y, M, loss):
        need_likelihood("InformationWeights", loss)
        choose("criterion", self.criterion, ("aic", "bic"))
        if not self._each(M)[1].any():
            raise ValueError("prior must give some model a positive probability")

    def _fit_weights(self, X, F, y, loss, sample_weight=None):
        k, prior = self._each(F.shape[1])
        losses, w = losses_of_models(loss, y, F), weights_of(y, sample_weight)
        v = variances(losses, w) if loss.power == 0 else None
        deviance = -2 * w @ log_likelihood(loss, losses, v)
        price = 2 if self.criterion == "aic" else np.log(w.sum())
        with np.errstate(divide="ignore"):  # a prior of zero
            self.weights_ = softmax(np.log(prior) - 0.5 * (deviance + price * k))

    def _each(self, M):
        """The number of parameters and the prior probability of each model."""
        values = []
        for name, given in (("n_parameters", self.n_parameters), ("prior", 1.0 if self.prior is None else self.prior)):
            value = np.asarray(given)
            numbers = value.dtype.kind in "biuf" and value.shape in ((), (M,))
            if not (numbers and np.isfinite(value).all() and (value >= 0).all()):
                one = f"one number or one for each of the {M} models"
                raise ValueError(f"{name} must be non-negative, {one}, but is {value.tolist()}")
            values.append(np.broadcast_to(value.astype(float), M))
        return values


class AdaptiveMixing(_Constant):
    r"""ARM, adaptive regression by mixing: likelihood weights from one half of the sample with variances from the
    other, averaged over splits.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; squared, poisson or cross_entropy.
    splits : int
        Random halvings.
    random_state : int, RandomState or None

    Attributes
    ----------
    weights_ : array of shape (M,)

    Notes
    -----
    Source: Yang (2001), Adaptive regression by mixing. Simplified: the source's first half also fits the models; ours
    are frozen, so it estimates the error variances alone, and nothing at all for Poisson and classes. Compared with
    :class:`InformationWeights`, half the sample decides and splits are averaged, so that nearly equal models share the
    weight for longer. The better choice when one wants to be nearly as good as the best single model without betting on
    it.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import AdaptiveMixing
    >>> y = np.random.default_rng(0).normal(size=60)
    >>> F = np.stack([0 * y, 0 * y + 0.1, 0 * y + 3], 1)
    >>> w = AdaptiveMixing(random_state=0).fit(y[:, None], y, F=F).weights_
    >>> bool(w[2] < 1e-6 < 0.1 < w[:2].min())
    True
    """

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        *,
        loss: LossLike = "squared",
        clip: bool = True,
        splits: int = 50,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(models, loss=loss, clip=clip)
        self.splits = splits
        self.random_state = random_state

    def _check(self, X, y, M, loss):
        need_likelihood("AdaptiveMixing", loss)
        check_whole("splits", self.splits, 1)
        if len(y) < 2:
            raise ValueError("X has one row, but AdaptiveMixing halves the sample; give two or more")

    def _fit_weights(self, X, F, y, loss, sample_weight=None):
        losses, rng = losses_of_models(loss, y, F), np.random.default_rng(resolve_seed(self.random_state))
        w, weights = weights_of(y, sample_weight), []
        for _ in range(self.splits):
            first, second = np.array_split(rng.permutation(len(y)), 2)
            v = variances(losses[first], w[first]) if loss.power == 0 else None
            weights.append(softmax(w[second] @ log_likelihood(loss, losses[second], v)))
        self.weights_ = np.mean(weights, 0)


class NonNegativeStacking(_Constant):
    """Stacked regression: the non-negative coefficients of y on the predictions; they need not sum to one.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; squared loss only.

    Attributes
    ----------
    weights_ : array of shape (M,)
        Non-negative, with any sum.

    Notes
    -----
    Source: Breiman (1996), Stacked regressions; solved by scipy's :func:`scipy.optimize.nnls` (Lawson and Hanson,
    1974). Simplified: the source cross-validates the models to get honest predictions; frozen models' predictions are
    honest. The better choice when all models are too small or too large by a factor (it rescales), the worse one when
    they are off by a constant.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import NonNegativeStacking
    >>> x = np.array([1.0, 2, 3])
    >>> NonNegativeStacking().fit(x[:, None], 2 * x, F=np.stack([x, -x], 1)).weights_
    array([2., 0.])
    """

    simplex = False

    def _check(self, X, y, M, loss):
        need_squared("NonNegativeStacking", loss)

    def _fit_weights(self, X, F, y, loss, sample_weight=None):
        root = np.sqrt(weights_of(y, sample_weight))
        self.weights_ = nnls(root[:, None] * F, root * y)[0]


class GreedySelection(_Constant):
    """Ensemble selection: add, again and again, the model that makes the average best; a model's weight is how often it
    was taken.

    Parameters
    ----------
    models, loss, clip
        As in :class:`localma.LocalMA`; every loss.
    rounds : int
        Most models to take, counted with repetition. The best of all lengths is kept.

    Attributes
    ----------
    weights_ : array of shape (M,)
        Multiples of one over the number of models taken.
    path_ : array of int
        Who was taken, in order, up to the best length.

    Notes
    -----
    Source: Caruana, Niculescu-Mizil, Crew and Ksikes (2004), Ensemble selection from libraries of models. Simplified:
    it starts from the best model and does not bag the library. It walks to the same optimum as
    :class:`localma.GlobalMA` and stops on the way. The better choice with very many models, or with a measure that has
    no gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.relatives import GreedySelection
    >>> y = np.zeros(2)
    >>> greedy = GreedySelection().fit(y[:, None], y, F=np.array([[1.0, -2], [1, -2]]))
    >>> greedy.path_, greedy.weights_.round(3)
    (array([0, 1, 0]), array([0.667, 0.333]))
    """

    def __init__(
        self, models: Sequence[Any] | None = None, *, loss: LossLike = "squared", clip: bool = True, rounds: int = 50
    ) -> None:
        super().__init__(models, loss=loss, clip=clip)
        self.rounds = rounds

    def _check(self, X, y, M, loss):
        check_whole("rounds", self.rounds, 1)

    def _fit_weights(self, X, F, y, loss, sample_weight=None):
        total, path, values = np.zeros_like(F[:, 0]), [], []
        for taken in range(1, self.rounds + 1):
            losses = losses_of_models(loss, y, (total[:, None] + F) / taken)
            trials = np.average(losses, 0, sample_weight)
            path.append(int(first_smallest(trials)))
            values.append(trials[path[-1]])
            total = total + F[:, path[-1]]
        self.path_ = np.array(path[: int(first_smallest(values)) + 1])
        self.weights_ = np.bincount(self.path_, minlength=F.shape[1]) / len(self.path_)
