"""The paper's experiments on top of the core, one folder each; ``python -m localma.replication NAME`` runs them.

``results`` reads what full runs measured: tidy tables and the provenance of each, shipped with the package.
"""

from localma.replication.lab.results import load_results
from localma.replication.lab.verdicts import compare, printed

__all__ = ["compare", "load_results", "printed"]
