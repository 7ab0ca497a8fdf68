"""What ``sharpen theory fixed-points`` prints: optimum and attracting points first, the rest counted or listed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sharpen.cli.shared import terminal
from sharpen.cli.shared.counts import count_text
from sharpen.cli.shared.words import weights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.instability.families import StationaryFamily
    from sharpen.theory.instability.stationary import FixedPoint, FixedPoints
    from sharpen.theory.optima.optimum import Optimum

NAMED_OUTCOMES = 2  # of a policy, in a row of the table
ATTRACTING_ROWS = 10  # listed without --all
ATTRACTING = ("stable", "neutral")
SAME = 1e-9  # two policies of one support that differ by no more are one


def print_points(objective: Objective, problem: Problem, best: Optimum, found: FixedPoints, everything: bool) -> None:
    """Print base, optimum and fixed points, with what symbols and numbers mean.

    Args:
        objective: The objective.
        problem: The problem.
        best: Its optimum.
        found: Its fixed points.
        everything: List all points found; else those that attract, and count the others.
    """
    terminal.introduce(
        "The policy that the objective prefers (optimum), and where natural-gradient training can come to rest: it "
        "stays at a stable point and leaves an unstable one; a saddle attracts from some sides only."
    )
    console = terminal.plain_console()
    console.print(weights(objective))
    points = [point for point in found.points if not _same(point, best)]
    attracting = [point for point in points if point.kind in ATTRACTING]
    listed = points if everything else attracting[:ATTRACTING_ROWS]
    table = terminal.number_table(["point", "J", "E[r]", "outcome:probability", "eigenvalues"])
    table.columns[3].justify = table.columns[4].justify = "left"
    base = _describe(problem.base, int(problem.support.sum()))
    table.add_row("base", "", f"{problem.expected_reward(problem.base):.4f}", base, "")
    at_best = next((point for point in found.points if _same(point, best)), None)
    table.add_row(*_row("optimum" if at_best is None else f"optimum, {_kind(at_best)}", best, at_best))
    for point in listed:
        table.add_row(*_row(_kind(point), point, point))
    console.print(table)
    _print_rest(console, objective, problem, found, len(listed) + (at_best is not None))
    terms = ["J: value of the objective, in nats; E[r]: expected reward"]
    terms.append("0:0.6 +2: outcome 0 has probability 0.6, two more follow")
    if at_best is not None or listed:
        terms.append("eigenvalues: growth rates of small deviations; (x4): of four")
    if any("inf" in _summarize(point.eigenvalues.tolist()) for point in [*listed, *([at_best] if at_best else [])]):
        terms.append("inf: an outcome of probability 0 comes back faster than any exponential; -inf: it is lost so")
    if not best.unique:
        terms.append("the optimum depends on the start: this is where the flow from the base ends")
    console.print("\n".join(terms))


def _print_rest(console: Any, objective: Objective, problem: Problem, found: FixedPoints, shown: int) -> None:
    """Print how many points there are beside those listed, by class."""
    if found.complete:
        kinds = Counter(_kind(point) for point in found.points)
        counted = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        listing = "" if shown == found.total else f", {shown} of them above (--all lists them)"
        console.print(f"{count_text(found.total)} fixed point{'s' * (found.total != 1)}{listing}: {counted}")
        return
    console.print(f"{count_text(found.total)} fixed points, {shown} of them above (--all and --limit list more):")
    from sharpen.theory.instability.families import stationary_families

    for family in stationary_families(objective, problem):
        console.print(_family_in_words(family))


def _same(point: FixedPoint, best: Optimum) -> bool:
    return point.support == best.support and bool(abs(point.probabilities - best.probabilities).max() <= SAME)


def _kind(point: FixedPoint) -> str:
    return f"{point.kind} face" if point.continuum else point.kind


def _row(name: str, policy: Optimum | FixedPoint, point: FixedPoint | None) -> list[str]:
    described = _describe(policy.probabilities, len(policy.support))
    eigenvalues = "" if point is None else _summarize(point.eigenvalues.tolist())
    return [name, f"{policy.value:.4g}", f"{policy.expected_reward:.4f}", described, eigenvalues]


def _family_in_words(family: StationaryFamily) -> str:
    size = str(family.smallest) + (f" to {family.largest:,}" if family.largest > family.smallest else "")
    parts = [f"{family.kind}: {count_text(family.count)}, on {size} outcome{'s' * (size != '1')}"]
    for name, ends in (("eigenvalues among them", family.inside), ("towards others", family.across)):
        if ends is not None:
            low, high = (f"{x:.3g}" for x in ends)
            parts.append(f"{name} {low}" + (f" to {high}" if high != low else ""))
    return "; ".join(parts)


def _describe(policy: Any, size: int) -> str:
    """Return the likeliest outcomes of a policy as ``outcome:probability``, and how many more of ``size`` there are."""
    order = (-policy).argsort(kind="stable")[: min(size, NAMED_OUTCOMES)]
    named = [f"{i}:{policy[i]:.3f}" if policy[i] >= 5e-4 else f"{i}:{policy[i]:.0e}" for i in order.tolist()]
    return " ".join(named) + (f" +{size - len(named)}" if size > len(named) else "")


def _summarize(eigenvalues: Iterable[float]) -> str:
    """Return eigenvalues, which descend, with their multiplicities; the middle ones of many left out."""
    runs: list[tuple[str, int]] = []
    for text in (f"{x:.3g}" for x in eigenvalues):
        if runs and runs[-1][0] == text:
            runs[-1] = (text, runs[-1][1] + 1)
        else:
            runs.append((text, 1))
    parts = [text if count == 1 else f"{text} (x{count})" for text, count in runs]
    return ", ".join(parts) if len(parts) <= 3 else f"{parts[0]}, ..., {parts[-1]}"
