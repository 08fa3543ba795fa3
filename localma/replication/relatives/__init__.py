"""LocalMA and its relatives on one stage: the same samples, the same frozen models, one table.

Worlds are those of the other chapters: Scenario 1 with its three settings and Scenario 2
(:mod:`localma.replication.simulation`), the digits of four companies (:mod:`localma.replication.digits`), the counts of
five insurers (:mod:`localma.replication.counts`). In each replication every method gets the same sample, and what it
tunes, it tunes inside that sample. Nothing was adjusted to the worlds: every method runs with its defaults, except that
no candidate's absurd predictions are clipped (``clip=False``).
"""

from localma.replication.relatives.experiment import Relatives, compare, run, tabulate
from localma.replication.relatives.methods import METHODS, Method, Stacker
from localma.replication.relatives.worlds import WORLDS, World

__all__ = ["EXPERIMENTS", "METHODS", "WORLDS", "Method", "Relatives", "Stacker", "World", "compare", "run", "tabulate"]

EXPERIMENTS = (Relatives,)
