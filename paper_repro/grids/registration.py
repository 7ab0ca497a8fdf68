"""What a study decides by, declared in its grid before its first run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sharpen.objective.settings import Name, Settings, Text

Kind = Literal["aligned", "not-aligned"]
Share = Annotated[float, Field(gt=0, lt=1)]


class RegisteredTask(Settings):
    """One task of a study.

    Args:
        data: Data spec of its problems.
        template: What they are asked with; None for ``data``, since a task's own template has its name.
        prefix: Of the names of its arms.
        expected: Its kind as far as it was known beforehand; its base model decides.
    """

    data: Text
    template: Text | None = None
    prefix: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*-$")]
    expected: Kind


class Search(Settings):
    """The search of learning rates.

    Args:
        arms: Those that rank the rates, each by its own objective.
        full: How the arms begin that train every weight.
        lora: How those begin that train adapters; None where none do.
        lora_factor: Between which factors the rate of adapters is expected to lie above the other.
    """

    arms: tuple[Name, ...] = Field(min_length=1)
    full: Text
    lora: Text | None = None
    lora_factor: tuple[float, float] = (5.0, 20.0)


class Registration(Settings):
    """Tasks, arms and thresholds by which the claims about a study's tasks are decided; docs/paper.md has the rules.

    Args:
        tasks: By name.
        aligned_from: Least area under the curve of log p for being right, within problems of the base model, of a task
            that counts as aligned.
        task_reward: Arm of the task reward.
        without_reward: Arms without a reward that decide.
        control: Arm whose optimum is the base model.
        forecast: Tempered arms with their exponents.
        significance: Of p-values that Holm has corrected over all tests of a claim.
        seeds: Least number of common seeds of a comparison that decides.
        share: Of the task reward's gain in pass@1 that sharpening has at least where a task is aligned.
        least_gain: Gain of the task reward below which a share of it says nothing.
        coverage: Measure of what a policy can reach.
        coverage_margin: Loss of it that counts as none.
        null_margin: How far the null control may be from the base in pass@1.
        forecast_margin: How far pass@1 may be from its forecast.
        search: Of the learning rate; None where there is none.
    """

    tasks: dict[Name, RegisteredTask] = Field(min_length=1)
    aligned_from: Share
    task_reward: Name
    without_reward: tuple[Name, ...] = Field(min_length=1)
    control: Name
    forecast: dict[Name, int]
    significance: Share
    seeds: int = Field(ge=1)
    share: Share
    least_gain: Share
    coverage: Literal["pass@2", "pass@4", "pass@8", "pass@16"]
    coverage_margin: Share
    null_margin: Share
    forecast_margin: Share
    search: Search | None = None

    @model_validator(mode="after")
    def _tasks_are_told_apart(self) -> Self:
        prefixes = [task.prefix for task in self.tasks.values()]
        if any(a is not b and b.startswith(a) for a in prefixes for b in prefixes) or len(set(prefixes)) < len(
            prefixes
        ):
            raise ValueError(f"tasks: got the prefixes {', '.join(prefixes)}, allowed: none that begins another")
        return self
