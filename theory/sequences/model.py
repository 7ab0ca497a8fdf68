"""Markov sequence models with a stop token: p(x) = prod_t A[s_t, s_t+1] times e[s_T], by log-probabilities.

A state is the last token, or the last few (a context); a transition emits one token. A sequence starts in a start state
(the prompt, which is no token of the answer), moves T times and stops: its length is T, tokens before the stop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from sharpen.objective import InputError
from sharpen.theory.core.problem import SUM_TOLERANCE, FloatArray
from sharpen.theory.sequences.graph import BoolArray, Graph, IntArray, cut, log_or_nothing, reachable, sort_edges
from sharpen.theory.sequences.linear import solve

MAX_STATES = 10**6
MAX_EDGES = 2 * 10**7


@dataclass(frozen=True, eq=False, init=False)
class MarkovModel:
    """n states, m possible transitions, a stop probability in each state and a law of the start state.

    Edges are sorted by source and then by target. The arrays are read-only.

    Args:
        transition: A, shape [n, n], dense or SciPy sparse; non-negative.
        stop: e, shape [n]; with A's rows it sums to 1 (within 1e-6, then divided by the sum).
        start: Index of the start state, or a law over start states, shape [n]. The law is one of prompts: it belongs to
            the question, so no power or temperature is ever applied to it.
        labels: n names of the states, for people.

    Raises:
        InputError: a shape or a number is not allowed, or a row does not sum to 1; the message names the row.

    Example:
        >>> model = MarkovModel([[0.5, 0.25], [0.0, 0.0]], [0.25, 1.0])
        >>> model.n, model.m, model.stops_surely
        (2, 2, True)
    """

    source: IntArray
    target: IntArray
    log_prob: FloatArray
    log_stop: FloatArray
    start: FloatArray
    labels: tuple[str, ...] | None

    def __init__(
        self,
        transition: ArrayLike | sparse.sparray | sparse.spmatrix,
        stop: ArrayLike,
        start: int | ArrayLike = 0,
        labels: Sequence[str] | None = None,
    ) -> None:
        matrix = _square(transition)
        e = _probabilities(stop, "stop", matrix.shape[0])
        bad = np.flatnonzero(~np.isfinite(matrix.data) | (matrix.data < 0))
        if bad.size:
            raise InputError(f"transition row {matrix.row[bad[0]]}", float(matrix.data[bad[0]]), "probabilities >= 0")
        total = np.bincount(matrix.row, weights=matrix.data, minlength=e.size) + e
        wrong = np.flatnonzero(np.abs(total - 1.0) > SUM_TOLERANCE)
        if wrong.size:
            raise InputError(f"transition row {wrong[0]}", float(total[wrong[0]]), "a row whose sum with its stop is 1")
        possible = matrix.data > 0
        rows = matrix.row[possible].astype(np.int64)
        log_prob = np.log(matrix.data[possible]) - np.log(total)[rows]
        log_stop = log_or_nothing(e / total)
        self._fill(rows, matrix.col[possible].astype(np.int64), log_prob, log_stop, start, labels)

    @classmethod
    def from_log(
        cls,
        source: IntArray,
        target: IntArray,
        log_prob: FloatArray,
        log_stop: FloatArray,
        start: int | ArrayLike = 0,
        labels: Sequence[str] | None = None,
    ) -> MarkovModel:
        """Return the model with edges given by log-probabilities, also where exp underflows to 0.

        Args:
            source: First state of each edge, shape [m].
            target: Second state of each edge, shape [m]; no edge twice.
            log_prob: Log-probability of each edge, shape [m], nats; finite.
            log_stop: Log-probability of stopping, shape [n], nats; minus infinity where it cannot stop.
            start: As in the constructor.
            labels: As in the constructor.

        Raises:
            InputError: a row does not sum to 1 within 1e-6.
        """
        total = np.bincount(source, weights=np.exp(log_prob), minlength=log_stop.size) + np.exp(log_stop)
        wrong = np.flatnonzero(~(np.abs(total - 1.0) <= SUM_TOLERANCE))
        if wrong.size:
            raise InputError(f"transition row {wrong[0]}", float(total[wrong[0]]), "a row whose sum with its stop is 1")
        model = cls.__new__(cls)
        model._fill(source, target, log_prob - np.log(total)[source], log_stop - np.log(total), start, labels)
        return model

    def _fill(
        self,
        source: IntArray,
        target: IntArray,
        log_prob: FloatArray,
        log_stop: FloatArray,
        start: int | ArrayLike,
        labels: Sequence[str] | None,
    ) -> None:
        source, target, (log_prob,) = sort_edges(source, target, log_prob)
        if labels is not None and len(labels) != log_stop.size:
            raise InputError("labels", f"{len(labels)} names", f"{log_stop.size}, one for each state")
        object.__setattr__(self, "labels", None if labels is None else tuple(labels))
        arrays = {"source": source, "target": target, "log_prob": log_prob, "log_stop": log_stop}
        for name, array in {**arrays, "start": _start_law(start, log_stop.size)}.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def n(self) -> int:
        """The number of states."""
        return self.log_stop.size

    @property
    def m(self) -> int:
        """The number of possible transitions."""
        return self.source.size

    @cached_property
    def transition(self) -> sparse.csr_array:
        """A as a sparse matrix, shape [n, n]."""
        return self.graph.matrix(np.exp(self.log_prob))

    @cached_property
    def stop(self) -> FloatArray:
        """The stop probabilities e, shape [n]."""
        return np.exp(self.log_stop)

    @cached_property
    def reachable(self) -> BoolArray:
        """Mask of the states that a start state leads to, shape [n]."""
        return reachable(self.source, self.target, self.start > 0)

    @cached_property
    def can_stop(self) -> BoolArray:
        """Mask of the states from which some finite sequence stops, shape [n]."""
        return reachable(self.target, self.source, self.log_stop > -np.inf)

    @cached_property
    def graph(self) -> Graph:
        """All states and transitions as a graph."""
        return cut(self.source, self.target, self.log_prob, self.log_stop, np.ones(self.n, dtype=bool))

    @cached_property
    def live(self) -> Graph:
        """The states that finite sequences visit: reachable, and able to stop.

        No other state is on any finite sequence from a start, so none has a part in p^alpha. The graph may be empty.
        """
        return cut(self.source, self.target, self.log_prob, self.log_stop, self.reachable & self.can_stop)

    @cached_property
    def stops_surely(self) -> bool:
        """Whether a sequence stops with probability 1: every reachable state can stop."""
        return bool(np.all(self.can_stop[self.reachable]))

    @property
    def visits(self) -> FloatArray:
        """Expected number of visits of a sequence to each state, start included: start (I - A)^-1, shape [n].

        Raises:
            InputError: the model stops with probability below 1, or 1 to rounding only, so that numbers are infinite.
        """
        if self._visits is None:
            wanted = "a model that stops with probability 1, after fewer than about 1e13 tokens"
            raise InputError("model", "one that may never stop", wanted)
        return self._visits

    @property
    def stops_in_time(self) -> bool:
        """Whether a sequence stops with probability 1 after a mean number of tokens that float64 resolves."""
        return self._visits is not None

    @cached_property
    def _visits(self) -> FloatArray | None:
        if not self.stops_surely:
            return None
        graph, found = self.live, np.zeros(self.n)
        into = sparse.csr_array(graph.matrix(np.exp(graph.log_prob)).T)
        try:
            found[graph.states] = solve(into, np.array(self.start[graph.states]))
        except ArithmeticError:  # so near to a loop without an end that nothing is left of 1 - A
            return None
        return found

    @property
    def start_state(self) -> int:
        """The start state.

        Raises:
            InputError: the start is a law over several states.
        """
        (states,) = np.nonzero(self.start)
        if states.size != 1:
            raise InputError("start", f"{states.size} start states", "one start state, as index")
        return int(states[0])

    def name(self, state: int) -> str:
        """Return the label of a state, or its index as text."""
        return str(state) if self.labels is None else self.labels[state]


def _square(transition: ArrayLike | sparse.sparray | sparse.spmatrix) -> Any:
    """Return a copy of a square matrix as COO without duplicates."""
    try:
        dense = transition if sparse.issparse(transition) else np.asarray(transition, dtype=np.float64)
        matrix: Any = sparse.csr_array(dense, dtype=np.float64, copy=True)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError) as error:
        raise InputError(
            "transition", type(transition).__name__, f"a square matrix of real numbers ({error})"
        ) from error
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != shape[1] or not 1 <= shape[0] <= MAX_STATES or matrix.nnz > MAX_EDGES:
        raise InputError(
            "transition", f"shape {list(shape)}, {matrix.nnz} entries",
            f"a square matrix of 1 to {MAX_STATES} states and at most {MAX_EDGES} entries",
        )  # fmt: skip
    matrix.sum_duplicates()
    return sparse.coo_array(matrix)


def _probabilities(numbers: ArrayLike, name: str, n: int) -> FloatArray:
    try:
        array = np.array(numbers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(name, numbers, f"{n} probabilities") from error
    if array.shape != (n,):
        raise InputError(name, f"shape {list(array.shape)}", f"{n} probabilities, one for each state")
    bad = np.flatnonzero(~np.isfinite(array) | (array < 0))
    if bad.size:
        raise InputError(f"{name} {bad[0]}", float(array[bad[0]]), "probabilities >= 0")
    return array


def _start_law(start: int | ArrayLike, n: int) -> FloatArray:
    if isinstance(start, int | np.integer):
        if not 0 <= start < n:
            raise InputError("start", int(start), f"a state from 0 to {n - 1}")
        return np.eye(1, n, int(start)).ravel()
    law = _probabilities(start, "start", n)
    total = math.fsum(law)
    if abs(total - 1.0) > SUM_TOLERANCE:
        raise InputError("start", total, f"probabilities whose sum is 1 (within {SUM_TOLERANCE:g})")
    return law / total
