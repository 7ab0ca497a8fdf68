"""The dial's models beside their law: a table and a figure of their measures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.figures.style import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.2, 3.8)  # inches
HEADINGS = (
    *("model", "pass@1", "Cov(r, log p)", "Corr", "mode right", "short, right / wrong", "tokens, right / wrong"),
    *("problems by pass@1", "E[r] at α = 2", "of the law", "seen"),
)
COLORS = {-1.0: "#B2182B", -0.5: "#E08A5B", 0.0: "#666666", 0.5: "#5B9BD0", 1.0: "#2166AC"}
CORNERS = {"right-short": "^", "right-long": "v", "wrong-short": "^", "wrong-long": "v"}


def dial_table(measures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the measures as a table of Markdown, one model a row.

    Args:
        measures: As ``sharpen.llm.tiny.dial.make`` returns them.
    """
    lines = ["| " + " | ".join(HEADINGS) + " |", "| --- " * len(HEADINGS) + "|"]
    for name, told in measures.items():
        short, length = told["short"], told["length"]
        cells = (
            f"`{name}`",
            f"{told['pass@1']:.3f}",
            f"{told['covariance']:+.3f}",
            f"{told['correlation']:+.2f}",
            f"{told['mode_accuracy']:.2f}",
            f"{short['right']:.2f} / {short['wrong']:.2f}",
            f"{length['right']:.1f} / {length['wrong']:.1f}",
            " / ".join(str(count) for count in told["difficulty"].values()),
            f"{told['expected_reward']['2.0']:.3f}",
            f"{told['expected_reward_of_law']['2.0']:.3f}",
            f"{told['seen']:.3f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot_dial(
    measures: Mapping[str, Mapping[str, Any]], path: str | Path | None = None, *, axes: Axes | None = None
) -> None:
    """Draw E[r] at p^alpha: of the law as lines, of each trained model as points.

    Args:
        measures: As ``sharpen.llm.tiny.dial.make`` returns them.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: A panel to draw in; None makes a figure.

    Raises:
        InputError: the path's suffix is unknown, or the file cannot be written.
    """
    with drawing(path, axes, SIZE) as (_, panels):
        (panel,) = panels
        for name, told in measures.items():
            delta, law = told["member"]["delta"], told["expected_reward_of_law"]
            corner = next((mark for end, mark in CORNERS.items() if name.endswith(end)), None)
            alphas = [float(alpha) for alpha in law]
            if corner is None:
                panel.plot(alphas, list(law.values()), color=COLORS[delta], lw=1.2, zorder=1)
                panel.annotate(
                    f"δ = {delta:+g}", (alphas[-1] * 1.05, list(law.values())[-1]), color=COLORS[delta], va="center"
                )
            measured = [told["expected_reward"][alpha] for alpha in law]
            style = {
                "marker": corner or "o",
                "ls": "",
                "color": COLORS[delta],
                "mfc": "none" if corner else COLORS[delta],
            }
            panel.plot(alphas, measured, ms=6 if corner else 4, **style)
        panel.set_xscale("log", base=2)
        panel.set_xticks([1, 1.25, 1.5, 2, 4], ["1", "1.25", "1.5", "2", "4"])
        panel.minorticks_off()
        panel.set_xlim(0.95, 5.6)
        panel.set_ylim(0, 1)
        panel.set_xlabel(r"exponent $\alpha$ of $p^\alpha$ ($\alpha$ = 1: the model itself)")
        count = next(iter(measures.values()))["problems"]
        panel.set_ylabel(f"expected reward, mean of {count} test problems")
        panel.set_title(
            "The dial sets whether sharpening helps\n"
            "lines: law; dots: models; triangles: corners, right short (up), long (down)",
            fontsize="small",
        )
