"""Finding a data file: a given path, ``LOCALMA_DATA``, the user cache, a checked download; and an error that says which
way is open.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

__all__ = ["Data", "Source", "cache_folder", "digest", "find"]


@dataclass(frozen=True)
class Source:
    """One file and where it comes from."""

    name: str  #: path below a data folder, such as "housing/rents.csv"
    #: ``ALGORITHM:DIGITS``; none where there is no canonical copy, and then the loader checks the content
    checksum: str = ""
    url: str | None = None  #: for a download; None where the source asks for a visit by hand
    advice: str = ""  #: where to get the file by hand, a sentence for the error message


class Data:
    """What comes from a file, or is made up and then says so."""

    checksum: str  #: of the file, or of nothing ("") if synthetic
    _BANNER: ClassVar[str]  #: of made-up data

    @property
    def synthetic(self) -> bool:
        """Whether the data are made up."""
        return not self.checksum

    @property
    def banner(self) -> str:
        """What every table and figure from made-up data must show; empty for real ones."""
        return self._BANNER if self.synthetic else ""


def cache_folder() -> Path:
    """The user's cache, where downloads are kept and where files may be put by hand; where nothing can be written, a
    folder of this process instead.

    Raises
    ------
    ImportError
        Without pooch, which knows the place.
    """
    try:
        import pooch
    except ImportError as error:
        raise ImportError("the user cache needs pooch: pip install 'localma[plots]'") from error
    folder = Path(pooch.os_cache("localma"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    return folder if writable else _stand_in(folder)


@cache
def _stand_in(folder: Path) -> Path:
    """An empty folder until this process ends; the cache of that name may still be read, see :func:`_folders`."""
    warnings.warn(
        f"the user cache {folder} cannot be written, so nothing is kept for the next time; "
        "make it a folder that can be, or name another (on Linux by XDG_CACHE_HOME)",
        stacklevel=3,
    )
    instead = Path(tempfile.mkdtemp(prefix="localma-"))
    atexit.register(shutil.rmtree, instead, ignore_errors=True)
    _UNWRITABLE[instead] = folder
    return instead


_UNWRITABLE: dict[Path, Path] = {}


def find(source: Source, path: str | os.PathLike | None = None, *, otherwise: tuple[Source, ...] = ()) -> Path:
    """The file of a source.

    Parameters
    ----------
    source : Source
    path : path, optional
        The file itself, or a folder that holds ``source.name`` or a file of that base name. It is taken as given or not
        at all, without a look elsewhere.
    otherwise : tuple of Source
        Files that will do instead. Each place is searched for the source, then for these, before the next place.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        Nowhere to be found; the message lists the places and the ways out. Its cause is that of the download, if one
        failed.
    ValueError
        Found, but the checksum is another's: the file is damaged, half a download, or another version.
    """
    looked, reason, failure = [], "", None
    try:
        for folder in _folders(path):
            for wanted in (source, *otherwise):
                for place in _places(wanted, folder, given=path is not None):
                    if place.is_file():
                        return _checked(wanted, place, given=path is not None)
                    looked += [str(place)] * (wanted is source)
        if path is None and source.url is not None:
            try:
                return _download(source, cache_folder() / source.name)
            except (OSError, ValueError) as error:
                reason, failure = f"; the download from {source.url} failed: {error}", error
    except ImportError as error:
        reason = f"; {error}"
    ways = " Set LOCALMA_DATA to the folder that holds it, give path=..., or ask for synthetic=True." * (path is None)
    nowhere = f"looked for {', '.join(looked)}" if looked else "LOCALMA_DATA is not set"
    words = f"{Path(source.name).name} was not found; {nowhere}{reason}. {source.advice}{ways}"
    raise FileNotFoundError(words) from failure


def _places(source: Source, folder: Path, *, given: bool) -> list[Path]:
    """Of a source in a folder, or in what was given instead of one: a folder with or without our subfolders, or the
    file itself.
    """
    if not given:
        return [folder / source.name]
    return [folder / source.name, folder / Path(source.name).name] if folder.is_dir() else [folder]


def _folders(path) -> Iterator[Path]:
    """Where to look, one after the other: the cache is asked for only if the folder named by the user has not got the
    file.
    """
    if path is not None:
        yield _home(path)
        return
    if os.environ.get("LOCALMA_DATA"):
        yield _home(os.environ["LOCALMA_DATA"])
    folder = cache_folder()
    yield folder
    if folder in _UNWRITABLE:
        yield _UNWRITABLE[folder]


def _home(path: str | os.PathLike) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"path = {str(path)!r} names the home of nobody here: give the whole path") from error


def _checked(source: Source, place: Path, *, given: bool) -> Path:
    if source.checksum:
        algorithm, _, known = source.checksum.partition(":")
        if (found := digest(place, algorithm)) != known:
            way = "give another path" if given else "remove it and try again"
            raise ValueError(
                f"{place} has the {algorithm} checksum {found[:12]}..., but {Path(source.name).name} has"
                f" {known[:12]}...: it is damaged, half a download or another version; {way}. {source.advice}".rstrip()
            )
    return place


def digest(place: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file."""
    with open(place, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _download(source: Source, place: Path) -> Path:
    """Pooch writes to a temporary file, checks it and renames it: an interrupted download leaves nothing behind."""
    import pooch

    known = source.checksum or None
    return Path(pooch.retrieve(source.url, known, fname=place.name, path=place.parent, progressbar=True))
