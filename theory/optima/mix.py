"""pass@k and maj@k of an objective's optimum beside the base's, on one problem or a mix of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sharpen.objective import Objective
from sharpen.theory.core.frames import table
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.optima.best_of_n import log_best_of_n
from sharpen.theory.optima.coverage import (
    K_MAX,
    Coverage,
    Prompt,
    coverage,
    log_crossover,
    log_rates,
    mix_weights,
)
from sharpen.theory.optima.marginal import log_answer_optimum
from sharpen.theory.optima.optimum import optimum

if TYPE_CHECKING:
    from pandas import DataFrame

KS = (1, 4, 16, 64, 256, 1024)


@dataclass(frozen=True, eq=False)
class CoverageReport:
    """pass@k and maj@k of several policies on the same mix of prompts.

    Attributes:
        prompts: The mix.
        policies: Coverage of ``base``, ``optimum`` and, where asked for, ``best_of_n`` and ``marginal``.
        crossover: For each policy but the base the first k at which the base's pass@k is higher, None if there is none
            up to ``k_max``.
        k_max: Largest k that was looked at for it.
    """

    prompts: tuple[Prompt, ...]
    policies: dict[str, Coverage]
    crossover: dict[str, int | None]
    k_max: int

    def frame(self) -> DataFrame:
        """Return a DataFrame with the columns ``policy``, ``k``, ``pass_at_k`` and, if computed, ``maj_at_k``."""
        found = list(self.policies.items())
        votes = [each.maj_at_k for _, each in found if each.maj_at_k is not None]
        return table(
            {
                "policy": [name for name, each in found for _ in each.k],
                "k": np.concatenate([each.k for _, each in found]),
                "pass_at_k": np.concatenate([each.pass_at_k for _, each in found]),
                "maj_at_k": np.concatenate(votes) if votes else None,
            }
        )


def compare_coverage(
    objective: Objective,
    prompts: Problem | Prompt | Sequence[Problem | Prompt],
    k: Sequence[int] = KS,
    *,
    majority: bool = True,
    best_of: float | None = None,
    marginal: bool = False,
    k_max: int = K_MAX,
) -> CoverageReport:
    """Return pass@k and maj@k of the base and of the objective's optimum, and the k at which the base overtakes.

    Args:
        objective: Whose optimum is compared.
        prompts: One problem or prompt, or several; a problem is a prompt whose outcomes are answers of their own.
        k: Numbers of samples, whole numbers >= 1, shape [K].
        majority: Whether to compute maj@k, which costs more.
        best_of: Also the likeliest of so many samples, >= 1.
        marginal: Also the optimum with the answer's likelihood in place of the sequence's.
        k_max: Largest k to look for the base overtaking at.

    Raises:
        InputError: an argument is out of range, or a vote is too large to count.

    Example:
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> found = compare_coverage(Objective(alpha=2.0), DEFAULT_PROBLEM, [1, 8])
        >>> found.policies["optimum"].pass_at_k.round(4).tolist(), found.crossover
        ([0.2893, 0.9349], {'optimum': 1})
    """
    given = [prompts] if isinstance(prompts, Problem | Prompt) else list(prompts)
    mix = tuple(each if isinstance(each, Prompt) else Prompt(each) for each in given)
    laws = _log_policies(objective, mix, best_of, marginal)
    policies = {name: coverage(mix, [np.exp(law) for law in each], k, majority) for name, each in laws.items()}
    rates = {name: log_rates(mix, each) for name, each in laws.items()}
    crossover = {
        name: log_crossover(rates["base"], found, mix_weights(mix), k_max)
        for name, found in rates.items()
        if name != "base"
    }
    return CoverageReport(mix, policies, crossover, k_max)


def _log_policies(
    objective: Objective, prompts: Sequence[Prompt], best_of: float | None, marginal: bool
) -> dict[str, list[FloatArray]]:
    """Return every policy's name and its log-probabilities on each prompt."""
    problems = [prompt.problem for prompt in prompts]
    policies = {
        "base": [problem.log_base for problem in problems],
        "optimum": [optimum(objective, problem).log_probabilities for problem in problems],
    }
    if best_of is not None:
        policies["best_of_n"] = [log_best_of_n(problem, best_of) for problem in problems]
    if marginal:
        policies["marginal"] = [log_answer_optimum(objective, prompt.problem, prompt.labels) for prompt in prompts]
    return policies
