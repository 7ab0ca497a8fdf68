"""What a run of the toy is about: the outcomes of every prompt and the objective as weights on them.

Axis letters: P prompts, n outcomes of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jax import Array
from numpy.typing import NDArray

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import potential_scale
from sharpen.toy.problems.utility import end_slopes

LARGEST = 1e100  # of a term of the pseudo-reward, and of its part of a step: its square and its cube are numbers too


class Setting(NamedTuple):
    """Everything about a run that may differ between the runs of one compiled computation.

    The pseudo-reward is linear, A = on_reward r + on_reference log p + on_policy log pi, and its weights are read off
    the objective by :func:`setting`. With a utility f of the success rate learners multiply on_reward by f'(P).

    Args:
        reward: Task rewards r, shape [P, n].
        log_base: Log-probabilities of the base, shape [P, n], finite.
        length: In tokens, shape [P, n].
        prompt_weight: Weights of the prompts, shape [P], sum 1.
        on_reward: Shape [P, n].
        on_reference: Shape [P, n].
        on_policy: Shape [P, n].
        kl_weight: w_h.
        refresh_every: Updates between two replacements of p by the policy; 0 for a frozen p, -1 for p = pi.
        step_size: eta.
        reward_noise: Standard deviation of Gaussian noise on every sampled reward.
        base_noise: Standard deviation of a Gaussian error of the log p that the objective sees, drawn once per run.
        end_slope: f'(P) of a utility of the success rate where the flow from the base ends, shape [P]; 1 for the
            identity. Measures read it, no learner does.
        true_positive: t, the share of right samples that the verifier calls right.
        false_positive: f, the share of wrong ones.
    """

    reward: Array | NDArray[Any]
    log_base: Array | NDArray[Any]
    length: Array | NDArray[Any]
    prompt_weight: Array | NDArray[Any]
    on_reward: Array | NDArray[Any]
    on_reference: Array | NDArray[Any]
    on_policy: Array | NDArray[Any]
    kl_weight: Array | NDArray[Any] | float
    refresh_every: Array | NDArray[Any] | int
    step_size: Array | NDArray[Any] | float
    reward_noise: Array | NDArray[Any] | float
    base_noise: Array | NDArray[Any] | float
    end_slope: Array | NDArray[Any] | float = 1.0
    true_positive: Array | NDArray[Any] | float = 1.0
    false_positive: Array | NDArray[Any] | float = 0.0


def check_size(objective: Objective, problems: Iterable[Problem], step_size: float) -> None:
    """Refuse weights or steps so large that squares of them are none: updates would end in NaN.

    Args:
        objective: What is maximised.
        problems: The outcomes of each prompt, all of positive base probability.
        step_size: The largest eta.

    Raises:
        InputError: it is so.
    """
    sizes = [potential_scale(objective, one.reward, one.log_base, one.length).max() for one in problems]
    if not max(1.0, step_size) * max(sizes) <= LARGEST:
        given = f"alpha={objective.alpha:g} and beta_inv={objective.beta_inv:g} with step_size={step_size:g}"
        allowed = f"numbers with which no part of a step, step_size (w_r r + w_p s + w_h log p), is above {LARGEST:g}"
        raise InputError("objective", given, allowed)


def check_verifier(objective: Objective, problems: Iterable[Problem], verifier: tuple[float, float]) -> None:
    """Refuse the rates of a verifier where there is nothing for it to judge.

    Args:
        objective: What is maximised.
        problems: The outcomes of each prompt.
        verifier: True and false positive rates (t, f).

    Raises:
        InputError: rewards are not 0 and 1, or the objective has a utility or an exponent of right answers.
    """
    if verifier == (1.0, 0.0):
        return
    given = f"{verifier[0]:g} with false_positive {verifier[1]:g}"
    if not objective.is_plain:
        what = "a utility" if objective.alpha_right is None else "alpha_right"
        raise InputError("true_positive", given, f"1 with false_positive 0 beside {what}, which counts right answers")
    if not all(np.all(np.isin(problem.reward, (0.0, 1.0))) for problem in problems):
        raise InputError("true_positive", given, "1 with false_positive 0 where rewards are not 0 and 1")


def verified(problem: Problem, verifier: tuple[float, float]) -> Problem:
    """Return a problem with the reward that a verifier gives in the mean, f + (t - f) r (T20)."""
    if verifier == (1.0, 0.0):
        return problem
    true, false = verifier
    return Problem.from_log(problem.log_base, false + (true - false) * problem.reward, problem.length)


def setting(
    objective: Objective,
    prompts: Problem | list[Problem],
    step_size: float,
    *,
    weights: FloatArray | None = None,
    reward_noise: float = 0.0,
    base_noise: float = 0.0,
    verifier: tuple[float, float] = (1.0, 0.0),
) -> Setting:
    """Return the setting of an objective on one prompt, or on several with equally many outcomes.

    Args:
        objective: What is maximised, in expectation over prompts.
        prompts: The outcomes of each prompt.
        step_size: eta.
        weights: Of the prompts, shape [P]; equal if not given.
        reward_noise: See :class:`Setting`.
        base_noise: See :class:`Setting`.
        verifier: True and false positive rates (t, f).

    Raises:
        InputError: an outcome lies outside its base's support (no policy ever gives it mass: leave it out), rewards are
            noisy with an exponent of right answers or a utility, a utility has no meaning on these prompts, or see
            :func:`check_size` and :func:`check_verifier`.
    """
    problems = [prompts] if isinstance(prompts, Problem) else prompts
    if not all(np.all(problem.support) for problem in problems):
        raise InputError("base", 0.0, "probabilities > 0")
    check_size(objective, problems, step_size)
    check_verifier(objective, problems, verifier)
    end_slope = end_slopes(objective, problems)
    if objective.utility != "identity":
        if reward_noise:
            raise InputError(
                "reward_noise", reward_noise, f"0 with utility {objective.utility}, which counts right answers"
            )
        objective = objective.model_copy(update={"utility": "identity"})  # learners multiply the reward by its slope
    reward, log_base, length = (
        np.stack([getattr(problem, name) for problem in problems]) for name in ("reward", "log_base", "length")
    )
    on = np.zeros_like(reward)
    # The pseudo-reward is linear in (r, log p, log pi): each weight is its value with the other two at 0.
    on_reward, on_reference, on_policy = (
        objective.pseudo_reward(
            reward=on + (name == "reward"),
            ref_logprob=on + (name == "reference"),
            policy_logprob=on + (name == "policy"),
            length=length,
        )
        for name in ("reward", "reference", "policy")
    )
    if objective.alpha_right is not None:  # which of the two exponents an outcome has is known of each outcome
        if reward_noise:
            raise InputError("reward_noise", reward_noise, "0 with alpha_right, whose answers are right or not")
        on_reference = on_reference + objective.right_weight * reward * objective.score(np.ones_like(reward), length)
    every = objective.refresh_every
    return Setting(
        reward,
        log_base,
        length,
        np.full(len(problems), 1.0 / len(problems)) if weights is None else weights,
        on_reward,
        on_reference,
        on_policy,
        objective.coefficients.w_h,
        -1 if objective.reference == "policy" else every or 0,
        step_size,
        reward_noise,
        base_noise,
        end_slope,
        *verifier,
    )


def supported(problem: Problem) -> Problem:
    """Return a problem without what its base excludes, which never enters: the simplex's faces are invariant."""
    live = problem.support
    return Problem.from_log(problem.log_base[live], problem.reward[live], problem.length[live])
