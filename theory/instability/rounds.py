"""Self-sharpening round by round, with its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import Objective
from sharpen.theory.core.frames import table
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.instability.selfsharpening import effective_alpha, log_lost, refresh
from sharpen.theory.optima.optimum import summarize

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class Rounds:
    """The policies of self-sharpening, round by round; round 0 is the base. Shapes [rounds + 1].

    Attributes:
        log_policies: log pi_k, shape [rounds + 1, n], nats.
        round: k.
        effective_alpha: alpha^k, infinite once it overflows; None where a round is no power of the policy.
        expected_reward: E[r].
        entropy: H, nats.
        kl_to_base: KL to the base, nats.
        log_lost: log(1 - largest probability), nats.
    """

    log_policies: FloatArray
    round: NDArray[np.int64]
    effective_alpha: FloatArray | None
    expected_reward: FloatArray
    entropy: FloatArray
    kl_to_base: FloatArray
    log_lost: FloatArray

    def frame(self) -> DataFrame:
        """Return one row per round: round, effective_alpha, expected_reward, entropy, kl_to_base and log_lost."""
        names = ("round", "effective_alpha", "expected_reward", "entropy", "kl_to_base", "log_lost")
        return table({name: getattr(self, name) for name in names})


def power_of_a_round(objective: Objective) -> float | None:
    """Return a if a round is pi -> pi^a / Z, that is without reward and length normalisation, else None.

    It is alpha, or 1 where the normalisation ``none`` drops the term that alpha weighs.
    """
    objective.require_plain("self-sharpening")
    w = objective.coefficients  # without reward w_h is 1
    return w.w_p if w.w_r == 0.0 and (objective.length_exponent == 0.0 or w.w_p == w.w_h) else None


def self_sharpening(objective: Objective, problem: Problem, rounds: int = 6) -> Rounds:
    """Return rounds that each train to the end with the last policy as reference; k rounds of p^alpha give p^(alpha^k).

    Args:
        objective: An objective with entropy (mode ``sampling``); its ``reference`` is not read.
        problem: n outcomes; the base is round 0.
        rounds: At least 0.

    Raises:
        InputError: the objective has no entropy, rounds is negative, or a potential overflows.

    Example:
        >>> found = self_sharpening(Objective(alpha=2.0), Problem([0.6, 0.4], [0, 1]), 2)
        >>> found.effective_alpha.tolist(), found.expected_reward.round(4).tolist()
        ([1.0, 2.0, 4.0], [0.4, 0.3077, 0.1649])
    """
    log_policies = refresh(objective, problem, rounds)
    frozen, power = objective.model_copy(update={"reference": "frozen"}), power_of_a_round(objective)
    found = [summarize(frozen, problem, log_policy) for log_policy in log_policies]
    return Rounds(
        log_policies=log_policies,
        round=np.arange(rounds + 1),
        effective_alpha=None if power is None else np.array([effective_alpha(power, k) for k in range(rounds + 1)]),
        expected_reward=np.array([float(each.expected_reward) for each in found]),
        entropy=np.array([max(0.0, float(each.entropy)) for each in found]),
        kl_to_base=np.array([max(0.0, float(each.kl_to_base)) for each in found]),
        log_lost=np.array([log_lost(log_policy) for log_policy in log_policies]),
    )
