"""The relatives of LocalMA: against hand computations, scipy and scikit-learn; what they promise; what they refuse."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier

from localma import LOSSES, BestModel, EqualWeights, GlobalMA, LocalMA, Mlp, Training, pinball, relatives
from localma.engine import global_weights
from localma.relatives import (
    AdaptiveMixing,
    BatesGranger,
    FeatureStacking,
    GreedySelection,
    HierarchicalStacking,
    InformationWeights,
    LocalSelection,
    MixtureOfExperts,
    NonNegativeStacking,
    QuantileAverage,
    RightProbability,
)
from localma.relatives.gates import fit_gate
from localma.relatives.local import linear_basis
from localma.relatives.selection import cell_choice, grow

CLASSES = [getattr(relatives, name) for name in relatives.__all__]
ON_SIMPLEX = [c for c in CLASSES if c not in (NonNegativeStacking, FeatureStacking, BatesGranger)]
ANY_LOSS = [MixtureOfExperts, HierarchicalStacking, RightProbability, LocalSelection, GreedySelection]
LIKELIHOOD = [InformationWeights, AdaptiveMixing]
LEAST_SQUARES = [BatesGranger, NonNegativeStacking, FeatureStacking]


def make(kind, **options):
    """The relative with its random state fixed, where it has one."""
    known = kind().get_params()
    return kind(**{k: v for k, v in ({"random_state": 0} | options).items() if k in known})


def sample(n=80, d=2, M=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    F = np.stack([X[:, 0], -X[:, 0] + 0.5, np.full(n, 0.3), X[:, -1]], 1)[:, :M]
    w = np.exp(2 * X[:, :1] * np.arange(M))
    w /= w.sum(1, keepdims=True)
    return X, F, (w * F).sum(1) + 0.3 * rng.normal(size=n)


def classes(n=90, K=3, M=3, seed=1):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    F = rng.dirichlet(np.ones(K), (n, M))
    y = np.array([rng.choice(K, p=F[i, int(X[i, 0] > 0)]) for i in range(n)])
    return X, F, y


def counts(n=80, seed=2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    F = np.stack([np.exp(X[:, 0]), np.full(n, 2.0), np.exp(-X[:, 1])], 1)
    return X, F, rng.poisson(np.where(X[:, 0] > 0, F[:, 0], F[:, 1])).astype(float)


# --- constant weights ------------------------------------------------------------


def test_bates_granger_is_the_textbook_formula():
    X, F, y = sample()
    errors = y[:, None] - F
    S = errors.T @ errors / len(y)
    textbook = np.linalg.solve(S, np.ones(3))
    full, diagonal = BatesGranger().fit(X, y, F=F), BatesGranger(covariance="diagonal").fit(X, y, F=F)
    np.testing.assert_allclose(full.weights_, textbook / textbook.sum(), atol=1e-10)
    np.testing.assert_allclose(diagonal.weights_, (1 / np.diag(S)) / (1 / np.diag(S)).sum(), atol=1e-12)
    with pytest.raises(ValueError, match=r"covariance must be one of 'full', 'diagonal'"):
        BatesGranger(covariance="half").fit(X, y, F=F)


def test_bates_granger_is_global_weights_where_signs_do_not_bind_and_better_in_sample_where_they_do():
    rng = np.random.default_rng(1)
    X, F, noise, binding = rng.normal(size=(80, 2)), rng.normal(size=(80, 3)), 0.3 * rng.normal(size=80), 0
    for target in (F @ [0.4, 0.3, 0.3] + noise, F @ [1.5, -0.7, 0.2] + noise):
        full, constrained = BatesGranger().fit(X, target, F=F).weights_, global_weights(F, target, LOSSES["squared"])
        if full.min() > 0:
            np.testing.assert_allclose(full, constrained, atol=1e-8)
        else:
            binding += 1
            assert np.mean((target - F @ full) ** 2) < np.mean((target - F @ constrained) ** 2)
    assert binding == 1


def test_bates_granger_with_twins_and_with_a_perfect_model():
    X, F, y = sample()
    twins = BatesGranger().fit(X, y, F=F[:, [0, 1, 1]]).weights_
    assert twins[1] == pytest.approx(twins[2])
    np.testing.assert_allclose(twins[0], BatesGranger().fit(X, y, F=F[:, :2]).weights_[0], atol=1e-8)
    perfect = np.column_stack([F[:, 0], y])
    for covariance in ("full", "diagonal"):
        np.testing.assert_allclose(BatesGranger(covariance=covariance).fit(X, y, F=perfect).weights_, [0, 1], atol=1e-8)
    same = np.column_stack([y, y])
    np.testing.assert_allclose(BatesGranger().fit(X, y, F=same).weights_, [0.5, 0.5], atol=1e-8)


def test_information_weights_by_scipys_densities():
    X, F, y = sample()
    sd = np.sqrt(np.mean((y[:, None] - F) ** 2, 0))
    likelihood = stats.norm(F, sd).logpdf(y[:, None]).sum(0)
    k = np.array([1, 2, 5])
    for criterion, price in {"aic": 2, "bic": np.log(len(y))}.items():
        w = np.exp(likelihood - likelihood.max() - price * k / 2)
        fitted = InformationWeights(criterion=criterion, n_parameters=k).fit(X, y, F=F)
        np.testing.assert_allclose(fitted.weights_, w / w.sum(), atol=1e-12)


def test_information_weights_of_frozen_models_are_posterior_probabilities():
    X, F, y = sample(n=7, seed=5)
    prior = np.array([0.2, 0.5, 0.3])

    def marginal(errors):  # the variance integrated out under the density 1 / variance
        return optimize_integral(lambda t: np.exp(stats.norm(0, np.exp(t / 2)).logpdf(errors).sum()))

    def optimize_integral(f):
        from scipy.integrate import quad

        return quad(f, -25, 25, limit=400, epsabs=0, epsrel=1e-10)[0]

    w = prior * [marginal(y - F[:, m]) for m in range(3)]
    for criterion in ("aic", "bic"):
        np.testing.assert_allclose(
            InformationWeights(criterion=criterion, prior=prior).fit(X, y, F=F).weights_, w / w.sum(), rtol=1e-6
        )
    X, F, y = counts(12)
    w = np.exp(stats.poisson(F).logpmf(y[:, None]).sum(0))
    np.testing.assert_allclose(InformationWeights(loss="poisson").fit(X, y, F=F).weights_, w / w.sum(), rtol=1e-9)
    X, F, y = classes(10)
    w = np.prod(F[np.arange(10), :, y], 0)
    np.testing.assert_allclose(InformationWeights(loss="cross_entropy").fit(X, y, F=F).weights_, w / w.sum(), rtol=1e-9)


def test_information_weights_end_at_the_best_single_model():
    X, F, y = sample(n=4000)
    assert InformationWeights().fit(X, y, F=F).weights_.max() > 1 - 1e-12
    assert InformationWeights().fit(X, y, F=F).weights_.argmax() == BestModel().fit(X, y, F=F).weights_.argmax()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "dic"}, "criterion must be one of"),
        ({"n_parameters": [1, 2]}, "n_parameters must be non-negative, one number or one for each of the 3 models"),
        ({"prior": [0.5, 0.6, -0.1]}, "prior must be non-negative"),
        ({"prior": [0, 0, 0]}, "prior must give some model"),
    ],
)
def test_information_weights_refuse(options, message):
    X, F, y = sample()
    with pytest.raises(ValueError, match=message):
        InformationWeights(**options).fit(X, y, F=F)


def test_adaptive_mixing_by_hand():
    X, F, y = sample(n=11)
    order = np.random.default_rng(3).permutation(11)
    first, second = order[:6], order[6:]
    sd = np.sqrt(np.mean((y[first, None] - F[first]) ** 2, 0))
    w = np.exp(-((y[second, None] - F[second]) ** 2 / (2 * sd**2)).sum(0)) / sd**5
    np.testing.assert_allclose(
        AdaptiveMixing(splits=1, random_state=3).fit(X, y, F=F).weights_, w / w.sum(), atol=1e-12
    )
    many = AdaptiveMixing(splits=40, random_state=3).fit(X, y, F=F).weights_
    assert many.max() < InformationWeights().fit(X, y, F=F).weights_.max()
    with pytest.raises(ValueError, match="splits must be a whole number of at least 1"):
        AdaptiveMixing(splits=0).fit(X, y, F=F)
    with pytest.raises(ValueError, match=r"X has one row.*give two or more"):
        AdaptiveMixing().fit(X[:1], y[:1], F=F[:1])


def test_non_negative_stacking_meets_its_conditions_and_drops_the_sum():
    X, F, y = sample()
    w = NonNegativeStacking().fit(X, 3 * y, F=F).weights_
    slope = F.T @ (F @ w - 3 * y)
    assert (w >= 0).all()
    assert abs(slope[w > 0]).max() < 1e-10
    assert (slope[w == 0] >= 0).all()
    assert abs(w.sum() - 1) > 0.5
    np.testing.assert_allclose(w, 3 * NonNegativeStacking().fit(X, y, F=F).weights_, atol=1e-10)


def test_greedy_selection_by_brute_force_and_in_the_limit():
    X, F, y = sample()
    greedy = GreedySelection(rounds=2).fit(X, y, F=F)
    single = [np.mean((y - F[:, m]) ** 2) for m in range(3)]
    start = int(np.argmin(single))
    pair = [np.mean((y - (F[:, start] + F[:, m]) / 2) ** 2) for m in range(3)]
    expected = [start, int(np.argmin(pair))] if min(pair) < min(single) else [start]
    assert greedy.path_.tolist() == expected
    long = GreedySelection(rounds=2000).fit(X, y, F=F).weights_
    best = global_weights(F, y, LOSSES["squared"])
    assert 0 <= np.mean((y - F @ long) ** 2) / np.mean((y - F @ best) ** 2) - 1 < 1e-3
    np.testing.assert_allclose(long, best, atol=0.02)
    with pytest.raises(ValueError, match="rounds must be a whole number"):
        GreedySelection(rounds=0).fit(X, y, F=F)


def test_greedy_selection_keeps_the_best_length():
    """With one perfect model the second round cannot help, and stays out."""
    X, F, y = sample()
    assert GreedySelection().fit(X, y, F=np.column_stack([F, y])).path_.tolist() == [3]


# --- gates ------------------------------------------------------------


def test_cooperative_gate_against_scipy_with_its_own_gradient():
    X, F, y = sample()
    penalty = 0.01
    gate = MixtureOfExperts(penalty=penalty).fit(X, y, F=F)
    Z = linear_basis((X - X.mean(0)) / X.std(0))
    unit = F.var(1).mean()

    def value(theta):
        A = theta.reshape(3, 3)
        w = np.exp(Z @ A)
        w /= w.sum(1, keepdims=True)
        return np.mean((y - (w * F).sum(1)) ** 2) / unit + penalty * np.sum(A[1:] ** 2)

    found = optimize.minimize(value, np.zeros(9), method="BFGS", options={"gtol": 1e-6})
    assert value(gate.rule_.ravel()) == pytest.approx(found.fun, rel=1e-6)
    w = np.exp(Z @ found.x.reshape(3, 3))
    np.testing.assert_allclose(gate.weights(X), w / w.sum(1, keepdims=True), atol=2e-3)


def test_cooperative_gate_is_localma_without_hidden_layer():
    X, F, y = sample(n=200)
    ours = MixtureOfExperts(penalty=0.006).fit(X, y, F=F).weights(X)
    network = (
        LocalMA(network=Mlp(depth=0), training=Training(penalty=0.006, steps=3000, dtype="float64"), random_state=0)
        .fit(X, y, F=F)
        .weights(X)
    )
    np.testing.assert_allclose(ours, network, atol=0.01)


def test_competitive_gate_maximises_the_mixture_likelihood():
    X, F, y = sample(n=120)
    penalty = 0.02
    mixture = MixtureOfExperts(objective="competitive", penalty=penalty).fit(X, y, F=F)
    Z = linear_basis((X - X.mean(0)) / X.std(0))

    def value(theta):
        A = theta[:-1].reshape(3, 3)
        log_gate = Z @ A - np.log(np.exp(Z @ A).sum(1, keepdims=True))
        density = np.exp(log_gate) * stats.norm(F, np.exp(theta[-1] / 2)).pdf(y[:, None])
        return -np.log(density.sum(1)).mean() + penalty * np.sum(A[1:] ** 2)

    here = np.append(mixture.rule_.ravel(), np.log(mixture.variance_))
    found = optimize.minimize(value, here, method="BFGS")
    assert value(here) == pytest.approx(found.fun, abs=1e-6)
    away = here + 0.05 * np.random.default_rng(0).normal(size=(20, 10))
    assert min(map(value, away)) > value(here)


def test_objectives_agree_for_classes_and_differ_for_means():
    X, F, y = classes()
    target = torch.tensor(y, dtype=torch.float64)
    unit = float(
        LOSSES["cross_entropy"].scale(
            LOSSES["cross_entropy"].candidates(target, torch.tensor(F).movedim(0, -1)), target
        )
    )
    penalties = {"cooperative": 0.01, "competitive": 0.01 * unit}  # a likelihood has its own unit
    pair = [MixtureOfExperts(loss="cross_entropy", objective=o, penalty=p).fit(X, y, F=F) for o, p in penalties.items()]
    np.testing.assert_allclose(*(p.weights(X) for p in pair), atol=1e-3)
    X, F, y = sample()
    pair = [MixtureOfExperts(objective=o).fit(X, y, F=F) for o in ("cooperative", "competitive")]
    assert abs(pair[0].weights(X) - pair[1].weights(X)).max() > 0.05
    assert np.mean((y - pair[0].predict(X, F=F)) ** 2) < np.mean((y - pair[1].predict(X, F=F)) ** 2)


def test_a_stiff_gate_is_global_weights():
    for (X, F, y), loss in [(sample(), "squared"), (classes(), "cross_entropy"), (counts(), "poisson")]:
        stiff = HierarchicalStacking(loss=loss, penalty=1e5).fit(X, y, F=F).weights(X)
        assert np.ptp(stiff, axis=0).max() < 1e-3
        constant, best = (np.tensordot(w, F, (0, 1)) for w in (stiff[0], global_weights(F, y, LOSSES[loss])))
        assert LOSSES[loss](y, constant).mean() == pytest.approx(LOSSES[loss](y, best).mean(), rel=1e-4)


def test_hierarchical_stacking_finds_a_bent_weight_that_a_linear_gate_cannot():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (400, 1))
    F = np.stack([np.zeros(400), np.ones(400)], 1)
    y = abs(X[:, 0]) + 0.1 * rng.normal(size=400)
    errors = {
        k: np.mean((make(k).fit(X, y, F=F).weights(X)[:, 1] - abs(X[:, 0])) ** 2)
        for k in (HierarchicalStacking, MixtureOfExperts)
    }
    assert errors[HierarchicalStacking] < 0.1 * errors[MixtureOfExperts]


def test_hierarchical_stacking_stays_stiff_where_nothing_varies():
    rng = np.random.default_rng(1)
    X, F = rng.normal(size=(150, 3)), rng.normal(size=(150, 2))
    y = F @ [0.6, 0.4] + rng.normal(size=150)
    assert HierarchicalStacking(random_state=0).fit(X, y, F=F).penalty_ >= 0.1
    with pytest.raises(ValueError, match='penalty must be a non-negative number or "cv"'):
        HierarchicalStacking(penalty=-1).fit(X, y, F=F)
    with pytest.raises(ValueError, match='penalty must be a non-negative number or "cv"'):
        MixtureOfExperts(penalty="auto").fit(X, y, F=F)
    with pytest.raises(ValueError, match="objective must be one of"):
        MixtureOfExperts(objective="hostile").fit(X, y, F=F)


def test_gate_gradient_is_zero_at_the_end():
    X, F, y = counts()
    Z = linear_basis(X)
    A = torch.tensor(
        fit_gate(Z, F, y, LOSSES["poisson"], np.ones(len(y)), objective="cooperative", penalty=0.05)[0],
        requires_grad=True,
    )
    w = torch.softmax(torch.tensor(Z) @ A, 1)
    G = torch.tensor(F)
    unit = LOSSES["poisson"].scale(G.T, torch.tensor(y))
    (LOSSES["poisson"].value(torch.tensor(y), (w * G).sum(1)).mean() / unit + 0.05 * A[1:].square().sum()).backward()
    assert A.grad.abs().max() < 1e-4


# --- other local weights ------------------------------------------------------------


def test_feature_stacking_is_ridge_and_leaves_the_range():
    X, F, y = sample(n=60)
    y = y + 3 + F[:, 0] * X[:, 1] + 3 * np.random.default_rng(1).normal(size=60)  # beyond every average on the simplex
    stacking = FeatureStacking().fit(X, y, F=F)
    Z = linear_basis((X - X.mean(0)) / X.std(0))
    unit = np.sqrt(np.mean(F**2))
    design = np.column_stack([Z[:, [j]] * F / unit for j in range(3)])
    reference = Ridge(alpha=stacking.ridge_, fit_intercept=False).fit(design, y)
    np.testing.assert_allclose(stacking.predict(X, F=F), reference.predict(design), atol=1e-8)
    leave_one_out = {
        a: np.mean([(y[i] - Ridge(alpha=a, fit_intercept=False).fit(np.delete(design, i, 0), np.delete(y, i)).predict(design[[i]])[0]) ** 2
                    for i in range(60)])
        for a in (0.1 * stacking.ridge_, stacking.ridge_, 10 * stacking.ridge_)
    }  # fmt: skip
    assert min(leave_one_out, key=leave_one_out.get) == stacking.ridge_
    assert (stacking.predict(X, F=F) > F.max(1)).any()
    np.testing.assert_allclose(
        FeatureStacking().fit(X, y, F=10 * F).predict(X, F=10 * F), stacking.predict(X, F=F), rtol=1e-8
    )


def test_right_probability_is_the_classifiers_word():
    X, F, y = sample()
    Z = (X - X.mean(0)) / X.std(0)
    closest = np.abs(y[:, None] - F).argmin(1)
    np.testing.assert_allclose(
        RightProbability().fit(X, y, F=F).weights(X), LogisticRegression().fit(Z, closest).predict_proba(Z)
    )
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    np.testing.assert_allclose(
        RightProbability(classifier=tree).fit(X, y, F=F).weights(X), clone(tree).fit(Z, closest).predict_proba(Z)
    )
    assert not hasattr(tree, "tree_")
    X, F, y = classes()
    Z = (X - X.mean(0)) / X.std(0)
    p = np.stack([LogisticRegression().fit(Z, F[:, m].argmax(1) == y).predict_proba(Z)[:, 1] for m in range(3)], 1)
    np.testing.assert_allclose(
        RightProbability(loss="cross_entropy").fit(X, y, F=F).weights(X), p / p.sum(1, keepdims=True)
    )


def test_right_probability_where_nobody_or_everybody_is_right():
    X, F, y = classes(n=8, M=2)
    F[:, 0] = np.eye(3)[y]
    F[:, 1] = np.eye(3)[(y + 1) % 3]
    w = RightProbability(loss="cross_entropy").fit(X, y, F=F).weights(X)
    np.testing.assert_allclose(w, np.tile([0.9, 0.1], (8, 1)))
    X, F, y = sample()
    np.testing.assert_allclose(RightProbability().fit(X, F[:, 1], F=F).weights(X), np.tile([0.0, 1, 0], (80, 1)))
    F = np.column_stack([F, F[:, 0] + 100])  # a model that is never the closest gets nothing
    assert (RightProbability().fit(X, y, F=F).weights(X)[:, 3] == 0).all()


def test_where_no_model_is_thought_right_they_are_weighted_equally():
    """A tree gives probabilities of exactly zero: to the left each of three models is wrong, to the right the last two
    are right.
    """
    X, y = np.r_[np.full(10, -1.0), np.full(10, 1.0)][:, None], np.zeros(20, int)
    F = np.tile([0.2, 0.8], (20, 3, 1))
    F[10:, 1:] = F[10:, 1:, ::-1]
    F[0, 0] = [0.8, 0.2]  # the first model's tree is one that learned something, too
    X[0] = -3
    average = RightProbability(loss="cross_entropy", classifier=DecisionTreeClassifier(random_state=0)).fit(X, y, F=F)
    np.testing.assert_allclose(average.weights([[-1.0], [1.0], [-3.0]]), [[1 / 3] * 3, [0, 0.5, 0.5], [1, 0, 0]])
    assert np.isfinite(average.predict_proba(X, F=F)).all()


def test_neighbours_by_hand():
    X, F, y = sample()
    Z = (X - X.mean(0)) / X.std(0)
    selection = LocalSelection(size=7).fit(X, y, F=F)
    new = np.random.default_rng(9).normal(size=(15, 2))
    zn = (new - X.mean(0)) / X.std(0)
    losses = (y[:, None] - F) ** 2
    for z, w in zip(zn, selection.weights(new), strict=True):
        near = np.argsort(np.square(Z - z).sum(1))[:7]
        assert w.tolist() == np.eye(3)[losses[near].mean(0).argmin()].tolist()
    assert (LocalSelection(size=80).fit(X, y, F=F).weights(new) == BestModel().fit(X, y, F=F).weights_).all()


def test_neighbours_choose_k_without_the_point_itself():
    X, F, y = sample(n=60)
    Z, losses = (X - X.mean(0)) / X.std(0), (y[:, None] - F) ** 2
    distance = np.square(Z[:, None] - Z).sum(-1)
    np.fill_diagonal(distance, np.inf)
    order = distance.argsort(1)[:, :-1]
    value = {k: np.mean([losses[i, losses[order[i, :k]].mean(0).argmin()] for i in range(60)]) for k in (5, 10, 20, 40)}
    value[60] = np.mean([losses[i, (losses.sum(0) - losses[i]).argmin()] for i in range(60)])
    assert LocalSelection().fit(X, y, F=F).size_ == min(value, key=value.get)


def test_first_cut_is_the_best_of_all_cuts():
    X, F, y = sample(n=50)
    losses = (y[:, None] - F) ** 2
    j, cut, below, above = grow(X, losses, 1)
    value = {
        (k, c): losses[X[:, k] <= c].sum(0).min() + losses[X[:, k] > c].sum(0).min()
        for k in range(2)
        for c in np.sort(X[:, k])[4:45]
    }  # fmt: skip
    side = X[:, j] <= cut
    assert losses[side].sum(0).min() + losses[~side].sum(0).min() == pytest.approx(min(value.values()))
    assert (below, above) == (losses[side].sum(0).argmin(), losses[~side].sum(0).argmin())
    assert cell_choice((j, cut, below, above), X)[side].tolist() == [below] * side.sum()


def test_partition_finds_a_border_and_leaves_a_sample_without_one_alone():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 3))
    F = np.stack([np.zeros(300), np.ones(300)], 1)
    bordered = LocalSelection(form="partition", random_state=0).fit(
        X, (X[:, 1] > 0.2) + 0.3 * rng.normal(size=300), F=F
    )
    j, cut, below, above = bordered.rule_[:4]
    assert (j, bordered.size_) == (1, 1)
    assert (below, above) == (0, 1)
    assert cut * bordered.scale_[1] + bordered.mean_[1] == pytest.approx(0.2, abs=0.05)
    alone = LocalSelection(form="partition", random_state=0).fit(X, 0.2 + 0.3 * rng.normal(size=300), F=F)
    assert alone.size_ == 0
    assert (alone.weights(X) == [1, 0]).all()
    same = np.ones((40, 1))
    assert grow(same, rng.uniform(size=(40, 2)), 3) in (0, 1)  # no place to cut


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "tree"}, "form must be one of"),
        ({"size": 0}, 'size must be a whole number of at least 1 or "cv"'),
        ({"size": 81}, "size = 81 neighbours, but the sample has n = 80"),
        ({"size": -1, "form": "partition"}, "size must be a whole number of at least 0"),
    ],
)
def test_local_selection_refuses(options, message):
    X, F, y = sample()
    with pytest.raises(ValueError, match=message):
        LocalSelection(**options).fit(X, y, F=F)


# --- quantiles ------------------------------------------------------------


def test_pinball_is_smallest_at_the_quantile():
    y = np.random.default_rng(0).exponential(size=2001)
    for level in (0.1, 0.5, 0.9):
        best = optimize.minimize_scalar(
            lambda a, t=level: pinball(t)(y, np.full_like(y, a)).mean(), bounds=(0, 10), method="bounded"
        )
        assert best.x == pytest.approx(np.quantile(y, level), abs=1e-3)
    assert pinball(0.3)([2.0], [0.0])[0] == pytest.approx(0.6)
    for level in (0, 1, -1, np.nan):
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            pinball(level)
    with pytest.raises(ValueError, match=r"no Bregman|no generator"):
        pinball(0.5).divergence([1.0], [1.0])


def quantile_world(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 1))
    F = np.stack([np.zeros(n), 2 * np.ones(n), X[:, 0]], 1)
    return X, F, rng.normal(size=n) * (1 + X[:, 0])


def test_quantile_average_with_one_cell_is_the_optimum_on_the_simplex():
    X, F, y = quantile_world(101)
    w = QuantileAverage(level=0.8, cells=1).fit(X, y, F=F).weights(X)
    assert np.ptp(w, axis=0).max() < 1e-12
    loss = pinball(0.8)
    here = loss(y, F @ w[0]).mean()
    others = np.random.default_rng(1).dirichlet(np.ones(3), 3000)
    grid = [loss(y, F @ v).mean() for v in others]
    assert here <= min(grid) + 1e-9
    assert here > min(grid) - 0.01


def test_quantile_average_learns_where_the_spread_is():
    X, F, y = quantile_world(600)
    average = QuantileAverage(level=0.9, random_state=0).fit(X, y, F=F)
    assert average.cells_ > 1
    X, F, y = quantile_world(20000, seed=1)
    loss = pinball(0.9)
    local = loss(y, average.predict(X, F=F)).mean()
    assert (
        local
        < 0.98
        * loss(
            y,
            F
            @ QuantileAverage(level=0.9, cells=1)
            .fit(*quantile_world(600)[::2], F=quantile_world(600)[1])
            .weights(X)[0],
        ).mean()
    )
    coverage = [np.mean((y <= average.predict(X, F=F))[part]) for part in (X[:, 0] < 0, X[:, 0] > 0)]
    np.testing.assert_allclose(coverage, 0.9, atol=0.05)
    assert not hasattr(average, "predict_proba")


def test_quantile_average_checks_its_arguments():
    X, F, y = quantile_world(50)
    with pytest.raises(ValueError, match="level must lie between"):
        QuantileAverage(level=2).fit(X, y, F=F)
    with pytest.raises(ValueError, match='cells must be a whole number of at least 1 or "cv"'):
        QuantileAverage(cells=0).fit(X, y, F=F)
    assert QuantileAverage(cells=5).fit(X[:3], y[:3], F=F[:3]).rule_[2].shape == (3, 3)  # no more cells than points


def test_network_takes_the_pinball_loss():
    X, F, y = quantile_world(400)
    average = LocalMA(loss=pinball(0.9), training=Training(penalty=0.001), random_state=0).fit(X, y, F=F)
    assert np.mean(y <= average.predict(X, F=F)) == pytest.approx(0.9, abs=0.04)


# --- what all share ------------------------------------------------------------


@pytest.mark.parametrize("kind", ON_SIMPLEX)
def test_weights_lie_on_the_simplex(kind):
    X, F, y = sample()
    w = make(kind).fit(X, y, F=F).weights(np.vstack([X, 50 * X]))
    assert w.shape == (160, 3)
    assert (w >= 0).all()
    np.testing.assert_allclose(w.sum(1), 1, atol=1e-12)


def test_bates_granger_sums_to_one():
    X, F, y = sample()
    assert BatesGranger().fit(X, y, F=F).weights_.sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", CLASSES)
def test_one_model_is_itself(kind):
    X, F, y = sample(M=1)
    fitted = make(kind).fit(X, y, F=F)
    if kind not in (NonNegativeStacking, FeatureStacking):  # these rescale it
        np.testing.assert_allclose(fitted.predict(X, F=F), F[:, 0])


@pytest.mark.parametrize("kind", CLASSES)
def test_order_of_the_models_does_not_matter(kind):
    X, F, y = sample()
    first, second = make(kind).fit(X, y, F=F), make(kind).fit(X, y, F=F[:, ::-1])
    np.testing.assert_allclose(first.predict(X, F=F), second.predict(X, F=F[:, ::-1]), atol=2e-3)


@pytest.mark.parametrize("kind", CLASSES)
def test_units_of_covariates_do_not_matter(kind):
    X, F, y = sample()
    first, second = make(kind).fit(X, y, F=F), make(kind).fit(1000 * X + 5, y, F=F)
    np.testing.assert_allclose(first.predict(X, F=F), second.predict(1000 * X + 5, F=F), atol=2e-3)


@pytest.mark.parametrize("kind", CLASSES)
def test_units_of_the_response_do_not_matter(kind):
    X, F, y = sample()
    first, second = make(kind).fit(X, y, F=F), make(kind).fit(X, 64 * y, F=64 * F)
    np.testing.assert_allclose(64 * first.predict(X, F=F), second.predict(X, F=64 * F), atol=0.2)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_seed_makes_fits_equal_and_clones_keep_models(kind):
    X, _, y = sample()
    models = [("line", LinearRegression().fit(X, y)), ("zero", lambda X: 0 * X[:, 0])]
    average = make(kind, models=models)
    first, second = (clone(average).fit(X, y).predict(X) for _ in range(2))
    assert (first == second).all()
    assert clone(average).models is models


@pytest.mark.parametrize("kind", ANY_LOSS + LIKELIHOOD)
@pytest.mark.parametrize(("data", "loss"), [(classes, "cross_entropy"), (counts, "poisson")])
def test_other_losses(kind, data, loss):
    X, F, y = data()
    average = make(kind, loss=loss).fit(X, y, F=F)
    w = average.weights(X)
    np.testing.assert_allclose(w.sum(1), 1)
    assert (w >= 0).all()
    prediction = average.predict_proba(X, F=F) if loss == "cross_entropy" else average.predict(X, F=F)
    equal = LOSSES[loss](y, F.mean(1)).mean()
    if kind in (MixtureOfExperts, HierarchicalStacking):
        assert LOSSES[loss](y, prediction).mean() < equal
    np.testing.assert_allclose(prediction, np.einsum("nm,nm...->n...", w, F))


@pytest.mark.parametrize("kind", ANY_LOSS)
def test_losses_without_likelihood(kind):
    X, F, y = counts()
    average = make(kind, loss="gamma").fit(X, y + 1, F=F)
    assert (average.predict(X, F=F) > 0).all()


@pytest.mark.parametrize("kind", LIKELIHOOD)
def test_likelihood_weights_name_the_loss_they_cannot_take(kind):
    X, F, y = counts()
    with pytest.raises(
        ValueError, match=rf"loss = 'gamma' has no likelihood that {kind.__name__} .* use 'squared', 'poisson'"
    ):
        make(kind, loss="gamma").fit(X, y + 1, F=F)


def test_competition_needs_a_likelihood():
    X, F, y = counts()
    with pytest.raises(ValueError, match=r"loss = 'tweedie.*' has no likelihood"):
        MixtureOfExperts(loss="tweedie", objective="competitive").fit(X, y, F=F)


@pytest.mark.parametrize("kind", LEAST_SQUARES)
def test_least_squares_methods_name_the_loss(kind):
    X, F, y = counts()
    with pytest.raises(
        ValueError, match=rf"loss = 'poisson', but {kind.__name__} is least squares; use loss='squared'"
    ):
        make(kind, loss="poisson").fit(X, y, F=F)


@pytest.mark.parametrize("kind", CLASSES)
def test_bad_input_is_refused_as_everywhere(kind):
    X, F, y = sample()
    for arguments, message in [
        ((X, y, F[:-1]), r"F has shape \(79, 3\), but X has 80 rows"),
        ((X, np.where(np.arange(80) == 3, np.nan, y), F), r"y contains NaN.*[Dd]rop"),
        ((X, y), r"F is missing"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(kind).fit(*arguments)
    fitted = make(kind).fit(X, y, F=F)
    with pytest.raises(ValueError, match=r"F has shape \(80, 2\), but the fit saw M = 3"):
        fitted.predict(X, F=F[:, :2])


@pytest.mark.parametrize("kind", [c for c in CLASSES if issubclass(c, relatives.local.Local)])
def test_local_relatives_want_flat_covariates_and_a_fit(kind):
    X, F, y = sample()
    with pytest.raises(ValueError, match=rf"X has shape \(80, 2, 1\), but {kind.__name__} reads \(n, d\); flatten X"):
        make(kind).fit(X[:, :, None], y, F=F)
    with pytest.raises(ValueError, match="not fitted"):
        make(kind).weights(X)


@pytest.mark.parametrize("data", [sample, classes])
def test_a_classifier_of_code_cannot_be_saved(data, tmp_path):
    X, F, y = data()
    loss = "cross_entropy" if data is classes else "squared"
    average = RightProbability(loss=loss, classifier=DecisionTreeClassifier()).fit(X, y, F=F)
    with pytest.raises(
        TypeError, match=r"RightProbability cannot be saved: rule_.* holds a DecisionTreeClassifier.*pickle it"
    ):
        average.save(tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def test_relatives_agree_with_the_family():
    """Greedy selection of one round is the best model; global weights are never beaten in the sample by weights on the
    simplex.
    """
    X, F, y = sample()
    assert (GreedySelection(rounds=1).fit(X, y, F=F).weights_ == BestModel().fit(X, y, F=F).weights_).all()
    best = np.mean((y - GlobalMA().fit(X, y, F=F).predict(X, F=F)) ** 2)
    for kind in (GreedySelection, InformationWeights, AdaptiveMixing):
        assert np.mean((y - make(kind).fit(X, y, F=F).predict(X, F=F)) ** 2) >= best - 1e-12


def test_soft_voting_is_equal_weights():
    X, _, y = classes()
    models = [(c, LogisticRegression(C=C).fit(X, y)) for c, C in (("a", 0.1), ("b", 1.0))]
    voting = VotingClassifier([(name, FrozenEstimator(model)) for name, model in models], voting="soft").fit(X, y)
    ours = EqualWeights(models, loss="cross_entropy").fit(X, y)
    np.testing.assert_allclose(voting.predict_proba(X), ours.predict_proba(X), atol=1e-12)


def test_neighbours_as_near_as_the_last_one_all_count():
    """With covariates on a grid many are equally near, and which of them a search finds first depends on the order of
    the rows.
    """
    rng = np.random.default_rng(0)
    X, F = rng.integers(0, 4, (200, 2)).astype(float), rng.standard_normal((200, 3))
    y = F[np.arange(200), X[:, 0].astype(int) % 3] + rng.standard_normal(200)
    order = rng.permutation(200)
    here, there = (LocalSelection(size=7).fit(X[rows], y[rows], F=F[rows]) for rows in (np.arange(200), order))
    np.testing.assert_array_equal(here.weights(X), there.weights(X))
    assert LocalSelection().fit(X, y, F=F).size_ == LocalSelection().fit(X[order], y[order], F=F[order]).size_


def test_models_that_differ_by_rounding_are_one_choice():
    """The first of them is taken, whichever the last digit favours."""
    rng = np.random.default_rng(1)
    y = rng.standard_normal(50)
    f, X = y + rng.standard_normal(50), y[:, None]
    for sign in (-1, 1):
        F = np.stack([f, f * (1 + sign * 1e-15), f + 3], 1)
        assert BestModel().fit(X, y, F=F).weights_.tolist() == [1, 0, 0]
        assert GreedySelection().fit(X, y, F=F).path_[0] == 0
        assert (LocalSelection(form="partition").fit(X, y, F=F).weights(X)[:, 0] == 1).all()
        assert RightProbability().fit(X, y, F=F).weights(X)[:, 1].max() == 0
