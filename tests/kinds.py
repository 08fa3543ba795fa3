"""The averages that are exported, so that a new one is held to what the others promise."""

import localma
from localma import relatives
from localma.averages import ModelAverage

EXPORTS = [getattr(module, name) for module in (localma, relatives) for name in module.__all__]
AVERAGES = [thing for thing in EXPORTS if isinstance(thing, type) and issubclass(thing, ModelAverage)]


def make(kind, *models, **options):
    """An average with those of the options that it has, without a bar, its draws fixed."""
    known = kind().get_params()
    options = {"random_state": 0, "progress": False} | options
    return kind(*models, **{name: value for name, value in options.items() if name in known})
