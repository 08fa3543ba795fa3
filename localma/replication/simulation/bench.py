"""Speed of the stacked engine, told as ratios that one run measured on one machine."""

from __future__ import annotations

import resource
import statistics
import sys
import time

import numpy as np
import torch

from localma.engine import Mlp, Training, automatic_penalty, fit_stack, mlp
from localma.engine.loop import one_cycle
from localma.losses import LOSSES
from localma.replication.simulation.scenarios import CELLS, CHUNK, SIZES, draw

STEPS = 100


def plain_loop(x: torch.Tensor, f: torch.Tensor, y: torch.Tensor, *, width: int, seeds) -> list[torch.nn.Module]:
    """What one would write first: one module and one Adam per replication; architecture, steps, schedule and data as in
    the stack.
    """
    networks = []
    for b in range(len(y)):
        network = mlp(x.shape[2], f.shape[2], width=width, random_state=int(seeds[b]))
        optimizer = torch.optim.Adam(network.parameters(), lr=Training().resolve(x.shape[1]).learning_rate)
        unit = LOSSES["squared"].scale(f[b].T, y[b])
        share = one_cycle(STEPS)
        weights = [p for p in network.parameters() if p.ndim == 2]
        penalty = automatic_penalty(x.shape[1])
        for step in range(1, STEPS + 1):
            optimizer.param_groups[0]["lr"] = Training().resolve(x.shape[1]).learning_rate * share(step)
            w = torch.softmax(network(x[b]), 1)
            loss = ((w * f[b]).sum(1) - y[b]).square().mean() / unit + penalty * sum(p.square().sum() for p in weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        networks.append(network)
    return networks


def _median_seconds(function, repeats: int) -> float:
    function()  # the first call pays for allocation and set-up
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _sample(n: int, replications: int, M: int = 3):
    X, F, y = draw(CELLS[0], replications, np.random.default_rng(0), n)
    F = np.concatenate([F, np.random.default_rng(1).standard_normal((replications, n, max(0, M - 3))) * 10**0.5], 2)[
        ..., :M
    ]
    return [torch.as_tensor(a, dtype=torch.float32) for a in (X, F, y)]


def flops(n: int, d: int, width: int, M: int) -> float:
    """Multiplications and additions in the products of one fit: forward, and twice that backward (less the gradient of
    the inputs).
    """
    return STEPS * 2.0 * n * (2 * d * width + 3 * width * M)


def _engine(n: int, replications: int, repeats: int, width: int = 16, M: int = 3) -> float:
    x, f, y = _sample(n, replications, M)
    seeds = range(replications)
    return (
        _median_seconds(
            lambda: fit_stack(
                x, f, y, LOSSES["squared"], seeds=seeds, network=Mlp(width), training=Training(steps=STEPS)
            ),
            repeats,
        )
        / replications
    )


def run(quick: bool = False) -> None:
    """Print all tables."""
    repeats = 2 if quick else 5
    threads = torch.get_num_threads()
    print(f"{threads} threads, {STEPS} full-batch Adam steps, width 16, M = 3, d = 5\n")
    a = torch.randn(2048, 2048)
    ceiling = 2 * 2048**3 / _median_seconds(lambda: a @ a, 5)
    print(f"large matrix product (2048): {ceiling / 1e9:.0f} GFLOP/s\n")

    print("engine against a plain loop (one module and one Adam per replication), milliseconds per fit")
    print(f"{'n':>5} {'loop':>8} {'engine':>8} {'ratio':>7} {'GFLOP/s':>9} {'of product':>11}")
    total = 0.0
    for n in SIZES:
        x, f, y = _sample(n, 8 if quick else 24)
        torch.set_num_threads(1)  # the better choice for products this small: the loop is not made to look slow
        loop = _median_seconds(lambda x=x, f=f, y=y: plain_loop(x, f, y, width=16, seeds=range(len(y))), 2) / len(y)
        torch.set_num_threads(threads)
        engine = _engine(n, CHUNK, repeats)
        rate = flops(n, 5, 16, 3) / engine
        total += engine
        print(
            f"{n:5d} {1e3 * loop:8.2f} {1e3 * engine:8.3f} {loop / engine:7.1f} "
            f"{rate / 1e9:9.1f} {rate / ceiling:10.1%}"
        )
    print(f"8,000 fits of Tables 1-3 at this speed: {2000 * total:.0f} s\n")

    print("what doubling costs, milliseconds per fit (for replications: seconds in all)")
    base = {"n": 300, "replications": CHUNK, "width": 16, "M": 3}
    reference = _engine(**base, repeats=repeats)
    print(f"{'base':>14} {1e3 * reference:8.3f}")
    for name in base:
        cost = _engine(**(base | {name: 2 * base[name]}), repeats=repeats)
        if name == "replications":
            print(f"{name + ' x 2':>14} {2 * CHUNK * cost:8.3f}   ratio {2 * cost / reference:.2f} in all")
        else:
            print(f"{name + ' x 2':>14} {1e3 * cost:8.3f}   ratio {cost / reference:.2f}")
    unit = 2**20 if sys.platform != "darwin" else 2**30
    print(f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:.2f} GiB")


if __name__ == "__main__":
    run(quick="--quick" in sys.argv)
