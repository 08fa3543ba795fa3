"""Models that are asked a few rows at a time, and samples that come so."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing, gen_batches
from sklearn.utils.validation import _num_samples

from localma.averages.candidates import in_place
from localma.checks import check_whole

__all__ = ["batched", "on_disk"]

NAMES = ("X", "y", "F")


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
    parts = (_safe_indexing(X, rows) for rows in gen_batches(_num_samples(X), batch_size))
    return np.concatenate([np.asarray(in_place(part, ask(part))) for part in parts])


def on_disk(batches: Iterable[Sequence[Any]]) -> dict[str, np.ndarray]:
    """A sample that comes in batches, such as those of a torch DataLoader, as arrays on disk that a fit walks through.

    Parameters
    ----------
    batches : iterable of (X, y, F)
        Arrays or tensors of numbers, as ``fit`` takes them, of some rows at a time; they are asked for once, in order.

    Returns
    -------
    dict
        "X", "y" and "F" as memory-mapped arrays, of the types of the first batch: for ``fit(**on_disk(batches))``. They
        lie in the folder for temporary files (``TMPDIR``), and are gone with the arrays.

    Raises
    ------
    ValueError
        For a batch that has not the rows, columns or kind of numbers that it should have, or for none.

    Examples
    --------
    >>> import numpy as np
    >>> from localma import GlobalMA, on_disk
    >>> def batches():
    ...     rng = np.random.default_rng(0)
    ...     for _ in range(10):
    ...         F = rng.standard_normal((100, 2))
    ...         yield F, F @ [0.75, 0.25], F
    >>> GlobalMA().fit(**on_disk(batches())).weights_.round(2)
    array([0.75, 0.25])
    """
    with ExitStack() as stack:  # what is mapped stays when the files are closed
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in NAMES]
        first: list[np.ndarray] = []
        n = 0
        for number, batch in enumerate(batches):
            parts = [np.asarray(part) for part in batch]
            first = first or parts
            _check(number, parts, first)
            for part, file, like in zip(parts, files, first, strict=True):
                file.write(np.ascontiguousarray(part, like.dtype).data)
            n += len(parts[0])
        if not n:
            raise ValueError("batches gives no rows; is it an iterator that was read before?")
        for file in files:
            file.flush()
        return {
            name: np.memmap(file, like.dtype, "r", shape=(n, *like.shape[1:]))
            for name, file, like in zip(NAMES, files, first, strict=True)
        }


def _check(number, parts, first) -> None:
    if len(parts) != len(NAMES):
        raise ValueError(f"batch {number} has {len(parts)} parts, but must be X, y and F")
    for name, part, like in zip(NAMES, parts, first, strict=True):
        if part.dtype.kind not in "biuf" or part.ndim == 0:
            raise ValueError(f"{name} of batch {number} must be an array of numbers, but is of type {part.dtype}")
        shape = (len(parts[0]), *like.shape[1:])
        if part.shape != shape:
            raise ValueError(f"{name} of batch {number} has shape {part.shape}, but must have {shape}")
        if not np.can_cast(part.dtype, like.dtype, "same_kind"):
            raise ValueError(f"{name} of batch {number} is of type {part.dtype}, but of {like.dtype} in the first")
