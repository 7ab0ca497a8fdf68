"""Figure of the optimum's sensitivity: worst and mean change against the size of the error, and the change itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sharpen.figures.style import REGIME_COLORS, drawing, legend_below
from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.noise import noise_effect
from sharpen.theory.optima.sensitivity import SOURCES, Response, response, worst_case

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 41
SIMULATED = 9  # sizes of error at which the mean is simulated
DRAWS = 2000
NUMBERS = 10**7  # draws times outcomes of one simulated point
SPAN = 10.0  # the drawn range in units of the command's epsilon


def plot_sensitivity(
    objective: Objective,
    problem: Problem,
    epsilon: float,
    path: str | Path | None = None,
    seed: int = 0,
    axes: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw the total-variation change against the size of the error, one panel a source; return the figure.

    The lines are the worst case and its bound for errors up to a size, the points the mean for Gaussian noise of that
    standard deviation, with two standard errors. The range goes to ten times ``epsilon``, whose place is marked.

    Args:
        objective: Names the regime and its colour.
        problem: n outcomes.
        epsilon: Size of error that is marked.
        path: A .png, .pdf or .svg file; None writes nothing.
        seed: Of the simulation.
        axes: Two panels to draw in; None makes a figure.

    Raises:
        InputError: the path's suffix is not .png, .pdf or .svg, the file cannot be written, there are not two panels,
            or an argument of the sensitivity is out of range.
    """
    found = [response(objective, problem, source) for source in SOURCES]
    most = SPAN * epsilon if epsilon > 0 else 1.0
    with drawing(path, axes, (7.2, 3.1), lambda fig: fig.subplots(1, 2, sharey=True), 2) as (fig, panels):
        for panel, source, one in zip(panels, SOURCES, found, strict=True):
            _draw(panel, one, problem, REGIME_COLORS[objective.regime], most, seed)
            panel.axvline(epsilon, color="black", linewidth=0.8, linestyle=":")
            panel.set_xlabel("size of the error" + (" (nats)" if source == "likelihood" else ""))
            panel.set_title(f"{objective.regime}: errors of the {source}")
        panels[0].set_ylabel("total-variation change")
        panels[0].set_ylim(-0.02, 1.02)
        legend_below(fig, panels[0], axes is None, *panels[0].get_legend_handles_labels(), ncols=3)
    return fig


def _draw(axes: Axes, found: Response, problem: Problem, color: str, most: float, seed: int) -> None:
    sizes = np.linspace(0.0, most, POINTS)
    cases = [worst_case(found, float(size)) for size in sizes]
    drawn = "steps-post" if found.hard else "default"
    axes.plot(sizes, [case.total_variation for case in cases], color=color, label="worst case", drawstyle=drawn)
    axes.plot(sizes, [case.bound for case in cases], "--", color="black", lw=0.8, label="bound", drawstyle=drawn)
    draws = max(2, min(DRAWS, NUMBERS // problem.n))
    spread = np.linspace(0.0, most, SIMULATED)
    noise = [noise_effect(found, problem.reward, float(sd), draws, seed) for sd in spread]
    axes.errorbar(
        spread,
        [x.total_variation for x in noise],
        yerr=[2 * x.total_variation_se for x in noise],
        fmt="o",
        color=color,
        markersize=3.5,
        label="mean under noise",
    )
