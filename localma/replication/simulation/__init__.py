"""Section 4 of the paper: Tables 1-3, and the weight-function figure.

The paper's regression functions and constants are lost in the text that we work from. What stands here is a calibrated
reconstruction: simple functions chosen to meet the printed EWMA and GW columns, with the LocalMA column left untouched.
It is the test. The book's chapter "What a table shows" (``book/core/simulations``) tells the story, "Tables 1, 2 and 3"
(``book/replication/tables``) has every number beside the printed one.
"""

from localma.replication.simulation.adaptive import Adaptive
from localma.replication.simulation.additions import Additions
from localma.replication.simulation.experiment import CONFIGURATION, Simulation, fit_cell, replicate, run
from localma.replication.simulation.rivals import Rivals
from localma.replication.simulation.scenarios import (
    CELLS,
    CONSTANT,
    THETA,
    Cell,
    candidate_models,
    draw,
    hull_clip,
    true_mean,
    true_weights,
)
from localma.replication.simulation.tuning import Tuning

__all__ = [
    "CELLS",
    "CONFIGURATION",
    "CONSTANT",
    "EXPERIMENTS",
    "THETA",
    "Cell",
    "Simulation",
    "candidate_models",
    "draw",
    "fit_cell",
    "hull_clip",
    "replicate",
    "run",
    "true_mean",
    "true_weights",
]

EXPERIMENTS = (Tuning, Simulation, Adaptive, Additions, Rivals)
