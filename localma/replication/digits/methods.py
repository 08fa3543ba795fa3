"""Five methods on the digits for every size of the sample."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from localma.engine import fit_stack, global_weights
from localma.losses import LOSSES
from localma.replication.lab.sample import Sample, tensors

#: Sizes of the sample from which weights (or a direct model) are learned.
SIZES = (25, 50, 100, 200, 400, 600)
METHODS = ("LocalMA", "GW", "EWMA", "BestModel", "DirectModel")


def compare_methods(data: Sample, sizes=SIZES, *, seed: int = 0) -> tuple[pd.DataFrame, dict[int, np.ndarray]]:
    """Test accuracy of every method for every n; all weight networks of one n are trained as one stack.

    Parameters
    ----------
    data : Sample
    sizes : sequence of int
        Each n takes the first n images of the 600.
    seed : int
        Repetition r trains its network with seed + r.

    Returns
    -------
    table : DataFrame
        Columns method, n, repetition, accuracy.
    weights : dict of n to array (R, 597, 4)
        LocalMA's weights on the test images.
    """
    R = len(data.y)
    loss = LOSSES["cross_entropy"]
    everyone = np.arange(R)

    def accuracy(probabilities):
        return (probabilities.argmax(-1) == data.y_test).mean(-1)

    weights, records = {}, []
    for n in tqdm(sizes, desc="methods", unit="size", delay=5, leave=False):
        X, y, F = data.X[:, :n], data.y[:, :n], data.F[:, :n]
        fit = fit_stack(*tensors(X, F, y), loss, seeds=range(seed, seed + R))
        weights[n] = fit.weights(*tensors(data.X_test)).numpy()
        constant = global_weights(F, y, loss)
        best = np.stack(
            [loss(y.ravel(), F[:, :, m].reshape(-1, 10)).reshape(R, n).mean(1) for m in range(4)], 1
        ).argmin(1)
        with threadpool_limits(1):
            direct = [LogisticRegression(max_iter=1000).fit(X[r], y[r]).predict(data.X_test[r]) for r in range(R)]
        result = {
            "LocalMA": accuracy((weights[n][..., None] * data.F_test).sum(2)),
            "GW": accuracy((constant[:, None, :, None] * data.F_test).sum(2)),
            "EWMA": accuracy(data.F_test.mean(2)),
            "BestModel": accuracy(data.F_test[everyone, :, best]),
            "DirectModel": (np.stack(direct) == data.y_test).mean(1),
        }
        records += [(method, n, r, value) for method in METHODS for r, value in enumerate(result[method])]
    return pd.DataFrame(records, columns=["method", "n", "repetition", "accuracy"]), weights
