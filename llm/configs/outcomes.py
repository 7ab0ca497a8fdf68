"""Settings of ``sharpen llm outcomes``."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from sharpen.llm.configs.asking import ChatOptions, LongPrompts
from sharpen.llm.configs.targets import complete
from sharpen.objective.settings import Settings, Text, is_as_written


class OutcomesConfig(Settings):
    """One table of known outcomes: what its folder belongs to.

    ``model`` may be given as ``sharpen llm outcomes`` takes it, and what is not given is the model's, see
    :func:`sharpen.llm.configs.targets.complete`; the configuration holds what came of it.

    Raises:
        pydantic.ValidationError: a field is out of range.
    """

    model: Text = Field(default="embedded", description="Hub id, or folder of the weights themselves.")
    alphas: tuple[float, ...] = Field(default=(2.0,), min_length=1, description="Exponents whose E[r] is bounded.")
    width: float = Field(default=0.01, gt=0, le=1, description="Of the interval of E[r] at each of them.")
    threshold: float = Field(default=1e-4, gt=0, le=1, description="Prefixes below are not followed.")
    budget: int = Field(default=1000, ge=1, description="Most forward tokens a prompt, its own not counted.")
    prefixes: int = Field(default=16, ge=1, le=1024, description="Prefixes computed in one pass.")
    data: Text = "embedded"
    split: Text = "test"
    problems: int | None = Field(default=None, ge=1)
    template: Text = "plain"
    chat_options: ChatOptions = Field(default={})
    long_prompts: LongPrompts = "drop"
    max_length: int = Field(default=2048, ge=2, description="Prompt and response, in tokens.")
    max_response: int | None = Field(default=None, ge=1, description="Response, in tokens; None: as max_length lets.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def engine(self) -> str:
        """The tree runs the torch model itself."""
        return "transformers"

    @property
    def engine_memory(self) -> float:
        """No engine takes memory beside the model."""
        return 0.0

    @property
    def seed(self) -> int:
        """Nothing is drawn."""
        return 0

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, fields: Any, info: ValidationInfo) -> Any:
        if is_as_written(info) or not isinstance(fields, dict):
            return fields
        return {name: given for name, given in complete(fields).items() if name != "base"}

    @field_validator("alphas")
    @classmethod
    def _bounded(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
        if not all(math.isfinite(alpha) and alpha >= 1 for alpha in alphas):
            raise ValueError("should be finite numbers >= 1: below 1 unseen outcomes have no bound")
        return tuple(sorted(set(alphas)))
