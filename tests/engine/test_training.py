"""The stacked engine against plain loops, alone against together, and the promises of early stopping."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from joblib import Parallel, cpu_count, delayed
from torch import nn

from localma import LOSSES, DirectModel, LocalMA, mlp, tweedie
from localma.engine import Training, automatic_penalty, fit_direct_stack, fit_stack, one_thread, train
from localma.engine.networks import Mlp, initial_values, mlp_from_parameters, split_parameters
from localma.engine.stacks import ModuleStack
from localma.engine.tiles import LEAST_ROWS, cores, in_threads, standardization

ALL_LOSSES = [*LOSSES.values(), tweedie(2.5)]


def data(B=3, n=60, d=3, M=3, loss=LOSSES["squared"], seed=0, K=4):
    """float64 samples whose best weights depend on x, inside the loss's domain."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(B, n, d))
    share = 1 / (1 + np.exp(-3 * X[..., :1]))
    if loss.is_classification:
        F = rng.dirichlet(np.ones(K), (B, n, M))
        best = np.where(share < 0.5, 0, 1)
        y = np.take_along_axis(F, best[..., None], 2)[:, :, 0].argmax(-1).astype(float)
    else:
        F = rng.normal(size=(B, n, M)) * 2
        if loss.prediction == "positive":
            F = np.exp(0.5 * F)
        mu = share[..., 0] * F[..., 0] + (1 - share[..., 0]) * F[..., 1]
        y = rng.gamma(5, mu / 5) if loss.prediction == "positive" else mu + 0.3 * rng.normal(size=(B, n))
        y = np.round(y) if loss.name == "poisson" else y
    return torch.tensor(X), torch.tensor(F), torch.tensor(y)


def plain_fit(X, F, y, loss, seed, options, width=16, depth=1):
    """One replication by nn.Sequential and torch.optim.Adam, in the order of Training's documentation; returns weights
    on X and the best step.

    It shares with the package the initial values and the order of the random draws, nothing else.
    """
    n, M = F.shape[:2]
    options = options.resolve(n)
    generator = torch.Generator().manual_seed(seed)
    sizes = Mlp(width, depth).sizes(X.shape[1], M)
    body = mlp_from_parameters(split_parameters(initial_values(sizes, generator), sizes), X.dtype)
    mean, sd = X.mean(0), X.std(0, correction=0)
    x = (X - mean) / sd
    if loss.name == "squared":
        unit = F.var(1, correction=0).mean()
    else:
        unit = loss.scale(loss.candidates(y, F.movedim(0, -1)), y)

    def criterion(index):
        w = torch.softmax(body(x[index]), 1)
        average = torch.einsum("nm,nm...->n...", w, F[index])
        return loss(y[index], average).mean() / unit

    n_valid = round(options.validation_fraction * n)
    order = torch.randperm(n, generator=generator) if n_valid else torch.arange(n)
    valid, training = order[:n_valid], order[n_valid:]
    size = min(options.batch_size, len(training))
    optimizer = torch.optim.Adam(body.parameters(), lr=1.0)
    queue, best, best_step, since = [], math.inf, options.steps, 0
    state = {k: v.clone() for k, v in body.state_dict().items()}

    def evaluate(step):
        nonlocal best, best_step, since, state
        with torch.no_grad():
            value = criterion(valid).item()
        since += 1
        if value < best:
            best, best_step, since = value, step, 0
            state = {k: v.clone() for k, v in body.state_dict().items()}
        return options.patience is not None and since >= options.patience

    if n_valid:
        evaluate(0)
    warm = max(1, 0.3 * options.steps)
    for step in range(1, options.steps + 1):
        if step <= warm:
            share = step / warm
        else:
            share = max(0.01, 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (options.steps - warm)))
        optimizer.param_groups[0]["lr"] = options.learning_rate * share
        if size == len(training):
            index = training
        else:
            if not queue:
                shuffled = torch.randperm(len(training), generator=generator)
                queue = [training[part] for part in shuffled.split(size) if len(part) == size]
            index = queue.pop(0)
        optimizer.zero_grad()
        penalty = sum(m.weight.square().sum() for m in body if isinstance(m, nn.Linear))
        (criterion(index) + options.penalty * penalty).backward()
        optimizer.step()
        if n_valid and (step % max(1, options.steps // 100) == 0 or step == options.steps) and evaluate(step):
            break
    if n_valid:
        body.load_state_dict(state)
    with torch.no_grad():
        return torch.softmax(body(x), 1), best_step


SCHEMES = {
    "full batch": Training(steps=60),
    "mini-batches": Training(steps=60, batch_size=16),
    "early stopping": Training(steps=60, validation_fraction=0.25),
    "all of it": Training(
        steps=230, batch_size=16, validation_fraction=0.25, patience=6, learning_rate=0.1, penalty=0.0
    ),
}


@pytest.mark.parametrize("options", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("loss", ALL_LOSSES, ids=lambda loss: loss.name)
def test_a_stack_equals_plain_loops(loss, options):
    X, F, y = data(loss=loss)
    seeds = [3, 1, 4]
    fit = fit_stack(X, F, y, loss, seeds=seeds, training=options)
    w = fit.weights(X)
    for b, seed in enumerate(seeds):
        expected, step = plain_fit(X[b], F[b], y[b], loss, seed, options)
        assert fit.best_step[b] == step
        torch.testing.assert_close(w[b], expected, rtol=0, atol=1e-8)
    assert (w - 1 / 3).abs().max() > 0.05  # something was learnt, so the comparison means something


@pytest.mark.parametrize(("width", "depth"), [(5, 0), (5, 2)])
def test_other_depths_equal_plain_loops(width, depth):
    X, F, y = data(B=2)
    fit = fit_stack(
        X, F, y, LOSSES["squared"], seeds=[0, 1], network=Mlp(width, depth=depth), training=Training(steps=40)
    )
    for b in range(2):
        expected, _ = plain_fit(X[b], F[b], y[b], LOSSES["squared"], b, Training(steps=40), width, depth)
        torch.testing.assert_close(fit.weights(X)[b], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("options", SCHEMES.values(), ids=SCHEMES)
def test_a_plain_loop_in_float32_agrees_to_1e_5(options):
    X, F, y = (a.float() for a in data())
    fit = fit_stack(X, F, y, LOSSES["squared"], seeds=[3, 1, 4], training=options)
    for b, seed in enumerate([3, 1, 4]):
        expected, step = plain_fit(X[b], F[b], y[b], LOSSES["squared"], seed, options)
        if fit.best_step[b] == step:  # a tie of validation losses in the last digit may fall either way
            torch.testing.assert_close(fit.weights(X)[b], expected, rtol=0, atol=1e-5 if options.steps == 60 else 1e-3)
    assert options.steps > 60 or fit.best_step[0] == plain_fit(X[0], F[0], y[0], LOSSES["squared"], 3, options)[1]


@pytest.mark.parametrize("options", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [LOSSES["squared"], LOSSES["cross_entropy"]], ids=["squared", "cross_entropy"])
def test_a_row_equals_the_estimator(loss, dtype, options):
    X, F, y = data(loss=loss)
    fit = fit_stack(*(a.to(getattr(torch, dtype)) for a in (X, F, y)), loss, seeds=[3, 1, 4], training=options)
    together = fit.weights(X.to(getattr(torch, dtype))).numpy()
    for b, seed in enumerate([3, 1, 4]):
        alone = LocalMA(loss=loss, shrinkage=None, random_state=seed, training=replace(options, dtype=dtype))
        alone.fit(X[b].numpy(), y[b].numpy().astype(int if loss.is_classification else float), F=F[b].numpy())
        assert alone.fit_info_.best_step == fit.best_step[b]
        np.testing.assert_allclose(
            alone.weights(X[b].numpy()), together[b], rtol=0, atol=1e-5 if dtype == "float32" else 1e-10
        )


def test_tiles_and_workers_change_nothing(monkeypatch):
    X, F, y = data(B=7)
    options = Training(steps=50, validation_fraction=0.2, batch_size=16, patience=5)

    def fit(**arguments):
        return fit_stack(X, F, y, LOSSES["squared"], seeds=range(7), training=options, **arguments)

    one = fit(workers=1)
    results = [fit(workers=2), fit(workers=3)]
    monkeypatch.setattr("localma.engine.tiles.LEAST_ROWS", 1)
    for rows in (1, 2, 3, 6):
        monkeypatch.setattr("localma.engine.tiles.TILE_ROWS", rows)
        results += [fit(workers=1), fit(workers=2)]
    for other in results:
        assert torch.equal(one.best_step, other.best_step)
        torch.testing.assert_close(one.values, other.values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", [100, 900, 3000])
def test_no_tile_is_small(n, monkeypatch):
    """A step takes one batch, however many observations there are."""
    sizes = []

    def look(function, tiles, *how):
        sizes.extend(len(range(250)[tile]) for tile in tiles)
        return in_threads(function, tiles, *how)

    monkeypatch.setattr("localma.engine.local.in_threads", look)
    X, F, y = (torch.zeros(250, n, *shape) for shape in ((10,), (5,), ()))
    fit_stack(X, F, y, LOSSES["squared"], seeds=range(250), training=Training(steps=0))
    assert sum(sizes) == 250
    assert LEAST_ROWS <= min(sizes) <= max(sizes) < min(sizes) + len(sizes)
    assert len(sizes) % 2 == 0, "two cores have as much to do each"


@pytest.mark.parametrize(("given", "expected"), [(None, cpu_count()), ("", cpu_count()), ("1", 1), ("1,4", 1)])
def test_a_process_uses_its_share_of_the_cores(given, expected, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert cores() == expected


def test_processes_side_by_side_have_their_share_of_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert Parallel(2)(delayed(cores)() for _ in range(2)) == [max(1, cpu_count() // 2)] * 2


@pytest.mark.parametrize(
    ("learning_rate", "outcome"),
    [(0.01, nullcontext()), (1e300, pytest.raises(FloatingPointError))],
    ids=["a fit", "a fit that diverges"],
)
def test_a_fit_leaves_torchs_threads_as_they_were(learning_rate, outcome):
    X, F, y = data(B=4)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)  # more than the one that each tile gets
    try:
        with outcome:
            fit_stack(
                X,
                F,
                y,
                LOSSES["squared"],
                seeds=range(4),
                training=Training(steps=5, learning_rate=learning_rate),
                workers=2,
            )
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_rows_stop_at_their_own_step():
    """Row 0 has pure noise to learn from, row 1 a signal; each stops as it would alone, whatever the other does."""
    X, F, y = data(B=2, n=80)
    y[0] = F[0].mean(1) + 3 * torch.tensor(np.random.default_rng(1).normal(size=80))
    options = Training(steps=300, validation_fraction=0.3, patience=4, penalty=0.0)
    both = fit_stack(X, F, y, LOSSES["squared"], seeds=[0, 1], training=options)
    assert both.best_step[0] != both.best_step[1]
    for b in range(2):
        alone = fit_stack(X[b : b + 1], F[b : b + 1], y[b : b + 1], LOSSES["squared"], seeds=[b], training=options)
        assert alone.best_step[0] == both.best_step[b]
        torch.testing.assert_close(alone.values[0], both.values[b], rtol=0, atol=1e-9)
        history = alone.history
        best = int(history.validation_loss[:, 0].argmin())
        assert history.evaluated_at[best] == alone.best_step[0]
        if history.evaluated_at[-1] < 300:  # stopped: exactly `patience` evaluations after the best one
            assert len(history.evaluated_at) - 1 - best == 4
    assert len(fit_stack(X[:1], F[:1], y[:1], LOSSES["squared"], seeds=[0], training=options).history.train_loss) < 300


@pytest.mark.filterwarnings("ignore:the squared loss of model")  # the first model is half of the responses
def test_early_stopping_keeps_equal_weights_when_training_only_hurts():
    """The models' differences are pure noise for y, and the validation part of this seed says so at every step."""
    rng = np.random.default_rng(0)
    n = 40
    X = rng.normal(size=(n, 3))
    F = rng.normal(size=(n, 2))
    order = torch.Generator().manual_seed(0)
    initial_values(Mlp(16, 1).sizes(3, 2), order)
    validation = torch.randperm(n, generator=order)[:20].numpy()
    y = F[:, 0].copy()
    y[validation] = F[validation].mean(1)  # where it is judged, equal weights are perfect
    fit = LocalMA(random_state=0, shrinkage=None, training=Training(validation_fraction=0.5, steps=60)).fit(X, y, F=F)
    assert fit.fit_info_.best_step == 0
    np.testing.assert_array_equal(fit.weights(X), np.full((n, 2), 0.5))


def test_best_weights_are_those_that_validation_chose():
    X, F, y = data(B=1, n=50)
    options = Training(steps=200, validation_fraction=0.3, penalty=0.0, learning_rate=0.2)
    full = fit_stack(X, F, y, LOSSES["squared"], seeds=[0], training=options)
    generator = torch.Generator().manual_seed(0)
    initial_values(full.sizes, generator)
    valid = torch.randperm(50, generator=generator)[:15]
    average = (full.weights(X)[0] * F[0]).sum(1)
    unit = F[0].var(1, correction=0).mean()
    loss = ((y[0] - average)[valid].square().mean() / unit).item()
    assert loss == pytest.approx(full.history.validation_loss.min().item(), rel=1e-10)
    assert full.best_step[0] < 200
    assert loss < full.history.validation_loss[-1].item()


def test_each_network_of_a_stack_may_have_a_penalty_a_start_and_sample_weights_of_its_own():
    """Row by row the same as the fits with these alone; zero weights are as good as rows left out, twos as rows given
    twice.
    """
    X, F, y = data(B=3)
    n = y.shape[1]
    start = torch.tensor([[0.2, 0.3, 0.5], [1 / 3] * 3, [0.1, 0.1, 0.8]], dtype=X.dtype)
    counts = torch.randint(3, (3, n), generator=torch.Generator().manual_seed(1)).to(X)
    penalties = torch.tensor([0.0, 0.01, 1.0], dtype=X.dtype)
    given = {"training": Training(steps=40), "standardize": False}
    fit = fit_stack(
        X, F, y, LOSSES["squared"], seeds=[0, 1, 2], penalties=penalties, start=start, sample_weight=counts, **given
    )
    for b in range(3):
        rows = torch.repeat_interleave(torch.arange(n), counts[b].long())
        x, f, target = (a[b : b + 1, rows] for a in (X, F, y))
        # the unit of the criterion is that of all observations; Adam does not see a common factor, so the penalty alone
        # needs it
        ratio = LOSSES["squared"].scale(f.movedim(-1, 1), target) / LOSSES["squared"].scale(
            F[b : b + 1].movedim(-1, 1), y[b : b + 1]
        )
        options = Training(steps=40, penalty=float(penalties[b] / ratio))
        alone = fit_stack(
            x, f, target, LOSSES["squared"], seeds=[b], start=start[b : b + 1], training=options, standardize=False
        )
        torch.testing.assert_close(fit.weights(X)[b], alone.weights(X[b : b + 1])[0], rtol=0, atol=1e-6)
    begin = fit_stack(X, F, y, LOSSES["squared"], seeds=[0, 1, 2], start=start, training=Training(steps=0)).weights(X)
    torch.testing.assert_close(begin, start.unsqueeze(1).expand_as(begin))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("penalties", torch.ones(2)),
        ("start", torch.ones(3, 2)),
        ("start", torch.tensor([[0.0, 0.5, 0.5]] * 3)),
        ("sample_weight", torch.ones(3, 4)),
        ("sample_weight", -torch.ones(3, 30)),
        ("sample_weight", torch.zeros(3, 30)),
    ],
)
def test_wrong_penalties_starts_and_sample_weights_are_named(name, value):
    X, F, y = (a[:, :30] for a in data(B=3))
    with pytest.raises(ValueError, match=name):
        fit_stack(X, F, y, LOSSES["squared"], seeds=range(3), **{name: value})


def test_penalty_shrinks_slopes_but_not_constants():
    X, F, y = data(B=1)
    y = F[..., 0] + 0.1  # model 1 is best everywhere
    free, held = (
        fit_stack(X, F, y, LOSSES["squared"], seeds=[0], training=Training(steps=400, penalty=p)).weights(X)[0]
        for p in (0.0, 100.0)
    )
    assert held[:, 0].mean() > 0.9  # a constant costs nothing
    assert held.std(0).max() < 1e-3
    assert free.std(0).max() > held.std(0).max()


def test_same_seed_same_bits_other_seed_other_result():
    X, F, y = data()
    options = Training(steps=30, batch_size=16)
    first, again, other = (
        fit_stack(X, F, y, LOSSES["squared"], seeds=s, training=options) for s in ([0, 1, 2], [0, 1, 2], [5, 1, 2])
    )
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values[0], other.values[0])
    torch.testing.assert_close(first.values[1:], other.values[1:], rtol=0, atol=1e-10)


def test_training_leaves_global_random_state_alone():
    X, F, y = (a[0].numpy() for a in data(B=1))
    for network in (None, nn.Linear(3, 3), lambda M: nn.Sequential(nn.Dropout(0.5), nn.Linear(3, M))):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        LocalMA(network=network, random_state=0, training=Training(steps=5)).fit(X, y, F=F)
        assert torch.equal(before[0], torch.get_rng_state())
        np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("loss", ALL_LOSSES, ids=lambda loss: loss.name)
def test_first_gradient_agrees_with_finite_differences(loss):
    """The reported gradient norm after one step is that of the whole criterion plus penalty in all parameters, by
    central differences.
    """
    X, F, y = data(B=1, n=20, d=2, loss=loss)
    sizes = Mlp(4, 1).sizes(2, 3)
    values = initial_values(sizes, torch.Generator().manual_seed(0))
    unit = loss.scale(loss.candidates(y, F.movedim(1, -1)), y)
    mean, scale = standardization(X)
    x = ((X - mean) / scale)[0]

    def objective(values):
        layers = split_parameters(values, sizes)
        body = mlp_from_parameters(layers, torch.float64)
        w = torch.softmax(body(x), 1)
        penalty = sum(weight.square().sum() for weight, _ in layers)
        return (loss(y[0], torch.einsum("nm,nm...->n...", w, F[0])).mean() / unit + 0.3 * penalty).item()

    h, numeric = 1e-5, []
    for k in range(len(values)):
        e = torch.zeros_like(values)
        e[k] = h
        numeric.append((objective(values + e) - objective(values - e)) / (2 * h))
    fit = fit_stack(X, F, y, loss, seeds=[0], network=Mlp(4), training=Training(steps=1, penalty=0.3))
    assert fit.history.gradient_norm.item() == pytest.approx(np.linalg.norm(numeric), rel=1e-6)


def test_gradient_norm_is_reported_after_an_early_stop():
    X, F, y = (a[0].numpy() for a in data(B=1))
    fit = LocalMA(random_state=0, training=Training(validation_fraction=0.3, patience=1, steps=300, penalty=0.0)).fit(
        X, y, F=F
    )
    assert len(fit.fit_info_.train_loss) < 300
    assert fit.fit_info_.gradient_norm > 0


def test_a_body_with_unused_or_frozen_parts_trains():
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Linear(7, 7)
            self.frozen = nn.Linear(3, 5).requires_grad_(False)
            self.head = nn.Linear(5, 3)

        def forward(self, x):
            return self.head(torch.relu(self.frozen(x)))

    X, F, y = (a[0].numpy() for a in data(B=1))
    body = Body()
    before = {k: v.clone() for k, v in body.state_dict().items()}
    fit = LocalMA(network=body, random_state=0, training=Training(steps=100, learning_rate=0.05)).fit(X, y, F=F)
    assert fit.weights(X).std() > 0.01
    assert torch.equal(fit.network_.body.frozen.weight, before["frozen.weight"])
    assert all(torch.equal(v, before[k]) for k, v in body.state_dict().items())  # a copy is trained
    assert np.isfinite(fit.fit_info_.gradient_norm)


def test_divergence_of_training_is_reported():
    X, F, y = (a[0].numpy() for a in data(B=1))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        LocalMA(
            random_state=0, shrinkage=None, loss=lambda y, a: (y - a) * float("nan"), training=Training(steps=3)
        ).fit(X, y, F=F)


def test_module_stack_trains_any_module():
    """`train` on a regression that has a closed form: a linear map, mean squared error, no softmax in sight."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 200, 2, generator=g, dtype=torch.float64)
    target = (x @ torch.tensor([1.0, -2.0], dtype=torch.float64)) + 0.5
    module = nn.Linear(2, 1, dtype=torch.float64)
    options = Training(steps=500, penalty=0.0, learning_rate=0.1).resolve(200)
    history = train(ModuleStack([module]), x, lambda out, y: (out[:, 0] - y).square(), (target,), options, [g])
    np.testing.assert_allclose(module.weight.detach(), [[1, -2]], atol=1e-3)
    assert module.bias.item() == pytest.approx(0.5, abs=1e-3)
    assert history.train_loss.shape == (500, 1)


def test_standardization_leaves_constant_columns_alone():
    X = torch.tensor([[[1e6, 1.0, 0.1], [1e6, 3.0, 0.1 + 1e-17], [1e6, 5.0, 0.1]]], dtype=torch.float64)
    mean, scale = standardization(X)
    np.testing.assert_allclose(mean[0], [1e6, 3, 0.1])
    np.testing.assert_allclose(scale[0], [1, (8 / 3) ** 0.5, 1])


@pytest.mark.parametrize(
    ("n", "steps", "batch", "fraction"), [(50, 100, 50, 0), (1000, 100, 1000, 0), (4000, 200, 1024, 0)]
)
def test_options_resolve_from_the_sample_size(n, steps, batch, fraction):
    options = Training().resolve(n)
    assert (options.steps, options.batch_size, options.validation_fraction) == (steps, batch, fraction)
    assert 0 < options.penalty < 1
    assert options.penalty > automatic_penalty(4 * n)
    assert Training(steps=7, penalty=0.5).resolve(n) == Training(7, batch, 0.1, 0.5, fraction, None, 1e-8)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", -1), ("steps", 2.5), ("steps", "many"), ("steps", None), ("batch_size", 0), ("batch_size", "x"), ("learning_rate", 0),
     ("learning_rate", float("nan")), ("learning_rate", "fast"), ("penalty", -1), ("penalty", None), ("penalty", "big"),
     ("validation_fraction", 1), ("validation_fraction", -0.1), ("validation_fraction", "some"), ("patience", 0), ("patience", 1.5),
     ("patience", 3)],
)  # fmt: skip
def test_options_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):  # patience=3 without a validation part is the last of them
        Training(**{name: value}).resolve(100)


@pytest.mark.parametrize(("n", "fraction"), [(4, 0.1), (1, 0.5), (3, 0.9)])
def test_a_sample_too_small_to_hold_out(n, fraction):
    with pytest.raises(
        ValueError, match=f"validation_fraction = {fraction} of n = {n} .*give more data or validation_fraction=0"
    ):
        Training(validation_fraction=fraction).resolve(n)


def test_stack_arguments_are_checked():
    X, F, y = data(B=2)
    with pytest.raises(ValueError, match="seeds has 1 entries for 2"):
        fit_stack(X, F, y, LOSSES["squared"], seeds=[0])
    with pytest.raises(ValueError, match="width"):
        fit_stack(X, F, y, LOSSES["squared"], seeds=[0, 1], network=Mlp(0))
    with pytest.raises(ValueError, match="depth"):
        fit_stack(X, F, y, LOSSES["squared"], seeds=[0, 1], network=Mlp(depth=-1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", SCHEMES.values(), ids=SCHEMES)
def test_cuda_equals_cpu(options):
    X, F, y = data()
    cpu = fit_stack(X, F, y, LOSSES["squared"], seeds=[3, 1, 4], training=options)
    cuda = fit_stack(X.cuda(), F.cuda(), y.cuda(), LOSSES["squared"], seeds=[3, 1, 4], training=options)
    torch.testing.assert_close(cuda.weights(X.cuda()).cpu(), cpu.weights(X), rtol=0, atol=1e-8)


def test_arrays_of_a_stack_must_share_replications_and_observations():
    X, F, y = torch.zeros(2, 9, 3), torch.zeros(2, 8, 3), torch.zeros(2, 9)
    with pytest.raises(ValueError, match=r"F has shape \(2, 8, 3\).*share the replications B and observations n"):
        fit_stack(X, F, y, LOSSES["squared"], seeds=range(2))


def test_a_stack_of_direct_models_is_each_of_them_alone():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(5, 60, 3, generator=generator, dtype=torch.float64)
    y = X[..., 0].abs() + 0.1 * torch.randn(5, 60, generator=generator, dtype=torch.float64)
    counts = [60, 20, 41, 20, 1]
    for b, k in enumerate(counts):
        X[b, k:] = y[b, k:] = float("nan")  # whatever stands there is ignored
    test = torch.randn(5, 30, 3, generator=generator, dtype=torch.float64)
    options = Training(learning_rate=0.03, steps=60)
    whole = fit_direct_stack(X, y, seeds=range(5, 10), counts=counts, network=Mlp(8), training=options).predict(test)
    for b, k in enumerate(counts):
        alone = fit_direct_stack(X[b : b + 1, :k], y[b : b + 1, :k], seeds=[5 + b], network=Mlp(8), training=options)
        torch.testing.assert_close(whole[b], alone.predict(test[b : b + 1])[0], rtol=1e-6, atol=1e-8)
    assert torch.allclose(whole[4], y[4, 0]), "one observation gives a constant"


def test_a_direct_model_learns_y_in_its_own_unit_if_told_so():
    generator = torch.Generator().manual_seed(0)
    X, y = (torch.randn(1, 60, *d, generator=generator, dtype=torch.float64) for d in ((2,), ()))
    y = (y - y.mean()) / y.std(correction=0)
    how = {"seeds": [4], "network": Mlp(8), "training": Training(steps=30)}
    own = fit_direct_stack(X, y, **how, standardize=False).predict(X)
    torch.testing.assert_close(fit_direct_stack(X, 1 + 9 * y, **how).predict(X), 1 + 9 * own)
    assert not torch.allclose(fit_direct_stack(X, 1 + 9 * y, **how, standardize=False).predict(X), 1 + 9 * own)


def test_a_stack_of_direct_models_equals_the_estimator():
    generator = torch.Generator().manual_seed(1)
    X, test = torch.randn(3, 50, 2, generator=generator), torch.randn(3, 20, 2, generator=generator)
    y = X.prod(-1)
    options = Training(learning_rate=0.03, steps=40)
    stack = fit_direct_stack(X, y, seeds=[4, 5, 6], network=Mlp(8), training=options)
    for b in range(3):
        alone = DirectModel(mlp(2, 1, width=8, random_state=4 + b), training=options, random_state=0).fit(
            X[b].numpy(), y[b].numpy()
        )
        # The first gradient of the last bias, a mean of centred numbers, is rounding noise, and Adam's first step
        # depends on its sign.
        np.testing.assert_allclose(stack.predict(test)[b], alone.predict(test[b].numpy()), atol=0.05)


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"seeds": [1]}, "seeds"),
        ({"counts": [3, 99]}, "counts"),
        ({"counts": [0, 3]}, "counts"),
        ({"y": torch.zeros(2, 9)}, "y has shape"),
        ({"network": Mlp(0)}, "width"),
        ({"training": Training(batch_size=4)}, "batch_size"),
        ({"training": Training(validation_fraction=0.2)}, "validation_fraction"),
    ],
)
def test_a_stack_of_direct_models_names_the_bad_argument(bad, name):
    given = {"X": torch.zeros(2, 10, 3), "y": torch.zeros(2, 10), "seeds": [1, 2]} | bad
    with pytest.raises(ValueError, match=name):
        fit_direct_stack(given.pop("X"), given.pop("y"), **given)


def test_two_fits_at_once_leave_torchs_threads_as_they_were():
    """Whoever leaves first must not leave its neighbour's single thread behind."""
    X, F, y = data(B=4)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first, second = one_thread(), one_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda seed: fit_stack(X, F, y, LOSSES["squared"], seeds=[seed] * 4, training=Training(steps=5)),
                    range(8),
                )
            )
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_fit_imports_no_compiler():
    """``torch.optim`` brings ``torch._dynamo``, a second and more in which a small sample is fitted."""
    code = """
import sys
import numpy as np
from localma import LocalMA
x = np.linspace(-1, 1, 40)
LocalMA(random_state=0).fit(x[:, None], abs(x), F=np.stack([x, -x], 1))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
