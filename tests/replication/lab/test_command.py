"""The command line, and a new experiment, which touches its folder and nothing else."""

import json
import os
import re
import subprocess
import sys
import time

import pandas as pd
import pytest

from localma import replication
from localma.replication import __main__ as command
from localma.replication.__main__ import experiments, main
from localma.replication.lab.experiment import alone, refuse_to_replace

COINS = '''"""How often coins show heads."""

from concurrent.futures import BrokenExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from localma.replication.lab.experiment import Experiment, made_up, option


@dataclass(kw_only=True)
class Coins(Experiment):
    name = "coins"
    summary = "how often coins show heads"

    tosses: int = option(1000, type=int, metavar="N", help="of each coin")
    synthetic: bool = made_up()

    def cells(self, found):
        return {f"p{p}": (p,) for p in (1, 5)}

    def measure(self, p):
        if self.tosses == 13:
            raise KeyboardInterrupt
        if self.tosses == 14:
            raise BrokenExecutor("code 0x1a")
        return {"heads": np.random.default_rng([self.seed, p]).random(self.tosses) < p / 10}

    def tables(self, found):
        table = pd.DataFrame({"coin": list(found), "heads": [part["heads"].mean() for part in found.values()]})
        return {"": table, "twice": 2 * table[["heads"]]}


@dataclass(kw_only=True)
class Choice(Coins):
    name = "coins-tuning"
    tunes = "coins"

    tosses: int = 10


EXPERIMENTS = (Coins, Choice)
'''


@pytest.fixture
def coins(tmp_path, monkeypatch):
    """A folder with an experiment, among those of the package."""
    (tmp_path / "new" / "coins").mkdir(parents=True)
    (tmp_path / "new" / "coins" / "__init__.py").write_text(COINS)
    monkeypatch.setattr(replication, "__path__", [*replication.__path__, str(tmp_path / "new")])
    yield tmp_path / "out"
    sys.modules.pop("localma.replication.coins", None)
    vars(replication).pop("coins", None)


def run(arguments):
    try:
        return main(arguments)
    except SystemExit as stop:
        return stop.code


def test_a_new_experiment_touches_its_folder_and_nothing_else(coins, capsys):
    assert run(["coins", "--tosses", "100", "--seed", "3", "--out", str(coins)]) == 0
    assert capsys.readouterr().out.strip() == str(coins / "coins.csv")
    assert sorted(p.name for p in coins.iterdir()) == [
        f"coins{end}" for end in ("-twice.csv", "-twice.json", ".csv", ".json")
    ]
    assert list(pd.read_csv(coins / "coins.csv")["coin"]) == ["p1", "p5"]
    about = json.loads((coins / "coins.json").read_text())
    assert about["experiment"] == "coins"
    assert about["scale"] == "quick"
    assert about["configuration"] == {"seed": 3, "tosses": 100, "synthetic": False}
    assert {"code", "localma", "numpy", "torch", "python", "joblib"} <= about["versions"].keys()
    assert about["seconds"] >= 0


def test_options_are_part_of_the_files_names_where_they_say_so(coins):
    assert run(["coins", "--synthetic", "--out", str(coins)]) == 0
    assert (coins / "coins-synthetic-twice.csv").exists()
    assert run(["coins", "--tune", "--synthetic", "--out", str(coins)]) == 0
    assert json.loads((coins / "coins-tuning-synthetic.json").read_text())["configuration"]["tosses"] == 10


def test_an_interrupted_run_says_how_to_go_on(coins, capsys):
    assert run(["coins", "--tosses", "13", "--out", str(coins)]) == 130
    assert "coins: interrupted; 0 finished parts are kept, run the same command again" in capsys.readouterr().err


def test_a_process_that_died_is_one_line(coins, capsys):
    assert run(["coins", "--tosses", "14", "--out", str(coins)]) == 2
    assert re.search(r"coins: a process of this run died.*fewer --jobs.*\n\Z", capsys.readouterr().err)


def test_two_runs_do_not_write_the_same_files(coins, capsys):
    with alone(coins / ".coins.lock"):
        assert run(["coins", "--out", str(coins)]) == 2
        assert re.search(r"another run is writing the same files to .*give another folder", capsys.readouterr().err)
        assert run(["coins", "--synthetic", "--out", str(coins)]) == 0
    assert run(["coins", "--out", str(coins)]) == 0
    assert not list(coins.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="no signals of this kind there")
def test_who_stops_the_run_stops_its_processes(tmp_path):
    command = [sys.executable, "-m", "localma.replication", "simulation", "--jobs", "2", "--out", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        end = time.monotonic() + 120
        while time.monotonic() < end and not list(tmp_path.rglob("output.pkl")):
            time.sleep(0.1)
        process.terminate()
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert re.search(r"interrupted; \d+ finished parts are kept", said)
    end = time.monotonic() + 20
    while time.monotonic() < end and alive(process.pid):
        time.sleep(0.1)
    assert not alive(process.pid)


def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_quick_run_does_not_replace_a_full_one(coins, capsys):
    def scale(*more):
        status = run(["coins", "--out", str(coins), *more])
        return status, json.loads((coins / "coins.json").read_text()).get("scale")

    coins.mkdir()
    assert scale() == (0, "quick")
    (coins / "coins.json").write_text("{}")  # of before scales were written: it may have been full
    assert scale() == (2, None)
    assert scale("--scale", "full") == (0, "full")
    assert scale() == (2, "full")
    assert re.search(r"coins.json is of a full run.*--out", capsys.readouterr().err)
    assert scale("--scale", "full") == (0, "full")


def test_a_finished_run_leaves_the_parts_of_other_settings(coins):
    from localma.replication.coins import Coins

    for seed in (1, 2):
        place = Coins(seed=seed).parts_folder(coins) / Coins(seed=seed).key()
        place.mkdir(parents=True)
        (place / "output.pkl").touch()
    Coins.run(seed=1, out=coins)
    assert [p.name for p in coins.glob(".coins-parts/*")] == [Coins(seed=2).key()]
    Coins.run(seed=2, out=coins)
    assert not list(coins.glob(".coins-parts"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "cuda:99"], "device = 'cuda:99' cannot be used here"),
        (["--device", "meta"], "it computes on a CPU only: leave --device meta out"),
        (["--seed", "-1"], "--seed: must be at least 0"),
        (["--seed", "9" * 23], "--seed: must be at least 0 and less than 2**63"),
        (["--data", __file__], "test_command.py is no folder"),
        (["--jobs", "0"], "jobs must be at least 1"),
        (["--scheduler", "tcp://x:1"], "scheduler = 'tcp://x:1' has no meaning for backend = 'loky'"),
        (["--out", __file__], "test_command.py is not a folder that can be written to"),
        (["--out", f"{__file__}/below"], "--out: "),
        (["--out", "/proc/x"], "--out: /proc/x is not a folder that can be written to"),
        (["--encoder", "ngrams"], "coins does not know --encoder; python -m localma.replication coins --help"),
        (["--tune", "--tosses", "3"], ""),
    ],
)
def test_command_line_names_the_bad_argument(arguments, words, coins, capsys):
    status = run(["coins", "--out", str(coins), *arguments])
    assert status == (0 if not words else 2)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulation", "--scenario", "3"], "--scenario"),
        (["simulation", "--replications", "0"], "replications must be at least 1, but is 0"),
        (["housing", "--repetitions", "0"], "repetitions must be at least 1"),
        (["housing", "--tune", "--repetitions", "3"], "repetitions has no meaning here: leave it out"),
        (["toxicity", "--tune", "--share", "0.5"], "shares has no meaning here: leave it out"),
        (["toxicity", "--encoder", "bert"], "encoder must be one of 'tinybert', 'minilm', 'ngrams', but is 'bert'"),
        (["toxicity", "--case", "yi"], "cases contains 'yi'; choose from he, hi"),
        (["counts", "--tune"], "counts does not know --tune"),
    ],
)
def test_an_option_that_an_experiment_does_not_have_is_an_error(arguments, words, tmp_path, capsys):
    assert run([*arguments, "--out", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Stub:
    """An experiment that only says that it ran."""

    tunes = ""

    def __init__(self, name, ran, error=None):
        self.name = self.label = self.summary = name
        self.ran, self.error = ran, error

    def __call__(self):
        return self

    def compute(self, out):
        self.ran.append(self.name)
        if self.error:
            raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError("no rents here"), "b: no rents here"),
        (FloatingPointError("training diverged"), "b: training diverged"),
        (ModuleNotFoundError("No module named 'x'"), "b: No module named 'x'; pip install 'localma[plots,models]'"),
    ],
)
def test_all_means_all_and_one_failure_does_not_stop_the_others(error, words, tmp_path, monkeypatch, capsys):
    ran = []
    stubs = {name: Stub(name, ran, error if name == "b" else None) for name in "abc"}
    monkeypatch.setattr(command, "experiments", lambda: stubs)
    parser = command._parser
    monkeypatch.setattr(command, "_parser", lambda known: parser({}))
    monkeypatch.setattr(command, "_options", lambda kind, options: {})
    assert main(["all", "--out", str(tmp_path)]) == 2
    assert ran == ["a", "b", "c"]
    assert words in capsys.readouterr().err


def test_all_says_which_experiments_compute_on_the_cpu(coins, monkeypatch, capsys):
    here = {name: kind for name, kind in experiments().items() if name == "coins"}
    monkeypatch.setattr(command, "experiments", lambda: here)
    assert main(["all", "--device", "meta", "--out", str(coins)]) == 0
    assert "coins: computes on the CPU" in capsys.readouterr().out


def test_a_missing_file_is_explained_in_words_of_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("localma.datasets.find.cache_folder", lambda: tmp_path)
    monkeypatch.setattr("localma.datasets.find._download", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.setenv("LOCALMA_DATA", "elsewhere")  # put back after the test
    (tmp_path / "data").mkdir()
    assert main(["toxicity", "--data", str(tmp_path / "data"), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"looked for {tmp_path / 'data'}" in said
    assert "(on the command line: --data DIR or --synthetic)" in said


def test_less_does_not_replace_more(tmp_path):
    place = tmp_path / "a.json"
    place.write_text('{"scale": "quick", "configuration": {"replications": 20, "cases": ["he", "hi"], "seed": 3}}')
    for less, words in (({"replications": 19}, "replications = 20, this run 19"), ({"cases": ("he",)}, "cases = ")):
        with pytest.raises(ValueError, match=f"a.json has {words}.*give another folder with --out"):
            refuse_to_replace(place, less, full=False)
    refuse_to_replace(place, {"replications": 20, "cases": ["hi", "he", "hin"], "seed": 2}, full=False)
    refuse_to_replace(tmp_path / "b.json", {"replications": 1}, full=False)
