"""The optimizer's settings: AdamW or SGD, the schedule, and how far a step may take the policy."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sharpen.objective.settings import Settings


class OptimizerSettings(Settings):
    """AdamW, or SGD, with a linear warm-up from ``warmup_start * learning_rate``, then constant (the paper's schedule).

    SGD is torch's: b <- momentum b + (g + weight_decay theta), theta <- theta - learning_rate b. Its decay is 0 if it
    is not given: with the large rates that it needs, AdamW's .01 would pull the weights to zero.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-6, gt=0, le=1e30)  # beyond, float32 overflows in the update
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Of SGD; 0 keeps no average and no state.")
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    warmup_start: float = Field(default=0.1, ge=0, le=1)
    max_kl: float | None = Field(
        default=None,
        gt=0,
        description="A step is shrunk until the KL from the policy that sampled it is at most so many nats a response.",
    )
    measure_step: bool = Field(
        default=False, description="Log each step's norm and KL, which takes a forward pass more; max_kl does anyhow."
    )

    @model_validator(mode="before")
    @classmethod
    def _decays_by_its_kind(cls, fields: Any) -> Any:
        sgd = isinstance(fields, dict) and fields.get("kind") == "sgd"
        return {"weight_decay": 0.0, **fields} if sgd else fields

    @property
    def measures(self) -> bool:
        """Whether each step is measured on the samples that it was made of."""
        return self.measure_step or self.max_kl is not None

    @property
    def state_bytes(self) -> int:
        """Bytes that are kept for each trained weight: AdamW's two float32 averages, SGD's one, or none."""
        if self.kind == "sgd":
            return 4 if self.momentum else 0
        return 8

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of update ``step`` (0 is the first)."""
        progress = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return self.learning_rate * (self.warmup_start + (1.0 - self.warmup_start) * progress)
