"""Every gradient estimator of one setting, and the published statements about them, together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sharpen.objective import Objective
from sharpen.theory.core.frames import Rows
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.estimators.claims import Claim, claims
from sharpen.theory.estimators.exact import Estimate, Setting, estimates, setting
from sharpen.theory.estimators.success import MOST_SAMPLES, Ascent, ascents

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class EstimatorReport:
    """Exact bias and variance of gradient estimators.

    Attributes:
        setting: What was asked about.
        estimates: The six KL terms, then the advantages with each aggregation.
        claims: Published statements, each decided from these numbers.
        ascents: Of rewards 0 and 1, what each advantage ascends as a function of the success rate; empty for other
            rewards, without a task reward in the objective, and for groups of more than 64.
    """

    setting: Setting
    estimates: Rows[Estimate]
    claims: Rows[Claim]
    ascents: Rows[Ascent]

    def frame(self) -> DataFrame:
        """Return one row an estimator: name, placement, target, bias_norm, cosine, scale, variance and verdicts."""
        return self.estimates.frame()


def estimator_report(
    objective: Objective, problem: Problem, policy: ArrayLike | None = None, group: int = 4, k: int = 2
) -> EstimatorReport:
    """Return the exact bias and variance of every KL term, advantage and token aggregation, over all groups of samples.

    Args:
        objective: J, whose gradient the advantages estimate.
        problem: n outcomes of positive base probability.
        policy: pi, probabilities of shape [n], positive; proportional to sqrt(p) e^r if not given.
        group: Samples in a group, >= 2.
        k: K of pass@K among the ascents, at most ``group``.

    Raises:
        InputError: an argument is out of range, or there are too many groups to visit.

    Example:
        >>> from sharpen.objective import preset
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> found = estimator_report(preset("task-reward"), DEFAULT_PROBLEM)
        >>> [each.name for each in found.estimates if each.placement == "reward" and each.unbiased]
        ['k1']
    """
    given = setting(objective, problem, default_policy(problem) if policy is None else policy, group)
    counted = bool(np.all(np.isin(problem.reward, (0.0, 1.0)))) and np.ptp(problem.reward) > 0.0
    counted = counted and objective.coefficients.w_r > 0.0 and group <= MOST_SAMPLES
    return EstimatorReport(given, estimates(given), claims(given), ascents(given, k) if counted else Rows())


def default_policy(problem: Problem) -> FloatArray:
    """Return the policy proportional to sqrt(p) e^r, shape [n]: neither the base nor an optimum of it."""
    level = problem.log_base / 2 + problem.reward
    weight = np.exp(level - level.max())
    return weight / weight.sum()
