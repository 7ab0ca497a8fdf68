"""Rules of the study of several base models; every threshold is its registration's (``dial.yaml``).

Primary contrasts are corrected by Holm over the members. The other claims are secondary: 95 % intervals as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from sharpen.paper_repro.analysis.arms import Arm, gather
from sharpen.paper_repro.analysis.contrasts import BASE
from sharpen.paper_repro.analysis.endings import collapsed, falls_back
from sharpen.paper_repro.analysis.evidence import Outcome, Part, missing, runs_of, show
from sharpen.paper_repro.analysis.members import Members, at_kl, contrast, slope, unsolved
from sharpen.paper_repro.analysis.rules_tasks import own_objective, pick, within
from sharpen.paper_repro.grids.rules import Optimiser
from sharpen.paper_repro.intervals.stats import Interval, holm

SECONDARY = "secondary, not corrected"


def primary(study: Members) -> dict[str, tuple[Interval, float]]:
    """Return sharpening less the null control in pass@1 by member, with the p-value that Holm has corrected.

    Empty until every member has its runs: the family is all of them.
    """
    arms = study.rules.arms
    found = {name: study.difference(name, arms.sharpening, arms.control) for name in study.rules.members}
    if any(one is None for one in found.values()):
        return {}
    intervals = {name: contrast(one) for name, one in found.items() if one is not None}
    adjusted = holm([1.0 if one.p is None else one.p for one in intervals.values()])
    return {name: (one, float(p)) for (name, one), p in zip(intervals.items(), adjusted, strict=True)}


def helps_where_right(study: Members) -> list[Part]:
    """Sharpening less the null control is above 0 where the likeliest answers are right."""
    return _signed(study, "right", 1.0)


def harms_where_wrong(study: Members) -> list[Part]:
    """Sharpening less the null control is below 0 where the likeliest answers are wrong."""
    return _signed(study, "wrong", -1.0)


def follows_the_dial(study: Members) -> list[Part]:
    """Sharpening less the null control has a positive slope in delta over the members, fitted by least squares."""
    rules = study.rules
    arms, test = rules.arms, "the slope in delta of sharpening less the null control, in pass@1, is above 0"
    placed = {name: member.delta for name, member in rules.members.items() if member.delta is not None}
    left = {name: study.difference(name, arms.sharpening, arms.control) for name in placed}
    found = [one for one in left.values() if one is not None]
    if len(found) < max(2, len(placed)) or len({one.shape for one in found}) > 1:
        return missing(test, [f"{rules.seeds} seeds of {arms.sharpening} and {arms.control} at every delta"])
    interval = slope(list(placed.values()), found)
    outcome: Outcome = "undecided"
    if interval.p is not None and interval.p < rules.significance:
        outcome = "supported" if interval.mean > 0 else "contradicted"
    elif interval.high < rules.effect:
        outcome = "contradicted"
    used = [arm for name in placed for arm in study.arms(name, arms.sharpening, arms.control) or []]
    return [Part(test, outcome, f"{show(interval)} a unit of delta, over {len(placed)} members", runs_of(*used))]


def _signed(study: Members, likeliest: str, sign: float) -> list[Part]:
    rules, found, parts = study.rules, primary(study), []
    word = "raises" if sign > 0 else "lowers"
    for name in (one for one, member in rules.members.items() if member.likeliest == likeliest):
        test = f"{name}: sharpening {word} pass@1 over the null control"
        if name not in found:
            parts += missing(
                test, [f"{rules.seeds} seeds of {rules.arms.sharpening} and {rules.arms.control} everywhere"]
            )
            continue
        interval, p = found[name]
        best = sign * (interval.high if sign > 0 else interval.low)
        outcome: Outcome = "undecided"
        if p < rules.significance:
            outcome = "supported" if sign * interval.mean > 0 else "contradicted"
        elif best < rules.effect:
            outcome = "contradicted"
        arms = study.arms(name, rules.arms.sharpening, rules.arms.control) or []
        reason = (
            f"primary: {show(interval)}, Holm over {len(found)} p = {p:.2g}; smallest that matters {rules.effect:g}"
        )
        parts.append(Part(test, outcome, reason, runs_of(*arms)))
    return parts


def null_stays(study: Members) -> list[Part]:
    """The null control's pass@1 is that of the base within the margin."""
    margin, control = study.rules.null_margin, study.rules.arms.control
    test = f"the null control stays within {margin:g} of the base in pass@1"
    return _within(study, test, lambda name: study.difference(name, control, BASE), margin, (control, BASE))


def forecast(study: Members) -> list[Part]:
    """Tempered less the null control is what base samples forecast, within the margin; paired by problem."""
    rules = study.rules
    arms, margin = rules.arms, rules.forecast_margin

    def gap(name: str) -> np.ndarray | None:
        found, foretold = study.arms(name, arms.tempered, arms.control, BASE), study.forecast_gains.get(name)
        if found is None or foretold is None:
            return None
        return found[0].scores("pass@1") - found[1].scores("pass@1") - foretold

    test = f"tempered less the null control is within {margin:g} of the forecast in pass@1"
    parts = _within(study, test, gap, margin, (arms.tempered, arms.control, BASE))
    untold = "no forecast: base samples are missing, or cannot tell; "
    notes = {name: f"forecast {show(found)}; " for name, found in study.forecasts.items()}
    named = list(zip(rules.members, parts, strict=True))
    return [Part(part.test, part.outcome, notes.get(name, untold) + part.reason, part.runs) for name, part in named]


def _within(
    study: Members, test: str, values: Callable[[str], np.ndarray | None], margin: float, arms: tuple[str, ...]
) -> list[Part]:
    parts: list[Part] = []
    for name in study.rules.members:
        found = values(name)
        if found is None:
            parts += missing(f"{name}: {test}", arms)
            continue
        interval = contrast(found)
        used = study.arms(name, *arms) or []
        parts.append(
            Part(f"{name}: {test}", within(interval, margin), f"{SECONDARY}: {show(interval)}", runs_of(*used))
        )
    return parts


def coverage(study: Members) -> list[Part]:
    """Sharpening less the null control is below 0 in pass@k of the registered k."""
    rules = study.rules
    arms, parts = rules.arms, []
    for name in rules.members:
        test = f"{name}: sharpening loses {rules.coverage} against the null control"
        found = study.difference(name, arms.sharpening, arms.control, rules.coverage)
        if found is None:
            parts += missing(test, [arms.sharpening, arms.control])
            continue
        interval = contrast(found)
        outcome: Outcome = "supported" if interval.high < 0 else "undecided"
        if interval.low > -rules.coverage_margin:
            outcome = "contradicted"
        used = study.arms(name, arms.sharpening, arms.control) or []
        parts.append(Part(test, outcome, f"{SECONDARY}: {show(interval)}", runs_of(*used)))
    return parts


class Ending(NamedTuple):
    """How an arm's runs end.

    Args:
        collapses: By the registered rule.
        falls: Whether it falls back, by the registered rule.
        steady: Whether neither, and a fall of the registered size is out of its interval.
        numbers: Those that it was decided by.
    """

    collapses: bool
    falls: bool
    steady: bool
    numbers: str


def endings(study: Members, name: str, arm: str) -> Ending | None:
    """Return how an arm ends; None while runs are missing."""
    found = study.arms(name, arm, study.rules.arms.control, BASE)
    if found is None:
        return None
    own, control, base = found
    last, distinct = own.scores("pass@1").mean(axis=1), own.scores("distinct").mean(axis=1)
    gone, seeds = collapsed(last, distinct, float(base.scores("pass@1").mean()), study.rules)
    back, fall = falls_back(own.selection()[1], control.selection()[1], study.rules)
    reason = f"{seeds.mean:.0%} of {len(last)} seeds collapsed; fall from the best less control's {show(fall)}"
    return Ending(gone, back, not gone and fall.high <= study.rules.falls_back, reason)


def task_reward_stable(study: Members) -> list[Part]:
    """Task reward less the null control is above 0, and it neither collapses nor falls back."""
    arms, parts = study.rules.arms, []
    for name in study.rules.members:
        test = f"{name}: task reward raises pass@1 over the null control, and neither collapses nor falls back"
        found, end = study.difference(name, arms.task_reward, arms.control), endings(study, name, arms.task_reward)
        if found is None or end is None:
            parts += missing(test, [arms.task_reward, arms.control, BASE])
            continue
        interval = contrast(found)
        outcome: Outcome = "supported" if interval.low > 0 and end.steady else "undecided"
        if interval.high < 0 or end.collapses or end.falls:
            outcome = "contradicted"
        used = study.arms(name, arms.task_reward, arms.control, BASE) or []
        parts.append(Part(test, outcome, f"{SECONDARY}: {show(interval)}; {end.numbers}", runs_of(*used)))
    return parts


def sharpening_collapses(study: Members) -> list[Part]:
    """Sharpening collapses or falls back in each member; a fall that may be as large decides nothing."""
    arm, parts = study.rules.arms.sharpening, []
    for name in study.rules.members:
        test, end = f"{name}: sharpening collapses or falls back", endings(study, name, arm)
        if end is None:
            parts += missing(test, [arm, study.rules.arms.control, BASE])
            continue
        outcome: Outcome = "supported" if end.collapses or end.falls else "undecided"
        outcome = "contradicted" if end.steady else outcome
        used = study.arms(name, arm, study.rules.arms.control, BASE) or []
        parts.append(Part(test, outcome, f"{SECONDARY}: {end.numbers}", runs_of(*used)))
    return parts


def new_skill(study: Members) -> list[Part]:
    """Of the problems that the base never solves task reward solves a share, in the registered number of samples."""
    rules, parts = study.rules, []
    for name in rules.members:
        test = f"{name}: task reward solves at least {rules.new_skill:g} of the problems that the base never solves"
        found = study.arms(name, rules.arms.task_reward, rules.arms.control, BASE)
        evidence = study.evidence.get(name)
        if found is None or evidence is None or evidence.base is None:
            parts += missing(test, [rules.arms.task_reward, rules.arms.control, BASE])
            continue
        never = unsolved(evidence.base, rules.never)
        if never.sum() < 2:
            parts.append(Part(test, "undecided", "the base solves all problems but one or none", runs_of(*found)))
            continue
        solved = [(arm.scores("correct")[:, never] > 0).astype(float) for arm in found[:2]]
        interval = contrast(solved[0] - solved[1])
        outcome: Outcome = "supported" if interval.low >= rules.new_skill else "undecided"
        outcome = "contradicted" if interval.high < rules.new_skill else outcome
        shown = f"{SECONDARY}: {int(never.sum())} problems, solved less by the control {show(interval)}"
        parts.append(Part(test, outcome, shown, runs_of(*found)))
    return parts


def equal_kl(study: Members) -> list[Part]:
    """At equal KL to the base task reward's pass@1 is above sharpening's, where both reach it in enough seeds."""
    rules, parts = study.rules, []
    for name in rules.members:
        for nats in rules.matched_kl:
            test = f"{name}: at a KL of {nats:g} nats task reward is more accurate than sharpening"
            found = study.arms(name, rules.arms.task_reward, rules.arms.sharpening)
            if found is None:
                parts += missing(test, [rules.arms.task_reward, rules.arms.sharpening])
                continue
            gap = at_kl(found[0], nats) - at_kl(found[1], nats)
            gap = gap[np.isfinite(gap)]
            if len(gap) < rules.seeds:
                reason = f"both reach it in {len(gap)} of {rules.seeds} seeds"
                parts.append(Part(test, "undecided", reason, runs_of(*found)))
                continue
            interval = contrast(gap[:, None])
            outcome: Outcome = "supported" if interval.low > 0 else "contradicted" if interval.high < 0 else "undecided"
            parts.append(Part(test, outcome, f"{SECONDARY}: {show(interval)}", runs_of(*found)))
    return parts


def optimiser(study: Members) -> list[Part]:
    """All arms have the optimiser that the search picks."""
    test = "every arm has the optimiser that the search picks"
    search = study.rules.search
    if search is None or (found := picked(study, search)) is None:
        return missing(test, ["the search of the optimiser"])
    name, shown = found
    trained = [arm for one in study.evidence.values() for arm in one.arms.values() if arm.kind == "train"]
    if name is None:
        outcome: Outcome = "contradicted" if trained else "undecided"
        return [Part(test, outcome, f"{shown}; with none does the null control stay", list(study.search))]
    if not trained:
        return [Part(test, "undecided", f"{shown}; picked {name}; nothing is trained yet", list(study.search))]
    wanted = search.candidates[name]
    optimizers = [result["settings"]["config"]["optimizer"] for arm in trained for result in arm.results]
    used = all({key: one.get(key) for key in wanted} == wanted for one in optimizers)
    return [Part(test, "supported" if used else "contradicted", f"{shown}; picked {name}", list(study.search))]


def picked(study: Members, search: Optimiser) -> tuple[str | None, str] | None:
    """Return the candidate that the search picks, None if the null control stays with none, and the numbers.

    None while runs are missing.
    """
    from scipy.stats import rankdata

    arms = gather(study.search.values())
    own: dict[str, dict[str, tuple[Arm, Arm]]] = {}
    for candidate in search.candidates:
        start = f"{search.prefix}{candidate}-"
        for name, member in study.rules.members.items():
            pair = [
                arms.get(f"{start}{member.prefix}{one}")
                for one in (study.rules.arms.control, study.rules.arms.tempered)
            ]
            if pair[0] is not None and pair[1] is not None:
                own.setdefault(candidate, {})[name] = (pair[0], pair[1])
    if set(own) != set(search.candidates) or len({tuple(one) for one in own.values()}) > 1:
        return None
    notes, stays = [], []
    for candidate, members in own.items():
        nulls = [null for null, _ in members.values()]
        # Over members the largest, NaN if one is: such a run did not stay.
        kl = float(np.max([abs((one.scores("logprob") - one.scores("base_logprob")).mean()) for one in nulls]))
        moved = float(np.max([abs(curve[-1] - curve[0]) for one in nulls for curve in one.selection()[1]]))
        stays += [candidate] if kl <= search.stays_kl and moved <= search.stays_accuracy else []
        notes.append(f"{candidate}: null at KL {kl:.3f}, pass@1 moved {moved:.3f}")
    if not stays:
        return None, "; ".join(notes)
    values = np.array([[own_objective(tempered) for _, tempered in own[one].values()] for one in stays])
    values[np.isnan(values)] = -np.inf  # a run that ended in no number comes last
    ranks = np.mean([rankdata(-column) for column in values.T], axis=0)
    best = pick({float(place): float(rank) for place, rank in enumerate(ranks)})
    return stays[int(best)], "; ".join(notes)


RULES: Mapping[str, Callable[[Members], list[Part]]] = {
    "helps-where-right": helps_where_right,
    "harms-where-wrong": harms_where_wrong,
    "follows-the-dial": follows_the_dial,
    "null-stays": null_stays,
    "forecast": forecast,
    "coverage": coverage,
    "task-reward-stable": task_reward_stable,
    "sharpening-collapses": sharpening_collapses,
    "new-skill": new_skill,
    "equal-kl": equal_kl,
    "optimiser": optimiser,
}
