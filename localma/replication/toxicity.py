r"""Toxic or not in Hebrew and Hindi, from models of Chinese, English, French and Ukrainian: the paper's Section 5.2.

Each of four companies trains a text classifier on its own language. The minority languages' sentences are split at random, again and again, into a part that
weights (or a direct model) are learned from and a test. Every network of the experiment, be it a company's classifier, a weight network or a direct model, is
a text encoder with a network on top, and every one is fitted by the same call: a classifier is a localized average of two "dictators", one that is sure of
toxic and one that is sure of the contrary. On a CPU the encoder is frozen, and the repetitions' networks train as stacks; on a GPU all of it is fine-tuned.

The book's chapter "Toxic or not" (``book/data/toxicity``) tells the story.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from localma.baselines import global_weights
from localma.datasets import Toxicity, load_toxicity
from localma.files import write_arrays
from localma.losses import LOSSES
from localma.replication.encoders import (
    ENCODERS,
    LENGTH,
    TextNetwork,
    batches_by_length,
    encode,
    load_encoder,
    unknown_share,
)
from localma.replication.runner import run_parts, summarise, write_results
from localma.training import Options, fit_stack

__all__ = [
    "CASES",
    "COMPANIES",
    "METHODS",
    "SHARES",
    "Predictions",
    "compare_methods",
    "finetune",
    "home_accuracy",
    "learn",
    "mask",
    "pilot",
    "predictions",
    "run",
    "splits",
]

#: The languages that have a model; its order is that of the weights.
COMPANIES = ("zh", "en", "fr", "uk")
#: What the averages are learned for. The paper's Hindi has as many rows as the data set's Hinglish, and its text can be read as one pool or as two tasks.
CASES = {"he": ("he",), "hi": ("hi",), "hin": ("hin",), "he+hin": ("he", "hin"), "he+hi": ("he", "hi")}
#: Shares of the minority sentences that weights are learned from; the rest is the test.
SHARES = (0.9, 0.7, 0.5, 0.3, 0.1, 0.05)
METHODS = ("LocalMA", "GW", "EWMA", "BestPTM", "DirectModel")
FULL, QUICK = 50, 5
#: Sentences are drawn and networks trained in chunks of so many repetitions.
CHUNK = 25
#: Languages that nothing else here uses, on which :func:`pilot` chooses a penalty for classifiers and one for weights.
PILOT = ("ar", "am")
GRID = (0.1, 0.3, 1.0, 3.0, 10.0)
#: One hidden layer of 16 units, 100 steps, the whole sample learned from; penalties are ``c (100 / n)^(3/4)``, as the package's default is with c = 0.01.
WIDTH, STEPS, BATCH, RATE = 16, 100, 512, 0.03
#: On a GPU: passes over the sample, sentences per step and peak learning rate, as is usual when a network of this kind is fine-tuned.
FINETUNING = {"epochs": 3, "batch": 32, "rate": 5e-5}
CE = LOSSES["cross_entropy"]
DICTATORS = np.eye(2, dtype=np.float32)


def options(n: int, penalty: float) -> Options:
    """How a network is trained on n sentences."""
    return Options(steps=STEPS, batch_size=min(n, BATCH), learning_rate=RATE, penalty=penalty * (100 / n) ** 0.75, validation_fraction=0.0)


def splits(n: int, repetitions: int, *, seed: int = 0) -> np.ndarray:
    """Random orders of n sentences, (R, n): for every share the first so many are learned from and the rest is the test.

    Examples
    --------
    >>> from localma.replication import toxicity
    >>> toxicity.splits(1000, 50).shape
    (50, 1000)
    """
    return np.stack([np.random.default_rng([seed, r]).permutation(n) for r in range(repetitions)])


def learn(
    x: np.ndarray, F: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, *, penalty=0.1, seed=0, device="cpu", workers=None
):
    """Fit a network for each of R repetitions, as one stack, and return the weights that it gives on the test rows.

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
        The constant c of :func:`options`.
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
    sample = (torch.as_tensor(np.asarray(a, np.float32)[train], device=device) for a in (x, F, y))
    seeds = range(seed, seed + len(train))
    fit = fit_stack(*sample, CE, seeds=seeds, width=WIDTH, options=options(n, penalty), workers=workers)
    return np.concatenate([_weights(fit, x, test[:, part], device) for part in _slices(test.shape[1], 2000)], axis=1)


def _weights(fit, x, rows, device):
    return fit.weights(torch.as_tensor(x[rows], device=device)).cpu().numpy()


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]


def mask(text: str, words: int = 6) -> str:
    """The shape of a sentence without its words: first letters and dots, cut after a few words.

    Examples
    --------
    >>> from localma.replication.toxicity import mask
    >>> mask("no word of this can be read any more")
    'n· w··· o· t··· c·· b· …'
    """
    parts = text.split()
    shown = " ".join(word[0] + "·" * min(len(word) - 1, 9) for word in parts[:words])
    return shown + (" …" if len(parts) > words else "")


# --- fine-tuning, for a GPU ------------------------------------------------------------------------------------------------------------------


def finetune(tokenizer, network, texts, F, y, *, seed: int = 0, device: str = "cpu", epochs: int = 3, batch: int = 32, rate: float = 5e-5):
    """Train a text encoder and a linear layer on top, end to end, to be the weight network of the candidates F.

    Parameters
    ----------
    tokenizer, network
        From :func:`~localma.replication.encoders.load_encoder`. The network itself is trained: pass a copy.
    texts : sequence of str, length n
    F : array of shape (n, M, 2)
        As in :func:`learn`.
    y : array of shape (n,)

    Returns
    -------
    callable
        Maps texts to weights, (k, M).
    """
    generator = torch.Generator().manual_seed(seed)
    model = TextNetwork(network, F.shape[1]).to(device).train()
    G = CE.candidates(torch.tensor(y), torch.tensor(F).movedim(0, -1)).float().to(device)  # copies: F may be a view that cannot be written
    steps = epochs * -(-len(texts) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min((k + 1) / (0.1 * steps), (steps - k) / (0.9 * steps), 1.0))

    def tokens(rows, texts):
        picked = [texts[int(i)] for i in rows]
        return tokenizer(picked, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt").to(device)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        for _ in range(epochs):
            for rows in torch.randperm(len(texts), generator=generator).split(batch):
                optimizer.zero_grad()
                CE.of_logits(model(tokens(rows, texts)).T, G[:, rows.to(device)], None).mean().backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
    model.eval()

    @torch.inference_mode()
    def weights(texts):
        out = np.empty((len(texts), F.shape[1]), np.float32)
        for rows in batches_by_length(texts, 256):
            out[rows] = torch.softmax(model(tokens(rows, texts)), 1).cpu().numpy()
        return out

    return weights


def _finetuned(encoder, texts, F, y, train, test, *, seed, device):
    """What :func:`learn` does, end to end and one repetition after another."""
    out = []
    for r, (here, there) in enumerate(zip(train, test, strict=True)):
        weights = finetune(*load_encoder(encoder), texts[here], F[here], y[here], seed=seed + r, device=device, **FINETUNING)
        out.append(weights(texts[there]))
    return np.stack(out)


# --- the companies ---------------------------------------------------------------------------------------------------------------------------


class Predictions(NamedTuple):
    """What the averages need of the minority sentences, without a word of them."""

    language: np.ndarray  #: (n,), "he", "hi" or "hin"
    toxic: np.ndarray  #: (n,), 0 or 1
    probability: np.ndarray  #: (n, 4), of toxic, by the models of ``COMPANIES``
    summary: np.ndarray  #: (n, 32): principal components of the encoder's numbers, each of variance one

    def candidates(self) -> np.ndarray:
        """Class probabilities as averages take them, (n, 4, 2)."""
        return np.stack([1 - self.probability, self.probability], -1)

    def only(self, *languages: str) -> Predictions:
        """The sentences of some languages."""
        return Predictions(*(part[np.isin(self.language, languages)] for part in self))


def predictions(encoder: str = "minilm") -> Predictions:
    """The committed predictions of the full run for every Hebrew, Hindi and Hinglish sentence, rounded to half precision.

    Parameters
    ----------
    encoder : str
        "minilm": what the committed full run used.

    Examples
    --------
    >>> from localma.replication import toxicity
    >>> toxicity.predictions("minilm").only("he").probability.shape
    (1990, 4)
    """
    place = files("localma.replication") / "results" / "toxicity-predictions.npz"
    with place.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        known = sorted(name.removesuffix("-probability") for name in arrays.files if name.endswith("-probability"))
        if encoder not in known:
            raise ValueError(f"encoder = {encoder!r} has no committed predictions; there are {', '.join(known)}")
        probability = arrays[f"{encoder}-probability"].astype(np.float64)
        summary = arrays[f"{encoder}-summary"].astype(np.float32) / 32
        return Predictions(arrays["language"], arrays["toxic"].astype(int), probability, summary)


class _Sentences(NamedTuple):
    """Everything that the experiment knows of the sentences, for one encoder."""

    data: Toxicity
    x: np.ndarray | None  # encoded; None where networks are fine-tuned


def _sentences(data: Toxicity, code: str, encoder: str, device: str, finetuned: bool) -> _Sentences:
    part = data.only(code)
    if len(classes := np.unique(part.toxic)) < 2:
        raise ValueError(f"the {code!r} sentences are all {'toxic' if classes[0] else 'not toxic'}; a classifier needs both")
    rows = part.unrepeated()  # no test sentence was seen in training
    return _Sentences(part.take(rows), None if finetuned else encode(list(part.text), encoder, device=device)[rows])


def _classifier(known: _Sentences, asked: _Sentences, encoder: str, *, penalty: float, seed: int, device: str, workers) -> np.ndarray:
    """Probability of toxic for the sentences ``asked`` by a model trained on ``known``."""
    y, n = known.data.toxic, len(known.data)
    F = np.broadcast_to(DICTATORS, (n, 2, 2))
    if known.x is None:
        weights = finetune(*load_encoder(encoder), known.data.text, F, y, seed=seed, device=device, **FINETUNING)
        return weights(asked.data.text)[:, 1].astype(float)
    x = np.concatenate([known.x, asked.x])
    rows = np.arange(len(x))[None]
    F = np.broadcast_to(DICTATORS, (len(x), 2, 2))
    padded = np.concatenate([y, np.zeros(len(asked.x), int)])
    return learn(x, F, padded, rows[:, :n], rows[:, n:], penalty=penalty, seed=seed, device=device, workers=workers)[0, :, 1].astype(float)


def home_accuracy(
    x: np.ndarray, y: np.ndarray, *, folds: int = 5, penalty: float = 0.1, seed: int = 0, device: str = "cpu", workers=None
) -> np.ndarray:
    """Accuracy of a company's classifier in its own language by cross-validation, (folds,); they train as one stack.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication import toxicity
    >>> x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    >>> bool(toxicity.home_accuracy(x, (x[:, 0] > 0).astype(int)).mean() > 0.9)
    True
    """
    size = len(y) // folds
    order = np.random.default_rng(seed).permutation(len(y))[: size * folds]
    test = order.reshape(folds, size)
    train = np.stack([np.delete(order.reshape(folds, size), k, axis=0).ravel() for k in range(folds)])
    F = np.broadcast_to(DICTATORS, (len(y), 2, 2))
    p = learn(x, F, y, train, test, penalty=penalty, seed=seed, device=device, workers=workers)[..., 1]
    return ((p > 0.5) == y[test]).mean(1)


# --- five methods ----------------------------------------------------------------------------------------------------------------------------


def compare_methods(
    x, probability, y, order, share: float, *, penalty=None, seed: int = 0, device: str = "cpu", workers=None, texts=None, encoder=None
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
        Constants of :func:`options`; :func:`pilot` chooses them. Default 0.1 for both.
    texts, encoder : optional
        To fine-tune the encoder on the texts instead, end to end.

    Returns
    -------
    dict of arrays of shape (R,)
        ``METHOD.accuracy``, ``METHOD.log_loss``, ``METHOD.lead`` (LocalMA's accuracy minus the method's), and what bounds an average: ``Somebody.accuracy``,
        the share of test sentences that at least one model reads rightly, and ``Majority.accuracy``, of the test's commoner label.

    Examples
    --------
    >>> from localma.replication import toxicity
    >>> p = toxicity.predictions("minilm").only("he")
    >>> out = toxicity.compare_methods(p.summary, p.probability, p.toxic, toxicity.splits(1990, 2), 0.5)
    >>> out["LocalMA.accuracy"].shape
    (2,)
    """
    n = len(y)
    k = round(share * n)
    if not 2 <= k <= n - 1:
        raise ValueError(f"share = {share:g} of {n} sentences leaves {k} to learn from and {n - k} for the test; choose one in between")
    train, test = order[:, :k], order[:, k:]
    F = np.stack([1 - probability, probability], -1)
    dictators = np.broadcast_to(DICTATORS, (n, 2, 2))
    penalty = penalty or {"classifier": 0.1, "weights": 0.1}

    def fit(candidates, role):
        parts = []
        for rows in _slices(len(order), CHUNK):
            if texts is not None:
                found = _finetuned(encoder, texts, candidates, y, train[rows], test[rows], seed=seed + rows.start, device=device)
            else:
                found = learn(
                    x, candidates, y, train[rows], test[rows], penalty=penalty[role], seed=seed + rows.start, device=device, workers=workers
                )
            parts.append(found.astype(float))
        return np.concatenate(parts)

    P, truth = probability[test], y[test]  # (R, m, M), (R, m)
    single = ((P > 0.5) == truth[..., None]).mean(1)  # (R, M)
    best = single.argmax(1)
    toxic = {
        "LocalMA": (fit(F, "weights") * P).sum(-1),
        "GW": np.einsum("rmk,rk->rm", P, global_weights(F[train], y[train], CE)),
        "EWMA": P.mean(-1),
        "BestPTM": np.take_along_axis(P, best[:, None, None], -1)[..., 0],
        "DirectModel": fit(dictators, "classifier")[..., 1],
    }
    out = {f"{name}.accuracy": ((p > 0.5) == truth).mean(1) for name, p in toxic.items()}
    out |= {f"{name}.log_loss": _log_loss(p, truth) for name, p in toxic.items()}
    out |= {f"{name}.lead": out["LocalMA.accuracy"] - out[f"{name}.accuracy"] for name in METHODS[1:]}
    out["Somebody.accuracy"] = ((P > 0.5) == truth[..., None]).any(-1).mean(1)
    out["Majority.accuracy"] = np.maximum(truth.mean(1), 1 - truth.mean(1))
    return out


# --- the experiment --------------------------------------------------------------------------------------------------------------------------


def _log_loss(p, truth):
    return -np.log(np.where(truth == 1, p, 1 - p).clip(1e-12)).mean(-1)


def pilot(
    x: np.ndarray,
    probability: dict[float, np.ndarray] | None,
    y: np.ndarray,
    *,
    repetitions: int = 5,
    seed: int = 0,
    device="cpu",
    workers=None,
):
    """Log loss on held-out sentences of one pilot language for every penalty of ``GRID``, averaged over a small and a large share.

    Parameters
    ----------
    x : array of shape (n, d)
    probability : array of shape (n, M), or None
        The companies' predictions, to choose the penalty of weight networks. None: of classifiers.
    y : array of shape (n,)

    Returns
    -------
    array of shape (len(GRID),)
    """
    n = len(y)
    F = np.broadcast_to(DICTATORS, (n, 2, 2)) if probability is None else np.stack([1 - probability, probability], -1)
    P = np.broadcast_to([0.0, 1.0], (n, 2)) if probability is None else probability
    order = splits(n, repetitions, seed=seed + 10**6)
    found = []
    for penalty in GRID:
        losses = []
        for share in (0.1, 0.7):
            k = round(share * n)
            w = learn(x, F, y, order[:, :k], order[:, k:], penalty=penalty, seed=seed, device=device, workers=workers)
            losses.append(_log_loss((w * P[order[:, k:]]).sum(-1), y[order[:, k:]]).mean())
        found.append(np.mean(losses))
    return np.array(found)


def tabulate(encoder: str, case: str, by_share: dict[float, dict], n: int) -> list[dict]:
    """Rows of the table for one case, and what each method loses from the largest share to the smallest, repetition by repetition."""
    rows = []
    shares = sorted(by_share, reverse=True)
    for share in shares:
        for name, values in by_share[share].items():
            method, metric = name.split(".")
            head = {"encoder": encoder, "case": case, "share": share, "n": round(share * n), "method": method, "metric": metric}
            rows.append(head | summarise(values))
    if len(shares) > 1:
        for method in METHODS:
            fall = by_share[shares[0]][f"{method}.accuracy"] - by_share[shares[-1]][f"{method}.accuracy"]
            rows.append({"encoder": encoder, "case": case, "share": np.nan, "n": n, "method": method, "metric": "fall"} | summarise(fall))
    return rows


def run(
    *,
    full: bool = True,
    replications: int | None = None,
    encoders: Sequence[str] | None = None,
    cases: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    jobs: int = 1,
    path=None,
    synthetic: bool = False,
    out: str | Path | None = None,
) -> pd.DataFrame:
    """The whole experiment: companies, pilot, five methods for every case and share.

    Parameters
    ----------
    full : bool
        All cases and shares, 50 repetitions, the MiniLM encoder; else a look: Hebrew, three shares, 5 repetitions, character n-grams.
    replications : int, optional
    encoders : sequence of str, optional
        Keys of :data:`~localma.replication.encoders.ENCODERS`.
    cases : sequence of str, optional
        Keys of ``CASES``.
    seed : int
    device : str
        On "cuda" networks are fine-tuned end to end, elsewhere they are frozen.
    jobs : int
        Parts of the run that are computed side by side.
    path : path, optional
        As for :func:`localma.datasets.load_toxicity`.
    synthetic : bool
        Sentences of nonsense words, written to ``toxicity-synthetic.csv``.
    out : path, optional
        Folder for the table, its provenance, the predictions and the parts of an unfinished run. None: a temporary one.

    Returns
    -------
    DataFrame
        Columns encoder, case, share, n, method, metric, mean, sd, mcse, replications. Case "home" is the companies' accuracy in their own language; metric
        "fall" is accuracy at the largest share minus accuracy at the smallest, "lead" LocalMA's accuracy minus the method's.
    """
    replications = replications or (FULL if full else QUICK)
    encoders = tuple(encoders or (("minilm",) if full and not synthetic else ("ngrams",)))
    cases = tuple(cases or (CASES if full else ("he",)))
    shares = SHARES if full else (0.9, 0.5, 0.1)
    for what, chosen, known in (("encoders", encoders, ENCODERS), ("cases", cases, CASES)):
        if wrong := [item for item in chosen if item not in known]:
            raise ValueError(f"{what} contains {wrong[0]!r}; choose from {', '.join(known)}")
    minorities = tuple(dict.fromkeys(code for case in cases for code in CASES[case]))
    name = "toxicity-synthetic" if synthetic else "toxicity"
    data = load_toxicity([*COMPANIES, *minorities, *PILOT], path=path, synthetic=synthetic, seed=seed)
    if data.banner:
        print(data.banner)
    configuration = {
        "seed": seed,
        "replications": replications,
        "cases": list(cases),
        "shares": list(shares),
        "device": device,
        "data": {"origin": data.origin, "checksum": data.checksum},
        "encoders": {encoder: ENCODERS[encoder] for encoder in encoders},
        "training": {"width": WIDTH, "steps": STEPS, "batch_size": BATCH, "learning_rate": RATE, "penalty_grid": list(GRID)},
    }
    # what a part depends on besides its key: a run with other cases picks the same parts up
    settings = {item: configuration[item] for item in ("seed", "replications", "device", "data", "training")}
    companies = "companies--" + "_".join(minorities)
    keys = [
        f"{encoder}--{part}"
        for encoder in encoders
        for part in (companies, *(f"{c.replace('+', '_')}--{s:g}" for c in cases for s in shares))
    ]
    workers = None if jobs == 1 else 1  # threads within a part
    tables: dict[str, dict] = {}  # the companies' part of each encoder, once it is there
    encoded: dict[str, dict] = {}

    def is_finetuned(encoder):
        return device.startswith("cuda") and encoder != "ngrams"

    def sentences(encoder):
        if encoder not in encoded:
            encoded.clear()
            codes = [*COMPANIES, *minorities, *PILOT]
            encoded[encoder] = {code: _sentences(data, code, encoder, device, is_finetuned(encoder)) for code in codes}
        return encoded[encoder]

    def compute(key):
        encoder, part, *rest = key.split("--")
        known = sentences(encoder)
        if part == "companies":
            return _companies(known, encoder, minorities, seed=seed, device=device, workers=workers)
        languages, share = CASES[part.replace("_", "+")], float(rest[0])
        kept = tables[encoder]
        y = np.concatenate([known[code].data.toxic for code in languages])
        P = np.concatenate([kept[f"probability-{code}"] for code in languages])
        penalty = {"classifier": float(kept["penalty"][0]), "weights": float(kept["penalty"][1])}
        texts = x = None
        if is_finetuned(encoder):
            texts = np.concatenate([known[code].data.text for code in languages])
        else:
            x = np.concatenate([known[code].x for code in languages])
        order = splits(len(y), replications, seed=seed)
        more = {"seed": seed, "device": device, "workers": workers, "texts": texts, "encoder": encoder}
        return compare_methods(x, P, y, order, share, penalty=penalty, **more)

    def go(folder):
        done, seconds = {}, 0.0
        for encoder in encoders:  # the companies first: the other parts need them
            for wanted in ([f"{encoder}--{companies}"], [k for k in keys if k.startswith(encoder) and "companies" not in k]):
                todo = [(key, 1) for key in wanted]
                parts, took = run_parts(name, todo, compute, out=folder, configuration=settings, unit="part", jobs=jobs)
                done |= parts
                seconds += took
                tables[encoder] = done[f"{encoder}--{companies}"]
        return done, seconds

    with tempfile.TemporaryDirectory() as temporary:
        parts, seconds = go(Path(out or temporary))
    rows, chosen = [], {}
    for encoder in encoders:
        kept = parts[f"{encoder}--{companies}"]
        for code in COMPANIES:
            if f"home-{code}" in kept:
                head = {
                    "encoder": encoder,
                    "case": "home",
                    "share": np.nan,
                    "n": int(kept[f"n-{code}"]),
                    "method": code,
                    "metric": "accuracy",
                }
                rows.append(head | summarise(kept[f"home-{code}"]))
        for case in cases:
            by_share = {share: parts[f"{encoder}--{case.replace('+', '_')}--{share:g}"] for share in shares}
            n = sum(len(kept[f"toxic-{code}"]) for code in CASES[case])
            rows += tabulate(encoder, case, by_share, n)
        chosen[encoder] = {
            "penalty": {"classifier": float(kept["penalty"][0]), "weights": float(kept["penalty"][1])},
            "pilot_log_loss": {
                role: [round(float(v), 4) for v in kept[f"pilot-{role}"]] for role in ("classifier", "weights") if f"pilot-{role}" in kept
            },
            "end_to_end": is_finetuned(encoder),
        }
        if "unknown" in kept:
            codes = [*COMPANIES, *minorities]
            chosen[encoder]["unknown_share"] = {code: round(float(v), 5) for code, v in zip(codes, kept["unknown"][:, 0], strict=True)}
            chosen[encoder]["pieces_per_sentence"] = {
                code: round(float(v), 1) for code, v in zip(codes, kept["unknown"][:, 1], strict=True)
            }
    table = pd.DataFrame(rows)
    if out is not None:
        if not synthetic:
            _write_predictions(Path(out), {encoder: parts[f"{encoder}--{companies}"] for encoder in encoders}, minorities)
        more = {"settings": settings, "more": {"chosen": chosen}}
        write_results(name, table, Path(out), configuration=configuration, seconds=seconds, device=device, **more)
    return table


def _companies(known: dict[str, _Sentences], encoder: str, minorities, *, seed, device, workers) -> dict:
    """The pilot's choice of penalties, the companies' predictions for every minority sentence, and their accuracy at home."""
    more = {"seed": seed, "device": device, "workers": workers}
    out: dict[str, np.ndarray] = {"penalty": np.array([0.0, 0.0])}
    frozen = known[COMPANIES[0]].x is not None
    if frozen:
        trial = [known[code] for code in PILOT]
        out["pilot-classifier"] = np.mean([pilot(p.x, None, p.data.toxic, **more) for p in trial], axis=0)
        out["penalty"][0] = GRID[int(out["pilot-classifier"].argmin())]

    def ask(asked):
        columns = [_classifier(known[code], asked, encoder, penalty=out["penalty"][0], **more) for code in COMPANIES]
        return np.stack(columns, -1)

    if frozen:
        out["pilot-weights"] = np.mean([pilot(p.x, ask(p), p.data.toxic, **more) for p in trial], axis=0)
        out["penalty"][1] = GRID[int(out["pilot-weights"].argmin())]
        for code in COMPANIES:
            out[f"home-{code}"] = home_accuracy(known[code].x, known[code].data.toxic, penalty=out["penalty"][0], **more)
            out[f"n-{code}"] = np.array(len(known[code].data))
        center, axes = _principal_axes(np.concatenate([p.x for p in trial]))
    for code in minorities:
        # no committed number is finer than these, so the averages can be run again from what is committed
        out[f"probability-{code}"] = ask(known[code]).astype(np.float16).astype(float)
        out[f"toxic-{code}"] = known[code].data.toxic
        if frozen:
            out[f"summary-{code}"] = (32 * ((known[code].x - center) @ axes)).round().clip(-127, 127).astype(np.int8)
    if encoder != "ngrams":
        tokenizer, _ = load_encoder(encoder)
        out["unknown"] = np.array([unknown_share(known[code].data.text, tokenizer) for code in (*COMPANIES, *minorities)])
    return out


def _principal_axes(x: np.ndarray, k: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and axes (d, k) of the first principal components of variance one, from the pilot languages' sentences."""
    center = x.mean(0)
    _, singular, axes = np.linalg.svd(x - center, full_matrices=False)
    return center, (axes[:k] / singular[:k, None]).T * len(x) ** 0.5


def _write_predictions(out: Path, parts: dict[str, dict], minorities) -> None:
    arrays = {}
    for encoder, kept in parts.items():
        if f"summary-{minorities[0]}" not in kept:  # fine-tuned: there are no encoded sentences
            continue
        arrays["language"] = np.repeat(list(minorities), [len(kept[f"toxic-{code}"]) for code in minorities])
        arrays["toxic"] = np.concatenate([kept[f"toxic-{code}"] for code in minorities]).astype(np.uint8)
        arrays[f"{encoder}-probability"] = np.concatenate([kept[f"probability-{code}"] for code in minorities]).astype(np.float16)
        arrays[f"{encoder}-summary"] = np.concatenate([kept[f"summary-{code}"] for code in minorities])
    if arrays:
        out.mkdir(parents=True, exist_ok=True)
        write_arrays(out / "toxicity-predictions.npz", arrays, compressed=True)
