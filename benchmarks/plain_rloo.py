"""TRL's RLOO as our trainer does its step, the opponent of two benchmarks: one place for what both ask of it."""

from __future__ import annotations

from typing import Any


def plain_rloo(folder: str, *, prompts: int, samples: int, length: int, steps: int, **own: Any) -> Any:
    """Return TRL's settings: AdamW at a constant rate, one update a batch, no reference model, nothing logged or saved.

    Args:
        folder: Scratch.
        prompts: Prompts of a step.
        samples: Responses to each.
        length: Most tokens of a response.
        steps: Updates.
        own: What the benchmark decides: rate, dtype, seed.
    """
    from trl.trainer.rloo_config import RLOOConfig

    return RLOOConfig(
        output_dir=folder,
        per_device_train_batch_size=prompts * samples,
        num_generations=samples,
        max_completion_length=length,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        beta=0.0,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        max_grad_norm=1.0,
        max_steps=steps,
        use_cpu=True,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **own,
    )
