"""Many networks as one, behind one interface for the training loop: ReLU networks of one shape, and any modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from localma.engine.networks import module_input, split_parameters

__all__ = ["Criterion", "MLPStack", "ModuleStack", "Stack"]

# What torch.vmap says of a module that it cannot batch; any other error is the module's own.
NO_BATCHED_FORM = ("Batching rule not implemented", "vmap:")


#: What is minimised: the loss of each observation, (B, n), for outputs (B, M, n) and targets. One that knows its
#: derivative has a method ``with_gradient`` that gives both.
Criterion: TypeAlias = Callable[..., Tensor]


def with_gradient(criterion: Criterion, outputs: Tensor, targets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The criterion (B, n) and its derivative in the outputs (B, M, n)."""
    known = getattr(criterion, "with_gradient", None)
    if known is not None:
        return known(outputs, *targets)
    outputs.requires_grad_()
    value = criterion(outputs, *targets)
    return value.detach(), torch.autograd.grad(value.sum(), outputs)[0]


class Stack(Protocol):
    """B networks that train side by side; whatever :meth:`snapshot` gives is kept and restored row by row."""

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained."""

    @property
    def weights(self) -> list[Tensor]:
        """What a penalty applies to: all parameters but the biases, so that constant weights cost nothing."""

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (B, M, n) for inputs in the stack's layout, B first."""

    def differentiate(self, criterion: Criterion, x: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """The mean of the criterion for each network, (B,); its derivatives become the parameters' ``grad``."""

    def take(self, x: Tensor, index: Tensor) -> Tensor:
        """Observations ``index`` (B, k) of inputs."""

    def gradient_norm(self) -> Tensor:
        """Euclidean norm over all parameters of each network, (B,)."""

    def train(self, mode: bool) -> None:
        """As of a module."""

    def snapshot(self) -> list[Tensor]:
        """A copy of the present values."""

    def keep(self, kept: list[Tensor], improved: Tensor) -> None:
        """Overwrite a snapshot's rows by the present values where ``improved`` (B,) says so."""

    def restore(self, kept: list[Tensor]) -> None:
        """Take back a snapshot."""


class MLPStack:
    """B independent ReLU networks as one: every parameter has a leading replication axis, every layer is one batched
    product.

    Observations are the last axis, ``(B, features, n)``: the products are then wide, and the elementwise work runs
    along memory. Derivatives are the chain rule by hand, into memory that is allocated once: memory traffic is what a
    stack of small networks spends its time on, and new memory costs most.

    Parameters
    ----------
    values : Tensor of shape (B, P)
        One parameter vector per network, as :func:`initial_values` draws them.
    sizes : list of (inputs, outputs)
        As :meth:`Mlp.sizes` gives them.
    units : pair of Tensor of shape (B, d, 1), optional
        Centre and scale by which :meth:`take` divides what it takes, where inputs are too many for a copy in these
        units.
    """

    def __init__(self, values: Tensor, sizes: list[tuple[int, int]], units: tuple[Tensor, Tensor] | None = None):
        self.sizes, self.units = sizes, units
        self.layers = [
            (w.contiguous().requires_grad_(), b.contiguous().requires_grad_())
            for w, b in split_parameters(values, sizes)
        ]
        self._memory: list[tuple[Tensor, Tensor]] = []

    @property
    def weights(self) -> list[Tensor]:
        return [w for w, _ in self.layers]

    @property
    def parameters(self) -> list[Tensor]:
        return [p for layer in self.layers for p in layer]

    def values(self) -> Tensor:
        """The parameter vectors, (B, P)."""
        return torch.cat([p.detach().flatten(1) for p in self.parameters], 1)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, M, n) for inputs (B, d, n)."""
        for depth, (weight, bias) in enumerate(self.layers):
            # in place: the product before it needs its own inputs for the derivative, not its output
            x = torch.baddbmm(bias, weight, x if depth == 0 else torch.relu_(x))
        return x

    @torch.no_grad()
    def differentiate(self, criterion: Criterion, x: Tensor, targets: Sequence[Tensor]) -> Tensor:
        memory = self._activations(x)
        inputs = [x, *(unit for unit, _ in memory[:-1])]
        for (weight, bias), a, (out, _) in zip(self.layers, inputs, memory, strict=True):
            torch.baddbmm(bias, weight, a if a is x else a.relu_(), out=out)
        with torch.enable_grad():
            value, slope = with_gradient(criterion, memory[-1][0].detach(), targets)
        slope = torch.div(slope, x.shape[-1], out=memory[-1][1])
        for depth in reversed(range(len(self.layers))):
            (weight, bias), a = self.layers[depth], inputs[depth]
            torch.bmm(slope, a.transpose(1, 2), out=weight.grad)
            torch.sum(slope, -1, keepdim=True, out=bias.grad)
            if depth:
                below = torch.bmm(weight.transpose(1, 2), slope, out=memory[depth - 1][1])
                slope = torch.ops.aten.threshold_backward.grad_input(below, a, 0, grad_input=below)
        return value.mean(-1)

    def _activations(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Memory for each layer's outputs and the derivatives in them, kept from step to step."""
        if not self._memory or self._memory[0][0].shape[-1] != x.shape[-1]:
            shapes = [(*w.shape[:2], x.shape[-1]) for w, _ in self.layers]
            self._memory = [(x.new_empty(shape), x.new_empty(shape)) for shape in shapes]
            for p in self.parameters:
                p.grad = torch.empty_like(p)
        return self._memory

    def take(self, x: Tensor, index: Tensor) -> Tensor:
        x = x.gather(-1, index.unsqueeze(1).expand(-1, x.shape[1], -1))
        return x if self.units is None else x.sub_(self.units[0]).div_(self.units[1])

    def gradient_norm(self) -> Tensor:
        return sum(p.grad.flatten(1).square().sum(1) for p in self.parameters).sqrt()

    def train(self, mode: bool) -> None:
        """Nothing in an MLP depends on the mode; other modules have dropout."""

    def snapshot(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.parameters]

    def keep(self, kept: list[Tensor], improved: Tensor) -> None:
        for old, new in zip(kept, self.parameters, strict=True):
            torch.where(improved.view(-1, 1, 1), new.detach(), old, out=old)

    def restore(self, kept: list[Tensor]) -> None:
        with torch.no_grad():
            for new, old in zip(self.parameters, kept, strict=True):
                new.copy_(old)


class ModuleStack:
    """Any modules of one architecture as one stack: inputs (B, n, ...) and outputs (B, M, n).

    A single module trains as it is; of several, every parameter has a leading axis of B.

    Parameters
    ----------
    modules : list of B torch.nn.Module
        Each with values of its own.
    """

    def __init__(self, modules: list[nn.Module]):
        self.modules = [module.train() for module in modules]
        self.alone = len(modules) == 1
        if self.alone:
            self.skeleton = modules[0]
            self.values, self.buffers = dict(self.skeleton.named_parameters()), dict(self.skeleton.named_buffers())
        else:
            self.skeleton = copy.deepcopy(modules[0])  # says what to compute; the values come from the stack
            self.values, self.buffers = torch.func.stack_module_state(modules)
        self.parameters = [p for p in self.values.values() if p.requires_grad]
        # biases and normalisation gains have one axis
        self.weights = [p for p in self.parameters if p.ndim > 2 - self.alone]
        self.batched = True

    def __call__(self, x: Tensor) -> Tensor:
        x = module_input(self.skeleton, x)  # of a batch: images of bytes are never numbers all at once
        if self.alone:
            return self.skeleton(x.squeeze(0)).transpose(-2, -1).unsqueeze(0)
        if self.batched:
            try:
                return torch.vmap(self._one, randomness="different")(self.values, self.buffers, x).transpose(-2, -1)
            except RuntimeError as error:  # recurrent layers have no batched form
                if not any(words in str(error) for words in NO_BATCHED_FORM):
                    raise
                self.batched = False
        rows = [
            ({k: v[b] for k, v in self.values.items()}, {k: v[b] for k, v in self.buffers.items()})
            for b in range(len(x))
        ]
        return torch.stack([self._one(*row, part) for row, part in zip(rows, x, strict=True)]).transpose(-2, -1)

    def differentiate(self, criterion: Criterion, x: Tensor, targets: Sequence[Tensor]) -> Tensor:
        for p in self.parameters:
            p.grad = None
        loss = criterion(self(x), *targets).mean(-1)
        loss.sum().backward()
        return loss.detach()

    def _one(self, values, buffers, x):
        return torch.func.functional_call(self.skeleton, (values, buffers), (x,))

    def _state(self) -> list[Tensor]:
        """All values and buffers with the leading axis, sharing memory with what trains."""
        tensors = [v.detach() for v in (*self.values.values(), *self.buffers.values())]
        return [v.unsqueeze(0) for v in tensors] if self.alone else tensors

    @staticmethod
    def take(x: Tensor, index: Tensor) -> Tensor:
        return torch.stack([row[i] for row, i in zip(x, index, strict=True)])

    def gradient_norm(self) -> Tensor:
        grads = [p.grad.unsqueeze(0) if self.alone else p.grad for p in self.parameters if p.grad is not None]
        return sum(g.flatten(1).square().sum(1) for g in grads).sqrt()

    def train(self, mode: bool) -> None:
        self.skeleton.train(mode)

    def snapshot(self) -> list[Tensor]:
        return [v.clone() for v in self._state()]

    def keep(self, kept: list[Tensor], improved: Tensor) -> None:
        for new, old in zip(self._state(), kept, strict=True):
            old[improved] = new[improved]

    def restore(self, kept: list[Tensor]) -> None:
        for new, old in zip(self._state(), kept, strict=True):
            new.copy_(old)

    def unstack(self) -> list[nn.Module]:
        """The modules that it was made from, with the stack's present values."""
        for b, module in enumerate([] if self.alone else self.modules):
            module.load_state_dict(
                {name: v[b].detach() for name, v in (self.values | self.buffers).items()}, strict=False
            )
        return [module.eval() for module in self.modules]
