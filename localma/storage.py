"""Fitted averages in one file: arrays and a JSON header in a zip (numpy's npz), never pickled code."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from localma.losses import LOSSES, tweedie

__all__ = ["load", "save"]

FORMAT = 1


def save(average, path) -> None:
    """Write a fitted average; see :meth:`localma.estimators.ModelAverage.save`."""
    from sklearn.utils.validation import check_is_fitted

    import localma

    check_is_fitted(average, "n_models_")
    loss = average._resolve_loss()
    params = {k: v for k, v in average.get_params(deep=False).items() if k not in ("models", "loss", "network") and _plain(v)}
    header = {
        "format": FORMAT,
        "localma": localma.__version__,
        "estimator": type(average).__name__,
        "loss": loss.name,
        "params": params,
        "n_models": average.n_models_,
        "model_names": average.model_names_,
        "n_features_in": average.n_features_in_,
    }
    arrays = {}
    if hasattr(average, "feature_names_in_"):
        header["feature_names_in"] = average.feature_names_in_.tolist()
    if hasattr(average, "classes_"):
        arrays["classes"] = average.classes_ if average.classes_.dtype != object else average.classes_.astype(str)
    if hasattr(average, "weights_"):
        arrays["weights"] = average.weights_
    network = getattr(average, "network_", None)
    if network is not None:
        header["body"] = "mlp" if average.network is None else "custom"
        arrays |= {f"network.{name}": value.cpu().numpy() for name, value in network.body.state_dict().items()}
    header["shapes"] = {name: list(a.shape) for name, a in arrays.items()}
    path = Path(path)
    # written beside its place and then renamed: an interrupted save leaves the old file or none, never half of one
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path, models=None, *, network=None, loss=None):
    """Read a fitted average that ``save`` wrote.

    Parameters
    ----------
    path : str or Path
    models : list, optional
        The candidate models, in the order of the fit (they are not in the file). None: predictions are given as ``F``.
    network : torch.nn.Module or callable, optional
        The body, if the fit used one of its own: a module of the same architecture, or a function that makes it from M.
    loss : Loss or callable, optional
        Needed only if the fit used a loss that is not in :data:`localma.LOSSES`.

    Raises
    ------
    ValueError
        If the file is not one of ours, was written by a later version, or does not fit ``models`` or ``network``.

    Examples
    --------
    >>> import tempfile, os, localma
    >>> models = [lambda X: X[:, 0], lambda X: -X[:, 0]]
    >>> average = localma.GlobalMA(models).fit([[1.0], [2.0]], [1.0, 2.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     average.save(os.path.join(folder, "average.npz"))
    ...     localma.load(os.path.join(folder, "average.npz"), models).predict([[3.0]])
    array([3.])
    """
    import localma

    with np.load(path, allow_pickle=False) as file:
        if "header" not in file:
            raise ValueError(f"{path} is no saved average: it has no header; write one with average.save(path)")
        header = json.loads(str(file["header"]))
        arrays = {name: file[name] for name in file.files if name != "header"}
    if header["format"] > FORMAT:
        raise ValueError(
            f"{path} was written by localma {header['localma']} in format {header['format']}; this version reads {FORMAT}: upgrade localma"
        )
    shapes = {name: list(a.shape) for name, a in arrays.items()}
    if shapes != header["shapes"]:
        raise ValueError(f"{path} is damaged: its arrays do not have the shapes of its header; save the average again")
    if models is not None and len(models) != header["n_models"]:
        raise ValueError(
            f"models has {len(models)} entries, but {path} was fitted with {header['n_models']}: {', '.join(header['model_names'])}"
        )
    estimator = getattr(localma, header["estimator"])
    average = estimator(models, loss=_loss(header["loss"], loss, path), **header["params"])
    average.n_models_, average.model_names_ = header["n_models"], header["model_names"]
    average.n_features_in_ = header["n_features_in"]
    if "feature_names_in" in header:
        average.feature_names_in_ = np.array(header["feature_names_in"], dtype=object)
    if "classes" in arrays:
        average.classes_ = arrays["classes"]
    if "weights" in arrays:
        average.weights_ = arrays["weights"]
    if header["estimator"] == "LocalMA":
        average.network = network
        average.network_ = _network(header, arrays, network, average, path) if "body" in header else None
    return average


def _plain(value) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _loss(name, given, path):
    if given is not None:
        return given
    if name in LOSSES:
        return name
    power = re.fullmatch(r"tweedie\((.+)\)", name)
    if power:
        return tweedie(float(power[1]))
    raise ValueError(f"{path} was fitted with the loss {name!r}, which is not in LOSSES; give it as loss=")


def _network(header, arrays, given, average, path):
    from localma.network import Standardize, WeightNetwork, mlp

    state = {name.removeprefix("network."): torch.as_tensor(a) for name, a in arrays.items() if name.startswith("network.")}
    if header["body"] == "custom":
        if given is None:
            raise ValueError(f"{path} was fitted with a network of its own; give a module of the same architecture as network=")
        body = given if isinstance(given, nn.Module) else given(header["n_models"])
    else:
        d = len(state["0.mean"])
        hidden = mlp(d, header["n_models"], width=average.width, depth=average.depth)
        body = nn.Sequential(Standardize(torch.zeros(d), torch.ones(d)), *hidden)
    body = body.to(average.device, getattr(torch, average.dtype))
    try:
        body.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"network does not have the shapes that {path} was fitted with: {error}") from error
    return WeightNetwork(body, zero_output=False).eval()
