"""What an experiment declares, and the one runner of all of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from joblib import cpu_count, parallel_config

from localma.files import write_arrays
from localma.replication.lab.parts import Part, code_digest, compute_parts, joined
from localma.replication.lab.results import hardware, tidy, versions, write_results


def option(default=None, *, flag: str = "", word: str = "", **arguments):
    """A field that the command line offers as ``--FLAG``.

    Parameters
    ----------
    default
        Where it is False, the flag takes no value.
    flag : str
        Default: the field's name.
    word : str
        What the names of the files have of it where it was given, ``{}`` for the value itself.
    **arguments
        Of :meth:`argparse.ArgumentParser.add_argument`.
    """
    if default is False:
        arguments["action"] = "store_true"
    return field(default=default, metadata={"flag": flag, "word": word, "arguments": arguments})


def number_of(what: str):
    """The option "so many of these, instead of the scale's"."""
    return option(type=int, metavar="N", help=f"{what}, instead of the scale's")


def made_up():
    """The option ``synthetic``."""
    return option(
        False, word="synthetic", help="made-up data of the same shape, for a trial; the files are named NAME-synthetic"
    )


@dataclass(kw_only=True)
class Experiment(ABC):
    """An experiment: a subclass is a dataclass, and its fields are its options.

    It gives ``cells`` and ``measure``, and ``tables`` from what was measured. Resuming, processes side by side, files
    and provenance are :meth:`run`'s. The door of its folder lists it in ``EXPERIMENTS``, and the command line knows it.

    Parameters
    ----------
    full : bool
        The size of the committed results; otherwise a look.
    seed : int
        Of everything random.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np, pandas as pd
    >>> from localma.replication.lab.experiment import Experiment, option
    >>> @dataclass(kw_only=True)
    ... class Coins(Experiment):
    ...     name = "coins"
    ...     summary = "how often coins show heads"
    ...     tosses: int = option(1000, type=int, help="of each coin")
    ...
    ...     def cells(self, found):
    ...         return {f"p{p}": (p,) for p in (0.1, 0.5)}
    ...
    ...     def measure(self, p):
    ...         rng = np.random.default_rng([self.seed, round(10 * p)])
    ...         return {"heads": rng.random(self.tosses) < p}
    ...
    ...     def tables(self, found):
    ...         heads = [part["heads"].mean() for part in found.values()]
    ...         return {"": pd.DataFrame({"coin": list(found), "heads": heads})}
    >>> Coins.run(tosses=10_000).round(1)
       coin  heads
    0  p0.1    0.1
    1  p0.5    0.5
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    #: Entries of the configuration that say which cells there are and nothing about any of them: a run with others of
    #: these picks the same parts up.
    extent: ClassVar[tuple[str, ...]] = ()
    #: The name of the experiment whose settings this one validates: it is run by ``--tune`` of that one.
    tunes: ClassVar[str] = ""

    full: bool = False
    seed: int = 0

    def __post_init__(self):
        words = [(one.metadata.get("word", ""), getattr(self, one.name)) for one in fields(self)]
        self.label = "-".join([self.name, *(word.format(value) for word, value in words if word and value)])
        self.prepare()

    def prepare(self) -> None:  # noqa: B027 (most have nothing to prepare)
        """Check the options, replace those left open, and read the data."""

    def scaled(self, **sizes: tuple[int, int]) -> None:
        """Replace numbers left open by those of the scale, ``name=(full, quick)``, and refuse numbers below one."""
        for name, (full, quick) in sizes.items():
            if getattr(self, name) is None:
                setattr(self, name, full if self.full else quick)
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}")

    def configuration(self) -> dict[str, Any]:
        """All that decides the numbers, ready for JSON; default: the options."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "full"}

    @abstractmethod
    def cells(self, found: dict[str, Part]) -> dict[str, tuple]:
        """Arguments of ``measure`` by key, of all cells that can be measured knowing ``found``.

        It is asked again until there is nothing new, so that later cells may depend on earlier ones.
        """

    def by_cell(self, found: dict[str, Part]) -> dict[tuple, Part]:
        """The parts by the arguments of ``measure`` but the last: of cells that differ in that alone, all rows."""
        parts: dict[tuple, list] = {}
        for key, (*cell, _) in self.cells(found).items():
            parts.setdefault(tuple(cell), []).append(found[key])
        return {cell: joined(some) for cell, some in parts.items()}

    def tidied(self, found: dict[str, Part], head: Callable[..., dict]) -> pd.DataFrame:
        """One tidy table of all cells: ``head``, of :meth:`by_cell`'s arguments, gives the columns that come first."""
        return pd.DataFrame([row for cell, part in self.by_cell(found).items() for row in tidy(head(*cell), part)])

    @abstractmethod
    def measure(self, *cell) -> Part:
        """The arrays of one cell; its random numbers come from the cell and the configuration alone."""

    @abstractmethod
    def tables(self, found: dict[str, Part]) -> dict[str, pd.DataFrame]:
        """Tidy tables: "" is the experiment's, another key is added to the file's name."""

    def predictions(self, found: dict[str, Part]) -> dict[str, np.ndarray]:
        """Arrays for ``NAME-predictions.npz``, so that averages can be computed again; default none."""
        return {}

    def remarks(self, found: dict[str, Part]) -> dict[str, Any]:
        """What the provenance should say besides, such as what the run itself has chosen; default nothing."""
        return {}

    def modules(self) -> list[str]:
        """Whose source, with all that they import, decides the numbers."""
        return [type(self).__module__]

    @classmethod
    def run(cls, *, out: str | Path | None = None, **options) -> pd.DataFrame:
        """Measure all cells, where :func:`places` or joblib says, make the tables and write them.

        Parameters
        ----------
        out : path, optional
            Folder for tables, their provenance and the parts of an unfinished run, which go on where they stopped.
            None: nothing is kept.
        **options
            The experiment's own.

        Returns
        -------
        DataFrame
            The experiment's table.

        Raises
        ------
        ValueError
            If an option is wrong, if a quick run would replace the files of a full one, or if another run is writing
            the same files.
        """
        return cls(**options).compute(out)

    def compute(self, out: str | Path | None = None) -> pd.DataFrame:
        """As :meth:`run`, which makes the experiment first."""
        with ExitStack() as stack:
            folder = Path(out) if out is not None else Path(stack.enter_context(TemporaryDirectory()))
            refuse_to_replace(folder / f"{self.label}.json", self.configuration(), self.full)
            if out is not None:
                stack.enter_context(alone(folder / f".{self.label}.lock"))
            parts = self.parts_folder(folder) / self.key()
            found: dict[str, Part] = {}
            seconds = 0.0
            while missing := {key: cell for key, cell in self.cells(found).items() if key not in found}:
                new, took = compute_parts(self.measure, missing, parts, name=self.label, modules=self.modules())
                found, seconds = found | new, seconds + took
            tables = self.tables(found)
            if out is not None:
                self._write(tables, found, folder, seconds)
                shutil.rmtree(parts, ignore_errors=True)
                with suppress(OSError):  # not empty: a run with other settings was interrupted and may go on
                    parts.parent.rmdir()
        return tables[""]

    def parts_folder(self, out: Path) -> Path:
        """Where unfinished runs keep their parts."""
        return out / f".{self.label}-parts"

    def key(self) -> str:
        """Digest of all that decides the parts: settings, source and versions."""
        settings = {name: value for name, value in self.configuration().items() if name not in self.extent}
        settings |= {"name": self.name, "code": code_digest(*self.modules()), "versions": versions()}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

    def _write(self, tables: dict[str, pd.DataFrame], found: dict[str, Part], folder: Path, seconds: float) -> None:
        about = {
            "scale": "full" if self.full else "quick",
            "configuration": self.configuration(),
            "seconds": round(seconds, 1),
            "hardware": hardware(getattr(self, "device", "cpu")),
            "versions": {"code": code_digest(*self.modules())[:12]} | versions(),
        } | self.remarks(found)
        if arrays := self.predictions(found):
            write_arrays(folder / f"{self.label}-predictions.npz", arrays)
        for suffix in sorted(tables, reverse=True):  # the experiment's own table last: where it is, all is
            write_results("-".join(filter(None, (self.label, suffix))), tables[suffix], folder, about)


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Nobody else is in here: the file at ``place`` is locked, and gone afterwards."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place, timeout=0):
            try:
                yield
            finally:
                place.unlink(missing_ok=True)
    except Timeout:
        raise ValueError(
            f"another run is writing the same files to {place.parent}: wait for it, or give another folder with --out"
        ) from None


def refuse_to_replace(place: Path, configuration: dict[str, Any], full: bool) -> None:
    """Hours of work are not replaced by a look, by fewer repetitions or by a part of the cells.

    Provenance that says nothing of its scale counts as full.
    """
    try:
        there = json.loads(place.read_text())
    except (OSError, ValueError):
        return
    if there.get("scale", "full") == "full" and not full:
        raise ValueError(
            f"{place} is of a full run, which a quick one would replace: "
            "give another folder with --out, or --scale full"
        )
    planned = json.loads(json.dumps(configuration))
    for name, was in there.get("configuration", {}).items():
        now = planned.get(name)
        fewer = name in ("replications", "repetitions") and isinstance(now, int) and isinstance(was, int) and now < was
        part = isinstance(was, list) and isinstance(now, list) and len(now) < len(was) and all(x in was for x in now)
        if fewer or part:
            raise ValueError(
                f"{place} has {name} = {was}, this run {now}, which is less: give another folder with --out"
            )


@contextmanager
def places(jobs: int | None = None, backend: str | None = None, scheduler: str | None = None):
    """Where joblib computes within this context.

    Parameters
    ----------
    jobs : int, optional
        How many parts at a time, at most one on each core of this machine; -1 for as many as that; default 1.
    backend : str, optional
        Of joblib: "loky" (processes, the default), "threading", "dask", or one that was registered.
    scheduler : str, optional
        With "dask", the address of the scheduler whose workers compute. They need the package and the data, but no disk
        in common. Default: that of ``DASK_SCHEDULER_ADDRESS``, or as many new processes here as there are jobs.

    Examples
    --------
    >>> from joblib import effective_n_jobs
    >>> from localma.replication.lab.experiment import places
    >>> with places(jobs=1):
    ...     effective_n_jobs(None)
    1
    """
    if jobs == 0:
        raise ValueError("jobs must be at least 1, or -1 for one on each core, but is 0")
    if scheduler is not None and backend != "dask":
        raise ValueError(f'scheduler = {scheduler!r} has no meaning for backend = {backend!r}: set backend to "dask"')
    if jobs is not None and backend != "dask":
        jobs = min(jobs, cpu_count())
    given = {"n_jobs": jobs, "backend": backend}
    with ExitStack() as stack:
        if backend == "dask":
            try:
                from dask import config
                from distributed import Client
            except ImportError as error:
                raise ValueError("backend = 'dask' needs dask: pip install 'localma[dask]'") from error
            address = scheduler or config.get("scheduler-address", None)
            here = {} if address else {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": None}
            given = {"backend": "dask", "client": stack.enter_context(Client(address, **here))}
        stack.enter_context(parallel_config(**{name: value for name, value in given.items() if value is not None}))
        yield


def offered(experiment: type[Experiment]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Fields that the command line offers: name, flag and arguments."""
    return {
        one.name: (one.metadata["flag"] or one.name, one.metadata["arguments"])
        for one in fields(experiment)
        if one.metadata
    }
