"""Best-of-N: the exact law of the winner of N samples, its KL to the base, and other policies at the same KL.

N samples of p are drawn and the one with the highest score is kept, ties broken uniformly among the drawn maxima. The
highest score is s with probability F(s)^N - F(s-)^N, F the distribution of the score. Given that, each drawn maximum is
a draw of p conditioned on the tie class C of s, so by symmetry the kept one is too:

    pi(x) = p(x) / P(C) (F(s)^N - F(s-)^N).

The law is a policy for every real N >= 1, which lets N be chosen to meet a KL. Its KL to the base is at most
log N - (N - 1)/N, with equality for scores without ties in the limit of many outcomes (the quantile of the score is
then uniform, and the KL of the maximum of N uniforms is that number; classes only coarsen it).

Sharpening facts of Huang et al. 2024: with coverage coefficient C = E[1/p(modes)], N = C log(1/delta) samples contain a
mode but for a probability delta, and maximising E[log p] - beta KL(pi || p) gives p^(1 + 1/beta).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sharpen.objective import InputError
from sharpen.theory.core.change import kl_to_base, tilted
from sharpen.theory.core.frames import Named
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import own_scale, reward_scale, tie_groups, top_face
from sharpen.theory.optima.marginal import log_answer_mass

LOG_HALF = math.log(0.5)
REACHED = 1e-9  # a KL closer than this to its supremum, relatively, is met by no finite parameter that is resolved
DOUBLINGS = 1000
LOG_TINY = math.log(1e-290)  # of a share that may underflow


def best_of_n(problem: Problem, n_samples: float, score: ArrayLike | None = None) -> FloatArray:
    """Return the distribution of best-of-N, the likeliest of N samples: probabilities of shape [n].

    Args:
        problem: n outcomes with base p.
        n_samples: N, a real number >= 1; whole numbers are counts of samples, others interpolate the formula.
        score: What is maximised, finite, shape [n]; log p if not given. Ties are those of
            `sharpen.theory.core.ties`, a score's scale being its own magnitude.

    Raises:
        InputError: N is below 1 or not finite, or the scores are not n finite numbers.

    Example:
        >>> best_of_n(Problem([0.5, 0.25, 0.25], [0, 1, 0]), 2).round(6).tolist()
        [0.75, 0.125, 0.125]
    """
    return np.exp(log_best_of_n(problem, n_samples, score))


def log_best_of_n(problem: Problem, n_samples: float, score: ArrayLike | None = None) -> FloatArray:
    """Return the logarithm of :func:`best_of_n`, shape [n], also where the probability underflows."""
    ranked = _ranking(problem, score)
    return problem.log_base + _change(problem, ranked, _samples(n_samples) - 1.0)


def best_of_n_kl(problem: Problem, n_samples: float, score: ArrayLike | None = None) -> float:
    """Return KL(best-of-N || base) in nats, exactly: sum over tie classes of W log(W / P), W = F(s)^N - F(s-)^N.

    Raises:
        InputError: as :func:`best_of_n`.

    Example:
        >>> round(best_of_n_kl(Problem([0.5, 0.5], [0, 1]), 2, [0, 1]), 4)
        0.1308
    """
    ranked = _ranking(problem, score)
    return kl_to_base(ranked.log_class, _log_gain(ranked, _samples(n_samples) - 1.0))


def kl_bound(n_samples: float) -> float:
    """Return log N - (N - 1)/N, which no best-of-N exceeds in KL to its base, for real N >= 1.

    Raises:
        InputError: N is below 1 or not finite.
    """
    count = _samples(n_samples)
    return math.log(count) - (count - 1.0) / count


def coverage_coefficient(problems: Sequence[Problem], weights: ArrayLike | None = None) -> float:
    """Return E[1 / p(modes)], the weighted mean over prompts of one over the mass of the likeliest outcomes.

    Raises:
        InputError: there is no problem, or the weights are not one finite number >= 0 each, with a sum > 0.

    Example:
        >>> coverage_coefficient([Problem([0.5, 0.25, 0.25], [0, 1, 0])])
        2.0
    """
    share = np.ones(len(problems)) if weights is None else np.asarray(weights, dtype=np.float64)
    if (
        not problems
        or share.shape != (len(problems),)
        or not np.all((share >= 0) & (share < np.inf))
        or not share.any()
    ):
        raise InputError("weights", weights, "one finite number >= 0 for each of at least one prompt, not all 0")
    inverse = [math.exp(-_log_top(problem, problem.log_base, own_scale)) for problem in problems]
    return float(share @ inverse / share.sum())


def samples_to_cover(problem: Problem, delta: float) -> int:
    """Return the least N for which N samples contain a likeliest outcome with probability at least 1 - delta.

    Raises:
        InputError: delta is not in (0, 1).

    Example:
        >>> samples_to_cover(Problem([0.5, 0.25, 0.25], [0, 1, 0]), 0.01)
        7
    """
    if not 0.0 < delta < 1.0:
        raise InputError("delta", delta, "a number between 0 and 1")
    mass = math.exp(_log_top(problem, problem.log_base, own_scale))
    return 1 if mass >= 1.0 else max(1, math.ceil(math.log(delta) / math.log1p(-mass)))


def regularised_alpha(beta: float) -> float:
    """Return alpha = 1 + 1/beta, for which p^alpha maximises E[log p] - beta KL(pi || p).

    Raises:
        InputError: beta is not a finite number > 0.
    """
    if not 0.0 < beta < math.inf:
        raise InputError("beta", beta, "a finite number > 0")
    return 1.0 + 1.0 / beta


@dataclass(frozen=True, eq=False)
class EqualKl:
    """One policy at a given KL to the base.

    Attributes:
        parameter: alpha of ``power`` and ``answer-power``, N of ``best-of-n``, beta_inv of ``tilt``.
        kl: KL(policy || base), nats.
        expected_reward: E[r].
        entropy: H, nats.
        log_likelihood: E[log p], nats.
        probabilities: The policy, shape [n].
    """

    parameter: float
    kl: float
    expected_reward: float
    entropy: float
    log_likelihood: float
    probabilities: FloatArray

    def row(self) -> dict[str, float]:
        """Return all but the policy, as a row of a table."""
        names = ("parameter", "kl", "expected_reward", "entropy", "log_likelihood")
        return {name: getattr(self, name) for name in names}


def compare_at_equal_kl(
    problem: Problem, kl: float, answers: ArrayLike | None = None, with_best_of_n: bool = True
) -> Named[EqualKl | None]:
    """Return the members of three families, or four, at the same KL to the base.

    ``power`` is p^alpha with alpha >= 1, ``best-of-n`` keeps the likeliest of N samples (N real, see the module),
    ``tilt`` is p exp(beta_inv r), the policy of largest E[r] at its KL. In each family the KL grows from 0 with the
    parameter, towards -log p(likeliest outcomes) in the first two and -log p(outcomes of highest reward) in the last.
    With answers also ``answer-power``, p(x | a) p(a)^alpha (`sharpen.theory.optima.marginal`), which sharpens the vote;
    its KL is that of the answers' law, of exponents alpha, and grows towards -log p(likeliest answers).

    Args:
        problem: n outcomes.
        kl: KL to the base in nats, >= 0.
        answers: Answer of each outcome, whole numbers, shape [n]; -1 for none.
        with_best_of_n: Whether to solve for N, which sorts the outcomes.

    Returns:
        For each name the policy, or None if the family does not reach the KL.

    Raises:
        InputError: the KL is negative or not finite, or the answers do not fit.

    Example:
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> rows = compare_at_equal_kl(DEFAULT_PROBLEM, 0.2)
        >>> [(name, round(row.expected_reward, 3)) for name, row in rows.items() if row]
        [('power', 0.249), ('best-of-n', 0.262), ('tilt', 0.682)]
    """
    if not 0.0 <= kl < math.inf:
        raise InputError("kl", kl, "a finite number >= 0")

    def tilt_by(level: FloatArray) -> Callable[[float], FloatArray]:
        return lambda step: tilted(problem.log_base, step * np.where(problem.support, level, 0.0))

    ranked = _ranking(problem, None) if with_best_of_n else None

    def best(step: float) -> FloatArray:
        assert ranked is not None  # only called then
        return _change(problem, ranked, step)

    most_likelihood = -_log_top(problem, problem.log_base, own_scale)
    most_reward = -_log_top(problem, problem.reward, reward_scale)
    found: Named[EqualKl | None] = Named()
    found |= {
        "power": _at_kl(problem, kl, most_likelihood, tilt_by(problem.log_base), 1.0),
        "best-of-n": _at_kl(problem, kl, most_likelihood, best, 1.0) if with_best_of_n else None,
        "tilt": _at_kl(problem, kl, most_reward, tilt_by(problem.reward), 0.0),
    }
    if answers is not None:
        log_answer = log_answer_mass(problem, answers)
        found["answer-power"] = _at_kl(problem, kl, -_log_top(problem, log_answer, own_scale), tilt_by(log_answer), 1.0)
    return found


def _at_kl(
    problem: Problem, kl: float, most: float, family: Callable[[float], FloatArray], start: float
) -> EqualKl | None:
    """Return the member of the family with this KL.

    The family gives log(pi / p) by the step from its parameter ``start``, where the KL is 0; it grows to ``most``.
    """
    from scipy.optimize import brentq

    def excess(step: float) -> float:
        return kl_to_base(problem.log_base, family(step)) - kl

    if kl == 0.0:
        return _row(problem, start, family(0.0))
    if kl >= most * (1.0 - REACHED):
        return None
    wide = 1.0
    for _ in range(DOUBLINGS):
        if excess(wide) >= 0.0:
            break
        wide *= 2.0
    else:
        return None
    step = float(brentq(excess, 0.0, wide, xtol=1e-300, rtol=8.9e-16, maxiter=2000))  # type: ignore[arg-type]
    return _row(problem, start + step, family(step))


def _row(problem: Problem, parameter: float, change: FloatArray) -> EqualKl:
    log_policy = problem.log_base + change
    kept = log_policy > -np.inf
    pi = np.exp(log_policy)
    return EqualKl(
        parameter=parameter,
        kl=kl_to_base(problem.log_base, change),
        expected_reward=problem.expected_reward(pi),
        entropy=float(-pi[kept] @ log_policy[kept]),
        log_likelihood=float(pi[kept] @ problem.log_base[kept]),
        probabilities=pi,
    )


def _samples(n_samples: float) -> float:
    if isinstance(n_samples, bool) or not 1.0 <= n_samples < math.inf:
        raise InputError("best-of", n_samples, "a finite number of samples >= 1")
    return float(n_samples)


def _log_top(problem: Problem, level: FloatArray, scale: Callable[[FloatArray], FloatArray]) -> float:
    """Return the log of the base's mass on the outcomes of its support that are tied for the highest level."""
    inside = np.flatnonzero(problem.support)
    top = top_face(level[inside], scale(level[inside]))
    return float(min(0.0, np.logaddexp.reduce(problem.log_base[inside[top]])))


class _Ranking(NamedTuple):
    """The outcomes of the base's support by falling score, in tie classes.

    Attributes:
        order: Indices of the outcomes, best first, shape [m].
        size: Outcomes in each class, shape [classes].
        log_class: log P of each class under the base.
        log_f: log F(s), the base's mass with this score or a lower one.
        log_ratio: log F(s-) / F(s).
        log_share: log P / F(s).
    """

    order: np.ndarray
    size: np.ndarray
    log_class: FloatArray
    log_f: FloatArray
    log_ratio: FloatArray
    log_share: FloatArray


def _ranking(problem: Problem, score: ArrayLike | None) -> _Ranking:
    inside = np.flatnonzero(problem.support)
    level = problem.log_base if score is None else np.asarray(score, dtype=np.float64)
    if level.shape != (problem.n,) or not np.all(np.isfinite(level[inside])):
        raise InputError("score", score, f"{problem.n} finite numbers")
    order, starts = tie_groups(level[inside], own_scale(level[inside]))
    order = inside[order]
    log_class = np.logaddexp.reduceat(problem.log_base[order], starts)
    log_upto = np.logaddexp.accumulate(log_class[::-1])[::-1]  # log F(s), summed from the bottom
    log_above = np.concatenate([[-np.inf], np.logaddexp.accumulate(log_class)[:-1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        # Near 1 F is one less what lies above it, which keeps N log F right for large N.
        log_f = np.where(log_upto > LOG_HALF, np.log1p(-np.exp(np.minimum(log_above, 0.0))), log_upto)
        log_share = np.minimum(log_class - log_upto, 0.0)
        share = np.exp(log_share)
        log_ratio = np.where(share < 0.5, np.log1p(-share), np.append(log_f[1:], -np.inf) - log_f)
    log_ratio[-1] = -np.inf
    return _Ranking(order, np.diff(np.append(starts, order.size)), log_class, log_f, log_ratio, log_share)


def _log_gain(ranked: _Ranking, step: float) -> FloatArray:
    """Return log(W / P) of every class, W = F(s)^N - F(s-)^N, for N = 1 + step; 0 at step 0.

    With rho = F(s-) / F(s) and share = P / F(s) = 1 - rho it is step log F(s) + log(1 + rho (1 - rho^step) / share).
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        lost = np.where(ranked.log_ratio > -np.inf, -np.expm1(step * ranked.log_ratio), float(step > 0.0))
        some = np.exp(ranked.log_ratio - ranked.log_share) * lost
        # 1 - rho^step is step share in every digit where the share is so small that it may underflow.
        some = np.where(ranked.log_share > LOG_TINY, some, step)
    return step * ranked.log_f + np.log1p(some)


def _change(problem: Problem, ranked: _Ranking, step: float) -> FloatArray:
    """Return log(pi / p) of best-of-N for N = 1 + step, shape [n]; 0 outside the base's support."""
    out = np.zeros(problem.n)
    out[ranked.order] = np.repeat(_log_gain(ranked, step), ranked.size)
    return out
