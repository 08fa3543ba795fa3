"""Toxic or not in Hebrew and Hindi, from models of Chinese, English, French and Ukrainian: the paper's Section 5.2.

Each of four companies trains a text classifier on its own language. The minority languages' sentences are split at
random, again and again, into a part that weights (or a direct model) are learned from and a test.

``methods`` has the networks and what is done in one split; ``experiment`` the companies, the run and the predictions
that it leaves; ``rivals`` what the paper does not ask; ``tuning`` how the networks' settings were chosen. The book's
chapter "Toxic or not" (``book/replication/toxicity``) tells the story.
"""

from localma.replication.toxicity.companies import COMPANIES
from localma.replication.toxicity.experiment import CASES, Comments, run
from localma.replication.toxicity.findings import verdicts
from localma.replication.toxicity.methods import METHODS, SETTINGS, compare_methods, learn, splits
from localma.replication.toxicity.predictions import Predictions, load_predictions
from localma.replication.toxicity.rivals import CommentsRivals
from localma.replication.toxicity.tuning import CommentsTuning, choose

__all__ = [
    "CASES",
    "COMPANIES",
    "EXPERIMENTS",
    "METHODS",
    "SETTINGS",
    "Comments",
    "CommentsRivals",
    "CommentsTuning",
    "Predictions",
    "choose",
    "compare_methods",
    "learn",
    "load_predictions",
    "run",
    "splits",
    "verdicts",
]

EXPERIMENTS = (Comments, CommentsRivals, CommentsTuning)
