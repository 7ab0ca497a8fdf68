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

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class EstimatorReport:
    """Exact bias and variance of gradient estimators.

    Attributes:
        setting: What was asked about.
        estimates: The six KL terms, then the advantages with each aggregation.
        claims: Published statements, each decided from these numbers.
    """

    setting: Setting
    estimates: Rows[Estimate]
    claims: Rows[Claim]

    def frame(self) -> DataFrame:
        """Return one row an estimator: name, placement, target, bias_norm, cosine, scale, variance and verdicts."""
        return self.estimates.frame()


def estimator_report(
    objective: Objective, problem: Problem, policy: ArrayLike | None = None, group: int = 4
) -> EstimatorReport:
    """Return the exact bias and variance of every KL term, advantage and token aggregation, over all groups of samples.

    Args:
        objective: J, whose gradient the advantages estimate.
        problem: n outcomes of positive base probability.
        policy: pi, probabilities of shape [n], positive; proportional to sqrt(p) e^r if not given.
        group: Samples in a group, >= 2.

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
    return EstimatorReport(given, estimates(given), claims(given))


def default_policy(problem: Problem) -> FloatArray:
    """Return the policy proportional to sqrt(p) e^r, shape [n]: neither the base nor an optimum of it."""
    level = problem.log_base / 2 + problem.reward
    weight = np.exp(level - level.max())
    return weight / weight.sum()
