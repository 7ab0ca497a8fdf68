"""Heaviest walks from a state to the stop: by policy iteration at a price per step, and by number of steps.

Walks live on the graph with the stop as one more state, k, so that their weight is log p(x) and their number of steps
is |x|, the tokens of x with the end-of-sequence token counted.
"""

from __future__ import annotations

import math

import numpy as np

from sharpen.theory.core.problem import FloatArray
from sharpen.theory.sequences.cycles import ROUNDS, best_edges, follow
from sharpen.theory.sequences.graph import STOP, Graph, IntArray, sort_edges


def with_stop(graph: Graph) -> Graph:
    """Return the graph with the stop as state k, which has no edges."""
    stops = np.flatnonzero(graph.log_stop > -np.inf)
    source, target, (log_prob,) = sort_edges(
        np.concatenate([graph.source, stops]),
        np.concatenate([graph.target, np.full(stops.size, graph.n)]),
        np.concatenate([graph.log_prob, graph.log_stop[stops]]),
    )
    return Graph(np.arange(graph.n + 1), source, target, log_prob, np.full(graph.n + 1, -np.inf))


class PricedWalks:
    """Heaviest walks to the stop when every step costs a price above the maximum cycle mean.

    Such a price makes every cycle lose weight, so heaviest walks exist and repeat no state. Policy iteration starts
    from the likeliest ways to stop; an improved policy still leads to the stop, since a cycle in it would gain weight.

    Args:
        graph: States that can all stop.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = with_stop(graph)
        following = graph.best_stop[1]
        wanted = np.where(following == STOP, graph.n, following)
        width = graph.n + 1
        keys = self.graph.source * width + self.graph.target
        self._policy = np.searchsorted(keys, np.arange(graph.n) * width + wanted)

    def value(self, price: float) -> FloatArray:
        """Return the largest weight less price times steps, from each state to the stop, shape [k + 1].

        Raises:
            ArithmeticError: the price is not above the maximum cycle mean.
        """
        graph, stop = self.graph, np.array([self.graph.n - 1])
        for _ in range(ROUNDS):
            step = np.append(graph.log_prob[self._policy] - price, 0.0)
            end, value = follow(np.append(graph.target[self._policy], stop), step, stop)
            if np.any(end != stop):
                raise ArithmeticError("a walk does not end: the price is below the maximum cycle mean")
            gain = graph.log_prob - price + value[graph.target] - value[graph.source]
            better = best_edges(graph, gain)
            improved = gain[better] > 1e-12 * (1.0 + np.max(np.abs(value)))
            if not np.any(improved):
                return value
            self._policy = np.where(improved, better, self._policy)
        raise ArithmeticError("policy iteration did not end")

    def walk(self, start: int) -> tuple[int, ...]:
        """Return the states after ``start`` on its walk at the last price, the stop left out."""
        states, state = [], int(self.graph.target[self._policy[start]])
        while state != self.graph.n - 1:
            states.append(state)
            state = int(self.graph.target[self._policy[state]])
        return tuple(states)


class CountedWalks:
    """Heaviest walks from a start by number of transitions, one after another.

    Args:
        graph: The states.
        start: First state, as its place in the graph.
    """

    def __init__(self, graph: Graph, start: int) -> None:
        source, target, (log_prob,) = sort_edges(graph.target, graph.source, graph.log_prob)
        self._into = Graph(graph.states, source, target, log_prob, graph.log_stop)  # edges by the state they enter
        self._first = np.full(graph.n, -np.inf)
        self._first[start] = 0.0
        self.weight = self._first

    def advance(self) -> bool:
        """Move on by one transition; return whether any walk has that many.

        :attr:`weight` is then the largest weight of a walk to each state, shape [k], minus infinity without one.
        """
        self.weight = self._next(self.weight)
        return bool(np.any(self.weight > -np.inf))

    def _next(self, weight: FloatArray) -> FloatArray:
        return self._into.row_max(self._into.log_prob + weight[self._into.target])

    def trace(self, end: int, transitions: int) -> tuple[int, ...]:
        """Return the states after the start on the heaviest walk of so many transitions that ends in ``end``.

        The weights of every sqrt(transitions)-th number are kept and those between computed again, so memory grows with
        the square root only.
        """
        block = math.isqrt(transitions) + 1
        kept, weight = [self._first], self._first
        for count in range(1, transitions + 1):
            weight = self._next(weight)
            if count % block == 0:
                kept.append(weight)
        states, state = [end], end
        for number in range(len(kept) - 1, -1, -1):
            begin = number * block
            steps = [kept[number]]
            while begin + len(steps) < min(transitions, begin + block):
                steps.append(self._next(steps[-1]))
            for weight in reversed(steps[: transitions - begin]):
                state = self._before(state, weight)
                states.append(state)
        return tuple(reversed(states[:-1])) if transitions else ()

    def _before(self, state: int, weight: FloatArray) -> int:
        row: IntArray = np.arange(self._into.row_start[state], self._into.row_start[state + 1])
        return int(self._into.target[row[np.argmax(self._into.log_prob[row] + weight[self._into.target[row]])]])
