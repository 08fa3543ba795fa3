"""What the engine's speed is compared with computes the same."""

import bench
import numpy as np
import torch

from localma.engine import Training, fit_stack
from localma.losses import LOSSES


def test_the_benchmark_sees_what_a_program_takes():
    (_, without), (_, held) = (bench._child(f"x = b'1' * {size} * 2**20") for size in (0, 64))
    assert 60 < held - without < 70


def test_the_plain_loop_of_the_benchmark_trains_the_same_networks():
    x, f, y = bench._sample(100, 3)
    loop = bench.plain_loop(x, f, y, width=16, seeds=range(3))
    fit = fit_stack(x, f, y, LOSSES["squared"], seeds=range(3), training=Training(steps=bench.STEPS), standardize=False)
    stacked = fit.weights(x)
    for b, network in enumerate(loop):
        with torch.no_grad():
            alone = torch.softmax(network(x[b]), 1)
        np.testing.assert_allclose(stacked[b], alone, atol=1e-3)  # float32, 100 steps
