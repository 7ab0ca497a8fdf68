"""The power p^alpha of a sequence model as a policy, and token-level temperature, which is another one.

With A^(alpha) the entrywise power, p^alpha sums over all sequences from s to the partition vector

    v = (I - A^(alpha))^-1 e^(alpha),

if rho(A^(alpha)) < 1, and its exact token-level policy is the Doob transform A_st^alpha v_t / v_s, stop
e_s^alpha / v_s. Temperature 1/alpha at every token renormalises each row of A^(alpha) by itself instead.

The sums are scaled by the likeliest way to stop from each state, phi: with B_st = (A_st phi_t / phi_s)^alpha, all <= 1,
v_s = phi_s^alpha u_s where u = (I - B)^-1 b >= 1. So no alpha under- or overflows, and what underflows is negligible
beside the likeliest way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sharpen.objective import InputError
from sharpen.theory.core.problem import FloatArray
from sharpen.theory.sequences.graph import Graph
from sharpen.theory.sequences.linear import solve
from sharpen.theory.sequences.model import MarkovModel
from sharpen.theory.sequences.spectrum import Bracket, Spectrum, critical_alpha


@dataclass(frozen=True, eq=False)
class Power:
    """p^alpha of a model, normalised for each start state.

    Attributes:
        alpha: The exponent.
        log_partition: log v, shape [n], nats; minus infinity in states that no finite sequence from a start visits.
        policy: The Doob transform. States that no finite sequence visits stop at once.
        radius: Bracket of log rho(A^(alpha)).
    """

    alpha: float
    log_partition: FloatArray
    policy: MarkovModel
    radius: Bracket


def normalisable(spectrum: Spectrum, alpha: float) -> bool:
    """Return whether p^alpha has a finite sum: rho(A^(alpha)) < 1, or alpha >= 1, since p itself sums to at most 1."""
    return alpha >= 1.0 or spectrum.bracket(alpha).upper < 0.0


def power(model: MarkovModel, alpha: float, spectrum: Spectrum | None = None) -> Power:
    """Return p^alpha of a model as an exact token-level policy.

    Where p stops with probability below 1, p^alpha is over the finite sequences only, so alpha = 1 gives p conditioned
    on stopping.

    Args:
        model: The model.
        alpha: Finite, >= 0.
        spectrum: The model's spectrum, to reuse it.

    Raises:
        InputError: p^alpha does not exist, some start state cannot stop, or alpha is so near the critical one that the
            linear system is singular to working precision.
    """
    spectrum = spectrum or Spectrum(model)
    radius = spectrum.bracket(alpha)
    graph = live_graph(model)
    if not normalisable(spectrum, alpha):
        raise InputError(
            "alpha", alpha, f"an alpha above the critical {critical_alpha(spectrum):.6g}, where p^alpha exists"
        )
    phi = graph.best_stop[0]
    edge = np.minimum(alpha * (graph.log_prob + phi[graph.target] - phi[graph.source]), 0.0)
    stop = np.minimum(alpha * (graph.log_stop - phi), 0.0) if alpha > 0 else _zero_power(graph.log_stop)
    try:
        u = solve(graph.matrix(np.exp(edge)), np.exp(stop))
    except ArithmeticError as error:
        raise InputError("alpha", alpha, f"an alpha further from the critical one ({error})") from error
    log_u = np.log(u)
    log_partition = np.full(model.n, -np.inf)
    log_partition[graph.states] = alpha * phi + log_u
    # Dividing each row by its own sum, which is u up to the solver's error, makes the policy exactly stochastic.
    edge, stop = _normalise(graph, edge + log_u[graph.target], stop)
    log_stop = np.zeros(model.n)
    log_stop[graph.states] = stop
    policy = MarkovModel.from_log(
        graph.states[graph.source], graph.states[graph.target], edge, log_stop, model.start, model.labels
    )
    return Power(float(alpha), log_partition, policy, radius)


def temperature(model: MarkovModel, alpha: float) -> MarkovModel:
    """Return the model sampled token by token at temperature 1/alpha: each row proportional to (A_st^alpha, e_s^alpha).

    Raises:
        InputError: alpha is not a finite number >= 0.
    """
    if not 0.0 <= alpha < math.inf:
        raise InputError("alpha", alpha, "a finite number >= 0")
    stop = alpha * model.log_stop if alpha > 0 else _zero_power(model.log_stop)
    edge, stop = _normalise(model.graph, alpha * model.log_prob, stop)
    return MarkovModel.from_log(model.source, model.target, edge, stop, model.start, model.labels)


def live_graph(model: MarkovModel) -> Graph:
    """Return the graph of the states that finite sequences visit.

    Raises:
        InputError: from some start state no sequence stops.
    """
    stuck = np.flatnonzero((model.start > 0) & ~model.can_stop)
    if stuck.size:
        raise InputError("stop", f"no way to stop from start {model.name(int(stuck[0]))}", "a model that can stop")
    return model.live


def _zero_power(log_prob: FloatArray) -> FloatArray:
    """Return the log of p^0: 0 where p > 0, minus infinity where p = 0."""
    return np.where(log_prob > -np.inf, 0.0, -np.inf)


def _normalise(graph: Graph, edge: FloatArray, stop: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return log-weights of edges, shape [m], and stops, shape [n], less the log of their row's sum."""
    top = np.maximum(graph.row_max(edge), stop)
    total = top + np.log(graph.row_sum(np.exp(edge - top[graph.source])) + np.exp(stop - top))
    return edge - total[graph.source], stop - total
