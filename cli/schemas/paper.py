"""The outputs of ``sharpen paper``."""

from __future__ import annotations

from typing import Any

from sharpen.cli.schemas.shapes import Loose, Shape, of


class Experiment(Shape):
    """What a part of a grid computes."""

    id: str
    scale: str
    kind: str
    title: str
    claim: str
    claims: dict[str, str] = of("The claims that it tests, in words.")
    runs: int
    done: int
    states: dict[str, int]
    status: str


class Experiments(Shape):
    """Output of ``paper list``."""

    experiments: list[Experiment]


class RunRow(Shape):
    """A run."""

    id: str
    arm: str
    seed: int | None
    experiment: str
    scale: str
    status: str
    command: str


class Runs(Shape):
    """Output of ``paper list --runs``."""

    runs: list[RunRow]


class Status(Shape):
    """Output of ``paper status``."""

    scale: str
    total: int
    done: int
    states: dict[str, list[str]] = of("Ids by state.")
    seconds_left: int | None = of("On one core; null: not known of this scale.")


class Plan(Loose):
    """What one run would take: settings, tokens, memory."""

    run: str
    experiment: str
    command: str
    seconds: int | None = of("On one core, where known.", default=None)


class Plans(Shape):
    """Output of ``paper run --dry-run``."""

    runs: list[Plan]


class Test(Shape):
    """One test of a claim."""

    test: str
    outcome: str
    reason: str


class Verdict(Shape):
    """A claim, judged."""

    claim: str
    statement: str
    outcome: str
    parts: list[Test]
    runs: Any = of("What it rests on.")
    standing: str | None = of("Whether its rules are known to be older than its runs.")


class Report(Shape):
    """Output of ``paper report``."""

    page: str
    figures: list[str]
    missing: dict[str, str] = of("Figures that were not drawn, and what they need.")
    verdicts: list[Verdict]


class Check(Shape):
    """A result, recomputed."""

    run: str
    identical: bool
    same: bool = of("Every number agrees within rounding.")
    close: bool
    differing: list[str]
    largest: float = of("Largest absolute difference.")
    proof: str | None


class Order(Shape):
    """How rules and runs follow each other."""

    rules: str | None = of("Hash of the rules; null: none were fixed first.")
    since: str | None = of("The commit that fixed them.")
    younger: dict[str, str]
    by_clock: list[str]
    picked: list[str]


class Verification(Shape):
    """Output of ``paper verify``."""

    checks: list[Check]
    rules: Order
