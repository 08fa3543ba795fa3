"""The replication floor: the design's population values, the command line, resuming, and the verdicts."""

import inspect
import json
import os
import re
import time

import numpy as np
import pandas as pd
import pytest
import torch

from localma.engine import global_weights
from localma.losses import LOSSES
from localma.replication import __main__ as command
from localma.replication import bench, compare, housing, load_results, printed, runner, simulation, tuning, walks
from localma.replication.__main__ import EXPERIMENTS, main
from localma.replication.simulation import CELLS, Cell

COLUMNS = ["scenario", "setting", "n", "method", "metric", "mean", "sd", "mcse", "replications"]


@pytest.fixture(scope="module")
def population():
    """A million points, so that a mean of squares near 6 has a standard error near 0.01."""
    X = np.random.default_rng(0).standard_normal((1_000_000, 5))
    return X, simulation.candidate_models(X)


def test_models_are_uncorrelated_with_second_moment_ten(population):
    _, F = population
    moments = F.T @ F / len(F)
    np.testing.assert_allclose(np.diag(moments), [10, 10 * (1 - np.exp(-4)), 10], atol=0.15)
    np.testing.assert_allclose(moments - np.diag(np.diag(moments)), 0, atol=0.1)


@pytest.mark.parametrize(
    ("cell", "ewma", "gw"),
    [(Cell(1, "S1", 1), 5.994, 5.941), (Cell(1, "S2", 1), 0, 0), (Cell(1, "S3", 1), 2.063, 0), (Cell(2, "-", 1), 15.74, 13.86)],
    ids=lambda v: v.key if isinstance(v, Cell) else str(v),
)
def test_calibrated_population_values(population, cell, ewma, gw):
    X, F = population
    mu = simulation.true_mean(X, cell)
    assert np.mean((F.mean(1) - mu) ** 2) == pytest.approx(ewma, abs=0.06)
    w = global_weights(F, mu, LOSSES["squared"])
    assert np.mean((F @ w - mu) ** 2) == pytest.approx(gw, abs=0.06)


def test_hull_floor_of_scenario_2(population):
    X, F = population
    mu = simulation.true_mean(X, Cell(2, "-", 1))
    floor = np.square(simulation.hull_clip(F, mu) - mu)
    assert floor.mean() == pytest.approx(2.621, abs=0.05)
    w = np.random.default_rng(1).dirichlet(np.ones(3), len(F))
    assert (floor <= np.square((w * F).sum(1) - mu) + 1e-9).all()


def test_true_weights_lie_on_the_simplex():
    X = np.random.default_rng(0).standard_normal((7, 4, 5)) * 50
    for setting in ("S1", "S2", "S3"):
        w = simulation.true_weights(X, setting)
        assert w.shape == (7, 4, 3)
        assert (w >= 0).all()
        np.testing.assert_allclose(w.sum(-1), 1)


def test_fewer_replications_are_the_first_of_more():
    few, many = (simulation.replicate(Cell(1, "S3", 100), r, seed=4) for r in (3, 6))
    for name, values in few.items():
        # test points are drawn after the samples, in order
        np.testing.assert_allclose(values, many[name][:3], rtol=1e-3, atol=1e-7, err_msg=name)
    other = simulation.replicate(Cell(1, "S3", 100), 3, seed=5)
    assert not np.allclose(few["LocalMA.mse"], other["LocalMA.mse"])


def test_hull_is_below_every_method_in_every_replication():
    out = simulation.replicate(Cell(2, "-", 100), 8)
    for method in ("LocalMA", "GW", "EWMA"):
        assert (out["Hull.mse"] < out[f"{method}.mse"]).all()


def test_run_gives_one_row_per_cell_method_and_metric():
    table = simulation.run(replications=2, scenarios=(2,))
    assert list(table.columns) == COLUMNS
    assert len(table) == 4 * 4
    assert (table["replications"] == 2).all()
    np.testing.assert_allclose(table["mcse"], table["sd"] / 2**0.5)


@pytest.mark.parametrize("bad", [{"replications": 0}, {"scenarios": (3,)}])
def test_run_names_the_bad_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        simulation.run(**bad)


def test_command_line_writes_table_and_provenance(tmp_path, capsys):
    assert main(["simulation", "--replications", "2", "--scenario", "2", "--seed", "3", "--out", str(tmp_path)]) == 0
    assert str(tmp_path / "simulation.csv") in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "simulation.csv", keep_default_na=False)
    assert list(table.columns) == COLUMNS
    provenance = json.loads((tmp_path / "simulation.json").read_text())
    assert provenance["configuration"]["seed"] == 3
    assert provenance["configuration"]["replications"] == 2
    assert {"localma", "numpy", "torch", "python", "joblib"} <= provenance["versions"].keys()
    assert provenance["versions"]["code"] == runner._code()[:12]
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
        (["--data", __file__], "test_replication.py is no folder"),
        (["--jobs", "0"], "--jobs: must be at least 1"),
        (["--out", __file__], "test_replication.py is not a folder that can be written to"),
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

    monkeypatch.setattr(housing, "tune", tune)
    assert main(["housing", "--tune", "--synthetic", "--seed", "5", "--jobs", "2", "--out", str(tmp_path)]) == 0
    assert calls == [(False, 5, tmp_path, 2, True)]
    assert str(tmp_path / "housing-tuning-synthetic.csv") in capsys.readouterr().out


def test_all_means_all_and_one_failure_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    ran = []

    def function(place):
        def run(*, seed, out, jobs):
            ran.append(place)
            if place == "housing:run":
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
            if place == "housing:run":
                raise error

        if place == "housing:run" and when == "imported":
            run(seed=0, out=None, jobs=1)
        return run

    monkeypatch.setattr(command, "_function", function)
    assert main(["all", "--out", str(tmp_path)]) == 2
    assert ran == [experiment.run for experiment in EXPERIMENTS.values()]
    assert words in capsys.readouterr().err


def test_a_quick_run_does_not_replace_a_full_one(tmp_path, monkeypatch, capsys):
    def function(place):
        def run(*, full, seed, out, jobs):
            runner.write_results("theory", pd.DataFrame({"x": [full]}), out, configuration={}, seconds=1.0)

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
    assert runner.SCALE.get() is None


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


def test_tuning_ranks_its_grid(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "GRID", tuning.GRID[:2])
    monkeypatch.setattr(tuning, "CELLS", CELLS[:2])
    assert main(["tuning", "--scale", "quick", "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "tuning.csv")
    assert len(table) == 2
    assert table["score"].is_monotonic_increasing
    assert table["score"].min() >= 1


def test_same_seed_same_file(tmp_path):
    for name in "ab":
        simulation.run(replications=2, scenarios=(2,), seed=1, out=tmp_path / name)
    assert (tmp_path / "a/simulation.csv").read_bytes() == (tmp_path / "b/simulation.csv").read_bytes()


def test_interrupted_run_keeps_parts_and_resumes(tmp_path, monkeypatch, capsys):
    whole = simulation.run(replications=2, scenarios=(2,), seed=2)
    original, calls = simulation.replicate, []

    def stop_at_third(cell, *args, **kwargs):
        calls.append(cell)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(cell, *args, **kwargs)

    monkeypatch.setattr(simulation, "replicate", stop_at_third)
    arguments = ["simulation", "--replications", "2", "--scenario", "2", "--seed", "2", "--out", str(tmp_path)]
    assert main(arguments) == 130
    assert "2 finished parts are kept" in capsys.readouterr().err
    assert not (tmp_path / "simulation.csv").exists()
    assert main(arguments) == 0
    assert len(calls) == 5, "four cells, one of them tried twice: finished ones are not run again"
    resumed = pd.read_csv(tmp_path / "simulation.csv", keep_default_na=False)
    np.testing.assert_allclose(resumed["mean"], whole["mean"], rtol=1e-5)


def test_an_interrupted_run_counts_the_parts_of_its_own_command(tmp_path, capsys):
    kept = ("housing", "housing-more", "housing-tuning", "housing-synthetic", "housing-synthetic-more", "housing-tuning-synthetic")
    for name in kept:
        folder = tmp_path / f".{name}-parts" / "0123456789ab"
        folder.mkdir(parents=True)
        (folder / "a.npz").touch()
    for name, parts in (("housing", 2), ("housing-synthetic", 2), ("housing-tuning", 1), ("housing-tuning-synthetic", 1), ("hous", 0)):
        assert runner.interrupted(name, tmp_path) == 130
        assert f"{name}: interrupted; {parts} finished parts" in capsys.readouterr().err


def test_parts_of_other_settings_are_not_picked_up(tmp_path):
    def compute(value):
        return lambda key: {"x": np.array([value])}

    first, _ = runner.run_parts("t", [("a", 1)], compute(1.0), out=tmp_path, configuration={"seed": 1})
    again, _ = runner.run_parts("t", [("a", 1)], compute(2.0), out=tmp_path, configuration={"seed": 1})
    other, _ = runner.run_parts("t", [("a", 1)], compute(3.0), out=tmp_path, configuration={"seed": 2})
    assert (first["a"]["x"], again["a"]["x"], other["a"]["x"]) == (1.0, 1.0, 3.0)


@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b"", lambda b: b"none" * 9, lambda b: b.replace(b"\xff" * 8, b"\0" * 8)])
def test_a_damaged_part_is_computed_again(damage, tmp_path, capsys):
    calls = []

    def compute(key):
        calls.append(key)
        return {"x": np.full(40, -1)}

    def go():
        done, _ = runner.run_parts("t", [("a", 1), ("b", 1)], compute, out=tmp_path, configuration={})
        assert list(done) == ["a", "b"]
        assert (done["a"]["x"] == -1).all()

    go()
    path = next(tmp_path.rglob("a.npz"))
    path.write_bytes(damage(path.read_bytes()))
    go()
    assert calls == ["a", "b", "a"]
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warned) == 1
    assert f"{path} is damaged" in warned[0]


def test_parts_side_by_side_are_the_same_parts(tmp_path):
    def compute(key):
        return {"x": np.full(2, float(key)), "process": np.array(os.getpid())}

    def go(jobs, folder, seed=1):
        parts = [(str(k), k) for k in range(1, 4)]
        done, seconds = runner.run_parts("t", parts, compute, out=tmp_path / folder, configuration={"seed": seed}, jobs=jobs)
        assert seconds > 0
        return list(done), [part["x"].tolist() for part in done.values()], {int(part["process"]) for part in done.values()}

    keys, values, processes = go(2, "two")
    assert (keys, values) == go(1, "one")[:2]
    assert os.getpid() not in processes
    assert go(1, "two")[2] == processes, "another number of jobs picks up the same parts"
    with pytest.raises(ValueError, match="jobs"):
        go(0, "none")


def test_a_process_that_starts_after_an_edit_computes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_code", lambda: "before the edit")  # in this process; another one reads the files that are there now
    with pytest.raises(RuntimeError, match=r"localma changed since this run started.*start it again"):
        runner.run_parts("t", [("a", 1), ("b", 1)], lambda key: {"x": np.ones(1)}, out=tmp_path, configuration={}, jobs=2)
    assert not list(tmp_path.rglob("*.npz"))


def test_an_error_beside_other_parts_keeps_the_finished_ones(tmp_path):
    def compute(key):
        if key == "bad":
            end = time.monotonic() + 60
            while time.monotonic() < end and not list(tmp_path.glob(".t-parts/*/a.npz")):  # "a" may start late, in the other process
                time.sleep(0.01)
            raise ValueError("no such part")
        return {"x": np.ones(1)}

    with pytest.raises(ValueError, match="no such part"):
        runner.run_parts("t", [("a", 1), ("b", 1), ("bad", 1)], compute, out=tmp_path, configuration={}, jobs=2)
    assert "a.npz" in [p.name for p in tmp_path.glob(".t-parts/*/*.npz")]


@pytest.mark.parametrize("longer", [{}, {"repetitions": 9}], ids=["all of it keys the parts", "less keys the parts"])
def test_a_finished_run_leaves_the_parts_of_other_settings(tmp_path, longer):
    def run(seed):
        runner.run_parts("t", [("a", 1)], lambda key: {"x": np.ones(1)}, out=tmp_path, configuration={"seed": seed})

    def finish(seed):
        more = {"settings": {"seed": seed} if longer else None, "more": {"chosen": seed}}
        runner.write_results("t", pd.DataFrame({"x": [1.0]}), tmp_path, configuration={"seed": seed} | longer, seconds=1.0, **more)
        provenance = json.loads((tmp_path / "t.json").read_text())
        assert (provenance["configuration"], provenance["chosen"]) == ({"seed": seed} | longer, seed)
        return len(list(tmp_path.glob(".t-parts/*/a.npz")))

    run(1)
    run(2)
    assert finish(2) == 1, "the run with seed 1 may have been interrupted"
    assert finish(1) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "t.json"]


def test_printed_tables_know_their_rounding():
    assert len(printed(1)) == 36
    assert len(printed(2)) == 12
    assert len(printed(3)) == 12
    one = printed(1).set_index(["setting", "n", "method"])
    assert one.loc[("S2", 600, "GW"), "rounding"] == pytest.approx(0.0005)
    assert one.loc[("S1", 100, "GW"), "rounding"] == pytest.approx(0.005)
    with pytest.raises(ValueError, match="table = 9"):
        printed(9)


@pytest.mark.parametrize(("mean", "verdict"), [(10.0, "agrees"), (10.04, "agrees"), (10.2, "differs: higher"), (9.8, "differs: lower")])
def test_verdicts(mean, verdict):
    paper = pd.DataFrame({"n": [100], "method": ["GW"], "mean": [10.0], "sd": [0.2], "rounding": [0.005]})
    ours = pd.DataFrame({"n": [100], "method": ["GW"], "mean": [mean], "mcse": [0.01]})
    assert compare(ours, paper)["verdict"].item() == verdict


def test_coarse_agreement_cannot_tell():
    paper = pd.DataFrame({"n": [100], "method": ["GW"], "mean": [0.01], "sd": [0.0], "rounding": [0.005]})
    ours = pd.DataFrame({"n": [100], "method": ["GW"], "mean": [0.007], "mcse": [0.0]})
    assert compare(ours, paper)["verdict"].item() == "cannot tell"


def test_the_plain_loop_of_the_benchmark_trains_the_same_networks():
    x, f, y = bench._sample(100, 3)
    loop = bench.plain_loop(x, f, y, width=16, seeds=range(3))
    from localma.engine import Options, fit_stack

    fit = fit_stack(x, f, y, LOSSES["squared"], seeds=range(3), options=Options(steps=bench.STEPS), standardize=False)
    stacked = fit.weights(x)
    for b, network in enumerate(loop):
        with torch.no_grad():
            alone = torch.softmax(network(x[b]), 1)
        np.testing.assert_allclose(stacked[b], alone, atol=1e-3)  # float32, 100 steps


# --- the committed results -----------------------------------------------------------------------------------------------------


def test_committed_results_are_complete_and_of_this_configuration():
    table, provenance = load_results("simulation")
    assert list(table.columns) == COLUMNS
    assert (table["replications"] == simulation.FULL).all()
    assert len(table) == 12 * (3 + 3) + 4 * 4
    assert provenance["configuration"]["LocalMA"] == simulation.CONFIGURATION
    with pytest.raises(ValueError, match="simulation"):
        load_results("nothing")


def test_committed_configuration_is_the_tuned_one():
    table, _ = load_results("tuning")
    best = table.sort_values("score").iloc[0]
    assert best["width"] == simulation.CONFIGURATION["width"]
    assert best["learning_rate"] == simulation.CONFIGURATION["learning_rate"]
    from localma.engine import Options

    for n in (100, 900):
        assert Options().resolve(n).penalty == pytest.approx(best["penalty"] * (100 / n) ** best["power"])


def test_committed_means_are_reproduced_by_a_small_run():
    """Sixty fresh replications against 500: each cell within 4.5 standard errors; 44 comparisons, error probability below 1e-3."""
    table, _ = load_results("simulation")
    committed = table.set_index(["scenario", "setting", "n", "method", "metric"])
    for cell in CELLS[::3]:
        for name, values in simulation.replicate(cell, 60, seed=123).items():
            row = committed.loc[(cell.scenario, cell.setting, cell.n, *name.split("."))]
            error = np.hypot(row["mcse"], values.std(ddof=1) / 60**0.5) + 1e-6  # the table has six digits
            assert abs(values.mean() - row["mean"]) < 4.5 * error, (cell, name)


def test_goal_against_the_paper():
    """At or below the printed LocalMA error (to its rounding) in most cells, never above 1.5 times it."""
    table, _ = load_results("simulation")
    mse = table[table["metric"] == "mse"]
    both = [compare(mse[mse["scenario"] == 1], printed(1)), compare(mse[mse["scenario"] == 2], printed(3))]
    local = pd.concat(both).query("method == 'LocalMA'")
    assert local["ratio"].max() < 1.5
    assert (local["replicated"] <= local["printed"] + 0.005).mean() > 0.5


# --- the theory part's measurements ------------------------------------------------------------------------------


def test_each_walk_measures_what_it_says():
    """The contract of a walk, on its smallest quick cell: one array entry for each replication, all finite."""
    for name in walks.names():
        cells = walks._walk(name).CELLS
        assert set(cells) == {"quick", "full"}
        case, size, _ = min(cells["quick"], key=lambda cell: cell[1])
        found = walks._measure(name, case, size, 2, seed=0)
        assert found
        for quantity, values in found.items():
            assert values.shape == (2,), f"{name}: {quantity}"
            assert np.isfinite(values).all(), f"{name}: {quantity}"
        again = walks._measure(name, case, size, 2, seed=0)
        assert all(np.array_equal(found[q], again[q]) for q in found), f"{name}: same seed, other numbers"


def test_every_cell_of_every_walk_has_a_file_name_of_its_own():
    keys = [walks._key(name, *cell[:2]) for name in walks.names() for cell in walks._walk(name).CELLS["full"]]
    assert len(keys) == len(set(keys))
    assert all(re.fullmatch(r"[\w.%-]+", key) for key in keys)


def test_walks_run_and_are_written(tmp_path, monkeypatch):
    """The command on one small walk, a case with a name that is no file's among its cells: the table of the live measurement, to six digits."""
    monkeypatch.setattr(walks, "names", lambda: ["tails"])
    case = walks._walk("tails").CELLS["quick"][0][0]
    monkeypatch.setattr(walks._walk("tails"), "measure", lambda case, size, replications, rng: {"mean": rng.normal(size=replications)})
    monkeypatch.setattr(walks._walk("tails"), "CELLS", {"quick": [(case, 10, 3), ("a/b, c", 20, 3)]})
    walks.run(full=False, out=tmp_path)
    written = pd.read_csv(tmp_path / "theory.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(written, walks.table("tails"), rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theory.csv", "theory.json"]


def test_an_unknown_walk_is_refused():
    with pytest.raises(ValueError, match=r"'nowhere' is no walk.*optimality"):
        walks.table("nowhere")


def test_fitted_slope_covers_the_true_one():
    """Power laws with known noise: the 95 % interval misses in about 5 % of 400 draws (at most 9 %: an error probability below 1 in 2,000)."""
    rng, size = np.random.default_rng(0), np.array([100.0, 300, 1000, 3000, 10000])
    truth = 2 * size**-0.5
    missed = 0
    for _ in range(400):
        fit = walks.fitted_slope(size, truth * (1 + 0.02 * rng.standard_normal(5)), 0.02 * truth)
        missed += not fit.low <= -0.5 <= fit.high
    assert missed <= 36


def test_fitted_slope_says_when_a_line_does_not_fit():
    size = np.array([100.0, 300, 1000, 3000])
    bent = walks.fitted_slope(size, 1 / size + 0.002, 1e-5 / size)
    assert bent.misfit > 100
    assert bent.high - bent.low > 0.1
    with pytest.raises(ValueError, match="at least 3"):
        walks.fitted_slope([1, 2], [1, 2], [1, 1])
