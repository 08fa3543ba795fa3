"""The weight network and its stacked twin."""

import numpy as np
import pytest
import torch
from torch import nn

from localma import LOSSES, Loss, WeightNetwork, mlp, pinball
from localma.engine.local import _Criterion, _targets
from localma.engine.networks import Mlp, initial_values, mlp_from_parameters, module_input, split_parameters
from localma.engine.stacks import MLPStack


@pytest.mark.parametrize(
    ("width", "depth", "parameters"), [(16, 1, 6 * 16 + 17 * 3), (4, 2, 6 * 4 + 5 * 4 + 5 * 3), (7, 0, 6 * 3)]
)
def test_mlp_has_the_layers_of_the_paper(width, depth, parameters):
    body = mlp(5, 3, width=width, depth=depth)
    assert sum(p.numel() for p in body.parameters()) == parameters
    assert sum(isinstance(m, nn.ReLU) for m in body) == depth
    assert isinstance(body[-1], nn.Linear)
    assert (body(torch.randn(4, 5)) == 0).all()


def test_hidden_layers_start_random_and_reproducible():
    first, again, other = (mlp(5, 3, random_state=s)[0].weight for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 5**-0.5
    assert first.std().item() == pytest.approx(
        (5 * 3) ** -0.5, rel=0.25
    )  # uniform; 80 draws: fails for a right program with p < 1e-4


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 3, 16, 1), "in_features"), ((5, 0, 16, 1), "out_features"), ((5, 3, 0, 1), "width"), ((5, 3, 16, -1), "depth"),
     ((5, 3, 2.5, 1), "width"), ((5, 3, "wide", 1), "width")],
)  # fmt: skip
def test_mlp_refuses_sizes_by_name(arguments, name):
    d, M, width, depth = arguments
    with pytest.raises(ValueError, match=name):
        mlp(d, M, width=width, depth=depth)


def test_mlp_refuses_a_seed_by_name():
    with pytest.raises(ValueError, match="random_state"):
        mlp(5, 3, random_state=None)


def test_zero_output_layer_means_equal_weights():
    x = torch.randn(6, 5)
    body = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4))
    np.testing.assert_array_equal(WeightNetwork(body)(x).detach().numpy(), np.full((6, 4), 0.25))
    kept = WeightNetwork(nn.Linear(5, 4), zero_output=False)(x)
    assert kept.std() > 0


def test_weights_are_on_the_simplex_and_ignore_a_constant():
    torch.manual_seed(0)
    body = nn.Linear(5, 4, dtype=torch.float64)
    network = WeightNetwork(body, zero_output=False)
    x = torch.randn(50, 5, dtype=torch.float64)
    w = network(x)
    assert (w >= 0).all()
    torch.testing.assert_close(w.sum(1), torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close(network.log_weights(x).exp(), w)
    with torch.no_grad():
        body.bias += 7.0
    torch.testing.assert_close(network(x), w)
    with torch.no_grad():
        body.weight *= 1e6
    assert network.log_weights(x).isfinite().all()


def test_weight_network_refuses_what_it_cannot_use():
    with pytest.raises(TypeError, match="body"):
        WeightNetwork(lambda x: x)
    with pytest.raises(ValueError, match="zero_output=False"):
        WeightNetwork(nn.Conv1d(1, 1, 1))


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_stack_equals_its_networks_values_and_gradients(depth):
    sizes = Mlp(6, depth).sizes(5, 3)
    values = torch.stack([initial_values(sizes, torch.Generator().manual_seed(s)) for s in range(4)])
    values = values + torch.randn(
        values.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64
    )  # outputs away from zero
    stack = MLPStack(values, sizes)
    x = torch.randn(4, 5, 11, dtype=torch.float64)
    out = stack(x)
    out.square().sum().backward()
    gradients = torch.cat([p.grad.flatten(1) for p in stack.parameters], 1)
    for b in range(4):
        alone = mlp_from_parameters(split_parameters(values[b], sizes), torch.float64)
        torch.testing.assert_close(out[b], alone(x[b].T).T)
        alone(x[b].T).square().sum().backward()
        torch.testing.assert_close(gradients[b], torch.cat([p.grad.flatten() for p in alone.parameters()]))
        torch.testing.assert_close(stack.gradient_norm()[b], gradients[b].norm())
    torch.testing.assert_close(stack.values(), values)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize(
    "loss", [*LOSSES.values(), pinball(0.3), Loss("own", lambda y, a: (y - a) ** 4)], ids=lambda loss: loss.name
)
def test_derivatives_by_hand_equal_automatic_ones(depth, loss):
    """Of every loss, of networks of every depth; a second call into the same memory adds nothing up."""
    sizes, g = Mlp(6, depth).sizes(5, 3), torch.Generator().manual_seed(0)
    values = 0.3 * torch.randn(4, sum((i + 1) * o for i, o in sizes), generator=g, dtype=torch.float64)
    x = torch.randn(4, 5, 11, generator=g, dtype=torch.float64)
    y = torch.randint(1, 3, (4, 11), generator=g).double()
    F = torch.rand(4, 11, 3, *([4] if loss.is_classification else []), generator=g, dtype=torch.float64) + 0.1
    targets = _targets(F, y, torch.rand(4, 11, generator=g, dtype=torch.float64), loss)
    stack, plain = MLPStack(values, sizes), MLPStack(values, sizes)
    criterion = _Criterion(loss)
    value = criterion(plain(x), *targets).mean(-1)
    value.sum().backward()
    for _ in range(2):
        torch.testing.assert_close(stack.differentiate(criterion, x, targets), value.detach())
        for p, q in zip(stack.parameters, plain.parameters, strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    torch.testing.assert_close(stack.differentiate(criterion.__call__, x, targets), value.detach())  # knows none
    for p, q in zip(stack.parameters, plain.parameters, strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_stack_keeps_rows_separately():
    sizes = Mlp(3, 1).sizes(2, 2)
    stack = MLPStack(torch.zeros(3, sum((i + 1) * o for i, o in sizes)), sizes)
    kept = stack.snapshot()
    with torch.no_grad():
        for p in stack.parameters:
            p += 1
    stack.keep(kept, torch.tensor([True, False, True]))
    stack.restore(kept)
    np.testing.assert_array_equal(stack.values().unique(dim=1).flatten(), [1, 0, 1])


def test_whole_numbers_stay_whole_only_for_embeddings():
    tokens = np.array([[1, 2]], dtype=np.int32)
    assert module_input(nn.Linear(2, 1), tokens).dtype == torch.float32
    assert module_input(nn.Linear(2, 1).double(), tokens).dtype == torch.float64
    assert module_input(nn.Embedding(3, 1), tokens).dtype == torch.int64
    assert module_input(nn.Embedding(3, 1), tokens.astype(float)).dtype == torch.float32
    assert module_input(nn.Flatten(), tokens).dtype == torch.float32
