"""Long runs: cut into parts that are kept as they finish, and resumed where they stopped."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

import localma
from localma.files import write_arrays

Part = dict[str, np.ndarray]


def run_parts(
    name: str,
    parts: Iterable[tuple[str, int]],
    compute: Callable[[str], Part],
    *,
    out: Path,
    configuration: dict,
    unit: str = "fit",
    jobs: int = 1,
) -> tuple[dict[str, Part], float]:
    """Compute every part that is not on disk yet and return all of them, with the seconds that they took together.

    Parameters
    ----------
    name : str
        Of the experiment; parts of a second kind go by NAME-more.
    parts : iterable of (key, size)
        Key of each part, fit for a file name, and how many units of work it holds (for the progress bar).
    compute : callable
        ``compute(key)`` gives the part's arrays. Its random numbers must come from the key and the configuration alone.
    out : Path
        Parts wait in a hidden folder there until the run is complete. Its name holds a digest of ``configuration``, so a run with other
        settings neither picks them up nor removes them.
    jobs : int
        How many parts to compute side by side, each in a process of its own, which gets ``compute`` with all that it refers to. Not a setting: a run may be
        resumed with another number.

    Raises
    ------
    RuntimeError
        If the package's source was edited before one of the processes started.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, but is {jobs}")
    parts = dict(parts)
    folder = parts_folder(name, out, configuration)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {key: folder / f"{key}.npz" for key in parts}
    done = {key: part for key, path in paths.items() if (part := _kept(path)) is not None}
    missing = [key for key in parts if key not in done]
    with tqdm(total=sum(parts.values()), desc=name, unit=unit, smoothing=0.1) as bar:
        bar.update(sum(parts[key] for key in done))
        if jobs == 1:
            finished = (_compute_part(key, paths[key], compute, code_digest()) for key in missing)
        else:
            workers = Parallel(n_jobs=jobs, batch_size=1, pre_dispatch=jobs, return_as="generator_unordered")
            finished = workers(delayed(_compute_part)(key, paths[key], compute, code_digest()) for key in missing)
        for key in finished:
            bar.update(parts[key])
    done |= {key: _read(paths[key]) for key in missing}
    seconds = sum(float(part.pop("seconds")) for part in done.values())
    return {key: done[key] for key in parts}, seconds


def _read(path: Path) -> Part:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy alone leaves a damaged file open
        return dict(arrays)


def _kept(path: Path) -> Part | None:
    """A part that is on disk already; None if it is not, or cannot be read and was removed, for a run must not stumble over it again and again."""
    try:
        return _read(path)
    except FileNotFoundError:
        return None
    except (BadZipFile, EOFError, ValueError) as error:
        print(f"warning: {path} is damaged ({error}); it is removed and computed again", file=sys.stderr)
        path.unlink()
        return None


def _compute_part(key: str, path: Path, compute: Callable[[str], Part], code: str) -> str:
    """Compute one part and keep it at once, so that whoever started it may be interrupted; ``code`` is the digest under which it is kept."""
    if code_digest() != code:
        raise RuntimeError(
            f"the source of localma changed since this run started, so process {os.getpid()}, which started later, would compute with other code "
            "than the rest: start it again, and edit nothing until its processes have begun, or run a copy of the package"
        )
    start = time.perf_counter()
    arrays = compute(key)
    arrays["seconds"] = np.array(time.perf_counter() - start)
    write_arrays(path, arrays)
    return key


@cache  # a file that is edited during the run is not the code that runs in this process; one that starts later has a digest of its own
def code_digest() -> str:
    """Digest of the package's source: parts that other code computed are not mixed with new ones."""
    digest = hashlib.sha256()
    for path in sorted(Path(localma.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def parts_folder(name: str, out: Path, configuration: dict) -> Path:
    """Where a run with these settings keeps its parts."""
    digest = hashlib.sha256(json.dumps(configuration | {"code": code_digest()}, sort_keys=True).encode()).hexdigest()[:12]
    return Path(out) / f".{name}-parts" / digest


def interrupted(name: str, out: Path) -> int:
    """Say what an interrupted run left behind; the exit status of one."""
    kept = sum(len(list(Path(out).glob(f".{kind}-parts/*/[!.]*.npz"))) for kind in (name, f"{name}-more"))
    print(f"\n{name}: interrupted; {kept} finished parts are kept, run the same command again to continue", file=sys.stderr)
    return 130
