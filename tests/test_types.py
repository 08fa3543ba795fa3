"""The package says its types (`py.typed`), mypy finds them consistent, and they serve a strictly typed program."""

import re
import runpy
import subprocess
import sys

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


def test_wrong_types_are_found(tmp_path):
    wrong = ["explained: str = local.score(X, y, F=F)", "localma.tweedie('1.7')", "found.alarm"]
    program = tmp_path / "program.py"
    program.write_text("\n".join([CLIENT.read_text(), *wrong]))
    lines = program.read_text().splitlines()
    found = re.findall(r"^.*program.py:(\d+): error", mypy(*STRICT, program), re.M)
    assert [lines[int(number) - 1] for number in found] == wrong
