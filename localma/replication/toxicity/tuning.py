"""How the networks of the toxicity experiment are trained: one rule, on two languages that nothing else here uses.

The rule, for classifiers first and then for weight networks, whose companies are those classifiers: the candidate with
the lowest log loss on held-out Arabic and Amharic sentences, averaged over both languages, a small and a large share
learned from, and a few random splits. It was the rule for the penalties before; width, steps, batch and learning rate
had been set by hand, after a look at test scores in Hebrew. No sentence of a minority language is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from localma import checks
from localma.datasets import load_toxicity
from localma.engine import one_thread
from localma.replication.lab.experiment import Experiment, made_up, option
from localma.replication.lab.parts import joined
from localma.replication.toxicity import methods
from localma.replication.toxicity.companies import COMPANIES, PILOT, ask_companies, read_sentences
from localma.replication.toxicity.encoders import ENCODERS
from localma.replication.toxicity.methods import pilot

#: Settings of each candidate, of either role; each is tried with every penalty of ``methods.GRID``.
GRID = tuple(
    dict(zip(("width", "steps", "batch_size", "learning_rate"), one, strict=True))
    for one in product((16, 64), (50, 100, 200, 400), (128, 512), (0.003, 0.01, 0.03, 0.1))
)
#: For each role, one step further than its winner wherever that lies at the end of a list. These are not eligible: they
#: show what stopping there costs.
FURTHER = {"width": 256, "steps": 800, "batch_size": 2048, "learning_rate": 0.001}
BEYOND = {
    role: tuple(methods.SETTINGS[role] | {name: FURTHER[name]} for name in names)
    for role, names in (("classifier", list(FURTHER)), ("weights", ["width", "batch_size", "learning_rate"]))
}


@dataclass(kw_only=True)
class CommentsTuning(Experiment):
    """The score of every candidate of :data:`GRID` and :data:`BEYOND` with every penalty.

    Parameters
    ----------
    full : bool
        All candidates, five splits, the MiniLM encoder; else a look: every ninth of ``GRID``, two splits, character
        n-grams.
    encoder, synthetic
        As for :class:`~localma.replication.toxicity.experiment.Comments`.

    Returns
    -------
    DataFrame
        Columns role, width, steps, batch_size, learning_rate, penalty, beyond, log_loss, accuracy, behind (log loss
        minus that of the role's winner) and mcse (of behind, over splits).
    """

    name = "toxicity-tuning"
    summary = "how the networks of the toxicity experiment are trained"
    tunes = "toxicity"

    encoder: str | None = option(word="{}", metavar="NAME", help="of the sentences: tinybert, minilm or ngrams")
    synthetic: bool = made_up()

    def prepare(self):
        self.encoder = self.encoder or ("minilm" if self.full and not self.synthetic else "ngrams")
        checks.choose("encoder", self.encoder, ENCODERS)
        self.repetitions = 5 if self.full else 2
        self.candidates = {role: GRID + BEYOND[role] if self.full else GRID[::9] for role in methods.ROLES}
        self.data = load_toxicity([*COMPANIES, *PILOT], synthetic=self.synthetic, seed=self.seed)
        if self.data.banner:
            print(self.data.banner)

    def configuration(self):
        return {
            "seed": self.seed,
            "repetitions": self.repetitions,
            "data": {"origin": self.data.origin, "checksum": self.data.checksum},
            "encoders": {self.encoder: ENCODERS[self.encoder]},
            "rule": "lowest mean log loss on held-out sentences of the pilot languages; classifiers first, then "
            "weights with their companies",
            "pilot_languages": PILOT,
            "shares": methods.PILOT_SHARES,
            "candidates": self.candidates,
            "penalties": methods.GRID,
        }

    def cells(self, found):
        def of(role, *more):
            return {f"{role}-{k}": (self.score, one, *more) for k, one in enumerate(self.candidates[role])}

        cells = of("classifier")
        if found.keys() >= cells.keys():
            cells["companies"] = (self.ask, choose(self.table("classifier", found))["classifier"])
        return cells | of("weights", found["companies"]) if "companies" in found else cells

    def measure(self, what, *cell):
        return what(*cell)

    def score(self, settings, answers=None):
        """One candidate's scores, of a classifier, or of weights for companies that give these ``answers``."""
        scores = []
        with one_thread():
            for code, part in self.sentences(*PILOT).items():
                P = None if answers is None else answers[code]
                how = {"settings": settings, "repetitions": self.repetitions, "seed": self.seed}
                scores.append(pilot(part.x, P, part.data.toxic, **how))
        return {metric: np.mean([one[metric] for one in scores], axis=0) for metric in scores[0]}

    def ask(self, winner):
        """What the companies, trained as the winner is, say of the pilot languages' sentences."""
        known = self.sentences(*COMPANIES, *PILOT)
        how = {"penalty": winner["penalty"], "settings": winner, "seed": self.seed, "device": "cpu"}
        return ask_companies(known, PILOT, self.encoder, **how)

    def sentences(self, *languages):
        return {code: read_sentences(self.data, code, self.encoder) for code in languages}

    def table(self, role, found):
        """A row for every candidate and penalty."""
        candidates = self.candidates[role]
        parts = joined(found[f"{role}-{k}"] for k in range(len(candidates)))  # (candidates * penalties, splits)
        loss = parts["log_loss"]
        rows = pd.DataFrame(
            {"role": role} | one | {"penalty": c, "beyond": one in BEYOND[role]}
            for one in candidates
            for c in methods.GRID
        )
        behind = loss - loss[np.where(rows["beyond"], np.inf, loss.mean(1)).argmin()]
        error = behind.std(1, ddof=1) / behind.shape[1] ** 0.5
        scores = {"log_loss": loss.mean(1), "accuracy": parts["accuracy"].mean(1)}
        return rows.assign(**scores, behind=behind.mean(1), mcse=error)

    def tables(self, found):
        return {"": pd.concat([self.table(role, found) for role in methods.ROLES], ignore_index=True)}

    def remarks(self, found):
        return {"chosen": choose(self.tables(found)[""])}


def choose(table: pd.DataFrame) -> dict[str, dict]:
    """The settings and the penalty of each role that the rule picks from the table of :class:`CommentsTuning`.

    Examples
    --------
    >>> from localma.replication import load_results, toxicity
    >>> chosen = toxicity.choose(load_results("toxicity-tuning")[0])
    >>> chosen["weights"]["width"] == toxicity.SETTINGS["weights"]["width"]
    True
    """
    best = table.loc[table[~table["beyond"]].groupby("role", sort=False)["log_loss"].idxmin()].set_index("role")
    return best[[*GRID[0], "penalty"]].to_dict("index")
