"""Rules of a study of several tasks; every threshold is its registration's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sharpen.paper_repro.analysis.arms import Arm, FloatArray, gather
from sharpen.paper_repro.analysis.contrasts import BASE
from sharpen.paper_repro.analysis.evidence import Outcome, Part, missing, runs_of, show
from sharpen.paper_repro.analysis.tasks import Study, gain, paired
from sharpen.paper_repro.intervals.stats import Interval, bootstrap_interval, hierarchical_interval, holm


@dataclass(frozen=True)
class Contrast:
    """One number a seed and problem, and what it would mean.

    Args:
        test: What is tested, as a statement.
        values: Shape [S, P].
        arms: Those it comes from.
        note: Before the numbers.
    """

    test: str
    values: FloatArray
    arms: Sequence[Arm] = field(repr=False)
    note: str = ""

    def part(self, outcome: Outcome, corrected: float | None = None) -> Part:
        """Return the contrast as a part of a verdict."""
        found, resampled = hierarchical_interval(self.values), bootstrap_interval(self.values)
        p = "" if corrected is None else f", Holm p = {corrected:.2g}"
        reason = f"{self.note}{show(found)}, bootstrap [{resampled.low:.3f}, {resampled.high:.3f}]{p}"
        return Part(self.test, outcome, reason, runs_of(*self.arms))


def aligned(study: Study) -> list[Part]:
    """Where likelihood and correctness go together, sharpening has at least a share of the task reward's gain."""
    return _shares(study, True)


def not_aligned(study: Study) -> list[Part]:
    """Elsewhere it has less."""
    return _shares(study, False)


def _shares(study: Study, kind: bool) -> list[Part]:
    """Test (arm - base) - share x (task reward - base) in pass@1 on the tasks of a kind, all tests one family."""
    registered = study.registration
    word = "at least" if kind else "less than"
    parts: list[Part] = []
    family: list[Contrast] = []
    for task in study.of_kind(kind):
        for name in registered.without_reward:
            test = f"{task}: {name} has {word} {registered.share:g} of the task reward's gain in pass@1"
            needed = (BASE, registered.task_reward, name)
            arms = paired(study, task, needed)
            if arms is None:
                parts += missing(test, [f"{study.registration.tasks[task].prefix}{one}" for one in needed])
                continue
            task_gain, own = (gain(arms, one, BASE) for one in needed[1:])
            note = f"gains {own.mean():.3f} and {task_gain.mean():.3f}, difference with the share taken "
            contrast = Contrast(test, own - registered.share * task_gain, list(arms.values()), note)
            if task_gain.mean() < registered.least_gain:
                too_little = Contrast(test, contrast.values, contrast.arms, f"task reward gains too little; {note}")
                parts.append(too_little.part("undecided"))
            else:
                family.append(contrast)
    tested = parts + _signs(family, 1 if kind else -1, registered.significance)
    return tested or missing(f"some task is {'aligned' if kind else 'not aligned'}", ["base models of such tasks"])


def _signs(family: Sequence[Contrast], sign: int, significance: float) -> list[Part]:
    """Judge contrasts that should have a sign, their p-values corrected together."""
    found = [hierarchical_interval(contrast.values) for contrast in family]
    p_values = holm([1.0 if one.p is None else one.p for one in found]) if found else np.empty(0)
    parts = []
    for contrast, one, p in zip(family, found, p_values, strict=True):
        shown: Outcome = "supported" if sign * one.mean > 0 else "contradicted"
        parts.append(contrast.part(shown if p < significance else "undecided", float(p)))
    return parts


def coverage(study: Study) -> list[Part]:
    """Where likelihood and correctness do not go together, sharpening loses what the base can reach."""
    registered = study.registration
    parts: list[Part] = []
    family: list[Contrast] = []
    for task in study.of_kind(False):
        for name in registered.without_reward:
            test = f"{task}: {name} loses {registered.coverage}"
            arms = paired(study, task, (BASE, name), registered.coverage)
            if arms is None:
                parts += missing(test, [f"{registered.tasks[task].prefix}{one}" for one in (BASE, name)])
            else:
                lost = gain(arms, name, BASE, registered.coverage)
                family.append(Contrast(test, lost, list(arms.values()), f"{registered.coverage} changes by "))
    for contrast, part in zip(family, _signs(family, -1, registered.significance), strict=True):
        kept = hierarchical_interval(contrast.values).low > -registered.coverage_margin
        parts.append(contrast.part("contradicted") if part.outcome == "undecided" and kept else part)
    return parts or missing("some task is not aligned", ["base models of such tasks"])


def null_stays(study: Study) -> list[Part]:
    """The null control stays at the base."""
    registered, parts = study.registration, []
    for task in study.tasks:
        test = f"{task}: {registered.control} is within {registered.null_margin:g} of the base in pass@1"
        arms = paired(study, task, (BASE, registered.control))
        if arms is None:
            parts += missing(test, [f"{registered.tasks[task].prefix}{one}" for one in (BASE, registered.control)])
        else:
            moved = Contrast(test, gain(arms, registered.control, BASE), list(arms.values()), "pass@1 changes by ")
            parts.append(moved.part(within(hierarchical_interval(moved.values), registered.null_margin)))
    return parts or missing("the null control stays at the base", [registered.control])


def forecast(study: Study) -> list[Part]:
    """Tempered training reaches what reweighting base samples by p^(alpha - 1) forecasts."""
    registered, parts = study.registration, []
    for task in study.tasks:
        for name, alpha in registered.forecast.items():
            test = f"{task}: {name} is within {registered.forecast_margin:g} of its forecast in pass@1"
            arms = paired(study, task, (BASE, name))
            if arms is None or not arms[BASE].has(f"forecast@{alpha}"):
                parts += missing(test, [f"{registered.tasks[task].prefix}{one}" for one in (BASE, name)])
                continue
            expected, reached = arms[BASE].scores(f"forecast@{alpha}"), arms[name].scores("pass@1")
            note = f"forecast {expected.mean():.3f}, reached {reached.mean():.3f}, difference "
            off = Contrast(test, reached - expected, list(arms.values()), note)
            parts.append(off.part(within(hierarchical_interval(off.values), registered.forecast_margin)))
    return parts or missing("training reaches what is forecast", list(registered.forecast))


def within(found: Interval, margin: float) -> Outcome:
    """Return whether an interval lies within a margin around 0 (supported) or outside it (contradicted)."""
    if -margin <= found.low and found.high <= margin:
        return "supported"
    return "contradicted" if found.low > margin or found.high < -margin else "undecided"


def rate(study: Study) -> list[Part]:
    """The learning rate of all arms is the one that the search picks."""
    test = "every arm is trained with the learning rate that the search picks"
    search = study.registration.search
    ranks = mean_ranks(study, search.full) if search is not None else {}
    trained = [arm for one in study.tasks.values() for arm in one.arms.values() if arm.kind == "train"]
    if not ranks:
        return missing(test, ["the search of the learning rate"])
    best = pick(ranks)
    shown = f"mean ranks {', '.join(f'{rate:g}: {rank:.2f}' for rate, rank in ranks.items())}; picked {best:g}"
    used = sorted({arm.config["optimizer"]["learning_rate"] for arm in trained})
    if not used:
        return [Part(test, "undecided", f"{shown}; nothing is trained yet", list(study.search))]
    outcome: Outcome = "supported" if used == [best] else "contradicted"
    return [Part(test, outcome, f"{shown}; used {', '.join(f'{one:g}' for one in used)}", list(study.search))]


def lora_rate(study: Study) -> list[Part]:
    """Adapters take about ten times the rate."""
    search = study.registration.search
    low, high = search.lora_factor if search is not None else (0.0, 0.0)
    test = f"the rate picked for adapters is {low:g} to {high:g} times the other"
    full = mean_ranks(study, search.full, lora_too=True) if search is not None else {}
    lora = mean_ranks(study, search.lora) if search is not None and search.lora is not None else {}
    if not full or not lora:
        return missing(test, ["the search of both learning rates"])
    factor = pick(lora) / pick(full)
    reason = f"{pick(lora):g} and {pick(full):g} on the same tasks, a factor of {factor:g}"
    return [Part(test, "supported" if low <= factor <= high else "contradicted", reason, list(study.search))]


def mean_ranks(study: Study, prefix: str, *, lora_too: bool = False) -> dict[float, float]:
    """Return each learning rate's mean rank over pairs of a task and an arm, 1 the best; {} while runs are missing.

    Args:
        study: With the results of the search.
        prefix: Of the arms whose rates are compared.
        lora_too: Only tasks on which adapters are searched too.
    """
    from scipy.stats import rankdata

    search = study.registration.search
    assert search is not None
    reached = _reached(study, prefix)
    if lora_too and search.lora is not None:
        tasks = {task for task, _ in _reached(study, search.lora)}
        reached = {cell: values for cell, values in reached.items() if cell[0] in tasks}
    rates = sorted({rate for values in reached.values() for rate in values})
    if len(rates) < 2 or any(set(values) != set(rates) for values in reached.values()):
        return {}
    if any((task, arm) not in reached for task, _ in reached for arm in search.arms):
        return {}
    ranks = np.mean([rankdata([-values[one] for one in rates]) for values in reached.values()], axis=0)
    return dict(zip(rates, map(float, ranks), strict=True))


def pick(ranks: Mapping[float, float]) -> float:
    """Return the rate of the lowest mean rank, of equal ones the smaller.

    Example:
        >>> pick({1e-5: 1.5, 5e-6: 1.5, 2e-5: 3.0})
        5e-06
    """
    return min(ranks, key=lambda rate: (ranks[rate], rate))


def _reached(study: Study, prefix: str) -> dict[tuple[str, str], dict[float, float]]:
    """Return, by task and arm, what each rate reaches in the arm's own objective."""
    search = study.registration.search
    assert search is not None
    found: dict[tuple[str, str], dict[float, float]] = {}
    for name, arm in gather(study.search.values()).items():
        own = next((one for one in search.arms if name.endswith(f"-{one}")), None)
        if name.startswith(prefix) and own is not None:
            value = own_objective(arm)
            found.setdefault((arm.data[0], own), {})[arm.config["optimizer"]["learning_rate"]] = value
    return found


def own_objective(arm: Arm) -> float:
    """Return w_r E[r] + w_p E[log p] + w_h H of an arm's last checkpoint, mean over seeds and problems.

    r is pass@1 of the evaluation; the sum over tokens stands for any normalization. Labels count for an objective with
    a reward only.
    """
    assert arm.objective is not None
    weights = arm.objective.coefficients
    value = weights.w_r * float(arm.scores("pass@1").mean()) if weights.w_r else 0.0
    value += weights.w_p * float(arm.scores("base_logprob").mean()) if weights.w_p else 0.0
    return value - (weights.w_h * float(arm.scores("logprob").mean()) if weights.w_h else 0.0)


RULES: Mapping[str, Callable[[Study], list[Part]]] = {
    "aligned": aligned,
    "not-aligned": not_aligned,
    "coverage": coverage,
    "null-stays": null_stays,
    "forecast": forecast,
    "rate": rate,
    "lora-rate": lora_rate,
}
