"""Values as JSON and arrays, and back, so that a file can hold what a fit has learned and never code."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from torch import nn

from localma.engine import Mlp, Training, WeightNetwork
from localma.engine.networks import Constant, Mixture, Standardize, mlp_from_parameters
from localma.losses import LOSSES, Loss, named

__all__ = ["digest", "name_of", "pack", "record", "unpack"]

#: What can be saved beside numbers, strings, arrays, lists and dictionaries, by name: the class, and the ways to and
#: back.
RECORDS: dict[str, tuple[type, Callable, Callable]] = {}


def record(cls, to=None, back=None):
    """Let values of exactly this class be saved.

    ``to`` gives what makes up a value: numbers, strings, arrays, other records, and lists, tuples and dictionaries of
    these; ``back`` makes the value again. A dataclass or named tuple, whose fields say all, needs neither: ``@record``
    stands above its definition.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from localma.averages.packing import pack, record, unpack
    >>> _ = record(Fraction, str, Fraction)
    >>> unpack(pack({"share": (Fraction(1, 3), float("inf"))}, arrays := {}, "x"), arrays)
    {'share': (Fraction(1, 3), inf)}
    """
    fields = getattr(cls, "_fields", None) or getattr(cls, "__dataclass_fields__", ())
    to = to or (lambda value: {name: getattr(value, name) for name in fields})
    RECORDS[cls.__name__] = cls, to, back or (lambda values: cls(**values))
    return cls


def pack(value, arrays: dict[str, np.ndarray], name: str):
    """A value as JSON can hold it; its arrays go to ``arrays``, under names that start with ``name``.

    What JSON has no word for becomes a dictionary with one entry, from its kind to what it is made of; TypeError for
    what is neither number, string, array, list, tuple, dictionary nor :func:`record`.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if type(value) is list:
        return [pack(part, arrays, f"{name}.{i}") for i, part in enumerate(value)]
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: pack(part, arrays, f"{name}.{key}") for key, part in value.items()}}
    if isinstance(value, np.ndarray) and value.dtype.hasobject:  # as labels of pandas are
        typed = np.array(value.tolist())
        if typed.tolist() == value.tolist():
            return {"objects": pack(typed, arrays, name)}
    elif isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return {"words": [value.dtype.str, value.tolist()]}
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays[name] = np.require(value, value.dtype.newbyteorder("="), "C")  # safetensors writes memory as it lies
        return {"array": name}
    for kind, (cls, to, _) in RECORDS.items():
        if type(value) is cls:
            return {kind: pack(to(value), arrays, name)}
    if isinstance(value, nn.Module):
        state = {key: part.detach().cpu().numpy() for key, part in value.state_dict().items()}
        return {"mlp" if _is_default(value) else "module": pack(state, arrays, name)}
    raise TypeError(f"{name} holds a {type(value).__name__}, which cannot be written without code")


def unpack(packed, arrays: dict[str, np.ndarray], module: Callable | None = None):
    """What :func:`pack` packed; ``module`` makes a torch module of a user's own from its state, arrays by name."""
    if isinstance(packed, list):
        return [unpack(part, arrays, module) for part in packed]
    if not isinstance(packed, dict):
        return packed
    ((kind, of),) = packed.items()
    if kind == "array":
        return arrays[of]
    if kind == "objects":
        return unpack(of, arrays, module).astype(object)
    if kind == "words":
        return np.array(of[1], of[0])
    if kind == "dict":
        return {key: unpack(part, arrays, module) for key, part in of.items()}
    back = {"module": module, "mlp": _mlp}.get(kind) or RECORDS[kind][2]
    return back(unpack(of, arrays, module))


def digest(header: dict, arrays: dict[str, np.ndarray]) -> str:
    """A number that tells whether anything in a file was changed."""
    found = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def name_of(loss: Loss) -> tuple[str, bool]:
    """A loss's name, and whether :func:`named` finds it again: a user's own may share its name with one of LOSSES."""
    for key, known in LOSSES.items():
        if known == loss:  # equal, not the same: clones copy it
            return key, True
    again = None
    with suppress(ValueError):  # a name that only looks like one of a family
        again = named(loss.name) if loss.name not in LOSSES else None
    return loss.name, again is not None and bool((again([1.0, 2.0], [2.0, 1.5]) == loss([1.0, 2.0], [2.0, 1.5])).all())


def _is_default(body) -> bool:
    """Whether a body is the package's own, a ReLU network on standardised inputs, and no module of a user's."""
    kinds = [type(layer) for layer in body] if isinstance(body, nn.Sequential) else []
    return kinds == [Standardize, nn.Linear, *[nn.ReLU, nn.Linear] * (len(kinds) // 2 - 1)]


def _mlp(state):
    values = {name: torch.as_tensor(array) for name, array in state.items()}
    layers = [(values[f"{k}.weight"], values[f"{k}.bias"]) for k in range(1, len(values) - 1, 2)]
    mlp = mlp_from_parameters(layers, layers[0][0].dtype)
    return nn.Sequential(Standardize(values["0.mean"], values["0.scale"]), *mlp).eval()


record(float, repr, float)  # infinity has no place in JSON
record(tuple, list, tuple)
record(torch.Tensor, lambda tensor: tensor.numpy(), torch.as_tensor)
record(Mlp)
record(Training)
record(WeightNetwork, lambda network: network.body, lambda body: WeightNetwork(body, zero_output=False).eval())
record(Mixture, lambda body: list(body.bodies), lambda bodies: Mixture(bodies).eval())
record(Constant, lambda body: body.logits.cpu().numpy(), lambda logits: Constant(torch.as_tensor(logits)).eval())
