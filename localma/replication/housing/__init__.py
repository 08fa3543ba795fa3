"""Section 5.1 of the paper: log rents in Beijing and Shanghai, one pre-trained model per district.

A repetition splits a city's flats into D1, which trains the districts' models, and D2, of which half of the flats in two districts are
removed and the rest is halved into a sample to learn from and a test. ``rho`` is the share of D2: as it grows, weights and the direct model
get more data and the districts' models less. The ten covariates of the paper contain neither district nor coordinates, so the weight network
does not see where a flat is; in the table ``coordinates`` it sees nothing else.

``methods`` has cities, splits and what is done in one split; ``experiment`` the run and the predictions that it leaves; ``tuning`` the choice of settings.
"""

from localma.replication.housing.experiment import REPETITIONS, RHOS, Predictions, load_predictions, run, save_predictions
from localma.replication.housing.methods import (
    CLOSEST,
    CONFIGURATION,
    HALVED,
    LEAST,
    METHODS,
    WIDTH,
    City,
    Split,
    ask_more,
    evaluate,
    forests,
    networks,
    prepare,
    replicate,
    split,
    table4,
)
from localma.replication.housing.tuning import GRID, choose, tune, validate

__all__ = [
    "CLOSEST",
    "CONFIGURATION",
    "GRID",
    "HALVED",
    "LEAST",
    "METHODS",
    "REPETITIONS",
    "RHOS",
    "WIDTH",
    "City",
    "Predictions",
    "Split",
    "ask_more",
    "choose",
    "evaluate",
    "forests",
    "load_predictions",
    "networks",
    "prepare",
    "replicate",
    "run",
    "save_predictions",
    "split",
    "table4",
    "tune",
    "validate",
]
