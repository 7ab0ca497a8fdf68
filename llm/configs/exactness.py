"""Settings of ``sharpen llm verify-sampler`` beside those of the sampler itself."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from sharpen.objective.settings import Seed, Settings


class ExactnessConfig(Settings):
    """What a sampler is verified on, and how sure the verdict is to be.

    Raises:
        pydantic.ValidationError: a field is out of range.
    """

    problem: int = Field(default=1, ge=1, description="Which problem of the data is the prompt.")
    tokens: int = Field(default=4, ge=1, le=1000, description="Allowed tokens beside the one that ends a response.")
    longest: int = Field(default=4, ge=1, le=64, description="Longest response, in tokens.")
    tv: float = Field(default=0.05, gt=0, lt=1, description="Total variation that is to be found.")
    power: float = Field(default=0.99, gt=0, lt=1, description="Chance to find it.")
    false_alarm: float = Field(default=1e-3, gt=0, lt=1, description="Chance to refuse an exact sampler.")
    draws: int | None = Field(default=None, ge=1, le=10**8, description="None: as many as the power needs.")
    seed: Seed = 42
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _more_than_chance(self) -> Self:
        if self.power <= self.false_alarm:
            raise ValueError(f"power: got {self.power:g}, allowed: more than the false alarm, {self.false_alarm:g}")
        return self
