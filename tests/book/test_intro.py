"""The landing page keeps what it promises: its map of chapters is true, its picture is the README's, its snippet is short."""

import re

from chapters import BOOK, ROOT, chapters
from readme_picture import PICTURE, figure
from test_notebooks import CARD, text_of

INTRO = BOOK / "intro.md"
ROW = re.compile(r"^\| \d+\. \[(?P<title>[^\]]+)\]\((?P<link>[\w/]+\.md)\) \|.*\| (?P<seconds>\d+) s \|$", re.M)


def test_map_lists_every_chapter_with_its_run_time():
    rows = {BOOK / row["link"]: int(row["seconds"]) for row in ROW.finditer(text_of(INTRO))}
    cards = {path: int(CARD.match(text_of(path))["seconds"]) for path in chapters() if path != INTRO}
    assert rows == cards, "bring the map in book/intro.md in step with the header cards"


def test_snippet_for_practitioners_is_short():
    (snippet,) = re.findall(r"^```\{code-cell\} ipython3\n(import pandas.+?)^```$", text_of(INTRO), re.M | re.S)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 10


def test_picture_of_the_readme_is_the_figure_of_the_landing_page():
    same = PICTURE.read_bytes() == figure()  # a comparison of its own: pytest would spell out where the bytes differ, for many minutes
    assert same, "run `make picture`"
    assert PICTURE.stat().st_size < 150_000
    assert f"({PICTURE.relative_to(ROOT).as_posix()})" in (ROOT / "README.md").read_text()
