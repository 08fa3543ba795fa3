"""``python -m localma.replication NAME``: run an experiment and write its table and provenance."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from localma.engine import check_device
from localma.replication.lab.parts import interrupted
from localma.replication.lab.results import SCALE


class Experiment(NamedTuple):
    """What the command line knows of an experiment."""

    summary: str
    run: str  #: module of this package and function; imported when it is wanted
    options: tuple[str, ...] = ()  #: of ``OPTIONS``, besides those that all have
    tune: str = ""  #: as ``run``, for ``--tune``


EXPERIMENTS: dict[str, Experiment] = {
    "tuning": Experiment("choose LocalMA's configuration by cross-validation within pilot samples", "simulation.tuning:run"),
    "simulation": Experiment(
        "Tables 1-3: LocalMA, GW and EWMA in Scenarios 1 and 2", "simulation.experiment:run", ("replications", "scenario")
    ),
    "theory": Experiment("the theory part's measurements: every condition and theorem", "theory.experiment:run"),
    "housing": Experiment(
        "Section 5.1: rents in Beijing and Shanghai, from a model of each district",
        "housing.experiment:run",
        ("repetitions", "synthetic"),
        tune="housing.tuning:tune",
    ),
    "toxicity": Experiment(
        "Section 5.2: toxic or not in Hebrew and Hindi, from models of four other languages",
        "toxicity.experiment:run",
        ("repetitions", "encoder", "case", "share", "finetune", "synthetic"),
        tune="toxicity.tuning:tune",
    ),
    "cifar10": Experiment(
        "Section 5.3: photographs of ten classes, from four networks that know four of them each",
        "cifar10.experiment:run",
        ("repetitions", "synthetic"),
        tune="cifar10.tuning:run",
    ),
    "adaptive": Experiment(
        "beyond the paper: the tables with cross-validated shrinkage, and the worlds between", "simulation.adaptive:run"
    ),
    "counts": Experiment(
        "beyond the paper: visits to the doctor, five insurers, one merged book", "counts.experiment:run", ("repetitions",)
    ),
    "relatives": Experiment(
        "beyond the paper: LocalMA and its relatives in six worlds, one table", "relatives.experiment:run", ("replications",)
    ),
}

OPTIONS: dict[str, dict] = {
    "replications": {"type": int, "metavar": "N", "help": "in each cell, instead of the scale's"},
    "repetitions": {"type": int, "metavar": "N", "help": "of the experiment, instead of the scale's"},
    "scenario": {"type": int, "choices": (1, 2), "nargs": "+", "help": "only these scenarios (default both)"},
    "encoder": {"metavar": "NAME", "help": "of the sentences: tinybert, minilm or ngrams; the files are named after it"},
    "case": {"metavar": "NAME", "nargs": "+", "help": "only these cases: he, hi, hin, he+hin, he+hi (default the scale's)"},
    "share": {"type": float, "metavar": "S", "nargs": "+", "help": "only these shares to learn from (default the scale's)"},
    "finetune": {
        "action": "store_true",
        "help": "train the encoders end to end, as is done on a GPU, here too: hours; the files are named NAME-finetuned",
    },
    "synthetic": {"action": "store_true", "help": "made-up data of the same shape, for a trial; the files are named NAME-synthetic"},
}


def _function(place: str) -> Callable:
    module, name = place.split(":")
    return getattr(import_module(f"localma.replication.{module}"), name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m localma.replication", description="Replicate the paper's experiments.")
    commands = parser.add_subparsers(dest="name", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--scale",
        choices=("quick", "full"),
        default="quick",
        help="quick: a look, in seconds to minutes (cifar10 shows every photograph to its networks once before); full: the paper's size (default quick)",
    )
    common.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    common.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default cpu)")
    common.add_argument("--out", type=Path, default=Path("results"), help="folder for the CSV and provenance files (default results)")
    common.add_argument(
        "--jobs", type=int, default=1, help="parts of the run to compute side by side, in processes of their own (default 1)"
    )
    common.add_argument("--data", type=Path, metavar="DIR", help="folder that holds the data, instead of LOCALMA_DATA")
    for name, experiment in EXPERIMENTS.items():
        one = commands.add_parser(name, parents=[common], help=experiment.summary)
        for option in experiment.options:
            one.add_argument(f"--{option}", default=argparse.SUPPRESS, **OPTIONS[option])
        if experiment.tune:
            one.add_argument("--tune", action="store_true", help=f"validate the settings that were tried; writes {name}-tuning.csv")
    commands.add_parser("all", parents=[common], help="every experiment")
    speed = commands.add_parser("bench", help="speed of the stacked engine, as ratios measured in one run")
    speed.add_argument("--quick", action="store_true", help="fewer repeats")
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"{options.name} does not know {unknown[0]}; {parser.prog} {options.name} --help says what it knows")
    if options.name == "bench":
        try:
            _function("simulation.bench:run")(quick=options.quick)
        except KeyboardInterrupt:
            return 130
        return 0
    if not 0 <= options.seed < 2**63:
        parser.error(f"argument --seed: must be at least 0 and less than 2**63, but is {options.seed}")
    if options.data is not None and not options.data.is_dir():
        parser.error(f"argument --data: {options.data} is no folder")
    try:
        check_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    for count in ("jobs", "replications", "repetitions"):
        if getattr(options, count, 1) < 1:
            parser.error(f"argument --{count}: must be at least 1, but is {getattr(options, count)}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=options.out):
            pass  # before anything is computed: one may write there
    except OSError as error:
        parser.error(f"argument --out: {options.out} is not a folder that can be written to ({error.strerror}); give another")
    if options.data is not None:
        os.environ["LOCALMA_DATA"] = str(options.data.resolve())  # processes side by side inherit it
    status = 0
    for name in EXPERIMENTS if options.name == "all" else [options.name]:
        tune = getattr(options, "tune", False)
        flags = [word * getattr(options, flag, False) for flag, word in (("finetune", "finetuned"), ("synthetic", "synthetic"))]
        words = [name, "tuning" * tune, getattr(options, "encoder", ""), *flags]
        written = "-".join(word for word in words if word)
        token = SCALE.set(options.scale)
        try:
            _spare_full_run(options, written)
            function = _function(EXPERIMENTS[name].tune if tune else EXPERIMENTS[name].run)
            function(**_arguments(function, name, options))
        except KeyboardInterrupt:
            return interrupted(written, options.out)
        except (ValueError, OSError, FloatingPointError, ImportError) as error:
            advice = "; pip install 'localma[plots,models]'" * isinstance(error, ModuleNotFoundError)
            print(f"{parser.prog} {name}: {error}{advice}{_on_the_command_line(str(error))}", file=sys.stderr)
            status = 2  # of "all", the other experiments may still do
            continue
        finally:
            SCALE.reset(token)
        print(options.out / f"{written}.csv")
    return status


def _spare_full_run(options: argparse.Namespace, written: str) -> None:
    """Hours of work are not replaced by a look; what says nothing of its scale may be."""
    provenance = options.out / f"{written}.json"
    scale = None
    with suppress(OSError, ValueError):
        scale = json.loads(provenance.read_text()).get("scale")
    if options.scale == "quick" and scale == "full":
        raise ValueError(f"{provenance} is of a full run, which a quick one would replace: give another folder with --out, or --scale full")


def _on_the_command_line(message: str) -> str:
    """What the ways out that a loader names are called here."""
    words = [here for there, here in (("path=", "--data DIR"), ("synthetic=True", "--synthetic")) if there in message]
    return f" (on the command line: {' or '.join(words)})" if words else ""


def _arguments(function: Callable, name: str, options: argparse.Namespace) -> dict:
    """What the options say, as the function takes it."""
    full = options.scale == "full"
    given = {"full": full, "seed": options.seed, "out": options.out, "jobs": options.jobs, "device": options.device}
    given |= {option: getattr(options, option) for option in OPTIONS if hasattr(options, option)}
    if name == "simulation":
        from localma.replication.simulation import experiment as simulation

        given.setdefault("replications", simulation.FULL if full else simulation.QUICK)
        given["scenarios"] = tuple(given.pop("scenario", (1, 2)))
    given |= {f"{option}s": given.pop(option) for option in ("case", "share") if option in given}
    takes = inspect.signature(function).parameters
    for option, word in {
        "repetitions": "repetitions",
        "encoder": "encoder",
        "case": "cases",
        "share": "shares",
        "finetune": "finetune",
    }.items():
        if word in given and word not in takes:
            raise ValueError(f"--{option} has no meaning here: leave it out")
    if options.device != "cpu" and "device" not in takes:
        if options.name != "all":
            raise ValueError(f"it computes on a CPU only: leave --device {options.device} out")
        print(f"{name}: computes on the CPU, whatever --device says")
    return {word: value for word, value in given.items() if word in takes}


if __name__ == "__main__":
    sys.exit(main())
