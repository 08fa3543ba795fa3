"""The engine: many samples at once, as tensors with a leading axis for the sample; user input is checked above it.

Constant weights (:func:`global_weights`), weight networks (:func:`fit_stack`), networks with a chosen shrinkage (:func:`fit_shrunk_stack`) and directly
trained ones (:func:`fit_direct_stack`), all of them for stacks of samples; the estimators of ``localma.averages`` call it with one sample.
"""

from localma.engine.devices import check_device, one_thread
from localma.engine.direct import DirectStack, fit_direct_stack
from localma.engine.local import StackFit, fit_stack
from localma.engine.loop import History, train
from localma.engine.networks import WeightNetwork, mlp
from localma.engine.options import Options
from localma.engine.shrinkage import ShrunkStack, fit_shrunk_stack, training
from localma.engine.simplex import first_smallest, global_weights, simplex_lp, simplex_qp
from localma.engine.validation import MULTIPLES, CrossValidation, cross_validate, grid

__all__ = [
    "MULTIPLES",
    "CrossValidation",
    "DirectStack",
    "History",
    "Options",
    "ShrunkStack",
    "StackFit",
    "WeightNetwork",
    "check_device",
    "cross_validate",
    "first_smallest",
    "fit_direct_stack",
    "fit_shrunk_stack",
    "fit_stack",
    "global_weights",
    "grid",
    "mlp",
    "one_thread",
    "simplex_lp",
    "simplex_qp",
    "train",
    "training",
]
