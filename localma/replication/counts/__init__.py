"""Doctor's visits: five insurers price their own customers, and their books are merged (the RAND health insurance experiment).

The table comes with statsmodels (``statsmodels.datasets.randhie``): 20,190 customer-years, the number of outpatient visits in each, and nine covariates
of contract and health. Each insurer knows one kind of customer: four sell one contract each and take only the healthy, a fifth takes everybody
else, whatever the contract. Healthy means: no physical limitation, health rated good or excellent. Generalized linear models and forests alternate. All of
them are frozen; weights are learned from n customer-years of the whole population, under the Poisson Kullback-Leibler loss.

The table names no persons, but the years of a person stand in consecutive rows and share what never changes. :func:`persons` finds these runs, and a
repetition deals whole runs to the insurers, to the sample and to the test, so that nobody stands on two sides.

``data`` has the table, the insurers and one repetition's cut; ``methods`` what is done with a sample, and the choice of penalties; ``experiment`` the runs
and what their tables say.
"""

from localma.replication.counts.data import (
    COVARIATES,
    FIXED,
    FOREST,
    INSURERS,
    PARTS,
    SIZES,
    Draw,
    clientele,
    fit_forest,
    fit_glm,
    generator,
    insurers,
    load,
    persons,
    repeat,
    sample,
)
from localma.replication.counts.experiment import (
    FOLD_METHODS,
    FOLD_SIZES,
    FULL,
    QUICK,
    compare_folds,
    findings,
    replicate,
    run,
    tabulate,
    tabulate_folds,
)
from localma.replication.counts.methods import (
    FACTORS,
    METHODS,
    PILOT,
    chosen,
    cross_validate_persons,
    deviance,
    direct_glm,
    direct_network,
    local_weights,
    predict,
    tune,
)

__all__ = [
    "COVARIATES",
    "FACTORS",
    "FIXED",
    "FOLD_METHODS",
    "FOLD_SIZES",
    "FOREST",
    "FULL",
    "INSURERS",
    "METHODS",
    "PARTS",
    "PILOT",
    "QUICK",
    "SIZES",
    "Draw",
    "chosen",
    "clientele",
    "compare_folds",
    "cross_validate_persons",
    "deviance",
    "direct_glm",
    "direct_network",
    "findings",
    "fit_forest",
    "fit_glm",
    "generator",
    "insurers",
    "load",
    "local_weights",
    "persons",
    "predict",
    "repeat",
    "replicate",
    "run",
    "sample",
    "tabulate",
    "tabulate_folds",
    "tune",
]
