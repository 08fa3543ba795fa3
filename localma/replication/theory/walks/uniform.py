"""Condition 6 at work: how far apart the in-sample and the out-of-sample risk of one network can be, and that of the
worst.

A finite world: x is one of 1600 points of the square, each as likely as the other, so that R is a mean and nothing is
estimated. Models and mean are those of :mod:`localma.replication.theory.walks.optimality`. The largest
:math:`|R_n - R|` over a class cannot be computed; networks that were trained to make it large bound it from below, and
the same quantity over *all* weight functions, which is exact, from above. In ``width 8`` the class is the same for all
n, in ``growing`` its networks grow. In ``shift`` the sample comes from a part of the square, and new points from all of
it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from localma import theory
from localma.engine import one_thread
from localma.engine.loop import one_cycle
from localma.engine.networks import Mlp, initial_values
from localma.engine.stacks import MLPStack
from localma.replication.theory.walks import optimality

BOX = 5.0  #: no parameter of a network of the class is larger
WORLD = optimality.grid(40)
MU = optimality.lipschitz_mean(WORLD)
EDGE = -0.5  # the sample of the shifted case has x_1 below it
STEPS, PEAK = 300, 0.1  # of adversaries
_SIZES = (100, 400, 1600, 6400, 25_600, 102_400)
CELLS = {
    "quick": [("width 8", n, 3) for n in _SIZES[::2]] + [("shift", n, 6) for n in _SIZES[:3]],
    "full": [("width 8", n, 16) for n in _SIZES]
    + [("growing", n, 6) for n in _SIZES[:4]]
    + [("shift", n, r) for n, r in zip(_SIZES[:5], (40, 24, 12, 6, 4), strict=True)],
}


def start(H: int, networks: int, rng: np.random.Generator, *, random_output: bool) -> tuple[torch.Tensor, list]:
    """Parameters (networks, P) of one hidden layer of H units, and the layers' sizes: as the package draws them, or the
    output layer at random, too.
    """
    sizes = Mlp(H, 1).sizes(2, 2)
    values = torch.stack(
        [initial_values(sizes, torch.Generator().manual_seed(int(s))) for s in rng.integers(2**31, size=networks)]
    )
    if random_output:
        values[:, -2 * (H + 1) :] = torch.as_tensor(rng.uniform(-1, 1, (networks, 2 * (H + 1))))
    return values, sizes


def follow(values, sizes, objective: Callable, steps: int, *, peak: float = 0.05) -> np.ndarray:
    """Lower ``objective``, tensors (networks, points) -> (networks,), by Adam inside the box, in one cycle with the
    largest learning rate ``peak``: the predictions along the path, (1 + steps // 10, networks, points).
    """
    stack, share, path = MLPStack(values, sizes), one_cycle(steps), []
    optimizer = torch.optim.Adam(stack.parameters, lr=peak, fused=True)
    points = torch.as_tensor(WORLD.T).repeat(len(values), 1, 1)
    with one_thread():
        for step in range(steps + 1):
            logits = stack(points)
            prediction = torch.tanh((logits[:, 0] - logits[:, 1]) / 2)  # w_1 - w_2, since the models are 1 and -1
            if step % 10 == 0:
                path.append(prediction.detach().numpy())
            if step == steps:
                break
            optimizer.param_groups[0]["lr"] = peak * share(step + 1)
            optimizer.zero_grad()
            objective(prediction).sum().backward()
            optimizer.step()
            with torch.no_grad():
                for p in stack.parameters:
                    p.clamp_(-BOX, BOX)
    return np.array(path)


def gaps(prediction: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """R_n - R for predictions (..., 1600) and how often the sample has each point, same shape or broadcast; (...)."""
    share = counts / counts.sum(-1, keepdims=True) - 1 / len(WORLD)
    return (share * np.square(prediction - MU)).sum(-1)


def supremum(counts: np.ndarray) -> np.ndarray:
    """The largest :math:`|R_n - R|` over all weight functions, (...), exact: at each point the best or the worst
    prediction, by whether the sample has the point too rarely or too often.
    """
    share = counts / counts.sum(-1, keepdims=True) - 1 / len(WORLD)
    worst, best = (abs(MU) + 1) ** 2, np.maximum(abs(MU) - 1, 0) ** 2
    return np.maximum(*(np.where(s > 0, s * worst, s * best).sum(-1) for s in (share, -share)))


def measure(case: str, size: int, replications: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The largest :math:`|R_n - R|` of random networks, of a fitted network's path and its end, of adversaries, of all
    weights; or the ratios of ``shift``.
    """
    if case == "shift":
        return _shifted(size, replications, rng)
    H = 8 if case == "width 8" else optimality.schedule(size)[0]
    counts = rng.multinomial(size, np.full(len(WORLD), 1 / len(WORLD)), replications)
    # the mean of c normal variables has variance 1 / c, so the empirical loss needs one number for each point, whatever
    # n
    noise = np.sqrt(counts) * rng.standard_normal(counts.shape)
    mu, c, e = (torch.as_tensor(np.array(a, dtype=float)) for a in (MU, counts / size, noise / size))

    def empirical_loss(f):
        return (c * (f - mu) ** 2 - 2 * e * (f - mu)).sum(-1)

    path = gaps(follow(*start(H, replications, rng, random_output=False), empirical_loss, 200), counts)
    found = {"path": abs(path).max(0), "fitted": abs(path[-1]), "all weights": supremum(counts)}

    found["adversary"] = np.zeros(replications)
    for sign in (1, -1, 1, -1):  # both directions, two starts each

        def against(f, sign=sign):
            return sign * ((c - 1 / len(WORLD)) * (f - mu) ** 2).sum(-1)

        path = gaps(follow(*start(H, replications, rng, random_output=True), against, STEPS, peak=PEAK), counts)
        found["adversary"] = np.maximum(found["adversary"], abs(path).max(0))

    values, sizes = start(H, 100, rng, random_output=True)
    values = torch.as_tensor(rng.uniform(-BOX, BOX, values.shape))
    drawn = follow(values, sizes, lambda f: 0 * f.sum(-1), 0)[0]
    found["random"] = np.array([abs(gaps(drawn, row)).max() for row in counts])
    return found


def _shifted(n: int, replications: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    X = rng.uniform(-1, [EDGE, 1], (replications, n, 2))
    F, mu = optimality.lipschitz_models(X), optimality.lipschitz_mean(X)
    seeds = rng.integers(2**31, size=replications).tolist()
    predict = optimality.fit(X, F, mu + rng.standard_normal(mu.shape), seeds, *optimality.schedule(n))

    def ratio(X):
        F, mu = optimality.lipschitz_models(X), optimality.lipschitz_mean(X)
        return theory.in_sample_risk("squared", mu, predict(X, F)) / optimality.benchmark(F, mu)[1]

    everywhere = np.broadcast_to(optimality.grid(), (replications, 10_000, 2)).copy()
    return {
        "ratio": ratio(X),
        "ratio, same part": ratio((everywhere - [1, 0]) * [(1 + EDGE) / 2, 1] + [EDGE, 0]),
        "ratio, new points": ratio(everywhere),
    }
