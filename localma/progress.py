"""A progress bar for what takes long: a widget in a notebook that can show one, else a line of text on stderr."""

from __future__ import annotations

import logging
import sys
import warnings

from tqdm import TqdmWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # a notebook without ipywidgets gets the line of text
    from tqdm.auto import tqdm

__all__ = ["progress_bar", "tqdm"]


def progress_bar(name: str, shown: bool, **more) -> tqdm:
    """A bar that appears after five seconds and leaves nothing behind; TQDM_DISABLE=1 in the environment hides it, as
    every setting of tqdm's can be given there, and so does a logger "localma" above the level WARNING.
    """
    shown = shown and logging.getLogger("localma").isEnabledFor(logging.WARNING)
    # an argument would overrule the environment; a program with windows may have no stderr
    settings = more if shown and sys.stderr is not None else more | {"disable": True}
    return tqdm(desc=name, unit="step", delay=5, leave=False, **settings)
