"""Five methods on one split of a city's flats, and what the paper does not ask."""

from __future__ import annotations

import numpy as np
import torch

from localma.engine import Mlp, Training, first_smallest, fit_direct_stack, fit_local_stack, fit_stack, global_weights
from localma.losses import LOSSES
from localma.replication.housing.companies import DIRECT, WIDTH, City, draw, forests, networks

METHODS = ("LocalMA", "GW", "EWMA", "DirectModel", "BestPTM")
TOLD = " told the district"


def direct_networks(X, y, n: int, seeds, settings: dict) -> np.ndarray:
    """Predictions (R, n_test) for the rows after the first n, of networks trained on the first n."""
    options = Training(**settings)
    stack = fit_direct_stack(X[:, :n], y[:, :n], seeds=seeds, network=Mlp(WIDTH), training=options)
    return stack.predict(X[:, n:]).cpu().numpy()


def evaluate(X, F, y, n: int, direct: np.ndarray, seeds, *, settings: dict) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Mean squared prediction error (R,) of every method in R repetitions at once, and LocalMA's weights on the test,
    (R, N - n, M).

    Of X (R, N, d), F (R, N, M) and y (R, N) the first n observations are learned from; the others are the test, for
    which the direct model predicts ``direct`` (R, N - n). The weight networks have the settings "learning_rate" and
    "penalty", the latter at n = 100.
    """
    options = Training(learning_rate=settings["learning_rate"], penalty=settings["penalty"] * (100 / n) ** 0.75)
    fit = fit_stack(X[:, :n], F[:, :n], y[:, :n], LOSSES["squared"], seeds=seeds, network=Mlp(WIDTH), training=options)
    weights = fit.weights(X[:, n:]).double().cpu().numpy()
    known, truth = F.double().cpu().numpy(), y.double().cpu().numpy()
    gw = global_weights(known[:, :n], truth[:, :n], LOSSES["squared"])
    test, target = known[:, n:], truth[:, n:]
    predictions = {
        "LocalMA": (weights * test).sum(-1),
        "GW": (gw[:, None] * test).sum(-1),
        "EWMA": test.mean(-1),
        "DirectModel": direct,
    }
    errors = {name: np.square(a - target).mean(-1) for name, a in predictions.items()}
    # the best on the test, as in the paper: an oracle
    return errors | {"BestPTM": np.square(test - target[..., None]).mean(1).min(-1)}, weights


def replicate(
    city: City, kind: str, rho: float, repetitions: range, *, seed: int = 0, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Some repetitions of one cell: ``METHOD`` (R,), its errors, and ``weights`` (R, M, M): of each district's flats on
    each district's model.
    """
    M = len(city.districts)
    splits, seeds, second, n, X, y = draw(city, rho, repetitions, seed=seed, device=device)
    if kind == "network":
        F = networks(city, splits, seeds, device=device)
        direct = direct_networks(X, y, n, seeds[:, M], city.settings["DirectModel"])
    else:
        F, direct = forests(city, splits, seeds)
        F = F.to(device)
    errors, weights = evaluate(X, F, y, n, direct, seeds[:, M + 1], settings=city.settings["LocalMA"])
    home = np.eye(M)[city.which[second[:, n:]]]  # (R, n_test, M)
    mean = np.einsum("rni,rnm->rim", home, weights) / np.maximum(home.sum(1), 1)[..., None]
    return errors | {"weights": mean, "sizes": np.array([sum(map(len, splits[0].first)), n, len(splits[0].test)])}


def ask_more(
    city: City, rho: float, repetitions: range, *, seed: int = 0, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Not in the paper: errors (R,) of LocalMA and DirectModel, both networks, without and with the district told.

    Both with the table's setting, and "Adaptive", where each sample chooses for itself: the penalty by
    :func:`localma.engine.fit_local_stack`, the direct network's learning rate and steps by :func:`choose_direct`.
    ``DefaultLocalMA`` has the package's automatic penalty, which nobody chose for rents (``LocalMA(shrinkage=None)``);
    ``OwnDistrict`` asks for each flat the model of its own district, with nothing learned at all.
    """
    M = len(city.districts)
    splits, seeds, second, n, X, y = draw(city, rho, repetitions, seed=seed, device=device)
    F = networks(city, splits, seeds, device=device)
    district = torch.as_tensor(city.which[second], device=device)
    told = torch.cat([X, torch.nn.functional.one_hot(district, M).to(X)], -1)
    own = F.gather(-1, district.unsqueeze(-1)).squeeze(-1)

    def error(average) -> np.ndarray:
        return (torch.as_tensor(average).to(y) - y[:, n:]).square().mean(-1).cpu().numpy()

    errors = {"OwnDistrict": error(own[:, n:])}
    for words, x in (("", X), (TOLD, told)):
        direct = direct_networks(x, y, n, seeds[:, M], city.settings["DirectModel"])
        found, _ = evaluate(x, F, y, n, direct, seeds[:, M + 1], settings=city.settings["LocalMA"])
        errors |= {f"{method}{words}": found[method] for method in ("LocalMA", "DirectModel")}
        sample = x[:, :n], F[:, :n], y[:, :n], LOSSES["squared"]
        averages = {
            "Default": fit_stack(*sample, seeds=seeds[:, M + 1], network=Mlp(WIDTH)),
            "Adaptive": fit_local_stack(*sample, seeds=seeds[:, M + 1], network=Mlp(WIDTH)),
        }
        for name, fit in averages.items():
            errors[f"{name}LocalMA{words}"] = error((fit.weights(x[:, n:]) * F[:, n:]).sum(-1))
        errors[f"AdaptiveDirectModel{words}"] = error(choose_direct(x, y, n, seeds[:, M], DIRECT)[0])
    return errors


def choose_direct(X, y, n: int, seeds, tried: tuple[dict, ...]) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`direct_networks`, with that setting of ``tried`` which predicts the last quarter of a sample best from
    the rest; and which it is, (R,).
    """
    rest = n - n // 4
    held = np.stack([direct_networks(X[:, :n], y[:, :n], rest, seeds, settings) for settings in tried])
    best = first_smallest(np.square(held - y[:, rest:n].cpu().numpy()).mean(-1), 0)
    found = np.stack([direct_networks(X, y, n, seeds, settings) for settings in tried])
    return found[best, np.arange(len(best))], best
