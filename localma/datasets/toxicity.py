"""Toxic or not: sentences in several languages, for the paper's Section 5.2. The texts are offensive; nothing here
prints one.

Two kinds of file are read. The collected one, ``toxicity/toxicity.csv.gz``, holds the data set's own Chinese, English,
Ukrainian and Hindi rows (and more languages that the paper does not use), Hebrew from its probable source, a French
substitute and the Hinglish corpus behind the data set's ``hin``. The data set's own files, one per language, are
downloaded where there is none; they are known by their content: the numbers of rows, of toxic rows and of bytes of
text, where these are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from localma.datasets.find import Data, Source, digest, find
from localma.datasets.tables import read_table, row_in_file

__all__ = ["LANGUAGES", "Toxicity", "load_toxicity"]

#: Of every language its name, and of the data set's own file the rows, the toxic rows and the bytes of text in UTF-8
#: (None: not known to us), as its card counts them.
CARD = {
    "zh": ("Chinese", 5000, 2500, 299_235),
    "en": ("English", 5000, 2500, 351_178),
    "fr": ("French", 5000, 2500, 561_103),
    "uk": ("Ukrainian", 5000, 2500, 570_595),
    "he": ("Hebrew", 2011, None, 219_691),
    "hi": ("Hindi", 5000, 2500, 1_782_662),
    "hin": ("Hinglish", 4363, None, 783_811),
    "am": ("Amharic", 5000, 2500, 1_042_628),
    "ar": ("Arabic", 5000, 2500, None),
    "de": ("German", 5000, 2500, 881_017),
    "es": ("Spanish", 5000, 2500, 918_750),
    "ru": ("Russian", 5000, 2500, 650_001),
}
#: Code and name of every language that can be asked for; ``hin`` is Hindi in Roman script, mixed with English.
LANGUAGES = {code: name for code, (name, *_) in CARD.items()}
PAPER = ("zh", "en", "fr", "uk", "he", "hi")

#: Where the data set's own files lie, at one state of its repository: one for each language.
ADDRESS = (
    "https://huggingface.co/datasets/textdetox/multilingual_toxicity_dataset/resolve/01907546324b0330d2d8b7669648cc18823323e5/"
    "data/{code}-00000-of-00001.parquet"
)
ADVICE = (
    "Put the parquet files of huggingface.co/datasets/textdetox/multilingual_toxicity_dataset (folder data, one for"
    " each language) into a folder toxicity/textdetox there."
)
COLLECTED = Source(
    "toxicity/toxicity.csv.gz", "sha256:dfae2e76b9522c2c60f7c8700eb27067718632d7cb05c5479b820824eaf9176c", advice=ADVICE
)


@dataclass(frozen=True)
class Toxicity(Data):
    """Sentences, their languages and whether each is toxic."""

    _BANNER = "SYNTHETIC SENTENCES OF NONSENSE WORDS: no number below says anything about a real language"

    text: np.ndarray  #: (n,), strings
    toxic: np.ndarray  #: (n,), 0 or 1
    language: np.ndarray  #: (n,), codes as in ``LANGUAGES``
    origin: str  #: "collected", "textdetox" (the data set's own files) or "synthetic"
    checksum: str  #: of the file or files, the first 12 digits; of nothing ("") if synthetic

    def __len__(self) -> int:
        return len(self.text)

    def take(self, rows) -> Toxicity:
        """Some of the rows."""
        return Toxicity(self.text[rows], self.toxic[rows], self.language[rows], self.origin, self.checksum)

    def only(self, language: str) -> Toxicity:
        """The rows of one language.

        Examples
        --------
        >>> from localma.datasets import load_toxicity
        >>> len(load_toxicity(synthetic=True).only("he"))
        400
        """
        if language not in self.language:
            there = ", ".join(pd.unique(self.language))
            raise ValueError(f"language {language!r} is not among the {len(self)} rows; there are {there}")
        return self.take(self.language == language)

    def unrepeated(self) -> np.ndarray:
        """Numbers of the rows whose text does not occur earlier in the same language."""
        return np.flatnonzero(~pd.DataFrame({"language": self.language, "text": self.text}).duplicated().to_numpy())


def load_toxicity(
    languages: Sequence[str] = PAPER, *, path: str | Path | None = None, synthetic: bool = False, seed: int = 0
) -> Toxicity:
    """Sentences labelled toxic or not.

    Parameters
    ----------
    languages : sequence of str, or str
        Codes from :data:`LANGUAGES`, each once.
    path : path, optional
        The collected file, or a folder that holds it or the data set's own files (``en-00000-of-00001.parquet``,
        ``en.parquet`` or ``en.csv`` with columns text, toxic). Default: ``LOCALMA_DATA``, then the user cache; then a
        download of the data set's own files into it, less than 2 MB each. These need pyarrow.
    synthetic : bool
        Make sentences of nonsense words up instead, 1,000 for each of zh, en, fr, uk; 400 for he, 800 for every other
        language. No file is looked for.
    seed : int
        Of the synthetic sentences, and of the choice of French rows in the collected file: as many toxic rows as there
        are others, source by source, so that the source says nothing about the label.

    Returns
    -------
    Toxicity

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file, the column or the language, and the way out.

    References
    ----------
    Dementieva et al. (2024), Overview of the multilingual text detoxification task at PAN 2024.

    Examples
    --------
    >>> from localma.datasets import load_toxicity
    >>> data = load_toxicity(synthetic=True)
    >>> len(data), data.synthetic, data.toxic.mean().round(1)
    (5200, True, np.float64(0.5))
    """
    if isinstance(languages, str):
        languages = [languages]
    unknown = [code for code in languages if code not in LANGUAGES]
    if unknown or not len(languages):
        raise ValueError(f"language {(unknown or [''])[0]!r} is not known; choose from {', '.join(LANGUAGES)}")
    if twice := [code for k, code in enumerate(languages) if code in languages[:k]]:
        raise ValueError(
            f"language {twice[0]!r} is named twice, which would repeat its sentences; name each language once"
        )
    if synthetic:
        return _pack(pd.concat([_nonsense(code, seed) for code in languages]), languages, "synthetic", "")
    given = None if path is None else Path(path).expanduser()
    if given is not None and given.is_file() and (given.suffix == ".parquet" or given.stem in LANGUAGES):
        raise ValueError(
            f"path = {given} is one language of the data set; give the folder that holds it, {given.parent}"
        )
    try:
        # place by place: a collected file further on does not hide the own files
        place = find(COLLECTED, path, otherwise=_own_sources(languages[0]))
    except FileNotFoundError as error:
        return _own_files(languages, path, error)
    if place.name in {Path(own.name).name for own in _own_sources(languages[0])}:
        return _own_files(languages, path)
    frame = _read(place, ("lang", "text", "toxic", "source", "dup"))
    french = frame["lang"] == "fr"
    frame = pd.concat([frame[~french], _balanced(frame[french & (frame["dup"] == 0)], seed)])
    return _pack(frame, languages, "collected", digest(place)[:12])


def _balanced(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Source by source as many rows of the commoner label as of the rarer one, at random."""
    toxic = frame.groupby("source")["toxic"]
    count = toxic.transform("sum")
    least = np.minimum(count, toxic.transform("size") - count)
    order = frame.sample(frac=1, random_state=seed)
    return order[order.groupby(["source", "toxic"]).cumcount() < least[order.index]].sort_index()


def _own_sources(code: str, url: str | None = None) -> tuple[Source, ...]:
    """The names that a language's own file may have; the first is the one it is published under."""
    names = (f"{code}-00000-of-00001.parquet", f"{code}.parquet", f"{code}.csv")
    return tuple(Source(f"toxicity/textdetox/{name}", url=url, advice=ADVICE) for name in names)


def _own_files(languages, path, not_found: FileNotFoundError | None = None) -> Toxicity:
    frames, sums = [], []
    for code in languages:
        own = _own_sources(code, ADDRESS.format(code=code))
        try:
            place = find(own[0], path, otherwise=own[1:])
        except FileNotFoundError as error:
            if not any(_is_here(other, path) for other in LANGUAGES):
                tried = f" The download from {own[0].url} failed: {error.__cause__}" if error.__cause__ else ""
                raise FileNotFoundError(f"{not_found}{tried}") from error
            raise FileNotFoundError(
                f"the data set's file for {LANGUAGES[code]} is not beside the others: {error}"
            ) from error
        frames.append(_checked(place, code).assign(lang=code))
        sums.append(digest(place)[:12])
    return _pack(pd.concat(frames), languages, "textdetox", "+".join(sums))


def _is_here(code: str, path) -> bool:
    """Whether a language's own file can be found without a download."""
    own = _own_sources(code)
    try:
        return find(own[0], path, otherwise=own[1:]).is_file()
    except FileNotFoundError:
        return False


def _checked(place: Path, code: str) -> pd.DataFrame:
    """A language's own file, if it holds what the data set's card says."""
    frame = _read(place, ("text", "toxic"))
    found = (len(frame), int(frame["toxic"].sum()), sum(len(text.encode()) for text in frame["text"]))
    language, *counts = CARD[code]
    for what, expected, got in zip(("rows", "toxic rows", "bytes of text"), counts, found, strict=True):
        if expected is not None and expected != got:
            raise ValueError(
                f"{place} has {got:,} {what}, but the data set's {language} has {expected:,}: half a"
                f" download or another version; remove it and try again. {ADVICE}"
            )
    return frame


def _read(place: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    frame = read_table(place, columns, ADVICE, keep_default_na=False)  # "null" and "NA" are texts like any other
    bad = ~frame["toxic"].isin([0, 1])
    if bad.any():
        raise ValueError(
            f"column 'toxic' of {place} must hold 0 or 1, but row {row_in_file(bad)} has"
            f" {frame['toxic'][bad].iloc[0]!r}. {ADVICE}"
        )
    return frame


def _pack(frame: pd.DataFrame, languages, origin: str, checksum: str) -> Toxicity:
    frame = pd.concat([frame[frame["lang"] == code] for code in languages])
    kinds = {"text": object, "toxic": int, "lang": object}
    text, toxic, language = (frame[name].to_numpy(dtype=kind) for name, kind in kinds.items())
    return Toxicity(text, toxic, language, origin, checksum)


def _nonsense(code: str, seed: int) -> pd.DataFrame:
    """Sentences of four to twelve made-up words; one word in three is a marker, and its kind goes with the label.

    Half of a language's markers are its own, half are shared by a few languages, so that models of other languages know
    something, and not the same.
    """
    number = list(LANGUAGES).index(code)
    rng = np.random.default_rng([seed, number])
    letters = "abcdefghijklmnopqrstuvwxyz"
    family = np.random.default_rng([seed, 99, number % 3])

    def words(k, generator):
        return np.array(["".join(generator.choice(list(letters), generator.integers(3, 7))) for _ in range(k)])

    common = words(200, rng)
    markers = [np.concatenate([words(10, rng), words(10, family)]) for _ in range(2)]
    n = {"zh": 1000, "en": 1000, "fr": 1000, "uk": 1000, "he": 400}.get(code, 800)
    toxic = rng.permutation(np.arange(n) % 2)
    texts = []
    for label in toxic:
        length = rng.integers(4, 13)
        kind = np.where(rng.random(length) < 0.8, label, 1 - label)
        picked = np.where(kind == 1, rng.choice(markers[1], length), rng.choice(markers[0], length))
        texts.append(" ".join(np.where(rng.random(length) < 1 / 3, picked, rng.choice(common, length))))
    return pd.DataFrame({"lang": code, "text": texts, "toxic": toxic})
