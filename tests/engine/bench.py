"""Speed of the stacked engine, told as ratios that one run measured on one machine."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import timeit
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, RidgeCV

from localma import GlobalMA, LocalMA
from localma.engine import Mlp, Training, automatic_penalty, fit_stack, mlp
from localma.engine.loop import one_cycle
from localma.losses import LOSSES
from localma.replication.simulation.scenarios import (
    CELLS,
    CHUNK,
    SIZES,
    TEST_SIZE,
    Cell,
    candidate_models,
    draw,
    true_mean,
)

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
    _, *times = timeit.repeat(function, number=1, repeat=repeats + 1)  # the first pays for allocation and set-up
    return statistics.median(times)


def _sample(n: int, replications: int, M: int = 3, d: int = 5):
    X, F, y = draw(CELLS[0], replications, np.random.default_rng(0), n)
    rng = np.random.default_rng(1)
    F, X = (
        np.concatenate([a, rng.standard_normal((replications, n, max(0, k - a.shape[2]))) * scale], 2)[..., :k]
        for a, k, scale in ((F, M, 10**0.5), (X, d, 1))
    )
    return [torch.as_tensor(a, dtype=torch.float32) for a in (X, F, y)]


def flops(n: int, d: int, width: int, M: int) -> float:
    """Multiplications and additions in the products of one fit: forward, and twice that backward (less the gradient of
    the inputs).
    """
    return STEPS * 2.0 * n * (2 * d * width + 3 * width * M)


def _engine(n: int, replications: int, repeats: int, width: int = 16, M: int = 3, d: int = 5) -> float:
    x, f, y = _sample(n, replications, M, d)
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


def _engine_against_a_loop(quick: bool, repeats: int, ceiling: float) -> None:
    threads = torch.get_num_threads()
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


def _cost_of_doubling(repeats: int) -> None:
    print("what doubling costs, milliseconds per fit (for replications: seconds in all)")
    base = {"n": 300, "replications": CHUNK, "width": 16, "M": 3, "d": 5}
    reference = _engine(**base, repeats=repeats)
    print(f"{'base':>14} {1e3 * reference:8.3f}")
    for name in base:
        cost = _engine(**(base | {name: 2 * base[name]}), repeats=repeats)
        if name == "replications":
            print(f"{name + ' x 2':>14} {2 * CHUNK * cost:8.3f}   ratio {2 * cost / reference:.2f} in all")
        else:
            print(f"{name + ' x 2':>14} {1e3 * cost:8.3f}   ratio {cost / reference:.2f}")


#: What one would try instead, given the models' answers as columns beside the covariates or alone: what scikit-learn's
#: StackingRegressor(passthrough=True) gives its final estimator.
RIVALS = {
    "least squares on F": (LinearRegression, False),
    "ridge on [F, X]": (RidgeCV, True),
    "boosting on [F, X]": (HistGradientBoostingRegressor, True),
}
if find_spec("lightgbm"):
    RIVALS["LightGBM on [F, X]"] = (partial(import_module("lightgbm").LGBMRegressor, verbose=-1), True)


def _fits_and_risks(quick: bool) -> None:
    """The default fit beside its rivals: seconds, and mean squared distance of predictions from the mean."""
    print("\na default fit, milliseconds / risk, means over samples; what one would try instead, as multiples of both")
    names = ["LocalMA()", "GlobalMA()", *RIVALS]
    print(f"{'world':>8} {'n':>5} " + " ".join(f"{name:>20}" for name in names))
    for scenario, setting in ((1, "S1"), (1, "S2"), (2, "-")):
        for n in (100, 300) if quick else (100, 300, 1000):
            cell, rng = Cell(scenario, setting, n), np.random.default_rng(0)
            X, F, y = draw(cell, 2 if quick else 10, rng)
            new = rng.standard_normal((TEST_SIZE, 5))
            G, mu = candidate_models(new), true_mean(new, cell)
            found = {name: np.zeros(2) for name in names}
            for x, f, target in zip(X, F, y, strict=True):
                for name in names:
                    start = time.perf_counter()
                    if name in RIVALS:
                        regressor, passthrough = RIVALS[name]
                        both = [np.hstack([a, b]) if passthrough else a for a, b in ((f, x), (G, new))]
                        fit = regressor().fit(both[0], target)
                        seconds, answer = time.perf_counter() - start, fit.predict(both[1])
                    else:
                        average = LocalMA(random_state=0, progress=False) if name == "LocalMA()" else GlobalMA()
                        fit = average.fit(x, target, F=f)
                        seconds, answer = time.perf_counter() - start, fit.predict(new, F=G)
                    found[name] += np.array([1e3 * seconds, np.square(answer - mu).mean()]) / len(y)
            ours = found.pop("LocalMA()")
            row = f"{f'{ours[0]:.1f} / {ours[1]:.3f}':>20} " + " ".join(
                f"{f'{ms:.3f} / {risk:.2f}':>20}" for ms, risk in (both / ours for both in found.values())
            )
            print(f"{setting if scenario == 1 else 'Sc. 2':>8} {n:5d} {row}")


#: CPU seconds and peak memory (MiB) of a program, in a process of its own. Linux hands its parent's peak to a child,
#: but not in /proc.
CHILD = """
import pathlib, re, resource, time
{}
status = pathlib.Path("/proc/self/status")
peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 2**10 if status.exists() else (
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
print(time.process_time(), peak)
"""

FIT = """
import numpy as np
from localma import LocalMA
rng = np.random.default_rng(0)
X = rng.standard_normal(({n}, 10), dtype=np.float32)
F = X[:, :5] + rng.standard_normal(({n}, 5), dtype=np.float32)
y = F[:, 0] + rng.standard_normal({n}, dtype=np.float32)
if {fit}:
    LocalMA(random_state=0, progress=False).fit(X, y, F=F).predict(X, F=F)
"""


def _child(program: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(program)], capture_output=True, text=True, check=True, env=os.environ
    )
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


def _start_up_and_memory(quick: bool) -> None:
    base, _ = _child("import torch")
    print("\nstart-up, CPU seconds, and as a multiple of torch's import")
    for name, program in (
        ("import torch", "import torch"),
        ("... and sklearn.base", "import torch, sklearn.base"),
        ("import localma", "import localma"),
        ("one fit, n = 300", FIT.format(n=300, fit=True)),
    ):
        seconds, _ = _child(program)
        print(f"{name:>22} {seconds:6.2f}   ratio {seconds / base:.2f}")
    print("\npeak memory of fit and predict above that of the data (float32, d = 10, M = 5), MiB")
    for n in (10**4, 10**5) if quick else (10**5, 10**6, 10**7):
        (_, without), (_, peak) = _child(FIT.format(n=n, fit=False)), _child(FIT.format(n=n, fit=True))
        data = n * 16 * 4 / 2**20
        print(f"{n:>10,} {peak - without:8.0f}   {(peak - without) / data:.1f} times the data's {data:.0f}")


def run(quick: bool = False) -> None:
    """Print all tables."""
    repeats = 2 if quick else 5
    print(f"{torch.get_num_threads()} threads, {STEPS} full-batch Adam steps, width 16, M = 3, d = 5\n")
    a = torch.randn(2048, 2048)
    ceiling = 2 * 2048**3 / _median_seconds(lambda: a @ a, 5)
    print(f"large matrix product (2048): {ceiling / 1e9:.0f} GFLOP/s\n")
    _engine_against_a_loop(quick, repeats, ceiling)
    _cost_of_doubling(repeats)
    _fits_and_risks(quick)
    _start_up_and_memory(quick)


if __name__ == "__main__":
    run(quick="--quick" in sys.argv)
