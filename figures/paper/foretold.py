"""What was forecast before training beside what training reached: along the dial, and over models and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sharpen.figures.style import BASE_COLOR, REGIME_COLORS, drawing, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (4.6, 4.2)  # inches
KINDS = {"dial": ("o", REGIME_COLORS["tempered"]), "SmolLM2": ("s", REGIME_COLORS["sharpening"])}
STYLES: dict[str, tuple[str, str]] = {
    "tempered, alpha 2": ("o", REGIME_COLORS["tempered"]),
    "sharpening": ("s", REGIME_COLORS["sharpening"]),
    "task reward": ("^", REGIME_COLORS["task-reward"]),
}
Point = tuple[float, float, float]  # mean, low, high


class Foretold(NamedTuple):
    """A model or task with a gain of pass@1 that was forecast and the gain that training reached.

    Args:
        name: Of the model or the task.
        kind: ``dial`` or ``SmolLM2``.
        forecast: From base samples alone: mean and the ends of its 95 % interval.
        reached: Less what the null control gained, likewise.
    """

    name: str
    kind: str
    forecast: Point
    reached: Point


def plot_along_delta(
    gains: Mapping[str, Mapping[float, Point]],
    forecast: Mapping[float, Point],
    law: Mapping[float, float],
    note: str,
    path: str | Path | None = None,
    *,
    axes: Axes | None = None,
) -> None:
    """Draw the gain of each arm over the null control against delta, with the law's and the forecast's curve.

    Args:
        gains: By arm and delta.
        forecast: Of p^2, from base samples, by delta.
        law: Of p^2, exact, by delta.
        note: Problems, samples and seeds, for the title.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: A panel to draw in; None makes a figure.

    Raises:
        InputError: the path's suffix is unknown, or the file cannot be written.
    """
    with drawing(path, axes, SIZE) as (fig, panels):
        (panel,) = panels
        panel.axhline(0, color=BASE_COLOR, lw=0.8)
        places = sorted(law)
        panel.plot(places, [law[at] for at in places], color="black", lw=1, ls="--", label="p^2 of the law, exact")
        told = sorted(forecast)
        mean, low, high = (np.array([forecast[at][end] for at in told]) for end in range(3))
        panel.fill_between(told, low, high, color=BASE_COLOR, alpha=0.35, lw=0, label="p^2, forecast from base samples")
        panel.plot(told, mean, color=BASE_COLOR, lw=1)
        for place, (arm, own) in enumerate(gains.items()):
            there = sorted(own)
            shift = 0.03 * (place - (len(gains) - 1) / 2)
            mean, low, high = (np.array([own[at][end] for at in there]) for end in range(3))
            mark, color = STYLES[arm]
            style: dict[str, Any] = {"fmt": mark, "ms": 5, "lw": 1.2, "capsize": 2, "color": color}
            panel.errorbar([at + shift for at in there], mean, [mean - low, high - mean], label=arm, **style)
        panel.set_xticks(places, [f"{at:g}" for at in places])
        panel.set_xlabel("δ of the base model: −1 likely answers wrong, +1 right")
        panel.set_ylabel("pass@1 less that of the null control")
        panel.set_title(f"{_finding(gains)}\n{note}; bars and band: 95 %", fontsize=8)
        legend_below(fig, panel, axes is None, *panel.get_legend_handles_labels(), ncols=2)


def _finding(gains: Mapping[str, Mapping[float, Point]]) -> str:
    own = gains["sharpening"]
    least, most = min(own), max(own)
    return (
        f"Sharpening changes pass@1 by {own[least][0]:+.2f} at δ = {least:+g} and by {own[most][0]:+.2f} at {most:+g}"
    )


def plot_foretold(points: Sequence[Foretold], path: str | Path | None = None, *, axes: Axes | None = None) -> None:
    """Draw the gains that tempered training reached against those that base samples forecast.

    Args:
        points: Models of the dial and tasks of a real model.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: A panel to draw in; None makes a figure.

    Raises:
        InputError: the path's suffix is unknown, or the file cannot be written.
    """
    with drawing(path, axes, SIZE) as (fig, panels):
        (panel,) = panels
        ends = [end for one in points for side in (one.forecast, one.reached) for end in side]
        span = [min(ends) - 0.03, max(ends) + 0.03]
        panel.plot(span, span, color=BASE_COLOR, lw=1, ls="--", label="as forecast")
        for kind, (mark, color) in KINDS.items():
            own = [one for one in points if one.kind == kind]
            x, y = (np.array([getattr(one, side) for one in own]).reshape(-1, 3) for side in ("forecast", "reached"))
            style: dict[str, Any] = {"fmt": mark, "ms": 5, "lw": 0.9, "color": color}
            across, up = ([side[:, 0] - side[:, 1], side[:, 2] - side[:, 0]] for side in (x, y))
            what = "models of the dial" if kind == "dial" else "tasks of SmolLM2"
            panel.errorbar(x[:, 0], y[:, 0], up, across, label=f"{len(own)} {what}", **style)
        named = sorted((one for one in points if one.kind != "dial"), key=lambda one: one.reached[0])
        for place, one in enumerate(named):  # above and below in turn, so that neighbours' names do not touch
            offset = (4, -10) if place % 2 else (4, 4)
            panel.annotate(one.name, (one.forecast[0], one.reached[0]), offset, textcoords="offset points", size=7)
        panel.set_xlim(span)
        panel.set_ylim(span)
        panel.set_xlabel("gain of pass@1 at p^2, forecast from base samples")
        panel.set_ylabel("gain that training reached, less the null control's")
        misses = [abs(one.reached[0] - one.forecast[0]) for one in points]
        said = f"Training and forecast: {np.mean(misses):.3f} apart on average, {max(misses):.2f} at most"
        panel.set_title(f"{said}\ntempered training, alpha = 2; bars: 95 % over seeds and problems", fontsize=8)
        legend_below(fig, panel, axes is None, *panel.get_legend_handles_labels(), ncols=3)
