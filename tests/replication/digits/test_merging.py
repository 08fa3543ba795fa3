"""Merging parameters: each way of it on cases with a known answer, and the promises of the companies' stack."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from localma import BestModel, EqualWeights, GlobalMA, LocalMA
from localma.replication import digits
from localma.replication.digits import merging


@pytest.fixture(scope="module")
def task():
    return merging.load_task(2, seed=5)


@pytest.fixture(scope="module")
def trained(task):
    return merging.companies(task, common=True, stops=(0, 4, 40))


@pytest.fixture(scope="module")
def nets(trained):
    return trained[1][40]


def some_nets(M=3, d=5, h=4, K=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = ((d, h), (1, h), (h, K), (1, K))
    return merging.Net(*(torch.randn(2, M, *shape, generator=g, dtype=torch.float64) for shape in shapes))


def test_task_is_cut_as_in_the_digits_chapter_and_companies_see_the_same(task, monkeypatch):
    X, y = load_digits(return_X_y=True)
    seen = []
    fit = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda self, X, y: (seen.append(X), fit(self, X, y))[1])
    first, sample, test = digits.split(6)
    digits.train_companies(X[first] / 16, y[first])
    for m, images in enumerate(seen):
        np.testing.assert_allclose(task.X_first[1][task.seen[1, m] > 0], images, atol=1e-6)
    np.testing.assert_allclose(task.X[1], X[sample] / 16, atol=1e-6)
    np.testing.assert_array_equal(task.y_test[1], y[test])


def test_training_is_each_network_alone_and_a_stop_is_a_shorter_training(task, trained):
    base, nets = trained
    for b, start in zip(base, nets[0], strict=True):
        torch.testing.assert_close(b, start, rtol=0, atol=0)
    mask = task.seen[0, 2] > 0
    alone = merging.train(
        base.map(lambda p: p[:1, 2:3]),
        task.X_first[:1, None, mask],
        task.y_first[:1, None, mask],
        torch.ones(1, 1, int(mask.sum())),
        (4,),
    )
    for p, q in zip(alone[0], nets[4], strict=True):
        torch.testing.assert_close(p[0, 0], q[0, 2], rtol=1e-3, atol=1e-4)


def test_fine_tuning_teaches_the_own_classes(task, nets):
    right = (nets.logits(task.X_test[:, None]).argmax(-1) == task.y_test[:, None]).double()
    for m, own in enumerate(digits.OWN.values()):
        home = torch.isin(task.y_test, torch.tensor(own))
        assert right[:, m][home].mean() > 0.9 > right[:, m][~home].mean()


def test_own_starts_differ_and_a_common_base_does_not(task):
    for common in (True, False):
        base, _ = merging.companies(task, common=common, stops=(0,))
        assert bool((base.W1[:, 0] == base.W1[:, 1]).all()) == common


def test_soup_of_one_kind_is_itself_and_weights_select():
    nets = some_nets()
    for p, q in zip(nets, merging.soup(nets, torch.tensor([[0.0, 1.0, 0.0]] * 2, dtype=torch.float64)), strict=True):
        torch.testing.assert_close(p[:, 1:2], q)
    for p, q in zip(nets, merging.soup(nets), strict=True):
        np.testing.assert_allclose(q, p.numpy().mean(1, keepdims=True))


def test_greedy_soup_follows_the_recipe(task, nets):
    """Against a loop written out for one repetition at a time."""
    x, y = task.X[:, :60], task.y[:, :60]
    found = merging.greedy_soup(nets, x, y)
    for r in range(2):

        def right(members, r=r):
            return (nets.map(lambda p: p[r, members].mean(0)).logits(x[r]).argmax(-1) == y[r]).sum()

        order = sorted(range(4), key=lambda m: -right([m]))
        chosen = order[:1]
        for m in order[1:]:
            if right([*chosen, m]) >= right(chosen):
                chosen.append(m)
        torch.testing.assert_close(found.W1[r, 0], nets.W1[r, chosen].mean(0))


def test_fisher_equals_automatic_differentiation():
    nets = some_nets(M=1)
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, 7, 5, generator=g, dtype=torch.float64)
    share = torch.tensor([1.0, 1, 0, 1, 1, 1, 0], dtype=torch.float64).expand(2, 1, 7)
    info = merging.fisher(nets, x, share)
    one = merging.Net(*(p[1, 0].clone().requires_grad_() for p in nets))
    total = [torch.zeros_like(p) for p in one]
    for row in x[1, 0][share[1, 0] > 0]:
        log_p = torch.log_softmax(one.logits(row[None]), -1)[0]
        for k in range(3):
            for t, gradient in zip(total, torch.autograd.grad(log_p[k], one, retain_graph=True), strict=True):
                t += log_p[k].exp().detach() * gradient**2 / 5
    for t, f in zip(total, info, strict=True):
        torch.testing.assert_close(f[1, 0], t)


def test_fisher_merge_between_its_limits():
    nets, info = some_nets(), some_nets(seed=1).map(torch.square)
    for p, q, f in zip(merging.fisher_merge(nets, info.map(lambda f: 1e9 * f)), nets, info, strict=True):
        np.testing.assert_allclose(p, np.average(q, axis=1, weights=f, keepdims=True), rtol=1e-8)
    nothing = info.map(torch.zeros_like)
    for p, q in zip(merging.fisher_merge(nets, nothing), merging.soup(nets), strict=True):
        torch.testing.assert_close(p, q)


def test_permuted_networks_are_the_same_functions_and_alignment_undoes_it():
    nets = some_nets(M=1).map(lambda p: p.expand(-1, 3, -1, -1))
    order = torch.tensor([[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]]).expand(2, 3, 4)
    shuffled = merging.permute(nets, order)
    x = torch.randn(2, 1, 9, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(shuffled.logits(x), nets.logits(x))
    assert (shuffled.W1 != nets.W1).any()
    for p, q in zip(merging.align(shuffled), nets, strict=True):
        torch.testing.assert_close(p, q)


def test_alignment_finds_the_nearest_of_all_orders():
    nets = some_nets(M=2, seed=4)

    def distance(nets):
        return sum(((p[:, 0] - p[:, 1]) ** 2).sum((-1, -2)) for p in nets)

    every = [
        distance(merging.permute(nets, torch.tensor([[0, 1, 2, 3], order]).expand(2, 2, 4)))
        for order in itertools.permutations(range(4))
    ]
    torch.testing.assert_close(distance(merging.align(nets)), torch.stack(every).min(0).values)


def test_table_equals_estimators_alone(task, nets):
    table, weights = merging.compare_methods(task, nets, merging.draw(2, 1), n=80, seed=5)
    wide = table.pivot(index="repetition", columns="method", values="accuracy")
    assert set(wide) == set(merging.METHODS)
    X, y, X_test = task.X[1, :80].double().numpy(), task.y[1, :80].numpy(), task.X_test[1].double().numpy()
    F, F_test = (
        nets.probabilities(x[:, None])[1].transpose(0, 1).double().numpy() for x in (task.X[:, :80], task.X_test)
    )
    for method, average in {
        "LocalMA": LocalMA(loss="cross_entropy", shrinkage=None, random_state=6),
        "GW": GlobalMA(loss="cross_entropy"),
        "EWMA": EqualWeights(loss="cross_entropy"),
        "BestModel": BestModel(loss="cross_entropy"),
    }.items():
        average.fit(X, y, F=F)
        assert wide[method][1] == pytest.approx(
            np.mean(average.predict(X_test, F=F_test) == task.y_test[1].numpy()), abs=0.002
        )
        if method == "LocalMA":
            np.testing.assert_allclose(weights[1], average.weights(X_test), atol=1e-3)
    merged = merging.soup(nets).logits(task.X_test[:, None])[:, 0].argmax(-1)
    assert wide["soup"][1] == pytest.approx((merged[1] == task.y_test[1]).double().mean().item())


def test_own_training_starts_where_it_is_told(task, nets):
    """From the merged network, both ways to train are one."""
    merged = merging.fisher_merge(nets, merging.fisher(nets, task.X_first[:, None], task.seen))
    table, _ = merging.compare_methods(task, nets, merged, n=40)
    wide = table.pivot(index="repetition", columns="method", values="accuracy")
    np.testing.assert_allclose(wide["DirectModel"], wide["Fisher, then trained"])


def test_stops_must_be_there(task):
    with pytest.raises(ValueError, match="stops"):
        merging.companies(task, common=True, stops=(3, 1))


def test_neighbours_are_whole():
    table = merging.neighbours()
    assert not table.isna().any().any()
    assert table.name.is_unique
    assert table.work.is_unique
    assert set(table.combines) == {"predictions", "features", "parameters", "language models"}
    assert set(table.local) == {"no", "chosen", "yes"}
    assert set(table.access) == {"calls", "inside", "training"}
    assert set(table.checked) == {"yes", "no"}
