"""The networks of the toxicity experiment, and five methods in one split after another.

Every network, be it a company's classifier, a weight network or a direct model, is a text encoder with a network on
top, and every one is fitted by :func:`learn`: a classifier is a localized average of two "dictators", one that is sure
of toxic and one that is sure of the contrary. On a CPU the encoder is frozen, and the repetitions' networks train as
stacks; on a GPU all of it is fine-tuned.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from localma.engine import Mlp, Training, first_smallest, fit_stack, global_weights
from localma.losses import LOSSES
from localma.replication.lab.parts import chunks
from localma.replication.lab.sample import tensors
from localma.replication.toxicity.encoders import finetune

METHODS = ("LocalMA", "GW", "EWMA", "BestPTM", "DirectModel")
#: A stack has at most so many repetitions.
CHUNK = 25
#: Penalties that :func:`pilot` chooses from, one for classifiers and one for weights: constants c of
#: ``c (100 / n)^(3/4)``, the package's default being 0.01.
GRID = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
#: How classifiers (the companies' and the direct model) and weight networks of one hidden layer are trained: the choice
#: of ``toxicity --tune``, on languages that nothing else uses.
SETTINGS = {
    "classifier": {"width": 64, "steps": 400, "batch_size": 512, "learning_rate": 0.003},
    "weights": {"width": 64, "steps": 100, "batch_size": 512, "learning_rate": 0.003},
}
ROLES = tuple(SETTINGS)
#: Of a pilot language's sentences, what is learned from.
PILOT_SHARES = (0.1, 0.7)
CE = LOSSES["cross_entropy"]
DICTATORS = np.eye(2, dtype=np.float32)


def splits(n: int, repetitions: int, *, seed: int = 0) -> np.ndarray:
    """Random orders of n sentences, (R, n): for every share the first so many are learned from and the rest is the
    test.

    Examples
    --------
    >>> from localma.replication import toxicity
    >>> toxicity.splits(1000, 50).shape
    (50, 1000)
    """
    return np.stack([np.random.default_rng([seed, r]).permutation(n) for r in range(repetitions)])


def learn(
    x: np.ndarray,
    F: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    *,
    penalty: float = 0.1,
    settings: dict = SETTINGS["weights"],
    seed: int = 0,
    device: str = "cpu",
) -> np.ndarray:
    """Fit a network for each of R repetitions, in stacks, and return the weights that it gives on the test rows.

    Parameters
    ----------
    x : array of shape (n, d)
        Encoded sentences.
    F : array of shape (n, M, 2)
        Class probabilities of M candidates; the two dictators, ``np.eye(2)`` for every row, for a plain classifier.
    y : array of shape (n,), 0 or 1
    train, test : arrays of shape (R, k) and (R, m)
        Row numbers.
    penalty : float
        The constant c of ``GRID``.
    settings : dict with keys width, steps, batch_size, learning_rate
        One of ``SETTINGS``, or as it is.
    seed : int
        Of the networks: repetition r has seed + r.

    Returns
    -------
    array of shape (R, m, M)
        For dictators, the second column is the probability of toxic.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication import toxicity
    >>> x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    >>> rows = toxicity.splits(200, 10)
    >>> F = np.broadcast_to(np.eye(2, dtype=np.float32), (200, 2, 2))
    >>> p = toxicity.learn(x, F, x[:, 0] > 0, rows[:, :150], rows[:, 150:])
    >>> p.shape, bool(((p[..., 1] > 0.5) == (x[rows[:, 150:], 0] > 0)).mean() > 0.9)
    ((10, 50, 2), True)
    """
    n = train.shape[1]
    training = Training(
        learning_rate=settings["learning_rate"],
        steps=settings["steps"],
        batch_size=min(n, settings["batch_size"]),
        penalty=penalty * (100 / n) ** 0.75,
        validation_fraction=0.0,
    )
    found = []
    for some in chunks(len(train), CHUNK):
        rows, seeds = train[some], range(seed + some.start, seed + some.stop)
        X, G, target = tensors(x[rows], F[rows], y[rows], device=device)
        fit = fit_stack(X, G, target, CE, seeds=seeds, network=Mlp(settings["width"]), training=training)
        parts = (tensors(x[test[some][:, part]], device=device) for part in chunks(test.shape[1], 2000))
        found.append(np.concatenate([fit.weights(*part).cpu().numpy() for part in parts], axis=1))
    return np.concatenate(found)


def home_accuracy(x: np.ndarray, y: np.ndarray, *, penalty: float, seed: int, device: str) -> np.ndarray:
    """Accuracy of a company's classifier in its own language by five-fold cross-validation; they train as one stack."""
    order = np.random.default_rng(seed).permutation(len(y))
    test = order[: len(y) // 5 * 5].reshape(5, -1)
    train = np.stack([np.delete(test, k, axis=0).ravel() for k in range(5)])
    F = np.broadcast_to(DICTATORS, (len(y), 2, 2))
    how: dict[str, Any] = {"penalty": penalty, "settings": SETTINGS["classifier"], "seed": seed, "device": device}
    p = learn(x, F, y, train, test, **how)[..., 1]
    return ((p > 0.5) == y[test]).mean(1)


def compare_methods(
    x,
    probability,
    y,
    order,
    share: float,
    *,
    penalty: dict | None = None,
    seed: int = 0,
    device: str = "cpu",
    texts=None,
    encoder=None,
) -> dict:
    """Accuracy and log loss of every method in every repetition, for one share.

    Parameters
    ----------
    x : array of shape (n, d)
        Encoded minority sentences, which weights and direct model read. Ignored where ``texts`` are given.
    probability : array of shape (n, M)
        Of toxic, by the companies' models.
    y : array of shape (n,)
    order : array of shape (R, n)
        From :func:`splits`.
    share : float
        Of the sentences that are learned from.
    penalty : dict with keys "classifier" and "weights", optional
        Constants c of ``GRID``; :func:`pilot` chooses them. Default 0.1 for both.
    texts, encoder : optional
        To fine-tune the encoder on the texts instead, end to end.

    Returns
    -------
    dict of arrays of shape (R,)
        ``METHOD.accuracy``, ``METHOD.log_loss``, ``METHOD.lead`` (LocalMA's accuracy minus the method's), and what
        bounds an average: ``Somebody.accuracy``, the share of test sentences that at least one model reads rightly, and
        ``Majority.accuracy``, of the test's commoner label.

    Examples
    --------
    >>> from localma.replication import toxicity
    >>> p = toxicity.load_predictions("minilm").only("he")
    >>> out = toxicity.compare_methods(p.summary, p.probability, p.toxic, toxicity.splits(1990, 2), 0.5)
    >>> out["LocalMA.accuracy"].shape
    (2,)
    """
    n = len(y)
    k = round(share * n)
    if not 2 <= k <= n - 1:
        raise ValueError(
            f"share = {share:g} of {n} sentences leaves {k} to learn from and {n - k} for the test; "
            "choose one in between"
        )
    train, test = order[:, :k], order[:, k:]
    F = np.stack([1 - probability, probability], -1)
    dictators = np.broadcast_to(DICTATORS, (n, 2, 2))
    penalty = penalty or {"classifier": 0.1, "weights": 0.1}

    def fit(candidates, role):
        if texts is not None:  # end to end, one repetition after another
            found = [
                finetune(encoder, texts[a], candidates[a], y[a], seed=seed + r, device=device)(texts[b])
                for r, (a, b) in enumerate(zip(train, test, strict=True))
            ]
            return np.stack(found).astype(float)
        how = {"penalty": penalty[role], "settings": SETTINGS[role], "seed": seed, "device": device}
        return learn(x, candidates, y, train, test, **how).astype(float)

    P, truth = probability[test], y[test]  # (R, m, M), (R, m)
    single = ((P > 0.5) == truth[..., None]).mean(1)  # (R, M)
    best = first_smallest(-single)
    toxic = {
        "LocalMA": (fit(F, "weights") * P).sum(-1),
        "GW": np.einsum("rmk,rk->rm", P, global_weights(F[train], y[train], CE)),
        "EWMA": P.mean(-1),
        "BestPTM": np.take_along_axis(P, best[:, None, None], -1)[..., 0],
        "DirectModel": fit(dictators, "classifier")[..., 1],
    }
    out = scores(toxic, truth)
    out |= {f"{name}.lead": out["LocalMA.accuracy"] - out[f"{name}.accuracy"] for name in METHODS[1:]}
    out["Somebody.accuracy"] = ((P > 0.5) == truth[..., None]).any(-1).mean(1)
    out["Majority.accuracy"] = np.maximum(truth.mean(1), 1 - truth.mean(1))
    return out


def scores(toxic: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, np.ndarray]:
    """``METHOD.accuracy`` and ``METHOD.log_loss`` (R,) of probabilities of toxic (R, m)."""
    out = {f"{name}.accuracy": ((p > 0.5) == truth).mean(1) for name, p in toxic.items()}
    return out | {f"{name}.log_loss": _log_loss(p, truth) for name, p in toxic.items()}


def _log_loss(p, truth):
    return -np.log(np.where(truth == 1, p, 1 - p).clip(1e-12)).mean(-1)


def pilot(
    x, probability, y, *, settings: dict | None = None, repetitions: int = 5, seed: int = 0, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Scores on held-out sentences of one pilot language for every penalty of ``GRID``, averaged over a small and a
    large share learned from: ``log_loss`` and ``accuracy``, arrays (len(GRID), repetitions).

    Of x (n, d) and y (n,). ``probability`` (n, M), the companies' predictions, is given to choose the penalty of weight
    networks; where it is None, that of classifiers is chosen. The settings are by default those of ``SETTINGS``.
    """
    n = len(y)
    settings = settings or SETTINGS["classifier" if probability is None else "weights"]
    P = np.broadcast_to([0.0, 1.0], (n, 2)) if probability is None else probability  # dictators
    F = np.stack([1 - P, P], -1)
    order = splits(n, repetitions, seed=seed + 10**6)
    how: dict[str, Any] = {"settings": settings, "seed": seed, "device": device}
    scores = {metric: np.zeros((len(GRID), repetitions)) for metric in ("log_loss", "accuracy")}
    for share in PILOT_SHARES:
        train, test = np.split(order, [round(share * n)], axis=1)
        for row, penalty in enumerate(GRID):
            p = (learn(x, F, y, train, test, penalty=penalty, **how) * P[test]).sum(-1)
            scores["log_loss"][row] += _log_loss(p, y[test]) / len(PILOT_SHARES)
            scores["accuracy"][row] += ((p > 0.5) == y[test]).mean(-1) / len(PILOT_SHARES)
    return scores
