"""One array, many layouts: the same numbers as a plain copy, or a sentence that names the row."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from localma import DirectModel, EqualWeights, GlobalMA, LocalMA, Mlp, Training
from tests.kinds import AVERAGES, make

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
F = rng.gamma(3, size=(60, 3))
y = np.where(X[:, 0] > 0, F[:, 0], F[:, 1]) + rng.random(60)
TORCH = nn.Linear(3, 1, dtype=torch.float64)
MODELS = [lambda X: np.asarray(X, float)[:, 1], TORCH]

QUICK = {"training": Training(steps=5), "shrinkage": 0.1, "members": 1, "penalty": 0.1}  # the last of gates


def frame(a):
    return pd.DataFrame(a) if a.ndim == 2 else pd.Series(a)


LAYOUTS = {
    "rows reversed": lambda a: a[::-1].copy()[::-1],
    "columns reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "every second": lambda a: np.repeat(a, 2, 0)[::2],
    "Fortran": np.asfortranarray,
    "big-endian": lambda a: a.astype(">f8"),
    "long double": lambda a: a.astype(np.longdouble),
    "objects": lambda a: a.astype(object),
    "not writable": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
    "nothing masked": lambda a: np.ma.masked_array(a, np.zeros(a.shape, bool)),
    "frame": frame,
    "frame reversed": lambda a: frame(a[::-1].copy()).iloc[::-1].set_axis(range(len(a))),
    "tensor": torch.tensor,
    "lists": lambda a: a.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", AVERAGES)
def test_the_layout_of_arrays_changes_nothing(kind, layout):
    change = LAYOUTS[layout]
    plain = make(kind, **QUICK).fit(X, y, F=F)
    other = make(kind, **QUICK).fit(change(X), change(y), F=change(F))
    np.testing.assert_array_equal(other.weights(change(X)), plain.weights(X))
    np.testing.assert_array_equal(other.predict(change(X), F=change(F)), plain.predict(X, F=F))
    assert other.score(change(X), change(y), F=change(F)) == plain.score(X, y, F=F)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_models_and_direct_ones_read_any_layout(layout):
    change = LAYOUTS[layout]
    as_numbers = layout in ("objects", "lists")  # a model gets X as it came
    if not as_numbers:
        asked = EqualWeights(MODELS, clip=False).fit(change(X), y).predict(change(X))
        np.testing.assert_array_equal(asked, EqualWeights(MODELS, clip=False).fit(X, y).predict(X))
    quick = {"training": Training(steps=5), "random_state": 0, "progress": False}
    direct = DirectModel(nn.Linear(3, 1), **quick)
    torch.manual_seed(0)
    np.testing.assert_array_equal(
        direct.fit(change(X), change(y)).predict(change(X)), DirectModel(direct.learner, **quick).fit(X, y).predict(X)
    )


def masked(a):
    return np.ma.masked_array(a, np.arange(a.size).reshape(a.shape) == 7 * a[0].size)


@pytest.mark.parametrize("name", ["X", "y", "F"])
@pytest.mark.parametrize("kind", [GlobalMA, LocalMA])
def test_a_mask_is_never_lost(kind, name):
    given = {"X": X, "y": y, "F": F}
    spoilt = given | {name: masked(given[name])}
    with pytest.raises(ValueError, match=f"{name} is masked in row 7: drop such rows"):
        make(kind, **QUICK).fit(**spoilt)
    average = make(kind, **QUICK).fit(X, y, F=F)
    with pytest.raises(ValueError, match=f"{name} is masked in row 7"):
        average.score(spoilt["X"], spoilt["y"], F=spoilt["F"])
    if name == "X" and kind is LocalMA:
        with pytest.raises(ValueError, match="X is masked in row 7"):
            average.weights(masked(X))


def test_half_precision_is_added_up_in_single():
    small = X.astype(np.float16)
    average = make(LocalMA, **QUICK).fit(small, y, F=F)
    np.testing.assert_array_equal(
        average.weights(small),
        make(LocalMA, **QUICK).fit(small.astype(np.float32), y, F=F).weights(X.astype(np.float16)),
    )


@pytest.mark.parametrize("value", [-3.4e38, 1e60])
@pytest.mark.parametrize("network", [None, Mlp(depth=0)])
def test_what_a_network_cannot_hold_is_named_by_its_row(value, network):
    far = X.copy()
    far[7, 1] = value
    average = make(LocalMA, network=network, clip=False, **QUICK).fit(X, y, F=F)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of the cast
        with pytest.raises(ValueError, match="the weight network gives no numbers for 1 of 60 rows, row 7 of X first"):
            average.predict(far, F=F)
        with pytest.raises(ValueError, match="the learner gives no numbers for 1 of 60 rows, row 7 of X first"):
            DirectModel(nn.Linear(3, 1), training=Training(steps=5), progress=False).fit(X, y).predict(far)


@pytest.mark.parametrize("unit", [1e155, 1e-155])
@pytest.mark.parametrize("kind", AVERAGES)
def test_numbers_without_a_square_are_named_before_anything_is_computed(kind, unit):
    for name, given in (("y", (X, y * unit, F)), ("F", (X, y, F * unit))):
        with pytest.raises(ValueError, match=rf"{name}\[.*\] = .* has no square in floating point"):
            make(kind, **QUICK).fit(given[0], given[1], F=given[2])
    small = np.where(np.arange(60) == 3, 1e-200, y)  # beside others it is as good as zero
    assert np.isfinite(make(kind, **QUICK).fit(X, small, F=F).predict(X, F=F)).all()
    if "features" in kind().get_params():
        with pytest.raises(ValueError, match=r"X\[.*\] = .* has no square"):
            make(kind, **QUICK).fit(X * unit, y, F=F)


class Double(nn.Module):
    def __init__(self, inplace):
        super().__init__()
        self.inplace = inplace

    def forward(self, x):
        return x.mul_(2) if self.inplace else 2 * x


@pytest.mark.filterwarnings("ignore:the network is not trained to its end")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_that_begins_in_place_changes_no_data(dtype):
    given, found = X.astype(dtype), []
    quick = {"training": Training(steps=5, dtype=dtype), "random_state": 0, "progress": False}
    for inplace in (False, True):
        torch.manual_seed(0)
        body = nn.Sequential(Double(inplace), nn.Linear(3, 3))
        local = LocalMA(network=body, **quick).fit(given, y, F=F)
        direct = DirectModel(nn.Sequential(Double(inplace), nn.Linear(3, 1)), **quick).fit(given, y)
        found.append((local.weights(given), direct.predict(given)))
        np.testing.assert_array_equal(given, X.astype(dtype))
    for plain, own in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, own)


def test_the_page_counts_the_layouts():
    page = (Path(__file__).parents[2] / "book" / "reference" / "promises.md").read_text(encoding="utf-8")
    assert f"each of {len(LAYOUTS)} layouts" in page
