"""The Gibbs policy of many outcomes with its numbers: one exponential an outcome, and temporaries of one block only.

A block of outcomes is summed while it is in the processor's cache: with levels l_i and the highest of them l_b, the
sums of e_i, e_i r_i, e_i (l_i - l_b) and e_i log p_i, where e_i = exp(l_i - l_b). Let l* be the highest level of all,
x_i = l_i - l* and Z = sum exp(x_i). Then the blocks' sums say

    H = log Z - E[x],    KL(pi || p) = -H - E[log p],    J = w_h (l* + log Z),

the last because J of the Gibbs policy is w_h times the logarithm of its normaliser. The terms of H have one sign. Those
of the KL have not: where it is small beside them it is summed again, from `sharpen.theory.core.change`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sharpen.objective import InputError, Objective
from sharpen.theory.core import backend
from sharpen.theory.core.backend import Summary
from sharpen.theory.core.change import CANCELLED, kl_to_base
from sharpen.theory.core.problem import FloatArray, Problem


class _Sums(NamedTuple):
    """Of one block, or of all: the highest level, and the sums of exp(l - top) times 1, r, l - top and log p."""

    top: float
    mass: float
    reward: float
    level: float
    log_p: float


def gibbs(objective: Objective, problem: Problem) -> tuple[FloatArray, Summary]:
    """Return log pi*, shape [n], of an objective with entropy and a frozen reference, and J, E[r], H and KL there.

    Beyond the vector that is returned the memory is that of a block of outcomes.

    Raises:
        InputError: the potential is not finite on the base's support.
    """
    log_policy = np.empty(problem.n)
    found = _merged([_block(objective, problem, at, log_policy) for at in backend.blocks(log_policy)])
    log_mass = math.log(found.mass)
    for at in backend.blocks(log_policy):
        level = log_policy[at]
        level -= found.top
        level -= log_mass
    reward, level, log_p = found.reward / found.mass, found.level / found.mass, found.log_p / found.mass
    entropy = log_mass - level
    kl = -entropy - log_p
    if kl < CANCELLED * (entropy + abs(log_p)):
        kl = math.fsum(_kl(problem.log_base[at], log_policy[at]) for at in backend.blocks(log_policy))
    return log_policy, Summary(objective.coefficients.w_h * (found.top + log_mass), reward, entropy, kl)


def _block(objective: Objective, problem: Problem, at: slice, out: FloatArray) -> _Sums | None:
    """Write the levels of a block into ``out`` and return its sums, None if the base has nothing there."""
    log_p, reward = problem.log_base[at], problem.reward[at]
    with np.errstate(over="ignore", invalid="ignore"):
        if log_p.min() > -np.inf:
            inside: slice | np.ndarray = slice(None)
            level = backend.inner_level(objective, reward, log_p, problem.length[at])
        else:
            inside = log_p > -np.inf
            level = backend.level(objective, reward, log_p, problem.length[at])
    out[at] = level
    x, r, log_p = level[inside], reward[inside], log_p[inside]
    if not x.size:
        return None
    top = float(x.max())
    if not (math.isfinite(top) and x.min() > -np.inf):
        raise InputError("alpha", objective.alpha, f"a number whose weights {objective.coefficients} do not overflow")
    x = x - top
    mass = np.exp(x)
    return _Sums(top, float(mass.sum()), float(mass @ r), float(mass @ x), float(mass @ log_p))


def _merged(blocks: list[_Sums | None]) -> _Sums:
    top, mass, reward, level, log_p = np.array([block for block in blocks if block is not None]).T
    highest = float(top.max())
    below = top - highest
    scale = np.exp(below)
    level = level + mass * below
    return _Sums(highest, *(float(scale @ sums) for sums in (mass, reward, level, log_p)))


def _kl(log_base: FloatArray, log_policy: FloatArray) -> float:
    """Return the part of KL(pi || p) that is a block's, by the change from p to pi."""
    with np.errstate(invalid="ignore"):  # where both are 0, which is not read
        return kl_to_base(log_base, log_policy - log_base)
