"""Whether a planned run fits its GPU; if not, which term is too large and which flags lower it enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sharpen.llm.configs.train import LoRASettings, TrainConfig
from sharpen.llm.distributed.engine_room import RESERVE
from sharpen.llm.distributed.memory import Memory, estimate, shape_of
from sharpen.llm.distributed.plan import GIB, Plan
from sharpen.objective import InputError

UPDATE = ("parameters", "gradients", "optimizer", "reference", "temporaries", "gathered", "activations", "logits")
ENGINE = ("engine_weights", "kv_cache", "engine_work")
LORA = LoRASettings()
PROCESSES = 64  # the most that a message proposes


def too_large(planned: Plan) -> InputError | None:
    """Return what to tell about a run that does not fit its GPU; None if it fits, or runs on a CPU."""
    if planned.gpu_memory is None:
        return None
    room, memory = planned.gpu_memory - RESERVE, planned.memory
    if _fits(memory, room):
        return None
    what, held = _phase(memory, room)
    terms = _terms(memory, what)
    largest = max(terms, key=lambda name: terms[name])
    shown = [(name.replace("_", " "), size / GIB) for name, size in _sorted(terms) if size > GIB // 10]
    listed = ", ".join(f"{name} {size:,.1f}" for name, size in shown)
    gpu = (planned.gpu or "").partition(" (")[0]
    rest = "no row of full length fits beside it" if what == "rollout" and not memory.engine_rows else ""
    allowed = (
        f"a run that fits: the {what} needs {held / GIB:,.1f} GiB ({listed}), {gpu} leaves {room / GIB:,.1f}"
        f"{'; ' + rest if rest else ''}; the largest is {largest.replace('_', ' ')}; {_mend(planned, room)}"
    )
    return InputError("model", planned.config.model, allowed)


def _fits(memory: Memory, room: int) -> bool:
    return memory.update <= room and memory.rollout <= room and memory.engine_rows > 0


def _phase(memory: Memory, room: int) -> tuple[str, int]:
    if memory.update > room and memory.update >= memory.rollout:
        return "update", memory.update
    return "rollout", memory.rollout


def _terms(memory: Memory, phase: str) -> dict[str, int]:
    held = memory.to_dict()
    if phase == "rollout":
        names = ["parameters", "reference", *ENGINE, *([] if memory.optimizer_leaves else ["optimizer"])]
        return {name: held[name] for name in names}
    smaller = ("temporaries",) if memory.backward >= memory.temporaries else ("gathered", "activations", "logits")
    names = [name for name in (*UPDATE, *(() if memory.engine_sleeps else ENGINE)) if name not in smaller]
    return {name: held[name] for name in names}


def _sorted(terms: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(terms.items(), key=lambda pair: -pair[1])


def _mend(planned: Plan, room: int) -> str:
    """Return the fewest flags with which the run fits, those first that change no number of it."""
    best: tuple[list[str], Memory] | None = None
    for flags, memory in _mended(planned):
        if _fits(memory, room):
            return f"it fits with {' '.join(flags)}"
        best = flags, memory
    assert best is not None
    return f"even {' '.join(best[0])} does not make it fit: a smaller model or another --gpu"


def _mended(planned: Plan) -> Iterator[tuple[list[str], Memory]]:
    config, gpu, processes = planned.config, planned.gpu_memory, planned.processes
    steps: list[tuple[str, dict[str, Any], bool]] = [
        ("--activation-checkpointing", {"gradient_checkpointing": True}, not config.gradient_checkpointing),
        (
            f"--microbatch-tokens {config.max_length}",
            {"tokens_per_microbatch": config.max_length},
            config.tokens_per_microbatch > config.max_length,
        ),
        ("--engine-sleep", {"engine_sleep": True}, not (config.engine_sleep or config.sample_ahead)),
        ("--reference-offload", {"reference_offload": True}, planned.memory.reference > 0),
        ("--set sample_ahead=0", {"sample_ahead": 0}, config.sample_ahead > 0),
    ]
    steps = [step for step in steps if step[2]]
    alone = [[step] for step in steps]
    for chosen in (*alone, *(steps[: count + 1] for count in range(1, len(steps)))):
        changes = {name: value for _, change, _ in chosen for name, value in change.items()}
        yield [flag for flag, _, _ in chosen], _again(planned, config.model_copy(update=changes), processes, gpu)
    everything = config.model_copy(update={name: value for _, change, _ in steps for name, value in change.items()})
    flags = [flag for flag, _, _ in steps]
    if config.lora is None and not config.objective.reference.startswith("refresh"):
        lora = everything.model_copy(update={"lora": LORA})
        yield [f"--lora-rank {LORA.rank}"], _again(planned, config.model_copy(update={"lora": LORA}), processes, gpu)
        own = [flag for flag in flags if flag != "--reference-offload"]
        yield [*own, f"--lora-rank {LORA.rank}"], _again(planned, lora, processes, gpu)
    more = 2 * processes
    while more <= min(PROCESSES, config.prompts_per_step):
        yield [*flags, f"and {more} GPUs (torchrun --nproc-per-node {more})"], _again(planned, everything, more, gpu)
        more *= 2


def _again(planned: Plan, config: TrainConfig, processes: int, gpu: int | None) -> Memory:
    from sharpen.llm.models.registry import load_architecture, resolve

    shape = planned.shape
    if config.lora is not None and planned.config.lora is None:
        shape = shape_of(load_architecture(resolve(config.model)), config.lora)
    divided = True if processes > planned.processes else planned.divided
    run: dict[str, Any] = {"device": planned.device, "dtype": planned.dtype, "divided": divided}
    return estimate(config, shape, processes=processes, **run, gpu_memory=gpu)
