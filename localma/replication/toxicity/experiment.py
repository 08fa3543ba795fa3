"""The companies and the run of the toxicity experiment, and the predictions that it leaves to whoever has no sentences."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from localma.datasets import Toxicity, load_toxicity
from localma.files import write_arrays
from localma.replication.encoders import ENCODERS, FINETUNING, encode, finetune, load_encoder, unknown_share
from localma.replication.runner import run_parts, summarise, write_results
from localma.replication.toxicity import methods
from localma.replication.toxicity.methods import DICTATORS, METHODS, home_accuracy, learn, pilot, splits

#: The languages that have a model; its order is that of the weights.
COMPANIES = ("zh", "en", "fr", "uk")
#: What the averages are learned for. The paper's Hindi has as many rows as the data set's Hinglish, and its text can be read as one pool or as two tasks.
CASES = {"he": ("he",), "hi": ("hi",), "hin": ("hin",), "he+hin": ("he", "hin"), "he+hi": ("he", "hi")}
#: Shares of the minority sentences that weights are learned from; the rest is the test.
SHARES = (0.9, 0.7, 0.5, 0.3, 0.1, 0.05)
FULL, QUICK = 50, 5
#: Languages that nothing else here uses, on which penalties are chosen.
PILOT = ("ar", "am")


class Predictions(NamedTuple):
    """What the averages need of the minority sentences, without a word of them."""

    language: np.ndarray  #: (n,), "he", "hi" or "hin"
    toxic: np.ndarray  #: (n,), 0 or 1
    probability: np.ndarray  #: (n, 4), of toxic, by the models of ``COMPANIES``
    summary: np.ndarray  #: (n, 32): principal components of the encoder's numbers, each of variance one
    masked: np.ndarray  #: (n,), the sentence as :func:`mask` shows it

    def candidates(self) -> np.ndarray:
        """Class probabilities as averages take them, (n, 4, 2)."""
        return np.stack([1 - self.probability, self.probability], -1)

    def only(self, *languages: str) -> Predictions:
        """The sentences of some languages, in the order that they have here."""
        if missing := [code for code in languages if code not in self.language]:
            raise ValueError(f"language {missing[0]!r} is not among these predictions; there are {', '.join(pd.unique(self.language))}")
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
        masked = np.array([mask(lengths) for lengths in arrays["letters"]])
        return Predictions(arrays["language"], arrays["toxic"].astype(int), probability, summary, masked)


def letters(text: str, words: int = 9) -> np.ndarray:
    """How many letters the first words of a sentence have, zero where there are no more words; (words,), at most 255.

    Examples
    --------
    >>> from localma.replication.toxicity import letters
    >>> letters("no word can be read", words=7)
    array([2, 4, 3, 2, 4, 0, 0], dtype=uint8)
    """
    found = [min(len(word), 255) for word in text.split()[:words]]
    return np.array(found + [0] * (words - len(found)), dtype=np.uint8)


def mask(lengths: Sequence[int], words: int = 6) -> str:
    """The shape of a sentence without its letters: a dot for each, words of more than ten cut short, and what follows the first few words left out.

    Parameters
    ----------
    lengths : sequence of int
        From :func:`letters`.

    Examples
    --------
    >>> from localma.replication.toxicity import letters, mask
    >>> mask(letters("no word of this can be read any more"))
    '·· ···· ·· ···· ··· ·· …'
    """
    shown = " ".join("·" * min(int(n), 10) for n in lengths[:words] if n)
    return shown + (" …" if any(lengths[words:]) else "")


class _Sentences(NamedTuple):
    """Everything that the experiment knows of the sentences, for one encoder."""

    data: Toxicity
    x: np.ndarray | None  # encoded; None where networks are fine-tuned


def read_sentences(data: Toxicity, code: str, encoder: str, device: str = "cpu", finetuned: bool = False) -> _Sentences:
    """One language's sentences, each once, and encoded if the encoder is frozen."""
    part = data.only(code)
    if len(classes := np.unique(part.toxic)) < 2:
        raise ValueError(f"the {code!r} sentences are all {'toxic' if classes[0] else 'not toxic'}; a classifier needs both")
    rows = part.unrepeated()  # no test sentence was seen in training
    return _Sentences(part.take(rows), None if finetuned else encode(list(part.text), encoder, device=device)[rows])


def ask_companies(known: dict[str, _Sentences], asked: Sequence[_Sentences], encoder: str, *, penalty: float, settings=None, **more):
    """Probability of toxic by each company's classifier, which is trained once: for each of the languages ``asked`` an array (n, 4)."""
    settings = settings or methods.SETTINGS["classifier"]
    columns = [_classifier(known[code], asked, encoder, penalty=penalty, settings=settings, **more) for code in COMPANIES]
    return np.split(np.stack(columns, -1), np.cumsum([len(part.data) for part in asked])[:-1])


def _classifier(known: _Sentences, asked, encoder: str, *, penalty: float, settings: dict, seed: int, device: str, workers) -> np.ndarray:
    """Probability of toxic for the sentences ``asked``, one language after the other, by a model trained on ``known``."""
    y, n = known.data.toxic, len(known.data)
    if known.x is None:
        weights = finetune(encoder, known.data.text, np.broadcast_to(DICTATORS, (n, 2, 2)), y, seed=seed, device=device)
        return weights(np.concatenate([part.data.text for part in asked]))[:, 1].astype(float)
    x = np.concatenate([known.x, *(part.x for part in asked)])
    rows = np.arange(len(x))[None]
    F = np.broadcast_to(DICTATORS, (len(x), 2, 2))
    padded = np.concatenate([y, np.zeros(len(x) - n, int)])
    how = {"penalty": penalty, "settings": settings, "seed": seed, "device": device, "workers": workers}
    return learn(x, F, padded, rows[:, :n], rows[:, n:], **how)[0, :, 1].astype(float)


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
    repetitions: int | None = None,
    encoder: str | None = None,
    cases: Sequence[str] | None = None,
    shares: Sequence[float] | None = None,
    finetune: bool | None = None,
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
    repetitions : int, optional
    encoder : str, optional
        A key of :data:`~localma.replication.encoders.ENCODERS`. Where one is asked for, the files are named ``toxicity-ENCODER``.
    cases : sequence of str, optional
        Keys of ``CASES``.
    shares : sequence of float, optional
        Of the sentences that are learned from, instead of the scale's.
    finetune : bool, optional
        Train the encoders end to end, repetition by repetition, in place of small networks on top of one that is frozen. Default: on a GPU only; elsewhere a
        repetition takes many minutes. Where it is asked for, "finetuned" is part of the files' names.
    seed : int
    device : str
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
    name = "toxicity" + f"-{encoder}" * (encoder is not None) + "-finetuned" * bool(finetune) + "-synthetic" * synthetic
    encoder = encoder or ("minilm" if full and not synthetic else "ngrams")
    repetitions = (FULL if full else QUICK) if repetitions is None else repetitions
    cases = tuple(cases or (CASES if full else ("he",)))
    shares = tuple(dict.fromkeys(shares or (SHARES if full else (0.9, 0.5, 0.1))))
    if encoder not in ENCODERS:
        raise ValueError(f"encoder = {encoder!r} is not known; choose from {', '.join(ENCODERS)}")
    if wrong := [case for case in cases if case not in CASES]:
        raise ValueError(f"cases contains {wrong[0]!r}; choose from {', '.join(CASES)}")
    if wrong := [share for share in shares if not 0 < share < 1]:
        raise ValueError(f"shares contains {wrong[0]:g}; each must lie between 0 and 1")
    if finetune and encoder == "ngrams":
        raise ValueError("finetune = True needs an encoder that is a network: choose minilm or tinybert")
    if repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, but is {repetitions}")
    minorities = tuple(dict.fromkeys(code for case in cases for code in CASES[case]))
    data = load_toxicity([*COMPANIES, *minorities, *PILOT], path=path, synthetic=synthetic, seed=seed)
    if data.banner:
        print(data.banner)
    finetuned = (device.startswith("cuda") if finetune is None else finetune) and encoder != "ngrams"
    configuration = {
        "seed": seed,
        "replications": repetitions,
        "cases": list(cases),
        "shares": list(shares),
        "device": device,
        "data": {"origin": data.origin, "checksum": data.checksum},
        "encoders": {encoder: ENCODERS[encoder]},
        "training": dict(FINETUNING)
        if finetuned
        else {
            "networks": methods.SETTINGS,
            "penalty_grid": list(methods.GRID),
            "chosen": "networks by toxicity --tune, penalties by this run's pilot: lowest log loss on held-out sentences of the pilot languages",
            "pilot_languages": list(PILOT),
        },
    }
    # what a part depends on besides its key: a run with other cases picks the same parts up
    settings = {item: configuration[item] for item in ("seed", "replications", "device", "data", "training")}
    first = f"{encoder}--companies--" + "_".join(minorities)
    cells = {f"{encoder}--{case.replace('+', '_')}--{share:g}": (case, share) for case in cases for share in shares}
    common = {"seed": seed, "device": device, "workers": None if jobs == 1 else 1}  # workers: threads within a part

    encoded = {}  # filled by the process that needs them

    def sentences():
        if not encoded:
            encoded.update({code: read_sentences(data, code, encoder, device, finetuned) for code in (*COMPANIES, *minorities, *PILOT)})
        return encoded

    def companies_part(key):
        return _companies(sentences(), encoder, minorities, **common)

    def compare(key):
        case, share = cells[key]
        known = [sentences()[code] for code in CASES[case]]
        y = np.concatenate([part.data.toxic for part in known])
        P = np.concatenate([companies[f"probability-{code}"] for code in CASES[case]])
        penalty = {"classifier": float(companies["penalty"][0]), "weights": float(companies["penalty"][1])}
        texts = np.concatenate([part.data.text for part in known]) if finetuned else None
        x = None if finetuned else np.concatenate([part.x for part in known])
        order = splits(len(y), repetitions, seed=seed)
        return methods.compare_methods(x, P, y, order, share, penalty=penalty, texts=texts, encoder=encoder, **common)

    with tempfile.TemporaryDirectory() as temporary:
        kept = {"out": Path(out or temporary), "configuration": settings, "unit": "part", "jobs": jobs}
        parts, seconds = run_parts(name, [(first, 1)], companies_part, **kept)
        companies = parts[first]  # which the other parts need
        parts, more = run_parts(name, [(key, 1) for key in cells], compare, **kept)
    rows = []
    for code in COMPANIES:
        if f"home-{code}" in companies:
            n = int(companies[f"n-{code}"])
            head = {"encoder": encoder, "case": "home", "share": np.nan, "n": n, "method": code, "metric": "accuracy"}
            rows.append(head | summarise(companies[f"home-{code}"]))
    for case in cases:
        n = sum(len(companies[f"toxic-{code}"]) for code in CASES[case])
        rows += tabulate(encoder, case, {share: parts[key] for key, (of, share) in cells.items() if of == case}, n)
    table = pd.DataFrame(rows)
    if out is not None:
        if not synthetic:
            _write_predictions(Path(out) / f"{name}-predictions.npz", companies, encoder, minorities)
        write_results(
            name,
            table,
            Path(out),
            configuration=configuration,
            seconds=seconds + more,
            device=device,
            settings=settings,
            more={"chosen": {encoder: _chosen(companies, minorities) | {"end_to_end": finetuned}}},
        )
    return table


def _chosen(companies: dict, minorities) -> dict:
    """What the companies' part says of itself, for the provenance."""
    chosen = {}
    if "pilot-classifier" in companies:  # not where all of the encoder is trained
        roles = ("classifier", "weights")
        lines = {role: [[round(float(v), 4) for v in line] for line in companies[f"pilot-{role}"]] for role in roles}
        chosen["penalty"] = {role: float(c) for role, c in zip(roles, companies["penalty"], strict=True)}
        chosen["pilot_log_loss"] = {role: dict(zip(PILOT, lines[role], strict=True)) for role in roles}
    if "unknown" in companies:
        for k, (name, digits) in enumerate((("unknown_share", 5), ("pieces_per_sentence", 1))):
            values = companies["unknown"][:, k]
            chosen[name] = {code: round(float(v), digits) for code, v in zip((*COMPANIES, *minorities, *PILOT), values, strict=True)}
    return chosen


def _companies(known: dict[str, _Sentences], encoder: str, minorities, *, seed, device, workers) -> dict:
    """The pilot's choice of penalties, the companies' predictions for every minority sentence, and their accuracy at home."""
    more = {"seed": seed, "device": device, "workers": workers}
    out: dict[str, np.ndarray] = {"penalty": np.array([0.0, 0.0])}
    frozen = known[COMPANIES[0]].x is not None
    if frozen:
        trial = [known[code] for code in PILOT]
        out["pilot-classifier"] = np.stack([pilot(p.x, None, p.data.toxic, **more)["log_loss"].mean(1) for p in trial])
        out["penalty"][0] = methods.GRID[int(out["pilot-classifier"].mean(0).argmin())]

    asked = (*(PILOT if frozen else ()), *minorities)
    answers = ask_companies(known, [known[code] for code in asked], encoder, penalty=out["penalty"][0], **more)
    answers = dict(zip(asked, answers, strict=True))

    if frozen:
        scores = [pilot(p.x, answers[code], p.data.toxic, **more) for code, p in zip(PILOT, trial, strict=True)]
        out["pilot-weights"] = np.stack([one["log_loss"].mean(1) for one in scores])
        out["penalty"][1] = methods.GRID[int(out["pilot-weights"].mean(0).argmin())]
        for code in COMPANIES:
            out[f"home-{code}"] = home_accuracy(known[code].x, known[code].data.toxic, penalty=out["penalty"][0], **more)
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
        out["unknown"] = np.array([unknown_share(known[code].data.text, tokenizer) for code in (*COMPANIES, *minorities, *PILOT)])
    return out


def _principal_axes(x: np.ndarray, k: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and axes (d, k) of the first principal components of variance one, from the pilot languages' sentences."""
    center = x.mean(0)
    _, singular, axes = np.linalg.svd(x - center, full_matrices=False)
    return center, (axes[:k] / singular[:k, None]).T * len(x) ** 0.5


def _write_predictions(path: Path, companies: dict, encoder: str, minorities) -> None:
    if f"summary-{minorities[0]}" not in companies:  # fine-tuned: there are no encoded sentences
        return

    def whole(what, kind):
        return np.concatenate([companies[f"{what}-{code}"] for code in minorities]).astype(kind)

    arrays = {
        "language": np.repeat(list(minorities), [len(companies[f"toxic-{code}"]) for code in minorities]),
        "toxic": whole("toxic", np.uint8),
        "letters": whole("letters", np.uint8),
        f"{encoder}-probability": whole("probability", np.float16),
        f"{encoder}-summary": whole("summary", np.int8),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, arrays, compressed=True)
