"""What the companies say about all images, for whoever has none."""

from __future__ import annotations

import numpy as np

from localma.checks import choose
from localma.replication.cifar10.companies import Material
from localma.replication.lab.results import load_arrays


def stored(things: Material) -> dict[str, np.ndarray]:
    """What the companies say about all images, in half precision, with the labels: no image. Rows as in the data's
    files.
    """
    halves = {"F": things.F_test.astype(np.float16), "F_train": things.F.astype(np.float16)}
    arrays = halves | {"y": things.data.test_labels, "y_train": things.data.labels}
    return arrays | {"images": np.array(things.data.origin), "networks": np.array(things.family)}


def load_predictions(part: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """What the four companies of the committed full run say about the 10,000 test or the 50,000 training images.

    Rows are in the order of the data set's own files, so weights that need no image, such as GW's, can be learned and
    scored again: repetition r of n images is ``numpy.random.default_rng([0, 1, r]).permutation(50_000)[:n]``.

    Parameters
    ----------
    part : {"test", "train"}

    Returns
    -------
    F : array of shape (n, 4, 10)
        Class probabilities; half precision was kept, so rows are scaled to sum to one again, and an image in ten
        thousand may fall on the other side.
    y : array of shape (n,)
        True classes.

    Examples
    --------
    >>> from localma.replication import cifar10
    >>> F, y = cifar10.load_predictions()
    >>> F.shape, y.shape
    ((10000, 4, 10), (10000,))
    >>> cifar10.load_predictions("train")[0].shape
    (50000, 4, 10)
    """
    choose("part", part, ("test", "train"))
    end = "_train" * (part == "train")
    arrays = load_arrays("cifar10")
    F, y = arrays[f"F{end}"].astype(float), arrays[f"y{end}"].astype(int)
    return F / F.sum(-1, keepdims=True), y
