r"""Losses :math:`L(y, a)` that model averaging can minimise, and what each of them estimates.

A loss that satisfies the separation property (equation (8) of the paper),

.. math:: E[L(y, a) \mid x] = l(\mu(x), a) + c(x),

is minimised by the conditional mean :math:`\mu(x)`; exactly the Bregman losses do (Savage 1971; Banerjee, Guo & Wang
2005). The entries of :data:`localma.LOSSES` that have a generator ``phi`` are of this kind; the absolute loss and the
pinball loss, which ask for the median and for other quantiles, have none. :data:`localma.LOSSES` is the extension
point: put a :class:`localma.Loss` of your own into it, or pass any callable ``loss(y, a)`` of torch tensors to an
estimator.

Shapes
------
Observations come first in public functions: ``y`` is ``(n,)``, candidate predictions ``F`` are ``(n, M)``, or
``(n, M, K)`` for K classes. The training stack keeps them last, ``(..., M, n)``, because its matrix products are faster
that way; the two methods that it calls, :meth:`localma.Loss.candidates` and :meth:`localma.Loss.with_gradient`, say so.
"""

from localma.losses.families import LOSSES, PROBABILITY_FLOOR, named, pinball, resolve_loss, tweedie
from localma.losses.loss import Loss

__all__ = ["LOSSES", "PROBABILITY_FLOOR", "Loss", "named", "pinball", "resolve_loss", "tweedie"]
