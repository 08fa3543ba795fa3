"""Whether LocalMA prices better than every other method."""

from __future__ import annotations

import pandas as pd

from localma.replication.lab.verdicts import better


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """LocalMA against every other method in a table of :func:`run`, size by size: columns n, method, lead, mcse and
    verdict ("LocalMA better", "LocalMA worse" or "cannot tell").

    Examples
    --------
    >>> from localma.replication import counts, load_results
    >>> list(counts.verdicts(load_results("counts")[0]).columns)
    ['n', 'method', 'lead', 'mcse', 'verdict']
    """
    lead = table.query("customers == 'all' and metric == 'lead'")
    found = lead.assign(lead=lead["mean"], verdict=better(lead["mean"], lead["mcse"]))
    return found[["n", "method", "lead", "mcse", "verdict"]].reset_index(drop=True)
