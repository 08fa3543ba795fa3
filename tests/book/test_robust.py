"""The tool that runs chapters elsewhere notes what fails; one chapter of each part stands under plain arithmetic."""

import json
import os
import platform
import re
import subprocess
import sys

import pytest
import robust
from chapters import ROOT, chapters, read

from tests.conftest import FRONT

CHAPTER = (
    FRONT
    + """# A chapter

```{code-cell} ipython3
import numpy as np
import torch

x = np.random.default_rng(0).standard_normal()
assert round(x, 3) == 0.126
assert 1 + 1 == 2, "true"
```

```{code-cell} ipython3
:tags: [remove-cell, this-draw]

y = torch.randn((), generator=torch.Generator().manual_seed(0)).item()
assert round(y, 3) == 1.541
```

```{code-cell} ipython3
for k in range(3):
    assert k < 2, "too many"
1 / 0
```
"""
)


@pytest.fixture
def chapter(tmp_path):
    path = tmp_path / "chapter.md"
    path.write_text(CHAPTER)
    return path


def test_failures_are_noted_with_line_and_numbers_and_the_rest_goes_on(chapter):
    found = robust.placed(chapter, robust.run(chapter, robust.HERE))
    assert [(f["line"], f["one"]) for f in found] == [(32, False), (33, False)]
    assert found[0]["text"] == "assert k < 2: too many: 2"
    assert found[1]["text"].startswith("ZeroDivisionError: ")


def test_moved_seeds_are_another_draw_and_the_same_one_again(chapter):
    first, again, other = (robust.placed(chapter, robust.run(chapter, c)) for c in robust.shifts([1, 1, 2]))
    assert [(f["line"], f["one"]) for f in first] == [(19, False), (27, True), (32, False), (33, False)]
    assert first == again
    assert first != other


def test_a_chapter_runs_again_when_what_it_uses_of_the_package_changed():
    modules, tables = robust.used('%pip install x\nfrom localma import losses\nlosses.LOSSES["counts"]')
    names = [name for name, _ in modules]
    assert "localma.losses.families" in names
    assert not any("relatives" in name for name in names)
    assert "counts-rivals.csv" in dict(tables)
    assert "relatives.csv" not in dict(tables)
    assert "localma.replication.counts.companies" in dict(robust.used("from localma.replication import counts")[0])


def test_what_a_draw_or_an_arithmetic_fails_is_counted_as_such(chapter, monkeypatch):
    monkeypatch.setattr(robust, "ROOT", chapter.parent)
    conditions = [robust.HERE, *robust.shifts(range(1, 21))]

    def verdicts(**failing):
        """The table's first words, for lines that fail under so many of the conditions."""
        found = {
            (chapter, c.name): [
                {"line": int(line[4:]), "text": f"assert x < 1: {k}", "one": line.endswith("9")}
                for line, where in failing.items()
                if k in where
            ]
            for k, c in enumerate(conditions)
        }
        lines, bad = robust.table(found, conditions)
        return [line.split()[0] for line in lines], bad

    assert verdicts(line1=[3]) == (["allowed"], False)
    assert verdicts(line1=[3, 4]) == (["FAILS"], True)
    assert verdicts(line1=[0]) == (["FAILS"], True)
    assert verdicts(line9=[3, 4, 5]) == (["this"], False)
    assert verdicts(line9=[0]) == (["FAILS"], True)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the arithmetics are those of x86")
def test_each_arithmetic_is_another():
    """A condition that changes nothing would be a run for nothing."""
    products = """
import numpy as np, torch
A, B = np.random.default_rng(0).normal(size=(2, 300, 300))
print(repr((A @ B).sum()), repr((torch.tensor(A) @ torch.tensor(B)).sum().item()))
"""
    plain = {k: v for k, v in os.environ.items() if k not in {*robust.GENERIC, *robust.AVX2}}
    seen = {
        subprocess.run(
            [sys.executable, "-c", products], env=plain | c.variables, capture_output=True, text=True, check=True
        ).stdout
        for c in robust.ARITHMETICS
    }
    assert len(seen) == len(robust.ARITHMETICS)


def test_every_kind_of_seed_is_moved(tmp_path):
    """Also in child processes, and what agrees by its seed still agrees."""
    show = """
import json, random, numpy as np, torch
from sklearn.utils import check_random_state
random.seed(3); np.random.seed(3); torch.manual_seed(3)
found = [random.random(), np.random.rand(), torch.rand(()).item()]
found += [state.rand() for state in (check_random_state(3), np.random.RandomState(3))]
found += [np.random.default_rng(s).random() for s in (3, [3, 4], np.int64(3))]
found += [np.random.SeedSequence(3).generate_state(1)[0] / 2**32]
found += [torch.rand((), generator=torch.Generator().manual_seed(3)).item()]
found += [np.random.default_rng(np.random.SeedSequence(3).spawn(1)[0]).random()]
print(json.dumps([float(value) for value in found]))
"""

    def run(shift):
        env = os.environ | {"PYTHONPATH": str(robust.KERNEL), "LOCALMA_SHIFT": str(shift)}
        return json.loads(
            subprocess.run(
                [sys.executable, "-c", show], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
            ).stdout
        )

    here, moved, again = run(0), run(1), run(1)
    assert moved == again
    assert all(a != b for a, b in zip(here, moved, strict=True))
    assert moved[5] == moved[7]


def test_a_sentence_about_one_draw_says_so():
    """It stands in the Markdown before or after the cell, or in code between them that prints it."""
    silent = []
    for path in chapters():
        cells = read(path).cells
        prose = [k for k, cell in enumerate(cells) if cell.cell_type == "markdown"]
        for k, cell in enumerate(cells):
            if robust.THIS_DRAW in cell.metadata.get("tags", []):
                after = next(p for p in prose if p > k)
                before = prose[prose.index(after) - 1]
                near = "\n".join(c.source for c in cells[before : after + 1])
                if not re.search(r"\b(this (draw|deal)|these draws)\b", near):
                    silent.append((path.stem, cell.source))
    assert silent == []


def test_first_lines_point_at_the_code():
    text = CHAPTER.splitlines()
    assert [text[number - 1] for number in robust.first_lines(CHAPTER)] == [
        "import numpy as np",
        "y = torch.randn((), generator=torch.Generator().manual_seed(0)).item()",
        "for k in range(3):",
    ]


@pytest.mark.parametrize("name", ["two_companies", "lipschitz", "housing"])
def test_one_chapter_of_each_part_stands_under_plain_arithmetic(name):
    (path,) = [path for path in chapters() if path.stem == name]
    (generic,) = [condition for condition in robust.ARITHMETICS if condition.name == "generic"]
    assert [f"{f['line']}: {f['text']}" for f in robust.placed(path, robust.run(path, generic))] == []
    assert ROOT in path.parents
