"""What a chapter's check of a statement needs, cut out of the chapter: so a mutant of the claim can be tried in
seconds.
"""

import ast
import re
import warnings
from pathlib import Path

import torch
from chapters import chapters, code, read

STATEMENT = re.compile(
    r"^:{3,}\{prf:(?:theorem|proposition|corollary|lemma)\}.*\n(?:.*\n)*?:label: (?P<label>\S+)$", re.M
)


def statements():
    """The chapter of every theorem-like label of the book."""
    found = [(match["label"], path) for path in chapters() for match in STATEMENT.finditer(path.read_text("utf-8"))]
    assert len(dict(found)) == len(found), "two statements have the same label"
    return dict(found)


class Names(ast.NodeVisitor):
    """What a statement reads, and what it binds or changes."""

    def __init__(self, node):
        self.reads, self.writes = set(), set()
        self.visit(node)

    def visit_Name(self, node):
        (self.reads if isinstance(node.ctx, ast.Load) else self.writes).add(node.id)

    def visit_alias(self, node):
        self.writes.add((node.asname or node.name).split(".")[0])

    def visit_FunctionDef(self, node):
        self.writes.add(node.name)
        self.generic_visit(node)

    visit_ClassDef = visit_FunctionDef

    def changed(self, node):
        while isinstance(node, (ast.Attribute, ast.Subscript)):
            node = node.value
        if isinstance(node, ast.Name):
            self.writes.add(node.id)

    def visit_Subscript(self, node):
        if isinstance(node.ctx, ast.Store):
            self.changed(node)
        self.generic_visit(node)

    visit_Attribute = visit_Subscript

    def visit_Expr(self, node):  # rows.append(x)
        if isinstance(node.value, ast.Call):
            self.changed(node.value.func)
        self.generic_visit(node)


def shows(node):
    """Whether a statement only draws or prints."""
    text = ast.unparse(node)
    return isinstance(node, ast.Expr) and re.match(r"(print|plt|ax|axes|fig|use_style)\b", text) is not None


def checks(source, label):
    """The lines of a cell from which on it checks a statement."""
    lines = source.splitlines()
    return [i for i, line in enumerate(lines, 1) if re.match(rf"\s*# checks (?:.*\s)?{re.escape(label)}\b", line)]


def asserts(node, first):
    return any(isinstance(part, ast.Assert) and part.lineno > first for part in ast.walk(node))


def extract(path: Path, label: str) -> list[str]:
    """The statements that a chapter's checks of a label need, in order; all asserts of the others are left out."""
    parts = []
    for source in code(read(path))[1:]:  # without the installation
        first = min(checks(source, label), default=None)
        for node in ast.parse(source).body:
            if not shows(node):
                # a comment after the last assert above belongs to what follows
                wanted = first is not None and asserts(node, first)
                parts.append((ast.get_source_segment(source, node), node, wanted))
    needed, kept = set(), []
    for text, node, wanted in reversed(parts):
        names = Names(node)
        if wanted or (names.writes & needed and not isinstance(node, ast.Assert)):
            needed |= names.reads | names.writes
            kept.append(text)
    return kept[::-1]


def run(parts: list[str]) -> None:
    dtype = torch.get_default_dtype()  # a chapter may change it, and the next one has a process of its own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile("\n".join(parts), "chapter", "exec"), {"__name__": "__main__"})
    finally:
        torch.set_default_dtype(dtype)


def mutate(parts: list[str], old: str, new: str) -> list[str]:
    assert any(old in part for part in parts), f"the check has no {old!r} any more"
    return [part.replace(old, new) for part in parts]
