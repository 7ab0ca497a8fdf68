"""The spectral radius of the entrywise power A^(alpha) of a model, by certified brackets, and the critical alpha.

p^alpha exists exactly if the radius is below 1 on the states that finite sequences visit. The radius is the largest of
the strong components' Perron roots; for any positive x

    min_s (B x)_s / x_s  <=  rho(B)  <=  max_s (B x)_s / x_s         (Collatz and Wielandt)

holds on each, so every number here comes with a bracket that rounding, not convergence, limits. Before taking powers
the edges are rescaled by the maximum cycle mean and its potentials (a diagonal similarity): all become <= 1, and those
of the best cycle 1, so that no alpha under- or overflows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackError, eigs

from sharpen.objective import InputError
from sharpen.theory.problem import FloatArray
from sharpen.theory.sequences.cycles import CycleMeans, cycle_means
from sharpen.theory.sequences.model import MarkovModel

CLOSE = 1e-12  # width of a bracket of log rho that ends the search
DENSE = 400  # states up to which all eigenvalues are computed at once
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
        self._vector = np.ones(self.cycles.inner.n)
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
        inner, label = self.cycles.inner, self.cycles.component
        shift = self.cycles.mean[label[inner.source]] + self.cycles.potential[inner.source]
        data = np.exp(alpha * (inner.log_prob - shift + self.cycles.potential[inner.target]))
        matrix, base = inner.matrix(data), alpha * self.cycles.mean
        x, lower, upper = self._sweep(matrix, self._vector, 1.0)
        low, high = base + lower, base + upper
        for c in np.argsort(-high):
            if high[c] <= low.max() or high[c] - low[c] <= CLOSE:
                continue
            members = self._members[c]
            x[members], below, above = _perron(matrix[members][:, members], x[members])
            low[c], high[c] = max(low[c], base[c] + below), min(high[c], base[c] + above)
        self._vector = x
        return Bracket(float(low.max()), float(high.max()))

    def _sweep(self, matrix: csr_array, x: FloatArray, shift: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return x after power iterations of every component at once, and brackets of the logs of their roots, [c]."""
        label, count = self.cycles.component, len(self._members)
        sweeps = 0
        while True:
            y = matrix @ x
            ratio = y / x
            lower, upper = np.full(count, np.inf), np.zeros(count)
            np.minimum.at(lower, label, ratio)
            np.maximum.at(upper, label, ratio)
            sweeps += 1
            if sweeps == SWEEPS or np.all(upper - lower <= CLOSE * upper):
                return x, np.log(lower), np.log(upper)
            top = np.zeros(count)
            x = y + shift * x  # the shift keeps periodic components from oscillating
            np.maximum.at(top, label, x)
            x = np.maximum(x / top[label], SMALLEST)


def _perron(matrix: csr_array, x: FloatArray) -> tuple[FloatArray, float, float]:
    """Return the Perron vector of an irreducible matrix, and a bracket of the log of its root."""
    best = (x, *_collatz(matrix, x))
    for tolerance in (1e-10, 0.0):
        y = _eigenvector(matrix, best[0], tolerance)
        for _ in range(SWEEPS):
            lower, upper = _collatz(matrix, y)
            if upper - lower < best[2] - best[1]:
                best = (y, lower, upper)
            if upper - lower <= CLOSE:
                return best
            y = matrix @ y + math.exp(upper) * y
            y = np.maximum(y / y.max(), SMALLEST)
    return best


def _collatz(matrix: csr_array, x: FloatArray) -> tuple[float, float]:
    with np.errstate(divide="ignore"):
        ratio = np.log((matrix @ x) / x)
    return float(ratio.min()), float(ratio.max())


def _eigenvector(matrix: csr_array, x: FloatArray, tolerance: float) -> FloatArray:
    """Return the positive eigenvector as LAPACK or ARPACK finds it, or x where ARPACK gives up."""
    if x.size <= DENSE:
        values, vectors = np.linalg.eig(matrix.toarray())
        found = vectors[:, np.argmax(np.real(values))]
    else:
        try:
            # largest real part, not modulus: a component of period d has d roots of equal modulus
            found = eigs(matrix, k=1, which="LR", v0=x, tol=tolerance, maxiter=300)[1][:, 0]  # pyright: ignore
        except ArpackError:
            return x
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
    root = brentq(lambda alpha: spectrum.bracket(alpha).middle, 0.0, 1.0, xtol=1e-13)
    return float(root)  # pyright: ignore[reportArgumentType]
