"""Sharpening the answer's likelihood instead of the sequence's: the likeliest sequence may give a rare answer.

An answer a collects the mass p(a) = sum of p(x) over the sequences x that end in it. Sharpening sequences, p(x)^alpha,
follows the likeliest sequence; a vote follows the likeliest answer. The objective that sharpens the answer keeps the
KL pair of the sequence and takes the extra likelihood of the answer,

    J(pi) = w_r E[r] + (w_p - w_h) E[log p(a(x))] + w_h E[log p(x) - log pi(x)],

whose optimum for w_r = 0, w_h = 1, w_p = alpha is pi*(x) = p(x | a) p(a)^alpha / Z: within an answer the base's own
sequences, between answers the sharpened vote. A sequence without answer counts as an answer of its own, which nothing
agrees with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpen.objective import InputError, Objective
from sharpen.theory.core.backend import condition, gibbs
from sharpen.theory.core.flow import log_limit
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import own_scale, potential_scale, top_face
from sharpen.theory.optima.majority import answer_classes
from sharpen.theory.optima.optimum import optimum


@dataclass(frozen=True)
class ModeConflict:
    """The two modes of a base policy.

    Attributes:
        sequence_modes: Outcomes tied for the largest p(x), ascending.
        sequence_answers: The answers they give (labels; -1 for none), ascending.
        answer_modes: Answers tied for the largest p(a), ascending; empty if no outcome has an answer.
        conflict: Whether no likeliest sequence gives a likeliest answer.
        sequence_reward: E[r] as alpha grows, sharpening sequences: the mean over the likeliest ones.
        answer_reward: E[r] as alpha grows, sharpening answers: E_p[r | a is likeliest].
    """

    sequence_modes: tuple[int, ...]
    sequence_answers: tuple[int, ...]
    answer_modes: tuple[int, ...]
    conflict: bool
    sequence_reward: float
    answer_reward: float


@dataclass(frozen=True, eq=False)
class SharpeningPair:
    """The optimum of one objective with the sequence's likelihood, and with the answer's.

    Attributes:
        sequence: Policy with the sequence's likelihood, shape [n].
        answer: Policy with the answer's likelihood, shape [n].
        base_reward: E_p[r], which is maj@1 of the base for 0/1 rewards.
        sequence_reward: E[r] of ``sequence``.
        answer_reward: E[r] of ``answer``.
    """

    sequence: FloatArray
    answer: FloatArray
    base_reward: float
    sequence_reward: float
    answer_reward: float


def answer_optimum(objective: Objective, problem: Problem, answers: ArrayLike) -> FloatArray:
    """Return the optimum of the objective that sharpens answers, not sequences: probabilities of shape [n].

    Without entropy it is the base conditioned on the outcomes of largest w_r r + w_p log p(a).

    Args:
        objective: With a frozen reference and no length normalisation (an answer has no length of its own).
        problem: n outcomes.
        answers: Answer of each outcome, whole numbers, shape [n]; -1 for none.

    Raises:
        InputError: the objective normalises by length or moves its reference, the answers do not fit, or the weights
            overflow.

    Example:
        >>> from sharpen.objective import preset
        >>> problem = Problem([0.4, 0.3, 0.3], [0, 1, 1])
        >>> answer_optimum(preset("tempered", alpha=2), problem, [0, 1, 1]).round(3).tolist()
        [0.308, 0.346, 0.346]
    """
    return np.exp(log_answer_optimum(objective, problem, answers))


def log_answer_optimum(objective: Objective, problem: Problem, answers: ArrayLike) -> FloatArray:
    """Return the logarithm of :func:`answer_optimum`, shape [n], minus infinity off its support and nowhere else."""
    if objective.length_exponent != 0.0:
        raise InputError("normalization", objective.normalization, "sum or none: an answer has no length")
    if objective.refresh_every is not None:
        raise InputError("reference", objective.reference, "frozen")
    log_answer = log_answer_mass(problem, answers)
    inside = problem.support
    w_h = objective.coefficients.w_h
    with np.errstate(over="ignore", invalid="ignore"):
        level = objective.potential(reward=problem.reward[inside], ref_logprob=log_answer[inside])
        level = level + w_h * (problem.log_base[inside] - log_answer[inside])  # the KL pair stays the sequence's
    if not np.all(np.isfinite(level)):
        raise InputError("alpha", objective.alpha, f"a number whose weights {objective.coefficients} do not overflow")
    log_policy = np.full(problem.n, -np.inf)
    if w_h > 0:
        log_policy[inside] = gibbs(level / w_h)
    else:
        with np.errstate(over="ignore"):
            face = top_face(level, potential_scale(objective, problem.reward[inside], log_answer[inside]))
        log_policy[inside] = condition(problem.log_base[inside], face)
    return log_policy


def compare_sharpening(objective: Objective, problem: Problem, answers: ArrayLike) -> SharpeningPair:
    """Return both optima of an objective and what they do to the expected reward.

    Raises:
        InputError: as :func:`answer_optimum`.
    """
    by_answer = answer_optimum(objective, problem, answers)
    by_sequence = optimum(objective, problem)
    return SharpeningPair(
        sequence=by_sequence.probabilities,
        answer=by_answer,
        base_reward=problem.expected_reward(problem.base),
        sequence_reward=by_sequence.expected_reward,
        answer_reward=problem.expected_reward(by_answer),
    )


def mode_conflict(problem: Problem, answers: ArrayLike) -> ModeConflict:
    """Return the likeliest sequences, the likeliest answers and whether they disagree.

    Args:
        problem: n outcomes.
        answers: Answer of each outcome, whole numbers, shape [n]; -1 for none.

    Raises:
        InputError: the answers do not fit.

    Example:
        >>> found = mode_conflict(Problem([0.4, 0.3, 0.3], [0, 1, 1]), [0, 1, 1])
        >>> found.sequence_answers, found.answer_modes, found.conflict, found.sequence_reward, found.answer_reward
        ((0,), (1,), True, 0.0, 1.0)
    """
    classes, _ = answer_classes(answers, problem.n)
    labels = np.asarray(answers, dtype=np.int64)
    inside = np.flatnonzero(problem.support)
    modes = np.flatnonzero(top_face(problem.log_base, own_scale(problem.log_base)))
    answer_modes: tuple[int, ...] = ()
    if np.any(classes[inside] >= 0):
        log_mass = np.where(classes >= 0, log_answer_mass(problem, answers), -np.inf)
        likeliest = top_face(log_mass, own_scale(log_mass))
        answer_modes = tuple(sorted(set(labels[likeliest].tolist())))
    given = tuple(sorted(set(labels[modes].tolist())))
    sharp = Objective(alpha=1.0, beta_inv=0.0, mode="optimization")
    return ModeConflict(
        sequence_modes=tuple(modes.tolist()),
        sequence_answers=given,
        answer_modes=answer_modes,
        conflict=not set(given) & set(answer_modes),
        sequence_reward=problem.expected_reward(np.exp(log_limit(sharp, problem, problem.base))),
        answer_reward=problem.expected_reward(answer_optimum(sharp, problem, answers)),
    )


def log_answer_mass(problem: Problem, answers: ArrayLike) -> FloatArray:
    """Return log p(a(x)) of every outcome in nats, shape [n]; log p(x) where there is no answer.

    Raises:
        InputError: the answers are not n whole numbers >= -1.
    """
    classes, count = answer_classes(answers, problem.n)
    answered = (classes >= 0) & problem.support
    top = np.full(count, -np.inf)
    np.maximum.at(top, classes[answered], problem.log_base[answered])
    total = np.zeros(count)
    np.add.at(total, classes[answered], np.exp(problem.log_base[answered] - top[classes[answered]]))
    log_answer = problem.log_base.copy()
    log_answer[answered] = (top + np.log(total, out=np.zeros(count), where=total > 0))[classes[answered]]
    return log_answer
