"""Words for differences that know rounding and Monte-Carlo error: the paper's tables as data, a verdict per cell, and a
verdict for each claim.

Verdicts are computed, never typed, by one rule: a difference counts beyond ``ERRORS`` of its Monte-Carlo errors, which
are those of the pairs wherever a repetition gives one. "agrees" where all that a claim says counts; "differs" where
something counts that the claim excludes; else "cannot tell". "untestable here" where a table lacks what a claim speaks
of; "by design" where it could not fail.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from localma.checks import choose
from localma.replication.lab.results import load_paper

TABLES = {1: "table1_mse.csv", 2: "table2_weight_error.csv", 3: "table3_scenario2_mse.csv", 5: "table5.csv"}
PRINTED_REPLICATIONS = 500
#: Three: with dozens of findings, two would decide some by chance.
ERRORS = 3.0


def printed(table: int) -> pd.DataFrame:
    """A table of the paper as printed, with the half-unit of each number's last digit.

    Parameters
    ----------
    table : {1, 2, 3, 5}

    Returns
    -------
    DataFrame
        Columns setting (Tables 1, 2), n, method, mean, sd (what the paper prints in parentheses: its size shows that it
        is the standard deviation over replications; not in Table 5), rounding. Table 5 is in per cent, with n = 0 for
        what does not depend on the sample, and the ten values of n read as 1,000 to 10,000.

    Examples
    --------
    >>> from localma.replication import printed
    >>> printed(3).head(1)
         n   method  mean    sd  rounding
    0  100  LocalMA  5.61  1.27     0.005
    """
    choose("table", table, TABLES)
    frame = load_paper(TABLES[table], dtype=str)
    digits = frame["mean"].str.partition(".")[2].str.len()
    frame = frame.rename(columns={"se": "sd"}).assign(rounding=0.5 * 10.0**-digits)
    if "method" not in frame:  # Table 2
        frame.insert(2, "method", "LocalMA")
    return frame.astype({"n": int} | {name: float for name in ("mean", "sd") if name in frame})


def compare(replicated: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Printed and replicated means side by side, with a verdict per cell.

    Two means agree if they differ by no more than the printed one's rounding plus three Monte-Carlo standard errors of
    their difference. "cannot tell" where they agree but the allowance exceeds a quarter of the printed value: such a
    number is too coarse to contradict anything.

    Parameters
    ----------
    replicated : DataFrame
        Columns n, method, mean, mcse and, if ``paper`` has it, setting.
    paper : DataFrame
        From :func:`printed`.

    Returns
    -------
    DataFrame
        Columns of the cell, printed, replicated, mcse, ratio (replicated over printed), verdict.

    Examples
    --------
    >>> from localma.replication import compare, load_results, printed
    >>> table, _ = load_results("simulation")
    >>> list(compare(table.query("scenario == 2"), printed(3)).columns)
    ['n', 'method', 'printed', 'replicated', 'mcse', 'ratio', 'verdict']
    """
    keys = [k for k in ("setting", "n", "method") if k in paper]
    paper = paper.rename(columns={"mean": "mean_paper", "sd": "sd_paper"})
    both = paper.merge(replicated, on=keys, validate="one_to_one")
    error = np.hypot(both["mcse"], both["sd_paper"] / PRINTED_REPLICATIONS**0.5)
    allowance = both["rounding"] + ERRORS * error
    difference = both["mean"] - both["mean_paper"]
    coarse = (allowance > both["mean_paper"] / 4) & (both["mean_paper"] > 0)
    verdict = np.select(
        [difference > allowance, difference < -allowance, coarse],
        ["differs: higher", "differs: lower", "cannot tell"],
        "agrees",
    )
    ratio = both["mean"] / both["mean_paper"].where(both["mean_paper"] > 0)
    return both[keys].assign(
        printed=both["mean_paper"], replicated=both["mean"], mcse=both["mcse"], ratio=ratio, verdict=verdict
    )


def judge(agrees, differs) -> str:
    return "agrees" if agrees else "differs" if differs else "cannot tell"


def better(lead, error, z: float = ERRORS) -> np.ndarray:
    """Of each of LocalMA's leads."""
    return np.select([lead > z * error, lead < -z * error], ["LocalMA better", "LocalMA worse"], "cannot tell")


def positive(mean, error) -> str:
    """Of a claim that all these numbers are above zero; one that is clearly below contradicts it."""
    mean, error = np.asarray(mean, dtype=float), np.asarray(error, dtype=float)
    return judge((mean > ERRORS * error).all(), (mean < -ERRORS * error).any())


def small(mean: float, error: float, bound: float) -> str:
    """Of a claim that this number is hardly more than nothing: no further from zero than ``bound``."""
    return judge(abs(mean) + ERRORS * error <= bound, abs(mean) - ERRORS * error > bound)


def turning(mean: np.ndarray, error: np.ndarray) -> tuple[bool, bool]:
    """Whether there is a fall and whether there is a rise between any two sizes, each beyond its error."""
    i, j = np.triu_indices(len(mean), 1)
    score = (mean[j] - mean[i]) / np.hypot(error[i], error[j])
    return bool((score < -ERRORS).any()), bool((score > ERRORS).any())


def valley(mean: pd.Series, error: pd.Series) -> str:
    """How deep a curve falls to its lowest point, and how high it climbs from there."""
    low = mean.idxmin()
    change = [
        f"{mean[end] - mean[low]:.4f} ({np.hypot(error[end], error[low]):.4f})" if end != low else "0"
        for end in mean.index[[0, -1]]
    ]
    return f", lowest at {low:g}, above that by {change[0]} at {mean.index[0]:g} and {change[1]} at {mean.index[-1]:g}"


def straight(mean: np.ndarray, error: np.ndarray) -> bool:
    """Whether a curve goes one way at every step, each beyond its error: only then is a turn excluded."""
    score = np.diff(mean) / np.hypot(error[1:], error[:-1])
    return bool((score > ERRORS).all() or (score < -ERRORS).all())


TURNS = {
    (True, True): "falls and rises",
    (True, False): "only falls",
    (False, True): "only rises",
    (False, False): "no clear change",
}
