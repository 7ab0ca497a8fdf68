"""Figure of the optimum's sensitivity: worst and mean change against the size of the error, and the change itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sharpen.figures.style import REGIME_COLORS, check_figure_path, paper_style, save_figure
from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.noise import noise_effect
from sharpen.theory.optima.sensitivity import SOURCES, Response, response, worst_case

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 41
SIMULATED = 9  # sizes of error at which the mean is simulated
DRAWS = 2000
NUMBERS = 10**7  # draws times outcomes of one simulated point
SPAN = 10.0  # the drawn range in units of the command's epsilon


def plot_sensitivity(objective: Objective, problem: Problem, epsilon: float, path: str | Path, seed: int = 0) -> Path:
    """Draw the total-variation change against the size of the error, one panel a source; return the path.

    The lines are the worst case and its bound for errors up to a size, the points the mean for Gaussian noise of that
    standard deviation, with two standard errors. The range goes to ten times ``epsilon``, whose place is marked.

    Raises:
        InputError: the path's suffix is not .png, .pdf or .svg, the file cannot be written, or an argument of the
            sensitivity is out of range.
    """
    check_figure_path(path)
    found = [response(objective, problem, source) for source in SOURCES]
    most = SPAN * epsilon if epsilon > 0 else 1.0
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(7.2, 3.1))
        panels = fig.subplots(1, 2, sharey=True)
        for axes, source, one in zip(panels, SOURCES, found, strict=True):
            _draw(axes, one, problem, REGIME_COLORS[objective.regime], most, seed)
            axes.axvline(epsilon, color="black", linewidth=0.8, linestyle=":")
            axes.set_xlabel("size of the error" + (" (nats)" if source == "likelihood" else ""))
            axes.set_title(f"{objective.regime}: errors of the {source}")
        panels[0].set_ylabel("total-variation change")
        panels[0].set_ylim(-0.02, 1.02)
        handles, labels = panels[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=3)
        return save_figure(fig, path)


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
