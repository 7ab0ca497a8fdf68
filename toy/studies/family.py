"""The family of sampled learners side by side: what each ascends, whether it gets there, how fast its entropy goes.

Every learner has two runs on one problem, from the base, with its own step size:

- with a KL, on the objective whose utility it ascends: of KL(base || pi*) the share that is left at the end (for f = P
  the share of the possible gain in J that is missing, by the Gibbs identity);
- with the task reward alone: the update at which E[r] passes 0.9, the entropy left there, and how far right answers
  have left the base's ratios; and the update at which the entropy falls below a tenth of the base's. Learners that need
  an entropy in their objective have no such run.

Axis letters: S seeds, K records.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import DEFAULT_PROBLEM
from sharpen.theory.estimators.exact import setting
from sharpen.theory.estimators.success import Ascent, ascents
from sharpen.toy.dynamics.measures import COLLAPSED_ENTROPY
from sharpen.toy.studies.findings_core import Interval, over_seeds
from sharpen.toy.studies.target import median_interval
from sharpen.toy.sweeps.config import SweepConfig
from sharpen.toy.sweeps.summary import read
from sharpen.toy.sweeps.sweep import sweep

GROUP, K = 16, 4  # samples of an update, and of pass@K
BETA_INV = 0.5  # arcsin has an interior optimum here (T18)
PASSED = 0.9  # of E[r]
STEPS, EVERY = 3000, 5
PATH = 40  # records of a path that are kept, at most
DEFAULT_STEP = 0.2
Table = dict[str, NDArray[Any]]


class Member(NamedTuple):
    """A learner of the family.

    Args:
        name: Of the row.
        learner: In ``sharpen.toy.learners.registry``.
        utility: Of the objective with a KL: what the learner ascends, where that has a name.
        ascends: Its row in :func:`sharpen.theory.estimators.success.ascents`; else, in words, what it follows.
        kl: Place of the KL's estimate; one that a standardised advantage does not divide.
        step_size: eta.
        alone: Whether it has a run with the task reward alone.
    """

    name: str
    learner: str
    utility: str
    ascends: str
    kl: str = "k1-reward"
    step_size: float = DEFAULT_STEP
    alone: bool = True


PASS = f"pass@{K}"
MEMBERS = (
    Member("rloo", "rloo", "identity", "rloo"),
    Member("dr-grpo", "dr-grpo", "identity", "dr-grpo"),
    Member("nsr", "nsr", "identity", "nsr"),
    Member("w-reinforce", "w-reinforce", "identity", "w-reinforce"),
    Member("rloo, log", "rloo", "log", "rloo, log"),
    Member("maxrl", "maxrl", "log", "maxrl"),
    Member("maxrl-order-g", "maxrl-order-g", "log", "maxrl-order-g"),
    Member(f"rloo, {PASS}", "rloo", PASS, "rloo, pass@K"),
    Member("pass-k", "pass-k", PASS, "pass-k"),
    Member("grpo", "grpo", "arcsin", "grpo", "k2-loss"),
    Member("gspo", "gspo", "arcsin", "grpo", "k2-loss"),
    Member("cispo", "cispo", "arcsin", "grpo", "k2-loss", 0.05),  # four whole epochs a batch
    Member("unlikeliness", "unlikeliness", "identity", "no function of P", "k2-loss"),
    Member("entropy-bonus", "entropy-bonus", "identity", "J + 0.05 H"),
    Member("adaptive-entropy", "adaptive-entropy", "identity", "J, and H below 0.5 nats"),
    Member("tb", "tb", "identity", "-w_h² KL(π‖π*)", alone=False, step_size=0.05),
    Member("tb-batch", "tb-batch", "identity", "-w_h² KL(π‖π*)", alone=False, step_size=0.05),
    Member("power-distillation", "power-distillation", "identity", "near -KL(π*‖π)", alone=False),
    Member("alpha-divergence", "alpha-divergence", "identity", "near -Hellinger(π*, π)", alone=False),
    Member("f-divergence", "f-divergence", "identity", "near -JS(π*, π)", alone=False),
)


class Found(NamedTuple):
    """What one learner did; the intervals are over seeds.

    Args:
        member: The learner.
        ascends: Multiple and utility that its mean update ascends, or what it follows instead.
        slope: f_G'(P) at the base, over that of its utility; None without a utility.
        variance: Trace of the covariance of one group's gradient at the base; None likewise.
        missing: KL(pi || pi*) at the end of the run with a KL, over that of the base.
        passed: Median update at which E[r] passed 0.9, infinite where too few did; None without that run.
        entropy: Entropy there, over the base's, of the runs that passed.
        within: KL within the right answers there.
        collapsed: Median update at which the entropy fell below a tenth of the base's, infinite likewise.
        path: E[r] and entropy of the run with the task reward alone, means over seeds, shape [K, 2].
    """

    member: Member
    ascends: str
    slope: float | None
    variance: float | None
    missing: Interval
    passed: Interval | None
    entropy: Interval | None
    within: Interval | None
    collapsed: Interval | None
    path: list[list[float]]


def configs(member: Member, seeds: int) -> dict[str, SweepConfig]:
    """Return the sweeps of a learner, by name."""
    common = {
        "learner": (member.learner,),
        "utility": (member.utility,),
        "kl": (member.kl,),
        "step_size": (member.step_size,),
        "group_size": (GROUP,),
        "steps": STEPS,
        "record_every": EVERY,
        "seeds": seeds,
        "batch": seeds,
    }
    found = {"kl": SweepConfig.model_validate({**common, "beta_inv": (BETA_INV,)})}
    if member.alone:
        task = {"mode": ("optimization",), "alpha": (0.0,), "beta_inv": (1.0,)}
        found["alone"] = SweepConfig.model_validate({**common, **task})
    return found


def family(
    names: list[str],
    out: Path,
    *,
    seeds: int = 32,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> list[Found]:
    """Run, or continue, the sweeps of learners under ``out`` and return what each did.

    Args:
        names: Of ``MEMBERS``.
        out: Folder of the sweeps.
        seeds: Runs of each.
        progress: Called with a learner's name, the work of its sweep done and in all.

    Raises:
        InputError: no learner of the family has that name, fewer than two seeds, or a folder that cannot be used.
    """
    known = {member.name: member for member in MEMBERS}
    for name in names:
        if name not in known:
            raise InputError("learner", name, "; ".join(known))
    if seeds < 2:
        raise InputError("seeds", seeds, "at least 2, for an interval")
    exact = at_the_base()
    found = []
    for name in names:
        member = known[name]
        tables = {
            kind: read(
                sweep(
                    config,
                    out / member.name.replace(", ", "-") / kind,
                    progress=lambda done, total, name=name: progress(name, done, total),
                )
            )
            for kind, config in configs(member, seeds).items()
        }
        found.append(judge(member, tables, exact.get(member.ascends)))
    return found


def at_the_base() -> dict[str, Ascent]:
    """Return what advantages ascend, with the moments of an update at the base of the default problem."""
    task = Objective(alpha=0.0, beta_inv=1.0, mode="optimization")
    given = setting(task, DEFAULT_PROBLEM, DEFAULT_PROBLEM.base, GROUP)
    return {ascent.name: ascent for ascent in ascents(given, K)}


def judge(member: Member, tables: dict[str, Table], ascent: Ascent | None) -> Found:
    """Return what a learner's tables say; ``ascent`` is None where it has no utility."""
    words = member.ascends
    if ascent is not None:
        times = "" if abs(ascent.scale - 1.0) < 1e-9 else f"{ascent.scale:.3g} × "
        words = f"{times}{ascent.utility}"
    distance = _runs(tables["kl"], "kl_optimum")
    missing = over_seeds(distance[:, -1] / distance[:, 0])
    slope, variance = (None, None) if ascent is None else (ascent.estimate.scale, ascent.estimate.variance)
    if "alone" not in tables:
        return Found(member, words, slope, variance, missing, None, None, None, None, [])
    success, entropy, within = (_runs(tables["alone"], name) for name in ("expected_reward", "entropy", "kl_correct"))
    steps = np.unique(tables["alone"]["step"]).astype(float)
    there, first = _first(success >= PASSED)
    gone, fell = _first(entropy < COLLAPSED_ENTROPY * entropy[:, :1])
    runs = np.flatnonzero(there)
    at = first[runs]
    left = over_seeds(entropy[runs, at] / entropy[runs, 0]) if len(runs) > 1 else None
    kept = over_seeds(within[runs, at]) if len(runs) > 1 else None
    collapse = np.where(gone, steps[fell], math.inf)
    passed = np.where(there, steps[first], math.inf)
    chosen = np.unique(np.round(np.geomspace(1, len(steps), PATH)).astype(int) - 1)
    path = np.stack([success.mean(axis=0), entropy.mean(axis=0)], axis=1)[chosen]
    passes, collapses = median_interval(passed), median_interval(collapse)
    return Found(member, words, slope, variance, missing, passes, left, kept, collapses, path.tolist())


def _runs(table: Table, measure: str) -> NDArray[np.float64]:
    """Return a measure of each seed along its run, shape [S, K]."""
    return table[measure].astype(float).reshape(-1, len(np.unique(table["step"])))


def _first(where: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return whether, and at which record first, something holds, shape [S] each."""
    return np.asarray(where.any(axis=1)), np.asarray(where.argmax(axis=1))
