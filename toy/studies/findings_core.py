"""What a finding is: a statement, the sweeps that test it, and the rule that decides it from their runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.toy.dynamics.measures import FIXED, mean_interval, wilson
from sharpen.toy.sweeps.config import SweepConfig

SMALL = 0.01  # nats, or a probability; less counts as none
Runs = dict[str, NDArray[Any]]


class Interval(NamedTuple):
    """A number with its 95% interval over seeds: Student's t for means, Wilson's for shares.

    A number that is not random, of an exact learner or of the theory, has ``low = mean = high``.
    """

    mean: float
    low: float
    high: float


class Verdict(NamedTuple):
    """What a finding's runs say.

    Args:
        holds: Whether the rule found the statement borne out.
        numbers: The intervals that decided it, by name.
    """

    holds: bool
    numbers: dict[str, Interval]


@dataclass(frozen=True)
class Finding:
    """A statement and its test.

    Args:
        name: On the command line.
        statement: What is claimed.
        sweeps: From the number of seeds to the sweeps to run, by name.
        decide: From the sweeps' tables, by name, to the verdict.
    """

    name: str
    statement: str
    sweeps: Callable[[int], dict[str, SweepConfig]]
    decide: Callable[[dict[str, Runs]], Verdict]


def exactly(number: float) -> Interval:
    """Return a number that is not random as an interval without width."""
    return Interval(float(number), float(number), float(number))


def at(runs: Runs, measure: str, step: int | None = None, **axes: Any) -> NDArray[np.float64]:
    """Return a measure of one setting over its seeds, shape [S], at a recorded step; the last one if none is named."""
    chosen = runs["step"] == (runs["step"].max() if step is None else step)
    for axis, given in axes.items():
        chosen &= runs[axis] == given
    return runs[measure][chosen].astype(float)


def over_seeds(values: NDArray[np.float64]) -> Interval:
    """Return the mean over seeds with its 95% t-interval."""
    mean, interval = mean_interval(values)
    low, high = interval or (mean, mean)
    return Interval(mean, low, high)


def at_end(runs: Runs, measure: str, **axes: Any) -> Interval:
    """Return a measure at the last step over the seeds of one setting."""
    return over_seeds(at(runs, measure, **axes))


def fixed_share(runs: Runs, outcome: int | None = None, **axes: Any) -> Interval:
    """Return the share of runs whose likeliest outcome has 0.99 or more at the end, with its Wilson interval.

    Args:
        runs: A sweep's table.
        outcome: Count only runs fixed at this one.
        axes: The setting.
    """
    fixed = at(runs, "top1", **axes) >= FIXED
    if outcome is not None:
        fixed &= at(runs, "top_outcome", **axes) == outcome
    return Interval(float(np.mean(fixed)), *wilson(int(fixed.sum()), fixed.size))


def top_share(runs: Runs, outcome: int, **axes: Any) -> Interval:
    """Return the share of runs whose likeliest outcome at the end is this one, with its Wilson interval."""
    top = at(runs, "top_outcome", **axes) == outcome
    return Interval(float(np.mean(top)), *wilson(int(top.sum()), top.size))
