"""Figure of GRPO's fold: which optima a KL penalty leaves, over the base's success rate and its weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpen.figures.style import BASE_COLOR, CLASS_COLORS, drawing
from sharpen.theory.instability.fold import CERTAINTY, MAXIMUM, border, equal_beta, fold, least_beta

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WEIGHTS = (0.03, 10.0)  # beta, from left to right
RATES = (1e-6, 1 - 1e-3)  # P_0, from bottom to top
TICKS = (1e-6, 1e-4, 1e-2, 0.1, 0.5, 0.9, 0.99)
SHADES = {"only": "#F3D6C4", "certain": "#FBF0DA", "inside": "#D9EFE6"}


def plot_fold(
    base_success: float,
    group: int | None = None,
    path: str | Path | None = None,
    axes: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw the phase diagram over (beta, P_0), and the optima of one base against beta; return the figure.

    Args:
        base_success: P_0 of the right panel.
        group: Samples of the finite group drawn beside the limit of large groups; None draws none.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: Two panels to draw in; None makes a figure.

    Raises:
        InputError: a number is out of range, or the file cannot be written.
    """
    fold(base_success, 1.0, group)  # refuses what is out of range before anything is drawn
    with drawing(path, axes, (7.6, 3.4), lambda fig: fig.subplots(1, 2), 2) as (fig, (left, right)):
        _phase(left, base_success)
        _branches(right, base_success, group)
    return fig


def _phase(ax: Any, base_success: float) -> None:
    low, high = (_odds(p) for p in RATES)
    beta = np.geomspace(*WEIGHTS, 200)
    edge = np.clip([border(float(b)) for b in beta], low, high)
    rates = np.array([1.0 / (1.0 + math.exp(-x)) for x in np.linspace(low, high, 60)])
    equal = np.array([equal_beta(float(p)) for p in rates])
    even = np.clip(np.interp(np.log(beta), np.log(equal), [_odds(float(p)) for p in rates], left=low, right=high), low,
                   edge)  # fmt: skip
    ax.fill_between(beta, edge, high, color=SHADES["only"], lw=0)
    ax.fill_between(beta, even, edge, color=SHADES["certain"], lw=0)
    ax.fill_between(beta, low, even, color=SHADES["inside"], lw=0)
    ax.plot(beta, np.where(edge > low, edge, np.nan), color=CLASS_COLORS["unstable"], lw=1.6)
    ax.plot(beta, np.where(even > low, even, np.nan), color=BASE_COLOR, lw=1.0, ls="--")
    ax.axhline(_odds(base_success), color="black", lw=0.6, ls=":")
    ax.set_xscale("log")
    ax.set_xlim(*WEIGHTS)
    ax.set_ylim(low, high)
    ax.set_yticks([_odds(p) for p in TICKS], [f"{p:g}" for p in TICKS])
    ax.text(0.045, _odds(0.6), "only certainty is left", fontsize=8)
    ax.text(1.2, _odds(2e-4), "interior optimum\nis the best", fontsize=8)
    ax.annotate("both; certainty\nis worth more", (float(equal_beta(0.02)) * 0.88, _odds(0.02)), (0.04, _odds(6e-4)),
                fontsize=8, arrowprops={"arrowstyle": "-", "lw": 0.6})  # fmt: skip
    ax.set_xlabel("KL weight $\\beta$")
    ax.set_ylabel("base success rate $P_0$")
    ax.set_title("which optima GRPO has")


def _branches(ax: Any, base_success: float, group: int | None) -> None:
    beta = np.geomspace(max(WEIGHTS[0], 0.2), WEIGHTS[1], 400)
    least = least_beta(base_success)
    inside = np.concatenate([least * (1 + np.geomspace(1e-9, 1, 200)), beta[beta > 2 * least]])
    both = [fold(base_success, float(b)).optima for b in inside]
    stable = [next(each.success for each in optima if each.kind == MAXIMUM) for optima in both]
    unstable = [next((each.success for each in optima if each.kind not in (MAXIMUM, CERTAINTY)), np.nan)
                for optima in both]  # fmt: skip
    ax.plot(inside, stable, color=CLASS_COLORS["stable"], label="large groups: stable")
    ax.plot(inside, unstable, color=CLASS_COLORS["unstable"], ls="--", label="unstable")
    ax.plot(beta, np.ones_like(beta), color=CLASS_COLORS["stable"])
    ax.axhline(base_success, color=BASE_COLOR, lw=0.8, ls=":", label="base")
    odds = _odds(base_success) + 1.0 / beta
    ax.plot(beta, 1.0 / (1.0 + np.exp(-odds)), color="#0072B2", lw=1.0, label="without the division (RLOO)")
    if group is not None:
        points = [(b, each.success) for b in beta[::4] for each in fold(base_success, float(b), group).optima]
        ax.plot(*zip(*points, strict=True), ".", color="#CC79A7", ms=2.5, label=f"groups of {group}")
    ax.set_xscale("log")
    ax.set_ylim(-0.03, 1.04)
    ax.set_xlabel("KL weight $\\beta$")
    ax.set_ylabel("success rate of the optimum")
    ax.set_title(f"optima at $P_0$ = {base_success:g}")
    ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.62))


def _odds(p: float) -> float:
    return math.log(p) - math.log1p(-p)
