"""Files that somebody has edited: each loads as an average that keeps its promises, or is refused in one sentence."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from localma import GlobalMA, LocalMA, Training, load, relatives
from localma.averages.packing import digest

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
F = rng.gamma(3, size=(60, 3))
y = np.where(X[:, 0] > 0, F[:, 0], F[:, 1]) + rng.random(60)
P = rng.dirichlet(np.ones(3), (60, 3))
LABELS = np.array(["no", "perhaps", "yes"])[np.arange(60) % 3]

#: As the book's page "What is promised" says.
EXAMPLES = 100
AVERAGES = {
    "network": (LocalMA(training=Training(steps=8), shrinkage=None, random_state=0), y, F),
    "members": (LocalMA(training=Training(steps=8), shrinkage=0.1, members=2, bootstrap=2, random_state=0), y, F),
    "global": (LocalMA(training=Training(steps=8), shrinkage=float("inf"), random_state=0), y, F),
    "labels": (LocalMA(loss="cross_entropy", shrinkage=None, random_state=0), LABELS, P),
    "constant": (GlobalMA(), y, F),
    "tree": (relatives.LocalSelection(), y, F),
    "cells": (relatives.LocalSelection(form="partition", size=2), y, F),
    "gate": (relatives.MixtureOfExperts(penalty=0.1), y, F),
    "classifiers": (relatives.RightProbability(loss="cross_entropy"), LABELS, P),
    "ridge": (relatives.FeatureStacking(), y, F),
}
#: What a place of the header may hold instead.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**70),
    st.floats(),
    st.sampled_from(["", "squared", "array", "no such", "../../x", "9" * 400]),
    st.lists(st.integers(-1, 3), max_size=4),
    st.sampled_from([{}, {"array": "no such"}, {"dict": {}}, {"tuple": []}, {"float": "x"}, {"a": 1, "b": 2}]),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("files"), {}
    for name, (average, target, candidates) in AVERAGES.items():
        average.fit(X, target, F=candidates).save(folder / name)
        with safe_open(folder / name, framework="numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}
            found[name] = json.loads(file.metadata()["localma"]), arrays
    return folder / "changed", found


def places(tree, path=()):
    """Every place of a header, by its keys."""
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield (*path, key)
        if isinstance(tree[key], (dict, list)):
            yield from places(tree[key], (*path, key))


def spoil_header(header, draw):
    *path, last = draw(st.sampled_from([p for p in places(header) if p[0] != "digest"]))
    for key in path:
        header = header[key]
    if isinstance(header, dict) and draw(st.booleans()):
        del header[last]
    else:
        header[last] = draw(VALUES)


def spoil_arrays(arrays, draw):
    name = draw(st.sampled_from(sorted(arrays)))
    a = arrays[name]
    how = draw(st.sampled_from(["value", "type", "shape", "gone", "turned", "many"]))
    if how == "gone":
        del arrays[name]
    elif how == "type":
        arrays[name] = a.astype(draw(st.sampled_from(["complex64", "float16", "int8", "uint64", "bool"])))
    elif how == "shape":
        arrays[name] = draw(st.sampled_from([a[:0], a[..., None], a.ravel(), np.concatenate([a.ravel(), a.ravel()])]))
    elif how == "turned":
        arrays[name] = np.ascontiguousarray(a[::-1].T)
    elif a.size:
        a = arrays[name] = a.copy()
        value = draw(st.sampled_from([1, 3] if a.dtype.kind in "iub" else [np.nan, np.inf, -np.inf, -1.0, 3.0, 1e30]))
        with np.errstate(invalid="ignore"):
            a[... if how == "many" else np.unravel_index(draw(st.integers(0, a.size - 1)), a.shape)] = a.dtype.type(
                value
            )


@pytest.mark.filterwarnings("ignore")  # numpy warns of what it finds in a spoilt array
@pytest.mark.parametrize("name", AVERAGES)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whoever_signs_a_change_gets_an_average_or_a_sentence(name, saved, data):
    path, files = saved
    header, arrays = copy.deepcopy(files[name])
    spoil = data.draw(st.sampled_from([spoil_header, spoil_arrays] if arrays else [spoil_header]))
    spoil(header if spoil is spoil_header else arrays, data.draw)
    header.pop("digest", None)
    try:
        signed = json.dumps(header | {"digest": digest(header, arrays)})
    except (TypeError, ValueError):
        return
    save_file(arrays, path, {"localma": signed})
    average, sentence = attempt(lambda: load(path))
    if sentence is not None:
        assert str(path) in sentence
        return
    w, sentence = attempt(lambda: average.weights(X))
    if sentence is None:  # or X does not fit a network's spoilt numbers
        assert w.shape == (60, average.n_models_)
        assert w.dtype == float
        assert np.isfinite(w).all()
        if average.simplex:
            assert w.min() >= 0
            assert np.allclose(w.sum(1), 1)


def attempt(what):
    """What it gives, or the sentence of its ValueError; anything else that it raises fails the test."""
    try:
        return what(), None
    except ValueError as error:
        return None, str(error)


def test_the_page_counts_what_is_tried():
    page = (Path(__file__).parents[2] / "book" / "reference" / "promises.md").read_text(encoding="utf-8")
    assert len(AVERAGES) == 10
    assert f"{EXAMPLES} edits of header and arrays for each of ten kinds of average" in page
