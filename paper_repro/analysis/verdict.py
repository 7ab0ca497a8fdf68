"""The verdict on each claim: supported, contradicted or undecided at this scale, from the results alone.

Every rule is a function of the arms and of the exact results. It names the runs it needs; while they are missing the
claim is undecided and says so. In the first study, whose rules were not fixed before its runs, a difference counts if
its 95% interval over seeds and problems excludes 0, uncorrected: exploratory. A claim with several
parts is supported if every part holds, contradicted if the opposite of some part is shown, undecided otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sharpen.paper_repro.analysis import rules_dial, rules_exact, rules_llm, rules_tasks
from sharpen.paper_repro.analysis.evidence import Evidence, Part
from sharpen.paper_repro.analysis.members import Members
from sharpen.paper_repro.analysis.tasks import Study
from sharpen.paper_repro.grids.grid import Grid
from sharpen.paper_repro.grids.order import Order

Outcome = Literal["supported", "contradicted", "undecided", "refused"]
EXPLORATORY = "exploratory: its rules were not fixed before its runs"
Rule = Callable[[Evidence], list[Part]]

RULES: Mapping[str, tuple[Rule, ...]] = {
    "unfavourable-optima": (rules_exact.wrong_mode, rules_exact.short_modes, rules_llm.sharpening_shortens),
    "unstable": (rules_llm.sharpening_unstable, rules_exact.errors_flip_the_mode),
    "task-reward-robust": (rules_llm.task_reward_keeps_its_gain, rules_exact.task_reward_needs_no_likelihood),
    "limited-gains": (
        rules_llm.task_reward_gains,
        rules_llm.sharpening_gains_less,
        rules_llm.sharpening_gains_little,
    ),
    "one-framework": (rules_exact.toy_ends_at_the_optimum, rules_llm.tilted_like_task_reward, rules_llm.null_control),
    "fixed-length": (rules_llm.fixed_length_keeps_length,),
    "normalization": (rules_llm.normalization_matters,),
    "sampling-against-training": (rules_llm.power_sampling_reaches_the_target,),
    "effective-alpha": (rules_llm.effective_alpha_stays_away,),
    "published-values": (rules_exact.published_values,),
}


@dataclass(frozen=True)
class Verdict:
    """What the results say about a claim.

    Args:
        claim: Its id.
        statement: What is claimed.
        outcome: ``supported``, ``contradicted``, ``undecided``, or ``refused``: the rules are younger than the runs.
        standing: Whether the rules were there before the runs, in words.
        parts: What was tested, with the numbers.
        runs: Ids of the results that the numbers come from.
    """

    claim: str
    statement: str
    outcome: Outcome
    parts: list[Part]
    runs: list[str] = field(default_factory=list)
    standing: str = EXPLORATORY

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON."""
        parts = [{"test": part.test, "outcome": part.outcome, "reason": part.reason} for part in self.parts]
        return {"claim": self.claim, "statement": self.statement, "outcome": self.outcome, "parts": parts} | {
            "runs": self.runs,
            "standing": self.standing,
        }


def judge(
    grid: Grid,
    evidences: Sequence[Evidence],
    study: Study | None = None,
    members: Members | None = None,
    order: Order | None = None,
) -> list[Verdict]:
    """Return the verdict on every claim of the grid, in its order; a claim without a rule is undecided.

    Args:
        grid: The claims.
        evidences: One a model; a claim has to hold for all of them.
        study: Of several tasks, where the grid is one; its claims are judged over all tasks together.
        members: Of several base models, likewise.
        order: Whether the rules were there first; None: no rules were fixed.
    """
    standing = standing_of(order)
    verdicts = []
    for claim, statement in grid.claims.items():
        parts: list[Part] = []
        for rule in RULES.get(claim, ()) if members is None else ():
            for evidence in evidences:
                parts += [part for part in _of_model(rule(evidence), evidence, evidences) if part not in parts]
        if study is not None and claim in rules_tasks.RULES:
            parts += rules_tasks.RULES[claim](study)
        if members is not None and claim in rules_dial.RULES:
            parts += rules_dial.RULES[claim](members)
        runs = sorted({run for part in parts for run in part.runs})
        refused = order is not None and order.rules is not None and not order.registered
        outcome: Outcome = "refused" if refused and runs else conclude(parts)
        verdicts.append(Verdict(claim, statement.strip(), outcome, parts, runs, standing))
    return verdicts


def standing_of(order: Order | None) -> str:
    """Return whether a study's rules were there before its runs, in words."""
    if order is None or order.rules is None:
        return EXPLORATORY
    if not order.registered:
        first = next(iter(order.younger.items()), ("none", "no commit has these rules"))
        count = len(order.younger)
        return f"refused: {count} results are not known to follow the rules {order.rules} ({': '.join(first)})"
    clock = f"; {len(order.by_clock)} results by their clock alone" if order.by_clock else ""
    return f"registered: rules {order.rules}, fixed by commit {(order.since or '')[:12]}, before every run{clock}"


def _of_model(parts: list[Part], evidence: Evidence, evidences: Sequence[Evidence]) -> list[Part]:
    """Name the model in tests that read its runs, where there are several."""
    if len(evidences) < 2:
        return parts
    return [
        part
        if part.runs and all(run.startswith(("theory-", "toy-")) for run in part.runs)
        else replace(part, test=f"{evidence.model}: {part.test}")
        for part in parts
    ]


def conclude(parts: list[Part]) -> Outcome:
    """Return the outcome of a claim from its parts: any contradiction counts, and support needs every part.

    Example:
        >>> conclude([]), conclude([Part("t", "supported", "", [])])
        ('undecided', 'supported')
    """
    outcomes = [part.outcome for part in parts]
    if "contradicted" in outcomes:
        return "contradicted"
    return "supported" if outcomes and set(outcomes) == {"supported"} else "undecided"
