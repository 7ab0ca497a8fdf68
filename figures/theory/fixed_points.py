"""Figures of the finite theory: the optimum beside the base, and every fixed point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sharpen.figures.style import BASE_COLOR, CLASS_COLORS, CLASS_MARKERS, REGIME_COLORS, drawing
from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.core.ties import reward_scale, top_face
from sharpen.theory.instability.stationary import CLASSES, FixedPoints
from sharpen.theory.optima.optimum import Optimum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BARS = 16  # outcomes that fit side by side with readable names
BAR_WIDTH = 0.4
CORRECT_COLOR = "#E2F2EC"  # the task reward's green, pale enough to lie behind bars


def plot_fixed_points(
    objective: Objective,
    problem: Problem,
    best: Optimum,
    found: FixedPoints,
    path: str | Path | None = None,
    axes: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw base and optimum as bars, and every listed fixed point as (expected reward, value); return the figure.

    Args:
        objective: Names the regime and its colour.
        problem: n outcomes.
        best: The optimum.
        found: The fixed points.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: Two panels to draw in; None makes a figure.

    Raises:
        InputError: the path's suffix is not .png, .pdf or .svg, the file cannot be written, or there are not two
            panels.
    """
    with drawing(path, axes, (7.2, 3.1), lambda fig: fig.subplots(1, 2, width_ratios=(1.15, 1.0)), 2) as (fig, panels):
        left, right = panels
        _draw_bars(left, objective, problem, best)
        _draw_points(right, best, found)
        places: dict[Any, Axes] = {"outside lower left": left, "outside lower right": right}
        for place, panel in places.items():
            found_labels = panel.get_legend_handles_labels()
            if axes is None:
                fig.legend(*found_labels, loc=place, ncols=5, columnspacing=1.0, handletextpad=0.3)
            else:
                panel.legend(*found_labels)
    return fig


def marked_outcomes(problem: Problem) -> tuple[NDArray[np.intp], str]:
    """Return the outcomes with the highest reward and what to call them; none if all rewards are equal."""
    top = np.flatnonzero(top_face(problem.reward, reward_scale(problem.reward)))
    binary = np.all(np.isin(problem.reward, (0.0, 1.0)))
    return (top[:0] if top.size == problem.n else top), "correct" if binary else "highest reward"


def _draw_bars(axes: Axes, objective: Objective, problem: Problem, best: Optimum) -> None:
    height = np.maximum(problem.base, best.probabilities)
    shown = np.sort(np.argsort(-height, kind="stable")[:BARS])
    place = np.arange(shown.size)
    top, name = marked_outcomes(problem)
    label = name
    for x in place[np.isin(shown, top)]:
        axes.axvspan(x - 0.5, x + 0.5, color=CORRECT_COLOR, linewidth=0, label=label)
        label = "_" + name  # one legend entry for all of them
    for policy, offset, color, text in (
        (problem.base, -BAR_WIDTH / 2, BASE_COLOR, "base"),
        (best.probabilities, BAR_WIDTH / 2, REGIME_COLORS[objective.regime], "optimum"),
    ):
        axes.bar(place + offset, policy[shown], BAR_WIDTH, color=color, label=text)
    axes.set_xticks(
        place,
        [str(i) for i in shown],
        fontsize=9 if shown.max() < 100 and shown.size <= 12 else 7 if shown.max() < 1000 else 5,
    )
    axes.set_xlim(-0.6, shown.size - 0.4)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("outcome" if shown.size == problem.n else f"outcome (the {shown.size} likeliest of {problem.n:,})")
    axes.set_ylabel("probability")
    w = objective.coefficients
    fig_title = f"{objective.regime}: $w_r$ = {w.w_r:.3g}, $w_p$ = {w.w_p:.3g}, $w_h$ = {w.w_h:.3g}"
    axes.set_title(fig_title if objective.refresh_every is None else f"{fig_title}, ref. {objective.reference}")


def _draw_points(axes: Axes, best: Optimum, found: FixedPoints) -> None:
    listed = tuple(found.points)  # made when it is read
    many = len(listed) > 200
    for kind in CLASSES:
        points = [point for point in listed if point.kind == kind]
        if points:
            axes.scatter(
                [point.expected_reward for point in points],
                [point.value for point in points],
                s=9 if many else 36,
                marker=CLASS_MARKERS[kind],
                color=CLASS_COLORS[kind],
                edgecolors="none" if many else "white",
                linewidths=0.4,
                zorder=3 - CLASSES.index(kind) / len(CLASSES),  # stable ones on top
                label=f"{kind} ({len(points):,})",
            )
    axes.scatter(
        [best.expected_reward], [best.value], s=110, facecolors="none", edgecolors="black", zorder=4, label="optimum"
    )
    axes.margins(0.12)
    if all(point.expected_reward == best.expected_reward for point in listed):
        axes.set_xlim(best.expected_reward - 0.5, best.expected_reward + 0.5)  # not a range of rounding errors
    axes.set_xlabel("expected reward")
    axes.set_ylabel("objective J")
    axes.set_title(_caption(found))


def _caption(found: FixedPoints) -> str:
    listed, total = len(found.points), found.total
    if found.complete:
        return f"{listed:,} fixed point{'s' if listed > 1 else ''}"
    many = f"{total:,}" if total < 10**9 else f"$2^{{{total.bit_length()}}} - 1$"  # every long count is one of these
    return f"{listed:,} of {many} fixed points"
