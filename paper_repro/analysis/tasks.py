"""A study of several tasks: how score and likelihood go together on each, and contrasts of its arms.

Axis letters: S seeds, P problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sharpen.paper_repro.analysis.arms import Arm, FloatArray, at_seeds
from sharpen.paper_repro.analysis.evidence import SEARCH, Evidence, by_task
from sharpen.paper_repro.grids.registration import Registration
from sharpen.paper_repro.intervals.stats import Interval, bootstrap_interval


@dataclass(frozen=True)
class Study:
    """The results of a study with what it decides by.

    Args:
        registration: Tasks, arms and thresholds.
        tasks: The evidence on each task that has results.
        search: Results of the search of learning rates, by run.
    """

    registration: Registration
    tasks: Mapping[str, Evidence]
    search: Mapping[str, Mapping[str, Any]]

    @cached_property
    def areas(self) -> dict[str, Interval]:
        """Area under the curve of log p for being right, of each task whose base model was asked; see :func:`auc`."""
        found = {name: auc(evidence.base) for name, evidence in self.tasks.items() if evidence.base is not None}
        return {name: interval for name, interval in found.items() if interval is not None}

    def of_kind(self, aligned: bool) -> list[str]:
        """Return the tasks of which the base model says that they are aligned, or that they are not."""
        least = self.registration.aligned_from
        return [name for name, found in self.areas.items() if (found.mean >= least) == aligned]


def study(results: Mapping[str, Mapping[str, Any]], registration: Registration) -> Study:
    """Return the study of results."""
    found = by_task(results, registration)
    search = found.pop(SEARCH, None)
    return Study(registration, found, search.results if search is not None else {})


def correlation(base: Arm) -> Interval | None:
    """Return Corr(r, log p) within problems, mean over problems, with a bootstrap interval over problems.

    The samples of all seeds count together. A few very unlikely wrong samples raise it. Problems whose samples are all
    right, or all wrong, or all equally likely have no correlation and are left out; None where that leaves fewer than
    two, or nothing was measured.
    """
    if not base.has("corr_xr"):
        return None
    xx, rr, xr = (base.scores(name).sum(axis=0) for name in ("corr_xx", "corr_rr", "corr_xr"))
    known = (xx > 1e-12) & (rr > 1e-12)
    return bootstrap_interval(xr[known] / np.sqrt(xx[known] * rr[known])) if known.sum() > 1 else None


def auc(base: Arm) -> Interval | None:
    """Return the chance that a right sample is likelier than a wrong one of the same problem, ties by halves.

    Mean over seeds, then over the problems that have samples of both kinds, with a bootstrap interval over problems;
    None where fewer than two have, or nothing was measured.
    """
    if not base.has("auc"):
        return None
    tables = base.problems()
    sums, counts = np.zeros(len(tables[0]["auc"])), np.zeros(len(tables[0]["auc"]))
    for table in tables:
        values = np.array([np.nan if value is None else value for value in table["auc"]], dtype=float)
        sums += np.nan_to_num(values)
        counts += np.isfinite(values)
    return bootstrap_interval((sums / np.maximum(counts, 1))[counts > 0]) if (counts > 0).sum() > 1 else None


def paired(study: Study, task: str, names: tuple[str, ...], measure: str = "pass@1") -> dict[str, Arm] | None:
    """Return these arms of a task at the seeds that all have.

    None if one is missing or lacks the measure, too few seeds are common, or problems differ.
    """
    arms = study.tasks[task].arms
    if any(name not in arms or not arms[name].has(measure) for name in names):
        return None
    seeds = set.intersection(*(set(arms[name].seeds) for name in names))
    if len(seeds) < study.registration.seeds:
        return None
    cut = {name: at_seeds(arms[name], seeds) for name in names}
    asked = {tuple(table["ids"]) for arm in cut.values() for table in arm.problems()}
    return cut if len(asked) == 1 else None


def gain(arms: Mapping[str, Arm], name: str, base: str, measure: str = "pass@1") -> FloatArray:
    """Return an arm minus the base at the same seed and problem, shape [S, P]."""
    return arms[name].scores(measure) - arms[base].scores(measure)
