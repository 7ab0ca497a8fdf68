"""A study of several base models: their arms, what is left without the null control, and what base samples forecast.

Axis letters: S seeds, P problems, C checkpoints, T updates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sharpen.objective import Objective
from sharpen.paper_repro.analysis.arms import Arm, FloatArray, at_seeds
from sharpen.paper_repro.analysis.evidence import Evidence
from sharpen.paper_repro.grids.rules import Member, Rules
from sharpen.paper_repro.intervals.bounded import UNIT, bounded_interval, of_difference
from sharpen.paper_repro.intervals.stats import Interval

SMOOTH = 5  # updates whose KL is averaged: a single one has 64 samples
RESOLUTION = 50  # points between checkpoints at which accuracy and KL are interpolated


@dataclass(frozen=True)
class Members:
    """The results of a study of several base models with what it decides by.

    Args:
        rules: Members, arms, thresholds.
        evidence: Of each member that has results.
        search: Results of the search of the optimiser, by run.
    """

    rules: Rules
    evidence: Mapping[str, Evidence]
    search: Mapping[str, Mapping[str, Any]]

    def member(self, name: str) -> Member:
        """Return what is registered of a member."""
        return self.rules.members[name]

    def arms(self, member: str, *names: str) -> list[Arm] | None:
        """Return these arms at the seeds that all have.

        None if one is missing, too few seeds are common, or problems differ.
        """
        evidence = self.evidence.get(member)
        if evidence is None or any(name not in evidence.arms for name in names):
            return None
        found = [evidence.arms[name] for name in names]
        seeds = set.intersection(*(set(arm.seeds) for arm in found))
        if len(seeds) < self.rules.seeds:
            return None
        found = [at_seeds(arm, seeds) for arm in found]
        asked = {tuple(table["ids"]) for arm in found for table in arm.problems()}
        return found if len(asked) == 1 else None

    def difference(self, member: str, arm: str, against: str, measure: str = "pass@1") -> FloatArray | None:
        """Return one arm less another at the same seed and problem, shape [S, P]."""
        found = self.arms(member, arm, against)
        if found is None or not all(one.has(measure) for one in found):
            return None
        return found[0].scores(measure) - found[1].scores(measure)

    @cached_property
    def forecast_gains(self) -> dict[str, FloatArray]:
        """What p^alpha of the tempered arm adds to pass@1 of each problem, by member; see :func:`foretold`."""
        alpha = self.rules.arms.tempered_alpha
        bases = {name: found.base for name, found in self.evidence.items() if found.base is not None}
        return {name: found for name, base in bases.items() if (found := foretold(base, alpha)) is not None}

    @cached_property
    def forecasts(self) -> dict[str, Interval]:
        """The mean of those gains with a 95 % interval over problems, by member."""
        from sharpen.theory.core.intervals import Resampler

        found: dict[str, Interval] = {}
        for name, gain in self.forecast_gains.items():
            low, high = Resampler(len(gain), 16).mean(gain)
            found[name] = Interval(float(gain.mean()), max(-1.0, low), min(1.0, high))
        return found


def by_member(results: Mapping[str, Mapping[str, Any]], rules: Rules) -> Members:
    """Return the study of results."""
    own: dict[str, dict[str, Mapping[str, Any]]] = {name: {} for name in rules.members}
    search: dict[str, Mapping[str, Any]] = {}
    for run, result in results.items():
        name = next((one for one, member in rules.members.items() if result["arm"].startswith(member.prefix)), None)
        if name is not None:
            own[name][run] = result
        elif rules.search is not None and result["arm"].startswith(rules.search.prefix):
            search[run] = result
    evidence = {name: Evidence(found, name, prefix=rules.members[name].prefix) for name, found in own.items() if found}
    return Members(rules, evidence, search)


def foretold(base: Arm, alpha: float) -> FloatArray | None:
    """Return how far pass@1 of p^alpha is forecast from that of p, shape [P], from base samples alone.

    The kept samples of all seeds count together; :func:`sharpen.theory.forecast.estimate.estimate` weights them. None
    where no single samples were kept, or they cannot tell.
    """
    from sharpen.theory.forecast.estimate import REWARD, estimate

    tables = base.problems()
    if any("kept" not in table for table in tables):
        return None
    prompts = [pooled_samples(tables, place) for place in range(len(tables[0]["ids"]))]
    found = estimate(prompts, Objective(mode="sampling", alpha=alpha, beta_inv=0.0))
    if not found.told:
        return None
    return found.values[REWARD] - np.array([one.reward.mean() for one in prompts])


def pooled_samples(tables: list[Mapping[str, Any]], place: int) -> Any:
    """Return the kept base samples of a problem, all seeds together, as the forecast reads them."""
    from sharpen.theory.forecast.samples import Samples

    joined = {
        name: np.concatenate([np.asarray(table["kept"][name][place], dtype=float) for table in tables])
        for name in ("base_logprob", "right", "tokens")
    }
    return Samples.of(np.minimum(joined["base_logprob"], 0.0), joined["right"], joined["tokens"])


def unsolved(base: Arm, levels: tuple[str, ...]) -> np.ndarray:
    """Return which problems the base never solves: of these levels, and right in no sample of any seed; shape [P]."""
    table = base.problems()[0]
    never = base.scores("correct").sum(axis=0) == 0
    levels_P = np.array([str(level) for level in table.get("level", [None] * len(never))])
    return never & np.isin(levels_P, levels)


def path(arm: Arm) -> tuple[list[int], FloatArray, FloatArray]:
    """Return the updates of the checkpoints, the KL to the base of each seed there, and held-out pass@1, [S, C].

    KL is the mean over the last updates before the checkpoint, 0 at the base.
    """
    steps, accuracy_SC = arm.selection()
    kl_ST = arm.curve("kl_ref")
    columns = [np.nanmean(kl_ST[:, max(0, step - SMOOTH) : step], axis=1) for step in steps[1:]]
    return steps, np.stack([np.zeros(len(kl_ST)), *columns], axis=1), accuracy_SC


def at_kl(arm: Arm, nats: float) -> FloatArray:
    """Return held-out pass@1 of each seed's run where its KL to the base first reaches so many nats, shape [S].

    Between the checkpoints of :func:`path` both are interpolated linearly; NaN where a run never reaches it.
    """
    steps, kl_SC, accuracy_SC = path(arm)
    line = np.linspace(steps[0], steps[-1], RESOLUTION * (len(steps) - 1) + 1)
    found = np.full(len(accuracy_SC), np.nan)
    for seed, (accuracy, kl) in enumerate(zip(accuracy_SC, kl_SC, strict=True)):
        there = np.flatnonzero(np.interp(line, steps, kl) >= nats)
        if there.size:
            found[seed] = np.interp(line[there[0]], steps, accuracy)
    return found


def alignment(base: Arm) -> Interval | None:
    """Return Corr(r, log p) of the kept base samples within problems, mean over the problems that have one.

    With a 95 % interval over problems. None where no single samples were kept or fewer than two problems have one.
    """
    tables = base.problems()
    if any("kept" not in table for table in tables):
        return None
    found = []
    for place in range(len(tables[0]["ids"])):
        one = pooled_samples(tables, place)
        if one.reward.std() > 0 and one.logprob.std() > 1e-9:
            found.append(float(np.corrcoef(one.logprob, one.reward)[0, 1]))
    return bounded_interval(np.array(found), (-1.0, 1.0)) if len(found) > 1 else None


def contrast(values_SP: FloatArray, null: float = 0.0) -> Interval:
    """Return the interval of a mean difference of two shares."""
    return bounded_interval(values_SP, of_difference(UNIT), null)


def slope(deltas: Sequence[float], gains: Sequence[FloatArray]) -> Interval:
    """Return the least-squares slope over members of a mean difference of two shares.

    Args:
        deltas: Where the members stand, M numbers.
        gains: Of each, shape [S, P] with the same seeds and problems.
    """
    weights_M = np.asarray(deltas) - np.mean(deltas)
    weights_M /= (weights_M**2).sum()
    steepest = float(np.abs(weights_M).sum())  # where every difference is 1 or -1
    return bounded_interval(np.tensordot(weights_M, np.stack(gains), axes=1), (-steepest, steepest))
