"""The build runs chapters side by side, keeps what is finished, and says what failed; here on books of a few lines."""

import os
import signal
import subprocess
import sys
import time

import build
import pytest
from chapters import ROOT
from filelock import FileLock
from joblib import cpu_count
from nbformat.v4 import new_code_cell, new_notebook

from tests.conftest import FRONT

CONFIG = (
    "title: A book\nonly_build_toc_files: true\nexecute: {execute_notebooks: cache, run_in_temp: true, timeout: 600}\n"
)


@pytest.fixture
def book(tmp_path):
    """Writes a book with one cell in each of its chapters; returns its folder."""

    def write(**cells):
        first, *others = [f"book/{name}" for name in cells]
        (tmp_path / "_config.yml").write_text(CONFIG)
        files = ", ".join(f"{{file: {name}}}" for name in others)
        (tmp_path / "_toc.yml").write_text(f"format: jb-book\nroot: {first}\nchapters: [{files}]\n")
        (tmp_path / "book").mkdir()
        for name, cell in cells.items():
            (tmp_path / "book" / f"{name}.md").write_text(
                f"{FRONT}# A chapter\n\n```{{code-cell}} ipython3\n{cell}\n```\n"
            )
        return tmp_path

    return write


FAILS = 'for k in range(3):\n    assert k < 2, "too many"\n1 / 0'


@pytest.mark.slow
def test_a_failed_build_makes_all_other_pages_and_ends_with_an_error(book, capfd):
    root = book(good="print(6 * 7)", bad=FAILS)
    for attempt in range(2):  # the second one must not pass because the first has read the page already
        assert build.build(root) != 0
        said = capfd.readouterr().err
        lines = "book/bad.md:16: assert k < 2: too many: 2\nbook/bad.md:17: ZeroDivisionError: division by zero"
        assert f"\n{lines}\n" in said, attempt
        assert "The book is not in order" in said
    pages = root / "_build" / "html" / "book"
    assert "42" in (pages / "good.html").read_text()
    assert (pages / "bad.html").exists()


# Notes that it runs, waits for another one to do so, and asks for an empty folder
WAITS = """import os, pathlib, time
noted = pathlib.Path({noted!r})
assert os.listdir() == []
with open(noted / "{me}", "a") as file:
    file.write("run\\n")
end = time.monotonic() + 60
while not (noted / "{other}").exists():
    assert time.monotonic() < end
    time.sleep(0.1)
print("met", "{other}", os.environ["OMP_NUM_THREADS"])"""


def test_time_is_what_a_chapter_computes(tmp_path):
    """Waiting for others is not computing."""

    def seconds(cell):
        notebook = new_notebook(cells=[new_code_cell(f"import time\n{cell}")])
        return build.run(notebook, str(tmp_path), timeout=60, allow_errors=False)[1]

    assert seconds("while time.process_time() < 6: pass") > 5.5
    assert seconds("time.sleep(6)") < 5


@pytest.mark.slow
@pytest.mark.skipif(cpu_count() < 2, reason="one core runs one chapter at a time")
def test_chapters_run_side_by_side_and_once(book, tmp_path, tmp_path_factory, capfd, monkeypatch):
    """Each waits for the other. What was not written to its end is run again, and nothing else."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    noted = tmp_path_factory.mktemp("noted")
    root = book(**{me: WAITS.format(noted=str(noted), me=me, other=other) for me, other in ("ab", "ba")})
    assert build.build(root) == 0
    said = capfd.readouterr()
    assert "Kernel is running" not in said.err
    assert [(noted / me).read_text() for me in "ab"] == ["run\n"] * 2
    for me, other in ("ab", "ba"):
        threads = max(cpu_count() // min(cpu_count(), build.MOST), 1)
        assert f"met {other} {threads}" in (root / "_build" / "html" / "book" / f"{me}.html").read_text()

    runs = (root / "_build" / ".jupyter_cache" / "executed").glob("*/*.ipynb")
    (half,) = [path for path in runs if "met b" in path.read_text()]
    half.write_text(half.read_text()[:200])
    build.execute(root)
    assert [(noted / me).read_text() for me in "ab"] == ["run\nrun\n", "run\n"]


# Notes that it runs, and holds a lock as long as its kernel lives
HOLDS = """import os, time, filelock
noted = {noted!r}
lock = filelock.FileLock(noted + "/lock-{me}")
lock.acquire()
with open(noted + "/{me}", "a") as file:
    file.write("run\\n")
time.sleep({seconds} * (not os.path.exists(noted + "/go")))"""
BUILD = "import build, pathlib, sys; build.build(pathlib.Path(sys.argv[1]))"


@pytest.mark.slow
def test_a_stopped_build_leaves_no_kernel_and_keeps_what_is_finished(book, tmp_path_factory):
    noted = tmp_path_factory.mktemp("noted")
    wait = {"quick": 0, "slow": 600}
    root = book(**{me: HOLDS.format(noted=str(noted), me=me, seconds=seconds) for me, seconds in wait.items()})
    kept = root / "_build" / ".jupyter_cache" / "executed"
    # a session of its own, as in a terminal: what stops the build also reaches its workers
    with subprocess.Popen(
        [sys.executable, "-c", BUILD, root], cwd=ROOT / "book" / "_tools", start_new_session=True
    ) as process:
        try:
            end = time.monotonic() + 60
            while not ((noted / "slow").exists() and list(kept.glob("*/*.ipynb"))):
                assert time.monotonic() < end
                time.sleep(0.1)
        finally:
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) != 0
    with FileLock(noted / "lock-slow", timeout=10):
        (noted / "go").touch()
    build.execute(root)
    assert [(noted / me).read_text() for me in wait] == ["run\n", "run\nrun\n"]
