"""Training-free and trained sharpening on one scale: tokens that pass through the model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sharpen.llm.configs.train import TrainConfig
from sharpen.objective import InputError
from sharpen.objective.storage import runfolder
from sharpen.objective.storage.parsing import TABLE, parse_json
from sharpen.objective.storage.reading import read_json, read_lines

# Of a token that training samples: drawn once, read by policy and reference (one pass each), and an update's forward
# and backward pass, which counts three. A token that is sampled for use passes once.
PASSES = 6


def training_cost(run: Path) -> dict[str, Any]:
    """Return what a finished training run cost and what it gives.

    Args:
        run: Run folder of ``sharpen llm train``.

    Returns:
        ``run``, ``steps``; ``sampled_tokens`` of its rollouts and ``token_passes``, :data:`PASSES` times as many;
        ``pass@1``, ``pass@1_interval`` and ``response_length`` of its last checkpoint.

    Raises:
        InputError: the folder holds no finished run.
    """
    config = runfolder.read_config(run, TrainConfig)
    rows = config.prompts_per_step * config.samples_per_prompt
    try:
        records = [parse_json(line, "beside", finite=False) for _, line in read_lines(run / "metrics.jsonl", "beside")]
        lengths = [float(record["response_length"]) for record in records]
        last = read_json(run / "evaluation.json", "beside", TABLE, finite=False)["last"]
        measures = {name: last[name] for name in ("pass@1", "pass@1_interval", "response_length")}
    except (InputError, KeyError, TypeError) as error:
        raise InputError("beside", str(run), "the folder of a finished run of sharpen llm train") from error
    sampled = round(rows * math.fsum(lengths))
    return {
        "run": str(run),
        "steps": len(lengths),
        "sampled_tokens": sampled,
        "token_passes": PASSES * sampled,
        **measures,
    }


def break_even(tokens_per_response: float, trained: dict[str, Any]) -> float | None:
    """Return after how many responses training has cost less than sampling without it; None if it never will.

    It solves token_passes + n * response_length = n * tokens_per_response for n.

    Args:
        tokens_per_response: Tokens drawn for each response without training.
        trained: What :func:`training_cost` returned.

    Example:
        >>> break_even(110.0, {"token_passes": 1000, "response_length": 10.0})
        10.0
    """
    saved = tokens_per_response - trained["response_length"]
    return trained["token_passes"] / saved if saved > 0 else None
