"""Saved averages: bit for bit what was fitted, or a clear refusal."""

import json
import os
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch import nn

import localma
from localma import LOSSES, BestModel, EqualWeights, GlobalMA, LocalMA, Loss, load, mlp, pinball, tweedie

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
F = np.exp(rng.normal(size=(60, 3)))
y = rng.gamma(3, F.mean(1) / 3)
P = rng.dirichlet(np.ones(3), (60, 3))
MODELS = [lambda X: np.exp(X[:, 0]), lambda X: np.exp(X[:, 1]), lambda X: np.exp(X.sum(1))]


def make(kind, **options):
    return kind(**({"random_state": 0, "steps": 8} | options if kind is LocalMA else options))


@pytest.mark.parametrize("loss", [*LOSSES, tweedie(1.23456789), pinball(0.123456789)])
@pytest.mark.parametrize("kind", [LocalMA, GlobalMA, EqualWeights, BestModel])
def test_round_trip_is_bit_equal(kind, loss, tmp_path):
    classes = loss == "cross_entropy"
    target, candidates = (np.arange(60) % 3, P) if classes else (y, F)
    average = make(kind, loss=loss).fit(X, target, F=candidates)
    average.save(tmp_path / "average.npz")
    again = load(tmp_path / "average.npz")
    assert type(again) is kind
    np.testing.assert_array_equal(again.weights(X), average.weights(X))
    np.testing.assert_array_equal(again.predict(X, F=candidates), average.predict(X, F=candidates))
    if classes:
        np.testing.assert_array_equal(again.predict_proba(X, F=candidates), average.predict_proba(X, F=candidates))
    else:
        np.testing.assert_array_equal(again._resolve_loss()(y, y + 1), average._resolve_loss()(y, y + 1))
    assert again.model_names_ == average.model_names_
    assert again.score(X, target, F=candidates) == average.score(X, target, F=candidates)


@pytest.mark.parametrize("options", [{"width": np.int64(5), "depth": 3}, {"depth": 0}, {"dtype": "float64"}])
def test_every_default_network(options, tmp_path):
    average = make(LocalMA, **options).fit(X, y, F=F)
    average.set_params(width=99, dtype="float32")  # after the fit: the file holds the network, not the parameters' idea of it
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
    with pytest.raises(ValueError, match="order"):
        load(tmp_path / "a", named[::-1])
    again = load(tmp_path / "a", named)
    again.save(tmp_path / "b")
    np.testing.assert_array_equal(load(tmp_path / "b", named).predict(X), average.predict(X))


def test_one_model_labels_and_feature_names(tmp_path):
    average = make(LocalMA).fit(X, y, F=F[:, :1])
    average.save(tmp_path / "one")
    np.testing.assert_array_equal(load(tmp_path / "one").predict(X, F=F[:, :1]), F[:, 0])
    frame = pd.DataFrame(X, columns=["size", "age"])
    for labels in (np.array(["no", "yes", "maybe"], dtype=object), np.array([5, 7, 9])):
        average = make(LocalMA, loss="cross_entropy").fit(frame, pd.Series(labels[np.arange(60) % 3]), F=P)
        average.save(tmp_path / "labels")
        again = load(tmp_path / "labels")
        assert again.predict(frame, F=P).tolist() == average.predict(frame, F=P).tolist()
        np.testing.assert_array_equal(again.feature_names_in_, ["size", "age"])
        with pytest.raises(ValueError, match="feature names"):
            again.weights(frame[["age", "size"]])


def body(M=3):
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, M))


def test_network_of_ones_own(tmp_path):
    average = make(LocalMA, network=body, learning_rate=0.05).fit(X, y, F=F)
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
    average = make(LocalMA, network=Parallel, learning_rate=0.05, shrinkage=None, **options).fit(X, y, F=F)
    average.save(tmp_path / "a")
    again = load(tmp_path / "a", network=Parallel)
    np.testing.assert_array_equal(again.weights(X), average.weights(X))
    if options:
        np.testing.assert_array_equal(again.weights(X, True)[1], average.weights(X, True)[1])


def test_files_that_do_not_say_how_many_networks(tmp_path):
    """As they were written before."""
    average = make(LocalMA, members=2, bootstrap=3, shrinkage=0.02).fit(X, y, F=F)
    average.save(tmp_path / "a.npz")
    again = load(rewritten(tmp_path / "a.npz", lambda h, a: h.pop("networks")))
    for one, other in zip(again.weights(X, True), average.weights(X, True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_losses_of_ones_own(tmp_path, monkeypatch):
    def poisson(y, a):  # a user's function with the name of another loss
        return (y - a).abs()

    average = make(LocalMA, loss=poisson).fit(X, y, F=F)
    average.save(tmp_path / "a")
    with pytest.raises(ValueError, match=r"loss 'poisson'.*loss="):
        load(tmp_path / "a")
    assert load(tmp_path / "a", loss=poisson).score(X, y, F=F) == average.score(X, y, F=F)
    monkeypatch.setitem(LOSSES, "mine", Loss("something", poisson))
    make(LocalMA, loss="mine").fit(X, y, F=F).save(tmp_path / "b")
    assert load(tmp_path / "b").loss == "mine"
    monkeypatch.delitem(LOSSES, "mine")
    with pytest.raises(ValueError, match="mine"):
        load(tmp_path / "b")


@pytest.mark.parametrize("loss", [*LOSSES.values(), tweedie(1.7)], ids=lambda loss: loss.name)
def test_a_clone_forgets_no_loss(loss, tmp_path):
    target, candidates = (np.arange(60) % 3, P) if loss.is_classification else (y, F)
    clone(GlobalMA(loss=loss)).fit(X, target, F=candidates).save(tmp_path / "a")
    assert load(tmp_path / "a")._resolve_loss().name == loss.name


def rewritten(path, change):
    """A copy of a saved file with its header or arrays changed."""
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("header")))
    change(header, arrays)
    new = path.with_name("changed.npz")
    with open(new, "wb") as file:
        np.savez(file, header=np.array(json.dumps(header)), **arrays)
    return new


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, a: h.update(format=99, localma="9.9"), r"written by localma 9\.9 in format 99.*upgrade"),
        (lambda h, a: a.update({"network.1.weight": a["network.1.weight"][:, :1]}), "damaged"),
        (lambda h, a: a.pop("network.1.bias"), "damaged"),
        (lambda h, a: a.update(more=np.zeros(2)), "damaged"),
        (lambda h, a: h.update(estimator="load"), "damaged"),
        (lambda h, a: h.update(estimator="GlobalMA"), "damaged"),
        (lambda h, a: h.update(n_models=2), "damaged"),
        (lambda h, a: h.pop("model_names"), "damaged"),
        (lambda h, a: h.pop("body"), "damaged"),
        (lambda h, a: h.pop("format"), "no saved average"),
        (lambda h, a: h.pop("shapes"), "no saved average"),
    ],
)
def test_changed_files_are_refused(change, message, tmp_path):
    make(LocalMA, shrinkage=None).fit(X, y, F=F).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=message):
        load(rewritten(tmp_path / "a.npz", change))


def test_foreign_and_broken_files_are_refused(tmp_path):
    make(LocalMA).fit(X, y, F=F).save(tmp_path / "good")
    data = (tmp_path / "good").read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0xFF
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "half").write_bytes(data[: len(data) // 2])
    (tmp_path / "flipped").write_bytes(flipped)
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": torch.ones(1)}, tmp_path / "torch")
    with open(tmp_path / "array", "wb") as file:
        np.save(file, np.ones(3))
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    np.savez(tmp_path / "strange.npz", header=np.array("no json"))
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a", "b")
    for name in ("text", "empty", "half", "flipped", "pickle", "torch", "array", "other.npz", "strange.npz", "zip"):
        with pytest.raises(ValueError, match="no saved average, or is damaged"):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")


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
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
        assert json.loads(str(file["header"]))["localma"] == localma.__version__


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    make(LocalMA).fit(X, y, F=F).save(path)
    old = path.read_bytes()

    def interrupted(file, **arrays):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
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
    for one, other in zip(np.atleast_1d(average.weights(X, bands)), np.atleast_1d(again.weights(X, bands)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.shrinkage_ == average.shrinkage_
    assert (again.cv_results_ is None) == (options["shrinkage"] != "cv")
