"""The landing page keeps what it promises: a true map of chapters, the README's picture, a short snippet."""

import re

import chapters
import pytest
from chapters import CARD, INTRO, ROOT, chapter_map, contents, load, minutes, needed, parts, text_of, with_paths
from notebooks import MAP, PICTURE, figure, with_map

from tests.conftest import FRONT


def test_map_is_made_from_the_header_cards():
    text = INTRO.read_text(encoding="utf-8")
    assert MAP.search(text)
    assert with_map(text) == text, "run `make notebooks`"


def test_a_new_card_is_a_new_row(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "BOOK", tmp_path)
    card = "---\n---\n\n# {}\n\n:::{{admonition}} At a glance\n:class: tip\n"
    card += "- **The question** {}\n- **You will learn** much.\n- **You need** {}.\n"
    card += "- **Study time** about {} min, exercises apart.\n"
    card += "- **Run time** about {} s on two cores.\n- **In the paper** nothing.\n:::\n"
    first, second = tmp_path / "first.md", tmp_path / "second.md"
    first.write_text(card.format("One", "Why?", "[a friend](https://example.org), patience", 20, 10))
    second.write_text(card.format("Two", "How?", "[what stands\n  before](first.md)", 5, 25))
    assert chapter_map({"Basics": [first], "More": [second]}).splitlines()[2:] == [
        "| **Basics** | | | 20 min | |",
        "| 1. [One](first.md) | Why? | – | 20 min | 10 s |",
        "| **More** | | | 5 min | |",
        "| 2. [Two](second.md) | How? | 1 | 5 min | 25 s |",
    ]


def test_a_path_takes_as_long_as_its_chapters(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "BOOK", tmp_path)
    for name, words in (("first", 1000), ("second", 30_000)):
        (tmp_path / f"{name}.md").write_text(FRONT + "# Title\n\n" + "word " * words)
    text = "- **Short** (0 min): [One](first.md).\n- **Long** (7 hours): [One](first.md), then [Two](second.md).\n"
    long = "- **Long** (3.0 hours): [One](first.md), then [Two](second.md).\n"
    assert with_paths(text) == "- **Short** (10 min): [One](first.md).\n" + long


def linked(path, text):
    """The pages to which a text of this page links, in its order."""
    return [(path.parent / link).resolve() for link in re.findall(r"\]\(([^)]+\.md)\)", text)]


def test_paths_and_syllabi_hold_what_their_chapters_need():
    paths = re.findall(r"^- \*\*.+?\*\* \([\d.]+ hours\):(.+(?:\n  .+)*)$", text_of(INTRO), re.M)
    ways = [linked(INTRO, path) for path in paths if "if you know the paper" not in path]
    page = INTRO.parent / "reference" / "teaching.md"
    weeks = [row.split("|")[2:5] for row in re.findall(r"^\| \d+ \|.+$", page.read_text(encoding="utf-8"), re.M)]
    ways += [linked(page, "".join(column)) for column in zip(*weeks, strict=True)]
    assert len(ways) == 6
    for way in ways:
        for number, chapter in enumerate(way):
            assert set(needed(chapter)) <= set(way[:number]), chapter


def test_layers_are_as_long_as_they_promise():
    """A course that one can finish: contributing page."""
    core, *others = parts().values()
    assert len(core) <= 10
    assert sum(map(minutes, core)) <= 8 * 60
    assert [path.stem for path in core if minutes(path) > 45 or load(path)[0] > 2500] == []
    assert [path.stem for some in others for path in some if minutes(path) > 60 or load(path)[0] > 3000] == []


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in contents()])
def test_chapter_asks_a_question_and_needs_what_stands_before_it(path):
    assert CARD.match(text_of(path))["question"].endswith("?")
    assert set(needed(path)) <= set(contents()[: contents().index(path)])


def test_snippet_for_practitioners_is_short():
    (snippet,) = re.findall(r"^```\{code-cell\} ipython3\n(import pandas.+?)^```$", text_of(INTRO), re.M | re.S)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 13


def test_picture_of_the_readme_is_the_figure_of_the_landing_page():
    # a comparison of its own: pytest would spell out where the bytes differ, for many minutes
    same = PICTURE.read_bytes() == figure()
    assert same, "run `make notebooks`"
    assert PICTURE.stat().st_size < 150_000
    assert f"({PICTURE.relative_to(ROOT).as_posix()})" in (ROOT / "README.md").read_text()
