"""The data of the paper's three real experiments: found, checked, read.

Each loader looks for its files in this order: a path that you give, the folder named by the environment variable
``LOCALMA_DATA``, the user cache (``localma`` in the system's cache folder). Then two of them download: CIFAR-10 from
its own site, checked by its checksum, and the toxicity data set's own files, checked by the numbers on its card; the
rents are published without a stated licence, and an error says where they come from. No loader makes data up unless it
is asked to with ``synthetic=True``.
"""

from localma.datasets.cifar10 import CLASSES, Cifar10, load_cifar10
from localma.datasets.housing import TABLES, Housing, load_housing
from localma.datasets.toxicity import LANGUAGES, Toxicity, load_toxicity

__all__ = [
    "CLASSES",
    "LANGUAGES",
    "TABLES",
    "Cifar10",
    "Housing",
    "Toxicity",
    "load_cifar10",
    "load_housing",
    "load_toxicity",
]
