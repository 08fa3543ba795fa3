"""What the paper says of rents, held against what was measured: a verdict for each finding, table, city and kind of
model.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from localma.replication.lab.verdicts import ERRORS, TURNS, judge, positive, straight, turning, valley

#: How far above DirectModel's error, as a share of it, LocalMA's may be and still be called very close (our number; the
#: paper gives none).
CLOSE = 0.1


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's five findings on rents, for every table, city and kind of model.

    Parameters
    ----------
    table : DataFrame
        From :func:`localma.replication.housing.run`.

    Returns
    -------
    DataFrame
        Columns table, city, ptm, finding (1 to 5), claim, measured, verdict.

    Examples
    --------
    >>> from localma.replication import housing, load_results
    >>> list(housing.verdicts(load_results("housing")[0]).columns)
    ['table', 'city', 'ptm', 'finding', 'claim', 'measured', 'verdict']
    """
    rows = []
    for (name, city, kind), cell in table.groupby(["table", "city", "ptm"], sort=False):
        mspe, excess = (
            cell[cell["metric"] == metric].pivot(index="rho", columns="method", values=["mean", "mcse"]).sort_index()
            for metric in ("mspe", "excess")
        )
        ends = f"from rho = {mspe.index[0]:g} to {mspe.index[-1]:g}"
        curves = {m: (mspe["mean", m].to_numpy(), mspe["mcse", m].to_numpy()) for m in ("LocalMA", "GW")}
        turns = {m: turning(*curve) for m, curve in curves.items()}
        claims = [
            (f"DirectModel improves {ends}", *_change(mspe, ["DirectModel"], sign=-1)),
            (f"BestPTM and EWMA get worse {ends}", *_change(mspe, ["BestPTM", "EWMA"])),
            (
                "LocalMA and GW are not monotonic",
                "; ".join(f"{m} {TURNS[turn]}{valley(mspe['mean', m], mspe['mcse', m])}" for m, turn in turns.items()),
                judge(all(map(all, turns.values())), any(straight(*curve) for curve in curves.values())),
            ),
            (f"GW's and EWMA's distance to LocalMA grows {ends}", *_change(excess, ["GW", "EWMA"])),
            _best_network(excess) if kind == "network" else _best_forest(mspe, excess),
        ]
        for number, (claim, measured, verdict) in enumerate(claims, 1):
            cell = {"table": name, "city": city, "ptm": kind}
            rows.append(cell | {"finding": number, "claim": claim, "measured": measured, "verdict": verdict})
    return pd.DataFrame(rows)


def _change(frame: pd.DataFrame, methods: list[str], sign: int = 1) -> tuple[str, str]:
    """From the smallest rho to the largest: what was measured, and the verdict on the claim that it has this sign for
    all the methods.
    """
    mean = np.array([frame["mean", m].iloc[-1] - frame["mean", m].iloc[0] for m in methods])
    error = np.array([np.hypot(frame["mcse", m].iloc[-1], frame["mcse", m].iloc[0]) for m in methods])
    return ", ".join(f"{m} {d:+.4f} ({e:.4f})" for m, d, e in zip(methods, mean, error, strict=True)), positive(
        sign * mean, error
    )


def _best_network(excess: pd.DataFrame) -> tuple[str, str, str]:
    score = excess["mean"] / excess["mcse"]
    worst = score.stack().idxmin()
    where = ", ".join(f"{rho:g}" for rho in score.index[(score > ERRORS).all(axis=1)]) or "none"
    least = f"{excess['mean'].loc[worst]:+.4f} ({excess['mcse'].loc[worst]:.4f})"
    measured = f"clearly best at rho = {where}; smallest lead at {worst[0]:g} over {worst[1]}, {least}"
    return "LocalMA is best", measured, positive(excess["mean"], excess["mcse"])


def _best_forest(mspe: pd.DataFrame, excess: pd.DataFrame) -> tuple[str, str, str]:
    behind, error = -excess["mean", "DirectModel"], excess["mcse", "DirectModel"]
    bound = CLOSE * mspe["mean", "DirectModel"]
    others = [m for m in excess["mean"] if m != "DirectModel"]  # their pairs with DirectModel are not in the table
    ahead = excess["mean"][others].add(behind, axis=0)
    apart = excess["mcse"][others].pow(2).add(error**2, axis=0).pow(0.5)
    verdict = judge(
        (behind > ERRORS * error).all()
        and (behind + ERRORS * error < bound).all()
        and (ahead > ERRORS * apart).all(axis=None),
        (behind < -ERRORS * error).any()
        or (behind - ERRORS * error > bound).any()
        or (ahead < -ERRORS * apart).any(axis=None),
    )
    gap = behind / mspe["mean", "DirectModel"]
    unit = mspe["mean", "DirectModel"] / 100
    ends = [f"{gap[rho] * 100:+.1f} ({error[rho] / unit[rho]:.1f}) at {rho:g}" for rho in (gap.idxmin(), gap.idxmax())]
    measured = f"LocalMA's error minus DirectModel's, in per cent of it: from {ends[0]} to {ends[1]}"
    return "DirectModel is best, LocalMA very close", measured, verdict
