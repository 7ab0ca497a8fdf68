"""The optimum of the objective on a finite problem."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sharpen.objective import InputError, Objective
from sharpen.theory.core import backend, onepass
from sharpen.theory.core.advantage import advantage_line
from sharpen.theory.core.backend import Summary
from sharpen.theory.core.flow import log_limit
from sharpen.theory.core.frames import table
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import potential_scale, top_face
from sharpen.theory.optima import utilities

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where training from the base ends if it follows the natural gradient exactly.

    Attributes:
        log_probabilities: log pi*, shape [n], nats: minus infinity off the support, and nowhere else.
        value: J there.
        expected_reward: E[r] there.
        entropy: H(pi*), nats.
        kl_to_base: KL(pi* || p), nats.
        unique: Whether the flow from every policy with the base's support ends here.
    """

    log_probabilities: FloatArray
    value: float
    expected_reward: float
    entropy: float
    kl_to_base: float
    unique: bool

    @cached_property
    def probabilities(self) -> FloatArray:
        """The policy, shape [n], computed when it is first read; entries of the support may underflow to 0."""
        return np.exp(self.log_probabilities)

    @cached_property
    def support(self) -> tuple[int, ...]:
        """Indices of the outcomes that keep probability, ascending."""
        return tuple(np.flatnonzero(self.log_probabilities > -np.inf).tolist())

    @cached_property
    def support_size(self) -> int:
        """The number of outcomes that keep probability."""
        return int(np.count_nonzero(self.log_probabilities > -np.inf))

    def frame(self) -> DataFrame:
        """Return one row per outcome: outcome, probability and log_probability."""
        outcomes = np.arange(self.probabilities.size)
        return table(
            {"outcome": outcomes, "probability": self.probabilities, "log_probability": self.log_probabilities}
        )


def optimum(objective: Objective, problem: Problem) -> Optimum:
    """Return the optimum that natural-gradient training reaches from the base.

    With entropy it is the Gibbs policy, pi* proportional to exp(u / w_h), which maximises J over the base's support:
    ``J(pi*) - J(pi) = w_h KL(pi || pi*)``. With a utility of the success rate it is one of
    :func:`sharpen.theory.optima.utilities.solutions`, the one where the flow ends. Without entropy, J is maximal on the
    whole face arg max u, and the policy returned is the base conditioned on that face, whose ratios the natural
    gradient conserves. The softmax gradient ends elsewhere on the face, see
    :func:`sharpen.theory.core.flow.softmax_limit`.

    Everything is computed from log p: outcomes whose p underflows take part.

    Outcomes of base probability 0 are excluded, with every objective: training starts at the base, and gradient flows
    never leave its support.

    A moving reference (``policy``, ``refresh:K``) has no fixed J to maximise. The policy returned is then the end of
    the flow from the base (see :func:`sharpen.theory.core.flow.limit`), and the value is J with p set to that policy.

    Raises:
        InputError: the potential is not finite on the base's support (weights that overflow), or the end of the flow
            cannot be decided.

    Example:
        >>> from sharpen.objective import preset
        >>> best = optimum(preset("tempered", alpha=2), Problem([0.5, 0.25, 0.25], [0, 1, 0]))
        >>> best.probabilities.round(4).tolist(), round(best.kl_to_base, 4)
        ([0.6667, 0.1667, 0.1667], 0.0566)
    """
    if objective.refresh_every is None and objective.coefficients.w_h > 0 and objective.utility == "identity":
        log_policy, found = onepass.gibbs(objective, problem)
        return _optimum(log_policy, found, unique=True)
    if objective.refresh_every is not None:
        log_policy = log_limit(objective, problem, problem.base)
        sign = advantage_line(objective, problem, problem.support).sign
    else:
        log_policy = frozen_optimum(objective, problem)
        sign = int(objective.coefficients.w_h > 0)
        if sign > 0:
            sign = -sum(each.kind != utilities.MINIMUM for each in utilities.solutions(objective, problem)) + 2
    found = summarize(objective, problem, log_policy)
    one_left = np.count_nonzero(log_policy > -np.inf) == 1
    unique = sign > 0 or problem.support.sum() == 1 or (sign == 0 and bool(one_left))
    return _optimum(log_policy, found, unique=unique)


def _optimum(log_policy: FloatArray, found: Summary, *, unique: bool) -> Optimum:
    return Optimum(log_policy, *(float(number) for number in found), unique=unique)


def frozen_optimum(objective: Objective, problem: Problem) -> FloatArray:
    """Return log pi* with the reference held at the base, shape [n]; the objective's ``reference`` is not read.

    Raises:
        InputError: the weights overflow on the base's support.
    """
    if objective.utility != "identity":
        if objective.coefficients.w_h > 0:
            return utilities.log_limit(objective, problem)
        if objective.coefficients.w_p != 0.0 or objective.right_weight != 0.0:
            raise InputError("mode", objective.mode, "sampling with a utility, or alpha 0: there the best is a mixture")
        objective = objective.model_copy(update={"utility": "identity"})  # what rises with P is highest where P is
    if objective.coefficients.w_h > 0:
        return onepass.gibbs(objective, problem)[0]
    arrays = (problem.reward, problem.log_base, problem.length)
    with np.errstate(over="ignore", invalid="ignore"):
        level = backend.level(objective, *arrays)
    if np.count_nonzero(np.isfinite(level)) < np.count_nonzero(problem.support):
        raise InputError("alpha", objective.alpha, f"a number whose weights {objective.coefficients} do not overflow")
    with np.errstate(over="ignore"):
        face = top_face(level, potential_scale(objective, *arrays))
    return backend.condition(problem.log_base, face)


def summarize(objective: Objective, problem: Problem, log_policy: FloatArray) -> Summary:
    """Return J, E[r], entropy and KL to the base of a policy given as log-probabilities, shape [n].

    Its support must lie in the base's. A moving reference is the policy itself.
    """
    moving = objective.refresh_every is not None
    with np.errstate(invalid="ignore", over="ignore"):  # outside the policy's support, where nothing is read
        return backend.summarize(
            objective,
            log_policy,
            problem.reward,
            problem.log_base,
            problem.length,
            reference=log_policy if moving else None,
        )


def policy_value(objective: Objective, problem: Problem, log_policy: FloatArray) -> FloatArray:
    """Return J of policies given as log-probabilities, shape [..., n] to [...]; a moving reference is the policy."""
    moving = objective.refresh_every is not None
    with np.errstate(invalid="ignore", over="ignore"):  # outside the policy's support, where nothing is read
        return objective.value(
            policy_logprob=log_policy,
            reward=problem.reward,
            ref_logprob=log_policy if moving else problem.log_base,
            length=problem.length,
        )
