"""Relatives of LocalMA: other ways to combine frozen models, small and exact, behind the same interface.

Here is what scikit-learn, scipy and statsmodels do not have. What they have is not wrapped: scikit-learn's
``StackingRegressor`` with ``cv="prefit"`` fits any learner on the models' predictions (and, with ``passthrough=True``,
on the covariates), and soft voting is :class:`localma.EqualWeights`. The book's chapter "Relatives"
(``book/replication/relatives``) puts all of them on one stage.

The constant ones know one set of weights: :class:`BatesGranger`, :class:`InformationWeights`, :class:`AdaptiveMixing`,
:class:`NonNegativeStacking`, :class:`GreedySelection`. The local ones let weights depend on x:
:class:`MixtureOfExperts`, :class:`HierarchicalStacking`, :class:`FeatureStacking`, :class:`RightProbability`,
:class:`LocalSelection`, :class:`QuantileAverage`; :class:`LogarithmicPool` multiplies probabilities where the others
add them.
"""

from localma.relatives.constant import (
    AdaptiveMixing,
    BatesGranger,
    GreedySelection,
    InformationWeights,
    NonNegativeStacking,
)
from localma.relatives.gates import HierarchicalStacking, MixtureOfExperts
from localma.relatives.local import FeatureStacking, RightProbability
from localma.relatives.pool import LogarithmicPool
from localma.relatives.quantile import QuantileAverage
from localma.relatives.selection import LocalSelection

__all__ = [
    "AdaptiveMixing",
    "BatesGranger",
    "FeatureStacking",
    "GreedySelection",
    "HierarchicalStacking",
    "InformationWeights",
    "LocalSelection",
    "LogarithmicPool",
    "MixtureOfExperts",
    "NonNegativeStacking",
    "QuantileAverage",
    "RightProbability",
]
