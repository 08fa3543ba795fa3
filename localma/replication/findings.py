"""What the paper says of its three experiments on real data, held against what was measured: a rule and a verdict for each finding.

Verdicts are computed, never typed: "agrees" or "differs" where the difference is beyond ``z`` Monte-Carlo errors of nothing (three: with dozens of findings,
two would decide some by chance), else "cannot tell"; "untestable here" where the table lacks what the finding speaks of; "by design" where it could not fail.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from localma.replication.verdicts import printed

__all__ = ["beside_the_paper", "cifar10", "housing", "toxicity"]


def _verdict(agrees, differs) -> str:
    return "agrees" if agrees else "differs" if differs else "cannot tell"


def _positive(mean, error, z: float) -> str:
    """Of a claim that all these numbers are above zero; one that is clearly below contradicts it."""
    mean, error = np.asarray(mean, dtype=float), np.asarray(error, dtype=float)
    return _verdict((mean > z * error).all(), (mean < -z * error).any())


def _small(mean: float, error: float, bound: float, z: float) -> str:
    """Of a claim that this number is hardly more than nothing: no further from zero than ``bound``."""
    return _verdict(abs(mean) + z * error <= bound, abs(mean) - z * error > bound)


def _turns(mean: np.ndarray, error: np.ndarray, z: float) -> tuple[bool, bool]:
    """Whether there is a fall and whether there is a rise between any two sizes, each beyond z standard errors."""
    i, j = np.triu_indices(len(mean), 1)
    score = (mean[j] - mean[i]) / np.hypot(error[i], error[j])
    return bool((score < -z).any()), bool((score > z).any())


def _valley(mean: pd.Series, error: pd.Series) -> str:
    """How deep a curve falls to its lowest point, and how high it climbs from there."""
    low = mean.idxmin()
    change = [f"{mean[end] - mean[low]:.4f} ({np.hypot(error[end], error[low]):.4f})" if end != low else "0" for end in mean.index[[0, -1]]]
    return f", lowest at {low:g}, above that by {change[0]} at {mean.index[0]:g} and {change[1]} at {mean.index[-1]:g}"


def _straight(mean: np.ndarray, turn: tuple[bool, bool]) -> bool:
    """Whether a curve that clearly changes goes one way at every step: where it only seems to turn, that it does not is no finding."""
    steps = np.diff(mean)
    return any(turn) and bool((steps > 0).all() or (steps < 0).all())


TURNS = {
    (True, True): "falls and rises",
    (True, False): "only falls",
    (False, True): "only rises",
    (False, False): "no clear change",
}


def housing(table: pd.DataFrame, *, z: float = 3.0, close: float = 0.1) -> pd.DataFrame:
    """The paper's five findings on rents, for every table, city and kind of model.

    Parameters
    ----------
    table : DataFrame
        From :func:`localma.replication.housing.run`.
    z : float
        A difference of fewer than ``z`` Monte-Carlo standard errors is none.
    close : float
        How far above DirectModel's error, as a share of it, LocalMA's may be and still be called very close (our number; the paper gives none).

    Returns
    -------
    DataFrame
        Columns table, city, ptm, finding (1 to 5), claim, measured, verdict.

    Examples
    --------
    >>> from localma.replication import findings, load_results
    >>> list(findings.housing(load_results("housing")[0]).columns)
    ['table', 'city', 'ptm', 'finding', 'claim', 'measured', 'verdict']
    """
    rows = []
    for (name, city, kind), cell in table.groupby(["table", "city", "ptm"], sort=False):
        mspe, excess = (
            cell[cell["metric"] == metric].pivot(index="rho", columns="method", values=["mean", "mcse"]).sort_index()
            for metric in ("mspe", "excess")
        )
        ends = f"from rho = {mspe.index[0]:g} to {mspe.index[-1]:g}"
        turns = {m: _turns(mspe["mean", m].to_numpy(), mspe["mcse", m].to_numpy(), z) for m in ("LocalMA", "GW")}
        claims = [
            (f"DirectModel improves {ends}", *_change(mspe, ["DirectModel"], z, sign=-1)),
            (f"BestPTM and EWMA get worse {ends}", *_change(mspe, ["BestPTM", "EWMA"], z)),
            (
                "LocalMA and GW are not monotonic",
                "; ".join(f"{m} {TURNS[turn]}{_valley(mspe['mean', m], mspe['mcse', m])}" for m, turn in turns.items()),
                _verdict(all(map(all, turns.values())), any(_straight(mspe["mean", m].to_numpy(), turn) for m, turn in turns.items())),
            ),
            (f"GW's and EWMA's distance to LocalMA grows {ends}", *_change(excess, ["GW", "EWMA"], z)),
            _best_network(excess, z) if kind == "network" else _best_forest(mspe, excess, z, close),
        ]
        for number, (claim, measured, verdict) in enumerate(claims, 1):
            cell = {"table": name, "city": city, "ptm": kind}
            rows.append(cell | {"finding": number, "claim": claim, "measured": measured, "verdict": verdict})
    return pd.DataFrame(rows)


def _change(frame: pd.DataFrame, methods: list[str], z: float, sign: int = 1) -> tuple[str, str]:
    """From the smallest rho to the largest: what was measured, and the verdict on the claim that it has this sign for all the methods."""
    mean = np.array([frame["mean", m].iloc[-1] - frame["mean", m].iloc[0] for m in methods])
    error = np.array([np.hypot(frame["mcse", m].iloc[-1], frame["mcse", m].iloc[0]) for m in methods])
    return ", ".join(f"{m} {d:+.4f} ({e:.4f})" for m, d, e in zip(methods, mean, error, strict=True)), _positive(sign * mean, error, z)


def _best_network(excess: pd.DataFrame, z: float) -> tuple[str, str, str]:
    score = excess["mean"] / excess["mcse"]
    worst = score.stack().idxmin()
    where = ", ".join(f"{rho:g}" for rho in score.index[(score > z).all(axis=1)]) or "none"
    least = f"{excess['mean'].loc[worst]:+.4f} ({excess['mcse'].loc[worst]:.4f})"
    measured = f"clearly best at rho = {where}; smallest lead at {worst[0]:g} over {worst[1]}, {least}"
    return "LocalMA is best", measured, _positive(excess["mean"], excess["mcse"], z)


def _best_forest(mspe: pd.DataFrame, excess: pd.DataFrame, z: float, close: float) -> tuple[str, str, str]:
    behind, error = -excess["mean", "DirectModel"], excess["mcse", "DirectModel"]
    gap = behind / mspe["mean", "DirectModel"]
    near = (gap < close).all()
    others = mspe["mean"].drop(columns=["DirectModel", "LocalMA"]).min(axis=1) > mspe["mean", "DirectModel"]
    verdict = _verdict((behind > z * error).all() and others.all() and near, (behind < -z * error).any() or not near)
    unit = mspe["mean", "DirectModel"] / 100
    ends = [f"{gap[rho] * 100:+.1f} ({error[rho] / unit[rho]:.1f}) at {rho:g}" for rho in (gap.idxmin(), gap.idxmax())]
    measured = f"LocalMA's error minus DirectModel's, in per cent of it: from {ends[0]} to {ends[1]}"
    return "DirectModel is best, LocalMA very close", measured, verdict


def toxicity(table: pd.DataFrame, *, encoder: str = "minilm", z: float = 3.0, hardly: float = 0.01) -> pd.DataFrame:
    """The paper's findings on toxic sentences, case by case.

    Parameters
    ----------
    table : DataFrame
        From :func:`localma.replication.toxicity.run`.
    encoder : str
    z : float
        A difference counts beyond so many Monte-Carlo errors.
    hardly : float
        "Hardly changes" means: by no more than this.

    Returns
    -------
    DataFrame
        Columns case, finding, measured, verdict.

    Examples
    --------
    >>> from localma.replication import findings, load_results
    >>> list(findings.toxicity(load_results("toxicity")[0]).columns)
    ['case', 'finding', 'measured', 'verdict']
    """
    rows = []
    table = table[(table["encoder"] == encoder) & (table["case"] != "home")]
    for case, cell in table.groupby("case", sort=False):
        fall = cell[cell["metric"] == "fall"].set_index("method")
        for method in ("LocalMA", "DirectModel", "BestPTM", "EWMA", "GW"):
            falls = method in ("LocalMA", "DirectModel")
            finding = f"{method} falls with the training share" if falls else f"{method} hardly changes"
            if method not in fall.index:
                rows.append((case, finding, "one share only", "untestable here"))
                continue
            mean, error = fall.loc[method, ["mean", "mcse"]]
            verdict = _positive(mean, error, z) if falls else _small(mean, error, hardly, z)
            rows.append((case, finding, f"falls by {mean:+.3f} ({error:.3f})", verdict))
        lead = cell[cell["metric"] == "lead"].assign(beats=lambda t: np.sign(t["mean"]) * (t["mean"].abs() > z * t["mcse"]))
        by_share = lead.groupby("share")["beats"].min()
        best, beaten, count = int((by_share == 1).sum()), int((by_share == -1).sum()), len(by_share)
        least = lead.loc[lead["mean"].idxmin()]
        smallest = f"{least['mean']:+.3f} ({least['mcse']:.3f}) over {least['method']} at {least['share']:g}"
        measured = f"best at {best} of {count} shares, beaten at {beaten}; smallest lead {smallest}"
        rows.append((case, "LocalMA is best in most cases", measured, _verdict(2 * best > count, 2 * beaten >= count)))
    return pd.DataFrame(rows, columns=["case", "finding", "measured", "verdict"])


def cifar10(table: pd.DataFrame, *, z: float = 3.0, hardly: float = 0.5) -> pd.DataFrame:
    """The paper's four findings on photographs.

    Parameters
    ----------
    table : DataFrame
        From :func:`localma.replication.cifar10.run`.
    z : float
        A difference counts from so many Monte-Carlo errors on.
    hardly : float
        "Hardly changes" means: by no more than so many percentage points between the smallest and the largest n.

    Returns
    -------
    DataFrame
        Columns finding, measured, value and mcse (in percentage points), verdict.

    Examples
    --------
    >>> from localma.replication import findings, load_results
    >>> list(findings.cifar10(load_results("cifar10")[0]).columns)
    ['finding', 'measured', 'value', 'mcse', 'verdict']
    """
    cell = table.set_index(["n", "method", "metric"])[["mean", "mcse"]]
    sizes = sorted(set(table["n"]) - {0})
    across = f"accuracy, n = {sizes[-1]} against {sizes[0]}"
    local, constant = (cell.loc[(0, method, across)] for method in ("LocalMA", "GW"))
    fixed = table[table["method"].str.startswith("company") | (table["method"] == "EWMA")]
    # at each n against the best of the others, which here is GW or EWMA
    leads = [(*cell.loc[(n, "LocalMA", f"gain over {rival}")], n, rival) for n in sizes for rival in ("GW", "EWMA")]
    company = fixed.loc[(fixed["metric"] == "accuracy") & (fixed["method"] != "EWMA"), "mean"].max()
    for n in sizes:
        mean, error = cell.loc[(n, "LocalMA", "accuracy")]
        leads.append((mean - company, error, n, "a company"))
    least, error, n, rival = min(leads)
    means, errors = zip(*(lead[:2] for lead in leads), strict=True)
    rows = [
        ("(1) LocalMA improves with n", across, *local, _positive(*local, z)),
        ("(2) GW hardly changes with n", across, *constant, _small(*constant, hardly, z)),
        (
            "(3) companies and EWMA do not depend on n",
            "by design: they see no sample",
            0.0,
            0.0,
            "by design" if (fixed["n"] == 0).all() else "differs",
        ),
        ("(4) LocalMA is best at every n", f"smallest lead: over {rival} at n = {n}", least, error, _positive(means, errors, z)),
    ]
    return pd.DataFrame(rows, columns=["finding", "measured", "value", "mcse", "verdict"])


def beside_the_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Table 5 as printed beside the replicated means, in per cent; the companies in the paper's order.

    Examples
    --------
    >>> from localma.replication import findings, load_results
    >>> list(findings.beside_the_paper(load_results("cifar10")[0]).columns)
    ['n', 'method', 'printed', 'replicated', 'sd', 'mcse']
    """
    paper = printed(5)
    networks = ("ResNet18", "DenseNet121", "GoogLeNet", "EfficientNetB0")
    paper["method"] = paper["method"].replace({network: f"company {c}" for network, c in zip(networks, "ABCD", strict=True)})
    both = paper.merge(table.query("metric == 'accuracy'"), on=["n", "method"], suffixes=("_paper", ""), validate="one_to_one")
    return both[["n", "method", "mean_paper", "mean", "sd", "mcse"]].rename(columns={"mean_paper": "printed", "mean": "replicated"})
