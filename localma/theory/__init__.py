"""What the theorems speak about, computed, and what their conditions ask, measured.

:mod:`~localma.theory.risks`: the risks, the best that any weights can do, and the terms that a fitted average's risk falls into.
The chapters of ``book/theory`` derive what is computed here.
"""

from localma.theory.risks import Decomposition, decompose, distance_to_optimal_set, in_sample_risk, oracle_prediction, oracle_risk

__all__ = ["Decomposition", "decompose", "distance_to_optimal_set", "in_sample_risk", "oracle_prediction", "oracle_risk"]
