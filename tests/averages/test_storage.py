"""Saved averages: bit for bit what was fitted, or a clear refusal."""

import json
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.tree import DecisionTreeRegressor
from torch import nn

import localma
from localma import (
    LOSSES,
    DirectModel,
    EqualWeights,
    GlobalMA,
    LocalMA,
    Loss,
    Mlp,
    Training,
    load,
    mlp,
    relatives,
    tweedie,
)
from localma.averages.packing import digest
from localma.losses import pinball

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
F = np.exp(rng.normal(size=(60, 3)))
y = rng.gamma(3, F.mean(1) / 3)
P = rng.dirichlet(np.ones(3), (60, 3))
MODELS = [lambda X: np.exp(X[:, 0]), lambda X: np.exp(X[:, 1]), lambda X: np.exp(X.sum(1))]


def make(kind, **options):
    return kind(**({"random_state": 0, "training": Training(steps=8)} | options if kind is LocalMA else options))


@pytest.mark.parametrize("loss", [*LOSSES, tweedie(1.23456789), pinball(0.123456789)])
def test_losses_are_found_again(loss, tmp_path):
    target, candidates = (np.arange(60) % 3, P) if loss == "cross_entropy" else (y, F)
    average = EqualWeights(loss=loss).fit(X, target, F=candidates)
    average.save(tmp_path / "a")
    again = load(tmp_path / "a")
    assert again.score(X, target, F=candidates) == average.score(X, target, F=candidates)
    if isinstance(loss, str):
        assert again.loss == loss
    else:
        np.testing.assert_array_equal(again.loss(y, y + 1), loss(y, y + 1))


@pytest.mark.parametrize(
    "options",
    [{"network": Mlp(np.int64(5), depth=3)}, {"network": Mlp(depth=0)}, {"training": Training(dtype="float64")}],
)
def test_every_default_network(options, tmp_path):
    average = make(LocalMA, **options).fit(X, y, F=F)
    average.set_params(
        network__width=99, training__dtype="float32"
    )  # the file holds the network, not the parameters' idea of it
    average.save(tmp_path / "a")
    np.testing.assert_array_equal(load(tmp_path / "a").weights(X), average.weights(X))


def test_models_after_loading(tmp_path):
    names = ["a", "b", "c"]
    named = list(zip(names, MODELS, strict=True))
    average = make(LocalMA, models=named).fit(X, y)
    average.save(tmp_path / "a")
    for models in (named, MODELS):
        np.testing.assert_array_equal(load(tmp_path / "a", models).predict(X), average.predict(X))
    with pytest.raises(ValueError, match="F is missing"):
        load(tmp_path / "a").predict(X)
    with pytest.raises(ValueError, match=r"models has 2 entries.*3: a, b, c"):
        load(tmp_path / "a", MODELS[:2])
    for wrong, message in [
        (named[::-1], "another order than in the fit of .*a, b, c"),
        (
            [("a", MODELS[0]), ("x", MODELS[1]), MODELS[2]],
            r"models\[1\] is 'x', but .* was fitted with 'b' in its place; give a, b, c",
        ),
        ([MODELS[0], ("a", MODELS[1]), MODELS[2]], r"models\[1\] is 'a', but .* with 'b'"),
        ([MODELS[0], ("b", 3), MODELS[2]], r"models\[1\] has no predict method"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            load(tmp_path / "a", wrong)
    again = load(tmp_path / "a", named)
    again.save(tmp_path / "b")
    np.testing.assert_array_equal(load(tmp_path / "b", named).predict(X), average.predict(X))


def test_models_get_names_after_a_fit_that_knew_none(tmp_path):
    average = GlobalMA().fit(X, y, F=np.stack([model(X) for model in MODELS], 1))
    average.save(tmp_path / "a")
    named = list(zip(["a", "b", "c"], MODELS, strict=True))
    np.testing.assert_array_equal(
        load(tmp_path / "a", named).predict(X), average.predict(X, F=np.stack([m(X) for m in MODELS], 1))
    )
    with pytest.raises(ValueError, match="another order"):
        load(tmp_path / "a", [("f2", MODELS[0]), ("f1", MODELS[1]), MODELS[2]])


def test_one_model_labels_and_feature_names(tmp_path):
    average = make(LocalMA).fit(X, y, F=F[:, :1])
    average.save(tmp_path / "one")
    np.testing.assert_array_equal(load(tmp_path / "one").predict(X, F=F[:, :1]), F[:, 0])
    frame = pd.DataFrame(X, columns=["size", "age"])
    for labels in (
        np.array(["no", "yes", "maybe"], dtype=object),
        np.array([5, 7, 9]),
        np.array([1, 2, 2**63 + 5], dtype=np.uint64),
    ):
        average = make(LocalMA, loss="cross_entropy").fit(frame, pd.Series(labels[np.arange(60) % 3]), F=P)
        average.save(tmp_path / "labels")
        again = load(tmp_path / "labels")
        assert again.predict(frame, F=P).tolist() == average.predict(frame, F=P).tolist()
        np.testing.assert_array_equal(again.feature_names_in_, ["size", "age"])
        assert again.classes_.dtype == average.classes_.dtype
        with pytest.raises(ValueError, match="feature names"):
            again.weights(frame[["age", "size"]])


def body(M=3):
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, M))


@pytest.mark.filterwarnings("ignore:the network is not trained to its end")
def test_network_of_ones_own(tmp_path):
    average = make(LocalMA, network=body, training=Training(learning_rate=0.05)).fit(X, y, F=F)
    average.save(tmp_path / "a")
    fresh = body()
    before = fresh[0].weight.clone()
    for network in (fresh, body, localma.WeightNetwork(body())):
        np.testing.assert_array_equal(load(tmp_path / "a", network=network).weights(X), average.weights(X))
    assert torch.equal(fresh[0].weight, before)  # the caller's module is copied, not filled
    with pytest.raises(ValueError, match="network="):
        load(tmp_path / "a")
    with pytest.raises(ValueError, match="network does not have the shapes"):
        load(tmp_path / "a", network=mlp(2, 3))
    tokens = np.arange(120).reshape(60, 2) % 7
    embedding = nn.Sequential(nn.EmbeddingBag(7, 4), nn.Linear(4, 3))
    average = make(LocalMA, network=embedding).fit(tokens, y, F=F)
    average.save(tmp_path / "tokens")
    np.testing.assert_array_equal(load(tmp_path / "tokens", network=embedding).weights(tokens), average.weights(tokens))


class Parallel(nn.Module):
    """A body that calls its layers by the name that the average of several bodies calls them by."""

    def __init__(self, M=3):
        super().__init__()
        self.bodies = nn.ModuleList([nn.Linear(2, 4), nn.Linear(4, M)])

    def forward(self, x):
        return self.bodies[1](torch.relu(self.bodies[0](x)))


@pytest.mark.parametrize("options", [{}, {"members": 2, "bootstrap": 2}])
def test_a_body_with_bodies(options, tmp_path):
    average = make(LocalMA, network=Parallel, training=Training(learning_rate=0.05), shrinkage=None, **options).fit(
        X, y, F=F
    )
    average.save(tmp_path / "a")
    again = load(tmp_path / "a", network=Parallel)
    np.testing.assert_array_equal(again.weights(X), average.weights(X))
    if options:
        np.testing.assert_array_equal(again.weights(X, True)[1], average.weights(X, True)[1])


def test_losses_of_ones_own(tmp_path, monkeypatch):
    def poisson(y, a):  # a user's function with the name of another loss
        return (y - a).abs()

    average = make(LocalMA, loss=poisson, shrinkage=0.01).fit(X, y, F=F)
    average.save(tmp_path / "a")
    with pytest.raises(ValueError, match=r"loss 'poisson'.*loss="):
        load(tmp_path / "a")
    assert load(tmp_path / "a", loss=poisson).score(X, y, F=F) == average.score(X, y, F=F)
    for name in ("tweedie(1.5)", "tweedie(0.5)", "pinball(low)"):
        EqualWeights(loss=Loss(name, poisson)).fit(X, y, F=F).save(tmp_path / "a")
        with pytest.raises(ValueError, match=r"which is not in LOSSES; give it as loss="):
            load(tmp_path / "a")
    monkeypatch.setitem(LOSSES, "mine", Loss("something", poisson))
    make(LocalMA, loss="mine", shrinkage=0.01).fit(X, y, F=F).save(tmp_path / "b")
    assert load(tmp_path / "b").loss == "mine"
    monkeypatch.delitem(LOSSES, "mine")
    with pytest.raises(ValueError, match="mine"):
        load(tmp_path / "b")


@pytest.mark.parametrize("loss", [*LOSSES.values(), tweedie(1.7)], ids=lambda loss: loss.name)
def test_a_clone_forgets_no_loss(loss, tmp_path):
    target, candidates = (np.arange(60) % 3, P) if loss.is_classification else (y, F)
    clone(GlobalMA(loss=loss)).fit(X, target, F=candidates).save(tmp_path / "a")
    assert load(tmp_path / "a")._resolve_loss().name == loss.name


def opened(path):
    """Header and arrays of a saved file."""
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["localma"]), {name: file.get_tensor(name) for name in file.keys()}


def rewritten(path, change, sign=False):
    """A copy of a saved file with its header or arrays changed, signed or not by whoever did it."""
    header, arrays = opened(path)
    change(header, arrays)
    if sign:
        header.pop("digest")
        header["digest"] = digest(header, arrays)
    save_file(arrays, path.with_name("changed"), {"localma": json.dumps(header)})
    return path.with_name("changed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda h, a: h.update(format=99, localma="9.9"),
            r"written by localma 9\.9 in format 99; this version reads format 3: upgrade localma",
        ),
        (lambda h, a: h.update(format=1), r"in format 1; this version reads format 3: fit and save the average again"),
        (lambda h, a: a.update({"network_.1.weight": a["network_.1.weight"][:, :1]}), "damaged"),
        (lambda h, a: a["network_.1.weight"].__setitem__((0, 0), np.nan), "damaged"),
        (lambda h, a: a.update({"network_.1.weight": a["network_.1.weight"].astype("complex64")}), "damaged"),
        (lambda h, a: a.pop("network_.1.bias"), "damaged"),
        (lambda h, a: a.update(more=np.zeros(2)), "damaged"),
        (lambda h, a: h.update(estimator="load"), "damaged"),
        (lambda h, a: h.update(estimator="GlobalMA"), "damaged"),
        (lambda h, a: h["learned"].update(n_models_=2), "damaged"),
        (lambda h, a: h["learned"].pop("model_names_"), "damaged"),
        (lambda h, a: h.pop("digest"), "damaged"),
        (lambda h, a: h.pop("format"), "no saved average"),
    ],
)
def test_changed_files_are_refused(change, message, tmp_path):
    make(LocalMA, shrinkage=None).fit(X, y, F=F).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=message):
        load(rewritten(tmp_path / "a.npz", change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda h, a: h.update(estimator="Elsewhere", module="of.mine"),
            "saved by Elsewhere of of.mine, which is not defined here; import",
        ),
        (
            lambda h, a: h.update(estimator="GlobalMA", module="localma.averages.constant"),
            "saved by another GlobalMA than the one defined here",
        ),
    ],
)
def test_files_of_classes_that_are_not_here(change, message, tmp_path):
    make(LocalMA, shrinkage=None).fit(X, y, F=F).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=message):
        load(rewritten(tmp_path / "a.npz", change, sign=True))


def test_a_class_that_has_moved_is_found(tmp_path):
    GlobalMA().fit(X, y, F=F).save(tmp_path / "a.npz")
    assert (
        type(load(rewritten(tmp_path / "a.npz", lambda h, a: h.update(module="localma.before"), sign=True))) is GlobalMA
    )


def test_a_file_of_an_earlier_version_says_what_to_do(tmp_path):
    np.savez(tmp_path / "old.npz", header=np.array(b"{}"))
    with pytest.raises(ValueError, match=r"no saved average.*an earlier localma wrote zip files: fit and save again"):
        load(tmp_path / "old.npz")


def test_foreign_and_broken_files_are_refused(tmp_path):
    make(LocalMA).fit(X, y, F=F).save(tmp_path / "good")
    data = (tmp_path / "good").read_bytes()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "half").write_bytes(data[: len(data) // 2])
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": torch.ones(1)}, tmp_path / "torch")
    with open(tmp_path / "array", "wb") as file:
        np.save(file, np.ones(3))
    save_file({"a": np.ones(3)}, tmp_path / "other")
    save_file({"a": np.ones(3)}, tmp_path / "strange", {"localma": "no json"})
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a", "b")
    for name in ("text", "empty", "half", "pickle", "torch", "array", "other", "strange", "zip"):
        with pytest.raises(ValueError, match="no saved average, or is damaged"):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")


def test_no_byte_is_changed_without_notice(tmp_path):
    GlobalMA().fit(X, y, F=F).save(tmp_path / "good")
    data = (tmp_path / "good").read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        (tmp_path / "changed").write_bytes(changed)
        with pytest.raises(ValueError, match=r"damaged|this version reads format 3"):
            load(tmp_path / "changed")
    for end in range(len(data)):
        (tmp_path / "changed").write_bytes(data[:end])
        with pytest.raises(ValueError, match="damaged"):
            load(tmp_path / "changed")


def test_an_average_loads_in_a_new_session(tmp_path):
    relatives.LocalSelection().fit(X, y, F=F).save(tmp_path / "a")
    code = f"import localma; print(type(localma.load({str(tmp_path / 'a')!r})).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "LocalSelection", done.stderr


class Trap:
    """Unpickling it would leave a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_is_ever_unpickled(tmp_path):
    objects = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.savez(tmp_path / "evil.npz", header=objects, weights=objects)
    with pytest.raises(ValueError, match="no saved average"):
        load(tmp_path / "evil.npz")
    assert not (tmp_path / "sprung").exists()
    make(LocalMA).fit(X, y, F=F).save(tmp_path / "a.npz")
    assert opened(tmp_path / "a.npz")[0]["localma"] == localma.__version__


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    make(LocalMA).fit(X, y, F=F).save(path)
    old = path.read_bytes()

    def interrupted(arrays, text):
        raise KeyboardInterrupt

    monkeypatch.setattr("localma.averages.estimator.save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(EqualWeights).fit(X, y, F=F).save(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a"]


def test_the_file_can_be_read_by_whom_the_folder_lets(tmp_path):
    umask = os.umask(0o022)
    try:
        EqualWeights().fit(X, y, F=F).save(tmp_path / "a")
    finally:
        os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("options", "network"),
    [
        ({"shrinkage": "cv", "bootstrap": 3}, None),
        ({"shrinkage": 0.02, "members": 2, "bootstrap": 3}, None),
        ({"shrinkage": float("inf"), "bootstrap": 3}, None),
        ({"shrinkage": None, "members": 3}, None),
        ({"shrinkage": 0.02, "bootstrap": 2}, mlp(2, 3, width=4)),
        ({"shrinkage": 0.02, "members": 2, "bootstrap": 2}, lambda M: mlp(2, M, width=4)),
        ({"shrinkage": float("inf")}, mlp(2, 3, width=4)),
    ],
)
def test_shrunk_averages_and_their_bands(options, network, tmp_path):
    average = make(LocalMA, network=network, **options).fit(X, y, F=F)
    average.save(tmp_path / "a")
    again = load(tmp_path / "a", network=network)
    bands = bool(options.get("bootstrap"))
    for one, other in zip(
        np.atleast_1d(average.weights(X, bands)), np.atleast_1d(again.weights(X, bands)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert again.shrinkage_ == average.shrinkage_
    assert again.fit_info_.training == average.fit_info_.training
    np.testing.assert_array_equal(again.fit_info_.train_loss, average.fit_info_.train_loss)
    assert (again.cv_results_ is None) == (options["shrinkage"] != "cv")


@pytest.mark.filterwarnings("ignore:the network is not trained to its end")
@pytest.mark.parametrize("loss", ["squared", "poisson", "cross_entropy"])
def test_direct_models_save_as_well(loss, tmp_path):
    target, outputs = (np.array(["no", "yes", "maybe"])[np.arange(60) % 3], 3) if loss == "cross_entropy" else (y, 1)
    learner = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, outputs))
    model = DirectModel(learner, loss=loss, training=Training(steps=5), progress=False, random_state=0)
    model.fit(X, target).save(tmp_path / "a")
    again = load(tmp_path / "a", network=learner)
    assert again.predict(X).tolist() == model.predict(X).tolist()
    assert again.score(X, target) == model.score(X, target)
    assert again.fit(X, target).predict(X).tolist() == model.predict(X).tolist(), "it is its settings, too"
    with pytest.raises(ValueError, match="network="):
        load(tmp_path / "a")
    with pytest.raises(ValueError, match="network does not have the shapes"):
        load(tmp_path / "a", network=nn.Linear(2, outputs))
    tree = DecisionTreeRegressor().fit(X, y)
    DirectModel(DecisionTreeRegressor()).fit(X, y).save(tmp_path / "tree")
    assert load(tmp_path / "tree", direct=tree).score(X, y) == tree.score(X, y)
    with pytest.raises(ValueError, match=r"learner that are code; give the fitted one, average\.learner_, as direct="):
        load(tmp_path / "tree")
