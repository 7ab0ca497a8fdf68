"""What a run will need, before it is started: settings, tokens, memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sharpen.paper_repro.grids.plan import Run, answers

GIB = 2**30


def block(run: Run, seconds: float | None) -> dict[str, Any]:
    """Return what ``sharpen paper run --dry-run`` prints of a run.

    Args:
        run: The run.
        seconds: What it will take; None if nothing says so.

    Returns:
        ``run``, ``experiment``, ``command``; for models ``model``, ``data``, ``objective`` (or ``method``), ``steps``,
        ``tokens`` (at most), ``memory`` (bytes on each GPU or in the machine), ``evaluate``, ``settings`` (all of
        them); for theory and toy ``settings``.
    """
    found: dict[str, Any] = {"run": run.id, "experiment": run.experiment.id, "command": run.command}
    if seconds is not None:
        found["seconds"] = round(seconds)
    if run.experiment.kind == "train":
        return found | _training(run)
    if run.experiment.kind == "sample":
        return found | _sampling(run)
    return found | {"settings": run.settings}


def _training(run: Run) -> dict[str, Any]:
    from sharpen.llm.configs.train import TrainConfig
    from sharpen.llm.models.registry import resolve

    config = TrainConfig.as_written(run.settings["config"])
    source = resolve(config.model)
    memory = _memory(run.settings["config"], run.experiment.processes)
    asked = answers(run.settings["evaluate"])
    responses = config.steps * config.prompts_per_step * config.samples_per_prompt
    return {
        "model": f"{config.model} ({source.location})",
        "data": f"{config.data or source.default_data} ({config.split})",
        "objective": {
            **config.objective.to_dict(),
            "regime": config.objective.regime,
            "fixed_length": config.ignore_eos,
        },
        "steps": config.steps,
        "tokens": {
            "training, at most": responses * config.max_length,
            "evaluation, at most": 2 * asked * config.max_length,
        },
        "memory": {"gpus": run.experiment.processes if memory.pop("on_gpu") else 0, **memory},
        "evaluate": run.settings["evaluate"],
        "settings": run.settings["config"],
    }


def _sampling(run: Run) -> dict[str, Any]:
    from sharpen.llm.configs.sampling import SampleConfig
    from sharpen.llm.models.registry import resolve

    config = SampleConfig.as_written(run.settings["config"])
    asked = answers(run.settings["evaluate"])
    parameters = _shape(config.model).parameters
    width = 2 if run.scale == "paper" else 4
    return {
        "model": f"{config.model} ({resolve(config.model).location})",
        "data": ", ".join(f"{one['data']} ({one['split']})" for one in run.settings["evaluate"]),
        "objective": {"method": config.method, "alpha": config.alpha},
        "steps": config.steps if config.method == "power" else 0,
        "tokens": {"training, at most": 0, "returned, at most": asked * config.max_length},
        "memory": {"gpus": int(run.scale == "paper"), "weights": width * parameters},
        "evaluate": run.settings["evaluate"],
        "settings": run.settings["config"],
    }


@lru_cache(maxsize=16)
def _shape(model: str) -> Any:
    """Return the sizes of a model; building it, even without memory, takes a second, and a grid has few models."""
    from sharpen.llm.distributed.memory import shape_of
    from sharpen.llm.models.registry import load_architecture, resolve

    return shape_of(load_architecture(resolve(model)))


def _memory(settings: dict[str, Any], processes: int) -> dict[str, Any]:
    from sharpen.llm.configs.train import TrainConfig
    from sharpen.llm.distributed.memory import estimate
    from sharpen.llm.distributed.placement import is_sharded_run
    from sharpen.llm.distributed.world import World

    config = TrainConfig.as_written(settings)
    device = config.device if config.device != "auto" else "cpu" if config.model == "embedded" else "cuda"
    dtype = config.dtype if config.dtype != "auto" else "bfloat16" if device == "cuda" else "float32"
    divided = is_sharded_run(config, World(0, processes), dtype, device)
    shape = _shape(config.model)
    found = estimate(config, shape, processes=processes, device=device, dtype=dtype, divided=divided)
    return {
        "on_gpu": device == "cuda",
        "update": found.update,
        "rollout": found.rollout,
        "parameters": shape.parameters,
        "dtype": dtype,
    }


def text(found: dict[str, Any]) -> str:
    """Return a block for reading: YAML, with sizes in GiB."""
    import yaml

    shown = dict(found)
    if "memory" in shown:
        memory = shown["memory"]
        sizes = {n: f"{memory[n] / GIB:.3g} GiB" for n in ("update", "rollout", "weights") if n in memory}
        place = f"{memory['gpus']} GPU(s), each" if memory["gpus"] else "no GPU, of the machine"
        shown["memory"] = {"where": place, **sizes}
    if "tokens" in shown:
        shown["tokens"] = {name: f"{count:,}" for name, count in shown["tokens"].items()}
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100)
