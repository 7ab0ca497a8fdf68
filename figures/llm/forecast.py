"""What sharpening would do to a model: accuracy against alpha, with the task reward's ceiling and greedy decoding.

Beside it how accuracy goes with log p within problems, whose turns bound those of the curve (T22).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.figures.style import BASE_COLOR, REGIME_COLORS, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.0, 5.6)  # inches: at 400 pixels of width the text is still legible
FIFTHS = ("least\nlikely", "2nd", "3rd", "4th", "likeliest")
GREEDY_COLOR = "#000000"
REACHED_COLOR = REGIME_COLORS["sharpening"]


def plot_forecast(
    result: Mapping[str, Any],
    path: str | Path | None = None,
    *,
    axes: Axes | None = None,
    reached: Mapping[float, tuple[float, float, float]] | None = None,
) -> None:
    """Draw a forecast of `sharpen.theory.forecast.report.forecast`.

    Args:
        result: As returned, or as ``forecast.json`` holds it.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: A panel for the curve alone; None makes a figure, with the calibration below.
        reached: What training reached, by alpha: accuracy and the ends of its interval.

    Raises:
        InputError: the path's suffix is unknown, or the file cannot be written.
    """
    with drawing(path, axes, SIZE, _two, 1 if axes is not None else 2) as (_, panels):
        panel, *below = panels
        for one in below:
            _calibration(one, result["calibration"])
        _ceiling(panel, result["task_reward"], "task reward: any right sample", REGIME_COLORS["task-reward"])
        _curve(panel, result["curve"])
        if "greedy" in result:
            panel.axhline(result["greedy"]["value"], color=GREEDY_COLOR, lw=1.2, ls=":", label="greedy decoding")
        for alpha, (value, low, high) in (reached or {}).items():
            bar = [[value - low], [high - value]]
            label = "trained" if alpha == min(reached or {}) else None
            panel.errorbar([alpha], [value], bar, fmt="s", ms=5, color=REACHED_COLOR, capsize=3, label=label)
        alphas = [row["alpha"] for row in result["curve"]]
        panel.set_xscale("log", base=2)
        panel.set_xticks(alphas, [f"{alpha:g}" for alpha in alphas])
        panel.minorticks_off()
        panel.set_ylim(-0.02, 1.02)
        panel.set_xlabel(r"exponent $\alpha$ of the target $p^\alpha$ ($\alpha$ = 1: the base model)")
        panel.set_ylabel("accuracy")
        panel.set_title(title(result), fontsize=9)
        panel.legend(loc="best", fontsize=8)


def title(result: Mapping[str, Any]) -> str:
    """Return what the forecast finds, in one or two lines.

    Example:
        >>> row = {"expected_reward": 0.5, "low": 0.4, "high": 0.6}
        >>> rows = [{"alpha": 1, **row}, {"alpha": 2, **row, "gain": 0.0, "gain_low": -0.1, "gain_high": 0.1}]
        >>> print(title({"effect": "cannot be told", "curve": rows, "problems": 9, "samples": 32}))
        Accuracy under p^α cannot be told from .50 at α = 1
        (9 problems × 32 samples, 95 % intervals over problems)
    """
    told = [row for row in result["curve"] if "needs" not in row]
    base = next(row for row in told if row["alpha"] == 1)
    moved = [row for row in told if row["alpha"] != 1]
    words = {"raise": "Sharpening raises accuracy", "lower": "Sharpening lowers accuracy"}
    if result["effect"] in words and moved:
        best = max(moved, key=lambda row: abs(row["expected_reward"] - base["expected_reward"]))
        first = (
            f"{words[result['effect']]}: {_short(base['expected_reward'])} → {_short(best['expected_reward'])} "
            f"[{_short(best['low'])}, {_short(best['high'])}] at α = {best['alpha']:g}"
        )
    elif result["effect"] == "not move":
        first = f"Sharpening leaves accuracy at {_short(base['expected_reward'])}"
    else:
        first = f"Accuracy under p^α cannot be told from {_short(base['expected_reward'])} at α = 1"
    return f"{first}\n({result['problems']} problems × {result['samples']} samples, 95 % intervals over problems)"


def turns(found: Mapping[str, Any]) -> str:
    """Return what the turns of a calibration say of the curve against alpha (T22).

    Example:
        >>> turns({"turns": 0})
        'Accuracy does not turn in log p: nor can it in α'
        >>> turns({"turns": 1})
        'Accuracy turns once in log p: at most so often in α'
    """
    if not found["turns"]:
        return "Accuracy does not turn in log p: nor can it in α"
    often = {1: "once", 2: "twice"}.get(found["turns"], f"{found['turns']} times")
    return f"Accuracy turns {often} in log p: at most so often in α"


def _two(fig: Any) -> Any:
    return fig.subplots(2, 1, gridspec_kw={"height_ratios": [3, 1.5]})


def _calibration(panel: Axes, found: Mapping[str, Any]) -> None:
    """Draw accuracy by fifths of log p within problems."""
    x, values = list(range(len(FIFTHS))), found["expected_reward"]
    below = [max(0.0, value - low) for value, low in zip(values, found["low"], strict=True)]
    above = [max(0.0, high - value) for value, high in zip(values, found["high"], strict=True)]
    panel.errorbar(x, values, [below, above], fmt="D-", ms=4, lw=1.2, capsize=3, color=BASE_COLOR)
    panel.set_xticks(x, FIFTHS)
    panel.set_ylim(-0.02, 1.02)
    panel.set_xlabel(r"samples by $\log p$ within their problem, fifths")
    panel.set_ylabel("accuracy")
    panel.set_title(turns(found), fontsize=9)


def _short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def _curve(panel: Axes, rows: list[dict[str, Any]]) -> None:
    told = [row for row in rows if "needs" not in row]
    x = [row["alpha"] for row in told]
    color = REGIME_COLORS["tempered"]
    panel.fill_between(x, [row["low"] for row in told], [row["high"] for row in told], color=color, alpha=0.2, lw=0)
    panel.plot(
        x, [row["expected_reward"] for row in told], "o-", color=color, ms=4.5, lw=1.6, label=r"forecast of $p^\alpha$"
    )
    untold = [row["alpha"] for row in rows if "needs" in row]
    if untold:
        level = [0.0] * len(untold)
        panel.plot(untold, level, "x", color=BASE_COLOR, ms=6, label="cannot be told", clip_on=False)


def _ceiling(panel: Axes, found: Mapping[str, float], label: str, color: str) -> None:
    panel.axhspan(found["low"], found["high"], color=color, alpha=0.12, lw=0)
    panel.axhline(found["value"], color=color, lw=1.4, ls="--", label=label)
