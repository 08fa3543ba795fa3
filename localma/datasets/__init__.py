"""The data of the paper's three real experiments: found, checked, read.

Each loader looks for its files in this order: a path that you give, the folder named by the environment variable ``LOCALMA_DATA``, the user
cache (``localma`` in the system's cache folder), a download from the original source, checked by its checksum. It never makes data up unless it is
asked to with ``synthetic=True``.
"""

from localma.datasets.toxicity import Toxicity, load_toxicity

__all__ = ["Toxicity", "load_toxicity"]
