"""Make a course folder from the chapters: `make course`.

`_build/course` is what nbgrader expects. `source/CHAPTER/CHAPTER.ipynb` goes to students: the chapter without its
solutions, with a cell to fill in for each exercise and, where the chapter checks its solution, a locked cell with those
checks. `instructor/CHAPTER.ipynb` is the chapter with its solutions and what each is worth. The chapter is the one
source of both, so that the three cannot drift apart. Both are in plain Markdown (plain.py), and without the cells that
only hold the book to its word.
"""

import argparse
import ast
import json
import re
import shutil
from dataclasses import dataclass

import jupytext
import nbformat
from chapters import ROOT, contents, text_of
from IPython.core.inputtransformer2 import TransformerManager
from plain import readable

OUT = ROOT / "_build" / "course"
EXERCISE = re.compile(
    r"^(?P<fence>:{3,})\{exercise\} (?P<title>.+)\n:label: (?P<label>\S+)\n+(?P<body>(?:.|\n)*?)^(?P=fence)\n", re.M
)
SOLUTION = re.compile(
    r"^(?P<fence>:{3,})\{solution(?P<gated>-start)?\} (?P<label>\S+)\n:class: dropdown\n"
    r"(?P<body>(?:.|\n)*?)^(?P=fence)\n"
    r"(?P<rest>(?(gated)(?:.|\n)*?^(?P=fence)\{solution-end\}\n(?P=fence)\n))",
    re.M,
)
CELL = re.compile(r"^```\{code-cell\}.*\n(?P<head>(?::\w+:.*\n)*)\n?(?P<code>(?:.|\n)*?)^```$", re.M)
STARTER = re.compile(r"^```python\n(?P<code>(?:.|\n)*?)^```\n", re.M)
KIND = re.compile(
    r"^\*Kind: (?P<kind>pencil|code|break it|open)\. (?P<minutes>\d+) min, (?P<points>\d+) points?\.\*$", re.M
)
HEADER = "---\njupytext:\n  text_representation:\n    extension: .md\n    format_name: myst\n"
HEADER += "kernelspec:\n  display_name: Python 3\n  language: python\n  name: python3\n---\n\n"
CONFIG = '''"""Settings of nbgrader for this course. The cells to fill in stand in source/ as students get them."""

from nbgrader.converters import GenerateAssignment

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "localma"
c.GenerateAssignment.preprocessors = [
    step for step in GenerateAssignment.preprocessors.default_args[0] if step.__name__ != "ClearSolutions"
]
c.ExecutePreprocessor.timeout = 900
'''


@dataclass
class Exercise:
    """What the text of a chapter says about one exercise."""

    label: str
    title: str
    kind: str
    minutes: int
    points: int
    starters: list
    checks: str
    solution: str


def is_check(statement):
    """An assert, or a loop of nothing else."""
    return isinstance(statement, ast.Assert) or (
        isinstance(statement, ast.For | ast.With) and all(map(is_check, statement.body))
    )


def checks_of(source):
    """The statements of a solution's cell that check it."""
    lines = source.splitlines()
    found = [node for node in ast.parse(source).body if is_check(node)]
    return [line for node in found for line in lines[node.lineno - 1 : node.end_lineno]]


def exercises(text):
    """The exercises of a chapter in its order."""
    solved = {match["label"]: match for match in SOLUTION.finditer(text)}
    found = []
    for match in EXERCISE.finditer(text):
        solution = solved[match["label"]]["body"] + solved[match["label"]]["rest"]
        body = match["body"]
        facts = KIND.match(body) or {"kind": "", "minutes": 0, "points": 0}
        found.append(
            Exercise(
                label=match["label"],
                title=match["title"],
                kind=facts["kind"],
                minutes=int(facts["minutes"]),
                points=int(facts["points"]),
                starters=[starter["code"].rstrip() for starter in STARTER.finditer(body)],
                checks="\n".join(
                    line
                    for cell in CELL.finditer(solution)
                    if "remove-cell" not in cell["head"]  # what it asserts holds the book to its word, and nobody else
                    for line in checks_of(cell["code"])
                ),
                solution=re.sub(r"^:{3,}(\{solution-end\})?\n", "", solution, flags=re.M).strip(),
            )
        )
    return found


def cell(source, **options):
    """A code cell of a text notebook, with what nbgrader reads."""
    return f"```{{code-cell}} ipython3\n---\nnbgrader: {json.dumps(options)}\n---\n{source}\n```\n"


def marked(label, **options):
    """What nbgrader wants to know of a cell."""
    return {
        "schema_version": 3,
        "grade_id": label,
        "locked": False,
        "solution": False,
        "grade": False,
        "task": False,
    } | options


def to_fill_in(exercise):
    """The cells of an exercise for students: gaps and checks, or a place for an answer that a person reads."""
    *first, last = exercise.starters or [None]
    cells = [cell(code, **marked(f"{exercise.label}-{k}", solution=True)) for k, code in enumerate(first, 1)]
    if last is not None and exercise.checks:
        cells.append(cell(last, **marked(exercise.label, solution=True)))
        cells.append(
            cell(exercise.checks, **marked(f"{exercise.label}-checks", grade=True, locked=True, points=exercise.points))
        )
    elif last is not None:
        cells.append(cell(last, **marked(exercise.label, solution=True, grade=True, points=exercise.points)))
    else:
        options = json.dumps({"nbgrader": marked(exercise.label, solution=True, grade=True, points=exercise.points)})
        cells.append(f"+++ {options}\n\n*Your answer.*\n\n+++\n")
    return "\n".join(cells)


def only_checks(part):
    """Whether a cell that the pages remove does nothing but hold the book to its word."""
    if part.cell_type != "code" or "remove-cell" not in part.metadata.get("tags", []):
        return False
    return all(map(is_check, ast.parse(TransformerManager().transform_cell(part.source)).body))


def notebook(text, solutions, path):
    """A chapter, whose text this is, for students or, with its solutions, for those who teach."""
    found = {exercise.label: exercise for exercise in exercises(text)}

    def written(match):
        exercise = found[match["label"]]
        rest = f"**Solution.**\n\n{exercise.solution}\n" if solutions else to_fill_in(exercise)
        return STARTER.sub("", match[0]) + "\n" + rest

    text = EXERCISE.sub(written, SOLUTION.sub("", text)).replace("## Solutions\n", "")
    made = readable(jupytext.reads(HEADER + text, fmt="md:myst"), path)
    made.cells = [part for part in made.cells if not only_checks(part)]
    made.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, part in enumerate(made.cells):
        part.id = f"cell-{number}"
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="chapters by name, all by default")
    options = parser.parse_args()
    known = {path.stem: path for path in contents()}
    if missing := set(options.names) - set(known):
        parser.error(f"no such chapter: {', '.join(sorted(missing))}. There are: {', '.join(known)}")
    shutil.rmtree(OUT, ignore_errors=True)
    for name in options.names or known:
        text = text_of(known[name])
        for folder, solutions in ((OUT / "source" / name, False), (OUT / "instructor", True)):
            folder.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook(text, solutions, known[name]), folder / f"{name}.ipynb")
    (OUT / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    print(f"{OUT.relative_to(ROOT)}: {len(options.names or known)} chapters for students and for those who teach")


if __name__ == "__main__":
    main()
