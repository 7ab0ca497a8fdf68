"""Bounds of accuracy under p^alpha from a model's known outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.figures.style import REGIME_COLORS, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.0, 3.4)  # inches


def plot_outcomes(result: Mapping[str, Any], path: str | Path | None = None, *, axes: Axes | None = None) -> None:
    """Draw the bounds of E[r], means over problems, at each exponent.

    Args:
        result: As ``sharpen.llm.outcomes.run.run_outcomes`` returns it, or as ``outcomes.json`` holds it.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: A panel to draw in; None makes a figure.

    Raises:
        InputError: the path's suffix is unknown, or the file cannot be written.
    """
    rows = result["curve"]
    with drawing(path, axes, SIZE) as (_, panels):
        (panel,) = panels
        alphas, low, high = ([row[name] for row in rows] for name in ("alpha", "low", "high"))
        middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        bars = [[m - a for m, a in zip(middle, low, strict=True)], [b - m for m, b in zip(middle, high, strict=True)]]
        panel.errorbar(alphas, middle, bars, fmt="o", ms=3, capsize=5, color=REGIME_COLORS["tempered"])
        panel.set_xscale("log", base=2)
        panel.set_xticks(alphas, [f"{alpha:g}" for alpha in alphas])
        panel.minorticks_off()
        panel.set_xlim(min(alphas) / 1.2, max(alphas) * 1.2)
        panel.set_ylim(-0.02, 1.02)
        panel.set_xlabel(r"exponent $\alpha$ of $p^\alpha$ ($\alpha$ = 1: the model itself)")
        panel.set_ylabel("E[r], certain bounds")
        panel.set_title(
            f"{result['problems']} problems, {result['forward_tokens']['mean']:.0f} forward tokens each:\n"
            f"mean width of the bounds {_span([row['width'] for row in rows])}",
            fontsize=9,
        )


def _span(widths: Sequence[float]) -> str:
    """Return the smallest and the largest number.

    Example:
        >>> _span([0.012, 0.0002]), _span([0.012])
        ('0.0002 to 0.01', '0.01')
    """
    ends = [f"{end:.1g}" for end in (min(widths), max(widths))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
