"""The command line."""

import inspect
import json
import re

import pandas as pd
import pytest

from localma.replication import __main__ as command
from localma.replication.__main__ import EXPERIMENTS, main
from localma.replication.housing import tuning
from localma.replication.lab import parts, results

COLUMNS = ["scenario", "setting", "n", "method", "metric", "mean", "sd", "mcse", "replications"]


def test_command_line_writes_table_and_provenance(tmp_path, capsys):
    assert main(["simulation", "--replications", "2", "--scenario", "2", "--seed", "3", "--out", str(tmp_path)]) == 0
    assert str(tmp_path / "simulation.csv") in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "simulation.csv", keep_default_na=False)
    assert list(table.columns) == COLUMNS
    provenance = json.loads((tmp_path / "simulation.json").read_text())
    assert provenance["configuration"]["seed"] == 3
    assert provenance["configuration"]["replications"] == 2
    assert {"localma", "numpy", "torch", "python", "joblib"} <= provenance["versions"].keys()
    assert provenance["versions"]["code"] == parts.code_digest()[:12]
    assert provenance["scale"] == "quick"
    assert provenance["seconds"] > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["simulation.csv", "simulation.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "cuda:99"], "device = 'cuda:99' cannot be used here"),
        (["--scenario", "3"], "--scenario"),
        (["--replications", "0"], "at least 1"),
        (["--seed", "-1"], "--seed: must be at least 0"),
        (["--seed", "9" * 23], "--seed: must be at least 0 and less than 2**63"),
        (["--data", __file__], "test_command.py is no folder"),
        (["--jobs", "0"], "--jobs: must be at least 1"),
        (["--out", __file__], "test_command.py is not a folder that can be written to"),
        (["--out", f"{__file__}/below"], "--out: "),
        (["--out", "/proc/x"], "--out: /proc/x is not a folder that can be written to"),
    ],
)
def test_command_line_names_the_bad_argument(arguments, words, tmp_path, capsys):
    try:
        status = main(["simulation", "--out", str(tmp_path), *arguments])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["housing", "--encoder", "ngrams"], "housing does not know --encoder; python -m localma.replication housing --help"),
        (["theory", "--synthetic"], "theory does not know --synthetic"),
        (["counts", "--tune"], "counts does not know --tune"),
        (["toxicity", "--encoder", "bert"], "encoder = 'bert' is not known; choose from tinybert, minilm, ngrams"),
        (["toxicity", "--case", "yi"], "cases contains 'yi'; choose from he, hi"),
        (["housing", "--repetitions", "0"], "--repetitions: must be at least 1"),
        (["housing", "--tune", "--repetitions", "3"], "--repetitions has no meaning here"),
        (["toxicity", "--tune", "--share", "0.5"], "--share has no meaning here"),
        (["theory", "--device", "meta"], "it computes on a CPU only: leave --device meta out"),
    ],
)
def test_an_option_that_an_experiment_does_not_have_is_an_error(arguments, words, tmp_path, capsys):
    try:
        status = main([*arguments, "--out", str(tmp_path)])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_every_experiment_takes_what_the_command_line_offers(name, monkeypatch, tmp_path):
    """Each option reaches the function under the name of one of its parameters; each function can be seeded and says where it writes."""
    experiment = EXPERIMENTS[name]
    for place in filter(None, (experiment.run, experiment.tune)):
        takes = inspect.signature(command._function(place)).parameters
        assert {"seed", "out", "jobs"} <= takes.keys()
    takes = inspect.signature(command._function(experiment.run)).parameters
    renamed = {"scenario": "scenarios", "case": "cases", "share": "shares"}
    assert {renamed.get(option, option) for option in experiment.options} <= takes.keys()


def test_tune_calls_the_validation_and_names_its_file(tmp_path, monkeypatch, capsys):
    calls = []

    def tune(*, full, seed, out, jobs, synthetic=False):
        calls.append((full, seed, out, jobs, synthetic))

    monkeypatch.setattr(tuning, "tune", tune)
    assert main(["housing", "--tune", "--synthetic", "--seed", "5", "--jobs", "2", "--out", str(tmp_path)]) == 0
    assert calls == [(False, 5, tmp_path, 2, True)]
    assert str(tmp_path / "housing-tuning-synthetic.csv") in capsys.readouterr().out


def test_all_means_all_and_one_failure_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    ran = []

    def function(place):
        def run(*, seed, out, jobs):
            ran.append(place)
            if place == "housing.experiment:run":
                raise FileNotFoundError("no rents here")

        return run

    monkeypatch.setattr(command, "_function", function)
    assert main(["all", "--out", str(tmp_path)]) == 2
    assert ran == [experiment.run for experiment in EXPERIMENTS.values()]
    assert "housing: no rents here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FloatingPointError("training diverged"), "housing: training diverged"),
        (ModuleNotFoundError("No module named 'x'"), "housing: No module named 'x'; pip install 'localma[plots,models]'"),
    ],
    ids=["diverged", "an extra is missing"],
)
@pytest.mark.parametrize("when", ["imported", "run"])
def test_no_failure_of_one_experiment_stops_the_others(error, words, when, tmp_path, monkeypatch, capsys):
    ran = []

    def function(place):
        def run(*, seed, out, jobs):
            ran.append(place)
            if place == "housing.experiment:run":
                raise error

        if place == "housing.experiment:run" and when == "imported":
            run(seed=0, out=None, jobs=1)
        return run

    monkeypatch.setattr(command, "_function", function)
    assert main(["all", "--out", str(tmp_path)]) == 2
    assert ran == [experiment.run for experiment in EXPERIMENTS.values()]
    assert words in capsys.readouterr().err


def test_a_quick_run_does_not_replace_a_full_one(tmp_path, monkeypatch, capsys):
    def function(place):
        def run(*, full, seed, out, jobs):
            results.write_results("theory", pd.DataFrame({"x": [full]}), out, configuration={}, seconds=1.0)

        return run

    monkeypatch.setattr(command, "_function", function)

    def scale(*more):
        status = main(["theory", "--out", str(tmp_path), *more])
        return status, json.loads((tmp_path / "theory.json").read_text()).get("scale")

    (tmp_path / "theory.json").write_text("{}")  # of before scales were written
    assert scale() == (0, "quick")
    assert scale("--scale", "full") == (0, "full")
    assert scale() == (2, "full")
    assert re.search(r"theory.json is of a full run.*--out", capsys.readouterr().err)
    assert scale("--scale", "full") == (0, "full")
    assert results.SCALE.get() is None


def test_all_says_which_experiments_compute_on_the_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_function", lambda place: lambda *, seed, out: None)
    assert main(["all", "--device", "meta", "--out", str(tmp_path)]) == 0
    assert "cifar10: computes on the CPU" in capsys.readouterr().out


def test_a_missing_file_is_explained_in_words_of_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("localma.datasets.find.cache_folder", lambda: tmp_path)
    monkeypatch.setattr("localma.datasets.find._download", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.setenv("LOCALMA_DATA", "elsewhere")  # put back after the test
    (tmp_path / "data").mkdir()
    assert main(["toxicity", "--data", str(tmp_path / "data"), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"looked for {tmp_path / 'data'}" in said
    assert "(on the command line: --data DIR or --synthetic)" in said
