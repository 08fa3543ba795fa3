"""One look for every figure of the course: the same colour for the same method, labels at the lines, readable on a
phone.

Needs the extra ``plots`` (matplotlib and seaborn).
"""

from __future__ import annotations

import base64
import io
import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

try:
    import matplotlib.pyplot as plt
    import seaborn as sns
    from matplotlib.axes import Axes
    from PIL import Image
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"localma.plots needs {error.name}, which comes with the extra plots: pip install 'localma[plots]'",
        name=error.name,
    ) from error

__all__ = [
    "METHOD_COLORS",
    "MODEL_COLORS",
    "explore",
    "label_lines",
    "plot_audit",
    "plot_simplex",
    "plot_weights",
    "use_style",
]

# Okabe & Ito's palette: distinguishable with every common form of colour blindness.
_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
_SKY, _RED, _YELLOW, _GREY = "#56B4E9", "#D55E00", "#F0E442", "#6E6E6E"

#: Colour of each method, in every chapter.
METHOD_COLORS = {
    "LocalMA": _BLUE,
    "Adaptive": "#882255",  # wine, beside the eight: it shares pictures with most of them
    "GW": _ORANGE,
    "EWMA": _GREEN,
    "BestModel": _PURPLE,
    "BestPTM": _PURPLE,
    "DirectModel": _RED,
    "truth": "#000000",
    "data": _GREY,
}

#: Colours of candidate models, in their order.
MODEL_COLORS = (_SKY, _RED, _PURPLE, _GREEN, _ORANGE, _BLUE, _GREY, _YELLOW)


def use_style() -> None:
    """Set the course's style for all figures of the session."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=list(MODEL_COLORS),
        rc={
            "figure.figsize": (7.0, 4.2),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 12,
            "axes.labelsize": 11,
            "font.size": 11,
            "legend.frameon": False,
            "lines.linewidth": 2.0,
            "savefig.facecolor": "white",
        },
    )


def label_lines(ax: Axes, *, space: float = 0.22) -> None:
    """Write each labelled line's name at its right end instead of a legend.

    Parameters
    ----------
    ax : matplotlib Axes
        Lines whose label starts with an underscore are left alone.
    space : float
        Share of the width to add at the right for the names.
    """
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_") and len(line.get_xdata())]
    left, right = ax.get_xlim()
    ax.set_xlim(left, right + space * (right - left))
    transform = ax.transData + ax.transAxes.inverted()
    ends = [(*transform.transform(line.get_xydata()[-1]), line) for line in lines]
    style = {"transform": ax.transAxes, "va": "center", "fontsize": 10}
    lowest = -np.inf
    for x, y, line in sorted(ends, key=lambda end: end[1]):
        lowest = max(y, lowest + 0.06)  # so that names do not overlap
        ax.text(x + 0.015, lowest, line.get_label(), color=line.get_color(), **style)


def plot_weights(
    x: ArrayLike, weights: ArrayLike, names: Sequence[str], *, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Weights as stacked bands over one covariate: at each x the bands fill the unit interval.

    Parameters
    ----------
    x : array of shape (n,)
        Increasing.
    weights : array of shape (n, M)
    names : list of str, length M

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from localma.plots import plot_weights
    >>> x = np.linspace(0, 1, 50)
    >>> plot_weights(x, np.stack([x, 1 - x], 1), ["up", "down"], ax=plt.figure().gca()).get_ylim() == (0, 1)
    True
    """
    ax = ax or plt.gca()
    ax.stackplot(x, np.asarray(weights).T, labels=names, colors=MODEL_COLORS[: len(names)], alpha=0.85, linewidth=0)
    ax.set(xlim=(np.min(x), np.max(x)), ylim=(0, 1), ylabel="weight")
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def plot_audit(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """The table of an audit as a picture: verdicts, and of each test the p-value beside its stated level.

    A dot to the left of its bar is a test that speaks: an alarm, or in the row "reach" the good news that the best risk
    is not zero. Some alarms ask for more than that; the verdict at the right says what came of it.

    Parameters
    ----------
    table : DataFrame
        The ``table`` of :func:`localma.theory.audit`.

    Examples
    --------
    >>> import numpy as np
    >>> from localma import GlobalMA
    >>> from localma.plots import plot_audit
    >>> from localma.theory import audit
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> average = GlobalMA().fit(X[:50], X[:50, 0], F=X[:50])
    >>> plot_audit(audit(average, X[50:], X[50:, 0], F=X[50:]).table).get_xscale()
    'log'
    """
    ax = ax or plt.gca()
    height, least = np.arange(len(table)), 1e-5
    colors = table["verdict"].map({"looks fine": _GREEN, "in danger": _RED}).fillna(_GREY).tolist()
    ax.plot(table["level"], height, "|", color="black", ms=14, mew=2)
    ax.scatter(table["p"].clip(lower=least), height, color=colors, s=60, zorder=3)
    for y, (verdict, color) in enumerate(zip(table["verdict"], colors, strict=True)):
        ax.text(1.03, y, verdict, color=color, transform=ax.get_yaxis_transform(), va="center")
    ax.set(xscale="log", xlim=(least / 2, 2), xlabel="p-value (bar: stated level)")
    ax.set_yticks(height, table.index)
    ax.invert_yaxis()
    return ax


def plot_simplex(names: Sequence[str], *, ax: Axes | None = None) -> np.ndarray:
    """The triangle of the weights of three models, empty.

    Parameters
    ----------
    names : list of 3 str
        Written at the corners.

    Returns
    -------
    array of shape (3, 2)
        The corners; weights (n, 3) lie at ``weights @ corners``.

    Examples
    --------
    >>> from localma.plots import plot_simplex
    >>> corners = plot_simplex(["one", "two", "three"])
    >>> (corners.sum(0) / 3).round(2)  # equal weights
    array([0.5 , 0.29])
    """
    ax = ax or plt.gca()
    corners = np.array([[0, 0], [1, 0], [0.5, 3**0.5 / 2]])
    ax.plot(*corners[[0, 1, 2, 0]].T, color="0.6", lw=1)
    for (x, y), name, shift in zip(corners, names, (-0.04, -0.04, 0.03), strict=True):
        ax.text(x, y + shift, name, ha="center", va="bottom" if shift > 0 else "top", fontsize=13)
    ax.set_aspect("equal")
    ax.axis("off")
    return corners


class _Html(str):
    """What a notebook shows as HTML."""

    def _repr_html_(self):
        return str(self)

    def __repr__(self):
        return f"<pictures behind dials, {len(self) / 1000:.0f} kB of HTML>"


def explore(draw: Callable[..., str], dials: Mapping[str, Sequence], start: Sequence[int] | None = None) -> str:
    """Pictures behind dials: turn a dial, and see the picture that belongs to its position.

    All pictures are drawn beforehand and stand in one piece of HTML without a script, which a notebook displays, so
    that they turn on a static page, in a notebook and in Colab, by touch and with the arrow keys. On paper all of them
    are printed.

    Parameters
    ----------
    draw : callable
        Takes one position of each dial, draws a figure with pyplot, and returns a sentence that says what it shows, for
        those who cannot see it.
    dials : dict
        The positions of each dial by its name, in words or numbers.
    start : sequence of int, optional
        The numbers of the positions at which the dials stand at first; all zero by default.

    Raises
    ------
    TypeError
        If `draw` returns no sentence.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from localma.plots import explore
    >>> def draw(power):
    ...     plt.plot([0, 1, 2], [x**power for x in (0, 1, 2)])
    ...     return f"Two to the power {power} is {2**power}."
    >>> explore(draw, {"power": (1, 2, 3)}).count("<img")
    3
    """
    rows = [list(positions) for positions in dials.values()]
    start = tuple(start or [0] * len(rows))
    choices, images, name = list(itertools.product(*map(range, map(len, rows)))), [], 0
    for choice in choices:
        sentence = draw(*(row[k] for row, k in zip(rows, choice, strict=True)))
        if not isinstance(sentence, str):
            raise TypeError(f"draw must return a sentence that says what its picture shows, not {sentence!r}")
        plain, file = io.BytesIO(), io.BytesIO()
        plt.savefig(plain)
        plt.close()
        Image.open(plain).convert("RGB").quantize(64).save(file, "png", optimize=True)  # a quarter of the size
        name = zlib.crc32(file.getvalue(), name)
        source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        hidden = " hidden" * (choice != start)
        images.append(f'<img alt="{escape(sentence)}" src="{source}"{hidden}>')
    box = f"explore-{name:08x}"  # two of them on one page must not turn each other
    groups = [
        f"<fieldset><legend>{escape(dial)}</legend>"
        + "".join(
            f'<label><input type="radio" name="{box}-{d}"{" checked" * (k == start[d])}> {escape(str(value))}</label> '
            for k, value in enumerate(row)
        )
        + "</fieldset>"
        for d, (dial, row) in enumerate(zip(dials, rows, strict=True))
    ]
    turned = [
        f".{box}"
        + "".join(
            f":has(fieldset:nth-of-type({d + 1}) label:nth-of-type({k + 1}) :checked)" for d, k in enumerate(choice)
        )
        + f" img:nth-of-type({number})"
        for number, choice in enumerate(choices, 1)
    ]
    style = (
        f".{box}:has(:checked) img {{display: none; max-width: 100%}} {', '.join(turned)} {{display: block !important}}"
        f" .{box} fieldset {{border: 0; padding: 0; margin: 0 0 0.4rem}} .{box} legend {{font-size: 1em; margin: 0}}"
        f" .{box} label {{display: inline-block; padding: 0.4rem 0.8rem 0.4rem 0; cursor: pointer}}"
    )
    return _Html(f'<div class="explore {box}"><style>{style}</style>{"".join(groups + images)}</div>')
