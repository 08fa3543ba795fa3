"""What was fitted, read from one file: arrays and a JSON header in the safetensors format, never pickled code."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from sklearn.utils.validation import check_is_fitted
from torch import nn

from localma.averages.base import ModelAverage
from localma.averages.candidates import name_models
from localma.averages.estimator import FORMAT, KINDS
from localma.averages.packing import digest, unpack
from localma.engine import WeightNetwork
from localma.engine.devices import alone
from localma.losses import LOSSES, named
from localma.losses.loss import LossLike

__all__ = ["load"]


def load(
    path: str | PathLike,
    models: Sequence[Any] | None = None,
    *,
    network: nn.Module | Callable[[int], nn.Module] | None = None,
    loss: LossLike | None = None,
    features: Any = None,
    direct: Any = None,
) -> Any:
    """Read a fitted average, or direct model, that ``save`` wrote.

    Parameters
    ----------
    path : str or Path
    models : list, optional
        The candidate models, in the order of the fit (they are not in the file). None: predictions are given as ``F``.
    network : torch.nn.Module or callable, optional
        The body, if the fit used one of its own: a module of the same architecture (a copy is filled), or a function
        that makes it from M. Likewise for the module of a :class:`localma.DirectModel`.
    loss : Loss or callable, optional
        Needed only if the fit used a loss that is not in :data:`localma.LOSSES`.
    features : fitted transformer or callable, optional
        Needed only if the fit used one: its ``average.features_``. Names of columns, and what was learned of a data
        frame, are in the file.
    direct : fitted learner, optional
        Needed only if the fit used one: its ``average.direct_``, or ``learner_`` of a :class:`localma.DirectModel`.

    Returns
    -------
    The average, ready to predict. One trained on a GPU that is not here comes back on the CPU. Settings that only code
    can describe, such as a numpy RandomState, have their defaults.

    Raises
    ------
    ValueError
        If the file is not one of ours, was changed or written by a version that is too old or too new, or does not fit
        ``models``, ``network``, or the class of that name that is defined here.

    Examples
    --------
    >>> import tempfile, os, localma
    >>> models = [lambda X: X[:, 0], lambda X: -X[:, 0]]
    >>> average = localma.GlobalMA(models).fit([[1.0], [2.0]], [1.0, 2.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     average.save(os.path.join(folder, "average.safetensors"))
    ...     localma.load(os.path.join(folder, "average.safetensors"), models).predict([[3.0]])
    array([3.])
    """
    header, arrays = _read(path)
    with _entry(path, "the header"):
        kind, learned = _kind(header, path), dict(header["learned"])
        params = {name: unpack(packed, arrays) for name, packed in header["params"].items()}
        averages = issubclass(kind, ModelAverage)
        names, M = (learned["model_names_"], learned["n_models_"]) if averages else (["learner"], 1)
        if not (type(M) is int and M == len(names) == len({*names}) > 0 and all(type(name) is str for name in names)):
            raise ValueError(f"there are {M} models with the names {names}")
        if "loss" in header:
            params["loss"] = _loss(header["loss"], loss, path)
        if params.get("device", "cpu") != "cpu" and not torch.cuda.is_available():
            params["device"] = "cpu"
    own = {"network": network, "features": features}
    if not averages:
        own = {"learner": direct if network is None else network}
    params |= {name: given for name, given in own.items() if given is not None}
    if models is not None:
        params["models"] = list(models)
        _check_names(params["models"], names[:-1] if "direct_" in learned else names, path)
    try:
        average = kind(**params)
    except TypeError as error:
        raise ValueError(f"{path} was saved by another {kind.__name__} than the one defined here: {error}") from error
    bodies: list[nn.Module] = []  # of the user's own

    def body(state):
        bodies.append(_body(state, network, M, path))
        return bodies[-1]

    for name, packed in learned.items():
        if packed == {"code": name}:
            value = _fitted(name, path, *(("features", features) if name == "features_" else ("direct", direct)))
        else:
            with _entry(path, name):
                value = unpack(packed, arrays, body)
                _check_entry(name, value, M)
                value = value.to(params.get("device", "cpu")) if isinstance(value, nn.Module) else value
        setattr(average, name, value)
    with _entry(path, "what was learned"):
        if average._resolve_loss().is_classification and not hasattr(average, "classes_"):
            raise ValueError("there are no classes")
        if averages and not bodies:  # these may read images, or tokens
            _check_weights(average)
    return average


@contextmanager
def _entry(path, name):
    """Whatever a changed file makes go wrong is one error, which names the file and the entry."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(f"{path} is damaged at {name}: {type(error).__name__}: {error}") from error


def _check_entry(name, value, M) -> None:
    """Raise ValueError for what no fit learns."""
    if not name.endswith("_") or name.startswith("_"):
        raise ValueError("a fit learns no such thing")
    if name == "classes_" and (value.ndim != 1 or len(value) < 1 or len(np.unique(value)) != len(value)):
        raise ValueError("labels must be distinct")
    if name == "classes_" and (np.sort(value) != value).any():
        raise ValueError("labels must be sorted")
    weights = name in ("weights_", "global_weights_") and value is not None
    if weights and not (value.shape == (M,) and np.isfinite(value).all()):
        raise ValueError(f"weights must be {M} finite numbers")
    if name == "range_" and value is not None and not (value.shape == (2, M) and (value[0] <= value[1]).all()):
        raise ValueError(f"limits must be two rows of {M} numbers, the larger ones below")
    if name == "features_" and not (value is None or hasattr(value, "transform")):
        raise ValueError("this makes no numbers of X")
    if isinstance(value, nn.Module) and any(part.isnan().any() for part in value.state_dict().values()):
        raise ValueError("a network holds numbers only")


def _check_weights(average) -> None:
    """Raise ValueError unless the weights at some places are what the class promises."""
    columns = getattr(average, "n_features_in_", 0)
    if not (type(columns) is int and 0 <= columns < 10**7):
        raise ValueError(f"there are {columns!r} columns")
    rows = min(50, 1 + 10**6 // (1 + columns))
    w = average._weights(np.random.default_rng(0).normal(0, 10, (rows, columns)))
    if w.shape != (rows, average.n_models_) or w.dtype != float or not np.isfinite(w).all():
        raise ValueError("weights are no finite numbers, one for each model")
    if average.simplex and not (w.min() >= 0 and np.allclose(w.sum(1), 1)):
        raise ValueError("weights are not on the simplex")


def _read(path) -> tuple[dict, dict]:
    """Header and arrays of a file that nobody has changed since it was written."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["localma"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        found, written = header["format"], header["localma"]
        whole = header.pop("digest", None) == digest(header, arrays)
        way = "upgrade localma" if found > FORMAT else "fit and save the average again"
    except OSError:
        raise
    except Exception as error:
        with open(path, "rb") as file:
            zipped = file.read(2) == b"PK"
        old = "an earlier localma wrote zip files: fit and save again"
        way = old if zipped else "write one with average.save(path)"
        raise ValueError(f"{path} is no saved average, or is damaged ({error}); {way}") from error
    if found != FORMAT:
        formats = f"in format {found}; this version reads format {FORMAT}"
        raise ValueError(f"{path} was written by localma {written} {formats}: {way}")
    if not whole:
        raise ValueError(f"{path} is damaged: its arrays or its header were changed; save the average again")
    return header, arrays


def _kind(header, path):
    """The class that a file names; where its module has moved, the last one of that name."""
    module, name = header["module"], header["estimator"]
    if module.startswith("localma."):  # not every part of the package comes with ``import localma``
        with suppress(ImportError):
            importlib.import_module(module)
    kinds = [kind for (_, known), kind in KINDS.items() if known == name]
    if not kinds:
        raise ValueError(
            f"{path} was saved by {name} of {module}, which is not defined here; import or define it first"
        )
    return KINDS.get((module, name), kinds[-1])


def _check_names(models, names, path) -> None:
    """Raise ValueError unless ``models`` can be those of the fit; a model without a name is taken by its place."""
    if len(models) != len(names):
        known = f"{len(names)}: {', '.join(names)}"
        raise ValueError(f"models has {len(models)} entries, but {path} was fitted with {known}")
    given, unnamed = name_models(models)[0], [f"f{m + 1}" for m in range(len(models))]
    if sorted(given) == sorted(names) and given != names:
        raise ValueError(f"models are in another order than in the fit of {path}: give {', '.join(names)}")
    for m, name in enumerate(given):
        if isinstance(models[m], tuple) and name != names[m] and names != unnamed:
            way = f"give {', '.join(names)}"
            raise ValueError(f"models[{m}] is {name!r}, but {path} was fitted with {names[m]!r} in its place; {way}")


def _loss(packed, given, path):
    name, known = packed
    if given is not None:
        return given
    again = named(name) if known else None
    if again is None:
        raise ValueError(f"{path} was fitted with the loss {name!r}, which is not in LOSSES; give it as loss=")
    return name if name in LOSSES else again


def _fitted(name, path, argument, given):
    """What was learned that only code can describe."""
    if given is None:
        way = f"give the fitted one, average.{name}, as {argument}="
        raise ValueError(f"{path} was fitted with {name.removesuffix('_')} that are code; {way}")
    if hasattr(given, "transform") or hasattr(given, "fit"):
        check_is_fitted(given)
    return given


def _body(state, given, M, path):
    """A module of a user's own with the values of a file."""
    if given is None:
        way = "give a module of the same architecture as network="
        raise ValueError(f"{path} was fitted with a network of its own; {way}")
    with alone(), torch.random.fork_rng(devices=[]):  # a function that makes a module draws its first values
        body = copy.deepcopy(given) if isinstance(given, nn.Module) else given(M)
    body = body.body if isinstance(body, WeightNetwork) else body
    state = {name: torch.as_tensor(array) for name, array in state.items()}
    try:
        body.to(next(a.dtype for a in state.values() if a.is_floating_point())).load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"network does not have the shapes that {path} was fitted with: {error}") from error
    return body.eval()
