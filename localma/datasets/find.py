"""Finding a data file: a given path, ``LOCALMA_DATA``, the user cache, a checked download; and an error that says which way is open."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Source", "cache_folder", "find"]


@dataclass(frozen=True)
class Source:
    """One file and where it comes from."""

    name: str  #: path below a data folder, such as "housing/rents.csv"
    sha256: str | None = None  #: of the file; None where there is no canonical copy, and then the loader checks the content
    md5: str | None = None  #: instead, where the source publishes only this
    url: str | None = None  #: for a download; None where the source asks for a visit by hand
    advice: str = ""  #: where to get the file by hand, a sentence for the error message


def cache_folder() -> Path:
    """The user's cache, where downloads are kept and where files may be put by hand.

    Examples
    --------
    >>> from localma.datasets.find import cache_folder
    >>> cache_folder().name
    'localma'
    """
    import pooch  # with the data extra

    return Path(pooch.os_cache("localma"))


def find(source: Source, path: str | os.PathLike | None = None) -> Path:
    """The file of a source.

    Parameters
    ----------
    source : Source
    path : path, optional
        The file itself, or a folder that holds ``source.name`` or a file of that base name. It is taken as given or not at all, without a look elsewhere.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        Nowhere to be found; the message lists the places and the ways out.
    ValueError
        Found, but the checksum is another's: the file is damaged, half a download, or another version.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from localma.datasets.find import Source, find
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "rents.csv").write_text("rent")
    ...     find(Source("housing/rents.csv"), folder).name
    'rents.csv'
    """
    if path is not None:
        given = Path(path)
        places = [given / source.name, given / Path(source.name).name] if given.is_dir() else [given]
    else:
        places = [Path(os.environ["LOCALMA_DATA"]) / source.name] if os.environ.get("LOCALMA_DATA") else []
        places.append(cache_folder() / source.name)
    for place in places:
        if place.is_file():
            return _checked(source, place, given=path is not None)
    if path is None and source.url is not None:
        try:
            return _download(source, places[-1])
        except (OSError, ValueError) as error:
            reason = f"; the download from {source.url} failed: {error}"
    else:
        reason = ""
    looked = ", ".join(str(place) for place in places)
    ways = "" if path is not None else " Set LOCALMA_DATA to the folder that holds it, give path=..., or ask for synthetic=True."
    raise FileNotFoundError(f"{Path(source.name).name} was not found; looked for {looked}{reason}. {source.advice}{ways}")


def _checked(source: Source, place: Path, *, given: bool) -> Path:
    for algorithm, name in (("sha256", "SHA-256"), ("md5", "MD5")):
        known = getattr(source, algorithm)
        if known is not None and (found := _digest(place, algorithm)) != known:
            way = "give another path" if given else "remove it and try again"
            raise ValueError(
                f"{place} has the {name} checksum {found[:12]}..., but {Path(source.name).name} has {known[:12]}...: "
                f"it is damaged, half a download or another version; {way}. {source.advice}".rstrip()
            )
    return place


def sha256(place: Path) -> str:
    """Checksum of a file, read in pieces."""
    return _digest(place, "sha256")


def _digest(place: Path, algorithm: str) -> str:
    with open(place, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _download(source: Source, place: Path) -> Path:
    """Pooch writes to a temporary file, checks it and renames it: an interrupted download leaves nothing behind."""
    import pooch

    known = next((f"{kind}:{value}" for kind in ("sha256", "md5") if (value := getattr(source, kind)) is not None), None)
    return Path(pooch.retrieve(source.url, known, fname=place.name, path=place.parent, progressbar=True))
