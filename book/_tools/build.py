"""Build the book: `make book` and the tests of the pages call this.

Chapters run once and are cached by their code. The cache knows nothing of the package that the chapters import, so it
is dropped when the package has changed. A failed build is repeated from the sources: Sphinx reports the warnings
of a page only when it reads that page, and a second build would otherwise pass.
"""

import hashlib
import subprocess
import sys
from pathlib import Path
from shutil import rmtree

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "_build"


def fingerprint(folder):
    """Hash every file of the package, data included."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def build():
    OUT.mkdir(exist_ok=True)
    with FileLock(OUT / ".lock"):
        stamp, good = OUT / ".package", OUT / ".good"
        now = fingerprint(ROOT / "localma")
        if not stamp.exists() or stamp.read_text() != now:
            rmtree(OUT / ".jupyter_cache", ignore_errors=True)
            good.unlink(missing_ok=True)
        stamp.write_text(now)

        program = Path(sys.executable).with_name("jupyter-book")
        command = [str(program), "build", str(ROOT), "-W", "--keep-going", "-q"]
        if not good.exists():
            command.append("--all")
        good.unlink(missing_ok=True)
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr:
                # Each kernel says that it talks over local TCP: true, meant for servers, and alarming to a reader.
                if "Kernel is running over TCP" not in line:
                    sys.stderr.write(line)
        if process.returncode:
            for log in sorted((OUT / "html" / "reports").rglob("*.log")):
                print(f"\n{log.relative_to(ROOT)}\n{log.read_text()}", file=sys.stderr)
            return process.returncode
        good.touch()
        print(f"The book is ready. Open {OUT / 'html' / 'index.html'}")
        return 0


if __name__ == "__main__":
    sys.exit(build())
