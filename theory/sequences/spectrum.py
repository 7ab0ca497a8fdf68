"""The spectral radius of the entrywise power A^(alpha) of a model, by certified brackets, and the critical alpha.

p^alpha exists exactly if the radius is below 1 on the states that finite sequences visit. The radius is the largest of
the strong components' Perron roots; for any positive x

    min_s (B x)_s / x_s  <=  rho(B)  <=  max_s (B x)_s / x_s         (Collatz and Wielandt)

holds on each, so every number here comes with a bracket that rounding, not convergence, limits. Every component
is divided by its maximum cycle mean to the alpha and rescaled by a diagonal similarity, at first the potentials of that
mean, which make all entries <= 1 and those of the best cycle 1. So no alpha under- or overflows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array, csr_array, diags_array, identity
from scipy.sparse.linalg import ArpackError, eigs, splu

from sharpen.objective import InputError
from sharpen.theory.core.problem import FloatArray
from sharpen.theory.sequences.cycles import CycleMeans, cycle_means
from sharpen.theory.sequences.model import MarkovModel

CLOSE = 1e-12  # width of a bracket of log rho that ends the search
DENSE = 400  # states up to which all eigenvalues are computed at once
LOOSE = 1e-9  # width above which factorising is worth its price
INVERSIONS = 40  # 5 to 10 are usual
SMALLEST = 1e-280  # entries of a vector that must stay positive
SWEEPS = 200  # of the power method before and between the eigensolver's turns


@dataclass(frozen=True)
class Bracket:
    """A certified bracket of log rho; both ends are minus infinity where no sequence can be arbitrarily long."""

    lower: float
    upper: float

    @property
    def middle(self) -> float:
        """The middle of the bracket."""
        return 0.5 * (self.lower + self.upper) if self.upper > -math.inf else -math.inf


class Spectrum:
    """log rho(A^(alpha)) of one model as a function of alpha; keeps eigenvectors to start the next alpha from.

    Args:
        model: The model; only its :attr:`MarkovModel.live` states count.
    """

    def __init__(self, model: MarkovModel) -> None:
        self.cycles: CycleMeans = cycle_means(model.live)
        count = self.cycles.mean.size
        order = np.argsort(self.cycles.component, kind="stable")
        edges = np.searchsorted(self.cycles.component[order], np.arange(count + 1))
        self._members = [order[edges[c] : edges[c + 1]] for c in range(count)] if count else []
        self._log_vector = np.zeros(self.cycles.inner.n)
        self._brackets: dict[float, Bracket] = {}

    def bracket(self, alpha: float) -> Bracket:
        """Return a certified bracket of log rho(A^(alpha)).

        Raises:
            InputError: alpha is not a finite number >= 0.
        """
        if not 0.0 <= alpha < math.inf:
            raise InputError("alpha", alpha, "a finite number >= 0")
        if alpha not in self._brackets:
            self._brackets[alpha] = self._compute(float(alpha))
        return self._brackets[alpha]

    def _compute(self, alpha: float) -> Bracket:
        if not self._members:
            return Bracket(-math.inf, -math.inf)
        base = alpha * self.cycles.mean
        edge = alpha * self.cycles.inner.log_prob - base[self.cycles.component[self.cycles.inner.source]]
        start = self._best_start(edge, alpha)
        y, lower, upper = self._sweep(self._balanced(edge, start))
        log_x = start + np.log(y)
        matrix = self._balanced(edge, log_x)
        low, high = base + lower, base + upper
        for c in np.argsort(-high):
            if high[c] <= low.max() or high[c] - low[c] <= CLOSE:
                continue
            members = self._members[c]
            log_y, below, above = _perron(matrix[members][:, members])
            log_x[members] += log_y
            low[c], high[c] = max(low[c], base[c] + below), min(high[c], base[c] + above)
        self._log_vector = log_x
        return Bracket(float(low.max()), float(high.max()))

    def _balanced(self, edge: FloatArray, log_x: FloatArray) -> csr_array:
        """Return the matrix of log-weights after the diagonal similarity that makes x the vector of ones."""
        inner = self.cycles.inner
        with np.errstate(over="ignore"):  # a start that does not suit this alpha; its bracket says so
            return inner.matrix(np.exp(edge + log_x[inner.target] - log_x[inner.source]))

    def _best_start(self, edge: FloatArray, alpha: float) -> FloatArray:
        """Return, for each component, the log of the first vector with the narrowest bracket, shape [k].

        The potentials suit large alpha, ones suit alpha = 1, where rows sum to nearly 1, and the last vector its
        neighbourhood.
        """
        label = self.cycles.component
        chosen, best = alpha * self.cycles.potential, np.full(len(self._members), np.inf)
        for log_x in (chosen, np.zeros(label.size), self._log_vector):
            lower, upper = self._extremes(np.asarray(self._balanced(edge, log_x).sum(axis=1)).ravel())
            with np.errstate(divide="ignore", invalid="ignore"):
                width = np.log(upper) - np.log(lower)
            narrower = width < best  # false for NaN
            best = np.where(narrower, width, best)
            chosen = np.where(narrower[label], log_x, chosen)
        return chosen

    def _extremes(self, ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the smallest and the largest number within each component, each shape [c]."""
        lower, upper = np.full(len(self._members), np.inf), np.zeros(len(self._members))
        np.minimum.at(lower, self.cycles.component, ratio)
        np.maximum.at(upper, self.cycles.component, ratio)
        return lower, upper

    def _sweep(self, matrix: csr_array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return x after power iterations of every component at once, and brackets of the logs of their roots, [c]."""
        label, x, sweeps = self.cycles.component, np.ones(self.cycles.inner.n), 0
        while True:
            y = matrix @ x
            lower, upper = self._extremes(y / x)
            sweeps += 1
            if sweeps == SWEEPS or np.all(upper - lower <= CLOSE * upper):
                return x, np.log(lower), np.log(upper)
            x = y + upper[label] * x  # the shift keeps periodic components from oscillating
            x = np.maximum(x / self._extremes(x)[1][label], SMALLEST)


def _perron(matrix: csr_array) -> tuple[FloatArray, float, float]:
    """Return the log of the Perron vector of an irreducible matrix, and a bracket of the log of its root.

    After each step the matrix is rescaled so that the vector becomes ones; so entries of any size keep their accuracy.
    ARPACK or LAPACK goes first. Where it leaves more than :data:`LOOSE`, inverse iteration shifted to the bracket's
    upper end follows (Noda 1971): quadratic from any positive vector, also for the long, nearly periodic corridors on
    which products with the matrix make no headway. Their LU factors are sparse; those of well mixing graphs, which do
    not get there, are not.
    """
    ones, log_x = np.ones(_size(matrix)), np.zeros(_size(matrix))
    low, high = _collatz(matrix, ones)
    for step in range(INVERSIONS):
        if high - low <= (LOOSE if step == 1 else CLOSE):
            break
        y = _smooth(matrix, _eigenvector(matrix) if step == 0 else _invert(matrix, high))
        below, above = _collatz(matrix, y)
        narrower = min(high, above) - max(low, below) < high - low
        low, high = max(low, below), min(high, above)
        if step > 0 and not narrower:
            break
        log_x += np.log(y)
        matrix = csr_array(diags_array(1.0 / y) @ matrix @ diags_array(y))
    return log_x, low, high


def _smooth(matrix: csr_array, y: FloatArray) -> FloatArray:
    """Return y after power iterations, which repair its small entries first."""
    for _ in range(SWEEPS):
        lower, upper = _collatz(matrix, y)
        if upper - lower <= CLOSE:
            break
        y = matrix @ y + math.exp(upper) * y
        y = np.maximum(y / y.max(), SMALLEST)
    return y


def _invert(matrix: csr_array, high: float) -> FloatArray:
    """Return one step of inverse iteration from ones, shifted to the upper bound ``high`` of the log root."""
    shifted = math.exp(high) * (1.0 + 1e-15) * identity(_size(matrix), format="csc") - matrix
    y = np.abs(splu(csc_array(shifted)).solve(np.ones(_size(matrix))))
    return np.maximum(y / y.max(), SMALLEST)


def _collatz(matrix: csr_array, x: FloatArray) -> tuple[float, float]:
    with np.errstate(divide="ignore"):
        ratio = np.log((matrix @ x) / x)
    return float(ratio.min()), float(ratio.max())


def _size(matrix: csr_array) -> int:
    return matrix.indptr.size - 1


def _eigenvector(matrix: csr_array) -> FloatArray:
    """Return the positive eigenvector as LAPACK or ARPACK finds it, or ones where ARPACK gives up."""
    ones = np.ones(_size(matrix))
    if ones.size <= DENSE:
        values, vectors = np.linalg.eig(matrix.toarray())
        found = vectors[:, np.argmax(np.real(values))]
    else:
        try:
            # largest real part, not modulus: a component of period d has d roots of equal modulus
            found = eigs(matrix, k=1, which="LR", v0=ones, tol=1e-10, maxiter=300)[1][:, 0]  # pyright: ignore[reportArgumentType]
        except ArpackError:
            return ones
    y = np.abs(found)
    return np.maximum(y / y.max(), SMALLEST)


def critical_alpha(spectrum: Spectrum) -> float | None:
    """Return the alpha in [0, 1] above which p^alpha exists; None if it exists for every alpha >= 0.

    log rho is convex and falls in alpha, from log rho of the graph itself (>= 0 as soon as there is a cycle) to a
    negative value at alpha = 1, so there is one root. It is 0 if the strong components are single cycles.
    """
    inner = spectrum.cycles.inner
    if inner.n == 0:
        return None
    if inner.source.size == inner.n:
        return 0.0
    if spectrum.bracket(1.0).middle >= 0.0:  # leaks below the rounding of 1
        return 1.0
    from scipy.optimize import brentq

    root = brentq(lambda alpha: spectrum.bracket(alpha).middle, 0.0, 1.0, xtol=1e-13)
    return float(root)  # pyright: ignore[reportArgumentType]
