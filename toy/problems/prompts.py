"""The problems of the toy, as texts and numbers that a command line or a YAML file can hold.

Axis letters: P prompts, n outcomes of a prompt, V tokens.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sharpen.objective import InputError
from sharpen.objective.settings import Settings
from sharpen.theory.core.problem import FloatArray, Problem, parse_problem
from sharpen.theory.sequences.files import from_files
from sharpen.toy.problems.automata import (
    Automaton,
    Sequences,
    ends_in,
    enumerate_sequences,
    independent,
    lengths,
    markov,
)
from sharpen.toy.problems.numbers import PROMPT, Numbers
from sharpen.toy.problems.policies import SEPARATE, SHARED, Family

CORRELATED = r"correlated:([+-]?[0-9.]+(?:e-?[0-9]+)?):([0-9]{1,9})"
CORRELATED_FORM = "correlated:RHO:SEED with RHO from -1 to 1"
SEEDED = r"(dirichlet:[0-9]+|correlated:[^:]+):([0-9]{1,9})"
MOST_PROMPTS = 10**5
SEQUENCES = (
    "tokens",
    "hazard",
    "transition",
    "stop",
    "start",
    "longest",
    "correct",
)  # settings that tables do not read
Probability = Annotated[float, Field(gt=0, lt=1)]


class Task(NamedTuple):
    """Prompts and the policies over their outcomes.

    Args:
        prompts: P problems of n outcomes each, all with positive base probability.
        weights: Of the prompts, shape [P], sum 1.
        family: Of policies.
        outcomes: The number that each outcome has in the base as it was given, shape [n].
    """

    prompts: list[Problem]
    weights: FloatArray
    family: Family
    outcomes: NDArray[np.int64]


class ProblemConfig(Settings):
    """The problem part of a configuration.

    Args:
        base: Base distribution, in the forms of ``sharpen theory`` or as numbers, shape [n]; None takes the default
            problem's. Several prompts are separated by semicolons, or numbers of shape [P, n].
        reward: Task reward, likewise, or ``correlated:RHO:SEED`` (:func:`correlated_reward`); one for all prompts, or
            as many as prompts.
        length: Lengths, likewise; None for ones.
        prompts: Prompts to make of one ``base``; the forms with a SEED are drawn again for each, with SEED + i.
        prompt_weights: Of the prompts; None for equal ones.
        parameters: ``separate``, logits of each prompt; ``shared``, one shift of the base's logits for all prompts.
        policy: ``table``, a logit an outcome; ``tree`` or ``machine``, token sequences under a policy with a state for
            each prefix or with the states of a finite-state machine (`sharpen.toy.problems.automata`).
        tokens: Token probabilities of sequences without ``transition``: independent tokens, one state.
        hazard: Probability of stopping before each of those tokens.
        transition: File with the transition matrix of a Markov chain, whose states are the tokens and the states of the
            machine, in the forms of ``sharpen theory sequences``.
        stop: File with its stop probabilities; None for what the rows of ``transition`` leave of 1.
        start: Start state of each prompt.
        longest: Tokens of the longest sequence.
        correct: The reward is 1 for sequences that end in this token; None for no reward, or for ``reward``.
    """

    base: Numbers | None = None
    reward: Numbers | None = None
    length: Numbers | None = None
    prompts: int = Field(default=1, ge=1, le=MOST_PROMPTS)
    prompt_weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    parameters: Literal["separate", "shared"] = "separate"
    policy: Literal["table", "tree", "machine"] = "table"
    tokens: tuple[Probability, ...] = (0.5, 0.3, 0.2)
    hazard: Probability = 0.25
    transition: str | None = None
    stop: str | None = None
    start: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    longest: int = Field(default=5, ge=1, le=20)
    correct: int | None = Field(default=None, ge=0)

    def task(self) -> Task:
        """Return the prompts without the outcomes that the base excludes, and the policies over them.

        Raises:
            InputError: a text cannot be used, or settings do not go together.
        """
        prompts, family = self._tables() if self.policy == "table" else self._sequences()
        support = prompts[0].support
        if not all(np.array_equal(problem.support, support) for problem in prompts):
            raise InputError("base", "prompts that exclude different outcomes", "the same zeros in every prompt")
        live = [_supported(problem) for problem in prompts]
        return Task(live, self._weights(len(live)), family, np.flatnonzero(support))

    def _weights(self, P: int) -> FloatArray:
        if self.prompt_weights is None:
            return np.full(P, 1.0 / P)
        if len(self.prompt_weights) != P:
            raise InputError("prompt_weights", f"{len(self.prompt_weights)} numbers", f"{P}, one for each prompt")
        weights = np.array(self.prompt_weights)
        return weights / weights.sum()

    def _tables(self) -> tuple[list[Problem], Family]:
        for name in SEQUENCES:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise InputError(name, getattr(self, name), "only with policy tree or machine, not table")
        texts = {name: _by_prompt(getattr(self, name)) for name in ("base", "reward", "length")}
        given = {len(parts) for parts in texts.values() if len(parts) > 1}
        P = self.prompts if self.prompts > 1 else max(given, default=1)
        for name, parts in texts.items():
            if len(parts) not in (1, P):
                raise InputError(name, f"{len(parts)} prompts", f"one text, or {P} separated by '{PROMPT}'")
        repeated = {name: parts if len(parts) == P else [_shifted(parts[0], i) for i in range(P)]
                    for name, parts in texts.items()}  # fmt: skip
        prompts = [parse_task(*parts) for parts in zip(*repeated.values(), strict=True)]
        if len({problem.n for problem in prompts}) > 1:
            raise InputError("base", "prompts of different sizes", "equally many outcomes in every prompt")
        return prompts, SEPARATE if self.parameters == "separate" else SHARED

    def _sequences(self) -> tuple[list[Problem], Family]:
        if (self.base, self.length) != (None, None):
            raise InputError("policy", self.policy, "table, where base or length are given")
        if self.parameters == "shared" or self.prompts > 1:
            raise InputError("policy", self.policy, "table, where parameters or prompts are given (use start)")
        if self.reward is not None and self.correct is not None:
            raise InputError("correct", self.correct, "either correct or reward")
        machine = self._machine()
        found = _enumerated(_hashable(machine), self.longest, self.policy == "tree", self.start)
        size, V = lengths(found.names), machine.token.shape[1]
        texts = [_shifted(text, i) if text is not None else None for i, text in enumerate(self._rewards())]
        prompts = []
        for log_base, text in zip(found.log_base, texts, strict=True):
            reward = ends_in(found.names, self.correct, V) if text is None else parse_reward_of(text, log_base)
            prompts.append(Problem.from_log(log_base, reward, size))
        return prompts, found.family

    def _rewards(self) -> list[str | None]:
        parts, P = _by_prompt(self.reward), len(self.start)
        if len(parts) not in (1, P):
            raise InputError("reward", f"{len(parts)} prompts", f"one text, or {P} separated by '{PROMPT}'")
        return parts * P if len(parts) == 1 else parts

    def _machine(self) -> Automaton:
        if self.transition is not None:
            return markov(from_files(self.transition, self.stop))
        if self.stop is not None:
            raise InputError("stop", self.stop, "a transition file beside it")
        return independent(self.tokens, self.hazard)


def parse_task(base: str | None, reward: str | None, length: str | None) -> Problem:
    """Return one prompt's problem: as :func:`sharpen.theory.core.problem.parse_problem`, with correlated rewards too.

    Raises:
        InputError: a text cannot be used.

    Example:
        >>> problem = parse_task("0.5,0.3,0.15,0.05", "correlated:-0.5:0", None)
        >>> float(np.corrcoef(problem.log_base, problem.reward)[0, 1].round(12))
        -0.5
    """
    if reward is None or not reward.strip().startswith("correlated"):
        return parse_problem(base, reward, length)
    plain = parse_problem(base, None, length)
    return Problem.from_log(plain.log_base, parse_reward_of(reward, plain.log_base), plain.length)


def parse_reward_of(text: str, log_base: FloatArray) -> FloatArray:
    """Return the rewards, shape [n], that a text describes for outcomes of these log-probabilities.

    Raises:
        InputError: the text cannot be used.
    """
    if not text.strip().startswith("correlated"):
        return parse_problem(f"uniform:{log_base.size}", text).reward
    match = re.fullmatch(CORRELATED, text.strip())
    try:
        rho = float(match[1]) if match is not None else np.nan
    except ValueError:
        rho = np.nan
    if match is None or not -1.0 <= rho <= 1.0:
        raise InputError("reward", text, CORRELATED_FORM)
    live = log_base > -np.inf
    reward = np.zeros(log_base.size)
    reward[live] = correlated_reward(log_base[live], rho, int(match[2]))
    return reward


def correlated_reward(log_base: FloatArray, rho: float, seed: int) -> FloatArray:
    """Return rewards from 0 to 1 whose correlation with log p over the outcomes is ``rho``, shape [n].

    r = rho x + sqrt(1 - rho^2) z, rescaled, with x the standardised log p and z standardised Gaussian noise from which
    its projection on x was taken: the correlation is exact, not in the mean. With rho < 0 reward and likelihood are
    misaligned.

    Args:
        log_base: log p, shape [n].
        rho: Correlation.
        seed: Of the noise.

    Raises:
        InputError: log p is constant, or too few outcomes are left for a noise.
    """
    x = log_base - log_base.mean()
    if log_base.size < 3 or np.ptp(log_base) < 1e-12:
        raise InputError("reward", f"correlated with {log_base.size} outcomes", "3 outcomes or more, not all as likely")
    x /= np.linalg.norm(x)
    z = np.random.default_rng(seed).normal(size=x.size)
    z -= z.mean()
    z -= (z @ x) * x
    r = rho * x + np.sqrt(1.0 - rho**2) * z / np.linalg.norm(z)
    return (r - r.min()) / np.ptp(r)


def _by_prompt(text: str | None) -> list[str | None]:
    return [None] if text is None else [part.strip() for part in text.split(PROMPT)]


def _shifted(text: str | None, by: int) -> str | None:
    """Return the text with its SEED, where it has one, ``by`` larger."""
    match = re.fullmatch(SEEDED, text) if text is not None else None
    return text if match is None else f"{match[1]}:{int(match[2]) + by}"


def _supported(problem: Problem) -> Problem:
    """Return a problem without what its base excludes, which never enters: the simplex's faces are invariant."""
    live = problem.support
    if live.all():
        return problem
    return Problem.from_log(problem.log_base[live], problem.reward[live], problem.length[live])


def _hashable(machine: Automaton) -> tuple[bytes, bytes, bytes, tuple[int, ...]]:
    return machine.token.tobytes(), machine.stop.tobytes(), machine.move.tobytes(), machine.token.shape


@lru_cache(maxsize=8)
def _enumerated(
    machine: tuple[bytes, bytes, bytes, tuple[int, ...]], longest: int, tree: bool, starts: tuple[int, ...]
) -> Sequences:
    """Return the sequences once for each request, so that what is compiled for their family is found again."""
    token, stop, move, shape = machine
    states = np.frombuffer(move, np.int64).reshape(shape)
    given = Automaton(np.frombuffer(token).reshape(shape), np.frombuffer(stop), states)
    return enumerate_sequences(given, longest, by_prefix=tree, starts=starts)
