"""Figure of pass@k and maj@k: the base, the optimum and other policies against the number of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sharpen.figures.style import BASE_COLOR, REGIME_COLORS, drawing, legend_below
from sharpen.objective import Objective
from sharpen.theory.optima.coverage import Coverage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {"base": "-", "optimum": "-", "best_of_n": "--", "marginal": ":"}
NAMES = {"best_of_n": "best of N", "marginal": "answer likelihood"}
MARKERS = {"base": "o", "optimum": "o", "best_of_n": "s", "marginal": "x"}  # coinciding lines stay apart


def plot_coverage(
    objective: Objective,
    table: dict[str, Coverage],
    overtakes: dict[str, int | None],
    path: str | Path | None = None,
    axes: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw pass@k and maj@k of every policy over k, with the k at which the base overtakes; return the figure.

    Args:
        objective: Names the regime and its colour.
        table: Policy name to its coverage; the first is the base.
        overtakes: Policy name to the first k at which the base's pass@k is higher, or None.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: Two panels to draw in, one without votes; None makes a figure.

    Raises:
        InputError: the path's suffix is not .png, .pdf or .svg, the file cannot be written, or there is another number
            of panels.
    """
    kinds = ("pass@k", "maj@k") if all(found.maj_at_k is not None for found in table.values()) else ("pass@k",)
    size, count = (7.2 if len(kinds) == 2 else 4.0, 3.1), len(kinds)
    with drawing(path, axes, size, lambda fig: fig.subplots(1, count, sharey=True), count) as (fig, panels):
        for panel, kind in zip(panels, kinds, strict=True):
            _draw(panel, objective, table, kind)
        _mark(panels[0], table, overtakes)
        legend_below(fig, panels[0], axes is None, *panels[0].get_legend_handles_labels(), ncols=4)
    return fig


def _draw(axes: Axes, objective: Objective, table: dict[str, Coverage], kind: str) -> None:
    for name, found in table.items():
        values = found.pass_at_k if kind == "pass@k" else found.maj_at_k
        assert values is not None
        axes.plot(
            found.k,
            values,
            LINES[name],
            color=BASE_COLOR if name == "base" else REGIME_COLORS[objective.regime],
            marker=MARKERS[name],
            markersize=6 if name == "marginal" else 3,
            label=objective.regime if name == "optimum" else NAMES.get(name, name),
        )
    axes.set_xscale("log", base=2)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("samples k")
    axes.set_ylabel(kind)
    axes.set_title(kind)


def _mark(axes: Axes, table: dict[str, Coverage], overtakes: dict[str, int | None]) -> None:
    """Mark an overtaking in the drawn range; one beyond it would stretch the axis, and k = 1 is none."""
    k = overtakes.get("optimum")
    drawn = table["base"].k
    if k is not None and max(2, drawn.min()) <= k <= drawn.max():
        axes.axvline(k, color="black", linewidth=0.8, linestyle=":")
        axes.set_title(f"pass@k: the base overtakes at k = {k}")
