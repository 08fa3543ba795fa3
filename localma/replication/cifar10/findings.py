"""What the paper says of photographs, held against what was measured; and its Table 5 beside ours."""

from __future__ import annotations

import pandas as pd

from localma.replication.cifar10.companies import COMPANIES
from localma.replication.cifar10.networks import FAMILIES
from localma.replication.lab.verdicts import positive, printed, small

#: "Hardly changes" means: by no more than so many percentage points between the smallest and the largest n.
HARDLY = 0.5


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's four findings on photographs.

    Parameters
    ----------
    table : DataFrame
        From :func:`localma.replication.cifar10.run`.

    Returns
    -------
    DataFrame
        Columns finding, measured, value and mcse (in percentage points), verdict.

    Examples
    --------
    >>> from localma.replication import cifar10, load_results
    >>> list(cifar10.verdicts(load_results("cifar10")[0]).columns)
    ['finding', 'measured', 'value', 'mcse', 'verdict']
    """
    cell = table.set_index(["n", "method", "metric"])[["mean", "mcse"]]
    sizes = sorted(set(table["n"]) - {0})
    across = f"accuracy, n = {sizes[-1]} against {sizes[0]}"
    local, constant = (cell.loc[(0, method, across)] for method in ("LocalMA", "GW"))
    fixed = table[table["method"].str.startswith("company") | (table["method"] == "EWMA")]
    company = fixed.loc[(fixed["metric"] == "accuracy") & (fixed["method"] != "EWMA"), "mean"].max()
    leads = []  # over GW, over EWMA, and over the best company
    for n in sizes:
        leads += [(*cell.loc[(n, "LocalMA", f"gain over {rival}")], n, rival) for rival in ("GW", "EWMA")]
        mean, error = cell.loc[(n, "LocalMA", "accuracy")]
        leads.append((mean - company, error, n, "a company"))
    means, errors, *_ = zip(*leads, strict=True)
    least, error, n, rival = min(leads)
    by_design = "by design" if (fixed["n"] == 0).all() else "differs"
    best = f"smallest lead: over {rival} at n = {n}"
    rows = [
        ("(1) LocalMA improves with n", across, *local, positive(*local)),
        ("(2) GW hardly changes with n", across, *constant, small(constant["mean"], constant["mcse"], HARDLY)),
        ("(3) companies and EWMA do not depend on n", "by design: they see no sample", 0.0, 0.0, by_design),
        ("(4) LocalMA is best at every n", best, least, error, positive(means, errors)),
    ]
    return pd.DataFrame(rows, columns=["finding", "measured", "value", "mcse", "verdict"])


def beside_the_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Table 5 as printed beside the replicated means, in per cent; the companies in the paper's order.

    Examples
    --------
    >>> from localma.replication import cifar10, load_results
    >>> list(cifar10.beside_the_paper(load_results("cifar10")[0]).columns)
    ['n', 'method', 'printed', 'replicated', 'sd', 'mcse']
    """
    company = {network: f"company {c}" for network, c in zip(FAMILIES["torchvision"], COMPANIES, strict=True)}
    paper = printed(5).rename(columns={"mean": "printed"}).replace({"method": company})
    ours = table[table["metric"] == "accuracy"].rename(columns={"mean": "replicated"})
    both = paper.merge(ours, on=["n", "method"], validate="one_to_one")
    return both[["n", "method", "printed", "replicated", "sd", "mcse"]]
