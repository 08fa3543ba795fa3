"""What whoever knows scikit-learn tries first: a linear model and boosting, on the candidates' predictions, on the
covariates, or on both. Settings are chosen by cross-validation within the sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

_TREES = {"max_leaf_nodes": [2, 4, 8], "max_iter": [5, 15, 50, 150]}
_BOOSTED = {"learning_rate": 0.2, "early_stopping": False}
_SCORING = {
    "squared": "neg_mean_squared_error",
    "poisson": "neg_mean_poisson_deviance",
    "cross_entropy": "neg_log_loss",
}
#: A learner and the settings among which a sample chooses, by kind and loss.
LEARNERS: dict[tuple[str, str], tuple[Any, dict]] = {
    ("linear", "squared"): (Ridge(), {"alpha": [0.1, 1.0, 10.0, 100.0, 1000.0]}),
    ("linear", "poisson"): (
        PoissonRegressor(solver="newton-cholesky", max_iter=1000),
        {"alpha": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]},
    ),
    ("linear", "cross_entropy"): (LogisticRegression(max_iter=1000), {"C": [1e-5, 1e-4, 0.001, 0.01, 0.1, 1.0, 10.0]}),
    ("boosting", "squared"): (HistGradientBoostingRegressor(**_BOOSTED), _TREES),
    ("boosting", "poisson"): (HistGradientBoostingRegressor(loss="poisson", **_BOOSTED), _TREES),
    ("boosting", "cross_entropy"): (HistGradientBoostingClassifier(**_BOOSTED), _TREES),
}


def fit_rival(kind: str, loss: str, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> GridSearchCV:
    """A learner of ``LEARNERS`` on columns of variance one, its settings chosen by five-fold cross-validation.

    Parameters
    ----------
    kind : {"linear", "boosting"}
    loss : {"squared", "poisson", "cross_entropy"}
        The linear models have its link: give them predictions on that scale.
    X : array of shape (n, d)
    y : array of shape (n,)
    groups : array of shape (n,), optional
        Rows that are held out together.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication.lab.rivals import fit_rival
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> fit_rival("linear", "squared", X, 3 * X[:, 0]).predict([[1.0, 0.0]]).round(1)
    array([3.])
    """
    learner, settings = LEARNERS[kind, loss]
    folds = StratifiedKFold if loss == "cross_entropy" else KFold  # no class is absent from a fold
    return GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("learn", learner)]),
        {f"learn__{name}": values for name, values in settings.items()},
        scoring=_SCORING[loss],
        cv=folds(5, shuffle=True, random_state=0) if groups is None else GroupKFold(5),
    ).fit(X, y, groups=groups)
