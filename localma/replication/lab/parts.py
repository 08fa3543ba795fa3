"""Parts of a long run: computed side by side, kept as they finish, picked up again after an interruption."""

from __future__ import annotations

import ast
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, resolve_name
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from tqdm import tqdm

from localma.replication.lab.cache import keep, keeper

Part = dict[str, np.ndarray]


class SourceChangedError(RuntimeError):
    """The code was edited while a run had begun."""


def compute_parts(
    measure: Callable[..., Part], cells: dict[str, tuple], folder: Path, *, name: str = "", modules: Iterable[str] = ()
) -> tuple[dict[str, Part], float]:
    """The part ``measure(*cell)`` of every cell, in their order, from ``folder`` where it is there already; and the
    seconds that they took together, each in its own process.

    How many at a time, and where, is joblib's to say: see :func:`joblib.parallel_config`. Whoever computes, this
    process keeps the parts, so that workers need not share its disk. A part's random numbers must come from the cell
    and from settings that are part of the folder's name, as the code is: a process must have the :func:`code_digest` of
    the ``modules`` before it computes anything. The progress bar has the ``name``.

    Raises
    ------
    SourceChangedError
        If the source was edited before one of the processes started.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from localma.replication.lab.parts import compute_parts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     parts, _ = compute_parts(lambda a, b: {"sum": np.array(a + b)}, {"first": (1, 2)}, folder)
    >>> int(parts["first"]["sum"])
    3
    """
    modules = tuple(modules)
    code = code_digest(*modules)
    kept = keeper(folder)
    missing = [key for key in cells if not kept.check_call_in_cache(key, None)]
    with tqdm(total=len(cells), initial=len(cells) - len(missing), desc=name, unit="part", smoothing=0.1) as bar:
        # no more processes than parts: each of them starts, and reads the package, before it is asked for anything
        at_once = max(1, min(effective_n_jobs(None), len(missing)))
        workers = Parallel(at_once, batch_size=1, return_as="generator_unordered")
        for key, part in workers(delayed(_keyed)(key, measure, cells[key], modules, code) for key in missing):
            keep(kept, key, part.copy)
            bar.update()
    # a part that cannot be read is computed again, here
    parts = {key: keep(kept, key, partial(_part, measure, cell, modules, code)) for key, cell in cells.items()}
    return parts, sum(float(part.pop("seconds")) for part in parts.values())


def _keyed(key: str, *how) -> tuple[str, Part]:
    return key, _part(*how)


def _part(measure: Callable[..., Part], cell: tuple, modules: tuple[str, ...], code: str) -> Part:
    if code_digest(*modules) != code:
        raise SourceChangedError(
            "the source of localma changed since this run started, so a process that started later would compute with "
            "other code than the rest: start it again, and edit nothing until its processes have begun, or run a copy"
        )
    start = time.perf_counter()
    return measure(*cell) | {"seconds": np.array(time.perf_counter() - start)}


@cache  # a file that is edited during the run is not the code that runs in this process; one that starts later differs
def code_digest(*modules: str) -> str:
    """Digest of :func:`sources`."""
    return hashlib.sha256(repr(sorted(sources(*modules).items())).encode()).hexdigest()


def sources(*modules: str) -> dict[str, str]:
    """The code of some modules and of all of localma that they import, wherever in a file they do so.

    Comments, docstrings and layout do not count.

    Examples
    --------
    >>> from localma.replication.lab.parts import sources
    >>> list(sources("localma.files"))
    ['localma.files']
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        if (name := waiting.pop()) not in found:
            tree = ast.parse(_source(name))
            waiting += imported(tree, name)
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    node.body = node.body[ast.get_docstring(node) is not None :]
            found[name] = ast.dump(tree)
    return found


def _source(name: str) -> bytes:
    return Path(_found(name).origin or "").read_bytes()


def _found(name: str) -> ModuleSpec:
    if spec := find_spec(name):
        return spec
    raise ModuleNotFoundError(f"No module named {name!r}")


def imported(tree: ast.Module, name: str) -> Iterator[str]:
    """The modules of localma that the module ``name``, whose source this is, imports."""
    package = _found(name).parent
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{source}.{one}" for one in names]
        for one in names:
            if one.split(".")[0] == "localma":
                yield one if _is_module(one) else one.rpartition(".")[0]


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


def joined(parts: Iterable[Part]) -> Part:
    """Parts that have the same arrays, one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication.lab.parts import joined
    >>> joined([{"x": np.arange(2)}, {"x": np.arange(1)}])
    {'x': array([0, 1, 0])}
    """
    parts = list(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def chunks(total: int, size: int) -> list[range]:
    """``range(total)`` in pieces.

    Examples
    --------
    >>> from localma.replication.lab.parts import chunks
    >>> chunks(5, 2)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(start, min(start + size, total)) for start in range(0, total, size)]
