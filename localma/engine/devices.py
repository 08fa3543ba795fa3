"""Where and how torch computes: whether a device can be used, in which precision, and how many threads a small problem
deserves.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from threading import Lock, RLock

import numpy as np
import torch

from localma.engine.rows import pieces

__all__ = ["alone", "check_device", "one_thread", "resolve_dtype"]


def check_device(name: str) -> None:
    """Raise ValueError if torch cannot use the device ``name`` here."""
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(f'device = {name!r} cannot be used here; choose "cpu": {error}') from None


def resolve_dtype(name: str, *arrays: np.ndarray) -> torch.dtype:
    """The floating type that an estimator's ``dtype`` names; "auto": float32, unless a column of the arrays (n, ...)
    would lose its digits in it.
    """
    if name not in ("auto", "float32", "float64"):
        raise ValueError(f'dtype must be "auto", "float32" or "float64", but is {name!r}')
    return torch.float64 if name == "float64" or (name == "auto" and any(map(_needs_digits, arrays))) else torch.float32


def _needs_digits(a: np.ndarray) -> bool:
    """Seconds since 1970, say: float32 keeps seven digits, and those of interest come after them. So with numbers whose
    squares it cannot hold.
    """
    if a.dtype.kind not in "fiu" or not a.size:
        return False
    mean = sum(a[rows].sum(0, dtype=float) for rows in pieces(len(a))) / len(a)
    spread = (sum(np.square(a[rows] - mean).sum(0) for rows in pieces(len(a))) / len(a)) ** 0.5
    far = np.abs(mean) > 1e4 * spread
    return bool((far & (spread > 0)).any() or ((spread > 0) & (spread < 1e-12)).any() or max(a.max(), -a.min()) > 1e12)


_inside, _threads, _lock, _shared = 0, 1, Lock(), RLock()


def _after_fork() -> None:
    """A forked process has none of its parent's threads: it would wait for them for ever, and for what they held."""
    global _inside, _lock, _shared
    _inside, _lock, _shared = 0, Lock(), RLock()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def alone():
    """One thread of the process at a time inside: for what threads share, torch's global random state and the mode of a
    user's module.
    """
    with _shared:
        yield


@contextmanager
def one_thread(when: bool = True):
    """One torch thread inside, if so asked: products of a few thousand numbers wait longer for a second thread than
    they take.

    Fits in threads of their own overlap here: whoever leaves restores what the first of them found.
    """
    global _inside, _threads
    if not when:
        yield
        return
    with _lock:
        _threads = _threads if _inside else torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(_threads)
