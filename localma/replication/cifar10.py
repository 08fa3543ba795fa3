"""Four companies and ten classes of photographs: the paper's Section 5.3 and its Table 5.

Each company has a pre-trained network and all 20,000 training images of its four classes, with 50 random images of the others. It trains a new last layer:
multinomial logistic regression on the network's frozen features. The weights of the average come from a small convolutional network that sees the image itself.

What the paper leaves open and we decided: 50 images of the other classes in all, not of each (accuracies of 31 to 37 % imply it); no augmentation for the
companies, whose features are computed once; rotations within 15 degrees; a company's predictions belong to the image, not to its augmented copies; the
samples of one repetition are nested, each n has the first n images of one random order.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from localma.averages import LocalMA
from localma.datasets.cifar10 import CLASSES, Cifar10, load_cifar10
from localma.datasets.find import cache_folder
from localma.engine import global_weights, one_thread
from localma.files import write_arrays
from localma.losses import LOSSES
from localma.replication.networks import FAMILIES, choose_family, features, weight_network
from localma.replication.runner import run_parts, summarise, write_results

__all__ = ["CONFIGURATION", "OWN", "Material", "companies", "fit_weights", "load_predictions", "run"]

#: The classes of each company, numbered as in ``CLASSES``; the paper's, in its order.
OWN = {"A": (0, 1, 2, 3), "B": (2, 3, 4, 5), "C": (4, 5, 6, 7), "D": (6, 7, 8, 9)}
COMPANIES = tuple(OWN)
KNOWS = np.array([[k in own for own in OWN.values()] for k in range(10)])
OTHERS = 50
SIZES = tuple(range(1000, 10_001, 1000))
REPETITIONS, CHUNK = 50, 5
QUICK_SIZES, QUICK_REPETITIONS = (1000, 4000), 3
TEMPERATURE = 2.0  #: of the companies' answers where a row of the table says that they were cooled
#: Choices of each company's ridge penalty (C of scikit-learn), by the log loss on a tenth of its own images.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)

#: LocalMA in every cell; steps and penalty are what the rule of :mod:`localma.replication.cifar10_tuning` picked.
CONFIGURATION = {"channels": (16, 32, 64), "steps": 75, "batch_size": 128, "learning_rate": 0.003, "penalty": 1.0}


@dataclass(frozen=True)
class Material:
    """What all repetitions share: the images, and what the four companies say about each."""

    data: Cifar10
    family: str  #: whose networks: "tflite", "torchvision", or "pixels" for the made-up images
    F: np.ndarray  #: (50000, 4, 10), float32, class probabilities for the training images
    F_test: np.ndarray
    C: tuple[float, ...]  #: the penalty that each company chose


def company_images(labels: np.ndarray, own: tuple[int, ...], rng: np.random.Generator, others: int = OTHERS) -> np.ndarray:
    """Indices of a company's images: all of its own classes, and ``others`` at random among the rest."""
    mine = np.isin(labels, own)
    rest = np.flatnonzero(~mine)
    if others > len(rest):
        raise ValueError(f"others = {others}, but only {len(rest)} images are of other classes")
    return np.concatenate([np.flatnonzero(mine), rng.choice(rest, others, replace=False)])


def companies(X: list[np.ndarray], labels: np.ndarray, X_test: list[np.ndarray], *, seed: int = 0, others: int = OTHERS):
    """Train the four last layers.

    Parameters
    ----------
    X, X_test : list of four arrays, (n, d_m) and (n_test, d_m)
        Features of each company's own network.
    labels : array of shape (n,)
        Classes 0 to 9.
    seed : int
        Of the images of other classes and of the tenth that chooses the penalty.

    Returns
    -------
    F, F_test : arrays (n, 4, 10) and (n_test, 4, 10)
        Class probabilities.
    C : tuple of float
        The penalty that each company chose.
    """
    told = [_company(m, X[m], labels, X_test[m], seed, others) for m in range(4)]
    F, F_test = (np.stack([company[k] for company in told], 1) for k in (0, 1))
    return F, F_test, tuple(company[2] for company in told)


def _company(m: int, X: np.ndarray, labels: np.ndarray, X_test: np.ndarray, seed: int, others: int):
    rng = np.random.default_rng([seed, m])
    mine = rng.permutation(company_images(labels, OWN[COMPANIES[m]], rng, others))
    y, tenth = labels[mine], len(mine) // 10
    lacks = [CLASSES[k] for k in OWN[COMPANIES[m]] if k not in y]
    if lacks:
        raise ValueError(
            f"company {COMPANIES[m]} has no image of its own classes {', '.join(lacks)}; give labels with images of every class"
        )
    lacks = [CLASSES[k] for k in range(10) if k not in y]
    if lacks:
        raise ValueError(f"company {COMPANIES[m]} has no image of {', '.join(lacks)}; raise others = {others} or take another seed")
    # features of 8 bits have no units; each company scales its own
    scaler = StandardScaler().fit(X[mine].astype(np.float32))
    x, everything, test = (scaler.transform(a.astype(np.float32)) for a in (X[mine], X, X_test))
    with threadpool_limits(1):  # threads that wait for each other cost more than they bring on a machine that is shared
        held = [_log_loss(_last_layer(C, x[tenth:], y[tenth:]), x[:tenth], y[:tenth]) for C in PENALTIES]
        C = PENALTIES[int(np.argmin(held))]
        model = _last_layer(C, x, y)
        return model.predict_proba(everything), model.predict_proba(test), C


def _last_layer(C: float, x: np.ndarray, y: np.ndarray) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough: a company's model is what it is
        return LogisticRegression(C=C, max_iter=100, tol=1e-3).fit(x, y)


def _log_loss(model: LogisticRegression, x: np.ndarray, y: np.ndarray) -> float:
    """Of the images whose class the model has seen: with fifty strangers, all of one class may lie in the tenth that is held out."""
    known = np.isin(y, model.classes_)
    p = model.predict_proba(x[known])[np.arange(known.sum()), np.searchsorted(model.classes_, y[known])]
    return float(-np.log(np.maximum(p, 1e-12)).mean())


@lru_cache(maxsize=1)
def material(synthetic: bool = False, seed: int = 0) -> Material:
    """Images, features and companies; what takes long is kept in the user cache.

    Raises
    ------
    FileNotFoundError
        If the images or the networks are not there, with the ways out.
    """
    data = load_cifar10(synthetic=synthetic)
    if synthetic:
        # no network has seen such pictures: each company looks at random sums of pixels
        rng = np.random.default_rng(0)
        looks = [rng.standard_normal((3072, 60)).astype(np.float32) / 3072 for _ in OWN]
        X, X_test = ([images.reshape(-1, 3072).astype(np.float32) @ A for A in looks] for images in (data.images, data.test_images))
        return Material(data, "pixels", *companies(X, data.labels, X_test, seed=seed))
    family = choose_family()
    key = hashlib.sha256(f"{data.checksum} {family} {seed} {OTHERS} {PENALTIES}".encode()).hexdigest()[:16]
    path = cache_folder() / "companies" / f"{key}.npz"
    if not path.exists():
        X, X_test = seen(family, data.images, data.test_images, checksum=data.checksum)
        F, F_test, C = companies(X, data.labels, X_test, seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"F": F, "F_test": F_test, "C": C})
    with np.load(path) as file:
        return Material(data, family, file["F"], file["F_test"], tuple(file["C"].tolist()))


def seen(family: str, *sets: np.ndarray, checksum: str) -> list[list[np.ndarray]]:
    """Features of each set of images by each network of a family."""
    count = sum(len(images) for images in sets)
    print(f"cifar10: first {count:,} images go through {', '.join(FAMILIES[family])}: many minutes, unless kept in {cache_folder()}")
    return [[features(name, images, checksum=checksum) for name in FAMILIES[family]] for images in sets]


def fit_weights(images: np.ndarray, labels: np.ndarray, F: np.ndarray, *, seed: int, configuration: dict | None = None) -> LocalMA:
    """LocalMA with a convolutional weight network."""
    settings = dict(configuration or CONFIGURATION)
    channels = settings.pop("channels")
    average = LocalMA(
        loss="cross_entropy",
        network=lambda outputs: weight_network(outputs, channels),
        validation_fraction=0.0,
        progress=False,
        random_state=seed,
        **settings,
    )
    return average.fit(images.astype(np.float32), labels, F=F)


def cool(F: np.ndarray, temperature: float = TEMPERATURE) -> np.ndarray:
    """Class probabilities (..., K) made less sure of themselves: raised to the power of one over the temperature, and scaled to sum to one again.

    Examples
    --------
    >>> import numpy as np
    >>> from localma.replication.cifar10 import cool
    >>> cool(np.array([0.9, 0.1])).round(2)
    array([0.75, 0.25])
    """
    cooled = F ** (1 / temperature)
    return cooled / cooled.sum(-1, keepdims=True)


def _scores(w: np.ndarray, F: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Accuracy in per cent and log loss of an average."""
    p = (w[..., None] * F).sum(-2)
    return 100 * (p.argmax(-1) == y).mean(), -np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean()


def repetition(r: int, n: int, things: Material, *, seed: int = 0) -> dict[str, np.ndarray]:
    """One sample of n training images, the weights learned from it, and what they do on the test images."""
    data = things.data
    order = np.random.default_rng([seed, 1, r]).permutation(len(data.labels))[:n]
    F, y, y_test = things.F[order], data.labels[order], data.test_labels
    with one_thread():  # of both cores the better use is two processes (--jobs 2)
        average = fit_weights(data.images[order], y, F, seed=seed + r)
        w = average.weights(data.test_images.astype(np.float32))
        constant = global_weights(F, y, LOSSES["cross_entropy"])
    cooled = cool(things.F_test)
    return {
        "LocalMA": np.array(_scores(w, things.F_test, y_test)),
        "GW": np.array(_scores(constant, things.F_test, y_test)),
        "LocalMA cooled": np.array(_scores(w, cooled, y_test)),
        "GW cooled": np.array(_scores(constant, cooled, y_test)),
        "constant": constant,
        "by_class": np.stack([w[y_test == k].mean(0) for k in range(10)]),
        "routed": np.array((w * KNOWS[y_test]).sum(1).mean()),
    }


def _part(key: str, synthetic: bool, seed: int) -> dict[str, np.ndarray]:
    n, first, last = (int(word.lstrip("nr")) for word in key.split("-"))
    things = material(synthetic, seed)
    rows = [repetition(r, n, things, seed=seed) for r in range(first, last)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def run(
    *,
    full: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    jobs: int = 1,
    synthetic: bool = False,
    repetitions: int | None = None,
    sizes: tuple[int, ...] | None = None,
) -> pd.DataFrame:
    """Table 5.

    Parameters
    ----------
    full : bool
        Ten sample sizes and 50 repetitions; otherwise two and three, for a look.
    seed : int
    out : path, optional
        Folder for ``cifar10.csv``, ``cifar10-weights.csv``, their provenance and ``cifar10-predictions.npz``. None: nothing is kept.
    jobs : int
        Processes side by side.
    synthetic : bool
        Made-up images; writes ``cifar10-synthetic.csv`` and its like instead.
    repetitions, sizes : optional
        Instead of the scale's.

    Returns
    -------
    DataFrame
        Columns n, method, metric, mean, sd, mcse, replications; n is 0 for what does not depend on it.
    """
    sizes = tuple(sizes or (SIZES if full else QUICK_SIZES))
    repetitions = repetitions or (REPETITIONS if full else QUICK_REPETITIONS)
    things = material(synthetic, seed)
    if things.data.banner:
        print(things.data.banner)
        sizes = tuple(sorted({min(n, len(things.data.labels)) for n in sizes}))
    name = "cifar10" + "-synthetic" * synthetic
    # what a part depends on; how many there are is left out, so that a longer run goes on where a shorter one stopped
    settings = {
        "seed": seed,
        "images": f"{things.data.origin} {things.data.checksum}".strip(),
        "networks": dict(zip(COMPANIES, FAMILIES.get(things.family, [things.family] * 4), strict=True)),
        "companies": {"others": OTHERS, "C": list(things.C), "C chosen by": "log loss on a tenth of each company's own images"},
        "LocalMA": CONFIGURATION | {"channels": list(CONFIGURATION["channels"])},
        "LocalMA chosen by": "cifar10-tuning.csv: accuracy on 5,000 training images that no earlier validation had scored",
        "augmentation": "flip, rotation within 15 degrees, brightness and contrast 0.2; weight network only",
    }
    configuration = settings | {"repetitions": repetitions, "sizes": list(sizes)}
    starts = range(0, repetitions, CHUNK if full else 1)
    ranges = [(r, min(r + starts.step, repetitions)) for r in starts]
    keys = [(f"n{n}-r{first}-{last}", last - first) for first, last in ranges for n in sizes]

    def compute(key):
        return _part(key, synthetic, seed)

    with tempfile.TemporaryDirectory() as folder:
        where = Path(out) if out is not None else Path(folder)
        parts, seconds = run_parts(name, keys, compute, out=where, configuration=settings, jobs=jobs)
        results = {
            n: {k: np.concatenate([parts[key][k] for key, _ in keys if key.startswith(f"n{n}-")]) for k in parts[keys[0][0]]} for n in sizes
        }
        table, weights = tabulate(results, things), tabulate_weights(results)
        if out is not None:
            save_predictions(where / f"{name}-predictions.npz", things)
            write_results(name.replace("cifar10", "cifar10-weights"), weights, where, configuration=configuration, seconds=seconds)
            write_results(name, table, where, configuration=configuration, seconds=seconds, settings=settings)
    return table


def tabulate(results: dict[int, dict[str, np.ndarray]], things: Material) -> pd.DataFrame:
    """One row per size, method and metric; accuracies and gains in per cent of the test images."""
    y, F = things.data.test_labels, things.F_test
    rows = []

    def add(n, method, metric, values):
        rows.append({"n": n, "method": method, "metric": metric} | summarise(np.atleast_1d(np.asarray(values, float))))

    singles = {f"company {c}": np.eye(4)[m] for m, c in enumerate(COMPANIES)} | {"EWMA": np.full(4, 0.25)}
    fixed = {method: _scores(w, F, y) for method, w in singles.items()}
    for method, (accuracy, loss) in fixed.items():
        add(0, method, "accuracy", accuracy)
        add(0, method, "log loss", loss)
    add(0, "EWMA", "accuracy, answers cooled", _scores(singles["EWMA"], cool(F), y)[0])
    for m, company in enumerate(COMPANIES):
        right = F[:, m].argmax(-1) == y
        home = KNOWS[y, m]
        add(0, f"company {company}", "accuracy at home", 100 * right[home].mean())
        add(0, f"company {company}", "accuracy abroad", 100 * right[~home].mean())
        right = things.F[:, m].argmax(-1) == things.data.labels
        add(0, f"company {company}", "accuracy at home, training images", 100 * right[KNOWS[things.data.labels, m]].mean())
    add(0, "anybody", "accuracy", 100 * (F.argmax(-1) == y[:, None]).any(1).mean())
    for n, cell in results.items():
        for method in ("LocalMA", "GW"):
            add(n, method, "accuracy", cell[method][:, 0])
            add(n, method, "log loss", cell[method][:, 1])
            add(n, method, "accuracy, answers cooled", cell[f"{method} cooled"][:, 0])
        add(n, "LocalMA", "gain over GW", cell["LocalMA"][:, 0] - cell["GW"][:, 0])
        add(n, "LocalMA", "gain over EWMA", cell["LocalMA"][:, 0] - fixed["EWMA"][0])
        add(n, "LocalMA", "weight on companies that know", cell["routed"])
        for m, company in enumerate(COMPANIES):
            add(n, "GW", f"weight of {company}", cell["constant"][:, m])
    # changes with n, sample by sample: the samples of one repetition are nested
    first, last = min(results), max(results)
    if first < last:
        for method in ("LocalMA", "GW"):
            add(0, method, f"accuracy, n = {last} against {first}", results[last][method][:, 0] - results[first][method][:, 0])
    return pd.DataFrame(rows)


def tabulate_weights(results: dict[int, dict[str, np.ndarray]]) -> pd.DataFrame:
    """Mean weight of each company on the test images of each class."""
    return pd.DataFrame(
        {"n": n, "class": CLASSES[k], "company": company, "knows": int(KNOWS[k, m])} | summarise(cell["by_class"][:, k, m])
        for n, cell in results.items()
        for k in range(10)
        for m, company in enumerate(COMPANIES)
    )


def save_predictions(path: Path, things: Material) -> None:
    """What the companies say about all images, in half precision, with the labels: no image. Rows are in the order of the data set's own files."""
    halves = {"F": things.F_test.astype(np.float16), "F_train": things.F.astype(np.float16)}
    arrays = halves | {"y": things.data.test_labels, "y_train": things.data.labels}
    write_arrays(path, arrays | {"images": things.data.origin, "networks": things.family}, compressed=True)


def load_predictions(part: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """What the four companies of the committed full run say about the 10,000 test or the 50,000 training images.

    Rows are in the order of the data set's own files, so weights that need no image, such as GW's, can be learned and scored again: repetition r of n
    images is ``numpy.random.default_rng([0, 1, r]).permutation(50_000)[:n]``.

    Parameters
    ----------
    part : {"test", "train"}

    Returns
    -------
    F : array of shape (n, 4, 10)
        Class probabilities; half precision was kept, so rows are scaled to sum to one again, and an image in ten thousand may fall on the other side.
    y : array of shape (n,)
        True classes.

    Examples
    --------
    >>> from localma.replication import cifar10
    >>> F, y = cifar10.load_predictions()
    >>> F.shape, y.shape
    ((10000, 4, 10), (10000,))
    >>> cifar10.load_predictions("train")[0].shape
    (50000, 4, 10)
    """
    if part not in ("test", "train"):
        raise ValueError(f'part must be "test" or "train", but is {part!r}')
    end = "_train" * (part == "train")
    with (files("localma.replication") / "results" / "cifar10-predictions.npz").open("rb") as file, np.load(file) as arrays:
        F, y = arrays[f"F{end}"].astype(float), arrays[f"y{end}"].astype(int)
    return F / F.sum(-1, keepdims=True), y
