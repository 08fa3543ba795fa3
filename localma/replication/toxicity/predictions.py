"""What the companies say of the minority sentences, for whoever has no sentences; and how a sentence is shown without
its letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from localma.replication.lab.results import load_arrays


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
            raise ValueError(
                f"language {missing[0]!r} is not among these predictions; "
                f"there are {', '.join(pd.unique(self.language))}"
            )
        return Predictions(*(part[np.isin(self.language, languages)] for part in self))


def load_predictions(encoder: str = "minilm") -> Predictions:
    """The committed predictions of the full run for every Hebrew, Hindi and Hinglish sentence, rounded to half
    precision.

    Parameters
    ----------
    encoder : str
        "minilm": what the committed full run used.

    Examples
    --------
    >>> from localma.replication import toxicity
    >>> toxicity.load_predictions("minilm").only("he").probability.shape
    (1990, 4)
    """
    arrays = load_arrays("toxicity")
    known = sorted(name.removesuffix("-probability") for name in arrays if name.endswith("-probability"))
    if encoder not in known:
        raise ValueError(f"encoder = {encoder!r} has no committed predictions; there are {', '.join(known)}")
    probability = arrays[f"{encoder}-probability"].astype(np.float64)
    summary = arrays[f"{encoder}-summary"].astype(np.float32) / 32
    masked = np.array([mask(lengths) for lengths in arrays["letters"]])
    return Predictions(arrays["language"], arrays["toxic"].astype(int), probability, summary, masked)


def letters(text: str) -> np.ndarray:
    """How many letters the first nine words of a sentence have, at most 255 each; zero where there are no more."""
    found = [min(len(word), 255) for word in text.split()[:9]]
    return np.array(found + [0] * (9 - len(found)), dtype=np.uint8)


def mask(lengths: Sequence[int]) -> str:
    """The shape of a sentence without its letters, from :func:`letters`: a dot for each, words of more than ten cut
    short, and what follows the first six words left out.

    Examples
    --------
    >>> from localma.replication.toxicity.predictions import letters, mask
    >>> mask(letters("no word of this can be read any more"))
    '·· ···· ·· ···· ··· ·· …'
    """
    shown = " ".join("·" * min(int(n), 10) for n in lengths[:6] if n)
    return shown + (" …" if any(lengths[6:]) else "")


def stored(companies: dict[str, np.ndarray], encoder: str, minorities: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of :class:`Predictions`, as a file keeps them; none where networks were fine-tuned: nothing is encoded
    then.
    """
    if f"summary-{minorities[0]}" not in companies:
        return {}

    def whole(what, kind):
        return np.concatenate([companies[f"{what}-{code}"] for code in minorities]).astype(kind)

    return {
        "language": np.repeat(list(minorities), [len(companies[f"toxic-{code}"]) for code in minorities]),
        "toxic": whole("toxic", np.uint8),
        "letters": whole("letters", np.uint8),
        f"{encoder}-probability": whole("probability", np.float16),
        f"{encoder}-summary": whole("summary", np.int8),
    }
