"""Files are written whole or not at all."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from localma.files import write_arrays, write_atomically


@pytest.mark.parametrize("error", [ValueError("no room"), KeyboardInterrupt()], ids=["failure", "Ctrl-C"])
@pytest.mark.parametrize("before", ["old", None])
def test_nothing_half_written_is_left(tmp_path, error, before):
    path = tmp_path / "table.csv"
    if before:
        path.write_text(before)

    def fail(temporary):
        assert temporary.parent == path.parent, "a rename from another disk could be cut in half"
        temporary.write_text("half of a ne")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("table.csv", before)] * bool(before)


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("new")
        assert path.read_text() == "old"

    write_atomically(str(path), write)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("table.csv", "new")]


def test_failed_arrays_leave_the_old_ones(tmp_path, monkeypatch):
    path = tmp_path / "average"
    write_arrays(path, {"x": np.arange(3)})

    def interrupted(file, **arrays):
        file.write(b"PK half of a zip")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_arrays(path, {"x": np.zeros(9)})
    with np.load(path) as file:
        assert file["x"].tolist() == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["average"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions and links are others there")
def test_permissions_and_links_stay(tmp_path):
    path, link = tmp_path / "table.csv", tmp_path / "link.csv"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path.name)
    write_atomically(link, lambda p: p.write_text("new"))
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names there")
def test_what_is_no_file_is_not_replaced(tmp_path):
    (folder := tmp_path / "folder").mkdir()
    os.mkfifo(pipe := tmp_path / "pipe")
    for place in (folder, pipe):
        with pytest.raises(ValueError, match="is no file that could be replaced"):
            write_atomically(place, lambda p: p.write_text("new"))
        assert not place.is_file()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    path = tmp_path / ("a" * 251 + ".npz")
    write_arrays(path, {"x": np.arange(3)})
    assert path.exists()


def test_what_is_written_is_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_ino))
    write_atomically(path := tmp_path / "a", lambda p: p.write_text("all"))
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_two_threads_on_one_path_do_not_meet(tmp_path):
    path, both = tmp_path / "table.csv", threading.Barrier(2, timeout=10)

    def write(text):
        def halves(temporary):
            with open(temporary, "w") as file:
                file.write(text)
                file.flush()
                both.wait()  # each has written before one of them renames
                file.write(text)

        write_atomically(path, halves)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(write, ["one", "two"])) == [None, None]
    assert path.read_text() in ("oneone", "twotwo")
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
