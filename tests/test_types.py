"""The package says its types (`py.typed`), mypy finds them consistent, and they serve a strictly typed program."""

import runpy
import subprocess
import sys

import pytest
from chapters import ROOT

CLIENT = ROOT / "tests" / "typed_client.py"
# Errors inside the package are the first test's.
STRICT = ("--strict", "--follow-imports", "silent")


def mypy(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_package_is_consistent():
    assert mypy() == ""


def test_program_of_a_user_is_clean_and_runs(tmp_path, monkeypatch):
    assert mypy(*STRICT, CLIENT) == ""
    monkeypatch.chdir(tmp_path)
    assert min(runpy.run_path(str(CLIENT))["errors"]) < 0.01


@pytest.mark.parametrize("line", ["explained: str = local.score(X, y, F=F)", "localma.tweedie('1.7')", "found.alarm"])
def test_a_wrong_type_is_found(tmp_path, line):
    program = tmp_path / "program.py"
    program.write_text(CLIENT.read_text() + line + "\n")
    assert "1 error" in mypy(*STRICT, program)
