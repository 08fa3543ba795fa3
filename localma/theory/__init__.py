"""What the theorems speak about, computed, and what their conditions ask, measured.

:mod:`~localma.theory.risks`: the risks, the best that any weights can do, and the terms that a fitted average's risk
falls into. :mod:`~localma.theory.tails`: how fast the tail of a sample falls, and its Orlicz norm (Condition 2).
:mod:`~localma.theory.lipschitz`: how steep a loss is where predictions lie (Condition 3).
:mod:`~localma.theory.hoelder`: how smooth a weight function is (Condition 4). :mod:`~localma.theory.identification`:
how far apart optimal weights can be, and the distance to them (Theorem 3). :mod:`~localma.theory.audit`: all of this
held against a problem of your own, in one table. The chapters of ``book/theory`` derive what is computed here.
"""

from localma.theory.audit import Audit, audit
from localma.theory.hoelder import HoelderTerms, hoelder_norm, hoelder_terms
from localma.theory.identification import (
    distance_bound,
    distance_to_optimal_set,
    invisible_direction,
    optimal_segment,
    weight_set,
)
from localma.theory.lipschitz import lipschitz_constant
from localma.theory.measures import LEVELS, THRESHOLDS
from localma.theory.risks import Decomposition, decompose, in_sample_risk, oracle_prediction, oracle_risk
from localma.theory.tails import TailEstimate, orlicz_norm, tail_index, weibull_plot

__all__ = [
    "LEVELS",
    "THRESHOLDS",
    "Audit",
    "Decomposition",
    "HoelderTerms",
    "TailEstimate",
    "audit",
    "decompose",
    "distance_bound",
    "distance_to_optimal_set",
    "hoelder_norm",
    "hoelder_terms",
    "in_sample_risk",
    "invisible_direction",
    "lipschitz_constant",
    "optimal_segment",
    "oracle_prediction",
    "oracle_risk",
    "orlicz_norm",
    "tail_index",
    "weibull_plot",
    "weight_set",
]
