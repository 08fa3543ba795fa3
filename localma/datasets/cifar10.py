"""CIFAR-10: 60,000 colour photographs of 32 x 32 pixels in ten classes, for the paper's Section 5.3.

Two files are read. The original, ``cifar10/cifar-10-python.tar.gz``, comes from its own site and is preferred.
``cifar10/cifar10_jpeg_packed.npz`` holds the same images as a lossy JPEG copy, for places that the original's site
cannot be reached from; whoever uses it should say so (``Cifar10.origin``).
"""

from __future__ import annotations

import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from localma.datasets.find import Data, Source, find

__all__ = ["CLASSES", "Cifar10", "load_cifar10"]

#: Names of the classes; a label is a position here.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ADVICE = (
    "The original is cifar-10-python.tar.gz of www.cs.toronto.edu/~kriz/cifar.html; put it into a folder cifar10 there."
)
ORIGINAL = Source(
    "cifar10/cifar-10-python.tar.gz",
    "md5:c58f30108f718f92721af3b95e74349a",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    advice=ADVICE,
)
JPEG = Source(
    "cifar10/cifar10_jpeg_packed.npz",
    "sha256:a630625d6b7b1e2bb31d716678d17f6296a41ea225aafc510836f7e4a64eb9cd",
    advice=ADVICE,
)


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # images and labels, test images and labels


@dataclass(frozen=True)
class Cifar10(Data):
    """Images and labels, cut into training and test as they were published."""

    _BANNER = "SYNTHETIC IMAGES OF COLOURED BLOBS: no number below says anything about photographs"

    images: np.ndarray  #: (n, 32, 32, 3), uint8, red green blue
    labels: np.ndarray  #: (n,), uint8, positions in ``CLASSES``
    test_images: np.ndarray
    test_labels: np.ndarray
    origin: str  #: "original", "jpeg" (a lossy copy) or "synthetic"
    checksum: str  #: of the file, with its algorithm; of nothing ("") if synthetic


def load_cifar10(*, path: str | Path | None = None, synthetic: bool = False, seed: int = 0) -> Cifar10:
    """The images of CIFAR-10.

    Parameters
    ----------
    path : path, optional
        One of the two files, or a folder that holds one. Default: ``LOCALMA_DATA``, then the user cache, the original
        before the copy in each case; then a download of the original (163 MB) into the user cache.
    synthetic : bool
        Make 2,000 and 1,000 images of coloured blobs up instead. No file is looked for.
    seed : int
        Of the synthetic images.

    Returns
    -------
    Cifar10

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file and the way out.

    References
    ----------
    Krizhevsky (2009), Learning multiple layers of features from tiny images.

    Examples
    --------
    >>> from localma.datasets import load_cifar10
    >>> data = load_cifar10(synthetic=True)
    >>> data.images.shape, data.test_images.shape, data.synthetic
    ((2000, 32, 32, 3), (1000, 32, 32, 3), True)
    """
    if synthetic:
        return _blobs(seed)
    copy = path is not None and Path(path).suffix == ".npz"
    place = find(JPEG, path) if copy else find(ORIGINAL, path, otherwise=(JPEG,))
    if place.name.endswith(".npz"):
        return Cifar10(*_read_jpeg(place), "jpeg", JPEG.checksum)
    return Cifar10(*_read_original(place), "original", ORIGINAL.checksum)


class _Arrays(pickle.Unpickler):
    """Reads arrays and what holds them, and calls nothing else, whatever a pickle asks for."""

    ALLOWED = {("_codecs", "encode"), ("numpy", "ndarray"), ("numpy", "dtype")} | {
        (f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")
    }

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise ValueError(f"the archive of CIFAR-10 asks for {module}.{name}, which is no array: it is another file")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_original(place: Path) -> Arrays:
    parts = []
    with tarfile.open(place) as archive:
        for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
            file = archive.extractfile(f"cifar-10-batches-py/{name}")
            assert file is not None  # it would be for a folder
            batch = _Arrays(file, encoding="latin1").load()
            images = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            parts.append((np.ascontiguousarray(images), np.array(batch["labels"], np.uint8)))
    images, labels = zip(*parts[:5], strict=True)
    return np.concatenate(images), np.concatenate(labels), *parts[5]


def _read_jpeg(place: Path) -> Arrays:
    from PIL import Image  # with the plots extra

    def decode(data, ends):
        pieces = np.split(data, ends[:-1])
        return np.stack([np.asarray(Image.open(io.BytesIO(piece.tobytes())).convert("RGB")) for piece in pieces])

    with np.load(place, allow_pickle=False) as file:
        images, test_images = (decode(file[f"jpeg_{part}"], file[f"end_{part}"]) for part in ("train", "test"))
        return images, file["y_train"], test_images, file["y_test"]


def _blobs(seed: int) -> Cifar10:
    """Each class is a blob at its own place and of its own colour, moved about and covered with noise."""
    rng = np.random.default_rng(seed)
    grid = np.arange(32)
    angle = 2 * np.pi * np.arange(10) / 10
    colour = 128 + 90 * np.cos(angle[:, None] + np.array([0, 2, 4]) * np.pi / 3)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(n) % 10
        centre = 16 + 7 * np.stack([np.cos(3 * angle), np.sin(3 * angle)], 1)[labels] + rng.normal(0, 4, (n, 2))
        apart = (grid - centre[:, :, None]) ** 2
        blob = np.exp(-(apart[:, 0, :, None] + apart[:, 1, None, :]) / 50)[..., None]
        ground, noise = rng.uniform(60, 200, (n, 1, 1, 3)), rng.normal(0, 40, (n, 32, 32, 3))
        image = blob * colour[labels][:, None, None] + (1 - blob) * ground + noise
        return image.clip(0, 255).astype(np.uint8), labels.astype(np.uint8)

    return Cifar10(*draw(2000), *draw(1000), "synthetic", "")
