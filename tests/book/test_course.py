"""The notebooks of the course: students get gaps and checks, a right hand-in its points, a wrong one none."""

import ast
import re
import shutil
import subprocess

import nbformat
import plain
import pytest
from chapters import BOOK, INTRO, chapters, contents, parts, text_of
from course import CELL, CONFIG, exercises, notebook
from nbclient import NotebookClient

CHAPTERS = [pytest.param(path, id=path.stem) for path in chapters()]
TEXT = """# Twice

```{code-cell} ipython3
x = 2
```

## Exercises

:::{exercise} Double it
:label: ex-twice-double
*Kind: code. 5 min, 2 points.*

Double $x$.

```python
double = ...
```
:::

:::{exercise} Why twice?
:label: ex-twice-why
*Kind: pencil. 5 min, 1 point.*

Say why.
:::

## Solutions

:::{solution-start} ex-twice-double
:class: dropdown
:::

```{code-cell} ipython3
:tags: [a-tag]

double = 2 * x
assert double == 4
for k in (1, 2):
    assert double > k
```

Twice two.

:::{solution-end}
:::

:::{solution} ex-twice-why
:class: dropdown

Because of the title.
:::
"""


PATH = BOOK / "twice.md"


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The book knows the labels of the chapter above, too."""
    places = plain.places() | dict(plain.labelled(PATH, TEXT, 1))
    monkeypatch.setattr(plain, "places", lambda: places)


def handed_in(answer):
    """What a student hands in who gives this answer to the first exercise."""
    made = notebook(TEXT, False, PATH)
    for cell in made.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "ex-twice-double":
            cell.source = answer
    return made


def points(made):
    """The rule of nbgrader: a cell of checks gives its points when it runs without an error."""
    NotebookClient(made, allow_errors=True, kernel_name="python3").execute()
    options = [(cell, cell.metadata.get("nbgrader", {})) for cell in made.cells if cell.cell_type == "code"]
    return sum(
        o["points"] for cell, o in options if o.get("grade") and all(out.output_type != "error" for out in cell.outputs)
    )


@pytest.mark.parametrize(("answer", "worth"), [("double = 2 * x", 2), ("double = 3 * x", 0), ("double = ...", 0)])
def test_a_hand_in_gets_what_it_is_worth(answer, worth):
    assert points(handed_in(answer)) == worth


def test_who_teaches_gets_solutions_and_students_do_not():
    theirs, ours = notebook(TEXT, False, PATH), notebook(TEXT, True, PATH)
    text = nbformat.writes(theirs)
    for solution in ("2 * x", "Twice two", "Because"):
        assert solution not in text
        assert solution in nbformat.writes(ours)
    assert points(ours) == 0  # it runs; nothing in it is graded
    assert "### Exercise 1.1: Double it" in text
    assert "Kind: code. 5 min, 2 points." in text
    assert "Solution" not in text
    nbformat.validate(theirs)
    nbformat.validate(ours)


@pytest.mark.skipif(shutil.which("nbgrader") is None, reason="nbgrader is not installed: pip install nbgrader")
def test_nbgrader_agrees(tmp_path):
    (tmp_path / "nbgrader_config.py").write_text(CONFIG)
    (source := tmp_path / "source" / "twice").mkdir(parents=True)
    nbformat.write(notebook(TEXT, False, PATH), source / "twice.ipynb")
    subprocess.run(["nbgrader", "generate_assignment", "twice"], cwd=tmp_path, check=True)
    for student, answer in (("right", "double = 2 * x"), ("wrong", "double = 3 * x")):
        (folder := tmp_path / "submitted" / student / "twice").mkdir(parents=True)
        nbformat.write(handed_in(answer), folder / "twice.ipynb")
    for command in (["autograde", "twice"], ["export"]):
        subprocess.run(["nbgrader", *command], cwd=tmp_path, check=True)
    rows = [row.split(",") for row in (tmp_path / "grades.csv").read_text().splitlines()]
    scores = {row[rows[0].index("student_id")]: float(row[rows[0].index("raw_score")]) for row in rows[1:]}
    assert scores == {"right": 2, "wrong": 0}


@pytest.mark.parametrize(
    ("source", "stays"),
    [
        ("assert x == [1, 2]", False),
        ("for value in x:\n    assert value > 0", False),
        ("other = 2 * x[0]\nassert other == 2", True),
        ("import math as x", True),
    ],
)
def test_students_do_not_see_what_only_holds_the_book_to_its_word(source, stays):
    """Other cells that the pages remove stay, folded: a later cell may read what they set."""
    install = "try:\n    import localma\nexcept ModuleNotFoundError:\n    %pip install localma"
    hidden = [f"```{{code-cell}} ipython3\n:tags: [remove-cell]\n\n{code}\n```\n" for code in (install, source)]
    text = "\n".join(["# A chapter\n", *hidden, "```{code-cell} ipython3\nprint(x)\n```\n"])
    first, *rest, _ = [cell for cell in notebook(text, False, PATH).cells if cell.cell_type == "code"]
    assert [cell.source for cell in rest] == [source] * stays
    assert all(cell.metadata["jupyter"]["source_hidden"] for cell in [first, *rest])


def test_a_chapter_for_students_runs_up_to_its_first_exercise():
    """Without the cells that they do not see."""
    path = next(path for path in contents() if path.stem == "lipschitz")
    made = notebook(text_of(path), False, path)
    first = next(k for k, cell in enumerate(made.cells) if cell.source.startswith("## Exercises"))
    made.cells = made.cells[:first]
    assert sum("remove-cell" in cell.metadata.get("tags", []) for cell in made.cells) < 3
    NotebookClient(made, kernel_name="python3", timeout=300).execute()


@pytest.mark.parametrize("path", CHAPTERS)
def test_exercises_say_what_they_are_and_checks_what_they_read(path):
    for exercise in exercises(text_of(path)):
        assert exercise.kind, f"{exercise.label}: begin with *Kind: code. 10 min, 3 points.*"
        made = [ast.parse(found["code"]) for found in CELL.finditer(exercise.solution)]
        own = {
            n.id for tree in made for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        read = {n.id for n in ast.walk(ast.parse(exercise.checks)) if isinstance(n, ast.Name)}
        shown = set(re.findall(r"\w+", "\n".join(exercise.starters)))
        assert own & read <= shown, f"{exercise.label}: the starter does not show what its checks read"


def test_a_part_has_two_open_exercises_or_more():
    for caption, paths in parts().items():
        found = [exercise.kind for path in paths for exercise in exercises(text_of(path))]
        assert found.count("open") >= 2, caption


QUESTION = re.compile(r"^\*\*\d\. .+\?\*\*$", re.M)
ANSWER = re.compile(r"^<details><summary>(.+)</summary>\n\n(Yes|No)\b(.+(?:\n.+)*)\n\n</details>$", re.M)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in next(iter(parts().values()))])
def test_a_chapter_of_the_core_asks_five_questions(path):
    """Each has one right answer, and each answer its reason."""
    assert path != INTRO
    quiz = re.search(r"^## Check yourself\n(.+?)^## Exercises$", text_of(path), re.M | re.S)[1]
    questions = QUESTION.split(quiz)[1:]
    assert len(questions) == 5
    places = set()
    for question in questions:
        answers = ANSWER.findall(question)
        assert len(answers) == question.count("<details>") >= 2
        assert [verdict for _, verdict, _ in answers].count("Yes") == 1
        assert min(len(reason.split()) for _, _, reason in answers) >= 5, "say why"
        places.add([verdict for _, verdict, _ in answers].index("Yes"))
        assert len({text for text, _, _ in answers}) == len(answers)
    assert len(places) > 1, "the right answer always stands at the same place"
