"""Many directly trained networks as one stack, which averages are measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from localma.engine.loop import train
from localma.engine.networks import Mlp, initial_values
from localma.engine.stacks import MLPStack
from localma.engine.tiles import in_threads, tile_rows
from localma.engine.training import Training

__all__ = ["DirectStack", "fit_direct_stack"]


@dataclass
class DirectStack:
    """B fitted networks with one output each.

    ``values`` (B, P) are their parameters, ``sizes`` their layers; ``mean`` and ``scale`` (B, d) standardise the
    inputs, ``centre`` and ``spread`` (B,) undo the standardisation of y.
    """

    values: Tensor
    sizes: list[tuple[int, int]]
    mean: Tensor
    scale: Tensor
    centre: Tensor
    spread: Tensor

    def rows(self, index) -> DirectStack:
        """Some of the networks."""
        return DirectStack(
            self.values[index], self.sizes, *(a[index] for a in (self.mean, self.scale, self.centre, self.spread))
        )

    def predict(self, X: Tensor) -> Tensor:
        """(B, n) for X of shape (B, n, d)."""
        with torch.no_grad():
            x = ((X - self.mean.unsqueeze(1)) / self.scale.unsqueeze(1)).transpose(1, 2)
            out = MLPStack(self.values, self.sizes)(x)[:, 0]
            return self.centre.unsqueeze(1) + self.spread.unsqueeze(1) * out


def fit_direct_stack(
    X: Tensor,
    y: Tensor,
    *,
    seeds: Sequence[int],
    counts: Sequence[int] | None = None,
    network: Mlp = Mlp(),  # noqa: B008 (frozen)
    training: Training = Training(),  # noqa: B008
    standardize: bool = True,
    workers: int | None = None,
) -> DirectStack:
    """Regress y on X by B independent ReLU networks at once, with squared loss; samples may differ in size.

    Up to rounding, row b equals ``DirectModel(mlp(d, 1, width=..., depth=..., random_state=seeds[b]),
    training=training)`` fitted to the first ``counts[b]`` observations alone, as long as these are at most 1,024: of
    more, the estimator takes mini-batches unless its ``batch_size`` is ``counts[b]`` or larger. Here every step uses
    all observations of a row, and none is held out; rows of a similar size are trained side by side, so that little is
    spent on padding.

    Parameters
    ----------
    X : Tensor of shape (B, n, d)
    y : Tensor of shape (B, n)
    seeds : sequence of int, length B
        Of the initial values.
    counts : sequence of int, length B
        How many observations of each row are real, the first ones; whatever stands behind them is ignored. Default:
        all.
    network : Mlp
    training : Training
        An "auto" penalty is that of each row's own count.
    standardize : bool
        Centre and scale y, as the inputs are, by each row's own sample; else it is learned in its own unit.
    workers : int, optional
        Threads on a CPU; default one per core.

    Returns
    -------
    DirectStack

    Raises
    ------
    ValueError
        Naming the argument: ``seeds``, ``counts``, or a training that asks for mini-batches or a validation part.

    Examples
    --------
    >>> import torch
    >>> from localma.engine import fit_direct_stack
    >>> X = torch.linspace(-1, 1, 50)[None, :, None].expand(3, 50, 1)
    >>> stack = fit_direct_stack(X, X[..., 0] ** 2, seeds=[0, 1, 2], counts=[50, 50, 20])
    >>> stack.predict(X).shape
    torch.Size([3, 50])
    """
    B, n, d = X.shape
    real = torch.full((B,), n) if counts is None else torch.as_tensor(counts)
    if y.shape != (B, n):
        raise ValueError(
            f"y has shape {tuple(y.shape)}, but X {tuple(X.shape)}: they must share the rows B and observations n"
        )
    if len(seeds) != B:
        raise ValueError(f"seeds has {len(seeds)} entries for {B} rows; give one each")
    if real.shape != (B,) or real.is_floating_point() or not bool(((real >= 1) & (real <= n)).all()):
        raise ValueError(f"counts must be {B} whole numbers between 1 and n = {n}, the observations of each row")
    most = int(real.max())
    if not isinstance(training.batch_size, str) and training.batch_size < most:
        raise ValueError("training.batch_size: direct models take every observation in every step; leave it at 'auto'")
    if training.validation_fraction not in ("auto", 0):
        raise ValueError("training.validation_fraction: direct models hold nothing out; leave it at 'auto' or 0")
    penalties = torch.tensor([training.resolve(int(k)).penalty for k in real], dtype=X.dtype, device=X.device)
    training = replace(training, batch_size=n, validation_fraction=0.0, patience=None).resolve(most, careful=True)
    sizes = network.sizes(d, 1)
    cpu = X.device.type == "cpu"
    order = torch.argsort(real, stable=True)

    def fit_tile(index: Tensor) -> tuple[Tensor, ...]:
        at = index.to(X.device)
        own = [int(seeds[i]) for i in index]
        return _fit_tile(X[at], y[at], real[index].to(at), sizes, own, penalties[at], training, standardize)

    tiles, start = [], 0
    while start < B:
        bytes_of_row = X.element_size() * int(real[order[start]]) * (d + 4 * network.width * network.depth + 6)
        rows = tile_rows(bytes_of_row, B) if cpu else B
        tiles.append(order[start : start + rows])
        start += rows
    parts = in_threads(fit_tile, tiles, workers, cpu)
    back = torch.argsort(order)
    values, *units = (torch.cat([part[k] for part in parts])[back.to(X.device)] for k in range(5))
    return DirectStack(values, sizes, *units)


def _fit_tile(x, target, real, sizes, seeds, penalties, training, standardize) -> tuple[Tensor, ...]:
    """Parameters, mean and scale of the inputs, centre and spread of y of a tile; ``real`` (B,) are the rows'
    counts.
    """
    most = int(real.max())
    x, target = x[:, :most], target[:, :most]
    mask = torch.arange(most, device=x.device) < real[:, None]
    # padding repeats the first observation (finite, whatever the caller put there) and counts for nothing
    x, target = torch.where(mask[..., None], x, x[:, :1]), torch.where(mask, target, target[:, :1])
    share = mask.to(x.dtype) / real[:, None]

    def units(a: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the real observations."""
        mean = (a * share).sum(1)
        spread = ((a - mean.unsqueeze(1)).square() * share).sum(1).sqrt()
        flat = spread <= 10 * torch.finfo(a.dtype).eps * mean.abs().clamp_min(1e-30)
        return mean, torch.where(flat, torch.ones_like(spread), spread)

    mean, scale = units(x, share[..., None])
    centre, spread = units(target, share) if standardize else (mean.new_zeros(len(x)), mean.new_ones(len(x)))
    inputs = ((x - mean.unsqueeze(1)) / scale.unsqueeze(1)).transpose(1, 2).contiguous()
    goal = (target - centre[:, None]) / spread[:, None]
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    stack = MLPStack(torch.stack([initial_values(sizes, g) for g in generators]).to(x), sizes)

    def criterion(output, share, goal):
        return (output[:, 0] - goal).square() * (share * most)  # train takes the mean over all columns

    train(stack, inputs, criterion, (share, goal), replace(training, batch_size=most), generators, penalties=penalties)
    return stack.values(), mean, scale, centre, spread
