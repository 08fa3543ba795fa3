"""The run of the toxicity experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from localma.checks import choose
from localma.datasets import load_toxicity
from localma.replication.lab.experiment import Experiment, made_up, number_of, option
from localma.replication.lab.results import tidy
from localma.replication.toxicity import methods
from localma.replication.toxicity.companies import COMPANIES, PILOT, hire, read_sentences
from localma.replication.toxicity.encoders import ENCODERS, FINETUNING
from localma.replication.toxicity.methods import METHODS, ROLES, splits
from localma.replication.toxicity.predictions import stored

#: What the averages are learned for. The paper's Hindi has as many rows as the data set's Hinglish, and its text can be
#: read as one pool or as two tasks.
CASES = {"he": ("he",), "hi": ("hi",), "hin": ("hin",), "he+hin": ("he", "hin"), "he+hi": ("he", "hi")}
#: Shares of the minority sentences that weights are learned from; the rest is the test.
SHARES = (0.9, 0.7, 0.5, 0.3, 0.1, 0.05)
FULL, QUICK = 50, 5


def tabulate(encoder: str, case: str, by_share: dict[float, dict], n: int) -> list[dict]:
    """Rows of the table for one case, and what each method loses from the largest share to the smallest, repetition by
    repetition.
    """
    rows, head = [], {"encoder": encoder, "case": case}
    shares = sorted(by_share, reverse=True)
    for share in shares:
        rows += tidy(head | {"share": share, "n": round(share * n)}, by_share[share])
    if len(shares) > 1:
        most, least = by_share[shares[0]], by_share[shares[-1]]
        fall = {f"{m}.fall": most[f"{m}.accuracy"] - least[f"{m}.accuracy"] for m in METHODS}
        rows += tidy(head | {"share": np.nan, "n": n}, fall)
    return rows


@dataclass(kw_only=True)
class Comments(Experiment):
    """Companies, a pilot, and five methods for every case and share.

    Parameters
    ----------
    full : bool
        All cases and shares, 50 repetitions, the MiniLM encoder; else a look: Hebrew, three shares, 5 repetitions,
        character n-grams.
    repetitions : int, optional
    encoder : str, optional
        A key of :data:`~localma.replication.toxicity.encoders.ENCODERS`. Where one is asked for, it is part of the
        files' names.
    cases : sequence of str, optional
        Keys of ``CASES``.
    shares : sequence of float, optional
        Of the sentences that are learned from, instead of the scale's.
    finetune : bool, optional
        Train the encoders end to end, repetition by repetition, in place of small networks on top of one that is
        frozen. Default: on a GPU only; elsewhere a repetition takes many minutes. Where it is asked for, "finetuned" is
        part of the files' names.
    device : str
    synthetic : bool
        Sentences of nonsense words.

    Returns
    -------
    DataFrame
        Columns encoder, case, share, n, method, metric, mean, sd, mcse, replications. Case "home" is the companies'
        accuracy in their own language; metric "fall" is accuracy at the largest share minus accuracy at the smallest,
        "lead" LocalMA's accuracy minus the method's.
    """

    name = "toxicity"
    summary = "Section 5.2: toxic or not in Hebrew and Hindi, from models of four other languages"
    extent = ("cases", "shares", "encoder", "finetune")

    repetitions: int | None = number_of("of the experiment")
    encoder: str | None = option(
        word="{}", metavar="NAME", help="of the sentences: tinybert, minilm or ngrams; the files are named after it"
    )
    cases: Sequence[str] | None = option(
        flag="case",
        metavar="NAME",
        nargs="+",
        help="only these cases: he, hi, hin, he+hin, he+hi (default the scale's)",
    )
    shares: Sequence[float] | None = option(
        flag="share", type=float, metavar="S", nargs="+", help="only these shares to learn from (default the scale's)"
    )
    finetune: bool | None = option(
        word="finetuned",
        action="store_true",
        help="train the encoders end to end, as is done on a GPU, here too: hours; the files are named NAME-finetuned",
    )
    synthetic: bool = made_up()
    device: str = "cpu"

    def prepare(self):
        self.scaled(repetitions=(FULL, QUICK))
        self.encoder = self.encoder or ("minilm" if self.full and not self.synthetic else "ngrams")
        self.cases = tuple(self.cases or (CASES if self.full else ("he",)))
        self.shares = tuple(dict.fromkeys(self.shares or (SHARES if self.full else (0.9, 0.5, 0.1))))
        choose("encoder", self.encoder, ENCODERS)
        if wrong := [case for case in self.cases if case not in CASES]:
            raise ValueError(f"cases contains {wrong[0]!r}; choose from {', '.join(CASES)}")
        if wrong := [share for share in self.shares if not 0 < share < 1]:
            raise ValueError(f"shares contains {wrong[0]:g}; each must lie between 0 and 1")
        if self.finetune and self.encoder == "ngrams":
            raise ValueError("finetune = True needs an encoder that is a network: choose minilm or tinybert")
        self.minorities = tuple(dict.fromkeys(code for case in self.cases for code in CASES[case]))
        self.data = load_toxicity([*COMPANIES, *self.minorities, *PILOT], synthetic=self.synthetic, seed=self.seed)
        if self.data.banner:
            print(self.data.banner)
        on_a_gpu = self.device.startswith("cuda") and self.encoder != "ngrams"
        self.finetune = on_a_gpu if self.finetune is None else self.finetune

    def configuration(self):
        frozen = {
            "networks": methods.SETTINGS,
            "penalty_grid": methods.GRID,
            "chosen": "networks by toxicity --tune, penalties by this run's pilot: lowest log loss on held-out "
            "sentences of the pilot languages",
            "pilot_languages": PILOT,
        }
        return {
            "seed": self.seed,
            "replications": self.repetitions,
            "cases": list(self.cases),
            "shares": list(self.shares),
            "device": self.device,
            "data": {"origin": self.data.origin, "checksum": self.data.checksum},
            "encoders": {self.encoder: ENCODERS[self.encoder]},
            "training": dict(FINETUNING) if self.finetune else frozen,
        }

    def cells(self, found):
        first = f"{self.encoder}--companies--" + "_".join(self.minorities)
        if first not in found:
            return {first: (self.hire,)}
        answers = found[first]
        return {first: ()} | {
            f"{self.encoder}--{case.replace('+', '_')}--{share:g}": (self.compare, case, share, answers)
            for case in self.cases
            for share in self.shares
        }

    def measure(self, what, *cell):
        return what(*cell)

    def hire(self):
        """The companies' part: the penalties that the pilot chose, and what the companies say of every sentence."""
        known = self.sentences(*COMPANIES, *self.minorities, *PILOT)
        return hire(known, self.encoder, self.minorities, seed=self.seed, device=self.device)

    def compare(self, case, share, answers):
        """All methods for one case and share, knowing the companies' ``answers``."""
        known = self.sentences(*CASES[case]).values()
        y = np.concatenate([part.data.toxic for part in known])
        P = np.concatenate([answers[f"probability-{code}"] for code in CASES[case]])
        how = {"penalty": dict(zip(ROLES, answers["penalty"].tolist(), strict=True)), "encoder": self.encoder}
        texts = np.concatenate([part.data.text for part in known]) if self.finetune else None
        x = None if self.finetune else np.concatenate([part.x for part in known])
        order = splits(len(y), self.repetitions, seed=self.seed)
        return methods.compare_methods(x, P, y, order, share, texts=texts, seed=self.seed, device=self.device, **how)

    def sentences(self, *languages):
        return {code: read_sentences(self.data, code, self.encoder, self.device, self.finetune) for code in languages}

    def tables(self, found):
        answers, *rest = found.values()
        rows = []
        for code in COMPANIES:
            if f"home-{code}" in answers:
                head = {"encoder": self.encoder, "case": "home", "share": np.nan, "n": int(answers[f"n-{code}"])}
                rows += tidy(head, {f"{code}.accuracy": answers[f"home-{code}"]})
        parts = iter(rest)
        for case in self.cases:
            n = sum(len(answers[f"toxic-{code}"]) for code in CASES[case])
            rows += tabulate(self.encoder, case, {share: next(parts) for share in self.shares}, n)
        return {"": pd.DataFrame(rows)}

    def predictions(self, found):
        return {} if self.synthetic else stored(next(iter(found.values())), self.encoder, self.minorities)

    def remarks(self, found):
        chosen = _chosen(next(iter(found.values())), self.minorities)
        return {"chosen": {self.encoder: chosen | {"end_to_end": self.finetune}}}


run = Comments.run


def _chosen(companies: dict, minorities) -> dict:
    """What the companies' part says of itself, for the provenance."""
    chosen = {}
    if "pilot-classifier" in companies:  # not where all of the encoder is trained
        loss = {role: companies[f"pilot-{role}"].astype(float).round(4).tolist() for role in ROLES}
        chosen["penalty"] = dict(zip(ROLES, companies["penalty"].tolist(), strict=True))
        chosen["pilot_log_loss"] = {role: dict(zip(PILOT, loss[role], strict=True)) for role in ROLES}
    if "unknown" in companies:
        languages = (*COMPANIES, *minorities, *PILOT)
        for k, (name, digits) in enumerate((("unknown_share", 5), ("pieces_per_sentence", 1))):
            values = [round(value, digits) for value in companies["unknown"][:, k].tolist()]
            chosen[name] = dict(zip(languages, values, strict=True))
    return chosen
