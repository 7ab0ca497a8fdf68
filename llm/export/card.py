"""The model card of an export: base, objective, data, evaluation with intervals, and how far it sharpened."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sharpen.llm.configs.targets import CHECKPOINTS
from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.models.registry import REGISTRY
from sharpen.llm.training import metrics
from sharpen.llm.training.final_evaluation import EVALUATION
from sharpen.objective import InputError
from sharpen.objective.storage import runfolder
from sharpen.objective.version import VERSION

CARD = "README.md"  # where the hub and people look for it
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def card(name: str, location: str, base: str | None, dtype: str, parameters: int) -> str:
    """Return the model card, Markdown with the hub's metadata, of weights at ``location``.

    Args:
        name: What the user called the model.
        location: Hub id or folder of its weights; of a run's checkpoint, ``<run>/checkpoints/step_<updates>``.
        base: Location of its base model, for what no run folder tells about.
        dtype: Of the stored weights.
        parameters: How many.

    Returns:
        What is not known (no run folder, a run that was not evaluated) is said, not left out.
    """
    place = Path(location)
    run = place.absolute().parent.parent
    trained = place.parent.name == CHECKPOINTS and (run / runfolder.CONFIG).is_file()
    config = runfolder.read_config(run, TrainConfig) if trained else None
    origin = config.model if config is not None else base
    lines = [_metadata(origin), f"# {Path(name).name}", ""]
    if config is None:
        what = f"a LoRA adapter merged into {_named(base)}" if base is not None else _named(location)
        lines += [f"Exported by sharpen {VERSION}: {what}. No training run of sharpen belongs to it."]
    else:
        step = int(place.name.rpartition("_")[2])
        found = _evaluation(run)
        lines += [*_training(config, step), *_measured(config, found, step), *_sharpened(run, found, step)]
    lines += ["", "## Weights", "", f"{parameters:,} parameters in {dtype}, safetensors.", ""]
    return "\n".join(lines)


def _metadata(origin: str | None) -> str:
    """Return the front matter that the hub reads."""
    from huggingface_hub import ModelCardData

    known = None if origin is None else REGISTRY[origin].location if origin in REGISTRY else origin
    on_hub = known is not None and _HUB_ID.fullmatch(known) is not None and not Path(known).exists()
    data = ModelCardData(library_name="transformers", tags=["sharpen"], base_model=known if on_hub else None)
    return f"---\n{data.to_yaml()}\n---\n"


def _named(location: str | None) -> str:
    """Return a model's name without the folders of the machine that it was on."""
    return "an unnamed model" if location is None else Path(location).name if Path(location).exists() else location


def _training(config: TrainConfig, step: int) -> list[str]:
    objective = config.objective
    settings = ", ".join(f"{key} {value}" for key, value in objective.to_dict().items() if value is not None)
    data = config.data or "the model's own problems"
    length = ", fixed length (the end of sequence is ignored)" if config.ignore_eos else ""
    return [
        f"Trained by sharpen {VERSION}.",
        "",
        "| | |",
        "| --- | --- |",
        f"| base | {_named(config.model)} |",
        f"| objective | {objective.regime}: {settings} |",
        f"| reward | {config.reward.kind if objective.needs_reward else 'none: no label was read in training'} |",
        f"| learner | {config.learner.kind}, learning rate {config.optimizer.learning_rate:g}{length} |",
        f"| data | {data}, split {config.split} |",
        f"| updates | {step} of {config.steps}, each of {config.prompts_per_step} prompts x "
        f"{config.samples_per_prompt} samples |",
        f"| seed | {config.seed} |",
        "",
    ]


def _measured(config: TrainConfig, found: dict[str, Any] | None, step: int) -> list[str]:
    """Return the table of the base and this checkpoint on held-out problems."""
    head = ["## Evaluation", ""]
    own = next((found[name] for name in ("last", "best", "base") if found and found[name]["step"] == step), None)
    if found is None or own is None:
        return [*head, "This checkpoint was not evaluated on the reported problems.", ""]
    base = found["base"]
    names = [name for name in base if re.fullmatch(r"(pass|maj)@\d+|response_length", name)]
    rows = [f"| {name} | {_cell(base, name)} | {_cell(own, name)} |" for name in names]
    return [
        *head,
        f"{own['problems']} held-out problems of {config.evaluation.data or config.data or 'the same kind'} x "
        f"{own['samples']} samples at temperature 1; 95 % bootstrap intervals over problems.",
        "",
        "| measure | base | this model |",
        "| --- | --- | --- |",
        *rows,
        "",
        f"Labels were {'' if found.get('labels', {}).get('any') else 'not '}used in training, choice or template.",
        "",
    ]


def _cell(row: dict[str, Any], name: str) -> str:
    digits = 1 if name == "response_length" else 3
    between = row.get(f"{name}_interval")
    told = f"{row[name]:.{digits}f}"
    return told if between is None else f"{told} [{between[0]:.{digits}f}, {between[1]:.{digits}f}]"


def _sharpened(run: Path, found: dict[str, Any] | None, step: int) -> list[str]:
    """Return how far the policy is from its base, and how near to a power of it."""
    lines = ["## How far it sharpened", ""]
    try:
        records = metrics.read(run / "metrics.jsonl")
    except InputError:
        records = []
    seen = [one for one in records if one["step"] <= step and one.get("kl_ref") is not None]
    if seen:
        lines.append(
            f"KL(π‖base) = {seen[-1]['kl_ref']:.3f} nats a sequence, mean over the rollouts after "
            f"{seen[-1]['step']} updates."
        )
    else:
        lines.append("KL(π‖base) was not measured.")
    alpha = None if found is None or found["last"]["step"] != step else found.get("effective_alpha")
    slope = None if alpha is None else alpha["policy"]
    if alpha is None or slope is None or slope["slope"] is None:
        return [*lines, "Its effective alpha was not measured."]
    between = "" if slope["low"] is None else f" [{slope['low']:.2f}, {slope['high']:.2f}]"
    return [
        *lines,
        f"Effective alpha = {slope['slope']:.2f}{between}: slope of log π on log p, p the base, over this model's own "
        f"samples for {alpha['prompts']} prompts; p^alpha has slope alpha.",
    ]


def _evaluation(run: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((run / EVALUATION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if {"base", "last", "best"} <= found.keys() else None
