"""Rules of the verdict that read language-model runs."""

from __future__ import annotations

import numpy as np

from sharpen.paper_repro.analysis.arms import Arm
from sharpen.paper_repro.analysis.contrasts import Comparison, compare
from sharpen.paper_repro.analysis.evidence import Evidence, Outcome, Part, missing, runs_of, show
from sharpen.paper_repro.intervals.bounded import UNIT, bounded_interval
from sharpen.paper_repro.intervals.stats import seed_interval

TASK, SHARPENING, TEMPERED, NULL = "task-reward-0-1", "sharpening-1-0", "tempered-2-0", "tempered-1-0"
LARGE, SMALL = 0.1, 0.02  # of pass@1: what counts as a large gain, and as none
EQUIVALENT = 0.05  # two arms are taken for equal in pass@1 if the interval of their difference lies within this
NEAR_ALPHA = 0.5  # effective alpha has arrived if it has gone at least half of the way from 1 to its target


def _shown(found: Comparison) -> str:
    p = f", p = {found.difference.p:.2g}" if found.difference.p is not None else ""
    return f"{found.arm} - {found.against} in {found.measure}: {show(found.difference)}{p}"


def _sign(found: Comparison, larger: Outcome, smaller: Outcome) -> Outcome:
    return larger if found.larger else smaller if found.smaller else "undecided"


def task_reward_gains(evidence: Evidence) -> list[Part]:
    """Task reward raises pass@1 by at least 0.1."""
    test = f"task reward raises pass@1 by at least {LARGE:g}"
    found = evidence.accuracy.get(TASK)
    if found is None:
        return missing(test, [TASK, evidence.base_arm])
    outcome: Outcome = "undecided"
    if found.larger and found.difference.low >= LARGE:
        outcome = "supported"
    elif found.difference.high < LARGE:
        outcome = "contradicted"
    return [Part(test, outcome, _shown(found), runs_of(evidence.arms[TASK], evidence.base))]


def sharpening_gains_less(evidence: Evidence) -> list[Part]:
    """Every arm without a reward that the paper ran gains less in pass@1 than task reward does."""
    task = evidence.arms.get(TASK)
    pairs = {name: compare(arm, task) for name, arm in evidence.as_published.items()} if task is not None else {}
    family = {name: found for name, found in pairs.items() if found is not None}
    if task is None or not family:
        return missing("arms without a reward gain less than task reward", [TASK, SHARPENING, TEMPERED])
    return [
        Part(
            f"{name} ends with a lower pass@1 than task reward",
            _sign(found, "contradicted", "supported"),
            _shown(found),
            runs_of(evidence.arms[name], task),
        )
        for name, found in family.items()
    ]


def sharpening_gains_little(evidence: Evidence) -> list[Part]:
    """No arm without a reward that the paper ran gains what counts as much."""
    parts: list[Part] = []
    for name, arm in evidence.as_published.items():
        found = evidence.accuracy.get(name)
        if found is None:
            continue
        outcome: Outcome = "undecided"
        if found.difference.high < LARGE:
            outcome = "supported"
        elif found.larger and found.difference.low >= LARGE:
            outcome = "contradicted"
        test = f"{name} raises pass@1 by less than {LARGE:g}"
        parts.append(Part(test, outcome, _shown(found), runs_of(arm, evidence.base)))
    return parts or missing("sharpening gains little", [SHARPENING, evidence.base_arm])


def sharpening_unstable(evidence: Evidence) -> list[Part]:
    """Sharpening collapses in most seeds or falls back by 0.1, while task reward does neither."""
    return _unstable(evidence, SHARPENING, TASK)


def _unstable(evidence: Evidence, sharpening: str, task_reward: str) -> list[Part]:
    test = (
        f"runs of {sharpening} collapse in most seeds, or end {LARGE:g} below their best; runs of {task_reward} do "
        "neither"
    )
    sharp, task = evidence.arms.get(sharpening), evidence.arms.get(task_reward)
    ends = [evidence.stability(arm) if arm is not None else None for arm in (sharp, task)]
    if ends[0] is None or ends[1] is None:
        return missing(test, [sharpening, task_reward, evidence.base_arm])
    broken = [end.collapsed.mean > 0.5 or end.fall_from_best >= LARGE for end in ends if end is not None]
    reason = "; ".join(
        f"{end.arm}: {end.collapsed.mean:.0%} of {end.seeds} seeds collapsed, largest fall from the best checkpoint "
        f"(base included) {end.fall_from_best:.3f}, from best to last checkpoint {end.worst_drawdown:.3f}"
        for end in ends
        if end is not None
    )
    enough = min(end.seeds for end in ends if end is not None) >= 3
    outcome: Outcome = "supported" if broken == [True, False] else "undecided" if all(broken) else "contradicted"
    return [Part(test, outcome if enough else "undecided", reason, runs_of(sharp, task))]


def task_reward_keeps_its_gain(evidence: Evidence) -> list[Part]:
    """Every seed of task reward ends above the base and near its own best."""
    test = "every seed of task reward ends above the base, and at most 0.1 below its best checkpoint"
    task, base = evidence.arms.get(TASK), evidence.base
    end = evidence.stability(task) if task is not None else None
    if task is None or base is None or end is None:
        return missing(test, [TASK, evidence.base_arm])
    last = task.scores("pass@1").mean(axis=1)
    reference = float(base.scores("pass@1").mean())
    reason = (
        f"last pass@1 by seed {', '.join(f'{x:.3f}' for x in last)} against {reference:.3f} of the base; "
        f"largest fall from the best checkpoint {end.fall_from_best:.3f}"
    )
    holds = bool((last > reference).all()) and end.fall_from_best <= LARGE
    outcome: Outcome = "undecided" if len(last) < 3 else "supported" if holds else "contradicted"
    return [Part(test, outcome, reason, runs_of(task, base))]


def sharpening_shortens(evidence: Evidence) -> list[Part]:
    """Sharpening with free length makes responses shorter than the base's."""
    return [
        part
        for name in (SHARPENING, TEMPERED)
        for part in _length_part(evidence, name, f"{name} makes responses shorter than the base's", "supported")
    ]


def fixed_length_keeps_length(evidence: Evidence) -> list[Part]:
    """Trained with fixed length, sharpening gives longer responses than trained with free length."""
    parts: list[Part] = []
    for name in (SHARPENING, TEMPERED):
        fixed, free = evidence.arms.get(f"{name}-fixed"), evidence.arms.get(name)
        test = f"{name} trained with fixed length answers at greater length than trained with free length"
        found = compare(fixed, free, "response_length") if fixed is not None and free is not None else None
        if found is None:
            parts += missing(test, [f"{name}-fixed", name])
        else:
            parts.append(Part(test, _sign(found, "supported", "contradicted"), _shown(found), runs_of(fixed, free)))
    return parts


def _length_part(evidence: Evidence, name: str, test: str, if_shorter: Outcome) -> list[Part]:
    arm, base = evidence.arms.get(name), evidence.base
    found = compare(arm, base, "response_length") if arm is not None and base is not None else None
    if found is None:
        return missing(test, [name, evidence.base_arm])
    other: Outcome = "contradicted" if if_shorter == "supported" else "supported"
    return [Part(test, _sign(found, other, if_shorter), _shown(found), runs_of(arm, base))]


def normalization_matters(evidence: Evidence) -> list[Part]:
    """Each normalization gives another response length than sum does."""
    parts: list[Part] = []
    for name in (SHARPENING, TEMPERED):
        for normalization in ("mean", "weighted_mean"):
            other, plain = evidence.arms.get(f"{name}-{normalization}"), evidence.arms.get(name)
            test = f"{name} with {normalization} answers at another length, or with another accuracy, than with sum"
            found = [
                compare(other, plain, measure) if other is not None and plain is not None else None
                for measure in ("response_length", "pass@1")
            ]
            if found[0] is None or found[1] is None:
                parts += missing(test, [f"{name}-{normalization}", name])
                continue
            pair = {"response_length": found[0], "pass@1": found[1]}
            differs = any(one.larger or one.smaller for one in pair.values())
            reason = "; ".join(_shown(one) for one in pair.values())
            parts.append(Part(test, "supported" if differs else "undecided", reason, runs_of(other, plain)))
    return parts


def power_sampling_reaches_the_target(evidence: Evidence) -> list[Part]:
    """Power sampling has the accuracy of p^alpha, the target of both, which the exact law of the model says."""
    parts: list[Part] = []
    law = evidence.exact("theory-regimes")
    for alpha in (2, 4):
        sampled = evidence.arms.get(f"power-{alpha}")
        test = f"power sampling with alpha = {alpha} has the pass@1 of p^alpha within {EQUIVALENT:g}"
        rows = law["rows"] if law is not None else []
        exact = [row for row in rows if (row["regime"], row["alpha"]) == ("tempered", alpha)]
        if sampled is None or law is None or not exact or evidence.base is None:
            parts += missing(test, [f"power-{alpha}", "theory-regimes", evidence.base_arm])
            continue
        # The law is the one that the model was made after: what the model as trained misses of it is taken off.
        target = (
            exact[0]["expected_reward"] - law["base"]["expected_reward"] + float(evidence.base.scores("pass@1").mean())
        )
        found = bounded_interval(sampled.scores("pass@1"), UNIT)
        inside = max(abs(found.low - target), abs(found.high - target)) <= EQUIVALENT
        outside = found.low > target + EQUIVALENT or found.high < target - EQUIVALENT
        outcome: Outcome = "supported" if inside else "contradicted" if outside else "undecided"
        reason = f"{show(found)} against {target:.3f} of the law, moved to the measured base"
        parts.append(Part(test, outcome, reason, [*runs_of(sampled, evidence.base), "theory-regimes"]))
    return parts


def tilted_like_task_reward(evidence: Evidence) -> list[Part]:
    """With a large beta_inv tilted sampling has task reward's accuracy."""
    task, parts = evidence.arms.get(TASK), []
    for name in ("tilted-1-100", "tilted-1-10000"):
        test = f"{name} agrees with task reward in pass@1 within {EQUIVALENT:g}, as beta_inv to infinity says"
        parts += _equivalence(test, evidence.arms.get(name), task, [name, TASK])
    computed = [part for part in parts if part.runs]
    return computed or parts[:1]


def null_control(evidence: Evidence) -> list[Part]:
    """Tempered with alpha = 1, whose optimum is the base, stays at the base."""
    test = f"tempered with alpha = 1 stays within {EQUIVALENT:g} of the base in pass@1"
    return _equivalence(test, evidence.arms.get(NULL), evidence.base, [NULL, evidence.base_arm])


def _equivalence(test: str, a: Arm | None, b: Arm | None, names: list[str]) -> list[Part]:
    found = compare(a, b) if a is not None and b is not None else None
    if found is None:
        return missing(test, names)
    inside = max(abs(found.difference.low), abs(found.difference.high)) <= EQUIVALENT
    outside = min(abs(found.difference.low), abs(found.difference.high)) > EQUIVALENT and (
        found.difference.low * found.difference.high > 0
    )
    outcome: Outcome = "supported" if inside else "contradicted" if outside else "undecided"
    return [Part(test, outcome, _shown(found), runs_of(a, b))]


def effective_alpha_stays_away(evidence: Evidence) -> list[Part]:
    """Tempered runs end less than half of the way from alpha = 1 to their target."""
    parts: list[Part] = []
    for name, arm in evidence.trained(regime="tempered").items():
        assert arm.objective is not None
        target = arm.objective.alpha
        slopes = arm.slope()
        if target == 1.0 or slopes is None or not np.isfinite(slopes).all():
            continue
        way = (slopes - 1.0) / (target - 1.0)
        found = seed_interval(way)
        test = f"{name} goes less than half of the way from 1 to {target:g} by the slope on its own samples"
        outcome: Outcome = "undecided"
        if len(slopes) >= 2:
            outcome = (
                "supported" if found.high < NEAR_ALPHA else "contradicted" if found.low > NEAR_ALPHA else "undecided"
            )
        slope = seed_interval(slopes)
        shown = show(slope) if len(slopes) > 1 else f"{slope.mean:.3f}"
        reason = f"slope of log pi on log p over its own samples {shown}, share of the way {way.mean():.2f}"
        parts.append(Part(test, outcome, reason, runs_of(arm)))
    return parts or missing("tempered runs stay away from their alpha", [TEMPERED])
