"""Build the book: `make book` and the tests of the pages call this.

Chapters run once and are cached by their code. The cache knows nothing of the package that the chapters import, so it
is dropped when the package has changed. A failed build is repeated from the sources: Sphinx reports the warnings of a
page only when it reads that page, and a second build would otherwise pass. Where a chapter fails, all other pages are
built, and the chapter is run once more to say in one line what failed and what the numbers are on this machine.
"""

import subprocess
import sys
from pathlib import Path
from shutil import rmtree

from chapters import ROOT, chapters, fingerprint
from filelock import FileLock


def build(root=ROOT):
    """Build the book with its configuration in `root` and its chapters in `root/book`; return the exit status."""
    out = root / "_build"
    index = out / "html" / "index.html"
    out.mkdir(exist_ok=True)
    with FileLock(out / ".lock"):
        stamp, good = out / ".package", out / ".good"
        now = fingerprint(ROOT / "localma")
        if not stamp.exists() or stamp.read_text() != now:
            rmtree(out / ".jupyter_cache", ignore_errors=True)
            good.unlink(missing_ok=True)
        stamp.write_text(now)

        program = Path(sys.executable).with_name("jupyter-book")
        command = [str(program), "build", str(root), "-W", "--keep-going", "-q"]
        if not good.exists():
            command.append("--all")
        good.unlink(missing_ok=True)
        with subprocess.Popen(
            command, cwd=root, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            for line in process.stderr:
                # Each kernel says that it talks over local TCP: true, meant for servers, and alarming to a reader.
                if "Kernel is running over TCP" not in line:
                    sys.stderr.write(line)
        if process.returncode:
            for log in sorted((out / "html" / "reports").rglob("*.log")):
                print(f"\n{log.relative_to(root)}\n{log.read_text()}", file=sys.stderr)
                failed = [path for path in chapters(root / "book") if log.name.startswith(f"{path.stem}.")]
                for path in failed:
                    print(*[f"{path.relative_to(root)}:{line}" for line in failures(path)], sep="\n", file=sys.stderr)
            print(f"The book is not in order (above). The pages that are: {index}", file=sys.stderr)
            return process.returncode
        good.touch()
        print(f"The book is ready. Open {index}")
        return 0


def failures(path):
    """What fails in a chapter here: line of the text, assert, numbers."""
    from robust import HERE, placed, run

    return [f"{failure['line']}: {failure['text']}" for failure in placed(path, run(path, HERE))]


if __name__ == "__main__":
    sys.exit(build())
