"""How every figure looks: one colour a regime, one colour and marker a class of fixed point, one way to save.

The colours are Okabe and Ito's, which stay apart under the common colour-vision deficiencies. Matplotlib is imported
inside the functions, because `sharpen --help` passes here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.objective import InputError
from sharpen.objective.storage import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REGIME_COLORS: dict[str, str] = {
    "task-reward": "#009E73",
    "sharpening": "#D55E00",
    "tempered": "#0072B2",
    "tilted": "#CC79A7",
    "task-reward+likelihood": "#E69F00",
}
BASE_COLOR = "#999999"
CLASS_COLORS: dict[str, str] = {"stable": "#009E73", "saddle": "#E69F00", "unstable": "#D55E00", "neutral": "#56B4E9"}
CLASS_MARKERS: dict[str, str] = {"stable": "o", "saddle": "D", "unstable": "X", "neutral": "s"}
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
DOTS_PER_INCH = 200


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw inside this context without a display, in the project's fonts, sizes and colours."""
    import matplotlib
    from cycler import cycler

    if "matplotlib.pyplot" not in sys.modules:  # else a notebook's figures would no longer show
        matplotlib.use("Agg")  # figures go to files, also on machines without a display
    settings: dict[Any, Any] = {
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": "#E6E6E6",
        "grid.linewidth": 0.6,
        "axes.prop_cycle": cycler(color=list(REGIME_COLORS.values())),
        "legend.frameon": False,
        "legend.fontsize": 8,
        "pdf.fonttype": 42,  # TrueType, which journals ask for
        "svg.fonttype": "none",
        "svg.hashsalt": "sharpen",  # the same figure gives the same bytes
    }
    with matplotlib.rc_context(settings):
        yield


@contextmanager
def drawing(
    path: str | Path | None,
    given: Axes | Sequence[Axes] | None,
    figsize: tuple[float, float],
    make: Callable[[Figure], Any] = lambda fig: fig.subplots(),
    count: int = 1,
) -> Iterator[tuple[Figure, list[Any]]]:
    """Yield a figure and its panels to draw in; what is drawn is written if there is a path.

    A new figure has the project's style. Panels that are given keep the style of their own figure.

    Args:
        path: A .png, .pdf or .svg file; None writes nothing.
        given: Panels of a figure of the caller's; None makes a figure.
        figsize: Width and height of a new figure, inches.
        make: Adds the panels to a new figure and returns them.
        count: How many there are.

    Raises:
        InputError: the path's suffix is unknown, the file cannot be written, or there is another number of panels.
    """
    if path is not None:
        check_figure_path(path)
    if given is not None:
        panels = _as_list(given)
        if len(panels) != count:
            raise InputError("axes", f"{len(panels)} panels", f"{count} of them" if count > 1 else "one of them")
        fig = panels[0].get_figure(root=True)
        yield fig, panels
        if path is not None:
            save_figure(fig, path)
        return
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=figsize)
        yield fig, _as_list(make(fig))
        if path is not None:
            save_figure(fig, path)


def _as_list(panels: Any) -> list[Any]:
    import numpy as np

    return list(np.ravel(np.asarray(panels, dtype=object)))


def legend_below(fig: Figure, axes: Axes, mine: bool, handles: Any, labels: Any, **options: Any) -> None:
    """Draw a legend below a figure of one's own, or in a panel that was given, whose figure may hold other things."""
    if mine:
        fig.legend(handles, labels, loc="outside lower center", **options)
    else:
        axes.legend(handles, labels)


def check_figure_path(path: str | Path) -> Path:
    """Return the path of a figure if its suffix names a format.

    Raises:
        InputError: the suffix is none of .png, .pdf and .svg.
    """
    if Path(path).suffix.lower() not in FIGURE_SUFFIXES:
        raise InputError("figure file", str(path), f"a name that ends in {', '.join(FIGURE_SUFFIXES)}")
    return Path(path)


def save_figure(fig: Figure, path: str | Path) -> Path:
    """Write a figure to a .png, .pdf or .svg file, creating its folder, and return the path.

    The file carries no date, so the same figure gives the same bytes.

    Raises:
        InputError: the suffix is unknown, or the file cannot be written.
    """
    target = check_figure_path(path)
    undated = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}[target.suffix.lower()]
    with files.replacing(target, "figure file") as part:
        fig.savefig(part, format=target.suffix.lower()[1:], dpi=DOTS_PER_INCH, metadata=undated)
    return target
