"""What every experiment does with its samples."""

import numpy as np

from localma.losses import LOSSES
from localma.replication.lab.sample import best_model


def test_the_best_model_is_the_first_of_equals():
    y = np.zeros((3, 4))
    F = np.stack([np.full((3, 4), level) for level in (0.3, 0.1 + 0.2, 0.5)], -1)
    assert F[0, 0, 1] > F[0, 0, 0]
    F[1, :, 0], F[2, :, 2] = 0.1 + 0.2, 0.1  # the second of equals is a rounding error better; the third is the best
    F[1, :, 1] = 0.3
    assert best_model(F, y, LOSSES["squared"]).tolist() == [0, 0, 2]
    assert best_model(F, y, LOSSES["absolute"]).tolist() == [0, 0, 2]


def test_the_best_model_of_classes():
    P = np.array([[[0.6, 0.4], [0.9, 0.1]], [[0.5, 0.5], [0.2, 0.8]]])[None]  # a sample of two: models, classes
    assert best_model(P, np.array([[0, 1]]), LOSSES["cross_entropy"]).tolist() == [1]
    assert best_model(P, np.array([[1, 0]]), LOSSES["cross_entropy"]).tolist() == [0]
