"""Four companies and ten classes of photographs: the paper's Section 5.3 and its Table 5.

Each company has a pre-trained network and all 20,000 training images of its four classes, with 50 random images of the
others. It trains a new last layer: multinomial logistic regression on the network's frozen features. The weights of the
average come from a small convolutional network that sees the image itself.

What the paper leaves open and we decided: 50 images of the other classes in all, not of each (accuracies of 31 to 37 %
imply it); no augmentation for the companies, whose features are computed once; rotations within 15 degrees; a company's
predictions belong to the image, not to its augmented copies; the samples of one repetition are nested, each n has the
first n images of one random order.
"""

from localma.replication.cifar10.companies import material
from localma.replication.cifar10.direct import Direct
from localma.replication.cifar10.experiment import Photographs, run
from localma.replication.cifar10.findings import beside_the_paper, verdicts
from localma.replication.cifar10.methods import CONFIGURATION, fit_weights
from localma.replication.cifar10.predictions import load_predictions
from localma.replication.cifar10.rivals import Rivals, class_shares, correct_priors, geometric
from localma.replication.cifar10.tuning import Validation
from localma.replication.digits.companies import KNOWS, OWN

__all__ = [
    "CONFIGURATION",
    "EXPERIMENTS",
    "KNOWS",
    "OWN",
    "Direct",
    "Photographs",
    "Rivals",
    "Validation",
    "beside_the_paper",
    "class_shares",
    "correct_priors",
    "fit_weights",
    "geometric",
    "load_predictions",
    "material",
    "run",
    "verdicts",
]

EXPERIMENTS = (Photographs, Validation, Rivals, Direct)
