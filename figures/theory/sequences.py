"""Figure of the knife edge: the mean length of p^alpha against alpha."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sharpen.figures.style import BASE_COLOR, REGIME_COLORS, drawing, legend_below
from sharpen.theory.sequences.curve import LengthPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORBIDDEN_COLOR = "#F6E3D9"  # the sharpening colour, pale enough to lie behind lines
TEMPERATURE_COLOR = REGIME_COLORS["task-reward+likelihood"]


def plot_knife_edge(
    points: Sequence[LengthPoint],
    base: LengthPoint,
    critical_alpha: float | None,
    path: str | Path | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the mean length of p^alpha, and of token-level temperature, against alpha; return the figure.

    Args:
        points: The curve, by rising alpha.
        base: The point at alpha = 1.
        critical_alpha: Below or at it p^alpha does not exist; None if it exists everywhere.
        path: A .png, .pdf or .svg file; None writes nothing.
        ax: A panel to draw in; None makes a figure.

    Raises:
        InputError: the path's suffix is unknown, or the file cannot be written.
    """
    with drawing(path, ax, (4.6, 3.5)) as (fig, (axes,)):
        _draw_lines(axes, points)
        if 0.0 < base.mean < math.inf:
            axes.hlines(base.mean, points[0].alpha, points[-1].alpha, color=BASE_COLOR, linewidth=0.8, linestyle=":")
            label = f"base, mean {base.mean:.3g}"
            axes.scatter([1.0], [base.mean], s=36, color=BASE_COLOR, edgecolors="black", zorder=4, label=label)
        if critical_alpha is not None:
            _draw_edge(axes, critical_alpha, points[-1].alpha)
        axes.set_yscale("log")
        axes.set_xlabel(r"$\alpha$")
        axes.set_ylabel("mean length (tokens before the stop)")
        legend_below(fig, axes, ax is None, *axes.get_legend_handles_labels(), ncols=2)
    return fig


def _draw_lines(axes: Axes, points: Sequence[LengthPoint]) -> None:
    for name, lengths, color, line in (
        (r"$p^\alpha$", [point.mean for point in points], REGIME_COLORS["tempered"], "-"),
        ("token-level temperature", [point.temperature_mean for point in points], TEMPERATURE_COLOR, "--"),
    ):
        shown = [(point.alpha, length) for point, length in zip(points, lengths, strict=True) if 0 < length < math.inf]
        if shown:
            axes.plot(*zip(*shown, strict=True), line, color=color, label=name)


def _draw_edge(axes: Axes, critical_alpha: float, top: float) -> None:
    left = max(0.0, critical_alpha - 0.25 * (top - critical_alpha))
    axes.set_xlim(left, top + 0.03 * (top - left))
    axes.axvspan(left, critical_alpha, color=FORBIDDEN_COLOR, linewidth=0, zorder=0)
    axes.axvline(
        critical_alpha,
        color=REGIME_COLORS["sharpening"],
        linewidth=1.0,
        label=rf"critical $\alpha$ = {critical_alpha:.3f}",
    )
    if critical_alpha - left > 0.1 * (top - left):
        axes.text(
            0.5 * (left + critical_alpha), 0.5, r"$p^\alpha$ has no finite sum", rotation=90, ha="center", va="center",
            fontsize=8, transform=axes.get_xaxis_transform(),
        )  # fmt: skip
