"""What the change from one model to another was made of: shares of its KL, or pass@k where no share is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.figures.style import BASE_COLOR, REGIME_COLORS, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.0, 3.6)  # inches: at 400 pixels of width the text is still legible
BARS = {
    "sharpening": ("sharpening alone", REGIME_COLORS["sharpening"]),
    "own": ("an α per problem,\nat most", "#F0B48A"),
    "reward": ("reward alone", REGIME_COLORS["task-reward"]),
    "length": ("length alone", REGIME_COLORS["tempered"]),
    "all": ("all three", "#666666"),
    "rest": ("none of them", "#BBBBBB"),
}


def plot_audit(result: Mapping[str, Any], path: str | Path | None = None, *, axes: Axes | None = None) -> None:
    """Draw an audit as ``sharpen llm audit --json`` prints it.

    Bars are what each family explains alone, as a share of KL(pi || p), with 95 % intervals, and what sharpening
    explains with an exponent of its own for each problem; diamonds are Shapley values. Without shares, because nothing
    changed or samples were not scored, pass@k of both models is drawn.

    Args:
        result: The audit.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: A panel to draw in; None makes a figure.

    Raises:
        InputError: the path's suffix is unknown, or the file cannot be written.
    """
    with drawing(path, axes, SIZE) as (_, panels):
        (panel,) = panels
        if known(result):
            _shares(panel, result)
        else:
            _attempts(panel, result)
        panel.set_title(title(result), fontsize=9)


def known(result: Mapping[str, Any]) -> bool:
    """Return whether an audit has shares."""
    return result["shares"] is not None and result["shares"]["sharpening"] is not None


def title(result: Mapping[str, Any]) -> str:
    """Return what the figure shows, in two lines.

    Example:
        >>> shares = {"sharpening": {"value": 0.02, "low": 0.0, "high": 0.05}}
        >>> found = {"shares": shares, "kl": {"value": 1.37}, "problems": 64, "samples": 32}
        >>> print(title(found))
        Sharpening explains 2 % [0, 5] of what training changed
        KL(π‖p) = 1.37 nats; 64 problems × 32 samples of each
    """
    asked = f"{result['problems']} problems × {result['samples']} samples of each"
    if known(result):
        share, kl = result["shares"]["sharpening"], result["kl"]["value"]
        value, low, high = (round(100 * share[name]) for name in ("value", "low", "high"))
        return (
            f"Sharpening explains {value} % [{low}, {high}] of what training changed\nKL(π‖p) = {kl:.3g} nats; {asked}"
        )
    first, last = result["pass"][0], result["pass"][-1]
    changes = [
        f"pass@{row['k']} {_short(row['pass@k']['base']['value'])} → {_short(row['pass@k']['policy']['value'])}"
        for row in ([first, last] if last is not first else [first])
    ]
    unchanged = "The models hardly differ: " if result["kl"] is not None else ""
    return f"{unchanged}{', '.join(changes)}\n{asked}"


def _short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def _shares(panel: Axes, result: Mapping[str, Any]) -> None:
    shares, kl = result["shares"] | {"own": result["own_alpha"]["share"]}, result["kl"]["value"]
    for place, (name, (_, color)) in enumerate(BARS.items()):
        row = shares[name]
        value, low, high = (100 * row[end] for end in ("value", "low", "high"))
        panel.barh(place, value, color=color, height=0.62)
        panel.errorbar(
            value, place, xerr=[[max(0.0, value - low)], [max(0.0, high - value)]], color="black", capsize=3, lw=1
        )
        panel.annotate(
            f"{value:.0f} %", (max(high, 0), place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9
        )
        if name in result["shapley"]:
            part = 100 * result["shapley"][name]["value"] / kl
            marked = "Shapley value" if place == 0 else None
            panel.plot(part, place, "D", ms=6, mfc="white", mec="black", mew=1.2, label=marked, zorder=4)
    panel.set_yticks(range(len(BARS)), [label for label, _ in BARS.values()])
    panel.invert_yaxis()
    panel.axvline(0, color="black", lw=0.8)
    panel.set_xlim(min(0, *(100 * shares[name]["low"] for name in BARS)) - 2, max(118, panel.get_xlim()[1]))
    panel.set_xticks(range(0, 101, 25))
    panel.set_xlabel("share of KL(π‖p) that is explained, %, with 95 % interval")
    panel.grid(axis="y", visible=False)
    panel.legend(loc="lower right", fontsize=8)


def _attempts(panel: Axes, result: Mapping[str, Any]) -> None:
    ks = [row["k"] for row in result["pass"]]
    colors = {"base": (BASE_COLOR, "s--"), "policy": (REGIME_COLORS["task-reward"], "o-")}
    for name, (color, style) in colors.items():
        rows = [row["pass@k"][name] for row in result["pass"]]
        panel.fill_between(
            ks, [row["low"] for row in rows], [row["high"] for row in rows], color=color, alpha=0.2, lw=0
        )
        panel.plot(ks, [row["value"] for row in rows], style, color=color, ms=4.5, lw=1.6, label=name)
    panel.set_xscale("log", base=2)
    panel.set_xticks(ks, [str(k) for k in ks])
    panel.minorticks_off()
    panel.set_ylim(-0.02, 1.02)
    panel.set_xlabel("k")
    panel.set_ylabel("pass@k")
    panel.legend(loc="lower right", fontsize=8)
