"""Samples that are walked block by block, and lie on disk: the same results, and no copy of the whole."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from localma import LOSSES, GlobalMA, LocalMA, Training, on_disk, tweedie
from localma.engine import rows
from localma.engine.devices import resolve_dtype

N = 1500


def sample(loss="squared"):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, 3)).astype(np.float32)
    F = rng.uniform(0.1, 0.9, (N, 4)).astype(np.float32)
    mean = np.where(X[:, 0] > 0, F[:, 0], F[:, 1])
    if loss == "cross_entropy":
        return X, (rng.uniform(size=N) < mean).astype(int), np.stack([1 - F, F], -1)
    return X, rng.gamma(5, mean / 5).astype(np.float32), F


@pytest.mark.parametrize("loss", [*LOSSES, tweedie(1.5)])
def test_blocks_add_up(loss, monkeypatch):
    _, y, F = sample(loss)
    for share in (None, np.random.default_rng(1).uniform(0.5, 2, N)):
        whole = GlobalMA(loss=loss).fit(F, y, F=F, sample_weight=share)
        monkeypatch.setattr(rows, "ROWS", 400)
        parts = GlobalMA(loss=loss).fit(F, y, F=F, sample_weight=share)
        np.testing.assert_allclose(parts.weights_, whole.weights_, atol=1e-6)
        answer = parts.predict(F, F=F)
        monkeypatch.undo()
        np.testing.assert_allclose(answer, whole.predict(F, F=F), atol=1e-6)


def test_of_a_loss_of_ones_own_the_whole_sample_says_whether_it_is_a_parabola(monkeypatch):
    """Ten responses beyond a kink stand in one block of four."""
    monkeypatch.setattr(rows, "ROWS", 400)
    _, y, F = (a.astype(float) for a in sample())
    y[1:11] += 20

    def huber(y, a):
        e = (y - a).abs()
        return e.clamp(max=1) * (2 * e - e.clamp(max=1))

    found = GlobalMA(loss=huber).fit(F, y, F=F).weights_
    monkeypatch.undo()
    np.testing.assert_allclose(found, GlobalMA(loss=huber).fit(F, y, F=F).weights_, atol=1e-6)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
@pytest.mark.parametrize("average", [GlobalMA(), LocalMA(random_state=0, progress=False, training=Training(steps=20))])
def test_files_on_disk_are_arrays_in_memory(average, loss, tmp_path, monkeypatch):
    """To the last digit, whether inputs are put into their units at once or batch by batch; nothing is written."""
    average.set_params(loss=loss)
    memory = sample(loss)
    for name, a in zip("XyF", memory, strict=True):
        np.save(tmp_path / f"{name}.npy", a)
    disk = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "XyF"]
    monkeypatch.setattr(rows, "ROWS", 400)
    found = []
    for X, y, F in (memory, disk):
        fit = average.fit(X, y, F=F)
        found.append([fit.weights(X), fit.predict(X, F=F)])
        monkeypatch.setattr("localma.engine.local.LARGE", 0)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(memory, disk, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_batches_on_disk_are_the_sample(loss):
    loader = DataLoader(TensorDataset(*map(torch.as_tensor, sample(loss))), batch_size=400)
    on_file = on_disk(loader)
    for name, array in zip(("X", "y", "F"), sample(loss), strict=True):
        np.testing.assert_array_equal(on_file[name], array)
        assert isinstance(on_file[name], np.memmap)
        assert on_file[name].dtype == array.dtype
    average = LocalMA(loss=loss, random_state=0, progress=False, training=Training(steps=20))
    X, y, F = sample(loss)
    np.testing.assert_array_equal(average.fit(**on_file).weights(X), average.fit(X, y, F=F).weights(X))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda X, y, F: (X, y), "batch 1 has 2 parts"),
        (lambda X, y, F: (X[:, :2], y, F), r"X of batch 1 has shape \(1500, 2\), but must have \(1500, 3\)"),
        (lambda X, y, F: (X, y[:-1], F), r"y of batch 1 has shape \(1499,\)"),
        (lambda X, y, F: (X, y, F.astype(str)), "F of batch 1 must be an array of numbers"),
        (lambda X, y, F: (X, y, F.astype(complex)), "F of batch 1 must be an array of numbers"),
    ],
)
def test_a_batch_that_is_none_is_named(spoil, message):
    with pytest.raises(ValueError, match=message):
        on_disk([sample(), spoil(*sample())])


def test_batches_without_rows_and_fractions_among_labels_are_refused():
    read = iter([sample()])
    next(read)
    with pytest.raises(ValueError, match="batches gives no rows"):
        on_disk(read)
    X, y, F = sample("cross_entropy")
    with pytest.raises(ValueError, match="y of batch 1 is of type float64, but of int64 in the first"):
        on_disk([(X, y, F), (X, y + 0.5, F)])


def test_single_precision_is_that_of_the_same_numbers():
    X, y, F = sample()
    for average in (GlobalMA(), LocalMA(random_state=0, progress=False, training=Training(steps=20))):
        single, double = (average.fit(X, y, F=f).predict(X, F=f) for f in (F, F.astype(float)))
        np.testing.assert_array_equal(single, double)


def test_rows_beyond_the_first_block_are_named(monkeypatch):
    monkeypatch.setattr(rows, "ROWS", 400)
    X, y, F = sample()
    wrong = F.copy()
    wrong[1234, 2] = np.nan
    with pytest.raises(ValueError, match=r"F\[1234, 2\] is NaN"):
        GlobalMA().fit(X, y, F=wrong)
    wrong[1234, 2] = 1e6
    with pytest.warns(UserWarning, match=r"at 1 of 1500 rows \(1234\) predictions of 'f3' lie far beyond"):
        answer = GlobalMA().fit(X, y, F=F).predict(X, F=wrong)
    assert answer.max() < 10


def test_digits_that_single_precision_would_lose_are_seen_in_every_block(monkeypatch):
    monkeypatch.setattr(rows, "ROWS", 400)
    X = np.random.default_rng(0).standard_normal((N, 2))
    assert str(resolve_dtype("auto", X)) == "torch.float32"
    assert str(resolve_dtype("auto", np.add(X, [0, 1e9]))) == "torch.float64"
    X[-1, 0] = 1e13
    assert str(resolve_dtype("auto", X)) == "torch.float64"


MEMORY = """
import pathlib, re, sys, threading, time
import numpy as np
from localma import GlobalMA, LocalMA, Training

def own():
    return int(re.search(r"RssAnon:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 2**10

folder, n = pathlib.Path(sys.argv[1]), 2_000_000
shapes = {"X": (n, 10), "y": (n,), "F": (n, 5)}
data = [np.lib.format.open_memmap(folder / name, "w+", np.float32, shape) for name, shape in shapes.items()]
for a in data:
    a[:] = np.random.default_rng(a.ndim).standard_normal(a.shape, dtype=np.float32)
X, y, F = data
averages = GlobalMA(), LocalMA(random_state=0, progress=False, shrinkage=None, training=Training(steps=20))
for average in averages:
    average.fit(X[:2000], y[:2000], F=F[:2000]).predict(X[:2000], F=F[:2000])
before, peak, done = own(), [0.0], threading.Event()

def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], own())

watcher = threading.Thread(target=watch)
watcher.start()
for average in averages:
    average.fit(X, y, F=F).predict(X, F=F)
done.set()
watcher.join()
print(peak[0] - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says what memory is a process's own")
def test_of_a_sample_on_disk_no_copy_is_made(tmp_path):
    """X takes 76 MiB, and so would F in double precision; y in double precision and what is said of each row, 15 each,
    are all that there is.
    """
    done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 110
