"""The theory part's measurements."""

import numpy as np
import pandas as pd
import pytest

from localma.replication.theory import walks


def test_each_walk_measures_what_it_says():
    """The contract of a walk, on its smallest quick cell: one array entry for each replication, all finite."""
    for name in walks.names():
        cells = walks.walk(name).CELLS
        assert set(cells) == {"quick", "full"}
        case, size, _ = min(cells["quick"], key=lambda cell: cell[1])
        found = walks.measure_cell(name, case, size, 2, seed=0)
        assert found
        for quantity, values in found.items():
            assert values.shape == (2,), f"{name}: {quantity}"
            assert np.isfinite(values).all(), f"{name}: {quantity}"
        again = walks.measure_cell(name, case, size, 2, seed=0)
        assert all(np.array_equal(found[q], again[q]) for q in found), f"{name}: same seed, other numbers"


def test_every_cell_of_every_walk_has_a_key_of_its_own():
    cells = [cell for name in walks.names() for cell in walks.walk(name).CELLS["full"]]
    assert len(walks.Theory(full=True).cells({})) == len(cells)


def test_walks_run_and_are_written(tmp_path, monkeypatch):
    """The command on one small walk, a case with a name that is no file's among its cells: the table of the live measurement, to six digits."""
    monkeypatch.setattr(walks, "names", lambda: ["tails"])
    case = walks.walk("tails").CELLS["quick"][0][0]
    monkeypatch.setattr(
        walks.walk("tails"), "measure", lambda case, size, replications, rng: {"mean": rng.normal(size=replications)}
    )
    monkeypatch.setattr(walks.walk("tails"), "CELLS", {"quick": [(case, 10, 3), ("a/b, c", 20, 3)]})
    walks.Theory.run(out=tmp_path)
    written = pd.read_csv(tmp_path / "theory.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(written, walks.table("tails"), rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theory.csv", "theory.json"]


def test_an_unknown_walk_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of .*'optimality'.*, but is 'nowhere'"):
        walks.table("nowhere")


def test_fitted_slope_covers_the_true_one():
    """Power laws with known noise: the 95 % interval misses in about 5 % of 400 draws (at most 9 %: an error probability below 1 in 2,000)."""
    rng, size = np.random.default_rng(0), np.array([100.0, 300, 1000, 3000, 10000])
    truth = 2 * size**-0.5
    missed = 0
    for _ in range(400):
        fit = walks.fitted_slope(size, truth * (1 + 0.02 * rng.standard_normal(5)), 0.02 * truth)
        missed += not fit.low <= -0.5 <= fit.high
    assert missed <= 36


def test_fitted_slope_says_when_a_line_does_not_fit():
    size = np.array([100.0, 300, 1000, 3000])
    bent = walks.fitted_slope(size, 1 / size + 0.002, 1e-5 / size)
    assert bent.misfit > 100
    assert bent.high - bent.low > 0.1
    with pytest.raises(ValueError, match="at least 3"):
        walks.fitted_slope([1, 2], [1, 2], [1, 1])
