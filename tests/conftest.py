"""What several test files share: the built book, a browser, an environment with the wheel alone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "book" / folder) for folder in ("_tools", "_ext")]

#: How a chapter that a test makes up begins.
FRONT = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder for all workers of this run, and none of the next run's, whose package may be another."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def pytest_collection_modifyitems(items):
    """Who needs the book comes first, then what is slow: others fill the gaps, and nobody waits for a late long one."""
    items.sort(key=lambda item: ("book_html" not in item.fixturenames, not item.get_closest_marker("slow")))


@pytest.fixture(scope="session")
def book_html(shared, wheel_python):
    """The folder of the built pages. Built once, by what `make book` calls; the chapters have the wheel alone."""
    fault = shared / "book.txt"
    with FileLock(fault.with_suffix(".lock")):
        if not fault.exists():
            done = subprocess.run([wheel_python, ROOT / "book" / "_tools" / "build.py"], capture_output=True, text=True)
            fault.write_text(done.stdout[-4000:] + done.stderr[-8000:] if done.returncode else "")
    assert fault.read_text() == ""
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium of the system."""
    from pdf import chromium

    if chromium() is None:
        pytest.skip("no Chromium on this machine: install one to check the pages in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox needs a user namespace, which containers run by root do not give.
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def torchvision():
    """torchvision, or None if it is not installed.

    Its compiled part may be for another build of torch, CUDA's beside one without, say. Networks need nothing of that
    part but two names; without these neither torchvision can be imported nor what looks at it, such as transformers.
    """
    names = torch.library.Library("torchvision", "FRAGMENT")  # held as long as the tests run
    try:
        import torchvision
    except ModuleNotFoundError:
        torchvision = None
    except RuntimeError:  # operator torchvision::nms does not exist
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        for name in ("nms", "qnms"):
            names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    yield torchvision
    del names


@pytest.fixture(scope="session")
def wheel_python(shared):
    """The Python of a new environment that holds the built wheel, beside the test environment's packages.

    These come in by a .pth line. Python does not follow the .pth files inside such a folder, so the editable install
    of the working tree stays hidden and `import localma` finds the wheel or nothing.
    """
    folder = shared / "wheel"
    folder.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        environment = folder / "env"
        python = environment / "bin" / "python"
        if not (folder / "done").exists():
            # A copy keeps `build` and `*.egg-info` out of the working tree.
            source = folder / "source"
            files = subprocess.run(
                ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--",
                 "localma", "pyproject.toml", "README.md", "LICENSE"],
                cwd=ROOT, check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            for name in filter(None, files.split("\0")):
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, source / name)
            run(
                [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder],
                source,
            )
            (wheel,) = folder.glob("*.whl")
            venv.create(environment, with_pip=False, symlinks=True)
            run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps",
                 "--no-index", "--disable-pip-version-check", wheel], folder)  # fmt: skip
            scheme = {"base": str(environment), "platbase": str(environment)}
            site = Path(sysconfig.get_path("purelib", "venv", scheme))
            (site / "test_environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
            (folder / "done").touch()
    return python


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def two_halves():
    """Makes X, y, F of a sample in which one model is right on the left and one on the right, all of it moved far from
    zero if so asked.
    """

    def sample(offset=0.0, shift=0.0):
        rng = np.random.default_rng(0)
        X = rng.uniform(-1, 1, (400, 1))
        y = X[:, 0] ** 2 + 0.1 * rng.standard_normal(400)
        F = np.c_[-X[:, 0] - 1 / 6, X[:, 0] - 1 / 6]
        return X + shift, y + offset, F + offset

    return sample


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """What a new user has: no data folder and an empty cache, ``cache`` in the folder that the test gets."""
    monkeypatch.delenv("LOCALMA_DATA", raising=False)
    monkeypatch.setattr("localma.datasets.find.cache_folder", lambda: tmp_path / "cache")
    return tmp_path
