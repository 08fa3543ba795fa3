"""What the tools and the tests know about chapters: where they are and how they are read."""

import hashlib
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"


def chapters():
    """Every text notebook of the book, in a fixed order. Pages without code are no chapters."""
    return [path for path in sorted(BOOK.rglob("*.md")) if "format_name: myst" in path.read_text(encoding="utf-8")[:400]]


def read(path):
    """The notebook in a file, .md or .ipynb."""
    return jupytext.read(path)


def cells(notebook):
    """The content that a pair must share: kind, text and tags of every cell."""
    return [(cell.cell_type, cell.source.rstrip(), tuple(cell.metadata.get("tags", []))) for cell in notebook.cells]


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
