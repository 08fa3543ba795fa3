"""Parts of long runs: kept, resumed, mended, computed side by side, and thrown away where the code has changed."""

import itertools
import os
import time
from types import SimpleNamespace

import joblib.memory
import numpy as np
import pytest

from localma.replication.lab import parts
from localma.replication.lab.experiment import places
from localma.replication.lab.parts import code_digest, compute_parts
from localma.replication.simulation.experiment import Simulation


def kept(folder):
    return sorted(folder.rglob("output.pkl"))


def test_parts_are_picked_up_and_interruptions_leave_nothing_half_written(tmp_path):
    calls = []

    def measure(value):
        calls.append(value)
        if calls == [1, 2]:
            raise KeyboardInterrupt
        return {"x": np.full(2, value)}

    cells = {"a": (1,), "b": (2,), "c": (3,)}
    with pytest.raises(KeyboardInterrupt):
        compute_parts(measure, cells, tmp_path)
    assert len(kept(tmp_path)) == 1
    done, seconds = compute_parts(measure, cells, tmp_path)
    assert calls == [1, 2, 2, 3], "what was finished is not computed again"
    assert list(done) == ["a", "b", "c"]
    assert [part["x"].tolist() for part in done.values()] == [[1, 1], [2, 2], [3, 3]]
    assert seconds >= 0


def test_a_slow_disk_is_no_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(joblib.memory, "time", SimpleNamespace(time=itertools.count().__next__))
    done, _ = compute_parts(lambda: {"x": np.zeros(1)}, {"a": ()}, tmp_path)
    assert done["a"]["x"] == 0


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b"", lambda b: b"none" * 9, flip])
def test_a_damaged_part_is_computed_again(damage, tmp_path):
    calls = []

    def measure(key):
        calls.append(key)
        return {"x": np.random.default_rng(0).random(200)}

    def go():
        done, _ = compute_parts(measure, {"a": ("a",), "b": ("b",)}, tmp_path)
        assert list(done) == ["a", "b"]
        assert all(np.array_equal(part["x"], np.random.default_rng(0).random(200)) for part in done.values())

    go()
    place = kept(tmp_path)[0]
    place.write_bytes(damage(place.read_bytes()))
    go()
    assert len(calls) == 3
    go()
    assert len(calls) == 3, "it was mended"


def test_parts_side_by_side_are_the_same_parts(tmp_path):
    def measure(value):
        return {"x": np.full(2, value), "process": np.array(os.getpid())}

    def go(jobs, folder):
        with places(jobs):
            done, _ = compute_parts(measure, {str(k): (k,) for k in range(3)}, tmp_path / folder)
        return (
            list(done),
            [part["x"].tolist() for part in done.values()],
            {int(part["process"]) for part in done.values()},
        )

    keys, values, processes = go(2, "two")
    assert (keys, values) == go(1, "one")[:2]
    assert os.getpid() not in processes
    assert go(1, "two")[2] == processes, "another number of jobs picks up the same parts"


def test_a_process_that_starts_after_an_edit_computes_nothing(tmp_path, monkeypatch):
    # in this process; another one reads the files that are there now
    monkeypatch.setattr(parts, "code_digest", lambda *modules: "before the edit")
    with places(2), pytest.raises(RuntimeError, match=r"localma changed since this run started.*start it again"):
        compute_parts(lambda: {"x": np.ones(1)}, {"a": (), "b": ()}, tmp_path)
    assert not kept(tmp_path)


def test_an_error_beside_other_parts_keeps_the_finished_ones(tmp_path):
    def measure(key):
        if key == "bad":
            end = time.monotonic() + 60
            while time.monotonic() < end and not list(tmp_path.rglob("output.pkl")):  # the other may start late
                time.sleep(0.01)
            raise ValueError("no such part")
        return {"x": np.ones(1)}

    # threads start at once, and whoever computes, this process keeps the parts
    with places(2, "threading"), pytest.raises(ValueError, match="no such part"):
        compute_parts(measure, {key: (key,) for key in ("a", "b", "bad")}, tmp_path)
    assert kept(tmp_path)


@pytest.mark.parametrize(
    ("module", "edit", "same"),
    [
        ("localma.plots", b"\nnew = 1\n", True),
        ("localma.replication.housing.companies", b"\nnew = 1\n", True),
        ("localma.engine.local", b"\n# a comment\n", True),
        ("localma.engine.local", b'\ndef new():\n    "Text."\n', False),
        ("localma.engine.local", b"\nnew = 1\n", False),
        ("localma.losses.families", b"\nnew = 1\n", False),
        ("localma.replication.simulation.scenarios", b"\nnew = 1\n", False),
    ],
)
def test_the_key_is_of_what_the_experiment_imports(module, edit, same, monkeypatch):
    digest, source = code_digest.__wrapped__, parts._source
    before = digest(Simulation.__module__)
    monkeypatch.setattr(parts, "_source", lambda name: source(name) + edit * (name == module))
    assert (digest(Simulation.__module__) == before) is same


def test_docstrings_do_not_count(monkeypatch):
    source = parts._source
    before = code_digest.__wrapped__("localma.engine.local")
    monkeypatch.setattr(parts, "_source", lambda name: source(name).replace(b"Fit B independent", b"Fit many"))
    assert code_digest.__wrapped__("localma.engine.local") == before


def test_the_key_is_of_settings_and_versions_and_not_of_the_extent(monkeypatch):
    from localma.replication.counts import Counts, CountsRivals
    from localma.replication.lab import experiment

    key = Counts().key()
    assert Counts(repetitions=9).key() == key, "a longer run picks up the parts of a shorter one"
    assert len({key, Counts(seed=1).key(), Counts(pilots=3).key()}) == 3
    assert CountsRivals(sizes=(80,)).key() != CountsRivals(sizes=(90,)).key(), "a part holds every size"
    monkeypatch.setattr(experiment, "versions", lambda: {"torch": "another"})
    assert Counts().key() != key
