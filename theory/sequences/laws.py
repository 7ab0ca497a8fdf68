"""Exact expectations under a sequence model: length, entropy, reward, divergences.

Every additive quantity is a sum over states of its expected number of visits, start (I - A)^-1, times what one visit
contributes, so one linear solve serves them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from sharpen.objective import InputError
from sharpen.theory.core.frames import Named
from sharpen.theory.core.problem import FloatArray
from sharpen.theory.sequences.linear import solve
from sharpen.theory.sequences.model import MarkovModel
from sharpen.theory.sequences.power import power, temperature
from sharpen.theory.sequences.spectrum import Spectrum

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class Reward:
    """A reward that adds up along the sequence: sum_t step[s_t, s_t+1] + final[s_T].

    Attributes:
        final: Paid on stopping in a state, shape [n]. An indicator makes the reward the probability of ending there.
        step: Paid on a transition, shape [n, n] (dense or sparse), or on arriving in a state, shape [n].
    """

    final: ArrayLike | None = None
    step: ArrayLike | sparse.sparray | None = None

    @classmethod
    def ending_in(cls, states: ArrayLike, n: int) -> Reward:
        """Return the reward 1 for stopping in one of these states of n, and 0 elsewhere.

        Raises:
            InputError: a state is not one of 0 to n - 1.
        """
        index = np.atleast_1d(np.asarray(states))
        if index.dtype.kind not in "iu" or index.size == 0 or index.min() < 0 or index.max() >= n:
            raise InputError("reward states", np.asarray(states).tolist(), f"states from 0 to {n - 1}")
        final = np.zeros(n)
        final[index] = 1.0
        return cls(final=final)


def mean_length(model: MarkovModel) -> float:
    """Return the mean number of tokens before the stop; infinity if the model may never stop."""
    if not model.stops_in_time:
        return math.inf
    return float(model.visits @ model.graph.row_sum(np.exp(model.log_prob)))


def length_variance(model: MarkovModel) -> float:
    """Return the variance of the number of tokens before the stop; infinity if the model may never stop."""
    if not model.stops_in_time:
        return math.inf
    graph = model.live
    matrix = graph.matrix(np.exp(graph.log_prob))
    mean = solve(matrix, graph.row_sum(np.exp(graph.log_prob)))  # from each state
    square = model.visits[graph.states] @ (matrix @ (1.0 + 2.0 * mean))
    return float(square - (model.start[graph.states] @ mean) ** 2)


def length_pmf(model: MarkovModel, longest: int) -> FloatArray:
    """Return the probabilities of 0 to ``longest`` tokens before the stop, shape [longest + 1].

    Raises:
        InputError: ``longest`` is negative.
    """
    if longest < 0:
        raise InputError("longest", longest, "a number of tokens >= 0")
    backwards = sparse.csr_array(model.transition.T)
    state, pmf = np.array(model.start), np.zeros(longest + 1)
    for length in range(longest + 1):
        pmf[length] = state @ model.stop
        state = backwards @ state
    return pmf


def expected_reward(model: MarkovModel, reward: Reward) -> float:
    """Return the expected additive reward of a sequence.

    Raises:
        InputError: the reward does not fit the model, or the model may never stop.
    """
    gain = np.zeros(model.n)
    if reward.step is not None:
        gain += model.graph.row_sum(np.exp(model.log_prob) * _paid(reward.step, model))
    if reward.final is not None:
        final = np.asarray(reward.final, dtype=np.float64)
        if final.shape != (model.n,):
            raise InputError("reward final", f"shape {list(final.shape)}", f"shape [{model.n}]")
        gain += model.stop * final
    return float(model.visits @ gain)


def _paid(step: ArrayLike | sparse.sparray, model: MarkovModel) -> FloatArray:
    """Return the reward of each transition, shape [m]."""
    table: Any = sparse.csr_array(step) if sparse.issparse(step) else np.asarray(step, dtype=np.float64)
    if table.shape == (model.n,):
        return table[model.target]
    if table.shape != (model.n, model.n):
        raise InputError("reward step", f"shape {list(table.shape)}", f"shape [{model.n}] or [{model.n}, {model.n}]")
    return np.asarray(table[model.source, model.target]).ravel()


def entropy(model: MarkovModel) -> float:
    """Return the entropy, in nats, of the sequence given its start state.

    Raises:
        InputError: the model may never stop.
    """
    local = -model.graph.row_sum(np.exp(model.log_prob) * model.log_prob) - _times(model.stop, model.log_stop)
    return float(model.visits @ local)


def kl(model: MarkovModel, other: MarkovModel) -> float:
    """Return KL(model || other) over sequences, in nats, exactly; infinity where ``other`` cannot follow.

    Both have the same states, and the divergence of their start laws is included.

    Raises:
        InputError: the numbers of states differ, or ``model`` may never stop.
    """
    if model.n != other.n:
        raise InputError("model", f"{model.n} and {other.n} states", "two models with the same states")
    log_q = _edge_log_prob(other, model)
    starts, seen = model.start > 0, model.reachable
    stops = seen & (model.log_stop > -np.inf)
    if (
        np.any(other.start[starts] == 0.0)
        or np.any(log_q[seen[model.source]] == -np.inf)
        or np.any(other.log_stop[stops] == -np.inf)
    ):
        return math.inf
    kept = seen[model.source]
    edge: FloatArray = np.where(kept, np.exp(model.log_prob) * (model.log_prob - np.where(kept, log_q, 0.0)), 0.0)
    stop = np.zeros(model.n)
    stop[stops] = model.stop[stops] * (model.log_stop[stops] - other.log_stop[stops])
    first = model.start[starts] @ np.log(model.start[starts] / other.start[starts])
    # Rounding may leave -1e-17; a divergence is not negative.
    return max(0.0, float(first + model.visits @ (model.graph.row_sum(edge) + stop)))


def cross_log_prob(policy: MarkovModel, model: MarkovModel) -> float:
    """Return E_policy[log p(x)] of the sequence given its start, in nats, p being ``model``; may be minus infinity."""
    return -kl(policy, model) - entropy(policy)


def _edge_log_prob(other: MarkovModel, model: MarkovModel) -> FloatArray:
    """Return the log-probability that ``other`` gives to each edge of ``model``, shape [m]."""
    if other.m == 0:
        return np.full(model.m, -np.inf)
    keys, wanted = other.source * other.n + other.target, model.source * model.n + model.target
    place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[place] == wanted, other.log_prob[place], -np.inf)


def _times(probability: FloatArray, log_probability: FloatArray) -> FloatArray:
    """Return p log p, 0 where p = 0."""
    return probability * np.where(log_probability > -np.inf, log_probability, 0.0)


@dataclass(frozen=True)
class PolicyReport:
    """What a policy does: lengths in tokens before the stop, nats, and the expected reward if one is given."""

    mean_length: float
    std_length: float
    entropy: float
    log_prob: float
    expected_reward: float | None


@dataclass(frozen=True)
class Gap:
    """p^alpha beside token-level temperature 1/alpha, and the model itself.

    Attributes:
        base: The model, conditioned on stopping.
        power: p^alpha.
        temperature: The model sampled token by token at temperature 1/alpha; None if it may never stop.
        kl_power_temperature: KL(p^alpha || temperature), nats per sequence.
        kl_temperature_power: The other direction; infinity if the temperature policy may never stop.
    """

    alpha: float
    base: PolicyReport
    power: PolicyReport
    temperature: PolicyReport | None
    kl_power_temperature: float
    kl_temperature_power: float

    def frame(self) -> DataFrame:
        """Return one row per policy, ``base``, ``power`` and ``temperature``: lengths, entropy, log_prob, reward."""
        found = {"base": self.base, "power": self.power, "temperature": self.temperature}
        return Named[PolicyReport | None](found).frame()

    @property
    def reward_gap(self) -> float | None:
        """Expected reward of p^alpha less that of temperature; None without a reward or a temperature policy."""
        if self.temperature is None or self.power.expected_reward is None or self.temperature.expected_reward is None:
            return None
        return self.power.expected_reward - self.temperature.expected_reward


def gap(model: MarkovModel, alpha: float, reward: Reward | None = None, spectrum: Spectrum | None = None) -> Gap:
    """Return how far token-level temperature is from p^alpha, in KL and in expected reward.

    Raises:
        InputError: p^alpha does not exist, or the reward does not fit the model.
    """
    spectrum = spectrum or Spectrum(model)
    sharp, cool = power(model, alpha, spectrum).policy, temperature(model, alpha)
    base = model if model.stops_surely else power(model, 1.0, spectrum).policy
    return Gap(
        alpha,
        report(base, model, reward),
        report(sharp, model, reward),
        report(cool, model, reward) if cool.stops_in_time else None,
        kl(sharp, cool),
        kl(cool, sharp) if cool.stops_in_time else math.inf,
    )


def report(policy: MarkovModel, model: MarkovModel, reward: Reward | None = None) -> PolicyReport:
    """Return the expectations of a policy; its log-likelihood is that under ``model``."""
    return PolicyReport(
        mean_length(policy),
        math.sqrt(max(0.0, length_variance(policy))),
        entropy(policy),
        cross_log_prob(policy, model),
        None if reward is None else expected_reward(policy, reward),
    )
