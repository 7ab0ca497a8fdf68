"""Settings of ``sharpen llm sample`` and the methods they choose from."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from sharpen.llm.configs.asking import ChatOptions, LongPrompts
from sharpen.llm.configs.idle import Effect
from sharpen.llm.configs.targets import complete
from sharpen.llm.samplers.registry import SAMPLERS, check_options, replaced_by, settings_of, taking
from sharpen.objective.settings import Seed, Settings, Text, is_as_written

LOWEST_TEMPERATURE = 0.01  # the least that engines divide by


class SampleConfig(Settings):
    """One sampling run; see docs/sampling.md.

    ``model`` may be given as ``sharpen llm sample`` takes it, and what is not given is the model's, see
    :func:`sharpen.llm.configs.targets.complete`; the configuration holds what came of it.

    Raises:
        pydantic.ValidationError: a field is out of range.
    """

    method: Annotated[Text, AfterValidator(SAMPLERS.valid)] = Field(
        default="power", description="A registered sampler, or module:object."
    )
    options: dict[str, Any] = Field(default={}, description="Settings of a sampler of one's own, by name.")
    alpha: float = Field(default=4.0, gt=0, le=1 / LOWEST_TEMPERATURE, description="Exponent of the target p^alpha.")
    model: Text = Field(default="embedded", description="Hub id, or folder of the weights themselves.")
    base: Text | None = Field(default=None, description="The model that this one was trained from; None: it is a base.")
    data: Text = "embedded"
    split: Text = "test"
    problems: int | None = Field(default=None, ge=1)
    samples: int = Field(default=1, ge=1, le=1024, description="Responses a prompt.")
    template: Text = "plain"
    chat_options: ChatOptions = Field(default={})
    long_prompts: LongPrompts = "drop"
    max_length: int = Field(default=4096, ge=3, description="Prompt and response together, in tokens.")
    budget: int | None = Field(default=None, ge=1, description="Tokens to generate for each response.")
    block: int = Field(default=192, ge=1, description="power: tokens between two runs of the chain.")
    steps: int = Field(default=10, ge=0, description="power: Metropolis-Hastings steps a block.")
    proposal_temperature: float | None = Field(
        default=None, ge=LOWEST_TEMPERATURE, le=100, description="power: None is 1/alpha."
    )
    chunk: int | None = Field(default=None, ge=1, description="power: tokens drawn before a proposal may be dropped.")
    early_stop: bool = Field(default=False, description="power: return once a block ends with EOS.")
    cut: Literal["uniform", "entropy"] = Field(default="uniform", description="power: where a step cuts.")
    n: int = Field(default=16, ge=1, description="best-of-n: candidates.")
    score: Literal["sum", "mean"] = Field(default="sum", description="best-of-n: log p, or log p a token.")
    candidates: int = Field(default=8, ge=1, description="scalable-power: next tokens that are weighed.")
    rollouts: int = Field(default=8, ge=1, description="scalable-power: rollouts a candidate.")
    horizon: int | None = Field(default=None, ge=1, description="scalable-power: longest rollout; None: to the end.")
    jackknife: bool = Field(default=True, description="scalable-power: correct the bias of the ratio.")
    particles: int = Field(default=16, ge=1, description="power-smc: of a population.")
    grow: int = Field(default=8, ge=1, description="power-smc: tokens between two looks at the weights.")
    populations: int = Field(default=1, ge=1, description="power-smc: above 1 a chain over populations.")
    pool: int = Field(default=64, ge=1, description="reweighted: base samples that a prompt's responses share.")
    prompts_per_batch: int = Field(
        default=32, ge=1, description="Prompts that advance together and are saved together."
    )
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    engine_memory: float = Field(default=0.6, gt=0, lt=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: Seed = 42

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, fields: Any, info: ValidationInfo) -> Any:
        return fields if is_as_written(info) or not isinstance(fields, dict) else complete(fields)

    @model_validator(mode="after")
    def _sampler_can_use_them(self) -> Self:
        takes = settings_of(self.method)
        if "alpha" in takes and self.alpha < LOWEST_TEMPERATURE:
            raise ValueError(f"alpha: got {self.alpha}, allowed: {LOWEST_TEMPERATURE} to {1 / LOWEST_TEMPERATURE:g}")
        if "jackknife" in takes and self.jackknife and self.rollouts < 2:
            raise ValueError("rollouts: got 1, allowed: at least 2 with the jackknife")
        check_options(self.method, self.options, type(self).model_fields)
        return self


def effects() -> dict[str, Effect]:
    """Return when each setting that is for some samplers has an effect, as the samplers' signatures have it."""
    found = {}
    for setting in SampleConfig.model_fields:
        if names := taking(setting):
            others = {other for name in names if (other := replaced_by(name, setting)) is not None}
            when = f"with the method {' or '.join(names)}" + "".join(f" without {other}" for other in sorted(others))
            found[setting] = Effect(lambda config, setting=setting: _has_effect(config, setting), when)
    return found


def _has_effect(config: SampleConfig, setting: str) -> bool:
    other = replaced_by(config.method, setting)
    return setting in settings_of(config.method) and (other is None or getattr(config, other) is None)
