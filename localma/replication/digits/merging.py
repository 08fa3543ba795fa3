"""Four companies and ten digits once more, as small neural networks that one may open: averaging parameters against
averaging predictions.

Chapter *A map of the neighbourhood* tells the story. A company first learns ten classes from the repetition's first
hundred images, then goes on with what :mod:`localma.replication.digits` gives it: all images of its own four classes
and one of each other class. Companies share one random start, or each has its own; nothing else differs. All networks
of all repetitions are trained as one stack.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from torch import Tensor

from localma.engine import fit_stack, global_weights, one_thread
from localma.losses import LOSSES
from localma.replication.digits.companies import KNOWS, split
from localma.replication.lab.results import load_paper
from localma.replication.lab.sample import best_model

HIDDEN = 32
LEARNING_RATE = 0.01
FIRST = 100  # images, from which a base learns
STEPS = 300  # of every training, a company's, a base's or your own
#: What :func:`compare_methods` compares.
METHODS = (
    "soup",
    "greedy soup",
    "Fisher",
    "soup, aligned",
    "Fisher, aligned",
    "BestModel",
    "EWMA",
    "GW",
    "LocalMA",
    "LocalMA, one asked",
    "DirectModel",
    "Fisher, then trained",
)


class Net(NamedTuple):
    """A network with one hidden layer of h tanh units, or a stack of such networks with any leading axes."""

    W1: Tensor  #: (..., d, h)
    b1: Tensor  #: (..., 1, h)
    W2: Tensor  #: (..., h, K)
    b2: Tensor  #: (..., 1, K)

    def logits(self, x: Tensor) -> Tensor:
        """(..., n, K) for inputs x of shape (..., n, d)."""
        return torch.tanh(x @ self.W1 + self.b1) @ self.W2 + self.b2

    def probabilities(self, x: Tensor) -> Tensor:
        """(..., n, K), rows on the simplex."""
        return torch.softmax(self.logits(x), -1)

    def map(self, function) -> Net:
        """The same function of each of the four arrays."""
        return Net(*map(function, self))


class Task(NamedTuple):
    """R cuts of the digits, as in :func:`localma.replication.digits.split`, and who sees what of the first part."""

    X_first: Tensor  #: (R, 600, 64), for the companies
    y_first: Tensor  #: (R, 600)
    X: Tensor  #: (R, 600, 64), your sample
    y: Tensor
    X_test: Tensor  #: (R, 597, 64)
    y_test: Tensor
    seen: Tensor  #: (R, 4, 600), one where a company is fine-tuned on the image


def load_task(repetitions: int = 20, *, seed: int = 0) -> Task:
    """Cut the images anew for the seeds ``seed``, ``seed + 1``, ...

    Examples
    --------
    >>> from localma.replication.digits.merging import load_task
    >>> load_task(3).seen.shape
    torch.Size([3, 4, 600])
    """
    X, y = load_digits(return_X_y=True)
    parts = [split(r) for r in range(seed, seed + repetitions)]
    arrays = []
    for part in zip(*parts, strict=True):
        index = np.stack(part)
        arrays += [torch.as_tensor(X[index] / 16, dtype=torch.float32), torch.as_tensor(y[index])]
    labels = arrays[1]
    occurrence = torch.nn.functional.one_hot(labels, 10).cumsum(1).gather(2, labels[..., None])
    seen = torch.as_tensor(KNOWS)[labels] | (occurrence == 1)
    return Task._make([*arrays, seen.movedim(-1, 1).float()])


def train(net: Net, x: Tensor, y: Tensor, share: Tensor, stops) -> list[Net]:
    """Adam on the mean cross-entropy of the images that ``share`` (..., n) marks, each network of the stack for itself.

    Returns what the networks were after each of the increasing step numbers ``stops``.
    """
    net = net.map(lambda p: p.clone().requires_grad_())
    optimizer = torch.optim.Adam(net, lr=LEARNING_RATE)
    kept = []
    with one_thread(True):  # products this small are faster on one thread
        for step in range(max(stops) + 1):
            if step in stops:
                kept.append(net.map(lambda p: p.detach().clone()))
            optimizer.zero_grad()
            right = torch.log_softmax(net.logits(x), -1).gather(-1, y[..., None])[..., 0]
            (-(right * share).sum(-1) / share.sum(-1)).sum().backward()
            optimizer.step()
    return kept


def draw(repetitions: int, companies: int, *, seed: int = 0) -> Net:
    """Random starting values (R, M, ...): normal weights of variance one over the number of inputs, biases zero."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(repetitions, companies, *shape, generator=generator) / shape[0] ** 0.5

    zeros = (torch.zeros(repetitions, companies, 1, k) for k in (HIDDEN, 10))
    return Net(normal(64, HIDDEN), next(zeros), normal(HIDDEN, 10), next(zeros))


def companies(task: Task, *, common: bool, stops=(STEPS,)) -> tuple[Net, dict[int, Net]]:
    """The bases (R, 4, ...) that learned the first images, and the companies after so many steps of fine-tuning.

    Parameters
    ----------
    task : Task
    common : bool
        The four companies of a repetition start from one base; otherwise each from its own random values and its own
        base.
    stops : sequence of int
        Steps of fine-tuning, increasing; 0 is the base.

    Examples
    --------
    >>> from localma.replication.digits.merging import companies, load_task
    >>> base, nets = companies(load_task(2), common=True, stops=(0, 5))
    >>> bool((nets[0].W1[:, 0] == nets[0].W1[:, 3]).all()), bool((nets[5].W1[:, 0] == nets[5].W1[:, 3]).all())
    (True, False)
    """
    if list(stops) != sorted({*stops}) or not stops or stops[0] < 0:
        raise ValueError(f"stops = {stops!r} must be step numbers that increase from 0 or more")
    R, M, n = task.seen.shape
    d, G = task.X.shape[-1], 1 if common else M
    x, y = task.X_first[:, None], task.y_first[:, None].expand(R, M, n)
    (base,) = train(draw(R, G), x[:, :, :FIRST], y[:, :G, :FIRST], torch.ones(R, G, FIRST), (STEPS,))
    base = base.map(lambda p: p.expand(R, M, *p.shape[2:]).contiguous())
    # each company's own images first, so that the rest need not be carried along
    order = task.seen.argsort(dim=-1, descending=True, stable=True)[..., : int(task.seen.sum(-1).max())]
    mine = (
        x.expand(R, M, n, d).gather(2, order[..., None].expand(*order.shape, d)),
        y.gather(2, order),
        task.seen.gather(2, order),
    )
    return base, dict(zip(stops, train(base, *mine, stops), strict=True))


def soup(nets: Net, weights: Tensor | None = None) -> Net:
    """Average the parameters of the M companies on axis 1, with ``weights`` (R, M), default equal: (R, M, ...) to
    (R, 1, ...).

    Examples
    --------
    >>> import torch
    >>> from localma.replication.digits.merging import Net, soup
    >>> nets = Net(*(torch.arange(2.0).reshape(1, 2, 1, 1) for _ in range(4)))
    >>> soup(nets).W1.item(), soup(nets, torch.tensor([[0.25, 0.75]])).W1.item()
    (0.5, 0.75)
    """
    if weights is None:
        return nets.map(lambda p: p.mean(1, keepdim=True))
    return nets.map(lambda p: (weights[..., None, None] * p).sum(1, keepdim=True))


def greedy_soup(nets: Net, x: Tensor, y: Tensor) -> Net:
    """Start with the company that reads most of the sample rightly; add the others in this order, each if the soup then
    reads no fewer: (R, M, ...) to (R, 1, ...); Wortsman and others (2022).
    """

    def mixed(chosen):
        return soup(nets, (chosen / chosen.sum(1, keepdim=True)).to(nets.W1))

    def accuracy(net):
        return (net.logits(x[:, None]).argmax(-1) == y[:, None]).double().mean(-1)

    alone = accuracy(nets)
    order = alone.argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(alone).scatter(1, order[:, :1], 1.0)
    best = alone.max(1).values
    for m in order[:, 1:].T:
        trial = chosen.scatter(1, m[:, None], 1.0)
        found = accuracy(mixed(trial))[:, 0]
        better = found >= best
        chosen, best = torch.where(better[:, None], trial, chosen), torch.where(better, found, best)
    return mixed(chosen)


def fisher(nets: Net, x: Tensor, share: Tensor) -> Net:
    r"""The diagonal of the Fisher information of one observation, in closed form.

    It is the mean, over the inputs that ``share`` (..., n) marks and over labels drawn from the network itself, of the
    squared derivatives of the log-probability. For label k the derivative by logit l is :math:`1\{k = l\} - p_l`. Its
    variance under p goes down the layers, multiplied by squares. The chapter derives it, a test compares it with
    automatic differentiation.
    """
    h = torch.tanh(x @ nets.W1 + nets.b1)
    p = torch.softmax(h @ nets.W2 + nets.b2, -1)
    share = (share / share.sum(-1, keepdim=True))[..., None]
    top = share * p * (1 - p)
    # the variance of a row of W2 under p, around its mean: no cancellation where the network is sure
    spread = torch.einsum("...nk,...nhk->...nh", p, (nets.W2.unsqueeze(-3) - (p @ nets.W2.mT).unsqueeze(-1)) ** 2)
    hidden = share * (1 - h**2) ** 2 * spread
    return Net((x**2).mT @ hidden, hidden.sum(-2, keepdim=True), (h**2).mT @ top, top.sum(-2, keepdim=True))


def fisher_merge(nets: Net, information: Net) -> Net:
    """Average each parameter with the companies' Fisher information as weights: (R, M, ...) to (R, 1, ...); Matena and
    Raffel (2022).

    Examples
    --------
    >>> import torch
    >>> from localma.replication.digits.merging import Net, fisher_merge
    >>> nets = Net(*(torch.arange(2.0).reshape(1, 2, 1, 1) for _ in range(4)))
    >>> sure = Net(*(torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1) for _ in range(4)))
    >>> round(fisher_merge(nets, sure).W1.item(), 4)
    0.75
    """
    # a parameter of which nobody's data say anything gets the plain mean
    sure = information.map(lambda f: f + 1e-6)
    return Net(*((f * p).sum(1, keepdim=True) / f.sum(1, keepdim=True) for p, f in zip(nets, sure, strict=True)))


def permute(nets: Net, order: Tensor) -> Net:
    """The same functions with their hidden units in another order (..., h)."""
    columns, rows = order[..., None, :], order[..., None]
    return Net(
        nets.W1.gather(-1, columns.expand(nets.W1.shape)),
        nets.b1.gather(-1, columns),
        nets.W2.gather(-2, rows.expand(nets.W2.shape)),
        nets.b2,
    )


def align(nets: Net) -> Net:
    """Reorder the hidden units of each company so that its parameters come as near as they can to those of the first
    (Ainsworth and others, 2023).

    For one hidden layer the nearest order is an assignment problem, which :func:`scipy.optimize.linear_sum_assignment`
    solves exactly.
    """
    units = torch.cat([nets.W1, nets.b1, nets.W2.mT], -2)  # (R, M, d + 1 + K, h): all that belongs to a unit
    similar = units[:, :1].mT @ units  # (R, M, h, h): a unit of the first company by a unit of this one
    order = [[linear_sum_assignment(s, maximize=True)[1] for s in row] for row in similar.numpy()]
    return permute(nets, torch.as_tensor(np.array(order)))


def compare_methods(task: Task, nets: Net, start: Net, *, n: int = 200, seed: int = 0) -> tuple[pd.DataFrame, Tensor]:
    """Test accuracy of everything that merges four companies' parameters or averages their predictions, and of two ways
    to train a network of your own.

    LocalMA is the paper's here, without shrinkage, so that a table takes seconds.

    Parameters
    ----------
    task : Task
    nets : Net
        From :func:`companies`.
    start : Net
        Where the directly trained network starts: (R, 1, ...), the common base or :func:`draw`.
    n : int
        Images of your sample: for the greedy soup, for weights and for training.
    seed : int
        Repetition r trains its weight network with seed + r.

    Returns
    -------
    table : DataFrame
        Columns method (:data:`METHODS`), repetition, accuracy.
    weights : Tensor of shape (R, 597, 4)
        LocalMA's weights on the test images.
    """
    R = len(task.seen)
    loss, X, y = LOSSES["cross_entropy"], task.X[:, :n], task.y[:, :n]
    F, F_test = (nets.probabilities(x[:, None]).transpose(1, 2).double() for x in (X, task.X_test))  # (R, n, M, K)
    constant = torch.as_tensor(global_weights(F.numpy(), y.numpy(), loss))
    weights = fit_stack(X, F.float(), y.float(), loss, seeds=range(seed, seed + R)).weights(task.X_test).double()
    best = best_model(F.numpy(), y.numpy(), loss)

    def merge(nets):
        return fisher_merge(nets, fisher(nets, task.X_first[:, None], task.seen))

    def trained(net):
        return train(net, X[:, None], y[:, None], torch.ones(R, 1, n), (STEPS,))[0]

    aligned = align(nets)
    networks = {
        "soup": soup(nets),
        "greedy soup": greedy_soup(nets, X, y),
        "Fisher": merge(nets),
        "soup, aligned": soup(aligned),
        "Fisher, aligned": merge(aligned),
        "DirectModel": trained(start),
        "Fisher, then trained": trained(merge(nets)),
    }
    averages = {
        "BestModel": F_test[torch.arange(R), :, best],
        "EWMA": F_test.mean(2),
        "GW": (constant[:, None, :, None] * F_test).sum(2),
        "LocalMA": (weights[..., None] * F_test).sum(2),
        "LocalMA, one asked": F_test.take_along_dim(weights.argmax(-1)[..., None, None], 2)[:, :, 0],
    }
    predictions = averages | {name: net.logits(task.X_test[:, None])[:, 0] for name, net in networks.items()}
    accuracy = {name: (predictions[name].argmax(-1) == task.y_test).double().mean(1).tolist() for name in METHODS}
    rows = [(name, r, value) for name, values in accuracy.items() for r, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["method", "repetition", "accuracy"]), weights


def neighbours() -> pd.DataFrame:
    """Works around localized model averaging: what they combine, whether the weights depend on the input, what they
    need.

    Returns
    -------
    DataFrame
        Columns name (short), work (its title), year, combines ("predictions", "features", "parameters" or "language
        models"), local ("no", "chosen", "yes"), access ("calls", "inside" or "training"), needs, idea, and checked:
        "yes" where the row was held against the work's abstract or documentation or the work is treated elsewhere in
        the course, "no" where it stands as in a list of pointers.

    Examples
    --------
    >>> from localma.replication.digits.merging import neighbours
    >>> neighbours().set_index("name").loc["LocalMA", ["combines", "local", "access"]].tolist()
    ['predictions', 'yes', 'calls']
    """
    return load_paper("neighbours.csv")
