"""Asking a model: of scikit-learn's kind, a torch module or a function, all rows at once or a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from localma.checks import check_same_rows, check_whole
from localma.engine.devices import alone
from localma.engine.networks import module_input

__all__ = ["answer", "batched", "in_place"]


def answer(model, X, proba: bool, name: str) -> Any:
    """What a model says of X, for ``proba`` of the probabilities of classes."""
    if isinstance(model, torch.nn.Module):
        array = np.asarray(X)  # in pieces of about one size, so that a large X needs no large activations
        pieces = np.array_split(array, -(-len(array) // (65536 if array.ndim == 2 else 1024)))
        with alone(), torch.no_grad():  # another thread may ask the same model
            modes = [(part, part.training) for part in model.modules()]
            model.eval()
            try:
                return torch.cat([model(module_input(model, piece)) for piece in pieces]).cpu().numpy()
            finally:
                for part, training in modes:  # a frozen model is handed back as it came, part by part
                    part.training = training
    if proba:
        if hasattr(model, "predict_proba"):
            return model.predict_proba(X)
        if hasattr(model, "predict"):
            raise TypeError(
                f"model {name!r} has predict but no predict_proba, which the cross_entropy loss needs; "
                "calibrate it or wrap it in a callable"
            )
        return model(X)
    return model.predict(X) if hasattr(model, "predict") else model(X)


def in_place(X, f):
    """Answers to X, refused where labels say that their order is another; the rows of an array count from zero."""
    labelled = isinstance(X, (pd.DataFrame, pd.Series))
    check_same_rows(X=X if labelled else pd.Series(range(_num_samples(X))), prediction=f)
    return f


def batched(ask: Callable[[Any], ArrayLike], batch_size: int) -> Callable[[Any], np.ndarray]:
    """A function of X that asks another one about a few rows at a time: a service with a limit, say.

    Torch modules need none of it: they are asked in pieces as they are.

    Parameters
    ----------
    ask : callable
        Of some rows of X, such as ``model.predict`` or ``model.predict_proba``; its answer has a row for each.
    batch_size : int
        Rows that it gets at most.

    Returns
    -------
    callable
        To be used as a model. It can be pickled if ``ask`` can.

    Raises
    ------
    TypeError
        If ``ask`` cannot be called.
    ValueError
        For a ``batch_size`` below one.

    Notes
    -----
    To ask nobody twice, in a search over settings or after a new start, keep the answers on disk: a function that
    ``joblib.Memory`` caches is a model, too, and ``batched(memory.cache(ask), 100)`` keeps them batch by batch.

    Examples
    --------
    >>> import numpy as np
    >>> from localma import EqualWeights, batched
    >>> def service(rows):
    ...     print(len(rows), "rows")
    ...     return rows[:, 0]
    >>> X = np.arange(5.0)[:, None]
    >>> average = EqualWeights([batched(service, 2)]).fit(X, X[:, 0])
    2 rows
    2 rows
    1 rows
    """
    if not callable(ask):
        raise TypeError(f"ask is a {type(ask).__name__}, which is no function; give its predict or predict_proba")
    check_whole("batch_size", batch_size, 1)
    return partial(_in_batches, ask, batch_size)


def _in_batches(ask, batch_size, X):
    n = _num_samples(X)
    rows = [np.arange(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
    return np.concatenate([np.asarray(in_place(part, ask(part))) for part in (_safe_indexing(X, i) for i in rows)])
