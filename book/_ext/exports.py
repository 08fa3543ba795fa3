"""Fill the API page from the package: every name that a door exports, once, at the first door that has it.

A door is a module that others import from: `localma`, what lies directly in it, and each experiment of
`localma.replication`. What its `__all__` names is on the page, and nothing else. No name is listed by hand.
"""

import ast
import inspect
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from sphinx.pycode import ModuleAnalyzer

PAGE = "book/reference/api"


def doors():
    """Names of the doors, `localma` first."""
    names = ["localma"]
    for package in ("localma", "localma.replication"):
        inside = [f"{package}.{module.name}" for module in iter_modules(import_module(package).__path__)]
        at = names.index(package) + 1
        names[at:at] = [name for name in inside if not name.endswith(".__main__")]
    return [name for name in names if hasattr(import_module(name), "__all__")]


@cache
def home(module, name):
    """The module in which a name that `module` exports is defined."""
    for node in ast.walk(ast.parse(inspect.getsource(import_module(module)))):
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return home(node.module, name)
    return module


def exports():
    """For each door the names to document there: those that no earlier door exports."""
    seen, found = set(), {}
    for door in doors():
        names = {(home(door, name), name) for name in import_module(door).__all__}
        found[door] = [name for _, name in sorted(names - seen)]
        seen |= names
    return found


def entry(door, name):
    """What autodoc is asked to say of one name, as lines of reStructuredText."""
    thing, comments = getattr(import_module(door), name), ModuleAnalyzer.for_module(home(door, name)).find_attr_docs()
    if inspect.isclass(thing):
        # Inherited is what comes from bases that are ours and not on the page. Metadata routing is scikit-learn's.
        bases = thing.__mro__[1:]
        others = [base.__name__ for base in bases if not base.__module__.startswith("localma") or on_page(base)]
        # A dataclass's fields are parameters, which its docstring tells of.
        named = [field.name for field in fields(thing)] if is_dataclass(thing) else getattr(thing, "_fields", ())
        hidden = [field for field in named if (name, field) not in comments]
        hidden += [method for method in dir(thing) if method.startswith("set_") and method.endswith("_request")]
        options = {"members": "", "inherited-members": ", ".join(others), "exclude-members": ", ".join(hidden)}
        given = [f"   :{option}: {value}" for option, value in options.items() if value or option == "members"]
        return [f".. autoclass:: {name}", *given]
    if inspect.isroutine(thing):
        return [f".. autofunction:: {name}"]
    # autodoc finds the comment on a constant only in the module that defines it
    return [f".. py:data:: {name}", "", *(f"   {line}" for line in comments.get(("", name), []))]


def on_page(thing):
    """Whether some door exports a class."""
    name = thing.__name__
    return any(name in names and getattr(import_module(door), name) is thing for door, names in exports().items())


def section(door, names):
    """A door's part of the page, in MyST: what it is for, then its names by the module inside that defines them."""
    lines = [f".. automodule:: {door}", "   :no-members:", ""]
    inside = None
    for name in names:
        if (where := home(door, name)) != inside and where.rpartition(".")[0] == door and where not in doors():
            # where a function has the module's name, the entry in the index is the function's
            silent = ["   :no-index:"] * (where in [f"{door}.{other}" for other in names])
            lines += [f".. automodule:: {where}", "   :no-members:", *silent, "", f".. py:currentmodule:: {door}", ""]
        inside = where
        lines += [*entry(door, name), ""]
    return "\n".join([f"\n## {door}\n", "```{eval-rst}", *lines, "```", ""])


def fill(app, page, source):
    if page == PAGE:
        source[0] += "".join(section(door, names) for door, names in exports().items() if names)


def setup(app):
    app.connect("source-read", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
