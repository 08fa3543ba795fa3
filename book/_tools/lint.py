"""Check the text of the book: `make lint`, and a test.

What is checked here goes wrong silently: Sphinx builds the page without a warning and the reader sees rubbish.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
# What a page of a phone or a book shows of code; cells that are folded may be wider, as far as they go.
WIDTH = 75
SHOWN = re.compile(
    r"^```(?:\{code-cell\}.*|python)\n(?P<head>---\n(?:.|\n)*?^---\n|(?::\w+:.*\n)*)(?P<code>(?:.|\n)*?)^```$", re.M
)
# Asserts that teach may be seen, those that only hold the text to its numbers stand in cells that are removed: this is
# their largest share of the lines of code that a reader sees before the exercises, in a chapter and in the whole book.
ASSERTS, ASSERTS_OF_ALL = 0.12, 0.05
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


def shown(text):
    """Yield (number of the first line, code) of every cell whose code the reader sees."""
    for cell in SHOWN.finditer(text):
        if not FOLDED.search(cell["head"]):
            yield text.count("\n", 0, cell.start("code")) + 1, cell["code"]


def wide(text):
    """Every (line number, message) of code that is shown and does not fit."""
    for first, code in shown(text):
        for number, line in enumerate(code.splitlines(), first):
            if len(line) > WIDTH:
                yield number, f"a line of code has {len(line)} characters, {WIDTH} fit"


def count_asserts(text):
    """(asserts, all) of the lines of code that are shown before the exercises."""
    codes = [code for _, code in shown(text.partition("\n## Exercises\n")[0])]
    nodes = [node for code in codes for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert)]
    lines = [line for code in codes for line in code.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return sum(node.end_lineno - node.lineno + 1 for node in nodes), len(lines)


def too_many_asserts(texts):
    """Messages on the chapters of a dictionary of texts that show too many asserts, and on all of them together."""
    counts = {name: count_asserts(text) for name, text in texts.items()}
    total = tuple(map(sum, zip(*counts.values(), strict=True)))
    limits = dict.fromkeys(counts, ASSERTS) | {"book": ASSERTS_OF_ALL}
    for name, (asserts, lines) in (counts | {"book": total}).items():
        if asserts > limits[name] * lines:
            few = f"at most {limits[name]:.0%} may be: tag the cells of some `remove-cell`"
            yield f"{name}: {asserts} of {lines} shown lines of code are asserts, {few}"


def main():
    pages = sorted((ROOT / "book").rglob("*.md"))
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in pages}
    found = {name: sorted([*problems(text), *wide(text)]) for name, text in texts.items()}
    bad = [f"{name}:{number}: {message}" for name, lines in found.items() for number, message in lines]
    bad += too_many_asserts({name: text for name, text in texts.items() if "format_name: myst" in text})
    print("\n".join(bad) if bad else "The text of the book is in order.")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
