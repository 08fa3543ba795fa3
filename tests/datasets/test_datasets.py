"""Data files: found where they should be, refused when they are not what they should be."""

import os
import re
import sys

import pytest

from localma.datasets import find as module
from localma.datasets.find import Source, digest, find
from localma.datasets.tables import read_table

pytestmark = pytest.mark.usefixtures("nowhere")
user_cache = module.cache_folder  # before a test puts another in its place


def put(folder, text="x\n1\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.csv").write_text(text)
    return folder / "a.csv"


def test_places_are_searched_in_order(nowhere, monkeypatch):
    source = Source("things/a.csv")
    cached = put(nowhere / "cache" / "things")
    assert find(source) == cached
    shared = put(nowhere / "data" / "things")
    monkeypatch.setenv("LOCALMA_DATA", str(nowhere / "data"))
    assert find(source) == shared
    given = put(nowhere / "given")
    assert find(source, given) == find(source, given.parent) == given


def test_each_place_is_searched_for_every_source_before_the_next(nowhere, monkeypatch):
    """A file that is bad hides none that comes earlier."""
    source, instead = Source("things/a.csv", checksum="sha256:" + "0" * 64), Source("things/b.csv")
    put(nowhere / "cache" / "things")
    with pytest.raises(ValueError, match="checksum"):
        find(source, otherwise=(instead,))
    (put(nowhere / "data" / "things")).rename(nowhere / "data" / "things" / "b.csv")
    monkeypatch.setenv("LOCALMA_DATA", str(nowhere / "data"))
    assert find(source, otherwise=(instead,)) == nowhere / "data" / "things" / "b.csv"


def test_a_tilde_is_the_home_folder(nowhere, monkeypatch):
    monkeypatch.setenv("HOME", str(nowhere))
    monkeypatch.setenv("USERPROFILE", str(nowhere))
    place = put(nowhere / "data" / "things")
    assert find(Source("things/a.csv"), "~/data") == find(Source("things/a.csv"), "~/data/things/a.csv") == place
    monkeypatch.setenv("LOCALMA_DATA", "~/data")
    assert find(Source("things/a.csv")) == place


def test_the_home_of_nobody_is_named():
    with pytest.raises(ValueError, match="path = '~no-such-user/data' names the home of nobody here"):
        find(Source("things/a.csv"), "~no-such-user/data")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.xz", "a.csv.zip", "a.parquet"])
@pytest.mark.parametrize("junk", [b"", bytes(range(256)), b"\xfd7zXZ\x00 and no more", b"PK\x03\x04 and no more"])
def test_junk_under_a_right_name_is_named(name, junk, tmp_path):
    (place := tmp_path / name).write_bytes(junk)
    with pytest.raises(ValueError, match=re.escape(str(place))):
        read_table(place, ("rent",), "Ask the source.")


def test_without_pooch_the_users_folder_is_read_and_the_error_says_what_to_install(nowhere, monkeypatch):
    monkeypatch.setattr(module, "cache_folder", user_cache)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match=r"a\.csv was not found.*pip install 'localma\[plots\]'.*LOCALMA_DATA"):
        find(Source("things/a.csv"))
    with pytest.raises(ImportError, match=r"pip install 'localma\[plots\]'"):
        user_cache()
    place = put(nowhere / "data" / "things")
    monkeypatch.setenv("LOCALMA_DATA", str(nowhere / "data"))
    assert find(Source("things/a.csv")) == place


def test_the_extra_that_errors_name_has_pooch():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(name.startswith("pooch") for name in project["optional-dependencies"]["plots"])


def test_a_cache_that_cannot_be_made_is_named_once_and_done_without(nowhere, monkeypatch):
    folder = nowhere / "a file" / "localma"
    put(nowhere).rename(nowhere / "a file")
    monkeypatch.setattr("pooch.os_cache", lambda name: folder)
    with pytest.warns(UserWarning, match=f"{folder} cannot be written"):
        instead = user_cache()
    (instead / "kept.txt").write_text("for this process")
    assert user_cache() == instead, "warnings are errors here: the second time there is none"


def test_a_cache_that_can_only_be_read_is_read(nowhere, monkeypatch):
    monkeypatch.setattr(module, "cache_folder", user_cache)
    place = put(nowhere / "shared" / "localma" / "things")
    monkeypatch.setattr("pooch.os_cache", lambda name: nowhere / "shared" / "localma")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.warns(UserWarning, match="cannot be written"):
        assert find(Source("things/a.csv")) == place


def test_a_given_path_is_taken_or_refused(nowhere):
    put(nowhere / "cache" / "things")
    with pytest.raises(FileNotFoundError, match=r"elsewhere.*a\.csv|a\.csv.*elsewhere"):
        find(Source("things/a.csv"), nowhere / "elsewhere" / "a.csv")


def test_a_missing_file_is_named_with_the_ways_out(nowhere):
    with pytest.raises(
        FileNotFoundError, match=r"a\.csv was not found.*cache.*Ask the source\..*LOCALMA_DATA.*synthetic=True"
    ):
        find(Source("things/a.csv", advice="Ask the source."))


def test_half_a_file_is_refused(nowhere):
    whole = put(nowhere / "whole", "0123456789")
    source = Source("things/a.csv", checksum=f"sha256:{digest(whole)}")
    assert find(source, whole) == whole
    half = put(nowhere / "cache" / "things", "01234")
    with pytest.raises(ValueError, match=rf"{half}.*checksum.*half a download.*remove it"):
        find(source)


def test_a_download_is_checked_and_kept(nowhere):
    served = put(nowhere / "server")
    good = Source("things/a.csv", checksum=f"sha256:{digest(served)}", url="http://127.0.0.1:0/a.csv")
    with pytest.raises(FileNotFoundError, match=r"download from http://127\.0\.0\.1.* failed"):
        find(good)
    assert not (nowhere / "cache" / "things" / "a.csv").exists()


@pytest.fixture
def server(nowhere):
    """A web server of one folder, on this machine."""
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    (nowhere / "server").mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=nowhere / "server"))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield nowhere / "server", f"http://127.0.0.1:{httpd.server_port}/a.csv"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_a_download_that_works_is_cached(server, nowhere):
    folder, url = server
    served = put(folder)
    source = Source("things/a.csv", checksum=f"sha256:{digest(served)}", url=url)
    assert find(source) == nowhere / "cache" / "things" / "a.csv"
    served.unlink()
    assert find(source).read_text() == "x\n1\n", "the second time nothing is fetched"


def test_a_download_of_something_else_is_refused(server, nowhere):
    folder, url = server
    put(folder, "something else")
    with pytest.raises(FileNotFoundError, match=r"failed.*hash"):
        find(Source("things/a.csv", checksum="sha256:" + "0" * 64, url=url))
    assert not list((nowhere / "cache" / "things").glob("*"))
