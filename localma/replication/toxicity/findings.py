"""What the paper says of toxic sentences, held against what was measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from localma.replication.lab.verdicts import ERRORS, judge, positive, small

#: "Hardly changes" means: by no more than this.
HARDLY = 0.01


def verdicts(table: pd.DataFrame, *, encoder: str = "minilm") -> pd.DataFrame:
    """The paper's findings on toxic sentences, case by case.

    Parameters
    ----------
    table : DataFrame
        From :func:`localma.replication.toxicity.run`.
    encoder : str

    Returns
    -------
    DataFrame
        Columns case, finding, measured, verdict.

    Examples
    --------
    >>> from localma.replication import toxicity, load_results
    >>> list(toxicity.verdicts(load_results("toxicity")[0]).columns)
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
            verdict = positive(mean, error) if falls else small(mean, error, HARDLY)
            rows.append((case, finding, f"falls by {mean:+.3f} ({error:.3f})", verdict))
        lead = cell[cell["metric"] == "lead"].assign(
            beats=lambda t: np.sign(t["mean"]) * (t["mean"].abs() > ERRORS * t["mcse"])
        )
        by_share = lead.groupby("share")["beats"].min()
        best, beaten, count = int((by_share == 1).sum()), int((by_share == -1).sum()), len(by_share)
        least = lead.loc[lead["mean"].idxmin()]
        smallest = f"{least['mean']:+.3f} ({least['mcse']:.3f}) over {least['method']} at {least['share']:g}"
        measured = f"best at {best} of {count} shares, beaten at {beaten}; smallest lead {smallest}"
        rows.append((case, "LocalMA is best in most cases", measured, judge(2 * best > count, 2 * beaten >= count)))
    return pd.DataFrame(rows, columns=["case", "finding", "measured", "verdict"])
