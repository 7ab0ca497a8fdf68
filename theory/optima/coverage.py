"""pass@k and maj@k of policies on one prompt or a mix of prompts, in closed form, and where the base overtakes.

With success probability q a prompt's pass@k is 1 - (1 - q)^k; maj@k is the probability that the answer with most of k
votes is correct (`sharpen.theory.optima.majority`). Over a mix of prompts both are weighted means. A sharpened policy
is better at k = 1 wherever likelihood and correctness agree, but the mean of (1 - q)^k at large k belongs to the
prompts with the smallest q, and those are the ones that sharpening makes smaller: the base overtakes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpen.objective import InputError
from sharpen.objective.storage.parsing import NUMBERS
from sharpen.objective.storage.reading import read_json
from sharpen.theory.core.frames import table
from sharpen.theory.core.problem import FloatArray, Problem, parse_problem
from sharpen.theory.optima.majority import (
    IntArray,
    answer_classes,
    answer_probabilities,
    whole_number,
    winner_probabilities,
)

if TYPE_CHECKING:
    from pandas import DataFrame

K_MAX = 10**6
LEAF = 1024  # values of k that are evaluated together once bounds cannot exclude them
MOST_LEAVES = 5000  # of them, about ten seconds with a thousand prompts; up to K_MAX there are a thousand
ROUNDING = 8 * np.finfo(float).eps
LINEAR = math.log(1e-280)  # below, k q for k <= 2^53 is 1 - (1 - q)^k in every digit
CORRECT_ABOVE = 0.5
MIX_KEYS = ("base", "reward", "length", "answers", "weight")


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt of a mix: a problem, the answer that each outcome gives, and a weight.

    Attributes:
        problem: Its n outcomes; an outcome is correct when its reward is above 0.5.
        answers: Answer of each outcome, shape [n], -1 for none; None: every outcome is an answer of its own.
        weight: Its share of the mix, finite and > 0; shares are divided by their sum.

    Raises:
        InputError: the answers do not fit, some answer is correct in one outcome and wrong in another, an outcome
            without an answer is correct, or the weight is not a finite number > 0.
    """

    problem: Problem
    answers: ArrayLike | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise InputError("weight", self.weight, "a finite number > 0")
        classes, count = self.classes
        right = np.bincount(classes + 1, weights=self.correct, minlength=count + 1)
        if right[0] > 0 or np.any((right > 0) & (right < np.bincount(classes + 1, minlength=count + 1))):
            raise InputError(
                "answers", self.answers, "answers whose outcomes are all correct or all wrong; none (-1) is wrong"
            )

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Mask of the correct outcomes, shape [n]."""
        return self.problem.reward > CORRECT_ABOVE

    @property
    def labels(self) -> IntArray:
        """The answers, shape [n], with every outcome's own number where none were given."""
        given = np.arange(self.problem.n) if self.answers is None else self.answers
        return np.asarray(given, dtype=np.int64)

    @property
    def classes(self) -> tuple[IntArray, int]:
        """Answer class of each outcome, shape [n], and the number of answers."""
        return answer_classes(self.answers, self.problem.n)

    def success(self, policy: ArrayLike) -> float:
        """Return the probability that one sample of a policy, shape [n], is correct."""
        return min(1.0, math.fsum(np.asarray(policy, dtype=np.float64)[self.correct]))

    def majority(self, policy: ArrayLike, k: int) -> float:
        """Return maj@k of a policy, shape [n]: the probability that the vote of k samples is correct.

        Raises:
            InputError: k is no whole number >= 1, or too many answers for so many votes.
        """
        classes, count = self.classes
        right = np.zeros(count, dtype=bool)
        right[classes[self.correct]] = True
        wins = winner_probabilities(answer_probabilities(policy, classes, count), k)
        return min(1.0, math.fsum(wins[right]))


@dataclass(frozen=True, eq=False)
class Coverage:
    """pass@k and maj@k of one policy on a mix of prompts.

    Attributes:
        k: Numbers of samples, shape [K].
        pass_at_k: Weighted mean over prompts, shape [K].
        maj_at_k: The same of the plurality vote, shape [K]; None if it was not asked for.
        success: pass@1 of each prompt, shape [P].
    """

    k: IntArray
    pass_at_k: FloatArray
    maj_at_k: FloatArray | None
    success: FloatArray

    def frame(self) -> DataFrame:
        """Return one row per number of samples: k, pass_at_k and, if it was computed, maj_at_k."""
        return table({"k": self.k, "pass_at_k": self.pass_at_k, "maj_at_k": self.maj_at_k})


def pass_at_k(success: ArrayLike, k: ArrayLike) -> FloatArray:
    """Return 1 - (1 - q)^k, with full relative accuracy also for tiny q; the arguments broadcast.

    Args:
        success: q, probabilities of success of one sample.
        k: Numbers of samples, whole numbers >= 1.

    Raises:
        InputError: an entry is out of range.

    Example:
        >>> pass_at_k([0.5, 1e-20], 2).tolist()
        [0.75, 2e-20]
    """
    q = _shares(success, "success")
    counts = np.asarray(k, dtype=np.float64)
    if not np.all((counts >= 1) & (counts == np.floor(counts)) & (counts < np.inf)):
        raise InputError("k", k, "whole numbers >= 1")
    return -np.expm1(counts * _log_failure(q))


def coverage(
    prompts: Sequence[Prompt], policies: Sequence[ArrayLike], ks: Sequence[int], majority: bool = True
) -> Coverage:
    """Return pass@k and maj@k of one policy per prompt, averaged over the mix.

    Args:
        prompts: P prompts.
        policies: One policy for each, shapes [n_p].
        ks: Numbers of samples.
        majority: Whether to compute maj@k, which costs more (see `sharpen.theory.optima.majority`).

    Raises:
        InputError: there is no prompt, a k is no whole number >= 1, or a vote is too large to count.

    Example:
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> coverage([Prompt(DEFAULT_PROBLEM)], [DEFAULT_PROBLEM.base], [1, 2]).pass_at_k.round(4).tolist()
        [0.37, 0.6031]
    """
    counts = [whole_number(k, "k") for k in ks]
    weights = mix_weights(prompts)
    pairs = list(zip(prompts, policies, strict=True))
    success = np.array([prompt.success(policy) for prompt, policy in pairs])
    votes = None
    if majority:
        votes = np.array([weights @ [prompt.majority(policy, k) for prompt, policy in pairs] for k in counts])
    passed = weights @ pass_at_k(success[:, None], np.array(counts)[None, :])
    return Coverage(np.array(counts, dtype=np.int64), passed, votes, success)


def mix_weights(prompts: Sequence[Prompt]) -> FloatArray:
    """Return the shares of the prompts, shape [P], of sum 1.

    Raises:
        InputError: there is no prompt.
    """
    if not prompts:
        raise InputError("prompts", "none", "at least one prompt")
    weights = np.array([prompt.weight for prompt in prompts])
    return weights / weights.max() / math.fsum(weights / weights.max())


class LogRates(NamedTuple):
    """How often one sample of a policy is correct, and how often it is not.

    Attributes:
        success: log q of each prompt, shape [P], nats; minus infinity for 0.
        failure: log (1 - q), shape [P]: what is left of q where it rounds to 1.
    """

    success: FloatArray
    failure: FloatArray


def log_rates(prompts: Sequence[Prompt], log_policies: Sequence[ArrayLike]) -> LogRates:
    """Return the rates of one policy per prompt, given as log-probabilities, shapes [n_p].

    Both logarithms keep their relative accuracy, however near q is to 0 or to 1.

    Example:
        >>> prompt = Prompt(Problem.from_log([0.0, -1000.0], [1, 0]))
        >>> log_rates([prompt], [prompt.problem.log_base])
        LogRates(success=array([0.]), failure=array([-1000.]))
    """
    pairs = list(zip(prompts, log_policies, strict=True))
    return LogRates(
        *np.array([_two_logs(prompt.correct, np.asarray(policy)) for prompt, policy in pairs]).T + 0.0
    )  # no -0


def _two_logs(correct: NDArray[np.bool_], log_policy: FloatArray) -> tuple[float, float]:
    right, wrong = (
        min(0.0, float(np.logaddexp.reduce(log_policy[mask], initial=-np.inf))) for mask in (correct, ~correct)
    )
    if right > wrong:  # the smaller one is exact, the larger one its complement
        return float(np.log1p(-np.exp(wrong))), wrong
    return right, float(np.log1p(-np.exp(right)))


def crossover(
    base_success: ArrayLike, other_success: ArrayLike, weights: ArrayLike | None = None, k_max: int = K_MAX
) -> int | None:
    """Return the smallest k <= k_max at which the base's pass@k exceeds the other policy's, or None.

    The mix's difference D(k) = sum_j w_j (b_j^k - o_j^k) of failure probabilities b, o may change its sign several
    times, so no bisection on k is safe. Each term is monotone or has one extremum, known in closed form, which bounds D
    from below on any range of k; ranges that the bound excludes are skipped and the others are halved, down to 1024
    values, which are all evaluated. A difference within its rounding error counts as none.

    Args:
        base_success: Success probabilities of one sample of the base, shape [P].
        other_success: The same of the other policy, shape [P].
        weights: Shares of the prompts, shape [P], >= 0; equal if not given.
        k_max: Largest k to look at.

    Raises:
        InputError: shapes differ, an entry is out of range, or k_max is too large for rates so nearly equal.

    Example:
        >>> crossover([0.3, 0.01], [0.6, 0.001])
        8
    """
    base, other = (
        _log_rates_of(_shares(given, name))
        for given, name in ((base_success, "base_success"), (other_success, "other_success"))
    )
    return log_crossover(base, other, weights, k_max)


def log_crossover(base: LogRates, other: LogRates, weights: ArrayLike | None = None, k_max: int = K_MAX) -> int | None:
    """Return :func:`crossover` from logarithms, which also tell rates apart that round to 0 or to 1.

    Example:
        >>> tiny = [LogRates(np.array([x]), np.zeros(1)) for x in (-1000.0, -2000.0)]
        >>> log_crossover(*tiny)
        1
    """
    share = np.ones(base.failure.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if base.failure.ndim != 1 or not base.failure.size or not base.failure.shape == other.failure.shape == share.shape:
        raise InputError(
            "success", [base.failure.shape, other.failure.shape, share.shape], "lists of the same length >= 1"
        )
    if not np.all((share >= 0) & (share < np.inf)) or not share.any():
        raise InputError("weights", weights, "finite numbers >= 0, not all 0")
    last = whole_number(k_max, "k_max")
    apart = ((base.failure != other.failure) | (base.success != other.success)) & (share > 0)
    if not apart.any():
        return None
    share = share / share.max()
    success = np.stack([base.success[apart], other.success[apart]])
    if success.max() < LINEAR:  # pass@k is k q in every digit, and q may underflow
        gained, lost = np.exp(success - success.max())
        return 1 if math.fsum(share[apart] * (gained - lost)) > 0.0 else None
    apart &= base.failure != other.failure
    if not apart.any():
        return None
    gap = _Gap(share[apart], base.failure[apart], other.failure[apart])
    start = 1
    while start <= last:
        found = gap.first_negative(start, min(2 * start - 1, last))
        if found is not None:
            return found
        start *= 2
    return None


class _Gap:
    """D(k) = sum_j w_j (exp(k b_j) - exp(k o_j)) for logarithms b, o <= 0 of failure probabilities, b != o.

    Values are those of D(k) / exp(origin * slowest), with an origin <= k, so that large k do not underflow.
    """

    def __init__(self, weights: FloatArray, log_base: FloatArray, log_other: FloatArray) -> None:
        self.high, self.low = np.maximum(log_base, log_other)[:, None], np.minimum(log_base, log_other)[:, None]
        self.signed = (weights * np.sign(log_base - log_other))[:, None]
        self.slowest = float(self.high.max())
        apart = self.high - self.low
        with np.errstate(all="ignore"):  # a term without a turning point has b or o in {0, -inf}: no finite solution
            ratio = np.where(apart < -self.high, np.log1p(-apart / self.high), np.log(self.low / self.high))
            turn = ratio / apart
        self.turn = np.where(np.isfinite(turn), turn, 1.0)[:, 0]
        self.leaves = itertools.count()

    def terms(self, k: FloatArray, origin: float) -> FloatArray:
        """Return w (b^k - o^k) without cancellation, k broadcastable to [P, K], shape [P, K]."""
        return self.signed * np.exp(k * self.high - origin * self.slowest) * -np.expm1(k * (self.low - self.high))

    def rounding(self, k: FloatArray, origin: float) -> FloatArray:
        """Return a bound of the rounding error of D(k), shape [K]: of the exponents k b and k o, and of the sum."""
        weight = np.abs(self.signed) * np.exp(k * self.high - origin * self.slowest)
        fast = np.where(self.low > -np.inf, self.low, 0.0)  # a failure probability of 0 has no exponent to round
        slack = -self.high - fast * np.exp(k * (self.low - self.high))
        return ROUNDING * (np.abs(self.terms(k, origin)) + k * weight * slack).sum(axis=0)

    def first_negative(self, low: int, high: int) -> int | None:
        """Return the first k in low..high with D(k) < 0, or None."""
        ranges = [(low, high)]
        while ranges:
            low, high = ranges.pop()
            if self._bound(low, high) >= 0.0:
                continue
            if high - low >= LEAF:
                middle = (low + high) // 2
                ranges += [(middle + 1, high), (low, middle)]
                continue
            if next(self.leaves) >= MOST_LEAVES:
                raise InputError(
                    "k_max", high, "a smaller number: up to this one pass@k is too nearly equal to skip any k"
                )
            k = np.arange(low, high + 1, dtype=np.float64)
            negative = self.terms(k, low).sum(axis=0) < -self.rounding(k, low)
            if negative.any():
                return low + int(np.argmax(negative))
        return None

    def _bound(self, low: int, high: int) -> float:
        """Return the sum of every term's least value on [low, high], a lower bound of D there."""
        ends = np.broadcast_to(np.array([low, high], dtype=np.float64), (self.turn.size, 2))
        places = np.concatenate([ends, np.clip(self.turn, low, high)[:, None]], axis=1)
        return math.fsum(self.terms(places, low).min(axis=1))


def read_mix(path: str | Path) -> list[Prompt]:
    """Return the prompts in a JSON file: a list of objects, or an object with such a list under ``prompts``.

    Each object has ``base`` and ``reward`` and may have ``length``, ``answers`` and ``weight``. Base, reward and length
    are lists of numbers or texts in the command line's forms.

    Raises:
        InputError: the file cannot be read, or a prompt in it has no such form.
    """
    given = read_json(path, "mix", NUMBERS)
    items = given.get("prompts") if isinstance(given, dict) else given
    if not isinstance(items, list) or not items:
        raise InputError("mix", str(path), "a JSON list of prompts, or an object with one under 'prompts'")
    return [_prompt(item, index) for index, item in enumerate(items)]


def _prompt(item: Any, index: int) -> Prompt:
    name = f"mix, prompt {index}"
    if not isinstance(item, dict) or not set(item) <= set(MIX_KEYS) or not {"base", "reward"} <= set(item):
        raise InputError(name, item, f"an object with base, reward and optionally {', '.join(MIX_KEYS[2:])}")
    weight = item.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise InputError(name, weight, "a number as weight")
    try:
        problem = parse_problem(item["base"], item["reward"], item.get("length"))
        return Prompt(problem, item.get("answers"), float(weight))
    except InputError as error:
        raise InputError(f"{name}, {error.field}", error.value, error.allowed) from error
    except (TypeError, OverflowError) as error:
        raise InputError(name, item, "numbers in lists, or texts in the command line's forms") from error


def _shares(given: ArrayLike, name: str) -> FloatArray:
    try:
        q = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(name, given, "probabilities") from error
    if not np.all((q >= 0.0) & (q <= 1.0)):
        raise InputError(name, given, "probabilities from 0 to 1")
    return q


def _log_failure(success: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.log1p(-success)


def _log_rates_of(success: FloatArray) -> LogRates:
    with np.errstate(divide="ignore"):
        return LogRates(np.log(success), _log_failure(success))
