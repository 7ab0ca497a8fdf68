"""What is left of the entropy as sampled learners get better: `sharpen toy learners`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sharpen.figures.style import drawing
from sharpen.theory.core.problem import DEFAULT_PROBLEM

# One colour a function that is ascended (Okabe and Ito), one dash a learner of it.
COLOURS = {"identity": "#0072B2", "log": "#009E73", "pass": "#CC79A7", "arcsin": "#D55E00"}
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (6, 2, 1, 2)), (0, (2, 2)))
OTHER = {"entropy-bonus": "#56B4E9", "adaptive-entropy": "#56B4E9", "unlikeliness": "#E69F00"}


def plot_learners(rows: list[dict[str, Any]], out: Path) -> None:
    """Draw entropy against E[r] of the runs with the task reward alone, and updates until E[r] is 0.9.

    Args:
        rows: ``learners`` of the command's JSON.
        out: The file.

    Raises:
        InputError: the file cannot be written.
    """
    rows = [row for row in rows if row["path"]]
    with drawing(out, None, (7.6, 3.8), lambda fig: fig.subplots(1, 2, width_ratios=(1.2, 1)), 2) as (_, (left, right)):
        start = DEFAULT_PROBLEM.expected_reward(DEFAULT_PROBLEM.base)
        grid = np.linspace(start, 0.9999, 400)
        left.plot(grid, [_kept(P) for P in grid], color="0.55", linewidth=2.5, alpha=0.6, label="base's ratios kept")
        seen: dict[str, int] = {}
        longest = max([10.0, *(row["passed"][0] or 0.0 for row in rows)])
        for place, row in enumerate(rows):
            path = np.array(row["path"])
            colour = OTHER.get(row["learner"], COLOURS[row["utility"].partition("@")[0]])
            dash = DASHES[seen.setdefault(colour, -1) + 1]
            seen[colour] += 1
            left.plot(path[:, 0], path[:, 1], color=colour, linestyle=dash, linewidth=1.2)
            updates = row["passed"][0]
            right.plot([1.0, updates or longest], [place, place], color=colour, linestyle=dash, linewidth=1.6)
            if updates is None:
                right.text(1.2, place - 0.3, "not reached", fontsize=7)
            else:
                right.plot([updates], [place], "o", color=colour, markersize=4)
        left.set(xlabel="E[r]", ylabel="entropy, nats", title="what is left on the way")
        left.legend(loc="lower left")
        right.set(xlabel="updates", xscale="log", title="until E[r] = 0.9")
        right.set_yticks(range(len(rows)), [row["name"] for row in rows])
        right.grid(axis="y", visible=False)
        right.invert_yaxis()


def _kept(success: float) -> float:
    """Return the entropy of the base with right answers weighed up to a success rate."""
    base, right = DEFAULT_PROBLEM.base, DEFAULT_PROBLEM.reward == 1.0
    pi = np.where(right, base * success / base[right].sum(), base * (1 - success) / base[~right].sum())
    return float(-np.sum(pi * np.log(pi)))
