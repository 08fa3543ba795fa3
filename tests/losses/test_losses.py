"""Losses against independent implementations, their theory, their domains and their gradients."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from scipy import stats
from sklearn.metrics import (
    log_loss,
    mean_gamma_deviance,
    mean_poisson_deviance,
    mean_squared_error,
    mean_tweedie_deviance,
)

from localma import LOSSES, GlobalMA, LocalMA, Loss, pinball, tweedie
from localma.losses import named, resolve_loss
from localma.theory import in_sample_risk, oracle_risk

REGRESSION = [
    *(loss for loss in LOSSES.values() if not loss.is_classification),
    tweedie(1.3),
    tweedie(2.5),
    tweedie(3.0),
]
IDS = [loss.name for loss in REGRESSION]
BREGMAN = [loss for loss in REGRESSION if loss.phi is not None]


def sample(loss, n=40, seed=0):
    """Responses and predictions inside a loss's domain, zeros included where they are allowed."""
    rng = np.random.default_rng(seed)
    y, a = rng.gamma(2, 1, n), rng.gamma(3, 1, n) + 0.1
    if loss.name == "poisson":
        y = rng.poisson(1.5, n).astype(float)
    elif loss.response == "non-negative":
        y[::5] = 0
    elif loss.response == "real":
        y, a = rng.normal(size=n), rng.normal(size=n)
    return y, a


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (LOSSES["squared"], mean_squared_error),
        (LOSSES["poisson"], mean_poisson_deviance),
        (LOSSES["gamma"], mean_gamma_deviance),
        (LOSSES["tweedie"], lambda y, a: mean_tweedie_deviance(y, a, power=1.5)),
        (tweedie(1.1), lambda y, a: mean_tweedie_deviance(y, a, power=1.1)),
        (tweedie(2.7), lambda y, a: mean_tweedie_deviance(y, a, power=2.7)),
    ],
)
def test_values_agree_with_scikit_learn(loss, reference):
    y, a = sample(loss)
    assert loss(y, a).mean() == pytest.approx(reference(y, a), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "family"),
    [
        (LOSSES["squared"], sm.families.Gaussian()),
        (LOSSES["poisson"], sm.families.Poisson()),
        (LOSSES["gamma"], sm.families.Gamma()),
        (tweedie(1.4), sm.families.Tweedie(var_power=1.4)),
    ],
)
def test_values_agree_with_statsmodels(loss, family):
    y, a = sample(loss)
    np.testing.assert_allclose(
        loss(y, a), [family.deviance(y[i : i + 1], a[i : i + 1]) for i in range(len(y))], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(
    ("loss", "log_likelihood"),
    [
        (LOSSES["squared"], lambda y, a: stats.norm.logpdf(y, a, 0.5**0.5)),
        (LOSSES["poisson"], lambda y, a: 2 * stats.poisson.logpmf(y, a)),
        (LOSSES["gamma"], lambda y, a: 2 * stats.gamma.logpdf(y, 1, scale=a)),
    ],
)
def test_differences_are_those_of_log_likelihoods(loss, log_likelihood):
    y, a = sample(loss)
    _, b = sample(loss, seed=1)
    np.testing.assert_allclose(
        loss(y, a) - loss(y, b), log_likelihood(y, b) - log_likelihood(y, a), rtol=1e-10, atol=1e-12
    )


def test_cross_entropy_agrees_with_scikit_learn_and_scipy():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 30)
    y = rng.integers(0, 4, 30)
    loss = LOSSES["cross_entropy"]
    assert loss(y, p).mean() == pytest.approx(log_loss(y, p, labels=range(4)), rel=1e-12)
    q = rng.dirichlet(np.ones(4), 30)
    np.testing.assert_allclose(loss.divergence(q, p), stats.entropy(q, p, axis=1), rtol=1e-12)
    # the Bregman form of the same: phi(q) - phi(p) - phi'(p)(q - p)
    phi = loss.phi
    slope = np.log(p) + 1
    bregman = phi(torch.tensor(q)).numpy() - phi(torch.tensor(p)).numpy() - (slope * (q - p)).sum(1)
    np.testing.assert_allclose(loss.divergence(q, p), bregman, rtol=1e-9, atol=1e-12)
    # and it separates: E[L(Y, p)] - E[L(Y, q)] = divergence where Y has probabilities q
    expected = (q * (np.log(q) - np.log(p))).sum(1)
    np.testing.assert_allclose(loss.divergence(q, p), expected, rtol=1e-9)


@pytest.mark.parametrize("loss", BREGMAN, ids=lambda loss: loss.name)
def test_bregman_identity_and_separation(loss):
    """E L(Y, a) - E L(Y, mu) = l(mu, a) for a Y with two values; the divergence is also the loss itself, as these are
    deviances.
    """
    (low, high), share = (sample(loss, seed=s)[1] for s in (1, 2)), 0.3
    a = sample(loss, seed=3)[1]
    mu = (1 - share) * low + share * high
    excess = (1 - share) * (loss(low, a) - loss(low, mu)) + share * (loss(high, a) - loss(high, mu))
    np.testing.assert_allclose(loss.divergence(mu, a), excess, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(loss.divergence(mu, a), loss(mu, a), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("loss", BREGMAN, ids=lambda loss: loss.name)
def test_divergence_is_zero_only_at_the_mean(loss):
    mu, a = sample(loss)[1], sample(loss, seed=5)[1]
    assert (loss.divergence(mu, a) > 0).all()
    np.testing.assert_allclose(loss.divergence(mu, mu), 0, atol=1e-12)


@pytest.mark.parametrize("loss", REGRESSION, ids=IDS)
def test_derivatives_agree_with_finite_differences(loss):
    y, a = (torch.tensor(v) for v in sample(loss))
    first, second = loss.derivatives(y, a)
    h = 1e-5
    torch.testing.assert_close(first, (loss(y, a + h) - loss(y, a - h)) / (2 * h), rtol=1e-5, atol=1e-6)
    slopes = [loss.derivatives(y, a + s * h)[0] for s in (1, -1)]
    torch.testing.assert_close(second, (slopes[0] - slopes[1]) / (2 * h), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [*REGRESSION, LOSSES["cross_entropy"]], ids=[*IDS, "cross_entropy"])
def test_of_logits_its_gradient_and_of_weights(loss):
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(2, 3, 6)), requires_grad=True)
    if loss.is_classification:
        F = torch.tensor(rng.dirichlet(np.ones(4), (2, 6, 3))).permute(0, 2, 3, 1)  # (B, M, K, n)
        y = torch.tensor(rng.integers(0, 4, (2, 6)).astype(float))
    else:
        y = torch.tensor(sample(loss, 12)[0]).reshape(2, 6)
        F = torch.tensor(sample(loss, 36)[1]).reshape(2, 3, 6)
    G = loss.candidates(y, F)
    assert torch.autograd.gradcheck(lambda z: loss.of_logits(z, G, y), (logits,))
    w = torch.softmax(logits.detach(), -2)
    average = (w.unsqueeze(2) * F).sum(1).transpose(1, 2) if loss.is_classification else (w * F).sum(1)
    torch.testing.assert_close(loss.of_logits(logits.detach(), G, y), loss(y, average))
    torch.testing.assert_close(loss.of_weights(w, G, y), loss(y, average))
    value, gradient = loss.with_gradient(logits.detach(), G, y)
    torch.testing.assert_close(value, loss(y, average))
    plain = loss.of_weights(torch.softmax(logits, -2), G, y)
    torch.testing.assert_close(gradient, torch.autograd.grad(plain.sum(), logits)[0])
    shifted = logits.detach() + torch.randn(2, 1, 6, dtype=torch.float64)
    torch.testing.assert_close(loss.of_logits(shifted, G, y), loss.of_logits(logits.detach(), G, y))


def test_cross_entropy_is_safe_where_probabilities_underflow():
    """Logits of 1e4 make weights underflow; the log-sum-exp form stays finite, with a finite gradient."""
    loss = LOSSES["cross_entropy"]
    F = torch.tensor([[0.0, 1.0], [1e-8, 1 - 1e-8]]).T.reshape(1, 2, 2, 1)  # (B, K, M, n)
    F = F.transpose(1, 2).contiguous()
    y = torch.zeros(1, 1)
    G = loss.candidates(y, F)
    logits = torch.tensor([[[1e4], [-1e4]]], requires_grad=True)
    value = loss.of_logits(logits, G, y)
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad.isfinite().all()
    w = torch.tensor([[[1.0], [0.0]]])
    assert loss.of_weights(w, G, y).item() == pytest.approx(-np.log(1e-12), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "y", "bad"),
    [("poisson", [1.0, -1.0], "y[1] = -1"), ("gamma", [1.0, 2.0, 0.0], "y[2] = 0"), ("tweedie", [-0.5], "y[0] = -0.5")],
)
def test_responses_outside_the_domain(name, y, bad):
    with pytest.raises(ValueError, match=r"y must be .* for the") as error:
        LOSSES[name].check_response(y)
    assert bad in str(error.value)


@pytest.mark.parametrize(
    "loss", [loss for loss in REGRESSION if loss.prediction == "positive"], ids=lambda loss: loss.name
)
def test_predictions_outside_the_domain(loss):
    loss.check_predictions(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"F\[2, 1\] = 0"):
        loss.check_predictions(np.array([[1.0, 1], [1, 1], [1, 0]]))
    with pytest.raises(ValueError, match=r"model 'b'.*row 2"):
        loss.check_predictions(np.array([[1.0, 1], [1, 1], [1, 0]]), ["a", "b"])


def test_domains_that_include_zero():
    LOSSES["poisson"].check_response([0.0, 3.0])
    tweedie(1.5).check_response([0.0])
    LOSSES["squared"].check_response([-1.0])
    with pytest.raises(ValueError, match="positive"):
        tweedie(2.5).check_response([0.0])


@pytest.mark.parametrize("power", [0, 1, 2, 0.5, -1, float("nan"), float("inf")])
def test_tweedie_powers_without_a_deviance_here(power):
    with pytest.raises(ValueError, match="power"):
        tweedie(power)


def test_tweedie_tends_to_poisson_and_gamma():
    y, a = np.array([0.5, 2.0]), np.array([1.0, 1.5])
    np.testing.assert_allclose(tweedie(1 + 1e-7)(y, a), LOSSES["poisson"](y, a), rtol=1e-5)
    np.testing.assert_allclose(tweedie(2 - 1e-7)(y, a), LOSSES["gamma"](y, a), rtol=1e-5)


def test_scale_has_the_units_of_the_loss_and_is_never_zero():
    rng = np.random.default_rng(0)
    F, y = torch.tensor(rng.normal(size=(3, 20))), torch.tensor(rng.normal(size=20))
    loss = LOSSES["squared"]
    assert loss.scale(1000 * F, 1000 * y).item() == pytest.approx(1e6 * loss.scale(F, y).item())
    assert loss.scale(F, y).item() == pytest.approx(F.var(0, correction=0).mean().item())
    assert loss.scale(F[:1].expand(3, -1), y).item() > 0  # identical models
    assert loss.scale(y.expand(3, -1), y).item() > 0  # identical models that are right


def absolute(y, a):
    return (y - a).abs()


def test_own_callable_and_the_dictionary_as_extension_point(monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    F = np.stack([y + 0.1, y - 0.5], 1)
    own = resolve_loss(absolute)
    assert own.name == "absolute"
    np.testing.assert_allclose(own(y, F[:, 0]), 0.1)
    with pytest.raises(ValueError, match="phi"):
        own.divergence(y, y)
    average = LocalMA(loss=absolute, random_state=0).fit(X, y, F=F)
    assert (
        np.abs(y - average.predict(X, F=F)).mean() < 0.1
    )  # better than the better model: the errors have opposite signs
    monkeypatch.setitem(LOSSES, "quartic", Loss("quartic", lambda y, a: (y - a) ** 4, lambda a: a**4))
    weights = GlobalMA(loss="quartic").fit(X, y, F=F).weights_
    np.testing.assert_allclose(weights, [5 / 6, 1 / 6], atol=1e-2)  # 0.1 w = 0.5 (1 - w): no error at all


@pytest.mark.parametrize("loss", [*LOSSES.values(), tweedie(1.7)], ids=lambda loss: loss.name)
def test_losses_can_be_pickled(loss):
    again = pickle.loads(pickle.dumps(loss))
    if loss.is_classification:
        assert again([1], [[0.25, 0.75]]) == pytest.approx(-np.log(0.75))
    else:
        np.testing.assert_array_equal(again([1.0], [2.0]), loss([1.0], [2.0]))


def test_arrays_in_arrays_out_and_read_only_input():
    y = np.array([1.0, 2.0])
    y.flags.writeable = False  # as pandas hands out its columns
    assert isinstance(LOSSES["squared"](y, y), np.ndarray)
    assert isinstance(LOSSES["squared"](torch.tensor(y.copy()), torch.ones(2)), torch.Tensor)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["arrays", "tensors"])
@pytest.mark.parametrize("loss", [*REGRESSION, LOSSES["cross_entropy"]], ids=[*IDS, "cross_entropy"])
def test_shapes_must_be_equal(loss, kind):
    y, a = kind(np.ones(3)), kind(np.ones((3, 2) if loss.is_classification else 3))
    for wrong in (a[..., None], a[:2], a[None], a[0]):
        with pytest.raises(ValueError, match=r"y has shape \(3,\), but the predictions have .*expected \(3"):
            loss(y, wrong)
    with pytest.raises(ValueError, match=r"y has shape \(3, 1\)"):
        loss(y[:, None], a)


@pytest.mark.parametrize("loss", [*BREGMAN, LOSSES["cross_entropy"]], ids=lambda loss: loss.name)
def test_divergence_takes_leading_dimensions_and_nothing_else(loss):
    """The risks of many replications are measured in one call; a column against a row would be measured as n * n of
    them.
    """
    mu, a = (np.full((4, 3, 2), 0.5), np.full((3, 2), 0.5)) if loss.is_classification else (np.ones((4, 3)), np.ones(3))
    assert loss.divergence(mu, a).shape == loss.divergence(a, mu).shape == (4, 3)
    for wrong in (a[:, None], a[:2], mu[:, :1]):
        with pytest.raises(ValueError, match=r"mu has shape .*, but a has"):
            loss.divergence(a, wrong)


@pytest.mark.parametrize("y", [[0.7, 1.0], [0, -1], [2, 0], [0, np.nan]])
def test_class_labels_are_whole_and_known(y):
    with pytest.raises(ValueError, match=r"y must hold class numbers from 0 to 1, .*but y has"):
        LOSSES["cross_entropy"](y, [[0.5, 0.5], [0.2, 0.8]])


def test_the_first_model_outside_the_domain_is_named():
    F = np.ones((3, 2))
    F[0, 1] = F[2, 0] = -1
    with pytest.raises(ValueError, match=r"F\[2, 0\] = -1"):
        LOSSES["gamma"].check_predictions(F)
    P = np.full((3, 2, 2), 0.5)
    P[0, 1], P[2, 0] = 0.7, [1.5, -0.5]
    with pytest.raises(ValueError, match=r"F\[:, 0\].*row 2 sums to 1 and its smallest entry is -0.5\."):
        LOSSES["cross_entropy"].check_predictions(P)


# --- fields ------------------------------------------------------------


@pytest.mark.parametrize("loss", [*REGRESSION, LOSSES["cross_entropy"], pinball(0.3)], ids=lambda loss: loss.name)
def test_fields_say_what_the_derivatives_say(loss):
    if loss.is_classification:
        y, a = torch.zeros(40), torch.linspace(0.05, 1, 40, dtype=torch.float64)
        first, second = -1 / a, 1 / a**2  # of -log(a)
        assert loss.quadratic is False
        torch.testing.assert_close(loss.slope(y, a), first)
    else:
        y, a = (torch.tensor(v) for v in sample(loss, 400))
        first, second = loss.derivatives(y, a)
        torch.testing.assert_close(loss.slope(y, a), first, rtol=0, atol=0)
        free = replace(loss, power=None, slopes=None).derivatives(y, a)  # by automatic differentiation
        torch.testing.assert_close((first, second), free)
        assert bool(loss.quadratic) == (second.std() == 0 < second.mean())
    assert bool(loss.convex) == bool((second >= 0).all())
    if loss.power is not None:  # of a deviance the slope is 2 (a - y) / a^p
        torch.testing.assert_close(first, 2 * (a - y) / a**loss.power)
    if loss.slopes is not None:
        torch.testing.assert_close(first, torch.where(y > a, -loss.slopes[0], loss.slopes[1]).to(first))


@pytest.mark.parametrize("slopes", [(1,), (0, 0), (-1, 1), (1, np.inf), (1, np.nan)])
def test_slopes_are_two_numbers(slopes):
    with pytest.raises(ValueError, match="slopes must be two non-negative numbers"):
        Loss("mine", absolute, slopes=slopes)


@pytest.mark.parametrize("loss", [*BREGMAN, LOSSES["cross_entropy"]], ids=lambda loss: loss.name)
def test_divergence_is_never_negative_and_keeps_its_gradient(loss):
    rng = np.random.default_rng(0)
    if loss.is_classification:
        mu = rng.dirichlet(np.ones(4), 20_000)
        a = mu * (1 + 1e-9 * rng.normal(size=mu.shape))
        a /= a.sum(-1, keepdims=True)
    else:
        mu = 1 + rng.gamma(2, 1, 20_000)
        a = mu * (1 + 1e-9 * rng.normal(size=mu.shape))
    value = loss.divergence(mu, a)
    assert (value >= 0).all()
    assert (value == 0).any()  # rounding goes below for some
    assert in_sample_risk(loss, mu[:1], a[:1]) >= 0
    if not loss.is_classification:
        at = torch.tensor(a, requires_grad=True)
        slope = torch.autograd.grad(loss.divergence(torch.tensor(mu), at).sum(), at)[0].numpy()
        curvature = loss.derivatives(torch.tensor(mu), torch.tensor(mu))[1].numpy()
        zero = value == 0
        np.testing.assert_allclose(slope[zero], (curvature * (a - mu))[zero], atol=2e-14 * curvature.max())
        assert np.abs(slope[zero]).max() > 1e-9


def test_losses_with_a_parameter_are_named_by_text():
    assert resolve_loss("tweedie(1.7)").power == 1.7
    assert resolve_loss("pinball(0.9)").slopes == pytest.approx((0.9, 0.1))
    assert named(pinball(0.123456789).name).slopes[0] == 0.123456789
    for text in ("pinball", "pinball()", "cauchy(2)", "tweedie(x)", "nothing"):
        assert named(text) is None
    with pytest.raises(ValueError, match="level must lie between"):
        resolve_loss("pinball(9)")


@pytest.mark.parametrize("name", ["absolute", "pinball(0.9)"])
def test_losses_of_quantiles_have_no_divergence(name):
    with pytest.raises(ValueError, match="no generator phi"):
        resolve_loss(name).divergence([1.0], [2.0])
    with pytest.raises(ValueError, match="no generator phi"):
        oracle_risk(name, [[1.0, 2.0]], [1.5])
