"""Four companies and ten digits: the design of the paper's Section 5.3 scaled down to scikit-learn's 1,797 bundled
images.

Chapter *First real data* tells the story; this folder holds what is longer than a screen. Each repetition cuts the
images anew: 600 for the companies, 600 that the weights may be learned from, 597 for the test. The first two do not
overlap, so that the companies' models are fixed functions, independent of the sample, as the theory asks.
"""

from localma.replication.digits.companies import OWN, repeat, split, train_companies
from localma.replication.digits.findings import verdicts
from localma.replication.digits.methods import METHODS, SIZES, answers, compare_methods

__all__ = [
    "METHODS",
    "OWN",
    "SIZES",
    "answers",
    "compare_methods",
    "repeat",
    "split",
    "train_companies",
    "verdicts",
]
