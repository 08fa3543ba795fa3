"""Make .venv and install what a command needs: `make` calls this, with the Python at hand, before there is anything.

What an earlier set-up left half done is mended, and two at once wait for one another.
"""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def alone(place):
    """One process at a time, where the system can say so; whoever is killed lets the next one in."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(place, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def python_of(folder):
    """The Python of an environment, which is made anew unless it has one with pip."""
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists() or subprocess.run([python, "-c", "import pip"], capture_output=True).returncode:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    return python


def main(extras):
    if sys.version_info < (3, 11):  # noqa: UP036 (any Python may be at hand)
        sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ...")
    with alone(ROOT / ".setup.lock"):
        install = [python_of(ROOT / ".venv"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        install += ["-c", ROOT / "constraints.txt"]
        # torch first and alone, so that no other package's needs can pull in another build of it
        subprocess.run([*install, "torch", "setuptools"], check=True)
        subprocess.run([*install, "--no-build-isolation", "-e", f"{ROOT}[{extras}]"], check=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit("\nStopped. The same command goes on from here.")
