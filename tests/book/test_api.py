"""The API page has every export of the package, once, and lists none by hand."""

import inspect
from collections import Counter
from importlib import import_module

import exports
import pytest
from chapters import ROOT

DOORS = exports.exports()


def test_every_folder_is_a_door_and_its_names_are_on_the_page_once():
    folders = {f"localma.{path.parent.name}" for path in (ROOT / "localma").glob("*/__init__.py")}
    assert folders | {"localma", "localma.plots"} <= set(DOORS)
    listed = Counter((exports.home(door, name), name) for door, names in DOORS.items() for name in names)
    assert set(listed) == {(exports.home(door, name), name) for door in DOORS for name in import_module(door).__all__}
    assert set(listed.values()) == {1}
    page = (ROOT / f"{exports.PAGE}.md").read_text()
    assert [name for names in DOORS.values() for name in names if f"localma.{name}" in page] == []


@pytest.mark.parametrize("door", DOORS)
def test_what_is_exported_is_documented(door):
    """Functions and classes everywhere, and constants but for those of the experiments, have a text on the page."""
    things = {name: getattr(import_module(door), name) for name in DOORS[door]}
    assert [name for name, thing in things.items() if callable(thing) and not inspect.getdoc(thing)] == []
    if "replication" not in door:
        assert [name for name in DOORS[door] if exports.entry(door, name) == [f".. py:data:: {name}", ""]] == []


def test_what_is_shared_stands_once():
    """At the base that is exported; fields of a dataclass are parameters, and scikit-learn's routing is not ours."""
    base = "\n".join(exports.entry("localma.averages", "ModelAverage"))
    average = "\n".join(exports.entry("localma", "EqualWeights"))
    assert "LossEstimator" not in base
    assert "ModelAverage" in average
    assert "set_fit_request" in base
    assert "exclude-members: name, value" in "\n".join(exports.entry("localma", "Loss"))
