"""Settings of ``sharpen llm eval``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from sharpen.llm.configs.asking import ChatOptions, LongPrompts
from sharpen.llm.configs.sampling import LOWEST_TEMPERATURE
from sharpen.llm.configs.targets import complete
from sharpen.objective.settings import Seed, Settings, Text, is_as_written


class EvalConfig(Settings):
    """One evaluation: what its folder belongs to.

    ``model`` and ``base`` may be given as ``sharpen llm eval`` takes them, and what is not given is the model's, see
    :func:`sharpen.llm.configs.targets.complete`; the configuration holds what came of it.

    Raises:
        pydantic.ValidationError: a field is out of range.
    """

    model: Text = Field(default="embedded", description="Hub id, or folder of the weights themselves.")
    base: Text | None = Field(default=None, description="Where the base model is; None: its KL is not measured.")
    data: Text = "embedded"
    split: Text = "test"
    problems: int | None = Field(default=None, ge=1)
    samples: int = Field(default=16, ge=1, le=1024)
    template: Text = "plain"
    chat_options: ChatOptions = Field(default={})
    long_prompts: LongPrompts = "drop"
    temperature: float = Field(default=1.0, ge=0, description="0 is greedy, else at least 0.01.")
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_length: int = Field(default=2048, ge=2)
    likelihoods: bool = Field(default=True, description="Measure entropy, log-probabilities and the KL to the base.")
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    engine_memory: float = Field(default=0.6, gt=0, lt=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    batch: int = Field(default=32, ge=1, description="Problems asked together; a kill loses at most one batch.")
    seed: Seed = 42

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, fields: Any, info: ValidationInfo) -> Any:
        return fields if is_as_written(info) or not isinstance(fields, dict) else complete(fields)

    @field_validator("temperature")
    @classmethod
    def _engines_can_divide_by_it(cls, temperature: float) -> float:
        if 0 < temperature < LOWEST_TEMPERATURE:
            raise ValueError(f"should be 0 or at least {LOWEST_TEMPERATURE}")
        return temperature
