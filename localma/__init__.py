"""Localized model averaging: combine frozen pre-trained models with weights that depend on the input.

The estimators share scikit-learn's contract; see :class:`LocalMA` for the method and :data:`LOSSES` for what it can
minimise.

References
----------
Gao, He & Yang (2026), *Combining pre-trained models via localized model averaging*, arXiv:2605.13421.
"""

from localma.averages import BestModel, DirectModel, EqualWeights, GlobalMA, LocalMA, batched, cross_fit, load, on_disk
from localma.engine import Mlp, Training, WeightNetwork, mlp
from localma.losses import LOSSES, Loss, pinball, tweedie

__version__ = "1.0.0"

__all__ = [
    "LOSSES",
    "BestModel",
    "DirectModel",
    "EqualWeights",
    "GlobalMA",
    "LocalMA",
    "Loss",
    "Mlp",
    "Training",
    "WeightNetwork",
    "batched",
    "cross_fit",
    "load",
    "mlp",
    "on_disk",
    "pinball",
    "tweedie",
]
