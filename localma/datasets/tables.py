"""Reading a table that somebody may have saved again: in another encoding, with another separator, without a column."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path

import pandas as pd

__all__ = ["read_table", "row_in_file"]

#: What readers raise at half a file, or at one that is something else than its name says.
DAMAGED = (
    *(EOFError, OSError, pd.errors.ParserError, pd.errors.EmptyDataError),
    *(zipfile.BadZipFile, lzma.LZMAError, zlib.error),
)


def read_table(place: Path, columns: tuple[str, ...], advice: str, **options) -> pd.DataFrame:
    """A CSV in UTF-8, or in the encoding that Chinese spreadsheets write; or a parquet file, if the name says so.

    ``advice`` is a sentence for error messages: where to get the file. Options are those of :func:`pandas.read_csv`. A
    ValueError names the file, what is wrong with it and the way out.
    """
    try:
        frame = _read_parquet(place) if place.suffix == ".parquet" else _read_csv(place, options)
    except ImportError as error:
        raise ValueError(
            f"{place} is a parquet file, which pandas reads with pyarrow: pip install pyarrow, or save it as"
            f" {place.stem}.csv"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is neither UTF-8 nor GB18030 text; save it as UTF-8. {advice}") from error
    except DAMAGED as error:
        raise ValueError(f"{place} cannot be read ({error}): damaged or half a download. {advice}") from error
    missing = [name for name in columns if name not in frame]
    if missing:
        raise ValueError(f"{place} has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}. {advice}")
    return frame


def _read_parquet(place: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(place).reset_index(drop=True)
    except ValueError as error:  # what pyarrow makes of a file that is cut off
        raise OSError(error) from error


def _read_csv(place: Path, options: dict) -> pd.DataFrame:
    def attempt(encoding):
        # the first line alone, before another separator makes the lines below it look damaged
        names = pd.read_csv(place, encoding=encoding, nrows=0).columns
        for separator, called in ((";", "';'"), ("\t", "tabs")):
            if len(names) == 1 and separator in names[0]:
                raise ValueError(
                    f"{place} has a single column, {names[0]!r}: is it separated by {called}? Save it with commas"
                )
        return pd.read_csv(place, encoding=encoding, **options)

    try:
        return attempt("utf-8-sig")
    except UnicodeDecodeError:
        return attempt("gb18030")


def row_in_file(bad: pd.Series) -> int:
    """Where a table is first bad, counted as a spreadsheet does: the names of the columns are row 1."""
    return int(bad.idxmax()) + 2
