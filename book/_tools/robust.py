"""Execute the chapters again elsewhere: `make robust`.

Two questions. Do the chapters stand under other arithmetic (other instructions, threads, versions of the libraries)?
There nothing may fail. And are their sentences true of more than one draw? Every seed is moved, K times, by
`kernel/sitecustomize.py`; an assert may fail in one draw of twenty. Cells with the tag `this-draw` are about the
committed draw alone, and their page says so: they are listed, and do not count.

Each (chapter, condition) is kept in `_build/robust` under a key of the chapter's code, of what that uses of the package
and of the condition: a run that was interrupted goes on where it stopped, and only what changed is run again.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path

from chapters import BOOK, ROOT, chapters, read
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from tqdm import tqdm

from localma.replication.lab.parts import imported, sources

OUT = ROOT / "_build" / "robust"
KERNEL = Path(__file__).parent / "kernel"
VERSIONS = Path(__file__).with_name("colab.txt")
#: An assert may fail in one shift of so many.
ALLOWED = 20
THIS_DRAW = "this-draw"
#: nbval compares the output of cells that say so; that is for what no arithmetic changes.
CHECK = "NBVAL_CHECK_OUTPUT"


@dataclass(frozen=True)
class Condition:
    """Where a chapter is executed: the environment's variables, and the Python if it is not this one."""

    name: str
    variables: dict = field(default_factory=dict)
    python: str = sys.executable
    #: Where the package comes from: this folder, or the wheel that is installed beside that Python.
    wheel: bool = False

    @property
    def shifted(self):
        return "LOCALMA_SHIFT" in self.variables


# What a processor without vector instructions, one thread and the plainest kernels would compute; where a library is
# not there, its variable does nothing.
GENERIC = {
    "ATEN_CPU_CAPABILITY": "default",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_CORETYPE": "Nehalem",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
# Torch's AVX2 with products that round otherwise, so that a machine which has no more than AVX2 is tried elsewhere too.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_CORETYPE": "SandyBridge",
    "MKL_CBWR": "AVX2",
}
HERE = Condition("committed")
ARITHMETICS = [HERE, Condition("generic", GENERIC), Condition("avx2", AVX2)]


def shifts(numbers):
    """The draws with these numbers. One thread each: they run side by side."""
    return [Condition(f"shift {k}", {"LOCALMA_SHIFT": str(k), "OMP_NUM_THREADS": "1"}) for k in numbers]


def colab():
    """The condition with the versions that Colab ships and the package as a wheel, in an environment of its own."""
    folder = OUT / ("colab-" + hashlib.sha256(VERSIONS.read_bytes()).hexdigest()[:8])
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    install = [*pip, "install", "--constraint", VERSIONS]
    if not (folder / "ready").exists():
        print("Making an environment with the versions that Colab ships (minutes, once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        # torch first and alone, of the version that is here: so its build is the one that is at hand
        subprocess.run([*install, f"torch=={version('torch').split('+')[0]}"], check=True)
        subprocess.run([*install, "-r", VERSIONS], check=True)
        (folder / "ready").touch()
    with tempfile.TemporaryDirectory() as clean:  # a build in place would take along what an earlier one left
        ours = shutil.ignore_patterns(".*", "_build", "build", "*.egg-info", "__pycache__", "book", "tests")
        shutil.copytree(ROOT, clean, ignore=ours, dirs_exist_ok=True)
        subprocess.run([*pip, "uninstall", "--yes", "localma"], check=True)
        subprocess.run([*install, f"localma[plots] @ {Path(clean).as_uri()}"], check=True)
    return Condition("colab", python=str(python), wheel=True)


def run(path, condition):
    """Execute one chapter from an empty folder; every failure as a dict: cell (of those with code), line, text."""
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    with tempfile.TemporaryDirectory() as empty:
        noted = Path(empty, "noted.jsonl")
        (work := Path(empty, "work")).mkdir()
        watch = new_code_cell(f"import sitecustomize\nsitecustomize.watch(get_ipython(), {str(noted)!r})")
        notebook.cells.insert(0, watch)
        argv = [condition.python, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        manager = type("Manager", (AsyncKernelManager,), {"kernel_spec": KernelSpec(argv=argv, language="python")})
        variables = {k: v for k, v in os.environ.items() if k not in {*GENERIC, "LOCALMA_SHIFT"}}
        variables |= condition.variables
        found = [KERNEL] if condition.wheel else [KERNEL, ROOT]
        variables |= {"PYTHONPATH": os.pathsep.join(map(str, found)), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        resources = {"metadata": {"path": str(work)}}
        NotebookClient(
            notebook, kernel_manager_class=manager, timeout=1800, allow_errors=True, resources=resources
        ).execute(env=variables)
        if not noted.exists():
            raise RuntimeError(f"{path}: the kernel of {condition.name!r} does not note failures: {watch.outputs}")
        failures = [json.loads(line) for line in noted.read_text(encoding="utf-8").splitlines()]
    for failure in failures:
        failure["cell"] = next(k for k, cell in enumerate(code) if cell.source == failure["cell"])
    expected = {} if condition.shifted else committed_outputs(path)
    return failures + [
        {"cell": k, "line": 1, "text": f"{CHECK}: another output than the committed one"}
        for k, cell in enumerate(code)
        if expected.get(cell.source, shown(cell)) != shown(cell)
    ]


def placed(path, failures):
    """The same with the line of the text that each stands in, and whether its cell is about one draw."""
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    first = first_lines(path.read_text(encoding="utf-8"))
    return [
        f | {"line": first[f["cell"]] + f["line"] - 1, "one": THIS_DRAW in cells[f["cell"]].metadata.get("tags", [])}
        for f in failures
    ]


def committed_outputs(path):
    """The text that nbval compares with, by the cell's code."""
    pair = path.with_suffix(".ipynb")
    return {cell.source: shown(cell) for cell in read(pair).cells if CHECK in cell.source} if pair.exists() else {}


def shown(cell):
    """What a cell prints or displays as text, without what tests/nbval.cfg takes out."""
    outputs = [out for out in cell.get("outputs", []) if out.get("name") != "stderr"]
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs]
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)? ?(s|ms|seconds)\b", "", "".join(texts))


def first_lines(text):
    """The number of the first line of code of each cell of a text notebook."""
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines):
        if line.startswith("```{code-cell}"):
            number += 1
            if lines[number] == "---":
                number = lines.index("---", number + 1) + 1
            while re.match(r":\w+:", lines[number]):
                number += 1
            while not lines[number].strip():
                number += 1
            found.append(number + 1)
    return found


def key(path, condition):
    """Digest of all that decides the outcome."""
    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    what = [
        code,
        committed_outputs(path),
        used("\n".join(code)),
        condition.variables,
        condition.python,
        (KERNEL / "sitecustomize.py").read_text(encoding="utf-8"),
        VERSIONS.read_text(encoding="utf-8"),
    ]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


@cache
def used(code):
    """What of the package some code depends on: modules by their code, shipped tables that one of these may name."""
    tree = ast.parse(TransformerManager().transform_cell(code))
    modules = sources(*imported(tree, "localma"))
    said = " ".join([ast.dump(tree), *modules.values()])
    tables = [
        (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted((ROOT / "localma").rglob("*"))
        if path.suffix in {".csv", ".json", ".npz"} and f"value='{path.stem.split('-')[0]}" in said
    ]
    return sorted(modules.items()), tables


def outcome(path, condition):
    """What :func:`run` gives, from an earlier run where nothing has changed since."""
    kept = OUT / f"{path.stem}-{key(path, condition)}.json"
    if not kept.exists():
        failures = run(path, condition)
        whole = kept.with_suffix(".part")
        whole.write_text(json.dumps(failures))
        whole.replace(kept)
    return json.loads(kept.read_text())


def table(found, conditions):
    """One line for each place that failed somewhere; and whether any of them is one too many."""
    allowed = sum(c.shifted for c in conditions) // ALLOWED
    lines, bad = [], False
    for path in sorted({path for path, _ in found}):
        places = {}
        for condition in conditions:
            for failure in found.get((path, condition.name), []):
                places.setdefault((failure["line"], failure["text"].split(": ")[0], failure["one"]), []).append(
                    (condition, failure["text"])
                )
        for (line, _, one), hits in sorted(places.items()):
            elsewhere = [c.name for c, _ in hits if not c.shifted]
            drawn = [c.name.split()[1] for c, _ in hits if c.shifted]
            wrong = bool(elsewhere) or (len(set(drawn)) > allowed and not one)
            bad |= wrong
            where = ", ".join(
                [*dict.fromkeys(elsewhere), *(["shifts " + " ".join(dict.fromkeys(drawn))] if drawn else [])]
            )
            mark = "FAILS" if wrong else "this draw" if one and not elsewhere else "allowed"
            lines.append(f"{mark:9} {path.relative_to(ROOT)}:{line}: {hits[0][1]}  [{where}]")
    return lines, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chapters", nargs="+", metavar="NAME", help="by file name, all by default")
    parser.add_argument(
        "--arithmetic",
        nargs="*",
        choices=[c.name for c in ARITHMETICS] + ["colab"],
        help="all by default; none: --arithmetic",
    )
    parser.add_argument("--shifts", type=int, default=20, metavar="K", help="draws with other seeds (default 20)")
    parser.add_argument(
        "--jobs", type=int, default=max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    )
    options = parser.parse_args()
    known = {path.stem: path for path in chapters() if path.parent != BOOK / "reference"}
    if missing := set(options.chapters or ()) - set(known):
        parser.error(f"no such chapter: {', '.join(sorted(missing))}. There are: {', '.join(known)}")
    OUT.mkdir(parents=True, exist_ok=True)
    wanted = options.arithmetic if options.arithmetic is not None else [c.name for c in ARITHMETICS] + ["colab"]
    conditions = (
        [c for c in ARITHMETICS if c.name in wanted]
        + ([colab()] if "colab" in wanted else [])
        + shifts(range(1, options.shifts + 1))
    )
    work = [(known[name], c) for c in conditions for name in options.chapters or known]
    found = {}
    with ThreadPoolExecutor(options.jobs) as pool, tqdm(total=len(work), unit="chapter", smoothing=0.05) as bar:
        tasks = {pool.submit(outcome, path, condition): (path, condition.name) for path, condition in work}
        try:
            for task in as_completed(tasks):
                found[tasks[task]] = placed(tasks[task][0], task.result())
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what is finished is kept
            print("So far:", *table(found, conditions)[0], sep="\n")
            raise
    lines, bad = table(found, conditions)
    print("\n".join(lines))
    names = ", ".join(c.name for c in conditions if not c.shifted) or "no other arithmetic"
    verdict = "some claims do not stand" if bad else "all stands"
    print(f"{len(options.chapters or known)} chapters; {names}; {options.shifts} shifts: {verdict}")
    return bad


if __name__ == "__main__":
    sys.exit(main())
