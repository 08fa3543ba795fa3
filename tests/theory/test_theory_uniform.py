"""The uniform law's walk: its exact supremum against functions that attain it, and its schedule."""

import numpy as np
import pytest

from localma.replication.theory.walks import optimality, uniform


@pytest.mark.parametrize("n", [100, 10_000])
def test_no_prediction_beats_the_supremum_and_one_attains_it(n):
    rng = np.random.default_rng(n)
    counts = rng.multinomial(n, np.full(len(uniform.WORLD), 1 / len(uniform.WORLD)))
    top = uniform.supremum(counts)
    assert (abs(uniform.gaps(rng.uniform(-1, 1, (500, len(counts))), counts)) < top).all()
    often = counts / n > 1 / len(counts)
    best, worst = np.clip(uniform.MU, -1, 1), -np.where(uniform.MU > 0, 1.0, -1.0)
    ends = [uniform.gaps(np.where(often, *pair), counts) for pair in ((worst, best), (best, worst))]
    assert np.isclose(max(map(abs, ends)), top)


def test_adversaries_lie_between_where_they_start_and_the_supremum():
    found = uniform.measure("width 8", 400, 2, np.random.default_rng(0))
    assert (found["fitted"] <= found["path"]).all()
    assert (found["path"] < found["adversary"]).all()
    assert (found["adversary"] < found["all weights"]).all()


def test_the_network_grows_more_slowly_than_the_sample():
    widths = np.array([optimality.schedule(n)[0] for n in (100, 10_000, 1_000_000)])
    assert (np.diff(widths) > 0).all()
    assert widths[-1] == 200
    assert (widths < np.array([100, 10_000, 1_000_000]) / 5).all()
