"""How the networks of the toxicity experiment are trained: one rule, on two languages that nothing else here uses.

The rule, for classifiers first and then for weight networks, whose companies are those classifiers: the candidate with the lowest log loss on held-out
Arabic and Amharic sentences, averaged over both languages, a small and a large share learned from, and a few random splits. It was the rule for the penalties
before; width, steps, batch and learning rate had been set by hand, after a look at test scores in Hebrew. No sentence of a minority language is read here.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from localma.datasets import load_toxicity
from localma.engine import one_thread
from localma.replication.lab.parts import run_parts
from localma.replication.lab.results import write_results
from localma.replication.toxicity import methods
from localma.replication.toxicity.companies import COMPANIES, PILOT, ask_companies, read_sentences
from localma.replication.toxicity.encoders import ENCODERS
from localma.replication.toxicity.methods import pilot


def _candidates(*lists) -> tuple[dict, ...]:
    return tuple(dict(zip(("width", "steps", "batch_size", "learning_rate"), one, strict=True)) for one in product(*lists))


#: Settings of each candidate, of either role; each is tried with every penalty of ``methods.GRID``.
GRID = _candidates((16, 64), (50, 100, 200, 400), (128, 512), (0.003, 0.01, 0.03, 0.1))
#: For each role, one step further than its winner wherever that lies at the end of a list. These are not eligible: they show what stopping there costs.
BEYOND = {
    "classifier": tuple(
        {"width": 64, "steps": 400, "batch_size": 512, "learning_rate": 0.003} | further
        for further in ({"width": 256}, {"steps": 800}, {"batch_size": 2048}, {"learning_rate": 0.001})
    ),
    "weights": tuple(
        {"width": 64, "steps": 100, "batch_size": 512, "learning_rate": 0.003} | further
        for further in ({"width": 256}, {"batch_size": 2048}, {"learning_rate": 0.001})
    ),
}
ROLES = ("classifier", "weights")


def tune(
    *,
    full: bool = True,
    encoder: str | None = None,
    seed: int = 0,
    out: str | Path = "results",
    jobs: int = 1,
    path=None,
    synthetic: bool = False,
) -> pd.DataFrame:
    """Score every candidate of :data:`GRID` and :data:`BEYOND` with every penalty, and write ``toxicity-tuning.csv``.

    Parameters
    ----------
    full : bool
        All candidates, five splits, the MiniLM encoder; else a look: every ninth of ``GRID``, two splits, character n-grams.
    encoder, seed, out, jobs, path, synthetic
        As for :func:`run`.

    Returns
    -------
    DataFrame
        Columns role, width, steps, batch_size, learning_rate, penalty, beyond, log_loss, accuracy, behind (log loss minus that of the role's winner) and mcse
        (of behind, over splits).
    """
    name = "toxicity-tuning" + f"-{encoder}" * (encoder is not None) + "-synthetic" * synthetic
    encoder = encoder or ("minilm" if full and not synthetic else "ngrams")
    if encoder not in ENCODERS:
        raise ValueError(f"encoder = {encoder!r} is not known; choose from {', '.join(ENCODERS)}")
    data = load_toxicity([*COMPANIES, *PILOT], path=path, synthetic=synthetic, seed=seed)
    if data.banner:
        print(data.banner)
    candidates = {role: GRID + BEYOND[role] if full else GRID[::9] for role in ROLES}
    repetitions = 5 if full else 2
    configuration = {
        "seed": seed,
        "repetitions": repetitions,
        "data": {"origin": data.origin, "checksum": data.checksum},
        "encoders": {encoder: ENCODERS[encoder]},
        "rule": "lowest mean log loss on held-out sentences of the pilot languages; classifiers first, then weights with their companies",
        "pilot_languages": list(PILOT),
        "shares": list(methods.PILOT_SHARES),
        "candidates": candidates,
        "penalties": list(methods.GRID),
    }
    sentences = {}  # filled by the process that needs them

    def known(*languages):
        sentences.update({code: read_sentences(data, code, encoder) for code in languages if code not in sentences})
        return [sentences[code] for code in languages]

    def score(key):
        role, number = key.split("-")
        scores = []
        with one_thread():
            for code, part in zip(PILOT, known(*PILOT), strict=True):
                P = companies[code] if role == "weights" else None
                scores.append(pilot(part.x, P, part.data.toxic, settings=candidates[role][int(number)], repetitions=repetitions, seed=seed))
        return {metric: np.mean([one[metric] for one in scores], axis=0) for metric in scores[0]}

    companies, tables, took = {}, [], 0.0
    for role in ROLES:
        keys = [f"{role}-{k}" for k in range(len(candidates[role]))]
        kept = {"out": Path(out), "configuration": configuration, "unit": "candidate", "jobs": jobs}
        parts, seconds = run_parts(name, [(key, 1) for key in keys], score, **kept)
        took += seconds
        tables.append(_table(role, candidates[role], [parts[key] for key in keys]))
        if role == "classifier":
            known(*COMPANIES, *PILOT)
            winner = choose(tables[0])["classifier"]
            how = {"penalty": winner.pop("penalty"), "settings": winner, "seed": seed, "device": "cpu", "workers": None}
            companies.update(zip(PILOT, ask_companies(sentences, known(*PILOT), encoder, **how), strict=True))
    table = pd.concat(tables, ignore_index=True)
    write_results(name, table, Path(out), configuration=configuration, seconds=took, more={"chosen": choose(table)})
    return table


def _table(role: str, candidates, scores) -> pd.DataFrame:
    """A row for every candidate and penalty."""
    loss = np.stack([one["log_loss"] for one in scores]).reshape(-1, scores[0]["log_loss"].shape[1])
    accuracy = np.stack([one["accuracy"] for one in scores]).reshape(loss.shape)
    rows = pd.DataFrame([{"role": role} | one | {"penalty": c, "beyond": one in BEYOND[role]} for one in candidates for c in methods.GRID])
    behind = loss - loss[np.where(rows["beyond"], np.inf, loss.mean(1)).argmin()]
    error = behind.std(1, ddof=1) / behind.shape[1] ** 0.5
    return rows.assign(log_loss=loss.mean(1), accuracy=accuracy.mean(1), behind=behind.mean(1), mcse=error)


def choose(table: pd.DataFrame) -> dict[str, dict]:
    """The settings and the penalty of each role that the rule picks from a table of :func:`tune`.

    Examples
    --------
    >>> from localma.replication import load_results, toxicity
    >>> chosen = toxicity.choose(load_results("toxicity-tuning")[0])
    >>> {role: {name: one[name] for name in toxicity.SETTINGS[role]} for role, one in chosen.items()} == toxicity.SETTINGS
    True
    """
    choice = {}
    for role, rows in table[~table["beyond"]].groupby("role", sort=False):
        best = rows.loc[rows["log_loss"].idxmin()]
        choice[role] = {"width": int(best["width"]), "steps": int(best["steps"]), "batch_size": int(best["batch_size"])}
        choice[role] |= {"learning_rate": float(best["learning_rate"]), "penalty": float(best["penalty"])}
    return choice
