"""Section 5.1 of the paper: log rents in Beijing and Shanghai, one pre-trained model per district.

A repetition splits a city's flats into D1, which trains the districts' models, and D2, of which half of the flats in
two districts are removed and the rest is halved into a sample to learn from and a test. ``rho`` is the share of D2: as
it grows, weights and the direct model get more data and the districts' models less. The ten covariates of the paper
contain neither district nor coordinates, so the weight network does not see where a flat is; in the table
``coordinates`` it sees nothing else.
"""

from localma.replication.housing.companies import prepare, split, table4
from localma.replication.housing.experiment import RHOS, Rents, run
from localma.replication.housing.findings import verdicts
from localma.replication.housing.methods import METHODS, ask_more
from localma.replication.housing.predictions import load_predictions
from localma.replication.housing.rivals import RentsRivals
from localma.replication.housing.tuning import GRID, RentsTuning, choose

__all__ = [
    "EXPERIMENTS",
    "GRID",
    "METHODS",
    "RHOS",
    "Rents",
    "RentsRivals",
    "RentsTuning",
    "ask_more",
    "choose",
    "load_predictions",
    "prepare",
    "run",
    "split",
    "table4",
    "verdicts",
]

EXPERIMENTS = (Rents, RentsRivals, RentsTuning)
