"""What a loss is: its value, its domains, its divergence, and what training and solvers ask of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

__all__ = ["DOMAINS", "Loss", "LossLike"]

#: Where y and predictions may lie; "class labels" and "probabilities" are checked by cross-entropy itself.
DOMAINS = {
    "real": lambda v: np.ones(v.shape, bool),
    "non-negative": lambda v: v >= 0,
    "positive": lambda v: v > 0,
    "between 0 and 1": lambda v: (v >= 0) & (v <= 1),
    "class labels": None,
    "probabilities": None,
}


def _check_domain(what, values, domain, loss, where, advice):
    bad = np.flatnonzero(~DOMAINS[domain](values))
    if len(bad):
        raise ValueError(
            f"{what} must be {domain} for the {loss} loss, but {where.format(bad[0])} = {values[bad[0]]:g}. {advice}"
        )


class _OfLogits(torch.autograd.Function):
    """:meth:`Loss.of_logits` with the derivative that the loss itself knows."""

    @staticmethod
    def forward(ctx, logits: Tensor, G: Tensor, y: Tensor, loss: Loss) -> Tensor:
        value, gradient = loss.with_gradient(logits, G, y)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        return ctx.saved_tensors[0] * grad.unsqueeze(-2), None, None, None


def _tensors(*arrays):
    """Tensors of the arguments, and whether the caller gave (and therefore gets back) something else."""
    if any(isinstance(a, Tensor) for a in arrays):
        return [torch.as_tensor(a) for a in arrays], False
    return [torch.tensor(np.asarray(a, dtype=float)) for a in arrays], True


@dataclass(frozen=True)
class Loss:
    r"""A loss for predictions of a mean, or of something else.

    The book's chapter "Losses" (``book/core/losses``) says where each one comes from and which aim at the mean.
    What a solver needs to know of a loss it asks these fields, never the loss's name.

    Parameters
    ----------
    name : str
        How errors and tables call it.
    value : callable
        ``value(y, a)``, the loss of each observation: torch tensors of one shape in, a tensor of that shape out. It
        must be differentiable in ``a``.
    phi : callable, optional
        The convex generator of a Bregman loss, :math:`L(y, a) = \varphi(y) - \varphi(a) - \varphi'(a)(y - a)` up to
        terms in y alone. Without it :meth:`divergence` is not available and the theory of the paper does not apply.
    response, prediction : str
        Domains of ``y`` and of ``a``, checked before any training: "real", "non-negative", "positive" or "between 0 and
        1".
    convex, quadratic : bool, optional
        Whether the loss is convex in ``a``, and whether it is a parabola that opens upwards there. None: found where it
        is needed, from the derivatives at the candidates' predictions, and checked.
    slopes : pair of float, optional
        What a unit costs that ``a`` falls short of ``y``, and one that it exceeds ``y`` by, if the loss is made of
        these two straight pieces: constant weights are then those of a linear programme.
    power : float, optional
        p, if the loss is the unit deviance of the variance function :math:`\mu^p`: 0 Gaussian, 1 Poisson, 2 gamma.
    log_likelihood : float, optional
        k, if minus k times the loss is a log-likelihood up to terms in ``y`` alone. None: it is none, or a dispersion
        is needed.

    Examples
    --------
    >>> from localma import LOSSES
    >>> LOSSES["squared"]([1.0, 2.0], [0.0, 2.0])
    array([1., 0.])
    >>> LOSSES["poisson"].check_response([1, -1])
    Traceback (most recent call last):
    ...
    ValueError: y must be non-negative for the poisson loss, but y[1] = -1. Drop or correct them, or change the loss.
    """

    name: str
    value: Callable[[Tensor, Tensor], Tensor]
    phi: Callable[[Tensor], Tensor] | None = None
    response: str = "real"
    prediction: str = "real"
    convex: bool | None = None
    quadratic: bool | None = None
    slopes: tuple[float, float] | None = None
    power: float | None = None
    log_likelihood: float | None = None
    #: Whether y holds class labels and predictions are probabilities.
    is_classification: ClassVar[bool] = False

    def __post_init__(self):
        for field in ("response", "prediction"):
            if getattr(self, field) not in DOMAINS:
                raise ValueError(
                    f"{field} = {getattr(self, field)!r} is no domain; choose one of {', '.join(map(repr, DOMAINS))}"
                )
        if self.slopes is not None and not (
            len(self.slopes) == 2 and all(0 <= s < np.inf for s in self.slopes) and any(self.slopes)
        ):
            raise ValueError(f"slopes must be two non-negative numbers, not both zero, but are {self.slopes}")

    def __call__(self, y, a):
        """Loss of each observation, for ``y`` and ``a`` of one shape, such as (n,); arrays in, array out, tensors in,
        tensor out.
        """
        (y, a), to_numpy = _tensors(y, a)
        expected = (*y.shape, *a.shape[-1:]) if self.is_classification else tuple(y.shape)
        if a.shape != expected:
            raise ValueError(
                f"y has shape {tuple(y.shape)}, but the predictions have {tuple(a.shape)}; expected {expected}"
            )
        out = self.value(y, self._of_what_happened(y, a))
        return out.numpy() if to_numpy else out

    def _of_what_happened(self, y: Tensor, a: Tensor) -> Tensor:
        """The part of predictions that ``value`` compares with ``y``."""
        return a

    def divergence(self, mu, a):
        r"""The divergence :math:`l(\mu, a) \ge 0` of the separation property: excess risk of predicting ``a`` where the
        mean is ``mu``.

        Parameters
        ----------
        mu, a : array or tensor of shape (n,), or (n, K) for cross-entropy
            One of them may have leading dimensions that the other has not, such as many predictions for one mean.
        """
        if self.phi is None:
            raise ValueError(
                f"the loss {self.name!r} has no generator phi, so no divergence: it need not separate; give Loss(...,"
                " phi=...)"
            )
        (mu, a), to_numpy = _tensors(mu, a)
        k = min(mu.ndim, a.ndim)
        if mu.shape[mu.ndim - k :] != a.shape[a.ndim - k :]:
            raise ValueError(
                f"mu has shape {tuple(mu.shape)}, but a has {tuple(a.shape)}; they may differ by leading dimensions"
                " alone"
            )
        value = self._divergence(mu, a)
        # where rounding took it below zero: zero, with the gradient that the value has
        out = torch.where(value < 0, value - value.detach(), value)
        return out.numpy() if to_numpy else out

    def _divergence(self, mu, a):
        with torch.enable_grad():
            at = a.detach().requires_grad_() if not a.requires_grad else a
            slope = torch.autograd.grad(self.phi(at).sum(), at, create_graph=a.requires_grad)[0]
        return self.phi(mu) - self.phi(a) - slope * (mu - a)

    # --- what training needs ------------------------------------------------------------

    def candidates(self, y: Tensor, F: Tensor) -> Tensor:
        """All that the loss of an average needs to know of the candidates: (..., n), (..., M, n) -> (..., M, n)."""
        return F

    def of_logits(self, logits: Tensor, G: Tensor, y: Tensor) -> Tensor:
        """Loss of each observation for weights ``softmax(logits)``: (..., M, n), (..., M, n), (..., n) -> (..., n);
        differentiable in the logits.
        """
        return _OfLogits.apply(logits, G, y, self)

    def with_gradient(self, logits: Tensor, G: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and its derivative in the logits, (..., M, n)."""
        w = torch.softmax(logits, -2)
        g = w * G
        a = g.sum(-2)
        # d a / d logit_m = w_m (f_m - a): a model gains weight where it errs on the right side of the average.
        torch.sub(G, a.unsqueeze(-2), out=g)
        return self.value(y, a), g.mul_(w).mul_(self.slope(y, a).unsqueeze(-2))

    def of_weights(self, w: Tensor, G: Tensor, y: Tensor) -> Tensor:
        """The same for weights on the simplex, where some may be exactly zero."""
        return self.value(y, (w * G).sum(-2))

    def linear(self, G: Tensor) -> Tensor:
        """Candidates on the scale on which an average is linear in its weights."""
        return G

    def _known_slope(self, y: Tensor, a: Tensor) -> Tensor | None:
        """The slope by a formula, where a field says enough for one."""
        if self.power is not None:
            return 2 * (a - y) * a**-self.power if self.power else 2 * (a - y)
        if self.slopes is not None:
            under, over = self.slopes
            return (over - under + (over + under) * (a - y).sign()) / 2
        return None

    def slope(self, y: Tensor, a: Tensor) -> Tensor:
        """Derivative of the loss in the (linear-scale) average ``a``, (..., n)."""
        known = self._known_slope(y, a)
        if known is not None:
            return known
        with torch.enable_grad():
            a = a.detach().requires_grad_()
            return torch.autograd.grad(self.value(y, a).sum(), a)[0]

    def derivatives(self, y: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivative of the loss in ``a``, both of shape (..., n)."""
        known, p = self._known_slope(y, a), self.power
        if known is not None:
            curvature = 2 * (a + p * (y - a)) * a ** -(p + 1) if p else torch.full_like(a, 2 if p == 0 else 0)
            return known, curvature
        with torch.enable_grad():
            a = a.detach().requires_grad_()
            first = torch.autograd.grad(self.value(y, a).sum(), a, create_graph=True)[0]
            if not first.requires_grad:  # a loss that is linear in a
                return first.detach(), torch.zeros_like(a)
            second = torch.autograd.grad(first.sum(), a, materialize_grads=True)[0]
        return first.detach(), second

    def scale(self, G: Tensor, y: Tensor, share: Tensor | None = None) -> Tensor:
        """How much the loss can move when weights move: half curvature times variance between models, at equal weights;
        (...,).

        Training divides by it, so that steps and penalty mean the same in euros and in cents. For squared loss it is
        the ambiguity of the ensemble (Krogh & Vedelsby 1995). Labels count by ``share`` (..., n), of mean one: those of
        a fold that is held out have none.
        """
        F = self.linear(G)
        a = F.mean(-2)
        curvature, spread = self.derivatives(y, a)[1].abs(), F.var(-2, correction=0)
        level = self.value(y, a).abs()
        if share is None:
            scale = 0.5 * (curvature * spread).mean(-1)
        else:  # the mean curvature of what counts; what models say of the observed class is a label, too
            counted, level = share * spread, share * level
            everywhere = (counted if self.is_classification else spread).mean(-1)
            # the ratio is exactly two for squared loss
            scale = 0.5 * everywhere * ((curvature * counted).sum(-1) / counted.sum(-1))
        level = level.mean(-1)
        fallback = torch.where(level > 0, level, torch.ones_like(level))
        return torch.where((scale > 0) & scale.isfinite(), scale, fallback)

    # --- domains ------------------------------------------------------------

    def check_response(self, y) -> None:
        """Raise ValueError if some ``y`` lies outside the loss's domain."""
        advice = "Drop or correct them, or change the loss."
        _check_domain("y", np.asarray(y), self.response, self.name, "y[{}]", advice)

    def check_value(self, y, a) -> None:
        """Raise ValueError unless the loss gives, with torch, one number for each of the observations ``y``, ``a`` of
        shape (n,).
        """
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
                f"loss {self.name!r} must return a tensor of shape (n,), one number for each observation, not their"
                f" mean; it gave {given}"
            )

    def check_predictions(self, F, names=None) -> None:
        """Raise ValueError if a candidate prediction ``F[i, m]`` lies outside the loss's domain."""
        advice = "Clip or transform the output, or change the loss."
        for m in range(F.shape[1]):
            what, where = (
                (f"the prediction of model {names[m]!r}", "its value in row {}") if names else ("F", f"F[{{}}, {m}]")
            )
            _check_domain(what, np.asarray(F[:, m]), self.prediction, self.name, where, advice)


#: What an estimator's ``loss`` may be: a name, a Loss, or a function of torch tensors ``loss(y, a)``.
LossLike: TypeAlias = str | Loss | Callable[[Tensor, Tensor], Tensor]
