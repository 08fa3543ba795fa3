"""The theory part's measurements: every condition and theorem, one module of :mod:`localma.replication.theory.walks`
each; and how often the audit raises an alarm without a reason.
"""

from localma.replication.theory.levels import Levels
from localma.replication.theory.walks import Theory

__all__ = ["EXPERIMENTS", "Levels", "Theory"]

EXPERIMENTS = (Theory, Levels)
