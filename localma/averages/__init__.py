"""Averages of one sample behind scikit-learn's interface: local, global and equal weights, the best single model, and a
directly trained one.
"""

from localma.averages.base import ModelAverage
from localma.averages.batches import batched, on_disk
from localma.averages.constant import BestModel, EqualWeights, GlobalMA
from localma.averages.crossfit import cross_fit
from localma.averages.direct import DirectModel
from localma.averages.explanation import Explanation
from localma.averages.fitinfo import FitInfo
from localma.averages.local import LocalMA
from localma.averages.storage import load

__all__ = [
    "BestModel",
    "DirectModel",
    "EqualWeights",
    "Explanation",
    "FitInfo",
    "GlobalMA",
    "LocalMA",
    "ModelAverage",
    "batched",
    "cross_fit",
    "load",
    "on_disk",
]
