"""Stationary points one by one: what each is, and all of a problem's supports as a list that computes what is read.

For c of one sign (`sharpen.theory.instability.stationary`) the point on a support S is known from S: pi_i proportional
to exp(a_i / c_i) for equal c. Its class depends on the size of S alone, its value is the constant A, since
J = E[A] there, and only its eigenvalues, where the c differ, cost more than a few sums. So the list holds a number for
each support, its value and its reward, computed by blocks of supports, and makes the points when they are looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError
from sharpen.theory.core.advantage import AdvantageLine, interior_point
from sharpen.theory.core.frames import Rows
from sharpen.theory.core.problem import FloatArray, Problem

if TYPE_CHECKING:
    from pandas import DataFrame

CLASSES = ("stable", "neutral", "saddle", "unstable")
MAX_SLOPES = 1000  # distinct slopes (lengths) whose dense eigenvalue problem takes under a second
BLOCK_NUMBERS = 2**16  # supports times outcomes that are computed together, in the processor's cache


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """One stationary point, or one face of stationary points.

    Attributes:
        support: Indices of the outcomes with probability, ascending.
        probabilities: The policy, shape [n].
        value: J there (with a moving reference: with p set to this policy).
        expected_reward: E[r] there.
        eigenvalues: Of the flow's linearisation on the simplex over the base's m outcomes, shape [m - 1], descending;
            infinite where the flow is not differentiable (`sharpen.theory.instability.stationary`).
        kind: ``stable``, ``saddle``, ``unstable`` or ``neutral``; see :func:`classify`.
        continuum: Whether this stands for a whole face of stationary points with the same value.
    """

    support: tuple[int, ...]
    probabilities: FloatArray
    value: float
    expected_reward: float
    eigenvalues: FloatArray
    kind: str
    continuum: bool

    def row(self) -> dict[str, Any]:
        """Return the point as a row of a table; NaN for the eigenvalues of a single outcome, which has none."""
        eigenvalues = self.eigenvalues if self.eigenvalues.size else np.full(1, np.nan)
        return {
            "support": self.support,
            "kind": self.kind,
            "continuum": self.continuum,
            "value": self.value,
            "expected_reward": self.expected_reward,
            "largest_eigenvalue": float(eigenvalues[0]),
            "smallest_eigenvalue": float(eigenvalues[-1]),
        }


def classify(eigenvalues: FloatArray) -> str:
    """Return the class that the signs of the eigenvalues give.

    Some positive and some negative: ``saddle``. Some positive, none negative: ``unstable``. None positive, some zero:
    ``neutral``. All negative, or none at all (a single outcome): ``stable``.

    Example:
        >>> classify(np.array([np.inf, -1.0])), classify(np.array([0.0, -1.0]))
        ('saddle', 'neutral')
    """
    if np.any(eigenvalues > 0):
        return "saddle" if np.any(eigenvalues < 0) else "unstable"
    return "neutral" if np.any(eigenvalues == 0) else "stable"


class LazyPoints(Sequence[FixedPoint], ABC):
    """Points on supports of a problem, in an order, each made when it is read.

    A support is the number whose bit i says whether the base's i-th possible outcome is in it, so that 2^m - 1 points
    with their J and E[r] take 24 bytes each and not 8 m. These codes, the places in ``CLASSES``, J and E[r] are in the
    order of the points, shape [k] each.
    """

    _problem: Problem
    _m: int
    _codes: NDArray[np.int64]
    _kind: NDArray[np.integer[Any]]
    _value: FloatArray
    _reward: FloatArray

    @abstractmethod
    def _extremes(self, at: slice, masks: NDArray[np.bool_]) -> FloatArray:
        """Return the smallest and the largest eigenvalue of these points, shape [2, k]; NaN if there are none."""

    @abstractmethod
    def _laws(self, rows: NDArray[np.intp], masks: NDArray[np.bool_]) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield policy, shape [n], and eigenvalues, falling, of the points at these places."""

    def __len__(self) -> int:
        return self._codes.size

    def frame(self) -> DataFrame:
        """Return one row per point: support, kind, continuum, value, expected_reward, its extreme eigenvalues."""
        places = np.flatnonzero(self._problem.support)
        supports, ends = [], []
        width = max(1, BLOCK_NUMBERS // self._m)
        for at in (slice(start, start + width) for start in range(0, len(self), width)):
            masks = masks_of(self._codes[at], self._m)
            supports += [tuple(places[members].tolist()) for members in masks]
            ends.append(self._extremes(at, masks))
        smallest, largest = np.concatenate(ends, axis=1)
        from pandas import DataFrame

        return DataFrame(
            {
                "support": supports,
                "kind": np.array(CLASSES)[self._kind],
                "continuum": np.zeros(len(self), dtype=bool),
                "value": self._value,
                "expected_reward": self._reward,
                "largest_eigenvalue": largest,
                "smallest_eigenvalue": smallest,
            }
        )

    def _made(self, rows: NDArray[np.intp]) -> Iterator[FixedPoint]:
        masks = masks_of(self._codes[rows], self._m)
        places = np.flatnonzero(self._problem.support)
        for i, members, (policy, rates) in zip(rows.tolist(), masks, self._laws(rows, masks), strict=True):
            yield FixedPoint(
                support=tuple(places[members].tolist()),
                probabilities=policy,
                value=float(self._value[i]),
                expected_reward=float(self._reward[i]),
                eigenvalues=rates,
                kind=CLASSES[self._kind[i]],
                continuum=False,
            )

    @overload
    def __getitem__(self, index: int) -> FixedPoint: ...

    @overload
    def __getitem__(self, index: slice) -> Rows[FixedPoint]: ...

    def __getitem__(self, index: int | slice) -> FixedPoint | Rows[FixedPoint]:
        if isinstance(index, slice):
            return Rows(self._made(np.arange(len(self))[index]))
        return next(self._made(np.array([range(len(self))[index]])))

    def __iter__(self) -> Iterator[FixedPoint]:
        width = max(1, BLOCK_NUMBERS // self._problem.n)
        for start in range(0, len(self), width):
            yield from self._made(np.arange(start, min(start + width, len(self))))


class SupportPoints(LazyPoints):
    """The points of every non-empty support, stable ones first, then by falling value; each is made when it is read."""

    def __init__(self, problem: Problem, line: AdvantageLine) -> None:
        """Compute value and reward of every support.

        Args:
            problem: n outcomes, m of them in the base's support.
            line: a and c of these, shapes [m], with c of one sign and not 0.
        """
        self._problem, self._line = problem, line
        self._m = m = line.constant.size
        total = 2**m - 1
        codes = np.arange(1, total + 1)
        self._value, self._reward = np.empty(total), np.empty(total)
        kind, place = np.empty(total, dtype=np.int8), np.empty(total, dtype=np.int64)
        width = max(1, BLOCK_NUMBERS // m)
        for at in (slice(start, start + width) for start in range(0, total, width)):
            masks = masks_of(codes[at], m)
            self._value[at], self._reward[at] = _levels(problem, line, interior_point(line, masks))
            kind[at] = _kinds(line.sign, masks.sum(axis=1), m)
            place[at] = places_of(masks)
        order = np.lexsort((place, -self._value, kind))
        self._codes, self._kind = codes[order], kind[order]
        self._value, self._reward = self._value[order], self._reward[order]

    def _extremes(self, at: slice, masks: NDArray[np.bool_]) -> FloatArray:
        return _extremes(self._line, masks)

    def _laws(self, rows: NDArray[np.intp], masks: NDArray[np.bool_]) -> Iterator[tuple[FloatArray, FloatArray]]:
        places = np.flatnonzero(self._problem.support)
        policies = np.zeros((rows.size, self._problem.n))
        policies[:, places] = np.exp(interior_point(self._line, masks))
        for members, policy in zip(masks, policies, strict=True):
            yield policy, eigenvalues(self._line, members, policy[places])


def masks_of(codes: NDArray[np.int64], m: int) -> NDArray[np.bool_]:
    """Return the supports with these numbers as masks, shapes [k] to [k, m]."""
    return (codes[:, None] >> np.arange(m)) & 1 == 1


def _levels(problem: Problem, line: AdvantageLine, log_policies: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return J and E[r] of points given as log-probabilities, shapes [k, m] to [k]: J is A of the likeliest outcome."""
    best = np.argmax(log_policies, axis=1)
    value = line.constant[best] - line.slope[best] * log_policies[np.arange(best.size), best]
    return value, np.exp(log_policies) @ problem.reward[problem.support]


def _kinds(sign: int, size: NDArray[np.intp], m: int) -> NDArray[np.intp]:
    """Return the places in ``CLASSES`` of points on supports of these sizes, as their eigenvalues' signs give them."""
    whole, vertex = ("stable", "unstable") if sign > 0 else ("unstable", "stable")
    kind = np.where(size == 1, CLASSES.index(vertex), CLASSES.index("saddle"))
    kind = np.where(size == m, CLASSES.index(whole), kind)
    return np.full_like(kind, CLASSES.index("stable")) if m == 1 else kind


def places_of(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return numbers in the order of the supports as tuples of ascending outcomes, shape [k, m] to [k].

    At each outcome a tuple may have ended, which sorts first, or have it, or have a later one: digits of base three.
    """
    later = np.cumsum(masks[:, ::-1], axis=1)[:, ::-1] > 0  # whether this outcome or a later one is in the support
    digits = np.where(masks, 1, np.where(later, 2, 0))
    return digits @ 3 ** np.arange(masks.shape[1] - 1, -1, -1, dtype=np.int64)


def eigenvalues(line: AdvantageLine, members: NDArray[np.bool_], pi: FloatArray) -> FloatArray:
    """Return the eigenvalues of the point on one support, falling, shape [m - 1], c of one sign.

    Args:
        line: a and c, shapes [m].
        members: Mask of the support, shape [m].
        pi: Probabilities there, shape [m].

    Raises:
        InputError: there are more than 1000 distinct slopes in the support.
    """
    outside = np.full(members.size - int(members.sum()), line.sign * np.inf)
    return np.sort(np.concatenate([_tangent_eigenvalues(line.slope[members], pi[members]), outside]))[::-1]


def _tangent_eigenvalues(slope: FloatArray, pi: FloatArray) -> FloatArray:
    """Return the eigenvalues of -C + pi c^T on vectors that sum to zero, shape [s - 1].

    Scaled by sqrt(pi) on both sides it is the symmetric -P C P with P the projector off sqrt(pi). Outcomes that share a
    slope span eigenvectors of their own, eigenvalue -c, so only one dimension a distinct slope is left to solve.
    """
    values, group, count = np.unique(slope, return_inverse=True, return_counts=True)
    if values.size > MAX_SLOPES:
        raise InputError("length", f"{values.size} distinct lengths", f"at most {MAX_SLOPES} of them")
    shared = np.repeat(-values, count - 1)
    unit = np.sqrt(np.bincount(group, weights=pi))
    # Orthonormal columns that span the complement of `unit`: all but the first of a complete QR factorisation.
    basis = np.linalg.qr(unit[:, None], mode="complete")[0][:, 1:]
    mixed = np.linalg.eigvalsh(-basis.T @ (values[:, None] * basis))
    return np.concatenate([shared, np.asarray(mixed, dtype=np.float64)])


def _extremes(line: AdvantageLine, masks: NDArray[np.bool_]) -> FloatArray:
    """Return the smallest and the largest eigenvalue of each support's point, shape [k, m] to [2, k]; NaN if none."""
    m = line.constant.size
    sizes = masks.sum(axis=1)
    low, high = np.full(sizes.size, np.inf), np.full(sizes.size, -np.inf)
    equal = bool(np.all(line.slope == line.slope[0]))
    pi = np.empty(0) if equal else np.exp(interior_point(line, masks))
    for size in np.unique(sizes[sizes > 1]).tolist():
        rows = np.flatnonzero(sizes == size)
        if equal:
            low[rows] = high[rows] = -line.slope[0]
            continue
        columns = np.nonzero(masks[rows])[1].reshape(-1, size)
        found = _many_tangent_eigenvalues(line.slope[columns], pi[rows[:, None], columns])
        low[rows], high[rows] = found[:, 0], found[:, -1]
    outside, rate = sizes < m, line.sign * np.inf
    low[outside] = np.minimum(low[outside], rate)
    high[outside] = np.maximum(high[outside], rate)
    return np.full((2, sizes.size), np.nan) if m == 1 else np.array([low, high])


def _many_tangent_eigenvalues(slope: FloatArray, pi: FloatArray) -> FloatArray:
    """Return the eigenvalues on supports of one size, ascending, shapes [k, s] to [k, s - 1].

    As of one support, with the reflection that takes sqrt(pi) to the first axis in the place of a QR factorisation.
    """
    mirror = np.sqrt(pi)
    mirror /= np.linalg.norm(mirror, axis=1, keepdims=True)
    mirror[:, 0] += 1.0
    mirror /= np.linalg.norm(mirror, axis=1, keepdims=True)
    basis = np.eye(pi.shape[1]) - 2.0 * mirror[:, :, None] * mirror[:, None, :]
    basis = basis[:, :, 1:]
    found = np.linalg.eigvalsh(-np.swapaxes(basis, 1, 2) @ (slope[:, :, None] * basis))
    return np.asarray(found, dtype=np.float64)
