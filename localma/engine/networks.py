r"""The weight network of equation (3): any torch module that maps x to M logits, with a softmax on top."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from localma.checks import check_whole, plain
from localma.engine.training import Settings

__all__ = ["Mlp", "WeightNetwork", "mlp"]


@dataclass(frozen=True, repr=False)
class Mlp(Settings):
    """The weight network of the paper: a ReLU network on standardised inputs.

    Parameters
    ----------
    width, depth : int
        Units of a hidden layer and how many of these there are, H and D of the paper's network class; ``depth=0`` is
        the linear gate.

    Examples
    --------
    >>> from localma import LocalMA, Mlp
    >>> LocalMA(network=Mlp(32, depth=2))
    LocalMA(network=Mlp(width=32, depth=2))
    """

    width: int = 16
    depth: int = 1

    def sizes(self, in_features: int, out_features: int) -> list[tuple[int, int]]:
        """(inputs, outputs) of each affine layer."""
        check_whole("width", self.width, 1)
        check_whole("depth", self.depth, 0)
        return list(pairwise([in_features, *[self.width] * self.depth, out_features]))


def module_input(module: nn.Module, X) -> Tensor:
    """X as a module reads it: on its device, in its floating type; whole numbers stay whole for one that embeds them
    (tokens). In memory of its own, since a module may begin in place.
    """
    x = X if isinstance(X, Tensor) else torch.tensor(plain(X))
    parameter = next((p for p in module.parameters() if p.is_floating_point()), None)
    if x.is_floating_point() or not any(isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for m in module.modules()):
        dtype = torch.get_default_dtype() if not x.is_floating_point() else x.dtype
        read = x.to(dtype) if parameter is None else x.to(parameter.device, parameter.dtype)
    else:
        read = x.long() if parameter is None else x.long().to(parameter.device)
    return read.clone() if read is X else read


def check_output(name: str, module: nn.Module, x: Tensor, outputs: int, what: str) -> None:
    """Raise ValueError unless ``module`` maps the first row of ``x`` to ``outputs`` numbers."""
    try:
        with torch.no_grad():
            shape = tuple(module.eval()(x[:1].clone()).shape)  # it may begin in place
    except Exception as error:
        raise ValueError(f"{name} failed on one row of X, of shape {tuple(x[:1].shape)}: {error}") from error
    if shape != (1, outputs):
        raise ValueError(f"{name} maps one row of X to shape {shape}, but must give (1, {outputs}): {what}")


def initial_values(sizes: list[tuple[int, int]], generator: torch.Generator) -> Tensor:
    """All parameters of one network as one vector, uniform on +-1/sqrt(inputs) (as torch's Linear); the output layer is
    zero.

    One flat draw, so that a network in a stack and the same network alone start from the same numbers.
    """
    parts = [torch.full(((i + 1) * o,), 1 / math.sqrt(max(i, 1))) for i, o in sizes]
    parts[-1].zero_()
    bound = torch.cat(parts).double()
    return (2 * torch.rand(len(bound), generator=generator, dtype=torch.float64) - 1) * bound


def split_parameters(flat: Tensor, sizes: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
    """(weights (..., o, i), biases (..., o, 1)) of each layer as views into parameter vectors (..., P)."""
    layers, start = [], 0
    for i, o in sizes:
        weight = flat[..., start : start + o * i].unflatten(-1, (o, i))
        bias = flat[..., start + o * i : start + o * (i + 1)].unsqueeze(-1)
        layers.append((weight, bias))
        start += o * (i + 1)
    return layers


def mlp(
    in_features: int, out_features: int, *, width: int = 16, depth: int = 1, random_state: int = 0, dtype=torch.float32
) -> nn.Sequential:
    """A ReLU network: ``depth`` hidden layers of ``width`` units and an affine output layer that starts at zero.

    Parameters
    ----------
    in_features, out_features : int
        Number of covariates d and of outputs (for weights, the number of candidate models M).
    width, depth : int
        H and D of the paper's network class; ``depth=0`` is an affine map (with a softmax on top: the linear gate).
    random_state : int
        Seed of the hidden layers' initial values.
    dtype : torch.dtype
        float64 keeps the initial values as they are drawn.

    Returns
    -------
    torch.nn.Sequential
        Maps (n, in_features) to (n, out_features).

    Examples
    --------
    >>> import torch
    >>> from localma import mlp
    >>> mlp(5, 3, width=16)(torch.randn(4, 5))
    tensor([[0., 0., 0.],
            [0., 0., 0.],
            [0., 0., 0.],
            [0., 0., 0.]], grad_fn=<AddmmBackward0>)
    """
    for name, value, least in (
        ("in_features", in_features, 1),
        ("out_features", out_features, 1),
        ("random_state", random_state, 0),
    ):
        check_whole(name, value, least)
    sizes = Mlp(width, depth).sizes(in_features, out_features)
    values = initial_values(sizes, torch.Generator().manual_seed(random_state))
    return mlp_from_parameters(split_parameters(values, sizes), dtype)


def mlp_from_parameters(layers: list[tuple[Tensor, Tensor]], dtype=torch.float32) -> nn.Sequential:
    """The ReLU network with given (weight, bias) per layer."""
    modules: list[nn.Module] = []
    for weight, bias in layers:
        # no values of its own: these would come from the user's global random state
        linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias.reshape(-1))
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


class Standardize(nn.Module):
    """``(x - mean) / scale`` with fixed buffers, so that a saved network remembers the units of its inputs."""

    def __init__(self, mean: Tensor, scale: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale


class Constant(nn.Module):
    """The same logits everywhere, (M,): global weights as a body."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.register_buffer("logits", logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(x.shape[0], -1)


class Mixture(nn.Module):
    """Several bodies as one: the logarithm of the mean of their weights, which a softmax turns into that mean."""

    def __init__(self, bodies):
        super().__init__()
        self.bodies = nn.ModuleList(bodies)

    def members(self, x: Tensor) -> Tensor:
        """Log-weights of each body, (members, n, M)."""
        return torch.stack([torch.log_softmax(body(x), -1) for body in self.bodies])

    def forward(self, x: Tensor) -> Tensor:
        return torch.logsumexp(self.members(x), 0) - math.log(len(self.bodies))


def last_linear(body: nn.Module) -> nn.Linear | None:
    """The output layer of a body: the last of its linear layers."""
    return ([m for m in body.modules() if isinstance(m, nn.Linear)] or [None])[-1]


def start_at(bodies: list[nn.Module], weights: Tensor) -> None:
    """Let each body start at constant weights, the rows of (bodies, M): its output layer is zero but for the biases."""
    for body, w in zip(bodies, weights, strict=True):
        linear = last_linear(body)
        if linear is None or linear.bias is None or linear.bias.shape != w.shape:
            raise ValueError(
                "network must end with a torch.nn.Linear layer with a bias, which holds the global weights; or give"
                " shrinkage=None"
            )
        with torch.no_grad():
            linear.weight.zero_()
            linear.bias.copy_(w.log())


class WeightNetwork(nn.Module):
    r"""Weights :math:`w(x) = \mathrm{softmax}(g(x))` on the simplex, equation (3) of the paper.

    Parameters
    ----------
    body : torch.nn.Module
        g: maps a batch of n inputs to logits of shape (n, M). An :func:`mlp`, a convolutional network, a text encoder,
        a linear gate.
    zero_output : bool
        Set the last linear layer of the body to zero, so that all weights start at 1/M and training starts from the
        equal-weights average.

    Examples
    --------
    >>> import torch
    >>> from localma import WeightNetwork, mlp
    >>> WeightNetwork(mlp(2, 4))(torch.zeros(1, 2)).detach()
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """

    def __init__(self, body: nn.Module, *, zero_output: bool = True):
        super().__init__()
        if not isinstance(body, nn.Module):
            raise TypeError(f"body must be a torch.nn.Module that maps x to logits, not {type(body).__name__}")
        self.body = body
        if zero_output:
            linear = last_linear(body)
            if linear is None:
                raise ValueError(
                    "body has no torch.nn.Linear layer to set to zero; end it with one, or pass zero_output=False"
                )
            with torch.no_grad():
                for parameter in linear.parameters():
                    parameter.zero_()

    def log_weights(self, x: Tensor) -> Tensor:
        """Logarithms of the weights, (n, M), by log-softmax: finite even where a weight underflows."""
        return torch.log_softmax(self.body(x), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Weights of shape (n, M)."""
        return torch.softmax(self.body(x), dim=-1)


def constant_body(weights, dtype, device) -> Constant:
    """Global weights (M,) as a body."""
    with np.errstate(
        divide="ignore"
    ):  # a weight of zero has the logarithm minus infinity, and softmax gives the zero back
        logits = torch.as_tensor(np.log(weights), dtype=dtype, device=device)
    return Constant(logits).eval()
