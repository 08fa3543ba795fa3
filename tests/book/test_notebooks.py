"""Every chapter: in step with its notebook, in the agreed form, and running for a reader who has only the package."""

import configparser
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from address import current
from chapters import (
    CARD,
    INTRO,
    ROOT,
    cells,
    chapters,
    code,
    contents,
    load,
    minutes,
    read,
    seconds,
    text_of,
    with_minutes,
)
from course import CELL, SOLUTION, exercises
from jupyter_cache import get_cache
from myst_nb.core.read import myst_nb_reader_plugin
from notebooks import executed, normalise
from plain import readable

from tests.conftest import FRONT

CHAPTERS = [pytest.param(path, id=path.stem) for path in chapters()]
INSTALL = """try:
    import localma
except ModuleNotFoundError:  # on Colab: install the package, leave Colab's own torch and numpy alone
    %pip install --quiet "localma[plots] @ git+https://github.com/{}/{}\""""
(SANITISED := configparser.ConfigParser(interpolation=None)).read(ROOT / "tests" / "nbval.cfg")
MEANINGLESS = re.compile("|".join(f"(?:{SANITISED[name]['regex']})" for name in SANITISED.sections()))


def test_there_are_chapters_and_each_is_in_the_table_of_contents():
    assert len(contents()) > 20
    assert {*contents(), INTRO} == set(chapters())


def test_every_notebook_has_its_text():
    alone = [path for path in (ROOT / "book").rglob("*.ipynb") if not path.with_suffix(".md").exists()]
    assert [path for path in alone if ".ipynb_checkpoints" not in path.parts] == []


@pytest.mark.parametrize("path", CHAPTERS)
def test_pair_is_in_step_and_executed(path):
    pair = path.with_suffix(".ipynb")
    assert pair.exists(), "run `make notebooks`"
    text, notebook = readable(read(path), path), read(pair)
    assert cells(notebook) == cells(text), "run `make notebooks`"
    assert executed(notebook), "run `make notebooks`"
    assert normalise(read(pair)) == notebook, "no addresses, random names or editor's metadata: run `make notebooks`"
    install = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert install.outputs == [], "the notebook ran without the package"
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert text.metadata["kernelspec"]["name"] == "python3", "without it there are no launch buttons"


@pytest.mark.parametrize("path", CHAPTERS)
def test_chapter_has_the_agreed_form(path):
    text = text_of(path)
    assert CARD.match(text), "a chapter starts with its title and the header card"
    assert with_minutes(path) == path.read_text(encoding="utf-8"), "the study time is another: run `make notebooks`"
    install = code(read(path))[0]
    assert install == INSTALL.format(*current())
    sections = re.findall(r"^## (.+)$", text, re.M)
    assert sections[-4:] == ["Exercises", "Summary", "References", "Solutions"]
    assert "{solution" not in text.split("\n## Solutions\n")[0], "in Colab nothing folds a solution away"


def test_study_time_counts_what_is_read_before_the_exercises(tmp_path):
    words = (
        "one two $x$ three [four](a/link.md)\n\n$$\nf(x)\n$$\n\n:::{note}\n:name: a-label\n{term}`five <a>`\n:::\n\n"
    )
    cells = (
        "```{code-cell} ipython3\na = 1\n\nb = 2\n```\n\n```{code-cell} ipython3\n:tags: [hide-input]\nc = 3\n```\n\n"
    )
    (chapter := tmp_path / "a.md").write_text(FRONT + words + cells + "## Exercises\n\nsix\n\n## Summary\n\nseven\n")
    assert load(chapter) == (7, 1, 2)  # with the heading of the summary
    assert minutes(chapter) == 5


@pytest.mark.parametrize("path", CHAPTERS)
def test_chapter_installs_nothing_else(path):
    """Colab's own torch and numpy must stay: no second install, no pin."""
    assert re.findall(r"^.*\b(?:pip|conda) install\b.*$", "\n".join(code(read(path))[1:]), re.M) == []


@pytest.mark.parametrize("path", CHAPTERS)
def test_references_are_in_the_bibliography(path):
    known = [plain(title) for title in TITLES]
    listed = re.split(r"^## (?:References|Solutions)$", text_of(path), flags=re.M)[-2]
    items = [" ".join(item.split()) for item in re.split(r"^[-*] ", listed, flags=re.M)[1:]]
    assert items, "list the chapter's sources, one item each"
    assert [item for item in items if not any(title in plain(item) for title in known)] == []


def plain(text):
    return re.sub(r"[^a-z0-9]+", " ", text.lower().replace("{", "").replace("}", "")).strip()


TITLES = re.findall(r"^\s*title = \{(.+)\},?$", (ROOT / "book" / "references.bib").read_text(), re.M)


# --- exercises ------------------------------------------------------------


def as_template(starter):
    """A pattern that the starter's solution matches: each `...` stands for any text, blank lines do not count."""
    lines = [line.rstrip() for line in starter.strip().splitlines() if line.strip()]
    parts = "\n".join(lines).split("...")
    return re.compile(r"[\s\S]+?".join(map(re.escape, parts)) + r"(?:\n[\s\S]*)?")


def compact(source):
    return "\n".join(line.rstrip() for line in source.splitlines() if line.strip())


@pytest.mark.parametrize("path", CHAPTERS)
def test_every_exercise_has_one_solution(path):
    text = text_of(path)
    labels = [exercise.label for exercise in exercises(text)]
    assert len(labels) >= 2, "a chapter has at least two exercises"
    assert len(labels) == len(re.findall(r"^:{3,}\{exercise", text, re.M)), "title and label come first"
    assert len(set(labels)) == len(labels)
    assert all(label.startswith("ex-") for label in labels)
    solved = [match["label"] for match in SOLUTION.finditer(text)]
    assert solved == labels, "each exercise has its solution, in the same order, as a dropdown"
    assert len(solved) == len(re.findall(r"^:{3,}\{solution(?:-start)?\}", text, re.M))
    assert text.count("{solution-start}") == text.count("{solution-end}")


@pytest.mark.parametrize("path", CHAPTERS)
def test_code_exercises_are_their_solutions_with_gaps(path):
    for exercise in exercises(text_of(path)):
        runs = [found["code"] for found in CELL.finditer(exercise.solution)]
        assert bool(exercise.starters) == bool(runs), f"{exercise.label}: a starter and a solution cell come together"
        for starter in exercise.starters:
            assert "..." in starter, f"{exercise.label}: the starter leaves nothing to do"
            fits = any(as_template(starter).fullmatch(compact(run)) for run in runs)
            assert fits, f"{exercise.label}: the starter is not the solution with gaps"
        if runs:
            assert exercise.checks, (
                f"{exercise.label}: nothing checks a student's answer: asserts at the end, in no loop"
            )


def test_exercises_template_rejects_what_drifted():
    """The comparison above can fail: a changed name is seen, a filled gap is not."""
    template = as_template("a = f(...)\n\nb = ...\n")
    assert template.fullmatch(compact("a = f(x,\n      y)\nb = a + 1\nassert b > 0\n"))
    assert not template.fullmatch(compact("a = g(x)\nb = a + 1\n"))
    assert not template.fullmatch(compact("c = 1\na = f(x)\nb = a + 1\n"))


# --- theorems ------------------------------------------------------------

STATEMENT = re.compile(
    r"^:{3,}\{prf:(?:theorem|proposition|corollary|lemma)\}.*\n(?:.*\n)*?:label: (?P<label>\S+)$", re.M
)


def unchecked(text, cell_sources):
    """Labels of statements that no cell checks: a line `# checks LABEL` and, after it in the same cell, an assert."""
    check = r"^\s*# checks (?:.*\s)?{}\b(?:.|\n)*?^\s*assert "
    labels = [match["label"] for match in STATEMENT.finditer(text)]
    return [
        label
        for label in labels
        if not any(re.search(check.format(re.escape(label)), source, re.M) for source in cell_sources)
    ]


@pytest.mark.parametrize("path", CHAPTERS)
def test_every_theorem_has_a_check_of_the_same_label(path):
    assert unchecked(text_of(path), code(read(path))) == [], "say `# checks LABEL` above the asserts that check it"


def test_a_theorem_without_a_check_is_found():
    text = ":::{prf:theorem} A title\n:label: thm-a\n\nText.\n:::\n\n::::{prf:lemma}\n:label: lem-b\n:::::\n"
    assert unchecked(text, ["x = 1\n# checks thm-a\nassert x\n", "assert x  # lem-b"]) == ["lem-b"]
    assert unchecked(text, ["# checks thm-a and lem-b\nassert x\n"]) == []
    assert unchecked(text, ["assert x\n# checks thm-a and lem-b\n"]) == ["thm-a", "lem-b"]


# --- running ------------------------------------------------------------


def test_wheel_stands_alone(wheel_python, tmp_path):
    """What the chapters below import is the wheel, complete with its data, and nothing of this folder."""
    show = "import localma; print(localma.__file__, localma.__version__)"
    done = subprocess.run([wheel_python, "-c", show], cwd=tmp_path, capture_output=True, text=True, check=True)
    out = done.stdout.split()
    assert out[0].startswith(str(wheel_python.parent.parent))
    assert not out[0].startswith(str(ROOT / "localma"))
    with open(ROOT / "pyproject.toml", "rb") as file:
        assert out[1] == tomllib.load(file)["project"]["version"]
    here = {path.relative_to(ROOT / "localma") for path in (ROOT / "localma").rglob("*") if path.is_file()}
    there = {path.relative_to(Path(out[0]).parent) for path in Path(out[0]).parent.rglob("*") if path.is_file()}
    assert {path for path in here - there if "__pycache__" not in path.parts} == set()


@pytest.fixture(scope="session")
def runs(book_html):
    """What the build, which runs each chapter in an empty folder with the wheel alone, kept of each."""
    return get_cache(ROOT / "_build" / ".jupyter_cache")


def marked(notebook):
    """Printed text and values of the cells that ask for a comparison, without what means nothing."""
    return [
        MEANINGLESS.sub(
            "", "".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs)
        )
        for cell in normalise(notebook).cells
        if "# NBVAL_CHECK_OUTPUT" in cell.source
    ]


@pytest.mark.parametrize("path", CHAPTERS)
def test_chapter_runs_from_an_empty_folder(path, runs):
    """With the outputs that its notebook shows where a cell says so, and in the time that its header card promises."""
    record = runs.match_cache_notebook(myst_nb_reader_plugin(path))
    assert marked(runs.get_cache_bundle(record.pk).nb) == marked(read(path.with_suffix(".ipynb")))
    used = record.data["processor_seconds"]
    assert used < 3 * seconds(path), f"took {used:.0f} s, the header card promises {seconds(path)} s"
