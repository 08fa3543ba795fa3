"""Check the text of the book: `make lint`, and a test.

What is checked here goes wrong silently: Sphinx builds the page without a warning and the reader sees rubbish.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
# What a page of a phone or a book shows of code; cells that are folded may be wider, as far as they go.
WIDTH = 75
SHOWN = re.compile(r"^```(?:\{code-cell\}.*|python)\n(?P<head>---\n(?:.|\n)*?^---\n|(?::\w+:.*\n)*)(?P<code>(?:.|\n)*?)^```$", re.M)
FOLDED = re.compile(r"\b(?:hide|remove)-(?:input|cell)\b")


def outside_code(text):
    """Yield (line number, line) of what is not in a backtick fence; fences count as blank lines."""
    closing = None
    for number, line in enumerate(text.splitlines(), 1):
        match = FENCE.match(line)
        if closing:
            if match and match[1].startswith(closing) and not line.strip().strip(closing[0]):
                closing = None
            yield number, ""
        elif match:
            closing = match[1]
            yield number, ""
        else:
            yield number, line


def problems(text):
    """Every (line number, message) of one page."""
    found, before, inside = [], "", False
    for number, line in outside_code(text):
        line = re.sub(r"`[^`]*`", "code", line)
        bare = line.strip()
        if bare.startswith("$$"):
            opens = not inside
            # An opening line that also closes, as in `$$ x $$ (label)`, leaves the state as it is.
            inside = opens and "$$" not in bare[2:]
            if opens and before.strip() and not before.lstrip().startswith(":"):
                found.append((number, "a blank line must stand before $$"))
        elif "$$" in bare:
            if inside and bare.endswith("$$"):
                inside = False
            else:
                found.append((number, "$$ must start its line"))
        if re.search(r"\\[(\[]", line) and not inside:
            found.append((number, "write mathematics with $ or $$, not with \\( or \\["))
        if not inside and re.search(r"!\[\]\(", line):
            found.append((number, "a picture needs alt text"))
        before = line
    if inside:
        found.append((number, "$$ is opened and never closed"))
    return found


def wide(text):
    """Every (line number, message) of code that is shown and does not fit."""
    for cell in SHOWN.finditer(text):
        if FOLDED.search(cell["head"]):
            continue
        first = text.count("\n", 0, cell.start("code")) + 1
        for number, line in enumerate(cell["code"].splitlines(), first):
            if len(line) > WIDTH:
                yield number, f"a line of code has {len(line)} characters, {WIDTH} fit"


def main():
    bad = [
        f"{path.relative_to(ROOT)}:{number}: {message}"
        for path in sorted((ROOT / "book").rglob("*.md"))
        for text in [path.read_text(encoding="utf-8")]
        for number, message in sorted([*problems(text), *wide(text)])
    ]
    print("\n".join(bad) if bad else "The text of the book is in order.")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
