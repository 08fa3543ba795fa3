"""A sample that comes in batches, beyond memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

__all__ = ["on_disk"]

NAMES = ("X", "y", "F")


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
