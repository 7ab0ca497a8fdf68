"""Maximum cycle means by Howard's policy iteration, with the certificate that proves them.

The maximum cycle mean of a strong component is the largest average weight of a closed walk in it. Policy iteration
(Howard 1960; Cochet-Terrasson et al. 1998) finds a cycle, a lower bound, and potentials d with

    w(u, v) - mean + d_v - d_u <= gap for every edge,

and summing that along any cycle shows that no cycle beats mean + gap. Karp's algorithm needs n sweeps over the edges;
this needs a handful, so it also serves 10^5 states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csgraph, csr_array

from sharpen.theory.core.problem import FloatArray
from sharpen.theory.sequences.graph import Graph, IntArray

ROUNDS = 10_000  # a handful is usual; the certificate tells whether they were enough


@dataclass(frozen=True, eq=False)
class CycleMeans:
    """The maximum cycle mean of every strong component that has a cycle.

    Attributes:
        inner: The graph of these components alone, edges between components left out.
        component: Component of each of the inner graph's k states, shape [k], from 0 to c - 1.
        mean: Mean weight of each component's best cycle found, shape [c]; a lower bound on the maximum.
        upper: Certified upper bound, shape [c].
        potential: d, shape [k].
        root: A state of each component's best cycle, shape [c].
        following: Next state on the way to the best cycle and around it, shape [k].
    """

    inner: Graph
    component: IntArray
    mean: FloatArray
    upper: FloatArray
    potential: FloatArray
    root: IntArray
    following: IntArray

    @property
    def best(self) -> float:
        """The maximum cycle mean of the whole graph; minus infinity if it has no cycle."""
        return float(self.mean.max(initial=-math.inf))

    @property
    def bound(self) -> float:
        """Certified upper bound of :attr:`best`; minus infinity if the graph has no cycle."""
        return float(self.upper.max(initial=-math.inf))

    def best_cycle(self) -> tuple[int, ...]:
        """Return a cycle whose mean is :attr:`best`, as indices of the model's states; empty without a cycle."""
        if self.mean.size == 0:
            return ()
        first = int(self.root[np.argmax(self.mean)])
        walk, state = [first], int(self.following[first])
        while state != first:
            walk.append(state)
            state = int(self.following[state])
        return tuple(int(self.inner.states[state]) for state in walk)


def cycle_means(graph: Graph) -> CycleMeans:
    """Return the maximum cycle mean of every strong component of a graph, weights being its log-probabilities."""
    inner = _cyclic_part(graph)
    _, component = np.unique(graph.component[np.searchsorted(graph.states, inner.states)], return_inverse=True)
    component = component.astype(np.int64)
    count = int(component.max(initial=-1)) + 1
    if count == 0:
        empty, none = np.zeros(0), np.zeros(0, dtype=np.int64)
        return CycleMeans(inner, component, empty, empty, empty, none, none)
    tolerance = 1e-14 * (1.0 + np.max(np.abs(inner.log_prob)))
    policy = best_edges(inner, inner.log_prob)
    rounds = 0
    while True:
        policy, mean, root, value = _evaluate(inner, component, policy)
        gain = inner.log_prob - mean[component[inner.source]] + value[inner.target] - value[inner.source]
        better = best_edges(inner, gain)
        improved = gain[better] > tolerance * (1.0 + np.max(np.abs(value)))
        rounds += 1
        if rounds == ROUNDS or not np.any(improved):
            break
        policy = np.where(improved, better, policy)
    upper = mean.copy()
    np.maximum.at(upper, component[inner.source], mean[component[inner.source]] + gain)
    return CycleMeans(inner, component, mean, upper, value, root, inner.target[policy])


def _cyclic_part(graph: Graph) -> Graph:
    """Return the graph of the states that lie on a cycle, with the edges inside strong components only."""
    inside = graph.component[graph.source] == graph.component[graph.target]
    on_cycle = np.zeros(graph.n, dtype=bool)
    on_cycle[graph.source[inside]] = True
    number = np.cumsum(on_cycle) - 1
    return Graph(
        graph.states[on_cycle],
        number[graph.source[inside]],
        number[graph.target[inside]],
        graph.log_prob[inside],
        graph.log_stop[on_cycle],
    )


def best_edges(graph: Graph, weight: FloatArray) -> IntArray:
    """Return the index of each state's heaviest edge (the first of equals), shape [k]; every state has one."""
    hit = np.flatnonzero(weight == graph.row_max(weight)[graph.source])
    _, first = np.unique(graph.source[hit], return_index=True)
    return hit[first]


def _evaluate(graph: Graph, component: IntArray, policy: IntArray) -> tuple[IntArray, FloatArray, IntArray, FloatArray]:
    """Return the policy, each state led to its component's best policy cycle, and the cycles' means, roots, values."""
    mean, root = _best_policy_cycles(graph, component, policy)
    end, _ = follow(graph.target[policy], graph.log_prob[policy], root)
    policy = _lead(graph, policy, end == root[component])
    weight = graph.log_prob[policy] - mean[component]
    _, value = follow(graph.target[policy], weight, root)
    return policy, mean, root, value


def _best_policy_cycles(graph: Graph, component: IntArray, policy: IntArray) -> tuple[FloatArray, IntArray]:
    """Return the mean of the best cycle of the policy graph, and one state on it, per component, each shape [c]."""
    following = graph.target[policy]
    jump = following
    for _ in range(graph.n.bit_length()):
        jump = jump[jump]
    on = np.unique(jump)  # after n steps or more every walk is on a cycle, and every cycle is hit
    links = csr_array((np.ones(on.size), (on, following[on])), shape=(graph.n, graph.n))
    label = csgraph.connected_components(links, connection="weak")[1][on]
    cycles, label = np.unique(label, return_inverse=True)
    size = np.bincount(label)
    average = np.bincount(label, weights=graph.log_prob[policy[on]]) / size
    member = np.zeros(cycles.size, dtype=np.int64)
    member[label[::-1]] = on[::-1]
    order = np.lexsort((average, component[member]))
    last = np.flatnonzero(np.diff(component[member][order], append=-1) != 0)
    return average[order[last]], member[order[last]]


def _lead(graph: Graph, policy: IntArray, led: np.ndarray) -> IntArray:
    """Return the policy with every state outside the mask ``led`` sent along a shortest way into it."""
    if np.all(led):
        return policy
    n, inside = graph.n, np.flatnonzero(led)
    tails, heads = np.concatenate([graph.target, np.full(inside.size, n)]), np.concatenate([graph.source, inside])
    backwards = csr_array((np.ones(tails.size), (tails, heads)), shape=(n + 1, n + 1))
    _, before = csgraph.breadth_first_order(backwards, n, return_predecessors=True)
    toward = graph.target == before[graph.source]
    edge = policy.copy()
    outside = np.flatnonzero(toward & ~led[graph.source])
    edge[graph.source[outside]] = outside
    return edge


def follow(following: IntArray, weight: FloatArray, root: IntArray) -> tuple[IntArray, FloatArray]:
    """Return where each state's walk ends if the roots absorb it, and the weight collected, by pointer doubling.

    Args:
        following: Next state of each state, shape [k].
        weight: Weight of that step, shape [k].
        root: States that absorb.

    Returns:
        The state after at least k steps, shape [k] (a root, or a state on a cycle without one), and the summed weight.
    """
    end, total = following.copy(), weight.copy()
    end[root], total[root] = root, 0.0
    for _ in range(following.size.bit_length()):
        total = total + total[end]
        end = end[end]
    return end, total
