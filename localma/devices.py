"""Where torch computes: whether a device can be used, and how many threads a small problem deserves."""

from __future__ import annotations

from contextlib import contextmanager

import torch

__all__ = ["check_device", "one_thread"]


def check_device(name: str) -> None:
    """Raise ValueError if torch cannot use the device ``name`` here."""
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(f'device = {name!r} cannot be used here; choose "cpu": {error}') from None


@contextmanager
def one_thread(when: bool = True):
    """One torch thread inside, if so asked: products of a few thousand numbers wait longer for a second thread than they take."""
    threads = torch.get_num_threads()
    if when:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
