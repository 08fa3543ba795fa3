"""The theory part's measurements: every condition and theorem, one module of :mod:`localma.replication.theory.walks`
each.
"""

from localma.replication.theory.experiment import Theory

__all__ = ["EXPERIMENTS", "Theory"]

EXPERIMENTS = (Theory,)
