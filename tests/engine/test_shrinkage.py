"""Shrinkage towards global weights, its cross-validation, averages of networks, and bands from resampled data."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from localma import LOSSES, GlobalMA, LocalMA, mlp, tweedie
from localma.engine import MULTIPLES, Training, WeightNetwork, cross_validate, fit_local_stack, fit_stack, grid, train
from localma.engine.networks import Mixture
from localma.engine.simplex import soften
from localma.engine.stacks import ModuleStack
from localma.engine.validation import FOLDS, LARGER, SMALLER, _clustered_error
from localma.replication import simulation
from localma.replication.simulation import adaptive


def world(n=200, seed=0, local=True, loss="squared"):
    """Two models; the first is right on the left, the second on the right, or the half of each everywhere."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 2))
    F = np.stack([3 + X[:, 0], 3 - X[:, 0]], 1)
    w = 1 / (1 + np.exp(6 * X[:, 0])) if local else np.full(n, 0.5)
    mu = w * F[:, 0] + (1 - w) * F[:, 1]
    if loss == "squared":
        return X, mu + 0.1 * rng.standard_normal(n), F
    if loss == "cross_entropy":
        p = F / 6
        F = np.stack([p, 1 - p], -1)
        return X, (rng.uniform(size=n) > mu / 6).astype(int), F
    return X, rng.poisson(20 * mu).astype(float) + (loss != "poisson"), 20 * F


def test_global_weights_are_kept_where_they_are_right_and_left_where_they_are_not():
    """The first in most draws, since a penalty may win by luck; the second in all."""
    kept = 0
    for seed in range(8):
        X, y, F = world(seed=seed, local=False)
        fit = LocalMA(random_state=seed, shrinkage="cv").fit(X, y, F=F)
        if np.isinf(fit.shrinkage_):
            kept += 1
            np.testing.assert_allclose(
                fit.weights(X), np.tile(GlobalMA().fit(X, y, F=F).weights_, (len(X), 1)), atol=1e-6
            )
        X, y, F = world(seed=seed)
        left = LocalMA(random_state=seed, shrinkage="cv").fit(X, y, F=F)
        assert np.isfinite(left.shrinkage_)
        assert left.weights([[-0.9, 0], [0.9, 0]])[:, 0] == pytest.approx([1, 0], abs=0.1)
    assert kept >= 4


@pytest.mark.parametrize("local", [True, False])
def test_cv_results_say_why(local):
    for seed in range(4):
        X, y, F = world(seed=seed, local=local)
        fit = LocalMA(random_state=seed, shrinkage="cv").fit(X, y, F=F)
        r = fit.cv_results_
        assert r["chosen"].sum() == 1
        assert r["shrinkage"][r["chosen"]][0] == fit.shrinkage_
        np.testing.assert_allclose(r["difference"], r["loss"] - r["loss"][-1], atol=1e-12)
        best = r["loss"][:-1].argmin()
        better = r["difference"][best] < -r["standard_error"][best]
        assert better or not local
        assert r["chosen"][best if better else -1]


@pytest.mark.parametrize("name", ["squared", "poisson", "gamma", "cross_entropy"])
def test_labels_without_weight_reach_no_network(name):
    """Not even through the unit of the criterion: what a fold holds out may be anything."""
    rng = np.random.default_rng(0)
    X = torch.as_tensor(rng.normal(size=(1, 60, 2)))
    F = torch.as_tensor(rng.uniform(0.5, 2, (1, 60, 3)))
    y = torch.as_tensor(rng.poisson(2, (1, 60)) + 1.0)
    if name == "cross_entropy":
        F, y = (
            torch.as_tensor(rng.dirichlet(np.ones(4), (1, 60, 3))),
            torch.as_tensor(rng.integers(0, 4, (1, 60)).astype(float)),
        )
    weight = torch.ones(1, 60, dtype=torch.float64)
    weight[0, :12] = 0
    other = y.clone()
    other[0, :12] = other[0, :12].flip(0) if name == "cross_entropy" else other[0, :12] * 50
    assert (other != y).any()
    found = [fit_stack(X, F, target, LOSSES[name], seeds=[0], sample_weight=weight).weights(X) for target in (y, other)]
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)
    everything = [fit_stack(X, F, target, LOSSES[name], seeds=[0]).weights(X) for target in (y, other)]
    assert (everything[0] - everything[1]).abs().max() > 1e-3, "with a weight they do"


def test_folds_are_held_out():
    """Labels of one fold cannot reach the networks and global weights that predict it: shifting them by much changes no
    held-out prediction there.
    """
    _, y, F = (torch.as_tensor(a, dtype=torch.float64) for a in world(60))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(7))
    first = order[0::FOLDS]
    seen = []
    other = y.clone()
    other[first] += 100
    for target in (y, other):

        def fit(rows, seeds, penalties, start, sample_weight, target=target):
            held = (sample_weight == 0).nonzero()
            kept = [set(held[held[:, 0] == b, 1].tolist()) for b in range(len(rows))]
            mine = [b for b in range(len(rows)) if kept[b] == set(first.tolist())]
            seen.append((start[mine], sample_weight[mine]))
            return torch.zeros(len(rows), 2, 60, dtype=torch.float64)

        cross_validate(fit, F[None], target[None], LOSSES["squared"], grid(60), seeds=[7])
    (start, weight), (moved, same) = seen
    assert len(start) == len(MULTIPLES)
    assert (weight.sum(1) == 48).all()
    torch.testing.assert_close(start, moved)
    torch.testing.assert_close(weight, same)


@pytest.mark.parametrize(
    ("gain", "persons", "taken"),
    [(0.006, 80, True), (0.001, 80, False), (-0.006, 80, False), (0.006, 10, False)],
    ids=["clear", "within the noise", "a loss", "ten persons only"],
)
def test_smaller_penalties_must_show_a_gain_of_one_standard_error(gain, persons, taken):
    """They are tried where the smallest of the list is best, and only there."""
    noise = np.random.default_rng(0).standard_normal(persons)
    noise = torch.as_tensor(np.repeat(0.03 * (noise - noise.mean()), 80 // persons))
    y = (torch.arange(80) % 2).double().expand(2, 80)
    F = torch.tensor([0.0, 1.0]).double().expand(2, 80, 2)  # global weights lose 1/4 each time
    asked = []

    def fit(rows, seeds, penalties, start, sample_weight):
        """Logits that lose 0.1 at penalty 1; at 2 the first sample loses more and the second less; at smaller ones the
        gain, with noise.
        """
        asked.append(sorted({(int(r), round(float(p), 2)) for r, p in zip(rows, penalties, strict=True)}))
        p, first = penalties[:, None], (rows == 0)[:, None]
        lost = 0.1 + torch.where(p > 1, torch.where(first, 0.05, -0.05), 0.0) - (p < 1) * (gain + noise)
        miss = lost.clamp(min=1e-9).sqrt()
        return torch.stack([torch.zeros_like(miss), torch.logit((y[0] - miss).abs())], 1)

    groups = np.repeat(np.arange(persons), 80 // persons)
    result = cross_validate(
        fit, F, y, LOSSES["squared"], np.array([1.0, 2.0]), [0.01, 0.1], seeds=[3, 4], groups=groups
    )
    assert asked == [[(0, 1.0), (0, 2.0), (1, 1.0), (1, 2.0)], [(0, 0.01), (0, 0.1)]]
    np.testing.assert_array_equal(result.shrinkage, [0.01, 0.1, 1, 2, np.inf])
    chosen = result.shrinkage[result.chosen]
    np.testing.assert_array_equal(chosen, [0.1 if taken else 1, 2], err_msg="of equals the larger")
    assert np.isfinite(result.loss[0]).all()
    assert np.isnan(result.loss[1, :2]).all()
    for r, count in enumerate((5, 3)):
        columns = result.columns(r)
        assert {len(values) for values in columns.values()} == {count}
        assert columns["shrinkage"][columns["chosen"]] == chosen[r]


@pytest.mark.parametrize("taken", [0.5, 2.0])
def test_larger_penalties_are_tried_where_the_largest_of_the_list_is_best(taken):
    """And only there; the best of them is taken, and needs no standard error over the list's end."""
    noise = torch.as_tensor(np.random.default_rng(0).standard_normal(80))
    y = (torch.arange(80) % 2).double().expand(2, 80)
    F = torch.tensor([0.0, 1.0]).double().expand(2, 80, 2)  # global weights lose 1/4 each time
    asked = []

    def fit(rows, seeds, penalties, start, sample_weight):
        """The first sample loses less the larger the penalty, up to ``taken`` times the last; the second more."""
        asked.append(sorted({(int(r), round(float(p), 2)) for r, p in zip(rows, penalties, strict=True)}))
        p, first = penalties[:, None].double(), (rows == 0)[:, None]
        far = (p.log() - math.log(20 * taken / 2)).abs()
        lost = 0.1 + 0.001 * torch.where(first, far, p.log()) + 0.01 * (p > 2) * (noise - noise.mean())
        miss = lost.clamp(min=1e-9).sqrt()
        return torch.stack([torch.zeros_like(miss), torch.logit((y[0] - miss).abs())], 1)

    result = cross_validate(fit, F, y, LOSSES["squared"], np.array([1.0, 2.0]), (), [5.0, 20.0], seeds=[3, 4])
    assert asked == [[(0, 1.0), (0, 2.0), (1, 1.0), (1, 2.0)], [(0, 5.0), (0, 20.0)]]
    np.testing.assert_array_equal(result.shrinkage, [1, 2, 5, 20, np.inf])
    np.testing.assert_array_equal(result.shrinkage[result.chosen], [{0.5: 5, 2.0: 20}[taken], 1])
    assert np.isnan(result.loss[1, 2:4]).all()
    assert {len(v) for v in result.columns(1).values()} == {3}


def test_groups_stay_together_and_count_as_one_draw():
    _, y, F = (torch.as_tensor(a, dtype=torch.float64) for a in world(60))
    groups = np.repeat([f"person {k}" for k in range(20)], 3)
    seen = []

    def fit(rows, seeds, penalties, start, sample_weight):
        seen.append(sample_weight.numpy() == 0)
        return torch.randn(len(rows), 2, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    result = cross_validate(fit, F[None], y[None], LOSSES["squared"], np.array([0.1, 1.0]), seeds=[3], groups=groups)
    held = seen[0].reshape(FOLDS, 2, 20, 3)
    assert (held == held[..., :1]).all()
    assert (held.sum(0) == 1).all()
    # the standard error is that of the persons' means
    alone = cross_validate(fit, F[None], y[None], LOSSES["squared"], np.array([0.1, 1.0]), seeds=[3])
    assert alone.standard_error.shape == result.standard_error.shape
    values = np.random.default_rng(0).standard_normal((2, 60))
    means = values.reshape(2, 20, 3).mean(-1)
    np.testing.assert_allclose(_clustered_error(values, np.repeat(np.arange(20), 3)), means.std(-1, ddof=1) / 20**0.5)
    np.testing.assert_allclose(_clustered_error(values, np.arange(60)), values.std(-1, ddof=1) / 60**0.5)


def test_copies_of_rows_do_not_deceive_who_says_so():
    """Noise that rows of a person share can be learned by heart; held out with the person it cannot."""
    rng = np.random.default_rng(0)
    persons = np.repeat(np.arange(40), 10)
    X = np.repeat(rng.uniform(-1, 1, (40, 2)), 10, 0)
    F = np.stack([np.ones(400), -np.ones(400)], 1)
    y = np.repeat(0.8 * rng.standard_normal(40), 10) + 0.1 * rng.standard_normal(400)
    rows, whole = (LocalMA(random_state=0).fit(X, y, F=F, groups=g) for g in (None, persons))
    assert rows.shrinkage_ < grid(400)[-1] < whole.shrinkage_
    narrow, wide = (
        LocalMA(random_state=0, shrinkage=np.inf, bootstrap=100).fit(X, y, F=F, groups=g) for g in (None, persons)
    )
    assert wide.weights(X, return_std=True)[1].mean() > 2 * narrow.weights(X, return_std=True)[1].mean()


def test_wrong_groups_are_named():
    X, y, F = world(60)
    with pytest.raises(ValueError, match=r"groups has shape \(59,\), but there are 60 observations"):
        LocalMA().fit(X, y, F=F, groups=np.arange(59))
    with pytest.raises(ValueError, match="needs at least 10 groups, but there are 6"):
        LocalMA().fit(X, y, F=F, groups=np.arange(60) // 10)


def test_held_out_losses_are_those_of_a_plain_loop():
    X, y, F = (torch.as_tensor(a, dtype=torch.float64) for a in world(50))
    logits = torch.randn(FOLDS * 2, 2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    result = cross_validate(lambda *_: logits, F[None], y[None], LOSSES["squared"], np.array([0.1, 1.0]), seeds=[3])
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
    losses = torch.zeros(3, 50)
    for k in range(FOLDS):
        held = order[k::FOLDS]
        rest = torch.tensor(sorted(set(range(50)) - set(held.tolist())))
        gw = torch.as_tensor(GlobalMA().fit(X[rest].numpy(), y[rest].numpy(), F=F[rest].numpy()).weights_)
        for penalty in range(2):
            w = torch.softmax(logits[2 * k + penalty], 0)
            losses[penalty, held] = ((w.T * F).sum(1) - y).square()[held].float()
        losses[2, held] = (F @ gw - y).square()[held].float()
    np.testing.assert_allclose(result.loss[0], losses.mean(1), rtol=1e-5)
    paired = losses - losses[2]
    np.testing.assert_allclose(result.standard_error[0], paired.std(1) / 50**0.5, rtol=1e-4, atol=1e-9)


@functools.cache
def perturbed(setting, **options):
    """Choices (2, 100) before and after predictions changed by a millionth, and the relative change of the finite
    penalties' held-out losses.
    """
    rng = np.random.default_rng(11)
    X, F, y = simulation.draw(simulation.Cell(1, setting, 100), 100, rng)
    found = []
    for f in (F, F * (1 + 1e-6 * rng.standard_normal(F.shape))):
        sample = (torch.as_tensor(a, dtype=torch.float32) for a in (X, f, y))
        found.append(
            fit_local_stack(*sample, LOSSES["squared"], seeds=range(100), members=1, **options).cross_validation
        )
    finite = slice(len(SMALLER), len(SMALLER) + len(MULTIPLES))
    return np.stack([cv.chosen for cv in found]), np.abs(found[1].loss / found[0].loss - 1)[:, finite]


@pytest.mark.parametrize("setting", ["S1", "S2", "S3"])
def test_the_choice_does_not_hang_on_the_last_digits(setting):
    before, after = perturbed(setting)[0]
    assert (before == after).sum() >= 99


def test_with_adams_own_epsilon_the_last_digits_grow():
    """Why shrunk weights have a larger one: where no direction pays, steps follow the signs of rounding errors."""
    own, ours = perturbed("S2", training=Training(epsilon=1e-8))[1], perturbed("S2")[1]
    stiff = slice(-4, None)
    assert ours[:, stiff].mean() < own[:, stiff].mean() / 3


@pytest.mark.parametrize("seed", range(6))
def test_models_that_are_alike_get_global_weights(seed):
    X, y, F = world(60, seed, local=False)
    F[:, 1] = F[:, 0] * (1 + 1e-16)
    average = LocalMA(random_state=seed, progress=False).fit(X, y, F=F)
    assert math.isinf(average.shrinkage_)


def test_a_row_of_a_stack_equals_the_estimator():
    samples = [world(80, seed, local=seed % 2 == 0) for seed in range(3)]
    X, y, F = (torch.as_tensor(np.stack(a), dtype=torch.float64) for a in zip(*samples, strict=True))
    stack = fit_local_stack(X, F, y, LOSSES["squared"], seeds=[4, 5, 6], training=Training(steps=40))
    w = stack.weights(X).numpy()
    for b, (x, target, f) in enumerate(samples):
        alone = LocalMA(random_state=4 + b, training=Training(steps=40, dtype="float64"), shrinkage="cv").fit(
            x, target, F=f
        )
        assert alone.shrinkage_ == pytest.approx(stack.shrinkage[b])
        np.testing.assert_allclose(alone.weights(x), w[b], atol=1e-8)
    assert np.isinf(stack.shrinkage).any()
    assert np.isfinite(stack.shrinkage).any()


def test_each_sample_may_have_a_penalty_of_its_own():
    samples = [world(80, seed) for seed in range(3)]
    X, y, F = (torch.as_tensor(np.stack(a), dtype=torch.float64) for a in zip(*samples, strict=True))
    how = {"seeds": [4], "training": Training(steps=40)}
    given = np.array([0.01, np.inf, 1.0])
    stack = fit_local_stack(X, F, y, LOSSES["squared"], **how | {"seeds": [4, 4, 4]}, shrinkage=given)
    for r, w in enumerate(stack.weights(X)):
        alone = fit_local_stack(X[[r]], F[[r]], y[[r]], LOSSES["squared"], **how, shrinkage=given[r])
        np.testing.assert_allclose(w, alone.weights(X[[r]])[0], atol=1e-8)


@pytest.mark.filterwarnings("ignore:the network is not trained to its end")
@pytest.mark.parametrize("loss", [*LOSSES, tweedie(1.5)])
@pytest.mark.parametrize("network", [None, mlp(2, 2, width=4)], ids=["default", "own"])
def test_every_loss_and_body(loss, network):
    name = loss if isinstance(loss, str) else "tweedie"
    X, y, F = world(60, loss=name)
    fit = LocalMA(
        loss=loss, network=network, shrinkage="cv", training=Training(steps=20), random_state=0, bootstrap=3
    ).fit(X, y, F=F)
    w, sd = fit.weights(X, return_std=True)
    np.testing.assert_allclose(w.sum(1), 1)
    assert sd.shape == w.shape
    assert (sd >= 0).all()
    assert sd.max() > 0


def test_a_number_and_its_ends():
    X, y, F = world()
    gw = GlobalMA().fit(X, y, F=F).weights_
    far = LocalMA(random_state=0, shrinkage=np.inf).fit(X, y, F=F)
    np.testing.assert_allclose(far.weights(X), np.tile(gw, (len(X), 1)), atol=1e-6)
    strong = LocalMA(random_state=0, shrinkage=100.0, training=Training(steps=400)).fit(X, y, F=F)
    np.testing.assert_allclose(strong.weights(X), np.tile(gw, (len(X), 1)), atol=5e-3)
    weak = LocalMA(random_state=0, shrinkage=0.0).fit(X, y, F=F)
    assert weak.weights(X)[:, 0].std() > 0.3


def test_one_member_without_shrinkage_is_the_papers_method_and_more_are_their_mean():
    X, y, F = world(100)
    one, several = (LocalMA(random_state=3, shrinkage=None, members=k).fit(X, y, F=F) for k in (1, 3))
    each = [WeightNetwork(body, zero_output=False) for body in several.network_.body.bodies]
    x = torch.as_tensor(X, dtype=torch.float32)
    mean = torch.stack([w(x) for w in each]).mean(0)
    np.testing.assert_allclose(several.weights(X), mean.detach(), atol=1e-6)
    np.testing.assert_allclose(one.weights(X), each[0](x).detach(), atol=1e-5)
    assert abs(each[1](x) - each[0](x)).max() > 1e-3


def test_auto_is_cv_for_the_default_network_alone():
    X, y, F = world(60)
    assert LocalMA(random_state=0, training=Training(steps=5)).fit(X, y, F=F).cv_results_ is not None
    for options in (
        {"training": Training(steps=5, penalty=0.1)},
        {"training": Training(steps=5), "network": mlp(2, 2)},
    ):
        fit = LocalMA(random_state=0, **options).fit(X, y, F=F)
        assert fit.shrinkage_ is None
        assert not isinstance(fit.network_.body, Mixture)
    assert LocalMA(random_state=0, training=Training(steps=5)).fit(X[:9], y[:9], F=F[:9]).shrinkage_ is None


def test_large_samples_are_cross_validated_on_a_part(monkeypatch):
    X, y, F = world(400)
    monkeypatch.setattr("localma.engine.validation.MOST", 100)
    fit = LocalMA(random_state=0, shrinkage="cv", training=Training(steps=50)).fit(X, y, F=F)
    chosen = fit.cv_results_["shrinkage"][fit.cv_results_["chosen"]][0]
    np.testing.assert_allclose(fit.cv_results_["shrinkage"][:-1], grid(100))
    assert fit.shrinkage_ == pytest.approx(chosen * 4**-0.75)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shrinkage": "some"}, 'shrinkage must be "auto", "cv"'),
        ({"shrinkage": -1.0}, "a non-negative number or None, but is -1.0"),
        ({"shrinkage": float("nan")}, "a non-negative number or None, but is nan"),
        ({"shrinkage": True}, "shrinkage must be"),
        ({"shrinkage": 0.1, "training": Training(penalty=0.1)}, "penalty = 0.1 and shrinkage = 0.1 both"),
        ({"members": 0}, "members"),
        ({"bootstrap": -1}, "bootstrap"),
        (
            {"shrinkage": 0.1, "network": nn.Sequential(nn.Linear(2, 2, bias=False))},
            "must end with a torch.nn.Linear layer with a bias",
        ),
    ],
)
def test_wrong_arguments_are_named(options, message):
    X, y, F = world(60)
    with pytest.raises(ValueError, match=message):
        LocalMA(random_state=0, **options).fit(X, y, F=F)


def test_too_few_observations_and_bands_that_were_not_asked_for():
    X, y, F = world(9)
    with pytest.raises(ValueError, match="needs at least 10 observations, but there are 9"):
        LocalMA(shrinkage="cv").fit(X, y, F=F)
    fit = LocalMA(shrinkage=None, training=Training(steps=3)).fit(X, y, F=F)
    with pytest.raises(ValueError, match=r"bootstrap=50"):
        fit.weights(X, return_std=True)
    single = LocalMA(bootstrap=2).fit(X, y, F=F[:, :1])
    assert (single.weights(X, return_std=True)[1] == 0).all()


def test_bands_are_the_spread_over_resampled_data():
    X, y, F = world(100)
    few, many = (
        LocalMA(random_state=0, shrinkage=0.01, bootstrap=20).fit(*world(n)[:2], F=world(n)[2]) for n in (100, 3000)
    )
    assert few.weights(X, return_std=True)[1].mean() > 2 * many.weights(X, return_std=True)[1].mean()
    fixed = LocalMA(random_state=0, shrinkage=np.inf, bootstrap=200).fit(X, y, F=F)
    drawn = np.random.default_rng([0, 2]).multinomial(100, np.full(100, 0.01), 200)
    each = [GlobalMA().fit(np.repeat(X, c, 0), np.repeat(y, c), F=np.repeat(F, c, 0)).weights_ for c in drawn]
    np.testing.assert_allclose(fixed.weights(X, return_std=True)[1][0], np.std(each, 0, ddof=1), rtol=1e-4)


class Body(nn.Module):
    """Something that is no MLP: a convolution, normalisation over units, and dropout."""

    def __init__(self, rate=0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.LayerNorm(9), nn.Dropout(rate), nn.Linear(9, 2)
        )

    def forward(self, x):
        return self.layers(x.unsqueeze(1))


class Recurrent(nn.Module):
    """Something that has no batched form."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.GRU(1, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.hidden(x.unsqueeze(-1))[0][:, -1])


@pytest.mark.parametrize("kind", [Body, Recurrent])
@pytest.mark.parametrize("options", [Training(steps=30), Training(steps=30, batch_size=16, validation_fraction=0.25)])
def test_a_stack_of_modules_equals_each_alone(options, kind):
    n, options = 60, options.resolve(60)
    g = torch.Generator().manual_seed(0)
    x, F = torch.randn(n, 4, generator=g, dtype=torch.float64), torch.randn(2, n, generator=g, dtype=torch.float64)
    y = torch.where(x[:, 0] > 0, F[0], F[1])

    def criterion(logits, F, y):
        return LOSSES["squared"].of_logits(logits, F, y)

    def bodies():
        torch.manual_seed(1)
        return [WeightNetwork(kind().double()).body for _ in range(3)]

    def generators():
        return [torch.Generator().manual_seed(s) for s in (5, 6, 7)]

    penalties = torch.tensor([0.0, 0.01, 0.1], dtype=torch.float64)
    stack = ModuleStack(bodies())
    train(
        stack,
        x.expand(3, -1, -1),
        criterion,
        [F.expand(3, -1, -1), y.expand(3, -1)],
        options,
        generators(),
        penalties=penalties,
    )
    together = stack.unstack()
    assert stack.batched == (kind is Body)
    for b, (body, generator) in enumerate(zip(bodies(), generators(), strict=True)):
        train(
            ModuleStack([body]),
            x[None],
            criterion,
            [F[None], y[None]],
            options,
            [generator],
            penalties=penalties[b : b + 1],
        )
        torch.testing.assert_close(together[b](x), body.eval()(x), rtol=0, atol=1e-9)
    assert abs(together[0](x)).max() > 0.1


def test_a_mixture_averages_weights():
    bodies = [mlp(2, 3, random_state=s) for s in (0, 1)]
    for body, scale in zip(bodies, (1.0, 30.0), strict=True):
        nn.init.normal_(body[-1].weight, 0, scale, generator=torch.Generator().manual_seed(2))
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(3))
    mean = sum(torch.softmax(body(x), 1) for body in bodies) / 2
    torch.testing.assert_close(WeightNetwork(Mixture(bodies), zero_output=False)(x), mean)


def test_the_start_is_positive_and_on_the_simplex():
    w = soften(np.array([[1.0, 0, 0], [0.2, 0.3, 0.5]]))
    assert (w > 0.1).all()
    np.testing.assert_allclose(w.sum(1), 1)


def test_the_replication_uses_the_simulations_samples_and_test_points():
    cell = simulation.Cell(1, "S1", 100)
    ours, theirs = adaptive.Adaptive().measure("tables", cell, slice(0, 3)), simulation.replicate(cell, 3)
    np.testing.assert_allclose(ours["GW.mse"], theirs["GW.mse"], rtol=1e-6)
    later = adaptive.Adaptive().measure("tables", cell, slice(1, 3))
    np.testing.assert_allclose(later["Adaptive.mse"], ours["Adaptive.mse"][1:], rtol=0.05)
    shares = [ours[f"choice {k}.share"] for k in range(-len(SMALLER), len(MULTIPLES) + len(LARGER) + 1)]
    np.testing.assert_array_equal(np.sum(shares, 0), 1)


def test_the_scan_ends_in_the_papers_worlds():
    X = np.random.default_rng(0).standard_normal((50, 5))
    np.testing.assert_allclose(simulation.true_weights(X, "S1", 0.0), 1 / 3)
    np.testing.assert_allclose(simulation.true_weights(X, "S1", 1.0), simulation.true_weights(X, "S1"))
    one, zero = simulation.Cell(1, "S1", 100), simulation.Cell(1, "S1", 100, 0.0)
    assert abs(simulation.true_mean(X, one) - simulation.true_mean(X, zero)).max() > 0.1
    assert one.key != zero.key


def test_bands_part():
    out = adaptive.Adaptive().measure("bands", simulation.Cell(1, "S1", 100), slice(0, 2))
    assert out["band 0.95.half_width"].min() > out["band 0.8.half_width"].min() > 0
    assert (out["band 0.95.coverage"] >= out["band 0.8.coverage"]).all()
