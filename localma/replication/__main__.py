"""``python -m localma.replication NAME``: run an experiment and write its table and provenance."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from concurrent.futures import BrokenExecutor
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from localma import replication
from localma.engine import check_device
from localma.replication.lab.experiment import Experiment, offered, places
from localma.replication.lab.parts import SourceChangedError


def experiments() -> dict[str, type[Experiment]]:
    """What the folders of the replication declare, by name."""
    folders = (folder.name for folder in iter_modules(replication.__path__) if folder.ispkg)
    declared = (getattr(import_module(f"localma.replication.{name}"), "EXPERIMENTS", ()) for name in folders)
    return {experiment.name: experiment for some in declared for experiment in some}


def _parser(known: dict[str, type[Experiment]]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localma.replication", description="Replicate the paper's experiments."
    )
    commands = parser.add_subparsers(dest="name", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--scale",
        choices=("quick", "full"),
        default="quick",
        help="quick: a look, in seconds to minutes (cifar10 shows every photograph to its networks once before); "
        "full: the paper's size (default quick)",
    )
    common.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    common.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default cpu)")
    common.add_argument(
        "--out", type=Path, default=Path("results"), help="folder for the CSV and provenance files (default results)"
    )
    common.add_argument("--data", type=Path, metavar="DIR", help="folder that holds the data, instead of LOCALMA_DATA")
    common.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="parts of the run to compute side by side, at most one on each core; -1: as many as that (default 1)",
    )
    common.add_argument(
        "--backend", default="loky", help="joblib's: loky (processes), threading or dask (default loky)"
    )
    common.add_argument("--scheduler", metavar="ADDRESS", help="with dask, of the scheduler whose workers compute")
    for name, experiment in known.items():
        if experiment.tunes:
            continue
        one = commands.add_parser(name, parents=[common], help=experiment.summary)
        for field, (flag, arguments) in offered(experiment).items():
            one.add_argument(f"--{flag}", dest=field, default=argparse.SUPPRESS, **arguments)
        for other in known.values():
            if other.tunes == name:
                words = f"validate the settings that were tried; writes {other.name}.csv"
                one.add_argument("--tune", action="store_const", const=other.name, help=words)
    commands.add_parser("all", parents=[common], help="every experiment")
    return parser


def main(arguments: list[str] | None = None) -> int:
    known = experiments()
    parser = _parser(known)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(
            f"{options.name} does not know {unknown[0]}; {parser.prog} {options.name} --help says what it knows"
        )
    _check(parser, options)
    if options.data is not None:
        os.environ["LOCALMA_DATA"] = str(options.data.resolve())  # processes side by side inherit it
    status = 0
    everything = [name for name, kind in known.items() if not kind.tunes]
    for name in everything if options.name == "all" else [options.name]:
        experiment = None
        try:
            kind = known[getattr(options, "tune", None) or name]
            experiment = kind(**_options(kind, options))
            with places(options.jobs, options.backend, options.scheduler):
                experiment.compute(options.out)
        except KeyboardInterrupt:
            kept = experiment and len(list(experiment.parts_folder(options.out).glob("**/output.pkl")))
            words = f"{kept or 0} finished parts are kept, run the same command again to continue"
            print(f"\n{name}: interrupted; {words}", file=sys.stderr)
            return 130
        except (ValueError, OSError, FloatingPointError, ImportError, SourceChangedError, BrokenExecutor) as error:
            advice = "; pip install 'localma[plots,models]'" if isinstance(error, ModuleNotFoundError) else ""
            words = str(error)
            if isinstance(error, BrokenExecutor):
                words = "a process of this run died, for want of memory perhaps: try fewer --jobs; what is done is kept"
            print(f"{parser.prog} {name}: {words}{advice}{_on_the_command_line(words)}", file=sys.stderr)
            status = 2  # of "all", the other experiments may still do
            continue
        print(options.out / f"{experiment.label}.csv")
    return status


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse what no experiment can do anything with, before anything is computed."""
    if not 0 <= options.seed < 2**63:
        parser.error(f"argument --seed: must be at least 0 and less than 2**63, but is {options.seed}")
    if options.data is not None and not options.data.is_dir():
        parser.error(f"argument --data: {options.data} is no folder")
    try:
        check_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=options.out):
            pass
    except OSError as error:
        parser.error(
            f"argument --out: {options.out} is not a folder that can be written to ({error.strerror}); give another"
        )


def _options(kind: type[Experiment], options: argparse.Namespace) -> dict:
    """What the command line says, as an experiment takes it."""
    takes = {field.name for field in fields(kind)}
    given = vars(options) | {"full": options.scale == "full"}
    if options.device != "cpu" and "device" not in takes:
        if options.name != "all":
            raise ValueError(f"it computes on a CPU only: leave --device {options.device} out")
        print(f"{kind.name}: computes on the CPU, whatever --device says")
    if getattr(options, "tune", None):
        for word in offered(experiments()[options.name]).keys() & given.keys() - takes:
            raise ValueError(f"{word} has no meaning here: leave it out")
    return {name: given[name] for name in takes & given.keys()}


def _on_the_command_line(message: str) -> str:
    """What the ways out that a loader names are called here."""
    words = [here for there, here in (("path=", "--data DIR"), ("synthetic=True", "--synthetic")) if there in message]
    return f" (on the command line: {' or '.join(words)})" if words else ""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: workers go, finished parts stay
    sys.exit(main())
