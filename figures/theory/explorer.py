"""One page with sliders: an objective over finite problems, its optimum, response, flow and pass@k, without a network.

The page computes in the reader's browser, so the objective's formulas stand in it a second time; a test compares them
with :mod:`sharpen.theory` for random objectives, in a real browser.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.objective.pages import render_page

FloatArray = NDArray[np.float64]
MOST_OUTCOMES, MOST_PROMPTS = 200, 500


class Shown(NamedTuple):
    """One problem on the page.

    Args:
        name: As the reader sees it.
        log_base: log p of each outcome, nats, shape [n]; the page normalises.
        reward: Shape [n].
        length: Tokens, shape [n].
        labels: One per outcome, or empty for numbers.
        unseen: Probability of the outcomes that are not among them.
    """

    name: str
    log_base: FloatArray
    reward: FloatArray
    length: FloatArray
    labels: Sequence[str] = ()
    unseen: float = 0.0


def explorer_page(problems: Sequence[Shown], source: str) -> str:
    """Return the page.

    Of a problem with more than 200 outcomes the likeliest are shown, and the others count as unseen; of more than 500
    problems the first are shown.

    Args:
        problems: At least one.
        source: Where they come from, in words.

    Raises:
        ValueError: no problem, or one without an outcome.
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    if not problems or any(not one.log_base.size for one in problems):
        raise ValueError("problems: allowed: at least one, each with an outcome")
    data = [_cut(one) for one in problems[:MOST_PROMPTS]]
    left = len(problems) - len(data)
    return render_page(
        "sharpen.figures.theory",
        "explorer.html",
        source=source,
        left_out=left,
        plotly=Markup(get_plotlyjs()),
        # In a script < would end it, whatever a label says.
        data=Markup(json.dumps(data, allow_nan=False).replace("<", "\\u003c")),
    )


def _cut(problem: Shown) -> dict[str, Any]:
    """Return a problem's likeliest outcomes, as JSON, likeliest first where some are left out."""
    n = problem.log_base.size
    kept = list(range(n))
    unseen = problem.unseen
    if n > MOST_OUTCOMES:
        kept = np.argsort(-problem.log_base, kind="stable")[:MOST_OUTCOMES].tolist()
        unseen += float(np.exp(problem.log_base).sum() - np.exp(problem.log_base[kept]).sum())
    return {
        "name": problem.name,
        "logp": problem.log_base[kept].tolist(),
        "reward": problem.reward[kept].tolist(),
        "length": problem.length[kept].tolist(),
        "labels": [problem.labels[i] for i in kept] if problem.labels else [str(i) for i in kept],
        "unseen": max(0.0, unseen),
    }
