"""What the statistics and the registered rules do where the truth is known: coverage, null rates, power.

Axis letters: S seeds, P problems. A problem's log-odds of being answered right come from the difficulties of the dial
(one in eight never), a seed moves all of them together, and a pair of a seed and a problem a little more. Answers are
counted as the study counts them: N samples of each problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from sharpen.paper_repro.analysis.endings import collapsed, falls, falls_back
from sharpen.paper_repro.analysis.members import slope
from sharpen.paper_repro.grids.rules import Rules
from sharpen.paper_repro.intervals.bounded import UNIT, bounded_interval, of_difference
from sharpen.paper_repro.intervals.stats import holm

FloatArray = NDArray[np.float64]
LEVELS = {"never": (0.0, 16), "hard": (1 / 17, 24), "medium": (1 / 3, 40), "easy": (4 / 5, 48)}  # P(right), problems


@dataclass(frozen=True)
class Design:
    """Sizes of a study, and how much its units differ.

    Args:
        seeds: S.
        problems: P.
        samples: N of each problem and seed.
        seed_sd: Standard deviation of a run's pass@1 over seeds.
        pair_sd: Of the log-odds of a pair of a seed and a problem.
        effect_sd: Of an arm's effect on a problem's log-odds, over problems.
    """

    seeds: int = 8
    problems: int = 128
    samples: int = 32
    seed_sd: float = 0.03
    pair_sd: float = 0.3
    effect_sd: float = 0.3


def _law(count: int, rng: np.random.Generator) -> FloatArray:
    """Return log-odds of problems drawn from the dial's difficulties, shape [count]; -inf where it is never right."""
    rates, weights = zip(*LEVELS.values(), strict=True)
    chosen = rng.choice(len(rates), size=count, p=np.array(weights) / sum(weights))
    with np.errstate(divide="ignore"):
        return logit(np.array(rates)[chosen])


def _spread(shift: float, sd: float, nodes: int = 15) -> float:
    """Return mean pass@1 over the difficulties with log-odds moved by a normal number of this mean and sd."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    rates, weights = (np.array(column) for column in zip(*LEVELS.values(), strict=True))
    with np.errstate(divide="ignore"):
        means = [expit(logit(rate) + shift + sd * x) @ w / w.sum() for rate in rates]
    return float(np.average(means, weights=weights))


def seed_scale(design: Design) -> float:
    """Return the standard deviation of a seed's shift of log-odds that gives ``seed_sd`` in pass@1."""
    slope = (_spread(0.05, 0.0) - _spread(-0.05, 0.0)) / 0.1
    return design.seed_sd / slope


def shift_for(effect: float, design: Design) -> float:
    """Return by how much all log-odds move for a gain of ``effect`` in mean pass@1, seeds and pairs included."""
    from scipy.optimize import brentq

    sd = float(np.hypot(seed_scale(design), design.pair_sd))
    wide = float(np.hypot(sd, design.effect_sd))
    return float(brentq(lambda shift: _spread(shift, wide) - _spread(0.0, sd) - effect, -8.0, 8.0))  # pyright: ignore[reportArgumentType]


def draw(design: Design, rng: np.random.Generator, shift: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Return the share of right answers of an arm that moves all log-odds by ``shift``, and of one that does not.

    Problems are common to both, seeds are not. Shapes [S, P].
    """
    base_P = _law(design.problems, rng)
    effect_P = shift + design.effect_sd * rng.standard_normal(design.problems) if shift else np.zeros(design.problems)
    found = []
    for moved_P in (effect_P, np.zeros(design.problems)):
        seeds_S = seed_scale(design) * rng.standard_normal(design.seeds)
        pairs_SP = design.pair_sd * rng.standard_normal((design.seeds, design.problems))
        rates_SP = expit(base_P + moved_P + seeds_S[:, None] + pairs_SP)
        found.append(rng.binomial(design.samples, rates_SP) / design.samples)
    return found[0], found[1]


def coverage(design: Design, times: int, seed: int, shift: float = 0.0) -> dict[str, float]:
    """Return how often the intervals of an arm's mean and of a difference of two arms hold the true mean.

    Returns:
        ``mean``, ``difference``: shares of ``times``; ``outside``: share of the intervals with an end that cannot be.
    """
    rng = np.random.default_rng(seed)
    sd = float(np.hypot(seed_scale(design), design.pair_sd))
    wide = float(np.hypot(sd, design.effect_sd)) if shift else sd
    truth = _spread(shift, wide), _spread(0.0, sd)
    held, outside = np.zeros(2), 0
    for _ in range(times):
        arm, control = draw(design, rng, shift)
        intervals = (
            (bounded_interval(arm, UNIT), truth[0], UNIT),
            (bounded_interval(arm - control, of_difference(UNIT)), truth[0] - truth[1], of_difference(UNIT)),
        )
        held += [found.low <= value <= found.high for found, value, _ in intervals]
        outside += any(found.low < ends[0] or found.high > ends[1] for found, _, ends in intervals)
    return {"mean": held[0] / times, "difference": held[1] / times, "outside": outside / times}


def power(design: Design, effect: float, family: int, level: float, times: int, seed: int) -> float:
    """Return how often one of ``family`` contrasts has a Holm p-value below ``level`` and the sign of its effect.

    The other contrasts of the family have no effect, which is Holm's hardest case. With ``effect`` 0 it is the chance
    that any contrast of the family is taken for one.
    """
    rng = np.random.default_rng(seed)
    shift = shift_for(effect, design) if effect else 0.0
    found = 0
    for _ in range(times):
        intervals = []
        for member in range(family):
            arm, control = draw(design, rng, shift if member == 0 else 0.0)
            intervals.append(bounded_interval(arm - control, of_difference(UNIT)))
        adjusted = holm([one.p if one.p is not None else 1.0 for one in intervals])
        if effect:
            found += bool(adjusted[0] < level and intervals[0].mean * effect > 0)
        else:
            found += bool(adjusted.min() < level)
    return found / times


def slope_power(design: Design, steep: float, deltas: Sequence[float], level: float, times: int, seed: int) -> float:
    """Return how often a slope in delta counts as there and positive, where the gain in pass@1 is ``steep`` delta."""
    rng = np.random.default_rng(seed)
    shifts = [shift_for(steep * delta, design) if steep * delta else 0.0 for delta in deltas]
    found = 0
    for _ in range(times):
        pairs = [draw(design, rng, shift) for shift in shifts]
        interval = slope(deltas, [arm - control for arm, control in pairs])
        found += bool(interval.p is not None and interval.p < level and interval.mean > 0)
    return found / times


CHECKPOINTS = 5  # of a run, the base included
CHECKPOINT_SD = 0.035  # of pass@1 of a checkpoint: seeds .03, and 512 answers
EFFECTS = (0.03, 0.05, 0.07, 0.1)
FALLS = (0.1, 0.15)
SLOPES = (0.0, 0.02, 0.05, 0.1)  # of pass@1, a unit of delta
OLD_FALL, OLD_SEEDS, OLD_SHAPE = 0.1, (3, 10, 30), (0.03, 4)  # of the first study: sd and number of checkpoints


def registered(rules: Rules, times: int, seed: int = 16) -> dict[str, Any]:
    """Return what the rules do without an effect, and their power: the block ``simulated`` of the registration.

    Args:
        rules: Thresholds.
        times: Simulated studies a number.
        seed: Of the simulation.
    """
    design, family = Design(seeds=rules.seeds, samples=64), len(rules.members)
    base = next(iter(rules.members.values())).base
    rng = np.random.default_rng(seed)
    ends, backs, old = 0, dict.fromkeys((0.0, *FALLS), 0), dict.fromkeys(OLD_SEEDS, 0)
    for _ in range(10 * times):
        last = base + rules_sd(design) * rng.standard_normal(rules.seeds)
        ends += collapsed(last, np.full(rules.seeds, design.samples), base, rules)[0]
        arm, control = base + CHECKPOINT_SD * rng.standard_normal((2, rules.seeds, CHECKPOINTS))
        for fall in backs:
            fallen = arm - fall * (np.arange(CHECKPOINTS) == CHECKPOINTS - 1)
            backs[fall] += falls_back(fallen, control, rules)[0]
        for seeds in OLD_SEEDS:
            old[seeds] += bool(falls(OLD_SHAPE[0] * rng.standard_normal((seeds, OLD_SHAPE[1]))).max() >= OLD_FALL)
    level = rules.significance
    found = {
        "times": times,
        "any_primary": round(power(design, 0.0, family, level, times, seed), 3),
        "power": {str(one): round(power(design, one, family, level, times, seed), 3) for one in EFFECTS},
        "collapse": round(ends / (10 * times), 4),
        "falls_back": round(backs[0.0] / (10 * times), 4),
        "falls_back_power": {str(fall): round(backs[fall] / (10 * times), 3) for fall in FALLS},
        "old_rule": {str(seeds): round(count / (10 * times), 3) for seeds, count in old.items()},
    }
    if deltas := [member.delta for member in rules.members.values() if member.delta is not None]:
        found["slope"] = {str(one): round(slope_power(design, one, deltas, level, times, seed), 3) for one in SLOPES}
    return found


def rules_sd(design: Design) -> float:
    """Return the standard deviation of a run's measured pass@1: seeds, and the samples of its problems."""
    counted = float(np.mean([rate * (1 - rate) for rate, n in LEVELS.values() for _ in range(n)]))
    return float(np.hypot(design.seed_sd, np.sqrt(counted / (design.problems * design.samples))))
