"""The conditions of the theorems, held against a user's own problem: one call, one table.

No condition of an asymptotic theorem can be *verified* on a sample. Some can be refuted, some can be seen to be far
from trouble, and some cannot be seen at all; the table says which is which. The book's chapter ``book/core/risks``
draws the map of the conditions and reads the table row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from localma.averages import ModelAverage
from localma.theory import measures
from localma.theory.measures import DANGER, FEWEST, FINE, LEVELS
from localma.theory.sample import sample

__all__ = ["Audit", "audit"]

#: Name of a row: condition, what is measured, what to do. One line of text each, so that the table can be read here as
#: well.
# fmt: off
ROWS = {
    "separation": ("8: separation", "whether the loss leads to the mean",
        "a Bregman loss, if you want the mean; with this one averages go elsewhere, the median say"),
    "limits": ("1: models near their limits", "training sizes of the models",
        "give sizes=, each model's training size; where it is no more than yours, their own errors count like yours"),
    "extrapolation": ("1: models near their limits", "how far predictions lie beyond all responses",
        "clip the model or leave it out where it extrapolates; look at its inputs there"),
    "frozen": ("setting: models are frozen", "a model's loss: new minus training data",
        "a leak, unless drift explains it: fit the weights on data that no model has seen; ask the models' makers"),
    "tails": ("2: light tails", "Weibull index of the root losses' upper tenth, and of two fifths",
        "look at the largest losses; a loss that grows more slowly, or another scale for y; expect slower rates"),
    "steepness": ("3: Lipschitz loss", "how many observations push the weights; K of the loss",
        "look at the few observations with the steepest loss; lift predictions near 0, clip, or take a flatter loss"),
    "near zero": ("3: Lipschitz loss", "outcomes that the average all but excluded",
        "some outcomes were called impossible: calibrate the models, or add a model that excludes nothing"),
    "smoothness": ("4: smooth weights", "change of weights to the nearest observation, 95 % quantile",
        "a smaller network, a larger penalty, or fewer inputs for the weights"),
    "models in use": ("4: smooth weights", "effective number of models, weights above 0.999",
        "if one model is best everywhere, use it; if the best changes abruptly, no smooth weights follow"),
    "size": ("5: dimensions", "parameters of the network, observations",
        "more data, a smaller width, or global weights"),
    "reach": ("5: a floor under the risk", "mean beyond the models' hull, by cross-fitting",
        "if seen: a model on the other side; if not, the best risk may be zero: Theorem 3 speaks, not 1 and 2"),
    "gap": ("6: from the sample to new points", "loss on new minus loss on training data",
        "more data, a smaller network, a larger penalty"),
    "drift": ("6: from the sample to new points", "new and training data: each column of X, and a forest",
        "fit on data from where you will predict"),
    "shared rows": ("6: from the sample to new points", "new rows that are training rows",
        "take data that the fit has not seen: on its own data most rows look better than they are"),
    "order": ("6: from the sample to new points", "correlation of neighbouring errors, in its errors",
        "if the order is time or place, the observations are not independent: validate in blocks"),
    "pays": ("6: from the sample to new points", "gain at new points over global weights (or equal ones)",
        "take the simpler weights, or more data"),
    "identification": ("Theorem 3: weights", "error of constant weights, worst direction; optimal segments",
        "do not read the weights; drop or merge models that agree"),
}
# fmt: on


@dataclass(frozen=True, repr=False)
class Audit:
    """What :func:`audit` found.

    Attributes
    ----------
    table : DataFrame
        One row for each check, with the columns condition, measured, value, verdict, "what to do"; and of a test its
        ``p`` and its false-alarm probability, ``level`` (NaN for other rows). ``localma.plots.plot_audit`` draws it.
    """

    table: pd.DataFrame

    @property
    def alarms(self) -> list[str]:
        """Names of the rows whose verdict is "in danger"."""
        return self.table.index[self.table["verdict"] == DANGER].tolist()

    def __repr__(self) -> str:
        lines = [self.table[["condition", "value", "verdict"]].to_string()]
        return "\n".join(lines + [f"{name}: {self.table.loc[name, 'what to do']}" for name in self.alarms])

    def _repr_html_(self) -> str:
        # narrow enough for a phone: the verdict first, advice below and only where it is needed
        told = self.table["condition"].str.split(":").str[0] + ": " + self.table["measured"]
        todo = self.table.loc[self.table["verdict"] != FINE, "what to do"]
        advice = "".join(f"<li><b>{name}</b>: {what}</li>" for name, what in todo.items())
        marks = {FINE: "#2a7f62", DANGER: "#c1121f"}
        lights = "".join(
            f'<span title="{name}" style="color: {marks.get(verdict, "#999999")}">&#9679;</span> '
            for name, verdict in self.table["verdict"].items()
        )
        return (
            f"<div>{lights}</div>"
            + self.table[["verdict", "value"]].assign(measured=told).to_html()
            + (f"<ul>{advice}</ul>" if advice else "")
        )


def audit(
    average: ModelAverage,
    X: ArrayLike,
    y: ArrayLike,
    *,
    F: ArrayLike | None = None,
    train: tuple | None = None,
    sizes: Sequence[float] | None = None,
    groups: ArrayLike | None = None,
    random_state: int = 0,
) -> Audit:
    """Hold a fitted average and new data against the conditions of the theorems.

    The data must be *new*: neither the models nor the weights have seen them. Nothing in them tells whether that is so,
    and on the training data most rows look better than they are. What compares the two samples (gap, drift, frozen
    models) needs ``train``, and says "cannot tell" without it.

    "In danger" means that the data contradict what a theorem needs, or that the sample is too small for it; where this
    is a test, its false-alarm probability is in :data:`THRESHOLDS`, with the reasons of all limits. "Looks fine" means
    no more than that nothing was found.

    Parameters
    ----------
    average : LocalMA, GlobalMA or another fitted average of at least two models
    X, y : arrays of shapes (n, ...) and (n,)
        New data, n at least 20, in the order in which they were observed.
    F : array of shape (n, M) or (n, M, K), optional
        The models' predictions, as in ``average.fit``.
    train : (X, y), (X, y, F) or (X, y, F, groups), optional
        The data of the fit.
    sizes : sequence of M numbers, optional
        How many observations each model was trained on.
    groups : array of shape (n,), optional
        Which new rows belong together, as in ``average.fit``: tests and standard errors then count groups.
    random_state : int
        Seed of the bootstrap and of the forest that looks for responses beyond the models' hull.

    Returns
    -------
    Audit

    Raises
    ------
    TypeError, ValueError
        Naming the argument: no average, not fitted, wrong shapes, NaN, responses outside the loss's domain, data that
        are those of the fit.

    Examples
    --------
    Two models that are almost one cannot be told apart:

    >>> import numpy as np
    >>> from localma import GlobalMA
    >>> from localma.theory import audit
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 1))
    >>> y = X[:, 0] + rng.normal(size=400)
    >>> twins = GlobalMA([lambda X: X[:, 0], lambda X: X[:, 0] + 0.01]).fit(X[:200], y[:200])
    >>> audit(twins, X[200:], y[200:]).alarms
    ['identification']
    """
    if not isinstance(average, ModelAverage):
        raise TypeError(
            "average must be a fitted LocalMA, GlobalMA or another average of this package, not"
            f" {type(average).__name__}"
        )
    check_is_fitted(average)
    if average.n_models_ < 2:
        raise ValueError("average has one model, so no weights to audit; give at least two")
    loss, new, old = average._resolve_loss(), sample(average, X, y, F, groups), None
    if len(new.y) < FEWEST:
        raise ValueError(f"X has {len(new.y)} rows; an audit needs at least {FEWEST}")
    if train is not None:
        if not (isinstance(train, (tuple, list)) and len(train) in (2, 3, 4)):
            raise ValueError("train must be (X, y), (X, y, F) or (X, y, F, groups), the data of the fit")
        old = sample(average, *train, fitted=True)
        if new.X.shape == old.X.shape and np.array_equal(new.X, old.X):
            raise ValueError(
                "X and train are the same data; keep some aside: the training data cannot show what happens at new"
                " points"
            )
    if sizes is not None and (np.shape(sizes) != (average.n_models_,) or not (np.asarray(sizes) > 0).all()):
        raise ValueError(f"sizes must be {average.n_models_} positive numbers, one for each model, but is {sizes}")
    n = len(new.y if old is None else old.y)
    rows = [
        measures.separation(loss, new),
        *measures.models(average, loss, new, old, sizes, n),
        measures.tails(loss, new, random_state),
        *measures.steepness(loss, new),
        *measures.smoothness(average, new, random_state),
        measures.size(average, new, n, old is None),
        measures.reach(loss, new, random_state),
        *measures.new_points(average, loss, new, old),
        measures.identification(average, loss, new, n),
    ]
    cells = {
        name: (*ROWS[name][:2], value, verdict, ROWS[name][2], p[0] if p else np.nan, LEVELS.get(name, np.nan))
        for name, value, verdict, *p in rows
    }
    columns = ["condition", "measured", "value", "verdict", "what to do", "p", "level"]
    return Audit(pd.DataFrame.from_dict(cells, orient="index", columns=columns))
