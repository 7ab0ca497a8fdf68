"""The phase portrait of three outcomes, on the ternary plot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpen.figures.style import (
    BASE_COLOR,
    CLASS_COLORS,
    CLASS_MARKERS,
    REGIME_COLORS,
    drawing,
)
from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.instability.phase import Basin, Portrait
from sharpen.theory.instability.phase_curves import growth
from sharpen.theory.instability.stationary import CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUTCOME_TINTS = ("#CFE3F1", "#FBE3C8", "#E6D5EA")  # one per vertex, pale enough to lie behind arrows
ONE_BASIN_TINT = "#F3F3F3"
FLOW_COLOR = "#7A7A7A"
STREAM_GRID = 181  # cells of the Cartesian grid that the streamlines are traced on
HEIGHT = np.sqrt(3.0) / 2.0
# mpltern puts the first coordinate's corner on top, the second's left, the third's right; its triangle has height 1.
CORNERS = np.array([[0.0, 1.0], [-0.5 / HEIGHT, 0.0], [0.5 / HEIGHT, 0.0]])


def plot_phase(
    objective: Objective, problem: Problem, found: Portrait, path: str | Path | None = None, ax: Any = None
) -> Figure:
    """Draw basins, streamlines, borders, fixed points and the base on the ternary plot; return the figure.

    Args:
        objective: Names the regime and its colour.
        problem: Three outcomes.
        found: The portrait.
        path: A .png, .pdf or .svg file; None writes nothing.
        ax: A panel to draw in, with mpltern's projection ``ternary``; None makes a figure.

    Raises:
        InputError: the path's suffix is not .png, .pdf or .svg, the file cannot be written, or the panel has another
            projection.
    """
    if ax is not None and getattr(ax, "name", "") != "ternary":
        raise InputError("ax", getattr(ax, "name", ax), "a panel with the projection ternary of mpltern")
    with drawing(path, ax, (5.6, 4.4), _ternary) as (fig, (axes,)):
        draw_basins(axes, found)
        draw_flow(axes, *exact_flow(found))
        draw_borders(axes, found)
        draw_points(axes, problem, found)
        _label(axes, objective, problem, found)
    return fig


def _ternary(fig: Figure) -> Any:
    import mpltern  # noqa: F401  (registers the projection "ternary")

    return fig.add_subplot(projection="ternary")


def draw_basins(axes: Any, found: Portrait) -> None:
    """Tint the basins, one colour an outcome."""
    for basin in found.basins:
        color = ONE_BASIN_TINT if len(found.basins) == 1 else OUTCOME_TINTS[min(basin.support)]
        axes.fill(*basin.polygon.T, color=color, linewidth=0, zorder=0.5, label=_basin_name(basin))


def _basin_name(basin: Basin) -> str:
    if basin.continuum:
        return "every policy is at rest" if len(basin.support) == 3 else "all to the marked edge"
    if len(basin.support) > 1:
        return "all to the stable point"
    return f"to outcome {min(basin.support)}: {100 * basin.share:.1f} %"


def draw_flow(axes: Any, velocity: Callable[[FloatArray], FloatArray], noise: float) -> None:
    """Draw evenly spaced streamlines, traced on a Cartesian grid over the triangle, the velocity 0 outside.

    Args:
        axes: A ternary plot.
        velocity: From policies, shape [m, 3], to d pi / dt.
        noise: A field that is nowhere faster is at rest, and not drawn.
    """
    from matplotlib.axes import Axes

    x = np.linspace(CORNERS[1, 0], CORNERS[2, 0], STREAM_GRID)
    y = np.linspace(0.0, 1.0, STREAM_GRID)
    pi = _barycentric(np.stack(np.meshgrid(x, y), axis=-1))
    inside = np.all(pi > 0, axis=-1)
    flow = np.full((*inside.shape, 2), np.nan)
    flow[inside] = velocity(pi[inside]) @ CORNERS
    if not np.nanmax(np.abs(flow)) > noise:
        return  # every policy is at rest
    masked = np.ma.masked_invalid(flow)
    # The plain Axes method: mpltern's data coordinates are those of CORNERS.
    Axes.streamplot(
        axes,
        x,
        y,
        masked[..., 0],
        masked[..., 1],
        density=1.1,
        color=FLOW_COLOR,
        linewidth=0.6,
        arrowsize=0.8,
        zorder=1,
    )


def exact_flow(found: Portrait) -> tuple[Callable[[FloatArray], FloatArray], float]:
    """Return a portrait's velocity and the speed below which it is rounding."""
    noise = 1e-12 * float(np.abs(found.line.constant).max() + np.abs(found.line.slope).max())
    return lambda pi: pi * growth(found.line, np.log(pi), found.field), noise


def _barycentric(points: FloatArray) -> FloatArray:
    """Return the policies at Cartesian points, shape [..., 2] to [..., 3]."""
    edges = CORNERS[1:] - CORNERS[0]
    rest = (points - CORNERS[0]) @ np.linalg.inv(edges)
    return np.concatenate([1.0 - rest.sum(axis=-1, keepdims=True), rest], axis=-1)


def draw_borders(axes: Any, found: Portrait) -> None:
    """Draw the borders of the basins."""
    name = "border of basins"
    for border in found.separatrices:
        axes.plot(*border.points.T, color="black", linewidth=1.3, linestyle=(0, (4, 2)), zorder=2, label=name)
        name = "_" + name  # one legend entry


def draw_points(axes: Any, problem: Problem, found: Portrait) -> None:
    """Mark the fixed points by class, and the base."""
    seen: set[str] = set()
    for point in sorted(found.points, key=lambda point: -CLASSES.index(point.kind)):  # stable ones on top
        color = CLASS_COLORS[point.kind]
        if point.continuum and len(point.support) == 2:
            closed = np.eye(3)[list(point.support)]
            axes.plot(
                *closed.T, color=color, linewidth=3.5, alpha=0.7, solid_capstyle="round", zorder=2.5, clip_on=False
            )
        axes.scatter(
            *point.probabilities[:, None],
            s=52,
            marker=CLASS_MARKERS[point.kind],
            color=color,
            edgecolors="white",
            linewidths=0.7,
            zorder=4,
            clip_on=False,
            label=point.kind if point.kind not in seen else f"_{point.kind}",
        )
        seen.add(point.kind)
    axes.scatter(
        *problem.base[:, None],
        s=70,
        marker="*",
        color=BASE_COLOR,
        edgecolors="black",
        linewidths=0.7,
        zorder=5,
        label="base",
    )


def _label(axes: Any, objective: Objective, problem: Problem, found: Portrait) -> None:
    label_corners(axes, problem)
    w = objective.coefficients
    moving = "" if objective.refresh_every is None else f", reference {objective.reference}"
    axes.set_title(
        f"{objective.regime}: $w_r$ = {w.w_r:.3g}, $w_p$ = {w.w_p:.3g}, $w_h$ = {w.w_h:.3g}{moving}\n"
        f"{found.field} gradient",
        color=REGIME_COLORS[objective.regime],
        pad=24,
    )
    axes.legend(loc="upper left", bbox_to_anchor=(0.82, 1.05), handletextpad=0.5)


def label_corners(axes: Any, problem: Problem) -> None:
    """Name the outcome at each corner and take the ticks away."""
    best = problem.reward.max() if np.ptp(problem.reward) > 0 else np.inf
    name = "correct" if np.all(np.isin(problem.reward, (0.0, 1.0))) else "highest reward"
    places = (((0, 9), "bottom"), ((0, -9), "top"), ((0, -9), "top"))  # in points, off each corner
    for i, (offset, side) in enumerate(places):
        axes.annotate(
            f"outcome {i}" + (f" ({name})" if problem.reward[i] == best else ""),
            CORNERS[i],
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va=side,
        )
    for axis in (axes.taxis, axes.laxis, axes.raxis):
        axis.set_ticks([])
    axes.grid(False)
