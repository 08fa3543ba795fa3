r"""One training loop for one network and for many: every array has a leading replication axis, B = 1 for a single fit.

Replications in a stack share nothing but the clock: each has its own data, initial values, batches, validation part,
best step and stopping time, so each row equals the same fit alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from localma.engine.stacks import Criterion, Stack
from localma.engine.training import Training

__all__ = ["History", "one_cycle", "train"]


@dataclass
class History:
    """What a training run saw, one column or entry per replication."""

    train_loss: Tensor  # (steps, B): criterion of each step's batch, before the step
    validation_loss: Tensor  # (evaluations, B); no rows without a validation part
    evaluated_at: list[int]  # steps after which it was evaluated
    best_step: Tensor  # (B,)
    gradient_norm: Tensor  # (B,), of the last step

    def late_fall(self) -> Tensor:
        """Share of its whole fall by which the criterion fell in the second half of the steps, beyond the noise of
        batches, (B,).
        """
        steps = len(self.train_loss)
        if steps < 4:
            return torch.zeros_like(self.gradient_norm)
        width = max(2, steps // 10)
        parts = [self.train_loss[at : at + width] for at in (0, (steps - width) // 2, steps - width)]
        first, middle, last = (part.mean(0) for part in parts)
        noise = sum(part.var(0) / width for part in parts[1:]) ** 0.5
        late = torch.where(middle - last > 3 * noise, middle - last, 0.0)
        return late / (first - last).clamp_min(torch.finfo(late.dtype).tiny)


def train(
    stack: Stack,
    inputs: Tensor,
    criterion: Criterion,
    targets: Sequence[Tensor],
    training: Training,
    generators: Sequence[torch.Generator],
    progress: tqdm | None = None,
    penalties: Tensor | None = None,
) -> History:
    """Minimise, in each of B replications, the mean of ``criterion`` plus the penalty, and leave the best parameters in
    the stack.

    Parameters
    ----------
    stack : Stack
    inputs : Tensor
        In the stack's layout, B first.
    criterion : Criterion
        ``criterion(outputs, *targets)`` gives the loss of each observation, (B, n).
    targets : sequence of Tensor
        B first, n last.
    training : Training
        Resolved.
    generators : sequence of torch.Generator, length B
        Each replication's own randomness: its validation part and its batches.
    penalties : Tensor of shape (B,), optional
        One for each network, instead of the one for all.
    """
    B, n = targets[-1].shape[0], targets[-1].shape[-1]
    device = targets[-1].device
    how: Any = training  # without an "auto"
    n_valid = training.n_validation(n)

    def permutations(size):
        order = torch.empty(B, size, dtype=torch.long, pin_memory=device.type == "cuda")
        for row, generator in zip(order, generators, strict=True):
            torch.randperm(size, generator=generator, out=row)
        return order.to(device, non_blocking=True)  # one copy, for which a GPU need not wait

    sample, rows, best = (inputs, list(targets)), None, None
    if n_valid:
        order = permutations(n)
        best = _Best(stack, criterion, _take(stack, sample, order[:, :n_valid]), training)
        rows = order[:, n_valid:]
    adam, schedule = Adam(stack.parameters, how.epsilon), one_cycle(how.steps)
    feed = _batches(stack, sample, rows, min(how.batch_size, n - n_valid), permutations)
    curve, every = [], max(1, how.steps // 100)
    stack.train(True)
    for step in range(1, how.steps + 1):
        x, t = next(feed)
        curve.append(stack.differentiate(criterion, x, t))
        _add_penalty(stack, how.penalty, penalties)
        adam.step(how.learning_rate * schedule(step))
        if progress is not None:
            progress.update(B)
        if best is not None and (step % every == 0 or step == how.steps) and best.look(step):
            break
    stack.train(False)
    gradient_norm = stack.gradient_norm() if curve else torch.zeros(B, device=device)
    if best is not None:
        stack.restore(best.kept)
    if not all(bool(p.isfinite().all()) for p in stack.parameters):
        way = "lower learning_rate or rescale the inputs X"
        raise FloatingPointError(f"training diverged (the loss is no longer finite); {way}")
    empty = torch.zeros((0, B), device=device)
    return History(
        torch.stack(curve) if curve else empty,
        empty if best is None else torch.stack(best.curve),
        [] if best is None else best.steps,
        torch.full((B,), training.steps, device=device) if best is None else best.step,
        gradient_norm,
    )


class _Best:
    """The best parameters of each replication on its validation part, and who has run out of patience."""

    def __init__(self, stack, criterion, validation, training):
        self.stack, self.criterion, self.validation = stack, criterion, validation
        y = validation[1][-1]
        self.loss = torch.full((len(y),), math.inf, device=y.device, dtype=y.dtype)
        self.step = torch.full((len(y),), training.steps, device=y.device)
        self.stale = torch.zeros(len(y), dtype=torch.long, device=y.device)
        self.patience = training.patience or math.inf
        self.kept, self.curve, self.steps = stack.snapshot(), [], []
        self.look(0)

    @torch.no_grad()
    def look(self, step: int) -> bool:
        """Keep the parameters of the replications that improved; True when all have run out of patience."""
        self.stack.train(False)
        x, t = self.validation
        loss = self.criterion(self.stack(x), *t).mean(-1)
        improved = (loss < self.loss) & (self.stale < self.patience)
        self.stale.add_(1).masked_fill_(improved, 0)
        self.loss = torch.where(improved, loss, self.loss)
        self.step.masked_fill_(improved, step)
        self.stack.keep(self.kept, improved)
        self.curve.append(loss)
        self.steps.append(step)
        self.stack.train(True)
        return not bool((self.stale < self.patience).any())


def _take(stack, sample, index):
    """Observations ``index`` (B, k) of inputs and targets."""
    x, targets = sample
    return stack.take(x, index), [t.gather(-1, _expand(index, t)) for t in targets]


def _batches(stack, sample, rows, size, permutations):
    """Batch after batch of the observations ``rows`` (B, n), or of all."""
    n = sample[1][-1].shape[-1] if rows is None else rows.shape[1]
    if size == n:
        whole = sample if rows is None else _take(stack, sample, rows)
        while True:
            yield whole
    while True:
        order = permutations(n) if rows is None else rows.gather(1, permutations(n))
        # the ragged end of an epoch is left out: the next epoch shuffles again, and all steps weigh the same
        for start in range(0, n - size + 1, size):
            yield _take(stack, sample, order[:, start : start + size])
        del order  # which is large where observations are many, before the next is drawn


@torch.no_grad()
def _add_penalty(stack, penalty, penalties) -> None:
    """The penalty's gradient, of one for all or of one for each network."""
    for w in stack.weights:
        if w.grad is None:  # a body may carry parts that it does not use
            continue
        if penalties is not None:
            w.grad.addcmul_(w, penalties.view(-1, *[1] * (w.ndim - 1)), value=2)
        elif penalty:
            w.grad.add_(w, alpha=2 * penalty)


class Adam:
    """Adam (Kingma & Ba 2015, Algorithm 1) by the kernel of ``torch.optim.Adam(fused=True)``.

    That class imports a compiler, which takes longer than a fit to a small sample.
    """

    def __init__(self, parameters: list[Tensor], epsilon: float):
        self.parameters, self.epsilon = parameters, epsilon
        self.state = [(torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device)) for p in parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        # a body may carry parts that it does not use
        used = [(p, p.grad, *state) for p, state in zip(self.parameters, self.state, strict=True) if p.grad is not None]
        if used:
            values, gradients, means, squares, steps = map(list, zip(*used, strict=True))
            torch._foreach_add_(steps, 1)
            how = {"weight_decay": 0.0, "amsgrad": False, "maximize": False, "eps": self.epsilon}
            torch._fused_adam_(
                values, gradients, means, squares, [], steps, lr=learning_rate, beta1=0.9, beta2=0.999, **how
            )


def _expand(index: Tensor, target: Tensor) -> Tensor:
    """(B, k) as an index into the last axis of a target (B, ..., n)."""
    return index.reshape(index.shape[0], *[1] * (target.ndim - 2), -1).expand(*target.shape[:-1], -1)


def one_cycle(steps: int, warm_up: float = 0.3) -> Callable[[int], float]:
    """Share of the peak learning rate at each step: a linear rise, then half a cosine down (Smith & Topin 2019)."""
    top = max(1.0, warm_up * steps)

    def share(step):
        if step <= top:
            return step / top
        return max(0.01, 0.5 * (1 + math.cos(math.pi * (step - top) / (steps - top))))

    return share
