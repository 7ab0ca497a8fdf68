"""The phase portrait of three outcomes: fixed points, basins and their borders on the 2-simplex.

With A_i = a_i - c_i log pi_i (`sharpen.theory.core.advantage`) the sign of c decides which of three pictures it is, for
the natural-gradient flow and for the softmax-gradient flow alike, because both climb the same function:

- c > 0: every policy with full support flows to the one interior point;
- c = 0: every one flows to the face arg max a (a vertex unless there are ties), so there is one basin;
- c < 0 (self-sharpening with alpha > 1): the three vertices attract, the interior point repels, and the stable
  manifolds of the three edge saddles, which all start at the repeller, are the borders of the basins. For the natural
  gradient and equal lengths the border of i and j is where log pi_i + a_i/|c| = log pi_j + a_j/|c|: straight lines.

Edges are invariant and belong to no basin. See docs/theory-phase.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpen.objective import InputError, Objective
from sharpen.theory.core.advantage import AdvantageLine, advantage_line, interior_point
from sharpen.theory.core.backend import condition
from sharpen.theory.core.frames import Rows, policy_columns, table
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.core.ties import top_face
from sharpen.theory.instability.phase_curves import Field, check_field, nullclines, stable_manifold, trajectory
from sharpen.theory.instability.stationary import FixedPoint, fixed_points

if TYPE_CHECKING:
    from pandas import DataFrame

EDGES = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True, eq=False)
class Separatrix:
    """The border of two basins.

    Attributes:
        saddle: Outcomes of the edge whose saddle the curve runs into.
        points: Policies from that saddle to the repeller, shape [k, 3].
        exact: Whether the curve is a straight segment known in closed form, or integrated.
    """

    saddle: tuple[int, int]
    points: FloatArray
    exact: bool

    def frame(self) -> DataFrame:
        """Return one row per point of the curve: probability_0, probability_1 and probability_2."""
        return table(policy_columns(self.points))


@dataclass(frozen=True, eq=False)
class Basin:
    """The policies with full support that end in one place.

    Attributes:
        support: Outcomes of the end.
        end: The policy there, shape [3]; on a face that depends on the start, the base conditioned on it.
        continuum: Whether the end is a face, on which the place depends on the start.
        share: Fraction of the simplex's area.
        polygon: The basin's border, shape [k, 3], policies in order.
    """

    support: tuple[int, ...]
    end: FloatArray
    continuum: bool
    share: float
    polygon: FloatArray

    def row(self) -> dict[str, Any]:
        """Return the basin as a row of a table."""
        end = {name: float(column[0]) for name, column in policy_columns(self.end[None]).items()}
        return {"support": self.support, "continuum": self.continuum, "share": self.share, **end}


@dataclass(frozen=True, eq=False)
class Portrait:
    """The phase portrait of three outcomes: everything that `sharpen theory phase` shows.

    Attributes:
        field: ``natural`` or ``softmax``.
        line: A of the three outcomes.
        points: The fixed points, with the natural-gradient flow's eigenvalues and class; both flows have the same
            points and classes.
        eigenvalues: Of this field's linearisation at each of the points, shapes [2], descending. For the softmax flow
            the ones towards absent outcomes are 0: there it decides at second order.
        basins: The basins.
        separatrices: Their borders inside the simplex.
        exact: Whether borders and shares are closed forms.
    """

    field: Field
    line: AdvantageLine
    points: tuple[FixedPoint, ...]
    eigenvalues: tuple[FloatArray, ...]
    basins: tuple[Basin, ...]
    separatrices: tuple[Separatrix, ...]
    exact: bool

    def frame(self) -> DataFrame:
        """Return one row a basin: support, continuum and share, and the probabilities of its end."""
        return Rows(self.basins).frame()


def portrait(objective: Objective, problem: Problem, field: str = "natural") -> Portrait:
    """Return the phase portrait of an objective on three outcomes.

    Args:
        objective: ``reference = refresh:K`` is answered as ``policy``.
        problem: Three outcomes of positive base probability.
        field: ``natural`` or ``softmax`` gradient.

    Raises:
        InputError: the problem has no three outcomes, the field is unknown, the potential overflows, or the softmax
            flow's basins cannot be resolved.

    Example:
        >>> from sharpen.objective import preset
        >>> found = portrait(preset("tempered", reference="policy"), Problem([0.5, 0.3, 0.2], [0, 1, 0]))
        >>> [round(basin.share, 4) for basin in found.basins]
        [0.3333, 0.3333, 0.3333]
    """
    kind = check_field(field)
    if problem.n != 3 or not problem.support.all():
        raise InputError("base", problem.base.tolist(), "three outcomes of positive probability")
    line = advantage_line(objective, problem, problem.support)
    found = Rows(fixed_points(objective, problem).points)
    natural = kind == "natural"
    eigenvalues = tuple(point.eigenvalues if natural else _softmax_eigenvalues(line, point) for point in found)
    if line.sign >= 0:
        basins, borders = (_whole_simplex(line, problem, found),), ()
    else:
        borders = _separatrices(line, kind)
        basins = tuple(_vertex_basin(i, borders) for i in range(3))
    return Portrait(kind, line, found, eigenvalues, basins, borders, all(border.exact for border in borders))


def _whole_simplex(line: AdvantageLine, problem: Problem, points: tuple[FixedPoint, ...]) -> Basin:
    """Return the one basin of an objective with c >= 0."""
    corners = np.eye(3)
    if line.sign > 0:
        inner = next(point for point in points if len(point.support) == 3)
        return Basin(inner.support, inner.probabilities, False, 1.0, corners)
    top = top_face(line.constant, line.scale)
    support = tuple(np.flatnonzero(top).tolist())
    return Basin(support, np.exp(condition(problem.log_base, top)), len(support) > 1, 1.0, corners)


def _separatrices(line: AdvantageLine, field: Field) -> tuple[Separatrix, ...]:
    """Return the stable manifolds of the three edge saddles, for c < 0."""
    source = interior_point(line, np.ones(3, dtype=bool))
    # Equal slopes and the natural gradient: log-ratios of pi_i exp(a_i/|c|) all grow at one rate, so lines of equal
    # ones are invariant. With equal a too, exchanging the two outcomes is a symmetry of the softmax flow.
    straight = bool(np.ptp(line.slope) == 0.0 and (field == "natural" or np.ptp(line.constant) == 0.0))
    borders = []
    for edge in EDGES:
        saddle = interior_point(line, np.isin(np.arange(3), edge))
        points = np.exp([saddle, source]) if straight else stable_manifold(line, saddle, source, field)
        borders.append(Separatrix(edge, points, straight))
    return tuple(borders)


def _vertex_basin(vertex: int, borders: tuple[Separatrix, ...]) -> Basin:
    corner = np.eye(3)[vertex]
    first, second = (border.points for border in borders if vertex in border.saddle)
    polygon = np.concatenate([corner[None], first, second[-2::-1]])  # the repeller, common to both, once
    return Basin((vertex,), corner, False, _share(polygon), polygon)


def _share(polygon: FloatArray) -> float:
    """Return a polygon's area over the simplex's (the shoelace formula in two of the three coordinates)."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)))


def simplex_grid(resolution: int) -> FloatArray:
    """Return the centres of the resolution^2 equal triangles that tile the simplex, shape [resolution^2, 3].

    Raises:
        InputError: the resolution is not between 1 and 2000.
    """
    if not 1 <= resolution <= 2000:
        raise InputError("resolution", resolution, "a whole number from 1 to 2000")
    i, j = np.meshgrid(np.arange(resolution), np.arange(resolution), indexing="ij")
    upward = np.stack([i, j], axis=-1)[i + j < resolution] + 1.0 / 3.0
    downward = np.stack([i, j], axis=-1)[i + j < resolution - 1] + 2.0 / 3.0
    two = np.concatenate([upward, downward]) / resolution
    return np.concatenate([two, 1.0 - two.sum(axis=1, keepdims=True)], axis=1)


def basin_of(found: Portrait, starts: ArrayLike) -> NDArray[np.intp]:
    """Return the index of the basin of each start, -1 on a border, shape [m].

    With closed-form borders this is `sharpen.theory.core.flow.limit` for many starts at once; with integrated ones it
    is read off the polygons.

    Args:
        found: The portrait.
        starts: Policies with full support, shape [m, 3].

    Raises:
        InputError: a start has a probability that is not positive.
    """
    pi = np.asarray(starts, dtype=np.float64)
    if pi.ndim != 2 or pi.shape[1] != 3 or not np.all((pi > 0) & (pi < 1)):
        raise InputError("starts", starts, "policies with three positive probabilities")
    if len(found.basins) == 1:
        return np.zeros(len(pi), dtype=np.intp)
    if found.exact:
        level, scale = found.line.level(np.log(pi))
        tied = top_face(level, scale).sum(axis=1) > 1
        return np.where(tied, -1, np.argmax(level, axis=1))
    inside = np.stack([_inside(basin.polygon, pi) for basin in found.basins], axis=1)
    return np.where(inside.sum(axis=1) == 1, np.argmax(inside, axis=1), -1)


def _inside(polygon: FloatArray, points: FloatArray) -> NDArray[np.bool_]:
    """Return whether each point is inside a polygon: a ray from it crosses the border an odd number of times."""
    odd = np.zeros(len(points), dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon[:, :2], np.roll(polygon[:, :2], -1, axis=0), strict=True):
        if y0 == y1:
            continue
        between = (y0 > points[:, 1]) != (y1 > points[:, 1])
        odd ^= between & (points[:, 0] < x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0))
    return odd


def grid_shares(found: Portrait, resolution: int) -> list[float]:
    """Return the fraction of the grid's triangle centres in each basin, a check of :attr:`Basin.share`."""
    index = basin_of(found, simplex_grid(resolution))
    return [float(np.mean(index == i)) for i in range(len(found.basins))]


def streamlines(found: Portrait, resolution: int = 5) -> list[FloatArray]:
    """Return the trajectories from the centres of a grid, shapes [k, 3]."""
    return [trajectory(found.line, start, found.field) for start in simplex_grid(resolution)]


def null_curves(found: Portrait) -> tuple[tuple[FloatArray, ...], ...]:
    """Return the nullclines of each outcome; see :func:`sharpen.theory.instability.phase_curves.nullclines`."""
    return nullclines(found.line, found.field)


def _softmax_eigenvalues(line: AdvantageLine, point: FixedPoint) -> FloatArray:
    """Return the eigenvalues of the softmax flow's linearisation at a fixed point, shape [2], descending.

    With B = diag(pi) - pi pi^T the flow is d pi / dt = B^2 A, and A is constant on the support, so the linearisation
    is B times the natural gradient's, -B (C - pi c^T), and 0 towards absent outcomes.
    """
    pi = point.probabilities
    covariance = np.diag(pi) - np.outer(pi, pi)
    natural = -(np.diag(line.slope) - np.outer(pi, line.slope))
    size = len(point.support)
    if size == 1:
        return np.zeros(2)
    kept = list(point.support)
    basis = np.linalg.qr(np.ones((size, 1)), mode="complete")[0][:, 1:]
    tangent = basis.T @ (covariance @ natural)[np.ix_(kept, kept)] @ basis
    inside = np.linalg.eigvals(tangent).real
    return np.sort(np.concatenate([np.asarray(inside, dtype=np.float64), np.zeros(3 - size)]))[::-1]
