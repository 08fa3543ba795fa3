"""CIFAR-10: both files read, whatever is wrong with them named, and the made-up images marked as such."""

import hashlib
import io
import os
import pickle
import sys
import tarfile
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from localma.datasets import cifar10, load_cifar10
from localma.replication.cifar10 import networks

pytest.importorskip("PIL")


@pytest.fixture
def nowhere(nowhere, monkeypatch):
    """And no network."""
    monkeypatch.setattr(cifar10, "ORIGINAL", replace(cifar10.ORIGINAL, url="http://127.0.0.1:0/cifar-10-python.tar.gz"))
    return nowhere


@pytest.fixture
def small(nowhere, monkeypatch):
    """Both files with a few random images in the published formats, and the checksums of these."""
    from PIL import Image

    folder = nowhere / "data" / "cifar10"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    train, test = (np.kron(rng.integers(0, 256, (n, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8) for n in (10, 4))
    labels, test_labels = np.arange(10), np.array([3, 1, 4, 1])

    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        batches = [(f"data_batch_{k + 1}", train[2 * k : 2 * k + 2], labels[2 * k : 2 * k + 2]) for k in range(5)]
        for name, images, y in [*batches, ("test_batch", test, test_labels)]:
            data = pickle.dumps({"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), "labels": y.tolist()})
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))

    def jpeg(images):
        files = []
        for image in images:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=95)
            files.append(file.getvalue())
        return np.frombuffer(b"".join(files), np.uint8), np.cumsum([len(f) for f in files])

    arrays = {}
    for part, images, y in (("train", train, labels), ("test", test, test_labels)):
        arrays[f"jpeg_{part}"], arrays[f"end_{part}"] = jpeg(images)
        arrays[f"y_{part}"] = y.astype(np.uint8)
    np.savez(folder / "cifar10_jpeg_packed.npz", **arrays)

    def digest(source, kind):
        return f"{kind}:{hashlib.new(kind, (nowhere / 'data' / source.name).read_bytes()).hexdigest()}"

    monkeypatch.setattr(cifar10, "ORIGINAL", replace(cifar10.ORIGINAL, checksum=digest(cifar10.ORIGINAL, "md5")))
    monkeypatch.setattr(cifar10, "JPEG", replace(cifar10.JPEG, checksum=digest(cifar10.JPEG, "sha256")))
    monkeypatch.setenv("LOCALMA_DATA", str(nowhere / "data"))
    return folder, train, test, test_labels


def test_the_original_is_preferred_and_read_exactly(small):
    _, train, test, test_labels = small
    data = load_cifar10()
    assert data.origin == "original"
    assert data.checksum.startswith("md5:")
    assert not data.synthetic
    assert not data.banner
    np.testing.assert_array_equal(data.images, train)
    np.testing.assert_array_equal(data.labels, np.arange(10))
    np.testing.assert_array_equal(data.test_images, test)
    np.testing.assert_array_equal(data.test_labels, test_labels)


def test_the_copy_is_read_and_says_that_it_is_lossy(small):
    folder, train, _, test_labels = small
    (folder / "cifar-10-python.tar.gz").unlink()
    for data in (load_cifar10(), load_cifar10(path=folder), load_cifar10(path=folder / "cifar10_jpeg_packed.npz")):
        assert data.origin == "jpeg"
        assert data.checksum.startswith("sha256:")
        assert data.images.shape == train.shape
        assert data.images.dtype == np.uint8
        assert 0 < np.abs(data.images.astype(float) - train).mean() < 15  # flat squares of 8 pixels survive
        np.testing.assert_array_equal(data.test_labels, test_labels)


def test_a_bad_original_in_the_cache_does_not_hide_the_copy_in_the_users_folder(small, nowhere):
    (small[0] / "cifar-10-python.tar.gz").unlink()
    cached = nowhere / "cache" / "cifar10" / "cifar-10-python.tar.gz"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half")
    assert load_cifar10().origin == "jpeg"
    (small[0] / "cifar10_jpeg_packed.npz").unlink()
    with pytest.raises(ValueError, match=r"cache.*checksum.*remove it"):
        load_cifar10()


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "cifar10_jpeg_packed.npz"])
def test_half_a_file_is_named(small, name):
    place = small[0] / name
    place.write_bytes(place.read_bytes()[:500])
    with pytest.raises(ValueError, match=rf"{name}.*checksum.*half a download"):
        load_cifar10(path=place)


def test_only_arrays_are_read(small, monkeypatch):
    class Harm:
        def __reduce__(self):
            return print, ("harm",)

    place = small[0] / "cifar-10-python.tar.gz"
    with tarfile.open(place, "w:gz") as archive:
        entry = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        entry.size = len(data := pickle.dumps(Harm()))
        archive.addfile(entry, io.BytesIO(data))
    md5 = hashlib.md5(place.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "ORIGINAL", replace(cifar10.ORIGINAL, checksum=f"md5:{md5}"))
    with pytest.raises(ValueError, match=r"asks for builtins.print, which is no array"):
        load_cifar10()


def test_nothing_there_is_an_error_with_the_ways_out(nowhere):
    with pytest.raises(
        FileNotFoundError,
        match=r"cifar-10-python\.tar\.gz was not found.*download.*failed.*folder cifar10.*synthetic=True",
    ):
        load_cifar10()
    with pytest.raises(FileNotFoundError, match="was not found"):
        load_cifar10(path=nowhere)


def test_blobs_are_made_up_and_say_so():
    one, same, other = (load_cifar10(synthetic=True, seed=s) for s in (0, 0, 1))
    assert one.synthetic
    assert "SYNTHETIC" in one.banner
    assert one.origin == "synthetic"
    np.testing.assert_array_equal(one.images, same.images)
    assert (one.images != other.images).any()
    assert np.bincount(one.labels).tolist() == [200] * 10
    assert one.images.dtype == np.uint8


def test_the_real_file_where_there_is_one():
    if not os.environ.get("LOCALMA_DATA"):
        pytest.skip("LOCALMA_DATA is not set: the real images are not at hand")
    try:
        data = load_cifar10()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert data.images.shape == (50_000, 32, 32, 3)
    assert data.test_images.shape == (10_000, 32, 32, 3)
    assert np.bincount(data.labels).tolist() == [5000] * 10
    assert np.bincount(data.test_labels).tolist() == [1000] * 10


def test_what_torchvision_lacks_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    assert networks.available("torchvision").endswith("pip install torchvision, of the build of your torch")
    models = ModuleType("torchvision.models")

    def lost(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    models.__getattr__ = lost  # as its import fails beside a torch of another build
    assert "does not go with this torch (operator torchvision::nms does not exist)" in networks.available("torchvision")
    del models.__getattr__
    models.get_model_weights = lambda name: SimpleNamespace(
        DEFAULT=SimpleNamespace(url=f"https://weights.org/{name}.pth")
    )
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "densenet121.pth").touch()
    lacking = networks.available("torchvision")
    assert f"ResNet18, GoogLeNet, EfficientNetB0 are not in {tmp_path / 'checkpoints'}; download" in lacking
    assert "https://weights.org/resnet18.pth" in lacking
    assert "densenet" not in lacking
