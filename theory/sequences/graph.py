"""The transition graph of a sequence model: which states matter, its strong components, the likeliest ways to stop.

All functions take plain arrays or a :class:`Graph`. Weights are log-probabilities in nats, so an impossible edge is an
absent one, and an edge of probability 1 has weight 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph, csr_array

from sharpen.theory.core.problem import FloatArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
STOP = -1  # as the next state of a walk: the walk stops


@dataclass(frozen=True, eq=False)
class Graph:
    """Edges between k states, sorted by source and then by target, and each state's way to stop.

    Attributes:
        states: Indices of the k states in the model the graph was cut from, shape [k], ascending.
        source: First state of each edge, shape [m], counted within the k states.
        target: Second state of each edge, shape [m].
        log_prob: Log-probability of each edge, shape [m], nats.
        log_stop: Log-probability of stopping in each state, shape [k]; minus infinity where it cannot.
    """

    states: IntArray
    source: IntArray
    target: IntArray
    log_prob: FloatArray
    log_stop: FloatArray

    @property
    def n(self) -> int:
        """The number k of states."""
        return self.states.size

    @cached_property
    def row_start(self) -> IntArray:
        """Where each state's edges begin, and the end, shape [k + 1] (the ``indptr`` of CSR)."""
        return np.searchsorted(self.source, np.arange(self.n + 1)).astype(np.int64)

    def matrix(self, data: FloatArray) -> csr_array:
        """Return the k by k sparse matrix with one number an edge, shape of ``data`` [m]."""
        return csr_array((data, self.target, self.row_start), shape=(self.n, self.n))

    def row_max(self, data: FloatArray) -> FloatArray:
        """Return the largest of each state's edge numbers, shape [k]; minus infinity for a state without edges."""
        best = np.full(self.n, -np.inf)
        filled = np.flatnonzero(np.diff(self.row_start) > 0)
        if filled.size:
            best[filled] = np.maximum.reduceat(data, self.row_start[filled])
        return best

    def row_sum(self, data: FloatArray) -> FloatArray:
        """Return the sum of each state's edge numbers, shape [k]."""
        return np.bincount(self.source, weights=data, minlength=self.n).astype(np.float64)

    @cached_property
    def component(self) -> IntArray:
        """The strong component of each state, shape [k]."""
        labels = csgraph.connected_components(self.matrix(np.ones(self.source.size)), connection="strong")[1]
        return labels.astype(np.int64)

    @cached_property
    def best_stop(self) -> tuple[FloatArray, IntArray]:
        """The likeliest way to stop from each state (Dijkstra on -log p).

        Returns:
            Its log-probability, shape [k], and the next state on it, shape [k], or STOP where stopping at once is
            likeliest.
        """
        stops = np.flatnonzero(self.log_stop > -np.inf)
        source = np.concatenate([self.target, np.full(stops.size, self.n)])
        target = np.concatenate([self.source, stops])
        cost = -np.concatenate([self.log_prob, self.log_stop[stops]])
        # csgraph keeps explicit zeros of a sparse matrix as edges of cost 0, which probability 1 needs.
        backwards = csr_array((cost, (source, target)), shape=(self.n + 1, self.n + 1))
        distance, before = csgraph.dijkstra(backwards, indices=self.n, return_predecessors=True)
        following = before[: self.n].astype(np.int64)
        return -distance[: self.n], np.where(following == self.n, STOP, following)


def log_or_nothing(probability: FloatArray) -> FloatArray:
    """Return log p, minus infinity where p = 0."""
    return np.log(probability, out=np.full(probability.shape, -np.inf), where=probability > 0)


def sort_edges(source: IntArray, target: IntArray, *columns: FloatArray) -> tuple[IntArray, IntArray, list[FloatArray]]:
    """Return edges, and the columns that belong to them, sorted by source and then by target."""
    order = np.lexsort((target, source))
    return source[order], target[order], [column[order] for column in columns]


def reachable(source: IntArray, target: IntArray, starts: BoolArray) -> BoolArray:
    """Return the mask of states that some start state leads to (the starts themselves included), shape [n]."""
    n, first = starts.size, np.flatnonzero(starts)
    tails = np.concatenate([source, np.full(first.size, n)])
    heads = np.concatenate([target, first])
    graph = csr_array((np.ones(tails.size), (tails, heads)), shape=(n + 1, n + 1))
    mask = np.zeros(n + 1, dtype=bool)
    mask[csgraph.breadth_first_order(graph, n, return_predecessors=False)] = True
    return mask[:n]


def cut(source: IntArray, target: IntArray, log_prob: FloatArray, log_stop: FloatArray, keep: BoolArray) -> Graph:
    """Return the graph on the states of a mask, shape [n]; edges must come sorted by source and then by target."""
    number = np.cumsum(keep) - 1
    inside = keep[source] & keep[target]
    return Graph(
        np.flatnonzero(keep),
        number[source[inside]],
        number[target[inside]],
        log_prob[inside],
        log_stop[keep],
    )
