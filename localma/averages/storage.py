"""Fitted averages read from one file: arrays and a JSON header in a zip (numpy's npz), never pickled code."""

from __future__ import annotations

import copy
import json
import zipfile

import numpy as np
import torch
from torch import nn

from localma.averages.base import FORMAT, KINDS
from localma.engine import WeightNetwork
from localma.engine.networks import Constant, Mixture, Standardize, mlp_from_parameters
from localma.losses import LOSSES, named

__all__ = ["load"]


def load(path, models=None, *, network=None, loss=None):
    """Read a fitted average that ``save`` wrote.

    Parameters
    ----------
    path : str or Path
    models : list, optional
        The candidate models, in the order of the fit (they are not in the file). None: predictions are given as ``F``.
    network : torch.nn.Module or callable, optional
        The body, if the fit used one of its own: a module of the same architecture (a copy is filled), or a function that makes it from M.
    loss : Loss or callable, optional
        Needed only if the fit used a loss that is not in :data:`localma.LOSSES`.

    Returns
    -------
    The average, ready to predict. What only a fit knows (``fit_info_``) is not in the file. One trained on a GPU that is not here
    comes back on the CPU.

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
    header, arrays = _read(path)
    if models is not None:
        models = list(models)
        names = [m[0] for m in models if isinstance(m, tuple)]
        if len(models) != header["n_models"]:
            raise ValueError(
                f"models has {len(models)} entries, but {path} was fitted with {header['n_models']}: {', '.join(header['model_names'])}"
            )
        if names != header["model_names"] and sorted(names) == sorted(header["model_names"]):
            raise ValueError(f"models are in another order than in the fit of {path}: give {', '.join(header['model_names'])}")
    params = dict(header["params"])
    if params.get("device", "cpu") != "cpu" and not torch.cuda.is_available():
        params["device"] = "cpu"
    average = KINDS[header["estimator"]](models, loss=_loss(header, loss, path), **params)
    average.n_models_, average.model_names_ = header["n_models"], header["model_names"]
    average.n_features_in_ = header["n_features_in"]
    if "feature_names_in" in header:
        average.feature_names_in_ = np.array(header["feature_names_in"], dtype=object)
    if "best" in header:
        average.best_ = header["best"]
    for name in {"classes", "weights", "losses"} & arrays.keys():
        setattr(average, f"{name}_", arrays[name])
    average._unpack(header, arrays, network, path)
    return average


def pack_networks(average, header, arrays) -> None:
    """Add a fitted LocalMA's networks to header and arrays."""
    network = getattr(average, "network_", None)
    if network is not None:
        header["body"], header["networks"] = "mlp" if average.network is None else "custom", {}
        for part in ("network", "bootstrap"):
            body = network.body if part == "network" else average.bootstrap_
            if body is not None:
                header["networks"][part] = len(body.bodies) if isinstance(body, Mixture) else 0  # 0: no mixture
                arrays |= {f"{part}.{name}": value.cpu().numpy() for name, value in body.state_dict().items()}
        if average.shrinkage_ is not None:
            arrays["shrinkage"] = np.array(average.shrinkage_)  # infinity has no place in JSON
        arrays |= {f"cv.{name}": values for name, values in (average.cv_results_ or {}).items()}


def unpack_networks(average, header, arrays, network, path) -> None:
    """Give a LocalMA the networks that :func:`pack_networks` packed."""
    average.network = network
    body = _body("network", header, arrays, network, average, path)
    average.network_ = None if body is None else WeightNetwork(body, zero_output=False).eval()
    average.bootstrap_ = _body("bootstrap", header, arrays, network, average, path)
    average.shrinkage_ = float(arrays["shrinkage"]) if "shrinkage" in arrays else None
    average.cv_results_ = {name.removeprefix("cv."): a for name, a in arrays.items() if name.startswith("cv.")} or None


def _read(path) -> tuple[dict, dict]:
    """Header and arrays of a file, after the checks that need nothing else."""
    try:
        # numpy leaves a broken file open if it opens it itself
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
        later, shapes = header["format"] > FORMAT, header["shapes"]
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no saved average, or is damaged ({error}); write one with average.save(path)") from error
    if later:
        raise ValueError(
            f"{path} was written by localma {header.get('localma')} in format {header['format']}; "
            f"this version reads formats up to {FORMAT}: upgrade localma"
        )
    M = header.get("n_models")
    if (
        shapes != {name: list(a.shape) for name, a in arrays.items()}
        or header.get("estimator") not in KINDS
        or len(header.get("model_names", ())) != M
        or arrays.get("weights", np.empty(M)).shape != (M,)
        or ("weights" not in arrays and header["estimator"] != "LocalMA")
        or ("body" not in header and M != 1 and header["estimator"] == "LocalMA")
    ):
        raise ValueError(f"{path} is damaged: its arrays do not fit its header; save the average again")
    return header, arrays


def _loss(header, given, path):
    name = header["loss"]
    if given is not None:
        return given
    if header["loss_is_key"]:
        if name in LOSSES:
            return name
    else:
        # a user's function may share its name with one of LOSSES, so that alone does not tell what it is
        found = named(name) if name not in LOSSES else None
        if found is not None:
            return found
    raise ValueError(f"{path} was fitted with the loss {name!r}, which is not in LOSSES; give it as loss=")


def _body(part, header, arrays, given, average, path):
    """The body of the arrays that start with ``part``, None if there are none."""
    state = {name.removeprefix(f"{part}."): torch.as_tensor(a) for name, a in arrays.items() if name.startswith(f"{part}.")}
    if not state:
        return None
    if "networks" in header:
        members = header["networks"][part]
    else:  # a file of before; a body with ``bodies`` of its own could not be told from a mixture
        members = 1 + max((int(name.split(".")[1]) for name in state if name.startswith("bodies.")), default=-1)
    if not members:
        return _single(state, header, given, average, path)
    own = [{name.removeprefix(f"bodies.{k}."): a for name, a in state.items() if name.startswith(f"bodies.{k}.")} for k in range(members)]
    return Mixture([_single(values, header, given, average, path) for values in own]).eval()


def _single(state, header, given, average, path):
    if set(state) == {"logits"}:
        body = Constant(state["logits"].clone())
    elif header["body"] == "custom":
        if given is None:
            raise ValueError(f"{path} was fitted with a network of its own; give a module of the same architecture as network=")
        body = copy.deepcopy(given) if isinstance(given, nn.Module) else given(header["n_models"])
        body = body.body if isinstance(body, WeightNetwork) else body
    else:
        layers = [(state[f"{k}.weight"], state[f"{k}.bias"]) for k in range(1, len(state), 2) if f"{k}.weight" in state]
        body = nn.Sequential(Standardize(state["0.mean"], state["0.scale"]), *mlp_from_parameters(layers))
    body = body.to(average.device, next(a.dtype for a in state.values() if a.is_floating_point()))
    try:
        body.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"network does not have the shapes that {path} was fitted with: {error}") from error
    return body.eval()
