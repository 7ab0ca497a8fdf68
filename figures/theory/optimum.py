"""Figures of the optimum: reward against KL, the Pareto frontier, and the response to alpha or beta_inv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpen.figures.style import BASE_COLOR, REGIME_COLORS, drawing, legend_below
from sharpen.objective import Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import own_scale, reward_scale, top_face
from sharpen.theory.optima.best_of_n import log_best_of_n
from sharpen.theory.optima.frontier import at_kl, frontier, hull, kl_curve
from sharpen.theory.optima.optimum import optimum, summarize
from sharpen.theory.optima.response import Curve, Turn, TurningPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE_POINTS = 80
NEARLY = 0.98  # of the largest KL of a family: where its drawn curve ends
RAYS = {"power": Objective(alpha=2.0), "tilt": Objective(alpha=1.0, beta_inv=1.0)}
RAY_COLORS = {"power": REGIME_COLORS["tempered"], "tilt": REGIME_COLORS["tilted"]}


def plot_optimum(
    objective: Objective,
    problem: Problem,
    budgets: Sequence[float],
    points: int,
    path: str | Path | None = None,
    with_best_of_n: bool = True,
    axes: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw E[r] against KL of three families, and E[r] against E[s] with Pareto frontiers; return the figure.

    Args:
        objective: Marked by its optimum; its length normalisation makes s.
        problem: n outcomes.
        budgets: KL budgets in nats whose frontiers are drawn too.
        points: Points of each frontier.
        path: A .png, .pdf or .svg file; None writes nothing.
        with_best_of_n: Whether to draw best-of-N.
        axes: Two panels to draw in, one without a score; None makes a figure.

    Raises:
        InputError: the suffix is not .png, .pdf or .svg, the file cannot be written, the budget is not allowed, or
            there is another number of panels.
    """
    count = 2 if objective.normalization != "none" else 1

    def panels_of(fig: Figure) -> Any:
        found = fig.subplots(1, count)
        fig.get_layout_engine().set(w_pad=0.1)  # type: ignore[union-attr]  # a tick's number may hang over the end
        return found

    with drawing(path, axes, (7.2 if count == 2 else 3.8, 3.3), panels_of, count) as (fig, panels):
        _draw_budget(panels[0], objective, problem, budgets, with_best_of_n)
        if count == 2:
            _draw_pareto(panels[1], objective, problem, budgets, points)
        handles = {label: handle for each in panels for handle, label in zip(*each.get_legend_handles_labels())}  # noqa: B905
        legend_below(fig, panels[0], axes is None, list(handles.values()), list(handles), ncols=4)
    return fig


def _draw_budget(
    axes: Axes, objective: Objective, problem: Problem, budgets: Sequence[float], with_best_of_n: bool
) -> None:
    furthest = 0.0
    for name, ray in RAYS.items():
        x, y = _family_curve(ray, problem, "alpha" if name == "power" else "beta_inv")
        axes.plot(
            x, y, color=RAY_COLORS[name], label="power $p^\\alpha$" if name == "power" else "tilt $p\\,e^{r/\\beta}$"
        )
        furthest = max(furthest, float(x[-1]))
    if with_best_of_n:
        samples = np.geomspace(1.0, max(4.0, 4.0 * math.exp(furthest)), CURVE_POINTS)
        found = [summarize(objective, problem, log_best_of_n(problem, float(n))) for n in samples]
        x, y = (np.array([float(getattr(each, name)) for each in found]) for name in ("kl_to_base", "expected_reward"))
        axes.plot(x, y, "--", color="black", linewidth=1.0, label="likeliest of N")
    best = optimum(objective, problem)
    axes.plot(0.0, problem.expected_reward(problem.base), "o", color=BASE_COLOR, label="base", clip_on=False)
    color = REGIME_COLORS[objective.regime]
    axes.plot(
        best.kl_to_base, best.expected_reward, "*", color=color, markersize=11, label=f"{objective.regime} optimum"
    )
    for budget, color in zip(budgets, _shades(len(budgets)), strict=True):
        axes.axvline(budget, color=color, linewidth=0.9, linestyle=":")
    axes.set_xlabel("KL to the base, nats")
    axes.set_ylabel("E[r]")
    axes.set_title("reward against KL")


def _family_curve(ray: Objective, problem: Problem, over: str) -> tuple[FloatArray, FloatArray]:
    """Return KL and E[r] along p^alpha, alpha >= 1, or the tilt, up to near its largest KL."""
    inside = problem.support
    level = (problem.log_base if over == "alpha" else problem.reward)[inside]
    top = top_face(level, (own_scale if over == "alpha" else reward_scale)(level))
    most = -float(np.logaddexp.reduce(problem.log_base[inside][top]))
    end = at_kl(ray, problem, NEARLY * most) if most > 0.0 else None
    if end is None:
        return np.zeros(1), np.full(1, problem.expected_reward(problem.base))
    reach = end.alpha - 1.0 if over == "alpha" else end.beta_inv
    grid = reach * np.linspace(0.0, 1.0, CURVE_POINTS) ** 2
    found = kl_curve(ray, problem, *(("alpha", 1.0 + grid) if over == "alpha" else ("beta_inv", grid)))
    return found.kl, found.expected_reward


def _shades(count: int) -> list[Any]:
    """Return colours for so many budgets, darker for larger ones in the order given."""
    from matplotlib import colormaps

    return [colormaps["YlOrBr"](0.45 + 0.45 * (i + 1) / count) for i in range(count)]


def _draw_pareto(axes: Axes, objective: Objective, problem: Problem, budgets: Sequence[float], points: int) -> None:
    outer = hull(objective, problem)
    axes.plot(outer.expected_score, outer.expected_reward, "-o", color="black", markersize=3, label="any KL")
    for budget, color in zip(budgets, _shades(len(budgets)), strict=True):
        edge = frontier(objective, problem, budget, points)
        axes.plot(edge.expected_score, edge.expected_reward, "-", color=color, label=f"KL at most {budget:g}")
    best = optimum(objective, problem)
    s = objective.score(np.where(problem.support, problem.log_base, 0.0), problem.length)
    axes.plot(problem.base @ s, problem.expected_reward(problem.base), "o", color=BASE_COLOR, label="base")
    color = REGIME_COLORS[objective.regime]
    reward, place = best.expected_reward, float(best.probabilities @ s)
    axes.plot(place, reward, "*", color=color, markersize=11, label=f"{objective.regime} optimum")
    axes.set_xlabel("E[log p], nats" if objective.length_exponent == 0.0 else "E[s]")
    axes.set_ylabel("E[r]")
    axes.set_title("task reward against sharpening")


def plot_response(
    objective: Objective,
    problem: Problem,
    found: Curve,
    turns: Sequence[TurningPoint] = (),
    turn: Turn | None = None,
    path: str | Path | None = None,
    axes: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw E[r] and its derivative against the parameter, the base's E[r], and the turning points; return the figure.

    Args:
        objective: Names the regime and its colour.
        problem: n outcomes.
        found: The curve.
        turns: Its turning points.
        turn: When sharpening stops helping; marked where it lies in the drawn range.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: Two panels to draw in, above and below; None makes a figure.

    Raises:
        InputError: the suffix is not .png, .pdf or .svg, the file cannot be written, or there are not two panels.
    """
    with drawing(path, axes, (4.4, 4.2), lambda fig: fig.subplots(2, 1, sharex=True, height_ratios=[2, 1]), 2) as (
        fig,
        (top, bottom),
    ):
        color = REGIME_COLORS[objective.regime]
        top.plot(found.grid, found.expected_reward, color=color)
        top.axhline(problem.expected_reward(problem.base), color=BASE_COLOR, linestyle="--", label="base")
        for each in turns:
            top.plot(each.alpha, each.expected_reward, "o", color="black", markersize=4, label=each.kind)
        below = None if turn is None else turn.below_base
        if below is not None and found.grid[0] <= below <= found.grid[-1]:
            top.axvline(below, color="black", linewidth=0.8, linestyle=":", label="below the base from here on")
        top.set_ylabel("E[r]")
        handles = {label: handle for handle, label in zip(*top.get_legend_handles_labels(), strict=True)}
        legend_below(fig, top, axes is None, list(handles.values()), list(handles), ncols=4)
        bottom.plot(found.grid, found.derivative, color=color)
        bottom.axhline(0.0, color=BASE_COLOR, linewidth=0.8)
        name = "$\\alpha$" if found.over == "alpha" else "$\\beta^{-1}$"
        bottom.set_xlabel(name)
        bottom.set_ylabel(f"dE[r] / d{name}")
    return fig
