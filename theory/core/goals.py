"""Reward and score of the outcomes as goals to be traded: their combinations, who leads in them, what that costs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import Objective, functional
from sharpen.theory.core import backend
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import TIE_TOLERANCE, top_face


class Goals(NamedTuple):
    """What is traded against each other, shapes [n]: r and s, 0 outside the base's support."""

    reward: FloatArray
    score: FloatArray

    def combined(self, w_r: float, w_s: float) -> FloatArray:
        """Return f = w_r r + w_s s."""
        if w_s == 0.0:
            return w_r * self.reward
        return w_s * self.score if w_r == 0.0 else w_r * self.reward + w_s * self.score

    def face(self, problem: Problem, f: FloatArray, w_r: float, w_s: float) -> NDArray[np.intp]:
        """Return the outcomes of the problem's support whose f ties for the highest (`sharpen.theory.core.ties`)."""
        level = f if problem.support.all() else np.where(problem.support, f, -np.inf)
        of_reward = abs(w_r) * float(np.abs(self.reward).max())
        widest = of_reward + abs(w_s) * float(np.abs(self.score).max())
        near = np.flatnonzero(level >= level.max() - TIE_TOLERANCE * widest)  # who may tie: mostly few
        return near[top_face(level[near], of_reward + abs(w_s) * np.abs(self.score[near]))]


def goals_of(objective: Objective, problem: Problem) -> Goals:
    """Return the goals of a problem; of the objective only its length normalisation is read."""
    log_p = np.where(problem.support, problem.log_base, 0.0)
    reward = np.where(problem.support, problem.reward, 0.0)
    return Goals(reward, functional.score(log_p, problem.length, objective.length_exponent))


def spread_of(problem: Problem, x: FloatArray) -> float:
    """Return the standard deviation of x under the base, or its range where that underflows; 1 if x is constant."""
    away = x - float(problem.base @ x)
    deviation = math.sqrt(float(problem.base @ (away * away)))
    return deviation or float(np.ptp(x[problem.support])) or 1.0


def conditioned(problem: Problem, face: NDArray[np.intp]) -> FloatArray:
    """Return the log-probabilities of the base conditioned on the outcomes ``face``, shape [n]."""
    out = np.full(problem.n, -np.inf)
    out[face] = backend.gibbs(problem.log_base[face])
    return out


def reach(problem: Problem, face: NDArray[np.intp]) -> float:
    """Return -log p(face), which loses nothing where the rest is small."""
    inside = problem.log_base[face]
    top = float(inside.max())
    log_face = top + math.log(float(np.sum(np.exp(inside - top))))
    if log_face < -1.0:
        return -log_face
    rest = problem.log_base.copy()
    rest[face] = -np.inf
    return math.log1p(float(np.sum(np.exp(rest - log_face))))
