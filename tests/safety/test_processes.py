"""Threads and forked processes: the same numbers, nothing that hangs, everything left as it was."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from localma import DirectModel, EqualWeights, LocalMA, Training, load

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
F = rng.gamma(3, size=(60, 3))
y = np.where(X[:, 0] > 0, F[:, 0], F[:, 1]) + rng.random(60)

pytestmark = pytest.mark.filterwarnings("ignore:the network is not trained to its end")


def dropping(M):
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, M))


def local(seed):
    average = LocalMA(network=dropping, training=Training(steps=30), progress=False, random_state=seed)
    return average.fit(X, y, F=F).weights(X)


def direct(seed):
    torch.manual_seed(0)  # of the module's first values
    learner = dropping(1)
    return DirectModel(learner, training=Training(steps=30), progress=False, random_state=seed).fit(X, y).predict(X)


def test_fits_in_threads_are_those_one_after_the_other():
    alone = [local(seed) for seed in range(12)]
    before = torch.manual_seed(5).get_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(local, range(12)))
    np.testing.assert_array_equal(together, alone)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_direct_model_leaves_the_random_state():
    model = DirectModel(dropping(1), training=Training(steps=30), progress=False, random_state=0)
    before = torch.manual_seed(5).get_state()
    alone = model.fit(X, y).predict(X)
    with ThreadPoolExecutor(4) as pool:
        for again in pool.map(lambda _: DirectModel(**model.get_params(deep=False)).fit(X, y).predict(X), range(8)):
            np.testing.assert_array_equal(again, alone)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_candidate_that_drops_out_is_asked_by_threads_and_handed_back_in_train_mode():
    model = nn.Sequential(
        nn.Linear(3, 200, dtype=torch.float64), nn.Dropout(0.5), nn.Linear(200, 1, dtype=torch.float64)
    )
    model.train()
    average = EqualWeights([model, lambda X: X[:, 0]]).fit(X, y)
    alone = average.predict(X)
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: average.predict(X), range(1000)):
            np.testing.assert_array_equal(answer, alone)
    assert all(part.training for part in model.modules())


def test_loading_draws_no_random_numbers(tmp_path):
    LocalMA(network=dropping, training=Training(steps=5), progress=False).fit(X, y, F=F).save(tmp_path / "a")
    before = torch.manual_seed(5).get_state()
    load(tmp_path / "a", network=dropping)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_predicts_and_fits(tmp_path):
    """The parent's threads are gone there; torch would wait for them for ever."""
    code = """
import os, signal, sys, warnings
import numpy as np, torch
from localma import LocalMA, Training, mlp
warnings.simplefilter("ignore")
torch.set_num_threads(2)
rng = np.random.default_rng(0)
X = rng.normal(size=(3000, 3)); y = np.where(X[:, 0] > 0, X[:, 1], X[:, 2])
F = np.stack([X[:, 1], X[:, 2]], 1)
large = LocalMA(network=lambda M: mlp(3, M, width=256, depth=2), training=Training(steps=5), progress=False)
large.fit(X, y, F=F)
told = large.predict(X, F=F)
if os.fork() == 0:
    signal.alarm(60)
    same = np.allclose(large.predict(X, F=F), told)
    LocalMA(progress=False, shrinkage=0.1, training=Training(steps=5)).fit(X, y, F=F)
    os._exit(0 if same and torch.get_num_threads() == 1 else 1)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    import subprocess

    variables = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
