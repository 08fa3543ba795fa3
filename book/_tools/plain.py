"""Plain Markdown from a chapter's MyST, which Colab, JupyterLab and nbgrader show as it was typed.

Theorems and notes become block quotes, exercises headings, what the page folds `<details>`. References get the numbers
of the pages, and links lead to the book on the web. Code and outputs stay as they are; cells whose code the pages hide
are folded. A label or a word that the book does not have is a KeyError, as a dead reference is an error in the book.
"""

import re
import tomllib
from collections import Counter
from functools import cache

from chapters import BOOK, HIDDEN, ROOT, chapters, contents, text_of
from docutils.nodes import make_id
from pybtex.database import parse_file
from sphinx.util.nodes import _make_id

SITE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Homepage"]
DIRECTIVE = re.compile(
    r"^(?P<fence>:{3,})\{(?P<name>[\w:-]+)\} ?(?P<title>.*)\n(?P<options>(?::\w+:.*\n)*)\n*"
    r"(?P<body>[\s\S]*?)^(?P=fence)$",
    re.M,
)
LABEL = re.compile(
    r"^:{3,}\{(?:prf:)?(?P<kind>\w+)\}.*\n(?::\w+:.*\n)*?:label: (?P<named>\S+)$"
    r"|^\$\$ \((?P<formula>[\w:-]+)\)$|^\((?P<heading>[\w-]+)\)=$|\bname: (?P<figure>fig-[\w-]+)",
    re.M,
)
ROLE = re.compile(r"\{(?P<role>term|eq|numref|prf:ref|cite:[pt])\}`(?P<said>[^`<]+?)(?: <(?P<target>[^`>]+)>)?`")
LINK = re.compile(r"(?P<empty>\[)?\]\((?P<target>[^()\s]+)\)")
FORMULA = re.compile(r"\$\$[\s\S]+?\$\$|\$[^$]+?\$")
#: What folds a cell's code in Colab, and in JupyterLab and Notebook.
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}


def web(path):
    """The address on the web of the page of a file of the book."""
    return SITE + path.relative_to(ROOT).with_suffix(".html").as_posix()


def labelled(path, text, chapter):
    """Yield (label, (file, address, what a reference says)) of all that a chapter labels, with the pages' numbers."""
    counts = Counter()
    for match in LABEL.finditer(text):
        sort, label = next((sort, match[sort]) for sort in ("named", "formula", "heading", "figure") if match[sort])
        name = {"named": match["kind"], "figure": "Fig."}.get(sort, sort)
        counts[name] += 1
        number = f"{chapter}.{counts[name]}" if chapter else str(counts[name])
        said = f"({number})" if sort == "formula" else f"{name.capitalize()} {number}"
        yield label, (path, f"{web(path)}#{'equation-' * (sort == 'formula')}{make_id(label)}", said)


@cache
def places():
    """All labels of the book."""
    numbers = {path: number for number, path in enumerate(contents(), 1)}
    return {label: place for path in chapters() for label, place in labelled(path, text_of(path), numbers.get(path, 0))}


@cache
def words():
    """The addresses of the glossary's words, by the word in small letters."""
    page = BOOK / "reference" / "glossary.md"
    block = page.read_text(encoding="utf-8").partition("{glossary}\n")[2].partition("\n:::")[0]
    return {word.lower(): f"{web(page)}#{_make_id(f'term-{word}')}" for word in re.findall(r"^\w.*", block, re.M)}


@cache
def sources():
    """(authors, year) of the entries of the bibliography."""

    def authors(people):
        *first, last = (" ".join(map(str, person.rich_prelast_names + person.rich_last_names)) for person in people)
        if len(first) > 2 or last == "others":
            return f"{first[0]} and others"
        return ", ".join(first) + f" and {last}" if first else last

    entries = parse_file(BOOK / "references.bib").entries
    return {key: (authors(entry.persons["author"]), entry.fields["year"]) for key, entry in entries.items()}


def referred(match, path):
    """What a role becomes in a notebook of the file `path`."""
    role, said, target = match["role"], match["said"], match["target"] or match["said"]
    if role == "term":
        return f"[{said}]({words()[target.lower()]})"
    if role.startswith("cite"):
        form = "[{} ({})]({})" if role == "cite:t" else "[{}, {}]({})"
        page = web(BOOK / "reference" / "references.md")
        cited = "; ".join(form.format(*sources()[key.strip()], page) for key in target.split(","))
        return cited if role == "cite:t" else f"({cited})"
    home, address, number = places()[target]
    # a figure's number stands on its page alone
    return number if home == path and role != "numref" else f"[{number}]({address})"


def linked(match, path):
    """A link to a label or to another file of the book, as one to the book on the web."""
    target, _, anchor = match["target"].partition("#")
    if target in places():
        home, address, number = places()[target]
        if match["empty"]:
            return number if home == path else f"[{number}]({address})"
        return f"]({address})"
    if target.endswith(".md"):
        return f"{match['empty'] or ''}]({web((path.parent / target).resolve())}{'#' * bool(anchor)}{anchor})"
    return match[0]


def quoted(text):
    """A block quote. A formula stands on one line: what sets formulas in a notebook takes `>` for a part of them."""
    text = FORMULA.sub(lambda formula: " ".join(formula[0].split()), text)
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def directive(match):
    """What a directive becomes, those inside it first."""
    name, title, body = match["name"].removeprefix("prf:"), match["title"], DIRECTIVE.sub(directive, match["body"])
    label = re.search(r":label: (\S+)", match["options"])
    if name == "solution-end":
        return ""
    if name.startswith("solution"):
        title = f"Solution of {places()[title][2]}"
        if name == "solution-start":
            return f"### {title}"
    elif name == "exercise":
        body = re.sub(r"^(\*Kind: .+\*)\n(?=\S)", r"\1\n\n", body)
        return f"### {places()[label[1]][2]}: {title}\n\n{body.strip()}"
    elif name not in ("admonition", "margin"):
        if name == match["name"]:
            raise ValueError(f"what does :::{{{name}}} become outside the book? Say so in plain.py")
        title = (places()[label[1]][2] if label else name.capitalize()) + f" ({title})" * bool(title) + "."
    if "dropdown" in match["options"]:
        return f"<details><summary>{title}</summary>\n\n{body.strip()}\n\n</details>"
    return quoted((f"**{title}**\n\n" if title else "") + body.strip())


def plain(text, path):
    """The Markdown of a cell of the chapter `path`, without what only Sphinx understands."""
    text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.M)
    text = re.sub(
        r"\n\$\$ \(([\w:-]+)\)$", lambda match: rf" \tag{{{places()[match[1]][2][1:-1]}}}" "\n$$", text, flags=re.M
    )
    text = DIRECTIVE.sub(directive, text)
    text = ROLE.sub(lambda match: referred(match, path), text)
    return LINK.sub(lambda match: linked(match, path), text).strip()


def readable(notebook, path):
    """A notebook of the chapter `path` for readers outside the book."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, path)
        elif HIDDEN & set(cell.metadata.get("tags", [])):
            cell.metadata |= FOLDED
    notebook.cells = [cell for cell in notebook.cells if cell.source]
    return notebook
