"""Build the book: `make book` and the tests of the pages call this.

Chapters run once, one on each core, and are cached by their code, where Sphinx finds them. The cache knows nothing of
the package that the chapters import, so it is dropped when the package has changed. A failed build is repeated from the
sources: Sphinx reports the warnings of a page only when it reads that page, and a second build would otherwise pass.
Where a chapter fails, all other pages are built, and the chapter is run once more to say in one line what failed and
what the numbers are on this machine.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import yaml
from chapters import ROOT, chapters, fingerprint, seconds
from filelock import FileLock
from joblib import Parallel, cpu_count, delayed
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.read import myst_nb_reader_plugin
from tqdm import tqdm

#: So many chapters run side by side, however many cores there are: each takes up to 1.5 GB of memory.
MOST = 4


def build(root=ROOT):
    """Build the book with its configuration in `root` and its chapters in `root/book`; return the exit status."""
    out = root / "_build"
    index = out / "html" / "index.html"
    out.mkdir(exist_ok=True)
    with FileLock(out / ".lock"):
        stamp, good = out / ".ran", out / ".good"
        now = fingerprint(ROOT / "localma")
        if not stamp.exists() or stamp.read_text() != now:
            rmtree(out / ".jupyter_cache", ignore_errors=True)
            good.unlink(missing_ok=True)
        stamp.write_text(now)
        execute(root)

        program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
        command = [*program, "build", str(root), "-W", "--keep-going", "-q"]
        if not good.exists():
            command.append("--all")
        good.unlink(missing_ok=True)
        with subprocess.Popen(
            command, cwd=root, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                for line in process.stderr:
                    # Each kernel says that it talks over local TCP: true, meant for servers, and alarming to a reader.
                    if "Kernel is running over TCP" not in line:
                        sys.stderr.write(line)
            except BaseException:
                process.terminate()  # it would live on where this process alone was told to stop
                raise
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


def execute(root):
    """Run the chapters that the cache lacks, each in an empty folder, the longest first. Joblib gives each its share of
    the cores. What fails is not kept: Sphinx runs it again, and reports it.
    """
    cache, missing = get_cache(root / "_build" / ".jupyter_cache"), {}
    settings = {
        "timeout": yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["execute"].get("timeout", 30),
        "allow_errors": False,
        "extra_arguments": ["--log-level=ERROR"],  # that kernels talk over local TCP alarms a reader
    }
    with TemporaryDirectory() as empty:
        for path in sorted(chapters(root / "book"), key=seconds, reverse=True):
            notebook = myst_nb_reader_plugin(path)
            try:
                cache.merge_match_into_notebook(notebook)
            except (KeyError, ValueError):  # it is not there, or a build was stopped as it was written
                folder = Path(empty, str(len(missing)))
                folder.mkdir()
                missing[str(folder)] = path, notebook
        runs = Parallel(min(cpu_count(), MOST), return_as="generator_unordered")(
            delayed(run)(notebook, folder, **settings) for folder, (_, notebook) in missing.items()
        )
        # None: where nobody looks on, there is no bar
        for done, used in tqdm(runs, "Chapters", len(missing), unit="chapter", disable=None if missing else True):
            if not done.err:
                data = {"execution_seconds": done.time, "processor_seconds": used}
                bundle = CacheBundleIn(done.nb, str(missing[done.cwd][0]), data=data)
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def run(notebook, folder, **settings):
    """Run a notebook in a folder: what came of it, and the processor time of its kernel. That says what the chapter
    takes, where a clock would count what else this machine does.
    """
    before = os.times()
    done = single_nb_execution(notebook, folder, **settings)
    after = os.times()
    return done, sum(after[2:4]) - sum(before[2:4])


def failures(path):
    """What fails in a chapter here: line of the text, assert, numbers."""
    import robust

    found = robust.placed(path, robust.run(path, robust.HERE))
    return [f"{failure['line']}: {failure['text']}" for failure in found]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(build())
    except KeyboardInterrupt:
        sys.exit("\nStopped. The chapters that were finished are kept.")
