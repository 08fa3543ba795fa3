"""Hölder norms against closed forms, against autograd, and what shows that a function is not in the class."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from localma.theory import hoelder_norm, hoelder_terms


def power(exponent):
    return lambda x: np.abs(x[:, 0]) ** exponent


@pytest.mark.parametrize("frequency", [1, 2.5])
@pytest.mark.parametrize(("beta", "order"), [(1, 1), (2, 2), (3, 3)])
def test_sine_meets_its_closed_form_from_below(frequency, beta, order):
    """Over more than a period the sup norm of the derivative of order k is frequency^k, and the quotients at whole beta
    are that of order beta.
    """
    terms = hoelder_terms(lambda x: np.sin(frequency * x[:, 0]), beta, box=[(0, 8)], points=801)
    known = frequency ** np.arange(order)
    assert (terms.derivatives <= known + 1e-9).all()
    assert np.allclose(terms.derivatives, known, rtol=1e-3)
    assert terms.quotient <= frequency**order * (1 + 1e-9)
    assert np.isclose(terms.quotient, frequency**order, rtol=1e-3)


@pytest.mark.parametrize("points", [11, 51, 201])
@pytest.mark.parametrize("exponent", [0.3, 0.5, 0.9])
def test_root_has_the_quotient_one(exponent, points):
    """| |x|^r - |y|^r | <= |x - y|^r, with equality at y = 0, which is on these grids."""
    assert np.isclose(hoelder_terms(power(exponent), exponent, box=[(-1, 1)], points=points).quotient, 1)


@pytest.mark.parametrize("points", [21, 101])
def test_polynomials_are_exact(points):
    """Second differences of a cubic's neighbours are exact at a midpoint: 6 x there; those of x^2 are 2."""
    square = hoelder_terms(lambda x: x[:, 0] ** 2, 2, box=[(-1, 3)], points=points)
    assert np.isclose(square.quotient, 2)
    cubic = hoelder_terms(lambda x: x[:, 0] ** 3, 3, box=[(0, 1)], points=points)
    h = 1 / (points - 1)
    assert np.isclose(cubic.derivatives[2], 6 * (1 - h))
    assert np.isclose(cubic.quotient, 6)
    line = hoelder_norm(lambda x: 2 * x[:, 0] - 5 * x[:, 1], 1.5, box=[(0, 1), (0, 1)], points=7)
    assert np.isclose(line, 5), "gradient (2, -5), value between -5 and 2, no second derivative"


def test_plane_in_two_dimensions_has_the_norm_of_its_gradient():
    """3 x_1 + 4 x_2 has Lipschitz constant 5, attained along (3, 4), a direction of the grid."""
    assert np.isclose(hoelder_terms(lambda x: x @ [3.0, 4.0], 1, box=[(0, 1), (0, 1)], points=9).quotient, 5)
    assert np.isclose(hoelder_terms(lambda x: x @ [-3.0, 4.0], 1, box=[(0, 1), (0, 1)], points=9).quotient, 5)


def test_mixed_derivatives_count():
    """x_1 x_2: the mixed derivative is one, the pure ones are zero; and the gradient (x_2, x_1) is Lipschitz with
    constant one.
    """
    terms = hoelder_terms(lambda x: x[:, 0] * x[:, 1], 3, box=[(0, 1), (0, 2)], points=9)
    assert np.isclose(terms.derivatives[2], 1)
    assert np.isclose(hoelder_terms(lambda x: x[:, 0] * x[:, 1], 2, box=[(0, 1), (0, 2)], points=9).quotient, 1)


@pytest.mark.parametrize(
    ("function", "beta", "rate"),
    [
        (power(1), 1.5, 0.5),
        (power(1), 2, 1),
        (power(1), 2.5, 1.5),
        (power(0.5), 0.75, 0.25),
        (power(0.5), 1, 0.5),
        (power(1.5), 2, 0.5),
        (lambda x: (x[:, 0] > 0) * 1.0, 0.5, 0.5),
        (lambda x: (x[:, 0] > 0) * 1.0, 1, 1),
        (lambda x: (x[:, 0] > 0) * 1.0, 1.5, 1.5),
    ],
)
def test_what_is_not_in_the_class_diverges_at_its_rate(function, beta, rate):
    """The quotient on grids of spacing h and h/4 grows by 4^rate: |x|^r like h^(r - beta), a jump like h^-beta."""
    coarse, fine = (hoelder_terms(function, beta, box=[(-1, 1)], points=p).quotient for p in (101, 401))
    assert np.isclose(np.log(fine / coarse) / np.log(4), rate, atol=0.01)


@pytest.mark.parametrize("beta", [0.5, 1, 1.5, 2, 2.7])
def test_halving_the_spacing_never_lowers_it(beta):
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(3, 2))

    def weights(x):
        return softmax(x @ theta.T, axis=-1)

    norms = np.array([hoelder_norm(weights, beta, box=[(-1, 1), (-2, 1)], points=p) for p in (5, 9, 17)])
    assert norms.shape == (3, 3)
    assert (np.diff(norms, axis=0) >= -1e-10).all()


def test_softmax_of_linear_logits_meets_autograd():
    """At beta = 2, on a line, the quotient is the largest second derivative; both derivatives by torch on a finer
    grid.
    """
    theta = torch.tensor([[2.0], [-1.0], [0.5]], dtype=torch.float64)

    def weights(x):
        return torch.softmax(x @ theta.T, -1)

    x = torch.linspace(-3, 3, 3001, dtype=torch.float64)[:, None].requires_grad_()
    first = torch.stack([torch.autograd.grad(weights(x)[:, m].sum(), x, create_graph=True)[0][:, 0] for m in range(3)])
    second = torch.stack([torch.autograd.grad(first[m].sum(), x, retain_graph=True)[0][:, 0] for m in range(3)])
    terms = hoelder_terms(lambda x: weights(torch.as_tensor(x)).numpy(), 2, box=[(-3, 3)], points=601)
    assert np.allclose(terms.derivatives[1], first.abs().amax(1).detach(), rtol=1e-3)
    assert np.allclose(terms.quotient, second.abs().amax(1), rtol=1e-2)
    # pencil: the derivative of one of two weights is at most a quarter of the difference of their slopes
    assert np.allclose(
        hoelder_terms(lambda x: softmax(x @ [[2.0, -1.0]], axis=-1), 1, box=[(-3, 3)], points=601).quotient,
        0.75,
        rtol=1e-4,
    )


def test_values_on_a_grid_are_the_function():
    x = np.stack(np.meshgrid(np.linspace(0, 1, 12), np.linspace(-1, 1, 12), indexing="ij"), -1)
    function = lambda x: np.stack([np.sin(x[..., 0] * x[..., 1]), np.exp(x[..., 1])], -1)  # noqa: E731
    box = [(0, 1), (-1, 1)]
    assert np.array_equal(hoelder_norm(function(x), 1.5, box=box), hoelder_norm(function, 1.5, box=box, points=12))
    assert hoelder_norm(function(x)[..., 0], 1.5, box=box).shape == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 0}, "beta must be a positive"),
        ({"beta": np.nan}, "beta must be a positive"),
        ({"box": [(1, 0)]}, "box must be pairs"),
        ({"box": (0, 1)}, "box must be pairs"),
        ({"points": 1}, "points must be a whole"),
        ({"points": 3, "beta": 3}, "points.*too small.*4 points"),
        ({"function": np.arange(3.0), "beta": 3}, "function.*too small.*4 points"),
        ({"function": lambda x: x[:3, 0]}, "function maps 101 points to shape"),
        ({"function": lambda x: np.log(x[:, 0])}, "function has values that are not finite"),
        ({"function": np.zeros((3, 3, 3))}, "function has values of shape"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_errors_name_the_argument(arguments, message):
    settings = {"function": power(1), "beta": 1, "box": [(0, 1)]} | arguments
    with pytest.raises(ValueError, match=message):
        hoelder_norm(settings.pop("function"), settings.pop("beta"), **settings)
