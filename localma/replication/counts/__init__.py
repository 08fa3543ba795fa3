"""Doctor's visits: five insurers price their own customers, and their books are merged (the RAND health insurance
experiment).

The table comes with statsmodels (``statsmodels.datasets.randhie``): 20,190 customer-years, the number of outpatient
visits in each, and nine covariates of contract and health. Each insurer knows one kind of customer: four sell one
contract each and take only the healthy, a fifth takes everybody else, whatever the contract. Healthy means: no physical
limitation, health rated good or excellent. Generalized linear models and forests alternate. All of them are frozen;
weights are learned from n customer-years of the whole population, under the Poisson Kullback-Leibler loss.

The table names no persons, but the years of a person stand in consecutive rows and share what never changes.
:func:`persons` finds these runs, and a repetition deals whole runs to the insurers, to the sample and to the test, so
that nobody stands on two sides.
"""

from localma.replication.counts.companies import (
    COVARIATES,
    INSURERS,
    clientele,
    fit_forest,
    fit_glm,
    generator,
    load,
    persons,
    repeat,
    sample,
)
from localma.replication.counts.experiment import FOLD_METHODS, Counts, run
from localma.replication.counts.findings import verdicts
from localma.replication.counts.methods import METHODS, deviance, local_weights, predict
from localma.replication.counts.rivals import BOOSTING, REGRESSIONS, CountsRivals, prices

__all__ = [
    "BOOSTING",
    "COVARIATES",
    "EXPERIMENTS",
    "FOLD_METHODS",
    "INSURERS",
    "METHODS",
    "REGRESSIONS",
    "Counts",
    "CountsRivals",
    "clientele",
    "deviance",
    "fit_forest",
    "fit_glm",
    "generator",
    "load",
    "local_weights",
    "persons",
    "predict",
    "prices",
    "repeat",
    "run",
    "sample",
    "verdicts",
]

EXPERIMENTS = (Counts, CountsRivals)
