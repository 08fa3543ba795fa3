"""The methods on the digits, for every size of the sample."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from localma.engine import fit_stack, global_weights
from localma.losses import LOSSES
from localma.replication.lab.sample import Sample, best_model, tensors

#: Sizes of the sample from which weights (or a direct model) are learned.
SIZES = (25, 50, 100, 200, 400, 600)
METHODS = (
    "LocalMA",
    "LocalMA, answers",
    "GW",
    "EWMA",
    "BestModel",
    "DirectModel",
    "Stacking",
    "Stacking, pixels",
)


def answers(F: np.ndarray) -> np.ndarray:
    """Logarithms of all probabilities that the companies name, (..., M, K) to (..., M K); one of zero counts as 1e-6.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication import digits
    >>> digits.answers(np.full((5, 4, 10), 0.1)).shape
    (5, 40)
    """
    return np.log(np.maximum(F, 1e-6)).reshape(*F.shape[:-2], -1)


def compare_methods(data: Sample, sizes=SIZES, *, seed: int = 0) -> tuple[pd.DataFrame, dict[int, np.ndarray]]:
    """Test accuracy of every method for every n; all weight networks of one n are trained as one stack.

    LocalMA's weights read the pixels, or, in the row "answers", what the companies say (:func:`answers`). The direct
    model and both kinds of stacking are scikit-learn's logistic regression with its default penalty: on pixels, on
    answers, on both.

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
        Columns method (:data:`METHODS`), n, repetition, accuracy.
    weights : dict of n to array (R, 597, 4)
        LocalMA's weights on the test images, from pixels.
    """
    R = len(data.y)
    loss = LOSSES["cross_entropy"]
    said, said_test = answers(data.F), answers(data.F_test)
    both, both_test = np.concatenate([said, data.X], -1), np.concatenate([said_test, data.X_test], -1)

    def accuracy(probabilities):
        return (probabilities.argmax(-1) == data.y_test).mean(-1)

    def local(x, x_test):
        fit = fit_stack(*tensors(x[:, :n], F, y), loss, seeds=range(seed, seed + R))
        w = fit.weights(*tensors(x_test)).numpy()
        return w, accuracy((w[..., None] * data.F_test).sum(2))

    def regression(x, x_test):
        with threadpool_limits(1):
            model = LogisticRegression(max_iter=1000, solver="newton-cg")
            return np.array([model.fit(x[r, :n], y[r]).score(x_test[r], data.y_test[r]) for r in range(R)])

    weights, records = {}, []
    for n in tqdm(sizes, desc="methods", unit="size", delay=5, leave=False):
        y, F = data.y[:, :n], data.F[:, :n]
        weights[n], from_pixels = local(data.X, data.X_test)
        constant = global_weights(F, y, loss)
        best = best_model(F, y, loss)
        result = {
            "LocalMA": from_pixels,
            "LocalMA, answers": local(said, said_test)[1],
            "GW": accuracy((constant[:, None, :, None] * data.F_test).sum(2)),
            "EWMA": accuracy(data.F_test.mean(2)),
            "BestModel": accuracy(data.F_test[np.arange(R), :, best]),
            "DirectModel": regression(data.X, data.X_test),
            "Stacking": regression(said, said_test),
            "Stacking, pixels": regression(both, both_test),
        }
        records += [(method, n, r, value) for method in METHODS for r, value in enumerate(result[method])]
    return pd.DataFrame(records, columns=["method", "n", "repetition", "accuracy"]), weights
