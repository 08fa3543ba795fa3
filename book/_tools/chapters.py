"""What the tools and the tests know about chapters: where they are and how they are read."""

import hashlib
import math
import re
from pathlib import Path

import jupytext
import yaml

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
INTRO = BOOK / "intro.md"  # the landing page
#: How a chapter starts: its title and the header card.
CARD = re.compile(
    r"^# (?P<title>.+)\n+:::\{admonition\} At a glance\n:class: tip\n+"
    r"(?:- \*\*The question\*\* (?P<question>.+)\n)?"  # the landing page has none
    r"- \*\*You will learn\*\* (?:.|\n)+?"
    r"\n- \*\*You need\*\* (?P<needs>(?:.|\n)+?)"
    r"\n- \*\*Study time\*\* about (?P<minutes>\d+) min, exercises apart\."
    r"\n- \*\*Run time\*\* about (?P<seconds>\d+) s on two cores(?:.|\n)*?"
    r"\n- \*\*In the paper\*\* (?:.|\n)+?\n:::",
)

#: Cells whose code a reader does not see at first.
HIDDEN = {"remove-cell", "remove-input", "hide-cell", "hide-input"}
DISPLAY = re.compile(r"(?s)\$\$.+?\$\$")
#: Options and fences of directives, addresses of links, names and targets of roles, formulas within a line.
NO_WORDS = re.compile(r"(?m)^(?::::|```|:\w+:).*$|\]\([^)]*\)|\{[\w:]+\}(?=`)|<[^>`\n]+>(?=`)|\$[^$\n]+\$")


def chapters(book=BOOK):
    """Every text notebook of a book, in a fixed order. Pages without code are no chapters."""
    pages = sorted(book.rglob("*.md"))
    return [path for path in pages if "format_name: myst" in path.read_text(encoding="utf-8")[:400]]


def parts():
    """The chapters behind the landing page by the caption of their part, in the order of the table of contents."""
    toc, known = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")), set(chapters())
    listed = {
        part["caption"]: [ROOT / f"{chapter['file']}.md" for chapter in part["chapters"]] for part in toc["parts"]
    }
    return {caption: found for caption, paths in listed.items() if (found := [path for path in paths if path in known])}


def contents():
    """The same as one list: position k has number k + 1."""
    return [path for paths in parts().values() for path in paths]


def text_of(path):
    """A chapter without its front matter."""
    return path.read_text(encoding="utf-8").split("\n---\n", 1)[1].strip() + "\n"


def seconds(path):
    """The run time that a chapter's header card promises; 0 without a card."""
    card = CARD.match(text_of(path))
    return int(card["seconds"]) if card else 0


def load(path):
    """What a reader of a chapter has to read before the exercises: words, displayed formulas, visible lines of code."""
    words = formulas = lines = 0
    reading = True
    for cell in read(path).cells:
        if cell.cell_type == "code":
            seen = reading and not HIDDEN & set(cell.metadata.get("tags", []))
            lines += seen * sum(1 for line in cell.source.splitlines() if line.strip())
            continue
        for part in re.split(r"(?m)^(?=## )", cell.source):
            if part.startswith("## "):
                reading = not part.startswith(("## Check yourself", "## Exercises", "## Solutions"))
            if reading:
                formulas += len(re.findall(DISPLAY, part))
                words += len(re.findall(r"[^\W\d_][\w'’-]*", NO_WORDS.sub(" ", re.sub(DISPLAY, " ", part))))
    return words, formulas, lines


def minutes(path):
    """Study time in minutes by the formula of the contributing page, rounded up to five."""
    words, formulas, lines = load(path)
    return 5 * math.ceil((words / 180 + formulas + lines / 10) / 5)


def with_minutes(path):
    """A chapter's text whose header card promises the study time that :func:`minutes` finds."""
    return re.sub(
        r"(?m)^(- \*\*Study time\*\* about )\d+", rf"\g<1>{minutes(path)}", path.read_text(encoding="utf-8"), count=1
    )


def needed(path):
    """The chapters that a chapter's header card links to as its needs; what stands in the reference is none."""
    links = re.findall(r"\]\(([^)]+\.md)\)", CARD.match(text_of(path))["needs"])
    return [found for link in links if (found := (path.parent / link).resolve()).parent != BOOK / "reference"]


def chapter_map(parts):
    """The landing page's table of the chapters of each part, made from their header cards."""
    lines = ["| Chapter | Its question | Needs | Study | Runs in |", "| --- | --- | --- | --- | --- |"]
    paths = [path for some in parts.values() for path in some]
    cards = {path: CARD.match(text_of(path)) for path in paths}
    for caption, some in parts.items():
        lines.append(f"| **{caption}** | | | {hours(sum(int(cards[path]['minutes']) for path in some))} | |")
        for path in some:
            card, link = cards[path], path.relative_to(BOOK).as_posix()
            needs = ", ".join(map(str, sorted(paths.index(need) + 1 for need in needed(path)))) or "–"
            times = f"{card['minutes']} min | {card['seconds']} s"
            lines.append(
                f"| {paths.index(path) + 1}. [{card['title']}]({link}) | {card['question']} | {needs} | {times} |"
            )
    return "\n".join(lines) + "\n"


def hours(minutes):
    """In words for readers.

    >>> hours(50), hours(395)
    ('50 min', '6.6 hours')
    """
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} hours"


def with_paths(text):
    """The landing page's text, where each path through the chapters says how long it takes."""

    def counted(match):
        linked = re.findall(r"\]\(([^)]+\.md)\)", match["chapters"])
        total = sum(minutes(BOOK / link) for link in linked)
        return f"{match['name']} ({hours(total)}):{match['chapters']}"

    return re.sub(
        r"(?m)^(?P<name>- \*\*.+?\*\*) \((?:[\d.]+ (?:min|hours))\):(?P<chapters>.+(?:\n  .+)*)$", counted, text
    )


def read(path):
    """The notebook in a file, .md or .ipynb."""
    return jupytext.read(path)


def cells(notebook):
    """The content that a pair must share: kind, text and tags of every cell, and whether its code is folded."""
    return [
        (cell.cell_type, cell.source.rstrip(), tuple(cell.metadata.get("tags", [])), cell.metadata.get("cellView"))
        for cell in notebook.cells
    ]


def code(notebook):
    """The code alone: outputs stay true as long as it is unchanged."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def fingerprint(folder):
    """Digest of every file in a folder, data included."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
