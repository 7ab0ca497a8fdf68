"""Figure of self-sharpening, round by round: what the likeliest outcome lacks of 1, expected reward and entropy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpen.figures.style import BASE_COLOR, REGIME_COLORS, drawing, legend_below
from sharpen.objective import Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.instability.selfsharpening import log_lost

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWN_OUTCOMES = 5  # lines that stay apart


def plot_rounds(
    objective: Objective,
    problem: Problem,
    policies: FloatArray,
    path: str | Path | None = None,
    axes: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw the likeliest outcomes' probabilities and -log(1 - max pi) against the round; return the figure.

    In the right panel a straight line is a doubly exponential collapse, its slope log alpha.

    Args:
        objective: Names the regime and its colour.
        problem: n outcomes.
        policies: log pi_k, shape [rounds + 1, n].
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: Two panels to draw in; None makes a figure.

    Raises:
        InputError: the suffix is not .png, .pdf or .svg, the file cannot be written, or there are not two panels.
    """
    with drawing(path, axes, (7.2, 3.0), lambda fig: fig.subplots(1, 2), 2) as (fig, (left, right)):
        from matplotlib.ticker import MaxNLocator

        rounds = np.arange(len(policies))
        _draw_probabilities(left, problem, rounds, policies)
        lost = -np.array([log_lost(log_policy) for log_policy in policies])
        shown = (lost > 0) & np.isfinite(lost)
        right.plot(rounds[shown], lost[shown], "o-", color=REGIME_COLORS[objective.regime], markersize=4)
        right.set_yscale("log")
        right.set_ylabel("$-\\log(1 - \\max\\,\\pi)$, nats")
        for panel in (left, right):
            panel.set_xlabel("round")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        w = objective.coefficients
        left.set_title(f"{objective.regime}: $w_r$ = {w.w_r:.3g}, $w_p$ = {w.w_p:.3g}, $w_h$ = {w.w_h:.3g}")
        right.set_title("probability off the likeliest outcome")
        legend_below(fig, left, axes is None, *left.get_legend_handles_labels(), ncols=DRAWN_OUTCOMES + 1)
    return fig


def _draw_probabilities(axes: Any, problem: Problem, rounds: np.ndarray, policies: FloatArray) -> None:
    pi = np.exp(policies)
    drawn = np.sort(np.argsort(-pi.max(axis=0), kind="stable")[:DRAWN_OUTCOMES])
    for i in drawn.tolist():
        axes.plot(rounds, pi[:, i], "o-", markersize=3, label=f"outcome {i}")
    axes.plot(rounds, pi @ problem.reward, "--", color=BASE_COLOR, label="E[r]")
    axes.set_ylabel("probability, E[r]")
