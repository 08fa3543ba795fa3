"""The engine: many samples at once, as tensors with a leading axis for the sample; user input is checked above it.

Constant weights (:func:`global_weights`), weight networks (:func:`fit_stack`), localized averages from the choice of
their shrinkage to their bootstrap (:func:`fit_local_stack`) and directly trained ones (:func:`fit_direct_stack`), all
of them for stacks of samples; the estimators of ``localma.averages`` call it with one sample.
"""

from localma.engine.devices import check_device, one_thread
from localma.engine.direct import DirectStack, fit_direct_stack
from localma.engine.local import StackFit, fit_stack
from localma.engine.loop import History, train
from localma.engine.networks import Mlp, WeightNetwork, mlp
from localma.engine.shrinkage import LocalStack, fit_local_stack
from localma.engine.simplex import first_smallest, global_weights, simplex_lp, simplex_qp
from localma.engine.training import Settings, Training, automatic_penalty
from localma.engine.validation import MULTIPLES, CrossValidation, cross_validate, grid

__all__ = [
    "MULTIPLES",
    "CrossValidation",
    "DirectStack",
    "History",
    "LocalStack",
    "Mlp",
    "Settings",
    "StackFit",
    "Training",
    "WeightNetwork",
    "automatic_penalty",
    "check_device",
    "cross_validate",
    "first_smallest",
    "fit_direct_stack",
    "fit_local_stack",
    "fit_stack",
    "global_weights",
    "grid",
    "mlp",
    "one_thread",
    "simplex_lp",
    "simplex_qp",
    "train",
]
