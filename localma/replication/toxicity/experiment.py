"""The run of the toxicity experiment."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from localma.datasets import load_toxicity
from localma.replication.lab.parts import run_parts
from localma.replication.lab.results import summarise, write_results
from localma.replication.toxicity import methods
from localma.replication.toxicity.companies import COMPANIES, PILOT, hire, read_sentences
from localma.replication.toxicity.encoders import ENCODERS, FINETUNING
from localma.replication.toxicity.methods import METHODS, splits
from localma.replication.toxicity.predictions import save_predictions

#: What the averages are learned for. The paper's Hindi has as many rows as the data set's Hinglish, and its text can be read as one pool or as two tasks.
CASES = {"he": ("he",), "hi": ("hi",), "hin": ("hin",), "he+hin": ("he", "hin"), "he+hi": ("he", "hi")}
#: Shares of the minority sentences that weights are learned from; the rest is the test.
SHARES = (0.9, 0.7, 0.5, 0.3, 0.1, 0.05)
FULL, QUICK = 50, 5


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
        A key of :data:`~localma.replication.toxicity.encoders.ENCODERS`. Where one is asked for, the files are named ``toxicity-ENCODER``.
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
        return hire(sentences(), encoder, minorities, **common)

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
            save_predictions(Path(out) / f"{name}-predictions.npz", companies, encoder, minorities)
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
