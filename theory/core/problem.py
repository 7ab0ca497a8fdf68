"""A finite problem: a base policy, a task reward and a length for each of n outcomes, and its forms as text.

Arrays are float64 NumPy arrays of shape [n], where n is the number of outcomes. Everything in `sharpen.theory` and
`sharpen.toy` starts from a :class:`Problem`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpen.objective import InputError
from sharpen.objective.storage.parsing import NUMBERS, reason
from sharpen.objective.storage.reading import read_json, read_npy, read_text
from sharpen.theory.core.frames import table

if TYPE_CHECKING:
    from pandas import DataFrame

FloatArray = NDArray[np.float64]

MAX_OUTCOMES = 10**7
SUM_TOLERANCE = 1e-6  # hand-rounded probabilities pass and are renormalised; a forgotten outcome does not
FILE_SUFFIXES = (".npy", ".json", ".csv")
NAMED_FORMS = "zipf:N, uniform:N, dirichlet:N:SEED"
BASE_FORMS = f"probabilities p1,p2,..., {NAMED_FORMS}, or a .npy, .json or .csv file"
LOG_PREFIX = "log:"  # before a list or a file of log-probabilities


@dataclass(frozen=True, eq=False, init=False)
class Problem:
    """n outcomes with base probabilities p, task rewards r and lengths |x|.

    The arrays are copied, checked and made read-only, so a problem can be shared.

    The field ``log_base`` holds log p in nats, shape [n], minus infinity where p is zero.

    Args:
        base: Reference probabilities p, shape [n]; non-negative, sum within 1e-6 of one, then divided by their sum.
        reward: Task rewards r, shape [n], finite.
        length: Lengths in tokens, shape [n], finite and at least 1; all 1 if not given.

    Raises:
        InputError: an array has the wrong shape or a value that is not allowed.

    Example:
        >>> problem = Problem([0.5, 0.3, 0.2], [0, 1, 0])
        >>> problem.n, problem.expected_reward(problem.base)
        (3, 0.3)
    """

    base: FloatArray
    log_base: FloatArray
    reward: FloatArray
    length: FloatArray

    def __init__(self, base: ArrayLike, reward: ArrayLike, length: ArrayLike | None = None) -> None:
        p = _vector(base, "base")
        if np.any(p < 0):
            raise InputError("base", float(p[p < 0][0]), "probabilities >= 0")
        total = math.fsum(p)
        if abs(total - 1.0) > SUM_TOLERANCE:
            raise InputError("base", total, f"probabilities whose sum is 1 (within {SUM_TOLERANCE:g})")
        p /= total
        self._fill(p, np.log(p, out=np.full(p.size, -np.inf), where=p > 0), reward, length)

    @classmethod
    def from_log(cls, log_base: ArrayLike, reward: ArrayLike, length: ArrayLike | None = None) -> Problem:
        """Return the problem with base log-probabilities ``log_base``, also where exp(log p) underflows to 0.

        Args:
            log_base: log p in nats, shape [n], minus infinity for outcomes outside the support; logsumexp within 1e-6
                of 0, then shifted to 0.
            reward: As in the constructor.
            length: As in the constructor.

        Raises:
            InputError: an array has the wrong shape or a value that is not allowed.

        Example:
            >>> problem = Problem.from_log([0.0, -1e6], [0, 1])
            >>> problem.base.tolist(), problem.support.tolist()
            ([1.0, 0.0], [True, True])
        """
        try:
            log_p = np.array(log_base, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError("log_base", log_base, "a list of real numbers") from error
        if log_p.ndim != 1 or not 1 <= log_p.size <= MAX_OUTCOMES or not np.max(log_p) < np.inf:
            raise InputError("log_base", f"shape {list(log_p.shape)}", f"1 to {MAX_OUTCOMES} log-probabilities, no NaN")
        with np.errstate(over="ignore"):
            total = float(np.log(np.sum(np.exp(log_p))))
        if abs(total) > SUM_TOLERANCE:
            raise InputError("log_base", total, f"log-probabilities whose logsumexp is 0 (within {SUM_TOLERANCE:g})")
        problem = cls.__new__(cls)
        problem._fill(np.exp(log_p - total), log_p - total, reward, length)
        return problem

    def _fill(self, base: FloatArray, log_base: FloatArray, reward: ArrayLike, length: ArrayLike | None) -> None:
        r = _sized(reward, "reward", base.size)
        lengths = np.ones(base.size) if length is None else _sized(length, "length", base.size)
        if np.any(lengths < 1):
            raise InputError("length", float(lengths[lengths < 1][0]), "lengths >= 1")
        for name, array in (("base", base), ("log_base", log_base), ("reward", r), ("length", lengths)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def n(self) -> int:
        """The number of outcomes."""
        return self.base.size

    @cached_property
    def support(self) -> NDArray[np.bool_]:
        """Mask of the outcomes that the base can produce, shape [n]."""
        return self.log_base > -np.inf

    def expected_reward(self, policy: ArrayLike) -> float:
        """Return E_pi[r] of a policy given as probabilities, shape [n]."""
        return float(np.dot(np.asarray(policy, dtype=np.float64), self.reward))

    def frame(self) -> DataFrame:
        """Return one row per outcome: outcome, base, log_base, reward and length."""
        names = ("base", "log_base", "reward", "length")
        return table({"outcome": np.arange(self.n), **{name: getattr(self, name) for name in names}})


def _vector(numbers: ArrayLike, name: str) -> FloatArray:
    try:
        array = np.array(numbers, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(name, numbers, "a list of real numbers") from error
    if array.ndim != 1 or not 1 <= array.size <= MAX_OUTCOMES:
        raise InputError(name, f"shape {list(array.shape)}", f"a list of 1 to {MAX_OUTCOMES} numbers")
    if not np.all(np.isfinite(array)):
        raise InputError(name, float(array[~np.isfinite(array)][0]), "finite numbers")
    return array


def _sized(numbers: ArrayLike, name: str, n: int) -> FloatArray:
    array = _vector(numbers, name)
    if array.size != n:
        raise InputError(name, f"{array.size} numbers", f"{n} numbers, one for each outcome of the base")
    return array


def parse_problem(
    base: str | ArrayLike | None = None,
    reward: str | ArrayLike | None = None,
    length: str | ArrayLike | None = None,
) -> Problem:
    """Return the problem that lists, arrays or the command line's texts describe.

    Args:
        base: Probabilities, shape [n]; or a text, see :func:`parse_base`; or ``log:`` and a comma list or a file of
            log-probabilities in nats (see :meth:`Problem.from_log`), which may underflow; without it the default
            problem's base.
        reward: Rewards, shape [n]; or a text, see :func:`parse_reward`; without it, as in the default problem, outcomes
            1 and 3 are the correct ones (those of them that the base has).
        length: Lengths, shape [n]; or a text, see :func:`parse_length`; all 1 if not given.

    Raises:
        InputError: a text cannot be read, or does not fit the base.

    Example:
        >>> parse_problem("uniform:4", "0").reward.tolist()
        [1.0, 0.0, 0.0, 0.0]
        >>> parse_problem("uniform:4").reward.tolist()
        [0.0, 1.0, 0.0, 1.0]
        >>> parse_problem("log:0,-1000000").log_base.tolist()
        [0.0, -1000000.0]
    """
    logarithmic = isinstance(base, str) and base.strip().startswith(LOG_PREFIX)
    if base is None:
        p = DEFAULT_PROBLEM.base
    elif not isinstance(base, str):
        p = _vector(_numbers_only(base, "base"), "base")
    else:
        p = _log_base(base.strip().removeprefix(LOG_PREFIX)) if logarithmic else parse_base(base)
    if reward is None:
        r = np.isin(np.arange(p.size), DEFAULT_CORRECT)
    else:
        r = parse_reward(reward, p.size) if isinstance(reward, str) else _numbers_only(reward, "reward")
    lengths = parse_length(length, p.size) if isinstance(length, str) else length
    if lengths is not None:
        lengths = _numbers_only(lengths, "length")
    return Problem.from_log(p, r, lengths) if logarithmic else Problem(p, r, lengths)


def _numbers_only(given: ArrayLike, name: str) -> ArrayLike:
    """Return a list as it is unless some entry is true or false, which NumPy would take for 1 and 0."""
    if isinstance(given, list) and any(isinstance(number, bool) for number in given):
        raise InputError(name, given, "numbers, not true or false")
    return given


def _log_base(text: str) -> FloatArray:
    """Return the log-probabilities of a list or a file, checked as a base, shape [n]."""
    given = _read_raw(text, "base")
    if given is None:
        given = _numbers(text, "base", "log: and log-probabilities l1,l2,... or a .npy, .json or .csv file of them")
    try:
        return Problem.from_log(given, np.zeros(np.size(given))).log_base
    except InputError as error:
        raise InputError("base", error.value, error.allowed) from error


def parse_base(text: str) -> FloatArray:
    """Return the base probabilities, shape [n], that a text describes.

    Forms: a comma list ``0.5,0.3,0.2``; ``zipf:N``, p_i proportional to 1/i; ``uniform:N``; ``dirichlet:N:SEED``, one
    draw of the symmetric Dirichlet(1) law with NumPy's ``default_rng(SEED)``; a ``.npy``, ``.json`` or ``.csv`` file.

    Raises:
        InputError: the text has none of these forms, or the numbers are no probabilities.

    Example:
        >>> parse_base("zipf:2").round(3).tolist()
        [0.667, 0.333]
    """
    given = _named(text, "base")
    if given is None:
        given = _read_file(text, "base")
    if given is None:
        given = _numbers(text, "base", BASE_FORMS)
    return Problem(given, np.zeros(len(given))).base


def parse_reward(text: str, n: int) -> FloatArray:
    """Return the rewards of n outcomes, shape [n], that a text describes.

    A comma list of exactly n numbers is the reward vector. A shorter comma list of distinct whole numbers from 0 to
    n - 1 names the correct outcomes: their reward is 1, the others' 0. ``indices:1,3`` always names correct outcomes,
    so that ``0,1`` for two outcomes (a vector) and ``indices:0,1`` (both correct) can both be said. The forms of
    :func:`parse_base` other than the list are accepted too, and must have n entries.

    Raises:
        InputError: the text has none of these forms or another length.

    Example:
        >>> parse_reward("1,3", 5).tolist()
        [0.0, 1.0, 0.0, 1.0, 0.0]
        >>> parse_reward("0,1", 2).tolist()
        [0.0, 1.0]
    """
    allowed = f"{n} numbers, indices of correct outcomes (0 to {n - 1}), {NAMED_FORMS}, or a .npy, .json or .csv file"
    if text.strip().startswith("indices:"):
        return _correct(text.strip().removeprefix("indices:"), n, text)
    given = _named(text, "reward")
    if given is None:
        given = _read_file(text, "reward")
    if given is None:
        given = _numbers(text, "reward", allowed)
        if len(given) < n and all(re.fullmatch(r"\s*\d+\s*", part) for part in text.split(",")):
            return _correct(text, n, text)
    return _sized(given, "reward", n)


def parse_length(text: str, n: int) -> FloatArray:
    """Return the lengths of n outcomes, shape [n], from a comma list or a ``.npy``, ``.json`` or ``.csv`` file.

    Raises:
        InputError: the text cannot be read, or has another number of entries than n.

    Example:
        >>> parse_length("1,2,8", 3).tolist()
        [1.0, 2.0, 8.0]
    """
    given = _read_file(text, "length")
    if given is None:
        given = _numbers(text, "length", f"{n} numbers >= 1, or a .npy, .json or .csv file")
    return _sized(given, "length", n)


def _numbers(text: str, name: str, allowed: str) -> FloatArray:
    try:
        return np.array([float(part) for part in text.split(",")])
    except ValueError as error:
        raise InputError(name, text, allowed) from error


def _correct(text: str, n: int, given: str) -> FloatArray:
    """Return the reward 1 on the listed indices and 0 elsewhere, shape [n]."""
    parts = [part.strip() for part in text.split(",")]
    wanted = f"distinct indices from 0 to {n - 1}, or {n} rewards"
    if not all(re.fullmatch(r"\d{1,8}", part) for part in parts):
        raise InputError("reward", given, wanted)
    indices = [int(part) for part in parts]
    if max(indices) >= n or len(set(indices)) < len(indices):
        raise InputError("reward", given, wanted)
    reward = np.zeros(n)
    reward[indices] = 1.0
    return reward


def _named(text: str, name: str) -> FloatArray | None:
    """Return the distribution of a named form, or None if the text has no such name."""
    kind, _, rest = text.strip().partition(":")
    if kind not in ("zipf", "uniform", "dirichlet"):
        return None
    pattern = r"(\d{1,8}):(\d{1,18})" if kind == "dirichlet" else r"(\d{1,8})"
    match = re.fullmatch(pattern, rest)
    if match is None or not 1 <= int(match[1]) <= MAX_OUTCOMES:
        raise InputError(name, text, f"{NAMED_FORMS} with 1 <= N <= {MAX_OUTCOMES}")
    n = int(match[1])
    if kind == "uniform":
        return np.full(n, 1.0 / n)
    if kind == "dirichlet":
        return np.random.default_rng(int(match[2])).dirichlet(np.ones(n))
    weights = 1.0 / np.arange(1, n + 1)
    return weights / weights.sum()


def _read_file(text: str, name: str) -> FloatArray | None:
    """Return the finite numbers in the file that the text names by its suffix, or None if it names none."""
    found = _read_raw(text, name)
    return None if found is None else _vector(found, name)


def _read_raw(text: str, name: str) -> ArrayLike | None:
    """Return what is in the file that the text names by its suffix, or None if it names none."""
    path = Path(text.strip())
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        return None
    found = reader(path, name)
    if name != "reward" and np.asarray(found).dtype == np.bool_:  # a reward may say which outcomes are right
        raise InputError(name, str(path), "a file of numbers, not of true and false")
    return found


def _read_json(path: Path, name: str) -> ArrayLike:
    numbers = read_json(path, name, NUMBERS, finite=False)  # a file of log p has -Infinity where the base has nothing
    if not isinstance(numbers, list) or not all(type(number) in (int, float) for number in numbers):
        raise InputError(name, str(path), "a JSON list of numbers")
    return numbers


def _read_csv(path: Path, name: str) -> ArrayLike:
    parts = re.split(r"[,;\s]+", read_text(path, name, NUMBERS).strip())
    try:
        return [float(part) for part in parts]
    except ValueError as error:
        raise InputError(name, str(path), f"numbers between commas ({reason(error)})") from error


READERS: dict[str, Callable[[Path, str], ArrayLike]] = {".npy": read_npy, ".json": _read_json, ".csv": _read_csv}

# Five outcomes on which the two goals disagree: the mode (outcome 0) is wrong, and the correct outcomes 1 and 3 hold
# 0.37 of the base. Task reward reaches accuracy 1, sharpening goes to 0, and tempering falls from 0.37 towards 0 as
# alpha grows. One correct outcome is likelier than the other, so the tie that task reward leaves open is visible too.
DEFAULT_CORRECT = (1, 3)
DEFAULT_PROBLEM = Problem([0.40, 0.25, 0.15, 0.12, 0.08], [0.0, 1.0, 0.0, 1.0, 0.0])
