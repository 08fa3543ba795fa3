"""The experiment on CIFAR-10: its parts, and the whole of it on made-up images."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from localma.datasets import load_cifar10
from localma.engine import global_weights
from localma.losses import LOSSES
from localma.replication import cifar10, load_results, printed
from localma.replication.cifar10 import (
    CONFIGURATION,
    KNOWS,
    OWN,
    companies,
    experiment,
    methods,
    networks,
    tuning,
)
from localma.replication.cifar10.companies import company_images, train_companies
from localma.replication.cifar10.networks import Augment
from localma.replication.lab import cache, results

# --- the companies -------------------------------------------------------------------------------------------------------------------


def test_every_class_has_a_company_and_neighbours_share_two():
    assert KNOWS.any(1).all()
    assert (KNOWS.sum(0) == 4).all()
    for one, two in (("A", "B"), ("B", "C"), ("C", "D")):
        assert len(set(OWN[one]) & set(OWN[two])) == 2


def test_a_company_has_all_of_its_classes_and_fifty_others():
    labels = np.repeat(np.arange(10), 200)
    mine = company_images(labels, OWN["B"], np.random.default_rng(0))
    counts = np.bincount(labels[mine], minlength=10)
    assert len(set(mine)) == len(mine) == 4 * 200 + 50
    assert (counts[list(OWN["B"])] == 200).all()
    assert counts.sum() - 800 == 50


def test_companies_are_good_at_home_and_sell_probabilities():
    rng = np.random.default_rng(0)
    centres = 0.8 * rng.standard_normal((10, 20))
    y, y_test = rng.integers(0, 10, 2000), rng.integers(0, 10, 500)
    X, X_test = ([centres[labels] + rng.standard_normal((len(labels), 20)) for _ in OWN] for labels in (y, y_test))
    F, F_test, C = train_companies(X, y, X_test)
    assert F.shape == (2000, 4, 10)
    np.testing.assert_allclose(F_test.sum(-1), 1, atol=1e-5)
    right = F_test.argmax(-1) == y_test[:, None]
    assert right[KNOWS[y_test]].mean() > 0.9
    assert right[KNOWS[y_test]].mean() > right[~KNOWS[y_test]].mean() + 0.1
    assert set(C) <= set(companies.PENALTIES)
    again, _, _ = train_companies(X, y, X_test)
    np.testing.assert_array_equal(F, again)


def test_a_class_that_a_company_lacks_is_named(monkeypatch):
    monkeypatch.setattr(companies, "OTHERS", 3)
    y = np.repeat(np.arange(10), 60)
    X = [np.zeros((600, 2))] * 4
    with pytest.raises(ValueError, match=r"company A has no image of .*take another seed"):
        train_companies(X, y, X)


# --- the weight network --------------------------------------------------------------------------------------------------------------


def test_augmentation_changes_images_in_training_only():
    torch.manual_seed(0)
    x = torch.rand(16, 32, 32, 3) * 255
    augment = Augment()
    calm = augment.eval()(x)
    torch.testing.assert_close(calm, 4 * x.permute(0, 3, 1, 2) / 255 - 2)
    moved = augment.train()(x)
    assert moved.shape == calm.shape
    assert (moved - calm).abs().mean((1, 2, 3)).min() > 0.05  # every image is moved
    assert calm.min() >= -2
    assert moved.min() >= -2
    assert moved.max() <= 2


def test_without_rotation_and_jitter_the_augmentation_flips_half_of_the_images():
    torch.manual_seed(0)
    x = torch.rand(400, 32, 32, 3) * 255
    calm = Augment().eval()(x)
    out = Augment(degrees=0, jitter=0).train()(x)
    mirrored = torch.isclose(out, calm.flip(-1), atol=1e-4).flatten(1).all(1)
    same = torch.isclose(out, calm, atol=1e-4).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 0.4 < mirrored.float().mean() < 0.6


def test_brightness_and_contrast_stay_within_a_fifth():
    torch.manual_seed(0)
    x = torch.full((500, 32, 32, 3), 100.0)  # without contrast: only the brightness shows
    factor = (Augment(degrees=0).train()(x).mean((1, 2, 3)) + 2) / 4 / (100 / 255)
    assert 0.8 <= factor.min() < 0.83
    assert 1.17 < factor.max() <= 1.2001


# --- the networks --------------------------------------------------------------------------------------------------------------------


def test_features_are_kept_and_an_interrupted_computation_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(networks, "PART", 4)
    seen = []

    def embedding(_):
        def embed(images):
            seen.append(len(images))
            if len(seen) == 2:
                raise KeyboardInterrupt
            return images.reshape(len(images), -1)[:, :3] / 2

        return embed

    monkeypatch.setattr(networks, "_tflite", embedding)
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(KeyboardInterrupt):
        networks.features("MobileNetV1 0.25", images)
    found = networks.features("MobileNetV1 0.25", images)
    assert seen == [4, 4, 4, 2], "the first part of four images was kept"
    np.testing.assert_allclose(found, images.reshape(10, -1)[:, :3] / 2)
    networks.features("MobileNetV1 0.25", images)
    assert len(seen) == 4


def test_without_networks_the_error_says_what_each_family_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr("localma.datasets.find.cache_folder", lambda: tmp_path)
    monkeypatch.delenv("LOCALMA_DATA", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"torchvision: .*tflite: .*"):
        networks.choose_family()
    with pytest.raises(ValueError, match="family"):
        networks.available("caffe")


def test_the_stand_ins_see_an_image():
    if lacking := networks.available("tflite"):
        pytest.skip(lacking)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = networks._tflite("MobileNetV1 0.25")(images)
    assert found.shape == (2, 256)
    assert found.min() >= 0
    assert (found[0] != found[1]).any()


@pytest.mark.parametrize("name", list(networks.TORCHVISION))
def test_the_papers_networks_with_random_weights(torchvision, name):
    if torchvision is None:
        pytest.skip("torchvision is not installed: the paper's own networks cannot be tried")
    found = networks._torchvision(name, pretrained=False)(np.zeros((2, 32, 32, 3), np.uint8))
    assert found.shape == (2, {"ResNet18": 512, "DenseNet121": 1024, "GoogLeNet": 1024, "EfficientNetB0": 1280}[name])


# --- the experiment ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    out = tmp_path_factory.mktemp("cifar10")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "CONFIGURATION", CONFIGURATION | {"steps": 10})
        table = cifar10.run(synthetic=True, out=out, sizes=(200, 400), repetitions=2)
    return table, out


def test_the_run_on_made_up_images_says_so_everywhere(tried, capsys):
    table, out = tried
    names = {p.name for p in out.iterdir()}
    assert names == {f"cifar10-synthetic{stem}.{end}" for stem in ("", "-weights") for end in ("csv", "json")} | {
        "cifar10-synthetic-predictions.npz"
    }
    provenance = json.loads((out / "cifar10-synthetic.json").read_text())["configuration"]
    assert provenance["images"] == "synthetic"
    assert provenance["networks"]["A"] == "pixels"
    assert table["replications"].isin([1, 2]).all()
    weights = pd.read_csv(out / "cifar10-synthetic-weights.csv")
    np.testing.assert_allclose(weights.groupby(["n", "class"])["mean"].sum(), 1, atol=1e-4)


def test_a_longer_run_goes_on_where_a_shorter_one_was_interrupted(tmp_path, monkeypatch):
    calls = []
    real = experiment.repetition

    def counted(r, n, things, **more):
        calls.append(r)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(r, n, things, **more)

    monkeypatch.setattr(experiment, "repetition", counted)
    monkeypatch.setattr(methods, "CONFIGURATION", CONFIGURATION | {"steps": 3})
    with pytest.raises(KeyboardInterrupt):
        cifar10.run(synthetic=True, out=tmp_path, sizes=(100,), repetitions=2)
    cifar10.run(synthetic=True, out=tmp_path, sizes=(100,), repetitions=3)
    assert calls == [0, 1, 1, 2]


def test_the_table_can_be_computed_again_from_the_stored_predictions(tried, monkeypatch):
    """Global weights, from the training rows in their order, and each company, up to half precision."""
    table, out = tried
    monkeypatch.setattr(results, "files", lambda package: out)
    (out / "results").mkdir(exist_ok=True)
    stored = out / "results" / "cifar10-predictions.npz"
    stored.write_bytes((out / "cifar10-synthetic-predictions.npz").read_bytes())
    (F, y), (F_test, y_test) = (cifar10.load_predictions(part) for part in ("train", "test"))
    stored.unlink()
    stored.parent.rmdir()
    data = load_cifar10(synthetic=True)
    np.testing.assert_array_equal(y, data.labels)
    found = table.set_index(["n", "method", "metric"])["mean"]
    scores = []
    for r in range(2):
        rows = np.random.default_rng([0, 1, r]).permutation(len(y))[:200]
        w = global_weights(F[rows], y[rows], LOSSES["cross_entropy"])
        scores.append(methods.scores(w, F_test, y_test))
    accuracy, loss = np.mean(scores, 0)
    assert accuracy == pytest.approx(found[200, "GW", "accuracy"], abs=100 / len(y_test))
    assert loss == pytest.approx(found[200, "GW", "log loss"], rel=1e-3)
    for m, company in enumerate(OWN):
        assert found[0, f"company {company}", "log loss"] == pytest.approx(
            methods.scores(np.eye(4)[m], F_test, y_test)[1], rel=1e-3
        )
    with pytest.raises(ValueError, match="part must be one of 'test', 'train', but is 'validation'"):
        cifar10.load_predictions("validation")


def test_before_the_networks_see_all_images_the_run_says_so(tmp_path, monkeypatch, capsys):
    def stop(name, *_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(companies, "features", stop)
    made_up = load_cifar10(synthetic=True)
    count = {companies: len(made_up.labels) + len(made_up.test_labels), tuning: len(made_up.labels)}
    for module, images in count.items():
        monkeypatch.setattr(module, "load_cifar10", lambda synthetic: made_up)
        monkeypatch.setattr(module, "choose_family", lambda: "tflite")
        module.material.cache_clear()
        with pytest.raises(KeyboardInterrupt):
            module.material()
        said = capsys.readouterr().out
        assert f"first {images:,} images go" in said
        assert all(name in said for name in networks.FAMILIES["tflite"])


def test_a_run_in_one_process_trains_the_companies_once(monkeypatch):
    trained, real = [], companies.train_companies
    monkeypatch.setattr(
        companies, "train_companies", lambda *sample, **more: trained.append(more["seed"]) or real(*sample, **more)
    )
    monkeypatch.setattr(methods, "CONFIGURATION", CONFIGURATION | {"steps": 3})
    companies.material.cache_clear()
    cifar10.run(synthetic=True, sizes=(100,), repetitions=1)
    assert trained == [0]


def test_printed_table_5():
    table = printed(5)
    assert len(table) == 25
    assert table.query("method == 'LocalMA'")["n"].tolist() == list(experiment.SIZES)
    assert table.query("method == 'EWMA'")["mean"].item() == 65.05


# --- the validation ------------------------------------------------------------------------------------------------------------------


def test_the_held_out_images_are_new_to_validation():
    held = tuning.held_out(50_000)
    assert len(set(held)) == 5000
    for r in range(2):  # the earlier validation, draw by draw
        spent = np.random.default_rng([0, 2, r]).permutation(50_000)[:5000]
        assert not set(held) & set(spent)


def test_companies_and_samples_of_the_validation_never_see_the_held_out_images(monkeypatch):
    tuning.material.cache_clear()
    told = []
    real = companies.train_companies

    def counted(X, labels, X_test, **more):
        told.append((len(labels), len(X_test[0])))
        return real(X, labels, X_test, **more)

    monkeypatch.setattr(companies, "train_companies", counted)
    things = tuning.material(synthetic=True)
    everything = load_cifar10(synthetic=True)
    assert told == [(1800, 200)]
    assert things.F.shape == (1800, 4, 10)
    np.testing.assert_array_equal(things.data.test_images, everything.images[tuning.held_out(2000)])
    seen = {image.tobytes() for image in things.data.images}
    assert not seen & {image.tobytes() for image in things.data.test_images}


def test_the_rule_picks_the_most_accurate_and_then_the_lower_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "GRID", ((2, 1.0), (3, 1.0)))
    monkeypatch.setattr(tuning, "SIZES", (100, 200))
    monkeypatch.setattr(tuning, "REPETITIONS", 2)
    table = tuning.Validation.run(synthetic=True, out=tmp_path)
    assert table["method"].tolist() == ["LocalMA", "LocalMA", "GW", "EWMA"]
    sizes = table[["accuracy n = 100", "accuracy n = 200"]]
    np.testing.assert_allclose(sizes.mean(axis=1), table["accuracy"])
    assert {p.name for p in tmp_path.iterdir()} == {"cifar10-tuning-synthetic.csv", "cifar10-tuning-synthetic.json"}
    table.loc[:, "accuracy"] = [60.0, 70.0, 90.0, 90.0]  # a baseline is no candidate
    assert tuning.choose(table) == {"steps": 3, "penalty": 1.0}
    table.loc[:1, "accuracy"] = 70.0
    table.loc[:1, "log_loss"] = [1.0, 1.1]
    assert tuning.choose(table) == {"steps": 2, "penalty": 1.0}


def test_cooling_keeps_the_choice_and_the_sum():
    F = np.random.default_rng(0).dirichlet(np.ones(10), (50, 4))
    cooled = methods.cool(F)
    np.testing.assert_allclose(cooled.sum(-1), 1)
    np.testing.assert_array_equal(cooled.argmax(-1), F.argmax(-1))
    assert (cooled.max(-1) < F.max(-1)).all()
    np.testing.assert_allclose(cooled, np.sqrt(F) / np.sqrt(F).sum(-1, keepdims=True))


# --- what is committed ---------------------------------------------------------------------------------------------------------------


def test_the_configuration_is_what_the_rule_picks_from_the_committed_validation():
    table, _ = load_results("cifar10-tuning")
    chosen = tuning.FIXED | tuning.choose(table)
    assert chosen == CONFIGURATION
    candidates = table[table["method"] == "LocalMA"]
    assert list(zip(candidates["steps"], candidates["penalty"], strict=True)) == list(tuning.GRID)
    assert (
        candidates["accuracy"].max()
        == candidates.set_index(["steps", "penalty"]).loc[(chosen["steps"], chosen["penalty"]), "accuracy"]
    )


def test_committed_predictions_reproduce_the_committed_accuracies():
    table = load_results("cifar10")[0].set_index(["n", "method", "metric"])["mean"]
    F, y = cifar10.load_predictions()
    assert np.bincount(y).tolist() == [1000] * 10
    for m, company in enumerate(OWN):
        assert 100 * np.mean(F[:, m].argmax(-1) == y) == pytest.approx(
            table[0, f"company {company}", "accuracy"], abs=0.05
        )
    assert 100 * np.mean(F.mean(1).argmax(-1) == y) == pytest.approx(table[0, "EWMA", "accuracy"], abs=0.1)


def test_committed_results_are_of_real_images_and_complete():
    table, provenance = load_results("cifar10")
    said = provenance["configuration"]
    assert said["images"].split()[0] in ("jpeg", "original")
    assert said["repetitions"] == experiment.REPETITIONS
    local = table.query("method == 'LocalMA' and metric == 'accuracy'")
    assert local["n"].tolist() == list(experiment.SIZES)
    assert (local["replications"] == said["repetitions"]).all()
