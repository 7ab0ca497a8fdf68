"""What likelihood alone prefers: the sequences that maximise log p(x) / |x|^w.

|x| counts the end-of-sequence token, as in the objective, so the empty answer has |x| = 1.

- w = 0: the likeliest sequence, by Dijkstra on -log A; short, and empty as soon as stopping at once is likeliest.
- w = 1: the supremum is the larger of the best finite average and the maximum cycle mean of log A. If the cycle wins,
  it is approached by endless repetition and never attained.
- other w: every number of tokens in turn, until a bound excludes all longer sequences.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np

from sharpen.objective import InputError
from sharpen.objective.functional import score
from sharpen.theory.sequences.cycles import cycle_means
from sharpen.theory.sequences.graph import Graph
from sharpen.theory.sequences.model import MarkovModel
from sharpen.theory.sequences.power import live_graph
from sharpen.theory.sequences.walks import CountedWalks, PricedWalks

TIE = 1e-11  # relative difference below which a finite average equals the cycle mean
MOST_BEST = 10_000
STEEPEST = 20  # |w|; beyond it |x|^w leaves the floating-point range


@dataclass(frozen=True)
class ScoredSequence:
    """A sequence: its states after the start, one per token; log p(x) in nats; |x|, the end of sequence counted."""

    states: tuple[int, ...]
    log_prob: float
    length: int

    def score(self, weight: float) -> float:
        """Return log p(x) / |x|^w."""
        return float(score(np.asarray(self.log_prob), np.asarray(self.length), weight))


@dataclass(frozen=True)
class MeanMode:
    """The supremum of log p(x) / |x|.

    Attributes:
        supremum: Nats per token.
        attained: Whether some finite sequence has it.
        sequence: That sequence; None if there is none.
        cycle: States of the best cycle, in order; empty if no sequence can be arbitrarily long.
        cycle_mean: Its mean log-probability per token; minus infinity without a cycle.
        cycle_bound: Certified upper bound on the mean of every cycle.
    """

    supremum: float
    attained: bool
    sequence: ScoredSequence | None
    cycle: tuple[int, ...]
    cycle_mean: float
    cycle_bound: float


@dataclass(frozen=True)
class WeightedMode:
    """The best sequence found for log p(x) / |x|^w, and what no longer one can exceed.

    Attributes:
        sequence: The best of all sequences with |x| <= ``longest``.
        score: Its score.
        bound: Upper bound on the score of every sequence, longer ones included.
        optimal: Whether the bound proves that the sequence is best of all.
        longest: Largest |x| that was searched.
    """

    sequence: ScoredSequence
    score: float
    bound: float
    optimal: bool
    longest: int


def likeliest(model: MarkovModel, count: int = 1) -> list[ScoredSequence]:
    """Return the ``count`` likeliest sequences from the start state, likeliest first (fewer if there are fewer).

    A* over prefixes with the exact probability of the best completion as heuristic: prefixes leave the queue in the
    order of the best sequence they can still become.

    Raises:
        InputError: there is more than one start state, it cannot stop, or ``count`` is not 1 to 10,000.
    """
    if not 1 <= count <= MOST_BEST:
        raise InputError("count", count, f"1 to {MOST_BEST} sequences")
    graph, start = _from_start(model)
    phi = graph.best_stop[0]
    found: list[ScoredSequence] = []
    # An entry: -log p of the best completion, tie-breaker, log p so far, (state, chain of earlier states) or a stop.
    queue: list[tuple[float, int, float, tuple | None, bool]] = [(-phi[start], 0, 0.0, (start, None), False)]
    serial = 1
    while queue and len(found) < count:
        _, _, log_prob, chain, stopped = heapq.heappop(queue)
        assert chain is not None
        if stopped:
            states = _unroll(chain)[1:]
            found.append(_scored(model, tuple(int(graph.states[state]) for state in states)))
            continue
        state = chain[0]
        if graph.log_stop[state] > -np.inf:
            end = log_prob + float(graph.log_stop[state])
            heapq.heappush(queue, (-end, serial, end, chain, True))
            serial += 1
        for edge in range(graph.row_start[state], graph.row_start[state + 1]):
            after, so_far = int(graph.target[edge]), log_prob + float(graph.log_prob[edge])
            heapq.heappush(queue, (-(so_far + float(phi[after])), serial, so_far, (after, chain), False))
            serial += 1
    return found


def mean_mode(model: MarkovModel) -> MeanMode:
    """Return the supremum of log p(x) / |x| over the sequences from the start state, and whether it is attained.

    The best finite average is found by Dinkelbach's iteration: the heaviest walk at a price per token gives the next
    price, beginning just above the maximum cycle mean, below which no finite sequence could win anyway.

    Raises:
        InputError: there is more than one start state, or it cannot stop.
    """
    graph, start = _from_start(model)
    cycles = cycle_means(graph)
    walks = PricedWalks(graph)
    best = likeliest(model)[0]
    price = max(best.score(1.0), _above(cycles.bound))
    while True:
        walks.value(price)
        found = _scored(model, tuple(int(graph.states[state]) for state in walks.walk(start)))
        best = max(best, found, key=lambda sequence: sequence.score(1.0))
        if found.score(1.0) <= price:
            break
        price = found.score(1.0)
    finite = best.score(1.0)
    attained = finite >= cycles.best - TIE * (1.0 + abs(cycles.best)) if cycles.best > -math.inf else True
    return MeanMode(
        max(finite, cycles.best), attained, best if attained else None, cycles.best_cycle(), cycles.best, cycles.bound
    )


def weighted_mode(model: MarkovModel, weight: float, longest: int = 1000) -> WeightedMode:
    """Return the best sequence for log p(x) / |x|^w with |x| <= ``longest``, and a bound on all longer ones.

    With mu just above the maximum cycle mean and h the largest weight to the stop at price mu per token, a sequence of
    |x| = l > t tokens that passes through s after t transitions has log p(x) <= W_t(s) + h_s + mu (l - t). So its score
    is at most (G + mu l) / l^w with G = max_s (W_t(s) + h_s) - mu t, maximal over l > t in closed form.

    Raises:
        InputError: there is more than one start state, it cannot stop, the weight is out of range, or
            ``longest`` is below 1 or shorter than every sequence.
    """
    if not abs(weight) <= STEEPEST:
        raise InputError("weight", weight, f"an exponent from -{STEEPEST} to {STEEPEST}")
    if longest < 1:
        raise InputError("longest", longest, "a number of tokens >= 1")
    graph, start = _from_start(model)
    bound = cycle_means(graph).bound
    # Without a cycle any price will do; 0 keeps the bound that log p is at most that of the best completion.
    price = 0.0 if bound == -math.inf else min(0.0, _above(bound))
    ahead = PricedWalks(graph).value(price)[: graph.n]
    walks = CountedWalks(graph, start)
    best, rest, length = (-math.inf, 0, 0), math.inf, 0
    while length < longest:
        length += 1
        ends = walks.weight + graph.log_stop
        end = int(np.argmax(ends))
        best = max(best, (float(score(ends[end], np.asarray(length), weight)), -length, end))
        alive = walks.advance()
        gain = float(np.max(walks.weight + ahead)) - price * length
        rest = _rest(gain, price, length + 1, weight) if alive else -math.inf
        if rest <= best[0]:
            break
    if best[0] == -math.inf:
        raise InputError("longest", longest, "more tokens: no sequence stops that early")
    states = walks.trace(best[2], -best[1] - 1)
    found = _scored(model, tuple(int(graph.states[state]) for state in states))
    return WeightedMode(found, best[0], max(best[0], rest), rest <= best[0], length)


def _rest(gain: float, price: float, shortest: int, weight: float) -> float:
    """Return the supremum of (gain + price l) / l^w over real l >= ``shortest``, and at most 0; price <= 0."""
    if weight > 1.0 or (price == 0.0 and weight > 0.0):
        return 0.0  # the limit of ever longer sequences
    if weight == 1.0:
        return min(0.0, max(price, gain / shortest + price))
    length = float(shortest)
    if price < 0.0:  # rises to the stationary point, falls behind it
        length = max(length, gain * weight / (price * (1.0 - weight)))
    return min(0.0, (gain + price * length) / length**weight)


def _above(bound: float) -> float:
    """Return a price just above a certified bound on cycle means."""
    return bound + 1e-12 * (1.0 + abs(bound)) if bound > -math.inf else bound


def _from_start(model: MarkovModel) -> tuple[Graph, int]:
    start, graph = model.start_state, live_graph(model)
    return graph, int(np.searchsorted(graph.states, start))


def _scored(model: MarkovModel, states: tuple[int, ...]) -> ScoredSequence:
    """Return a sequence with log p(x) summed over its edges."""
    path = np.array([model.start_state, *states])
    row = np.searchsorted(model.source * model.n + model.target, path[:-1] * model.n + path[1:])
    log_prob = math.fsum([*model.log_prob[row], model.log_stop[path[-1]]])
    return ScoredSequence(states, log_prob, len(states) + 1)


def _unroll(chain: tuple | None) -> list[int]:
    states = []
    while chain is not None:
        state, chain = chain
        states.append(state)
    return states[::-1]
