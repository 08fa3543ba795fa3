"""Parts of long runs: kept, resumed, mended, computed side by side."""

import json
import os
import time

import numpy as np
import pandas as pd
import pytest

from localma.replication.lab import parts, results


def test_an_interrupted_run_counts_the_parts_of_its_own_command(tmp_path, capsys):
    kept = ("housing", "housing-more", "housing-tuning", "housing-synthetic", "housing-synthetic-more", "housing-tuning-synthetic")
    for name in kept:
        folder = tmp_path / f".{name}-parts" / "0123456789ab"
        folder.mkdir(parents=True)
        (folder / "a.npz").touch()
    for name, kept_parts in (("housing", 2), ("housing-synthetic", 2), ("housing-tuning", 1), ("housing-tuning-synthetic", 1), ("hous", 0)):
        assert parts.interrupted(name, tmp_path) == 130
        assert f"{name}: interrupted; {kept_parts} finished parts" in capsys.readouterr().err


def test_parts_of_other_settings_are_not_picked_up(tmp_path):
    def compute(value):
        return lambda key: {"x": np.array([value])}

    first, _ = parts.run_parts("t", [("a", 1)], compute(1.0), out=tmp_path, configuration={"seed": 1})
    again, _ = parts.run_parts("t", [("a", 1)], compute(2.0), out=tmp_path, configuration={"seed": 1})
    other, _ = parts.run_parts("t", [("a", 1)], compute(3.0), out=tmp_path, configuration={"seed": 2})
    assert (first["a"]["x"], again["a"]["x"], other["a"]["x"]) == (1.0, 1.0, 3.0)


@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b"", lambda b: b"none" * 9, lambda b: b.replace(b"\xff" * 8, b"\0" * 8)])
def test_a_damaged_part_is_computed_again(damage, tmp_path, capsys):
    calls = []

    def compute(key):
        calls.append(key)
        return {"x": np.full(40, -1)}

    def go():
        done, _ = parts.run_parts("t", [("a", 1), ("b", 1)], compute, out=tmp_path, configuration={})
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
        work = [(str(k), k) for k in range(1, 4)]
        done, seconds = parts.run_parts("t", work, compute, out=tmp_path / folder, configuration={"seed": seed}, jobs=jobs)
        assert seconds > 0
        return list(done), [part["x"].tolist() for part in done.values()], {int(part["process"]) for part in done.values()}

    keys, values, processes = go(2, "two")
    assert (keys, values) == go(1, "one")[:2]
    assert os.getpid() not in processes
    assert go(1, "two")[2] == processes, "another number of jobs picks up the same parts"
    with pytest.raises(ValueError, match="jobs"):
        go(0, "none")


def test_a_process_that_starts_after_an_edit_computes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "code_digest", lambda: "before the edit")  # in this process; another one reads the files that are there now
    with pytest.raises(RuntimeError, match=r"localma changed since this run started.*start it again"):
        parts.run_parts("t", [("a", 1), ("b", 1)], lambda key: {"x": np.ones(1)}, out=tmp_path, configuration={}, jobs=2)
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
        parts.run_parts("t", [("a", 1), ("b", 1), ("bad", 1)], compute, out=tmp_path, configuration={}, jobs=2)
    assert "a.npz" in [p.name for p in tmp_path.glob(".t-parts/*/*.npz")]


@pytest.mark.parametrize("longer", [{}, {"repetitions": 9}], ids=["all of it keys the parts", "less keys the parts"])
def test_a_finished_run_leaves_the_parts_of_other_settings(tmp_path, longer):
    def run(seed):
        parts.run_parts("t", [("a", 1)], lambda key: {"x": np.ones(1)}, out=tmp_path, configuration={"seed": seed})

    def finish(seed):
        more = {"settings": {"seed": seed} if longer else None, "more": {"chosen": seed}}
        results.write_results("t", pd.DataFrame({"x": [1.0]}), tmp_path, configuration={"seed": seed} | longer, seconds=1.0, **more)
        provenance = json.loads((tmp_path / "t.json").read_text())
        assert (provenance["configuration"], provenance["chosen"]) == ({"seed": seed} | longer, seed)
        return len(list(tmp_path.glob(".t-parts/*/a.npz")))

    run(1)
    run(2)
    assert finish(2) == 1, "the run with seed 1 may have been interrupted"
    assert finish(1) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "t.json"]
