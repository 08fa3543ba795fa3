"""Files that are written whole or not at all: readers see the old one or the new one, never half of one, whatever
interrupts the writing. When the writing returns, the file is on the disk.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

__all__ = ["write_arrays", "write_atomically"]


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a path beside ``path`` and rename what it wrote.

    Parameters
    ----------
    path : str or Path
        Its folder must exist. A file that is there is replaced and hands its permissions on; of a link, the file that
        it leads to.
    write : callable
        Writes a file at the path that it gets, whose name ends as that of ``path``. If it fails or is interrupted, what
        it wrote is removed, and a file that was at ``path`` before stays.

    Raises
    ------
    ValueError
        If there is something at ``path`` that is no file, such as a folder or a device.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from localma.files import write_atomically
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     place = pathlib.Path(folder) / "note.txt"
    ...     write_atomically(place, lambda p: p.write_text("all of it"))
    ...     place.read_text()
    'all of it'
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        raise ValueError(f"path = {path} is no file that could be replaced: give another")
    # of this call alone: threads may write to one path; and short: the path's own name may be as long as names can be
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix[-20:]}")
    try:
        write(temporary)
        with suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        _sync(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # some systems and disks know no such thing for folders
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until the disk has it."""
    number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows syncs what it could write to
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_arrays(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as :func:`numpy.savez_compressed` does, whole or not at all, to exactly this path: no ending
    is added.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from localma.files import write_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_arrays(pathlib.Path(folder) / "two.average", {"x": np.arange(3), "y": np.ones(2)})
    ...     with np.load(pathlib.Path(folder) / "two.average") as file:
    ...         file.files
    ['x', 'y']
    """

    def write(temporary):
        with open(temporary, "wb") as file:  # numpy appends ".npz" to a path, not to an open file
            np.savez_compressed(file, **arrays)

    write_atomically(path, write)
