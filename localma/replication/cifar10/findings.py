"""What the paper says of photographs, held against what was measured; and its Table 5 beside ours."""

from __future__ import annotations

import pandas as pd

from localma.replication.lab.verdicts import positive, printed, small


def verdicts(table: pd.DataFrame, *, z: float = 3.0, hardly: float = 0.5) -> pd.DataFrame:
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
    >>> from localma.replication import cifar10, load_results
    >>> list(cifar10.verdicts(load_results("cifar10")[0]).columns)
    ['finding', 'measured', 'value', 'mcse', 'verdict']
    """
    cell = table.set_index(["n", "method", "metric"])[["mean", "mcse"]]
    sizes = sorted(set(table["n"]) - {0})
    across = f"accuracy, n = {sizes[-1]} against {sizes[0]}"
    local, constant = (cell.loc[(0, method, across)].to_numpy() for method in ("LocalMA", "GW"))
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
        ("(1) LocalMA improves with n", across, *local, positive(local[0], local[1], z)),
        ("(2) GW hardly changes with n", across, *constant, small(constant[0], constant[1], hardly, z)),
        (
            "(3) companies and EWMA do not depend on n",
            "by design: they see no sample",
            0.0,
            0.0,
            "by design" if (fixed["n"] == 0).all() else "differs",
        ),
        (
            "(4) LocalMA is best at every n",
            f"smallest lead: over {rival} at n = {n}",
            least,
            error,
            positive(means, errors, z),
        ),
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
    paper = printed(5)
    networks = ("ResNet18", "DenseNet121", "GoogLeNet", "EfficientNetB0")
    paper["method"] = paper["method"].replace(
        {network: f"company {c}" for network, c in zip(networks, "ABCD", strict=True)}
    )
    both = paper.merge(
        table.query("metric == 'accuracy'"), on=["n", "method"], suffixes=("_paper", ""), validate="one_to_one"
    )
    return both[["n", "method", "mean_paper", "mean", "sd", "mcse"]].rename(
        columns={"mean_paper": "printed", "mean": "replicated"}
    )
