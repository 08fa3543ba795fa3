"""``python -m localma.replication NAME``: run an experiment and write its table and provenance."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from localma.devices import check_device
from localma.replication import adaptive, bench, counts, relatives, simulation, tuning, walks
from localma.replication.runner import interrupted

#: Experiments on real data: a module of this package each, whose ``run`` takes full, seed, device, out, jobs and synthetic.
REAL: dict[str, str] = {
    "housing": "Section 5.1: rents in Beijing and Shanghai, from a model of each district",
    "toxicity": "Section 5.2: toxic or not in Hebrew and Hindi, from models of four other languages",
    "cifar10": "Section 5.3: photographs of ten classes, from four networks that know four of them each",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m localma.replication", description="Replicate the paper's experiments.")
    commands = parser.add_subparsers(dest="name", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--scale", choices=("quick", "full"), default="quick", help="quick: a look in seconds; full: the paper's size (default quick)"
    )
    common.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    common.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default cpu)")
    common.add_argument("--out", type=Path, default=Path("results"), help="folder for the CSV and provenance files (default results)")
    common.add_argument(
        "--jobs", type=int, default=1, help="parts of the run to compute side by side, in processes of their own (default 1)"
    )

    one = commands.add_parser("simulation", parents=[common], help="Tables 1-3: LocalMA, GW and EWMA in Scenarios 1 and 2")
    one.add_argument("--replications", type=int, help=f"per cell (default {simulation.QUICK} quick, {simulation.FULL} full)")
    one.add_argument("--scenario", type=int, choices=(1, 2), nargs="+", help="only these scenarios (default both)")
    commands.add_parser("tuning", parents=[common], help="choose LocalMA's configuration by cross-validation within pilot samples")
    commands.add_parser("theory", parents=[common], help="the theory part's measurements: every condition and theorem")
    commands.add_parser(
        "adaptive", parents=[common], help="beyond the paper: the tables with cross-validated shrinkage, and the worlds between"
    )
    commands.add_parser("counts", parents=[common], help="beyond the paper: visits to the doctor, five insurers, one merged book")
    commands.add_parser("relatives", parents=[common], help="beyond the paper: LocalMA and its relatives in six worlds, one table")
    for name, summary in REAL.items():
        real = commands.add_parser(name, parents=[common], help=summary)
        real.add_argument(
            "--synthetic", action="store_true", help=f"made-up data of the same shape, for a trial; writes {name}-synthetic.csv"
        )
    commands.add_parser("all", parents=[common], help="every experiment")
    speed = commands.add_parser("bench", help="speed of the stacked engine, as ratios measured in one run")
    speed.add_argument("--quick", action="store_true", help="fewer repeats")
    options = parser.parse_args(arguments)

    if options.name == "bench":
        try:
            bench.run(quick=options.quick)
        except KeyboardInterrupt:
            return 130
        return 0
    if options.seed < 0:
        parser.error(f"argument --seed: must be at least 0, but is {options.seed}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"argument --out: {options.out} is a file; give a folder")
    try:
        check_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    if options.jobs < 1:
        parser.error(f"argument --jobs: must be at least 1, but is {options.jobs}")
    everywhere = {"seed": options.seed, "out": options.out, "jobs": options.jobs}
    status = 0
    for name in ["tuning", "simulation", "theory", *REAL, "counts", "relatives"] if options.name == "all" else [options.name]:
        written = name
        try:
            if name == "simulation":
                default = simulation.FULL if options.scale == "full" else simulation.QUICK
                simulation.run(
                    replications=default if getattr(options, "replications", None) is None else options.replications,
                    scenarios=tuple(getattr(options, "scenario", None) or (1, 2)),
                    device=options.device,
                    **everywhere,
                )
            elif name == "theory":
                walks.run(full=options.scale == "full", **everywhere)
            elif name == "adaptive":
                adaptive.run(full=options.scale == "full", device=options.device, **everywhere)
            elif name == "counts":
                counts.run(full=options.scale == "full", **everywhere)
            elif name == "relatives":
                relatives.run(full=options.scale == "full", **everywhere)
            elif name == "tuning":
                tuning.run(full=options.scale == "full", device=options.device, **everywhere)
            else:
                synthetic = getattr(options, "synthetic", False)
                written += "-synthetic" * synthetic
                module = import_module(f"localma.replication.{name}")
                module.run(full=options.scale == "full", device=options.device, synthetic=synthetic, **everywhere)
        except KeyboardInterrupt:
            return interrupted(written, options.out)
        except (ValueError, OSError) as error:
            print(f"{parser.prog} {name}: {error}", file=sys.stderr)
            status = 2  # of "all", the other experiments may still do
            continue
        print(options.out / f"{written}.csv")
    return status


if __name__ == "__main__":
    sys.exit(main())
