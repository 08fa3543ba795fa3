"""What takes minutes and depends on nothing but its input, kept in the user cache."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from joblib import Memory, hash

from localma.datasets.find import cache_folder


def cached(name: str, compute: Callable[[], Any], *key) -> Any:
    """What ``compute()`` gives, from the user cache if it was asked for with this key before.

    Parameters
    ----------
    name : str
        A folder of the cache.
    compute : callable
        Without arguments. If it is interrupted, nothing is kept.
    *key
        All that decides the result: arrays, texts, numbers. Only a digest of them is kept.

    Examples
    --------
    >>> from localma.replication.lab.cache import cached
    >>> cached("examples", lambda: 6 * 7, "six times", 7)
    42
    """
    # asked for first: without a cache it warns before the work, not after
    return keep(keeper(cache_folder() / name), hash(key), compute)


def keeper(folder: Path) -> Any:
    """A function of a key and of what computes its value, which keeps values in the folder: :class:`joblib.Memory`."""
    # compressed, so that a bit that fell over is noticed
    return Memory(folder, compress=1, verbose=0).cache(_call, ignore=["compute"], verbose=0)


def keep(keeper: Any, key: Any, compute: Callable[[], Any]) -> Any:
    """``keeper(key, compute)``, without joblib's word on a disk that is slow at the moment."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Persisting input arguments took")
        return keeper(key, compute)


def _call(key: Any, compute: Callable[[], Any]) -> Any:
    return compute()
