"""Notebooks that are opened outside the book: nothing in their text that only the book understands, no dead link."""

import re

import plain
import pytest
import yaml
from chapters import INTRO, ROOT, chapters, read, text_of
from course import notebook
from plain import SITE, labelled, places, quoted, readable, sources, words

FENCED = re.compile(r"^```[\s\S]*?^```$", re.M)
LEFT = re.compile(
    r"\{[\w:-]+\}`|:::|^\([\w-]+\)=|\$\$ \([\w:-]+\)$|\[\]\(|\]\((?!https?://|mailto:)[^)]*\)|\.md\b", re.M
)
LINK = re.compile(rf"\]\({re.escape(SITE)}([^)#]*)(?:#[^)]*)?\)")


def pages():
    """The pages of the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return {f"{file}.html" for file in files}


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in chapters()])
def test_notebooks_are_in_plain_markdown_and_link_to_pages(path):
    """The reader's, the student's, and the one of those who teach."""
    made = [readable(read(path), path)]
    if path != INTRO:
        made += [notebook(text_of(path), solutions, path) for solutions in (False, True)]
    for cells in (one.cells for one in made):
        text = FENCED.sub("", "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))
        assert [text[max(0, found.start() - 40) : found.end() + 40] for found in LEFT.finditer(text)] == []
        linked = set(LINK.findall(text))
        assert linked
        assert linked <= pages()
        # what sets formulas would take the mark of a quote for a part of the formula
        assert [line for line in text.splitlines() if line.startswith(">") and line.count("$") % 2] == []


TEXT = """(a-place)=
## A heading

:::{margin}
A note.
:::

::::{prf:theorem} Its title
:label: thm-a

Let $x
+ y$ be

$$
1 \\\\
2
$$ (eq:a)

:::{admonition} A reason
:class: dropdown tip

By {eq}`eq:a` and {cite:p}`gao2026,pan2006`.
:::
::::

:::{exercise} Prove it
:label: ex-a
*Kind: pencil. 5 min, 1 point.*
Prove {prf:ref}`thm-a` of [the beginning](a-place) and [](eq:a), see [two](core/two_companies.md#more), for
{term}`hulls <convex hull>`.
:::

:::{solution} ex-a
:class: dropdown
Done.
:::

:::{solution-start} ex-a
:class: dropdown
:::

More in {numref}`fig-a`.

:::{solution-end}
:::
"""
PLAIN = """## A heading

> A note.

> **Theorem 7.1 (Its title).**
>
> Let $x + y$ be
>
> $$ 1 \\\\ 2 \\tag{7.1} $$
>
> <details><summary>A reason</summary>
>
> By (7.1) and ([Gao, He and Yang, 2026](REF); [Pan, Xiao and Huang, 2006](REF)).
>
> </details>

### Exercise 7.1: Prove it

*Kind: pencil. 5 min, 1 point.*

Prove Theorem 7.1 of [the beginning](SITEbook/a.html#a-place) and (7.1), see [two](SITEbook/core/two_companies.html#more), for
[hulls](SITEbook/reference/glossary.html#term-Convex-hull).

<details><summary>Solution of Exercise 7.1</summary>

Done.

</details>

### Solution of Exercise 7.1

More in [Fig. 7.1](SITEbook/a.html#fig-a)."""
FIGURE = "```{code-cell} ipython3\n---\nmystnb:\n  figure:\n    name: fig-a\n---\n```\n"


def test_each_construct(monkeypatch):
    here = ROOT / "book" / "a.md"
    there = places() | dict(labelled(here, TEXT + FIGURE, 7))
    monkeypatch.setattr(plain, "places", lambda: there)
    expected = PLAIN.replace("REF", "SITEbook/reference/references.html").replace("SITE", SITE)
    assert plain.plain(TEXT, here) == expected
    elsewhere = plain.plain("{prf:ref}`thm-a`, [](eq:a)", INTRO)
    assert elsewhere == f"[Theorem 7.1]({SITE}book/a.html#thm-a), [(7.1)]({SITE}book/a.html#equation-eq-a)"


@pytest.mark.parametrize("text", ["{prf:ref}`thm-none`", "{term}`no such word`", "{cite:t}`nobody2026`"])
def test_what_the_book_does_not_have_is_an_error(text):
    with pytest.raises(KeyError):
        plain.plain(text, INTRO)
    with pytest.raises(ValueError, match="outside the book"):
        plain.plain(":::{figure} a.png\n:::", INTRO)


def test_authors_and_years():
    assert sources()["gao2026"] == ("Gao, He and Yang", "2026")
    assert sources()["pedregosa2011"][0] == "Pedregosa and others"
    assert [who for who, _ in sources().values() if "Vaart" in who] == ["van der Vaart, Dudoit and van der Laan"]
    assert "convex hull" in words()
    assert quoted("a\n\n$$\nb\n$$") == "> a\n>\n> $$ b $$"
