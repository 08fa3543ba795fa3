"""Cross-validation of the penalty for many samples at once, with global weights among the candidates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from localma.engine.simplex import first_smallest, soften, start_weights
from localma.engine.training import automatic_penalty
from localma.losses import Loss

__all__ = ["MULTIPLES", "CrossValidation", "cross_validate", "grid"]

FOLDS = 5
#: Of the automatic penalty: from a fifth of it, by factors of two, to where the weights hardly move.
MULTIPLES = tuple(0.2 * 2.0**k for k in range(8))
#: Smaller ones, for candidate models that are absurd away from home: tried where the smallest of the others is the best
#: of them.
SMALLER = tuple(0.2 * 4.0**k for k in range(-4, 0))
#: Larger ones, for samples that know little: tried where the largest of the others is the best of them.
LARGER = tuple(MULTIPLES[-1] * 4.0**k for k in range(1, 4))
#: Observations that cross-validation looks at; with more, the penalty follows from its power of n.
MOST = 3000
#: Losses that differ by a smaller share are equal: so much rounding in the networks' arithmetic does.
ROUNDING = 1e-6


def grid(n: int, multiples: Sequence[float] = MULTIPLES) -> np.ndarray:
    """The finite candidates for n observations, increasing."""
    return np.array(multiples) * automatic_penalty(n)


def subset(n: int, seed: int) -> np.ndarray:
    """Which of n observations cross-validation looks at: all, or :data:`MOST` at random."""
    return np.arange(n) if n <= MOST else np.sort(np.random.default_rng(seed).choice(n, MOST, replace=False))


def rescale(shrinkage, seen: int, n: int):
    """A penalty chosen on ``seen`` observations for a fit to all ``n``: both fall with the same power."""
    return shrinkage * (automatic_penalty(n) / automatic_penalty(seen))


@dataclass(frozen=True)
class CrossValidation:
    """What the held-out observations said of L penalties and of global weights, for R samples.

    ``shrinkage`` (L + 1,) are the candidates, increasing, infinity (global weights) last; ``loss`` (R, L + 1) their
    mean held-out losses, ``difference`` those minus the loss of global weights, and ``standard_error`` that of the
    difference, from the n pairs; all three are NaN for a penalty below or above the list that a sample had no
    reason to try. ``chosen`` (R,) is the index of the choice and ``held_out`` (R, n) its loss at each observation,
    ``groups`` (n,) which of these belong together and ``share`` (R, n) how much each of them counts, one in the
    mean.
    """

    shrinkage: np.ndarray
    loss: np.ndarray
    difference: np.ndarray
    standard_error: np.ndarray
    chosen: np.ndarray
    held_out: np.ndarray
    groups: np.ndarray | None = None
    share: np.ndarray | None = None

    def gain(self, other: CrossValidation) -> tuple[np.ndarray, np.ndarray]:
        """How much less ``other`` loses, of the same observations in the same folds, and its standard error; (R,)."""
        return mean_and_error(self.held_out - other.held_out, self.groups, self.share)

    def columns(self, r: int) -> dict[str, np.ndarray]:
        """Of sample r, the candidates that it tried."""
        tried = ~np.isnan(self.loss[r])
        table = {"shrinkage": self.shrinkage} | {
            name: getattr(self, name)[r] for name in ("loss", "difference", "standard_error")
        }
        return {
            name: values[tried]
            for name, values in (table | {"chosen": np.arange(len(tried)) == self.chosen[r]}).items()
        }


def cross_validate(
    fit: Callable[..., Tensor],
    F: Tensor,
    y: Tensor,
    loss: Loss,
    shrinkage: np.ndarray,
    smaller: np.ndarray | Sequence[float] = (),
    larger: np.ndarray | Sequence[float] = (),
    *,
    seeds: Sequence[int],
    folds: int = FOLDS,
    groups: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
) -> CrossValidation:
    """Choose a penalty for each of R samples; all folds and penalties of several samples train as one stack.

    Parameters
    ----------
    fit : callable
        ``fit(rows, seeds, penalties, start, sample_weight)`` trains one network per entry of ``rows``, on that sample,
        and gives their logits at the sample's own inputs, (B, M, n).
    F : Tensor of shape (R, n, M), or (R, n, M, K) for cross-entropy
    y : Tensor of shape (R, n)
    loss : Loss
    shrinkage : array of shape (L,)
        Increasing.
    smaller : array, optional
        Penalties below those, increasing: tried for the samples whose best is the first of ``shrinkage``, taken where
        the best of them beats it by one standard error.
    larger : array, optional
        Penalties above those, increasing: tried for the samples whose best is the last of ``shrinkage``, taken where
        the best of them is better still: nearer to global weights, they need less evidence, not more.
    seeds : sequence of int, length R
        Of each sample's folds and networks.
    folds : int
    groups : array of shape (n,), optional
        Observations with the same entry, such as the rows of one person, stay in one fold, and count as one draw in the
        standard error.
    sample_weight : array of shape (R, n), optional
        How much each observation counts, positive: in training, in the held-out loss and in its standard error.

    Returns
    -------
    CrossValidation

    Raises
    ------
    ValueError
        If there are fewer observations, or groups of them, than two per fold.
    """
    R, n = y.shape
    numbers = torch.as_tensor(np.stack([fold_numbers(n, int(s), groups, folds) for s in seeds]), device=y.device)
    held = numbers.unsqueeze(1) == torch.arange(folds, device=y.device)[:, None]
    share = None if sample_weight is None else sample_weight / sample_weight.mean(-1, keepdims=True)
    sample = _Sample(F, y, loss, held, seeds, np.ones((R, n)) if share is None else share)
    each = None if share is None else share[:, None]

    def smallest(loss: np.ndarray) -> np.ndarray:
        """Where the mean loss of each row is smallest; of those equal up to rounding the largest penalty."""
        return loss.shape[1] - 1 - first_smallest(loss[:, ::-1], 1, ROUNDING)

    rows, below = np.arange(R), len(smaller)
    last = below + len(shrinkage) - 1
    tried = np.full((R, last + len(larger) + 2, n), np.nan)
    tried[:, below : last + 1], tried[:, -1:] = sample.losses(fit, rows, shrinkage), sample.constant()
    with np.errstate(invalid="ignore"):
        best = below + smallest(mean_and_error(tried, groups, each)[0][:, below : last + 1])
        stiff = np.flatnonzero(best == last) if len(larger) else rows[:0]
        if len(stiff):
            tried[stiff, last + 1 : -1] = sample.losses(fit, stiff, larger)
            best[stiff] = last + smallest(mean_and_error(tried, groups, each)[0][stiff, last:-1])
        edge = np.flatnonzero(best == below) if below else rows[:0]
        if len(edge):
            tried[edge, :below] = sample.losses(fit, edge, smaller)
            low = smallest(mean_and_error(tried, groups, each)[0][edge, :below])
            gain, error = mean_and_error(
                tried[edge, low] - tried[edge, below], groups, None if share is None else share[edge]
            )
            best[edge] = np.where(gain < -error, low, below)
        mean = mean_and_error(tried, groups, each)[0]
        difference, error = mean_and_error(tried - tried[:, -1:], groups, each)
        # models that are alike gain nothing but rounding errors
        enough = difference[rows, best] < -(error[rows, best] + ROUNDING * np.abs(mean[:, -1]))
    candidates = np.concatenate([smaller, shrinkage, larger, [math.inf]])
    chosen = np.where(enough, best, len(candidates) - 1)
    return CrossValidation(candidates, mean, difference, error, chosen, tried[rows, chosen], groups, share)


def fold_numbers(n: int, seed: int, groups: np.ndarray | None = None, folds: int = FOLDS) -> np.ndarray:
    """Which fold holds out each of n observations, (n,); those of a group go together.

    Raises
    ------
    ValueError
        If there are fewer observations, or groups of them, than two per fold.
    """
    of = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    draws = int(of.max()) + 1 if n else 0
    if draws < 2 * folds:
        what = "observations" if groups is None else "groups"
        way = "give shrinkage= a number and no direct= or level=, or take global weights (GlobalMA)"
        raise ValueError(
            f"cross-validation with {folds} folds needs at least {2 * folds} {what}, but there are {draws}; {way}"
        )
    own = np.empty(draws, int)  # a shuffle: data often come sorted
    own[torch.randperm(draws, generator=torch.Generator().manual_seed(seed)).numpy()] = np.arange(draws) % folds
    return own[of]


class _Sample:
    """R samples and their folds: the losses of observations that were held out."""

    def __init__(self, F: Tensor, y: Tensor, loss: Loss, held: Tensor, seeds: Sequence[int], share: np.ndarray):
        self.F, self.y, self.loss, self.held = F, y, loss, held
        self.counts = ~held * torch.as_tensor(share, dtype=F.dtype, device=F.device).unsqueeze(1)  # in training
        self.G = loss.candidates(y.double(), F.double().movedim(1, -1))
        folds = held.shape[1]
        # a fold's networks start from the same values at every penalty, so that penalties are compared like with like
        self.seeds = np.stack([np.random.SeedSequence(int(s)).generate_state(folds) for s in seeds])
        self.start = np.empty((len(F), folds, F.shape[2]))
        for k in range(folds):
            self.start[:, k] = start_weights(F.cpu().numpy(), y.cpu().numpy(), loss, self.counts[:, k].cpu().numpy())

    def losses(self, fit, samples: np.ndarray, shrinkage) -> np.ndarray:
        """(samples, penalties, n): each observation's by the networks that did not see it, of one penalty after the
        other.
        """
        F, (_, folds, n), M, L = self.F, self.held.shape, self.F.shape[2], len(shrinkage)
        penalties = torch.as_tensor(shrinkage, dtype=F.dtype, device=F.device)
        at_once = max(1, 2**26 // (folds * L * n * M))
        found = torch.empty(len(samples), L, n, dtype=torch.float64)
        for first in range(0, len(samples), at_once):
            rows = samples[first : first + at_once]
            shape = (len(rows), folds, L)
            logits = fit(
                torch.as_tensor(rows.repeat(folds * L)),
                np.repeat(self.seeds[rows], L, 1).ravel(),
                penalties.expand(shape).reshape(-1),
                torch.as_tensor(soften(self.start[rows]), dtype=F.dtype, device=F.device)
                .unsqueeze(2)
                .expand(*shape, M)
                .reshape(-1, M),
                self.counts[rows].unsqueeze(2).expand(*shape, n).reshape(-1, n),
            )
            for i, r in enumerate(rows):
                mine = logits.unflatten(0, shape)[i].double()
                value = self.loss.of_logits(mine, self.G[r].expand_as(mine), self.y[r].double().expand(folds, L, n))
                found[first + i] = torch.where(self.held[r].unsqueeze(1), value, torch.zeros_like(value)).sum(0).cpu()
        # a penalty that led to no finite loss is out of the race
        return torch.where(found.isfinite(), found, torch.full_like(found, math.inf)).numpy()

    def constant(self) -> np.ndarray:
        """The same for global weights, (R, 1, n)."""
        # in the precision of the networks, which start there
        w = torch.as_tensor(self.start, dtype=self.F.dtype, device=self.F.device).double().unsqueeze(-1)
        folds = self.held.shape[1]
        value = self.loss.of_weights(
            w, self.G.unsqueeze(1).expand(-1, folds, -1, -1), self.y.double().unsqueeze(1).expand(-1, folds, -1)
        )
        return torch.where(self.held, value, torch.zeros_like(value)).sum(1, keepdim=True).cpu().numpy()


def mean_and_error(values: np.ndarray, groups: np.ndarray | None = None, share: np.ndarray | None = None):
    """The mean over the last axis and its standard error; where values count by a ``share`` of mean one, those of the
    weighted mean, to first order (the delta method).
    """
    if share is None:
        mean, off = values.mean(-1), values
    else:
        mean = (share * values).mean(-1)
        off = share * (values - mean[..., None])
    return mean, off.std(-1, ddof=1) / math.sqrt(off.shape[-1]) if groups is None else _clustered_error(off, groups)


def _clustered_error(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the last axis, where the groups, not the values, are independent; (..., n) ->
    (...).
    """
    _, of = np.unique(groups, return_inverse=True)
    n, G = len(of), int(of.max()) + 1
    sums = np.zeros((*values.shape[:-1], G))
    index: Any = (..., of)
    np.add.at(sums, index, values - values.mean(-1, keepdims=True))
    return np.sqrt(G / (G - 1) * np.square(sums).sum(-1)) / n
