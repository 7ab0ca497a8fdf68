"""Results gathered by arm: the runs of one objective or method, their seeds side by side.

Axis letters: S seeds, P problems, T updates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import Objective
from sharpen.objective.counts import pass_at_k

FloatArray = NDArray[np.float64]
CHECKPOINTS = ("base", "best", "last")
KS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Arm:
    """One arm: an objective that was trained, or a method that samples.

    Args:
        name: The id of its runs without the seed.
        experiment: What they belong to.
        kind: ``train`` or ``sample``.
        results: The stored results, by seed, ascending.
    """

    name: str
    experiment: str
    kind: str
    results: tuple[Mapping[str, Any], ...] = field(repr=False)

    @property
    def seeds(self) -> list[int]:
        """The seeds that there are."""
        return [result["seed"] for result in self.results]

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings, of the first seed."""
        return self.results[0]["settings"]["config"]

    @property
    def objective(self) -> Objective | None:
        """The objective of a trained arm."""
        return Objective.model_validate(self.config["objective"]) if self.kind == "train" else None

    @property
    def fixed(self) -> bool:
        """Whether end-of-sequence was ignored in training."""
        return bool(self.config.get("ignore_eos", False))

    @property
    def regime(self) -> str:
        """The objective's regime, or ``sampling``."""
        return self.objective.regime if self.objective is not None else "sampling"

    @property
    def checkpoints(self) -> list[str]:
        """The checkpoints that were evaluated: ``last`` and ``best``, or ``base``."""
        return list(self.results[0]["result"]["checkpoints"])

    @property
    def final(self) -> str:
        """The checkpoint that stands for the arm: ``last``, or ``base`` where nothing is trained."""
        return "last" if "last" in self.checkpoints else "base"

    @property
    def data(self) -> list[str]:
        """The data sets of the evaluation."""
        return list(self.results[0]["result"]["checkpoints"][self.final]["problems"])

    def problems(self, checkpoint: str | None = None, data: str | None = None) -> list[Mapping[str, Any]]:
        """Return the table of problems of each seed."""
        data = data or self.data[0]
        return [result["result"]["checkpoints"][checkpoint or self.final]["problems"][data] for result in self.results]

    def scores(self, measure: str, checkpoint: str | None = None, data: str | None = None) -> FloatArray:
        """Return a measure of every problem, shape [S, P].

        Args:
            measure: ``pass@k`` or ``maj@k`` for k = 1, 2, 4, 8, 16, or a column of the table.
            checkpoint: One of :attr:`checkpoints`; None for :attr:`final`.
            data: Data set; None for the first.
        """
        tables = self.problems(checkpoint, data)
        if measure.startswith("pass@"):
            k = int(measure.removeprefix("pass@"))
            return np.array([pass_at_k(table["correct"], table["samples"], k) for table in tables])
        return np.array([table[measure] for table in tables], dtype=float)

    def has(self, measure: str) -> bool:
        """Return whether every seed was asked often enough for a measure, and keeps it."""
        if measure.startswith("pass@"):
            return int(measure.removeprefix("pass@")) <= min(table["samples"] for table in self.problems())
        return all(measure in table for table in self.problems())

    def curve(self, metric: str) -> FloatArray:
        """Return a training metric, shape [S, T], NaN where it has no value."""
        rows = [result["result"]["training"][metric] for result in self.results]
        return np.array([[np.nan if x is None else x for x in row] for row in rows], dtype=float)

    def selection(self) -> tuple[list[int], FloatArray]:
        """Return the updates of the checkpoints, from 0, and their held-out pass@1, shape [S, checkpoints]."""
        rows = [result["result"]["selection"] for result in self.results]
        return [row["step"] for row in rows[0]], np.array([[row["pass@1"] for row in one] for one in rows])

    def slope(self, *, own: bool = True, checkpoint: str | None = None) -> FloatArray | None:
        """Return the slope of log pi on log p within problems, of each seed; None where it was not measured.

        Args:
            own: Over samples of the policy (``alpha_own``); False: over samples of the base, scored by the policy
                (``alpha_base``). The two agree on a path of p^alpha, and nowhere else.
            checkpoint: One of :attr:`checkpoints`; None for :attr:`final`.
        """
        tables = self.problems(checkpoint)
        if not own:
            return _base_slopes(tables)
        if any("alpha_xx" not in table for table in tables):
            return None
        ratios = [(sum(table["alpha_xy"]), sum(table["alpha_xx"])) for table in tables]
        return np.array([xy / xx if xx > 1e-9 else np.nan for xy, xx in ratios])


def _base_slopes(tables: list[Mapping[str, Any]]) -> FloatArray | None:
    if any("cross" not in table for table in tables):
        return None
    found = []
    for table in tables:
        # In ``cross`` the base samples: its own score is called logprob, the policy's base_logprob.
        log_p, log_pi = (
            [np.asarray(column, dtype=float) for column in table["cross"][name]] for name in ("logprob", "base_logprob")
        )
        x, y = (np.concatenate([column - column.mean() for column in columns]) for columns in (log_p, log_pi))
        found.append(float(x @ y / (x @ x)) if x @ x > 1e-9 else np.nan)
    return np.array(found)


def gather(results: Iterable[Mapping[str, Any]], prefix: str = "") -> dict[str, Arm]:
    """Return the arms of models that have results, by name, in the order of the results.

    Args:
        results: As stored.
        prefix: Left out of the names where they have it.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        if result["kind"] in ("train", "sample"):
            found.setdefault(result["arm"].removeprefix(prefix), []).append(result)
    arms = {}
    for name, rows in found.items():
        rows.sort(key=lambda result: result["seed"])
        arms[name] = Arm(name, rows[0]["experiment"], rows[0]["kind"], tuple(rows))
    return arms


def common_seeds(a: Arm, b: Arm) -> tuple[Arm, Arm]:
    """Return two arms cut to the seeds that both have, so that differences are paired by seed and problem."""
    seeds = set(a.seeds) & set(b.seeds)
    return at_seeds(a, seeds), at_seeds(b, seeds)


def at_seeds(arm: Arm, seeds: Collection[int]) -> Arm:
    """Return an arm's runs of these seeds alone."""
    return Arm(arm.name, arm.experiment, arm.kind, tuple(one for one in arm.results if one["seed"] in seeds))


def difference(a: Arm, b: Arm, measure: str, data: str | None = None) -> FloatArray | None:
    """Return a - b at the same seed and problem, shape [S, P]; None if no seed is common or the problems differ."""
    a, b = common_seeds(a, b)
    if not a.results:
        return None
    ids = [[table["ids"] for table in arm.problems(None, data)] for arm in (a, b)]
    return a.scores(measure, None, data) - b.scores(measure, None, data) if ids[0] == ids[1] else None
