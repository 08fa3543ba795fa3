r"""Losses :math:`L(y, a)` that model averaging can minimise, and what each of them estimates.

A loss that satisfies the separation property (equation (8) of the paper),

.. math:: E[L(y, a) \mid x] = l(\mu(x), a) + c(x),

is minimised by the conditional mean :math:`\mu(x)`; exactly the Bregman losses do (Savage 1971; Banerjee, Guo & Wang 2005).
Every entry of :data:`LOSSES` is one of them. :data:`LOSSES` is the extension point: put a :class:`Loss` of your own into it, or pass
any callable ``loss(y, a)`` of torch tensors to an estimator.

Shapes
------
Observations come first in public functions: ``y`` is ``(n,)``, candidate predictions ``F`` are ``(n, M)``, or ``(n, M, K)`` for K classes.
The training stack keeps them last, ``(..., M, n)``, because its matrix products are faster that way; the two methods that it
calls, :meth:`Loss.candidates` and :meth:`Loss.of_logits`, say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from localma.domains import DOMAINS, advice_on_probabilities, check_domain, check_leading, check_shapes

__all__ = ["LOSSES", "Loss", "resolve_loss", "tweedie"]

# A probability of exactly zero for what then happens costs an infinite loss; where all models agree on it, no weights can repair that.
PROBABILITY_FLOOR = 1e-12


class _SoftmaxAverage(torch.autograd.Function):
    """``sum_m softmax(logits)_m F_m`` over dimension -2, with its three-line gradient.

    Autograd's own chain (softmax, product, sum) reads and writes the (M, n) arrays six times; this one does so twice, and
    memory traffic is what a stack of small networks spends its time on.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, F: Tensor) -> Tensor:
        w = torch.softmax(logits, dim=-2)
        a = (w * F).sum(-2)
        ctx.save_for_backward(w, F, a)
        return a

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        w, F, a = ctx.saved_tensors
        # d a / d logit_m = w_m (f_m - a): a model gains weight where it errs on the right side of the average.
        return (F - a.unsqueeze(-2)).mul_(w).mul_(grad.unsqueeze(-2)), None


class _LogSoftmaxAverage(torch.autograd.Function):
    """``log sum_m softmax(logits)_m exp(G_m)`` over dimension -2; its gradient is posterior weights minus prior weights."""

    @staticmethod
    def forward(ctx, logits: Tensor, G: Tensor) -> Tensor:
        joint = logits + G
        value = torch.logsumexp(joint, -2) - torch.logsumexp(logits, -2)
        ctx.save_for_backward(logits, joint)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        logits, joint = ctx.saved_tensors
        return (torch.softmax(joint, -2) - torch.softmax(logits, -2)).mul_(grad.unsqueeze(-2)), None


def _tensors(*arrays):
    """Tensors of the arguments, and whether the caller gave (and therefore gets back) something else."""
    if any(isinstance(a, Tensor) for a in arrays):
        return [torch.as_tensor(a) for a in arrays], False
    return [torch.tensor(np.asarray(a, dtype=float)) for a in arrays], True


@dataclass(frozen=True)
class Loss:
    r"""A loss for predictions of a mean.

    The book's chapter "Losses" (``book/method/losses``) says where each one comes from and proves the separation property.

    Parameters
    ----------
    name : str
        How errors and tables call it.
    value : callable
        ``value(y, a)``, the loss of each observation: torch tensors of one shape in, a tensor of that shape out. It must be
        differentiable in ``a``.
    phi : callable, optional
        The convex generator of a Bregman loss, :math:`L(y, a) = \varphi(y) - \varphi(a) - \varphi'(a)(y - a)` up to terms in y alone.
        Without it :meth:`divergence` is not available and the theory of the paper does not apply.
    response, prediction : str
        Domains of ``y`` and of ``a``, checked before any training: "real", "non-negative", "positive" or "between 0 and 1".

    Examples
    --------
    >>> from localma import LOSSES
    >>> LOSSES["squared"]([1.0, 2.0], [0.0, 2.0])
    array([1., 0.])
    >>> LOSSES["poisson"].check_response([1, -1])
    Traceback (most recent call last):
    ...
    ValueError: y must be non-negative for the poisson loss, but y[1] = -1. Drop or correct such rows, or choose another loss.
    """

    name: str
    value: Callable[[Tensor, Tensor], Tensor]
    phi: Callable[[Tensor], Tensor] | None = None
    response: str = "real"
    prediction: str = "real"

    def __post_init__(self):
        for field in ("response", "prediction"):
            if getattr(self, field) not in DOMAINS:
                raise ValueError(f"{field} = {getattr(self, field)!r} is no domain; choose one of {', '.join(map(repr, DOMAINS))}")

    @property
    def is_classification(self) -> bool:
        """Whether y holds class labels and predictions are probabilities."""
        return False

    def __call__(self, y, a):
        """Loss of each observation, for ``y`` and ``a`` of one shape, such as (n,); arrays in, array out, tensors in, tensor out."""
        (y, a), to_numpy = _tensors(y, a)
        check_shapes(y, a, y.shape)
        out = self.value(y, a)
        return out.numpy() if to_numpy else out

    def divergence(self, mu, a):
        r"""The divergence :math:`l(\mu, a) \ge 0` of the separation property: excess risk of predicting ``a`` where the mean is ``mu``.

        Parameters
        ----------
        mu, a : array or tensor of shape (n,)
            One of them may have leading dimensions that the other has not, such as many predictions for one mean.
        """
        if self.phi is None:
            raise ValueError(
                f"the loss {self.name!r} has no generator phi, so no divergence: it need not separate; give Loss(..., phi=...)"
            )
        (mu, a), to_numpy = _tensors(mu, a)
        check_leading(mu, a)
        with torch.enable_grad():
            at = a.detach().requires_grad_() if not a.requires_grad else a
            slope = torch.autograd.grad(self.phi(at).sum(), at, create_graph=a.requires_grad)[0]
        out = self.phi(mu) - self.phi(a) - slope * (mu - a)
        return out.numpy() if to_numpy else out

    # --- what training needs -------------------------------------------------------------------------------------------------------------

    def candidates(self, y: Tensor, F: Tensor) -> Tensor:
        """All that the loss of an average needs to know of the candidates: (..., n), (..., M, n) -> (..., M, n)."""
        return F

    def of_logits(self, logits: Tensor, G: Tensor, y: Tensor) -> Tensor:
        """Loss of each observation for weights ``softmax(logits)``: (..., M, n), (..., M, n), (..., n) -> (..., n)."""
        return self.value(y, _SoftmaxAverage.apply(logits, G))

    def of_weights(self, w: Tensor, G: Tensor, y: Tensor) -> Tensor:
        """The same for weights on the simplex, where some may be exactly zero."""
        return self.value(y, (w * G).sum(-2))

    def linear(self, G: Tensor) -> Tensor:
        """Candidates on the scale on which an average is linear in its weights."""
        return G

    def derivatives(self, y: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivative of the loss in the (linear-scale) average ``a``, both of shape (..., n)."""
        with torch.enable_grad():
            a = a.detach().requires_grad_()
            first = torch.autograd.grad(self.value(y, a).sum(), a, create_graph=True)[0]
            if not first.requires_grad:  # a loss that is linear in a
                return first.detach(), torch.zeros_like(a)
            second = torch.autograd.grad(first.sum(), a, allow_unused=True)[0]
        return first.detach(), torch.zeros_like(a) if second is None else second

    def scale(self, G: Tensor, y: Tensor, share: Tensor | None = None) -> Tensor:
        """How much the loss can move when weights move: half curvature times variance between models, at equal weights; (...,).

        Training divides by it, so that steps and penalty mean the same in euros and in cents. For squared loss it is the ambiguity of the ensemble
        (Krogh & Vedelsby 1995). Labels count by ``share`` (..., n), of mean one: those of a fold that is held out have none.
        """
        F = self.linear(G)
        a = F.mean(-2)
        curvature, spread = self.derivatives(y, a)[1].abs(), F.var(-2, correction=0)
        scale, level = 0.5 * (curvature * spread).mean(-1), self.value(y, a).abs()
        if share is not None:  # the mean curvature of what counts; what models say of the observed class is a label, too
            counted, level = share * spread, share * level
            everywhere = (counted if self.is_classification else spread).mean(-1)
            scale = 0.5 * everywhere * ((curvature * counted).sum(-1) / counted.sum(-1))  # the ratio is exactly two for squared loss
        level = level.mean(-1)
        fallback = torch.where(level > 0, level, torch.ones_like(level))
        return torch.where((scale > 0) & scale.isfinite(), scale, fallback)

    # --- domains ----------------------------------------------------------------------------------------------------------------

    def check_response(self, y) -> None:
        """Raise ValueError if some ``y`` lies outside the loss's domain."""
        advice = "Drop or correct such rows, or choose another loss."
        check_domain("y", np.asarray(y), self.response, self.name, "y[{}]", advice)

    def check_value(self, y, a) -> None:
        """Raise ValueError unless the loss gives, with torch, one number for each of the observations ``y``, ``a`` of shape (n,)."""
        y, a = torch.tensor(y), torch.tensor(a, requires_grad=True)
        try:
            out = self.value(y, a)
        except Exception as error:
            raise ValueError(
                f"loss {self.name!r} failed on torch tensors of shape {tuple(y.shape)}; compute it with torch: {error}"
            ) from error
        if getattr(out, "shape", None) != y.shape:
            given = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(
                f"loss {self.name!r} must return a tensor of shape (n,), one number for each observation, not their mean; it gave {given}"
            )

    def check_predictions(self, F, names=None) -> None:
        """Raise ValueError if a candidate prediction ``F[i, m]`` lies outside the loss's domain."""
        advice = "Clip or transform the model's output, or choose another loss."
        for m in range(F.shape[1]):
            what, where = (f"the prediction of model {names[m]!r}", "its value in row {}") if names else ("F", f"F[{{}}, {m}]")
            check_domain(what, np.asarray(F[:, m]), self.prediction, self.name, where, advice)


class _CrossEntropy(Loss):
    """Minus the log-probability of the observed class; ``y`` holds class numbers 0..K-1, ``a`` probabilities (n, K)."""

    @property
    def is_classification(self) -> bool:
        return True

    def __call__(self, y, a):
        (y, a), to_numpy = _tensors(y, a)
        check_shapes(y, a, (*y.shape, *a.shape[-1:]))
        known = (y >= 0) & (y < a.shape[-1]) & (y == y.long())
        if not known.all():
            last = a.shape[-1] - 1
            raise ValueError(f"y must hold class numbers from 0 to {last}, columns of the predictions, but y has {y[~known][0].item():g}")
        p = a.gather(-1, y.long().unsqueeze(-1)).squeeze(-1)
        out = self.value(y, p)
        return out.numpy() if to_numpy else out

    def divergence(self, mu, a):
        """Kullback-Leibler divergence of class probabilities ``a`` (n, K) from ``mu`` (n, K)."""
        (mu, a), to_numpy = _tensors(mu, a)
        check_leading(mu, a)
        out = (torch.xlogy(mu, mu) - torch.xlogy(mu, a)).sum(-1)
        return out.numpy() if to_numpy else out

    def candidates(self, y, F):
        """Log-probability that each model gave to what happened: (..., n), (..., M, K, n) -> (..., M, n)."""
        index = y.long().unsqueeze(-2).unsqueeze(-2).expand(*F.shape[:-2], 1, F.shape[-1])
        return F.gather(-2, index).squeeze(-2).clamp_min(PROBABILITY_FLOOR).log()

    def of_logits(self, logits, G, y):
        return -_LogSoftmaxAverage.apply(logits, G)

    def of_weights(self, w, G, y):
        return -torch.logsumexp(w.log() + G, -2)

    def linear(self, G):
        return G.exp()

    def check_response(self, y):
        """Class labels are checked against the models' classes by the estimator, which knows them."""

    def check_predictions(self, F, names=None):
        F = np.asarray(F)
        total = F @ np.ones(F.shape[-1])  # sums and minima over so short an axis would take longer than to predict
        bad = np.abs(total - 1) > 1e-3
        if F.min() < 0:
            bad |= (F < 0).any(-1)
        if bad.any():
            m, i = np.argwhere(bad.T)[0]
            label = f"model {names[m]!r}" if names else f"F[:, {m}]"
            raise ValueError(
                f"{label} must give class probabilities (non-negative, each row summing to one) for the cross_entropy loss; "
                f"row {i} sums to {total[i, m]:.4g} and its smallest entry is {F[i, m].min():.4g}. "
                + advice_on_probabilities(F[:, m], total[:, m])
            )


# Named functions, not lambdas: an estimator that holds a Loss can then be pickled, which parallel grid searches do.
def _squared(y, a):
    return (y - a).square()


def _poisson(y, a):
    return 2 * (torch.xlogy(y, y) - torch.xlogy(y, a) - y + a)


def _gamma(y, a):
    return 2 * (a.log() - torch.log(y) + y / a - 1)


def _tweedie_phi(p, y):
    return 2 * y ** (2 - p) / ((1 - p) * (2 - p))


def _tweedie(p, y, a):
    return _tweedie_phi(p, y) - 2 * y * a ** (1 - p) / (1 - p) + 2 * a ** (2 - p) / (2 - p)


def tweedie(power: float = 1.5) -> Loss:
    """Unit deviance of a Tweedie distribution with variance function ``mu ** power``.

    Parameters
    ----------
    power : float
        Between 1 and 2 (compound Poisson-gamma: a mass at zero and a positive part) or above 2 (positive responses). The end points are
        ``LOSSES["poisson"]`` and ``LOSSES["gamma"]``.

    References
    ----------
    Jorgensen (1987), Exponential dispersion models, JRSS B 49.

    Examples
    --------
    >>> from localma import tweedie
    >>> tweedie(1.5)([0.0, 1.0], [1.0, 1.0]).round(3)
    array([4., 0.])
    """
    p = float(power)
    if not (1 < p < float("inf") and p != 2):
        raise ValueError(f"power must lie between 1 and 2, or above 2, but is {power}; use 'squared', 'poisson' or 'gamma' for 0, 1 and 2")
    return Loss(
        f"tweedie({p})",
        partial(_tweedie, p),
        partial(_tweedie_phi, p),
        response="non-negative" if p < 2 else "positive",
        prediction="positive",
    )


def _log_loss(y, p):
    return -p.clamp_min(PROBABILITY_FLOOR).log()


def _poisson_phi(y):
    return 2 * (torch.xlogy(y, y) - y)


def _gamma_phi(y):
    return -2 * y.log()


def _negative_entropy(p):
    return torch.xlogy(p, p).sum(-1)


#: The losses by name. Unit deviances keep their factor 2, as in scikit-learn and statsmodels.
LOSSES: dict[str, Loss] = {
    "squared": Loss("squared", _squared, torch.square),
    "cross_entropy": _CrossEntropy("cross_entropy", _log_loss, _negative_entropy, "class labels", "probabilities"),
    "poisson": Loss("poisson", _poisson, _poisson_phi, "non-negative", "positive"),
    "gamma": Loss("gamma", _gamma, _gamma_phi, "positive", "positive"),
    "tweedie": tweedie(1.5),
}


def resolve_loss(loss) -> Loss:
    """The :class:`Loss` that an estimator's ``loss`` argument names: a key of :data:`LOSSES`, a Loss, or a callable ``loss(y, a)``."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        if loss not in LOSSES:
            known = ", ".join(sorted(LOSSES))
            raise ValueError(f"loss = {loss!r} is unknown; choose one of {known}, or pass a Loss or a callable loss(y, a)")
        return LOSSES[loss]
    if callable(loss):
        return Loss(getattr(loss, "__name__", type(loss).__name__), loss)
    raise TypeError(f"loss must be a name, a Loss or a callable, not {type(loss).__name__}")
