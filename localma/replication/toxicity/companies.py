"""The companies: each trains a text classifier on its own language, and answers for sentences of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from localma.datasets import Toxicity
from localma.engine import first_smallest
from localma.replication.toxicity import methods
from localma.replication.toxicity.encoders import encode, finetune, load_encoder, unknown_share
from localma.replication.toxicity.methods import DICTATORS, home_accuracy, learn, pilot
from localma.replication.toxicity.predictions import letters

#: The languages that have a model; its order is that of the weights.
COMPANIES = ("zh", "en", "fr", "uk")
#: Languages that nothing else here uses, on which penalties are chosen.
PILOT = ("ar", "am")


class Sentences(NamedTuple):
    """Everything that the experiment knows of the sentences, for one encoder."""

    data: Toxicity
    x: Any  # encoded, (n, d); None where networks are fine-tuned


def read_sentences(data: Toxicity, code: str, encoder: str, device: str = "cpu", finetuned: bool = False) -> Sentences:
    """One language's sentences, each once, and encoded if the encoder is frozen."""
    part = data.only(code)
    if len(classes := np.unique(part.toxic)) < 2:
        raise ValueError(
            f"the {code!r} sentences are all {'toxic' if classes[0] else 'not toxic'}; a classifier needs both"
        )
    rows = part.unrepeated()  # no test sentence was seen in training
    return Sentences(part.take(rows), None if finetuned else encode(list(part.text), encoder, device=device)[rows])


def ask_companies(
    known: dict[str, Sentences], asked: Sequence[str], encoder: str, *, penalty: float, settings=None, **more
) -> dict[str, np.ndarray]:
    """Probability of toxic by each company's classifier, which is trained once: (n, 4) for each language ``asked``."""
    more |= {"penalty": penalty, "settings": settings or methods.SETTINGS["classifier"]}
    parts = [known[code] for code in asked]
    answers = np.stack([_classifier(known[code], parts, encoder, **more) for code in COMPANIES], -1)
    return dict(zip(asked, np.split(answers, np.cumsum([len(part.data) for part in parts])[:-1]), strict=True))


def _classifier(known: Sentences, asked, encoder: str, *, seed: int, device: str, **how) -> np.ndarray:
    """Probability of toxic for the sentences ``asked``, language by language, by a model trained on ``known``."""
    y, n = known.data.toxic, len(known.data)
    if known.x is None:
        weights = finetune(encoder, known.data.text, np.broadcast_to(DICTATORS, (n, 2, 2)), y, seed=seed, device=device)
        return weights(np.concatenate([part.data.text for part in asked]))[:, 1].astype(float)
    x = np.concatenate([known.x, *(part.x for part in asked)])
    rows = np.arange(len(x))[None]
    F = np.broadcast_to(DICTATORS, (len(x), 2, 2))
    padded = np.concatenate([y, np.zeros(len(x) - n, int)])
    w = learn(x, F, padded, rows[:, :n], rows[:, n:], seed=seed, device=device, **how)
    return w[0, :, 1].astype(float)


def hire(known: dict[str, Sentences], encoder: str, minorities, *, seed, device) -> dict:
    """The pilot's choice of penalties, the companies' predictions for every minority sentence, and their accuracy at
    home.
    """
    more = {"seed": seed, "device": device}
    out: dict[str, np.ndarray] = {"penalty": np.array([0.0, 0.0])}
    frozen = known[COMPANIES[0]].x is not None
    if frozen:
        trial = [known[code] for code in PILOT]
        out["pilot-classifier"] = np.stack([pilot(p.x, None, p.data.toxic, **more)["log_loss"].mean(1) for p in trial])
        out["penalty"][0] = methods.GRID[first_smallest(out["pilot-classifier"].mean(0))]

    asked = (*(PILOT if frozen else ()), *minorities)
    answers = ask_companies(known, asked, encoder, penalty=out["penalty"][0], **more)

    if frozen:
        scores = [pilot(p.x, answers[code], p.data.toxic, **more) for code, p in zip(PILOT, trial, strict=True)]
        out["pilot-weights"] = np.stack([one["log_loss"].mean(1) for one in scores])
        out["penalty"][1] = methods.GRID[first_smallest(out["pilot-weights"].mean(0))]
        for code in COMPANIES:
            out[f"home-{code}"] = home_accuracy(
                known[code].x, known[code].data.toxic, penalty=out["penalty"][0], **more
            )
            out[f"n-{code}"] = np.array(len(known[code].data))
        center, axes = _principal_axes(np.concatenate([p.x for p in trial]))
    for code in minorities:
        # no committed number is finer than these, so the averages can be run again from what is committed
        out[f"probability-{code}"] = answers[code].astype(np.float16).astype(float)
        out[f"toxic-{code}"] = known[code].data.toxic
        out[f"letters-{code}"] = np.stack([letters(text) for text in known[code].data.text])
        if frozen:
            out[f"summary-{code}"] = (32 * ((known[code].x - center) @ axes)).round().clip(-127, 127).astype(np.int8)
    if encoder != "ngrams":
        tokenizer, _ = load_encoder(encoder)
        out["unknown"] = np.array(
            [unknown_share(known[code].data.text, tokenizer) for code in (*COMPANIES, *minorities, *PILOT)]
        )
    return out


def _principal_axes(x: np.ndarray, k: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and axes (d, k) of the first principal components, scaled to variance one."""
    center = x.mean(0)
    _, singular, axes = np.linalg.svd(x - center, full_matrices=False)
    return center, (axes[:k] / singular[:k, None]).T * len(x) ** 0.5
