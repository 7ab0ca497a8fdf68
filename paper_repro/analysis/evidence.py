"""What the rules of the verdict read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from sharpen.paper_repro.analysis.arms import Arm, gather
from sharpen.paper_repro.analysis.contrasts import BASE, Comparison, Stability, against_base, stability
from sharpen.paper_repro.grids.registration import Registration
from sharpen.paper_repro.intervals.stats import Interval

SEARCH = "search"
Outcome = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True)
class Part:
    """One test within a verdict.

    Args:
        test: What was tested, as a statement.
        outcome: Whether the numbers bear the statement out, show the opposite, or neither.
        reason: The numbers, or what is missing.
        runs: Ids of the results that were read.
    """

    test: str
    outcome: Outcome
    reason: str
    runs: list[str]


@dataclass(frozen=True)
class Evidence:
    """The results that bear on one model, with those of theory and toy.

    Args:
        results: By run id, as stored.
        model: The model; None where no model has results.
        base_arm: Name of the base model's arm.
        prefix: Of the names of its arms in the results; None for the model's.
    """

    results: Mapping[str, Mapping[str, Any]]
    model: str | None = None
    base_arm: str = BASE
    prefix: str | None = None

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """Arms of the language model, without its name, or that of the task, in front."""
        return gather(self.results.values(), prefix=f"{self.model}_" if self.prefix is None else self.prefix)

    @cached_property
    def accuracy(self) -> dict[str, Comparison]:
        """pass@1 of each arm against the base."""
        return against_base(self.arms, "pass@1", self.base_arm)

    @property
    def base(self) -> Arm | None:
        """The base model."""
        return self.arms.get(self.base_arm)

    def exact(self, run: str) -> Mapping[str, Any] | None:
        """Return the result of a theory or toy run, None if it is missing."""
        found = self.results.get(run)
        return found["result"] if found is not None else None

    def trained(self, *, regime: str | None = None, fixed: bool = False, normalization: str = "sum") -> dict[str, Arm]:
        """Return trained arms of a regime, by name."""
        return {
            name: arm
            for name, arm in self.arms.items()
            if arm.objective is not None
            and (regime is None or arm.regime == regime)
            and arm.fixed == fixed
            and arm.objective.normalization == normalization
        }

    @property
    def as_published(self) -> dict[str, Arm]:
        """Trained arms without a reward that the paper ran too, by name: free length, likelihood as a sum, alpha > 1.

        The null control is none of them: what it gains is not sharpening's.
        """
        kinds = {**self.trained(regime="sharpening"), **self.trained(regime="tempered")}
        return {
            name: arm
            for name, arm in kinds.items()
            if arm.objective is not None and (arm.regime == "sharpening" or arm.objective.alpha > 1)
        }

    def stability(self, arm: Arm) -> Stability | None:
        """Return how an arm's runs end; None without the base model."""
        return stability(arm, float(self.base.scores("pass@1").mean())) if self.base is not None else None


def by_model(results: Mapping[str, Mapping[str, Any]]) -> list[Evidence]:
    """Return the evidence on each model that has results, in their order; all of it in one if none has."""
    models = dict.fromkeys(model_of(result) for result in results.values())
    names = [name for name in models if name is not None]
    return [
        Evidence({run: result for run, result in results.items() if model_of(result) in (None, name)}, name)
        for name in names or [None]
    ]


def by_task(results: Mapping[str, Mapping[str, Any]], registration: Registration) -> dict[str, Evidence]:
    """Return the evidence on each task of a study that has results; ``search`` has what belongs to none."""
    prefixes = {name: task.prefix for name, task in registration.tasks.items()}
    found: dict[str, dict[str, Mapping[str, Any]]] = {name: {} for name in (*prefixes, SEARCH)}
    for run, result in results.items():
        task = next((name for name, prefix in prefixes.items() if result["arm"].startswith(prefix)), SEARCH)
        found[task][run] = result
    return {
        name: Evidence(own, f"{model_of(next(iter(own.values())))}/{name}", prefix=prefixes.get(name, ""))
        for name, own in found.items()
        if own
    }


def model_of(result: Mapping[str, Any]) -> str | None:
    """Return the model of a result; None for theory and toy."""
    return result["settings"]["config"]["model"] if result["kind"] in ("train", "sample") else None


def runs_of(*arms: Arm | None) -> list[str]:
    """Return the ids of the arms' results."""
    return [result["id"] for arm in arms if arm is not None for result in arm.results]


def missing(test: str, what: Iterable[str]) -> list[Part]:
    """Return the undecided part of a rule whose runs are missing."""
    return [Part(test, "undecided", f"not computed yet: {', '.join(what)}", [])]


def show(interval: Interval, digits: int = 3) -> str:
    """Return an interval for reading.

    Example:
        >>> show(Interval(0.5, 0.25, 0.75))
        '0.500 [0.250, 0.750]'
    """
    return f"{interval.mean:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
