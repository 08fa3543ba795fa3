r"""Condition 3, computed: how steep a loss is where predictions lie.

For a Bregman loss the derivative in the prediction is :math:`\partial_a L(y, a) = \varphi''(a) (a - y)`, and that of
the divergence :math:`l(\mu, a)` is the same with :math:`\mu` in the place of y. So one number bounds both. The book's
chapter ``book/theory/lipschitz`` derives it for each loss and shows where it is infinite.
"""

from __future__ import annotations

import numpy as np
import torch

from localma.losses import Loss, resolve_loss
from localma.losses.loss import DOMAINS

__all__ = ["lipschitz_constant"]

GRID = 2001, 201  # predictions and responses at which a loss of unknown form is looked at


def lipschitz_constant(loss: str | Loss, lower: float, upper: float, *, y: tuple[float, float] | None = None) -> float:
    r"""The smallest K with :math:`|L(y, a) - L(y, b)| \le K |a - b|` for all predictions a, b in an interval and all
    responses y in another.

    The same K serves :math:`l(\mu, a)` when :math:`\mu` ranges over the same interval as y.

    - Squared, Poisson, Gamma, Tweedie (power p = 0, 1, 2, p): in closed form, the largest :math:`2 |a - y| a^{-p}`. It
      sits at an end of the intervals, or for p > 1 at :math:`a = p y / (p - 1)` if that lies between them.
    - Cross-entropy: 1 / lower, where ``lower`` and ``upper`` bound each class probability. It is the constant in the
      *maximum norm* of probabilities. In the sum of absolute differences it is half of that, because probabilities sum
      to one: what one class loses, the others gain.
    - Any other loss: the largest absolute derivative, by autograd, on a grid of 2001 predictions and 201 responses.
      That is a lower bound, and close to the constant only if the loss's slope varies little between the grid's points.

    Parameters
    ----------
    loss : str, Loss or callable
    lower, upper : float
        The interval of predictions, inside the loss's domain. Where the domain is positive, ``lower`` must be, too: the
        constant explodes as it tends to zero.
    y : pair of float, optional
        The interval of responses; the predictions' by default. May be infinite where a closed form is known.
        Not for cross-entropy, whose responses are classes.

    Returns
    -------
    float
        In units of loss for one unit of prediction; infinite if there is no such K.

    Raises
    ------
    ValueError
        Naming the argument, if an interval is empty or leaves the loss's domain.

    Examples
    --------
    >>> from localma.theory import lipschitz_constant
    >>> lipschitz_constant("squared", -3, 3)  # 4 B for |y| and |a| up to B
    12.0
    >>> lipschitz_constant("cross_entropy", 0.25, 1)
    4.0
    >>> lipschitz_constant("gamma", 1, 10, y=(2, 2))  # at a = 1; the slope is at most 1/4 beyond a = 2
    2.0
    """
    loss = resolve_loss(loss)
    if not (np.isfinite([lower, upper]).all() and lower < upper):
        raise ValueError(f"lower and upper must be finite, lower < upper, but are {lower} and {upper}")
    if loss.is_classification:
        if y is not None:
            raise ValueError(f"y is not for the {loss.name} loss, whose responses are classes; leave it out")
        if not 0 < lower < upper <= 1:
            raise ValueError(
                f"lower and upper must be probabilities with lower > 0 for the {loss.name} loss, but are {lower} and"
                f" {upper}; the loss is infinitely steep at zero, so give the models' probability floor"
            )
        return 1 / float(lower)
    low, high = (lower, upper) if y is None else y
    if not low <= high:
        raise ValueError(f"y must be an interval (low, high) with low <= high, but is {y}")
    ends = [("lower", lower, loss.prediction), ("upper", upper, loss.prediction)]
    for name, end, domain in [*ends, ("y", low, loss.response), ("y", high, loss.response)]:
        if (inside := DOMAINS[domain]) and not inside(np.asarray(end)):
            steep = "; the loss is infinitely steep at zero, so give the smallest value that occurs"
            advice = steep if domain == "positive" else ""
            raise ValueError(f"{name} must be {domain} for the {loss.name} loss, but is {end}{advice}")
    power = loss.power  # of a deviance, whose curvature phi''(a) is 2 a^(-p)
    if power is None:
        return _on_a_grid(loss, lower, upper, low, high)
    largest = 0.0
    for response in (low, high):  # |a - y| is convex in y, so its largest value is at an end
        at = np.array([lower, upper])
        if power > 1 and lower < (top := power * response / (power - 1)) < upper:
            at = np.append(at, top)
        largest = max(largest, float((2 * np.abs(at - response) * at ** -float(power)).max()))
    return largest


def _on_a_grid(loss: Loss, lower: float, upper: float, low: float, high: float) -> float:
    if not np.isfinite([low, high]).all():
        raise ValueError(
            f"y must be finite for the {loss.name} loss, whose constant is found on a grid, but is {(low, high)}"
        )
    a, y = torch.meshgrid(
        torch.linspace(lower, upper, GRID[0], dtype=torch.float64),
        torch.linspace(low, high, GRID[1], dtype=torch.float64),
        indexing="ij",
    )
    first, _ = loss.derivatives(y.reshape(-1), a.reshape(-1))
    return float(first.abs().max())
