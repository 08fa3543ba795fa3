r"""One training loop for one network and for many: every array has a leading replication axis, B = 1 for a single fit.

Replications in a stack share nothing but the clock: each has its own data, initial values, batches, validation part,
best step and stopping time, so each row equals the same fit alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from localma.engine.stacks import Stack
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


def train(
    stack: Stack,
    inputs: Tensor,
    criterion: Callable[..., Tensor],
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
    criterion : callable
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
    n_valid = training.n_validation(n)
    batch_size = min(training.batch_size, n - n_valid)

    def permutations(size):
        return torch.stack([torch.randperm(size, generator=g) for g in generators]).to(device)

    def take(index):
        return stack.take(inputs, index), [t.gather(-1, _expand(index, t)) for t in targets]

    everything = (inputs, list(targets))
    if n_valid:
        order = permutations(n)
        validation, everything = take(order[:, :n_valid]), take(order[:, n_valid:])

    def batches():
        if batch_size == n - n_valid:
            while True:
                yield everything
        x, t = everything
        while True:
            order = permutations(n - n_valid)
            # the ragged end of an epoch is left out: the next epoch shuffles again, and all steps weigh the same
            for start in range(0, n - n_valid - batch_size + 1, batch_size):
                index = order[:, start : start + batch_size]
                yield stack.take(x, index), [v.gather(-1, _expand(index, v)) for v in t]

    adam = Adam(stack.parameters, training.epsilon)
    schedule = one_cycle(training.steps)
    best_loss = torch.full((B,), math.inf, device=device, dtype=targets[-1].dtype)
    best_step = torch.full((B,), training.steps, device=device)
    best = stack.snapshot()
    stale = torch.zeros(B, dtype=torch.long, device=device)
    curve, validation_curve, evaluated_at = [], [], []
    every = max(1, training.steps // 100)

    def evaluate(step):
        """Keep the parameters of the replications that improved; True when all have run out of patience."""
        stack.train(False)
        with torch.no_grad():
            x, t = validation
            loss = criterion(stack(x), *t).mean(-1)
            running = stale < (training.patience or math.inf)
            improved = (loss < best_loss) & running
            stale.add_(1).masked_fill_(improved, 0)
            best_loss.copy_(torch.where(improved, loss, best_loss))
            best_step.masked_fill_(improved, step)
            stack.keep(best, improved)
            validation_curve.append(loss)
            evaluated_at.append(step)
            stack.train(True)
            return not bool((stale < (training.patience or math.inf)).any())

    stack.train(True)
    if n_valid:
        evaluate(0)
    feed = batches()
    for step in range(1, training.steps + 1):
        x, t = next(feed)
        adam.forget_gradients()
        loss = criterion(stack(x), *t).mean(-1)
        loss.sum().backward()
        with torch.no_grad():
            for w in stack.weights:
                if w.grad is None:  # a body may carry parts that it does not use
                    continue
                if penalties is not None:
                    w.grad.addcmul_(w, penalties.view(-1, *[1] * (w.ndim - 1)), value=2)
                elif training.penalty:
                    w.grad.add_(w, alpha=2 * training.penalty)
        adam.step(training.learning_rate * schedule(step))
        curve.append(loss.detach())
        if progress is not None:
            progress.update(B)
        if n_valid and (step % every == 0 or step == training.steps) and evaluate(step):
            break

    stack.train(False)
    gradient_norm = stack.gradient_norm() if curve else torch.zeros(B, device=device)
    if n_valid:
        stack.restore(best)
    if not all(bool(p.isfinite().all()) for p in stack.parameters):
        raise FloatingPointError(
            "training diverged (the loss is no longer finite); lower learning_rate or rescale the inputs X"
        )
    empty = torch.zeros((0, B), device=device)
    return History(
        torch.stack(curve) if curve else empty,
        torch.stack(validation_curve) if validation_curve else empty,
        evaluated_at,
        best_step,
        gradient_norm,
    )


class Adam:
    """Adam (Kingma & Ba 2015, Algorithm 1) by the kernel of ``torch.optim.Adam(fused=True)``.

    That class imports a compiler, which takes longer than a fit to a small sample.
    """

    def __init__(self, parameters: list[Tensor], epsilon: float):
        self.parameters, self.epsilon = parameters, epsilon
        self.state = [(torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device)) for p in parameters]

    def forget_gradients(self) -> None:
        for p in self.parameters:
            p.grad = None

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
