"""What the models of JSON outputs have in common.

A model refuses fields that it does not name, so a field that is printed and not described fails the test that validates
the real output of every command. Infinite numbers, which JSON does not have, are the texts ``inf`` and ``-inf``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


def of(text: str, **more: Any) -> Any:
    """Return a field with what it is, in words; ``alias`` where its name is not one of Python's."""
    return Field(description=text, **more)


class Shape(BaseModel):
    """A JSON object whose fields are all known."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Loose(BaseModel):
    """A JSON object that has further fields, whose names the description gives."""

    model_config = ConfigDict(extra="allow", strict=True)


Infinite = Literal["inf", "-inf"]
Number = float | Infinite
Count = Annotated[int | str, Field(description="A count; as text where it has more than 1000 digits.")]
Share = Annotated[float, Field(ge=0, le=1)]
Ends = Annotated[list[float | None], Field(min_length=2, max_length=2, description="[low, high] of a 95 % interval.")]
Bounds = Annotated[
    list[float | None], Field(min_length=2, max_length=2, description="[at least, at most], certain; null: no bound.")
]


class Row(Shape):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class ObjectiveFields(Loose):
    """The objective's settings (docs/objective.md); also ``utility`` and ``alpha_right``, where they were given."""

    alpha: float = of("Exponent of the base model.")
    beta_inv: float = of("Weight of the task reward.")
    mode: str = of("sampling or optimization.")
    normalization: str = of("Of log p by length: sum, mean, weighted_mean or none.")
    weight: float | None = of("Exponent of the length in weighted_mean.")
    reference: str | int = of("frozen, policy, or the number of updates after which the reference is renewed.")


class Coefficients(Shape):
    """The objective as weights: J = w_r E[r] + w_p E[log p] + w_h H."""

    w_r: float
    w_p: float
    w_h: float


class OfObjective(Shape):
    """What is told of an objective."""

    objective: ObjectiveFields
    regime: str = of("Its name: task-reward, tempered, tilted, sharpening, …")


class OfProblem(OfObjective):
    """What is told of an objective on one finite problem."""

    base: list[float] = of("p, one probability an outcome.")
    reward: list[float] = of("r, one an outcome.")
    length: list[float] = of("|x| in tokens, one an outcome.")
