"""What ``sharpen llm train --dry-run`` prints: settings, memory on each GPU, tokens, disk; nothing is run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.distributed.cards import Card, card_like, there
from sharpen.llm.distributed.engine_room import RESERVE
from sharpen.llm.distributed.memory import BYTES, Host, Memory, Shape, estimate, host, shape_of, trainer_state
from sharpen.llm.distributed.times import Times, times
from sharpen.objective import InputError

GIB = 2**30
NOT_BYTES = ("update", "rollout", "engine_sleeps", "engine_rows", "optimizer_leaves", "samples_ahead")


@dataclass(frozen=True)
class Plan:
    """A run before it is started.

    Args:
        config: Its settings, resolved.
        processes: How many train together.
        device: Where.
        dtype: Of the passes.
        shape: Sizes of the model.
        memory: Bytes on each GPU.
        host: Bytes of the machine's memory beside each GPU; None without GPUs, where ``memory`` is the machine's.
        card: The GPU whose times are told; None without GPUs.
        divided: Whether the weights are sharded.
        gpu: What GPU the plan is for, in words; None on a CPU.
        gpu_memory: Its bytes.
    """

    config: TrainConfig
    processes: int
    device: str
    dtype: str
    shape: Shape
    memory: Memory
    host: Host | None
    card: Card | None = None
    divided: bool = False
    gpu: str | None = None
    gpu_memory: int | None = None

    def times(self) -> Times | None:
        """Return the seconds of each phase of a step, and hours; None without GPUs."""
        if self.card is None:
            return None
        return times(
            self.config,
            self.shape,
            self.card,
            processes=self.processes,
            dtype=self.dtype,
            divided=self.divided,
            evaluated=int(self.budget()["evaluation_responses"]),
            rows_at_once=max(1, self.memory.engine_rows),
            optimizer_leaves=self.memory.optimizer_leaves,
        )

    def budget(self) -> dict[str, int | float]:
        """Return upper bounds of what the run samples, computes and stores.

        ``training_flop`` counts 2 N for a token's forward pass and 4 N for its backward pass: log-probabilities of
        policy and reference, and the update, with a second forward pass under activation checkpointing; attention is
        left out.
        """
        config, N = self.config, self.shape.base
        rounds = config.learner.dynamic_rounds if config.learner.learner.resamples else 1
        responses = config.steps * config.prompts_per_step * config.samples_per_prompt
        tokens = responses * config.max_length
        scoring = 2 * N * tokens * rounds * (2 if config.objective.reference != "policy" else 1)
        update = (8 if config.gradient_checkpointing else 6) * N * tokens * config.learner.epochs
        checkpoints = -(-config.steps // config.checkpoint_every)
        evaluation = config.evaluation
        return {
            "responses": responses * rounds,
            "tokens": tokens * rounds,
            "training_flop": float(scoring + update),
            "evaluation_responses": evaluation.problems * (3 * evaluation.samples + 4 * (checkpoints + 1)),
            "checkpoints": checkpoints,
            "disk_bytes": checkpoints * N * BYTES[self.dtype] + trainer_state(config, self.shape, self.dtype),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        return {
            "config": self.config.model_dump(mode="json"),
            "processes": self.processes,
            "device": self.device,
            "dtype": self.dtype,
            "gpu": self.gpu,
            "gpu_memory": self.gpu_memory,
            "parameters": self.shape.parameters,
            "trained": self.shape.trained,
            "memory": self.memory.to_dict(),
            "host": None if self.host is None else asdict(self.host),
            "budget": self.budget(),
            "times": None if (told := self.times()) is None else told.to_dict(),
        }

    def text(self) -> str:
        """Return the plan for reading: YAML with comments."""
        import yaml

        settings = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False).rstrip()
        told = self.times()
        clock = [] if told is None else ["", *told.lines()]
        return "\n".join((settings, "", *self._memory_lines(), "", *self._budget_lines(), *clock))

    def _memory_lines(self) -> list[str]:
        held = self.memory.to_dict()
        names = [name for name in held if name not in NOT_BYTES]
        width = max(len(name) for name in names) + 1
        engine = "asleep" if self.memory.engine_sleeps else "sampling" if self.memory.samples_ahead else "awake"
        lines = [
            f"# memory of each of {self.processes} process(es) on {self.device}, {self.dtype} passes, GiB "
            f"({self.shape.parameters / 1e6:,.1f} M parameters, {self.shape.trained / 1e6:,.1f} M trained)"
        ]
        lines += [f"#   {name.replace('_', ' '):<{width}} {held[name] / GIB:9.3f}" for name in names]
        lines.append(
            f"#   {'update':<{width}} {held['update'] / GIB:9.3f}   backward pass or AdamW's step, engine {engine}"
        )
        lines.append(f"#   {'rollout':<{width}} {held['rollout'] / GIB:9.3f}   {self._sampling()}")
        if self.gpu is not None and self.gpu_memory is not None:
            kept = f"{RESERVE / GIB:.0f} GiB of it for what is not counted"
            lines.append(f"#   {'GPU':<{width}} {self.gpu_memory / GIB:9.3f}   {self.gpu}, {kept}")
        if self.host is not None:
            start, steps, stored = (bytes_ / GIB for bytes_ in (self.host.start, self.host.steps, self.host.checkpoint))
            lines.append(
                f"# the machine's memory for each process, GiB: {start:,.1f} at the start, {steps:,.1f} during steps"
            )
            lines.append(f"#   and {stored:,.1f} more for a checkpoint: the first to write it, all to continue from it")
        return lines

    def _sampling(self) -> str:
        rows = f"{self.memory.engine_rows:,} row(s) at a time at full length"
        return rows + (", optimizer in the machine's memory" if self.memory.optimizer_leaves else "")

    def _budget_lines(self) -> list[str]:
        budget = self.budget()
        return [
            "# at most",
            f"#   {budget['responses']:,} responses, {budget['tokens']:,} tokens with their prompts",
            f"#   {budget['training_flop']:.2e} floating-point operations for scoring and updates",
            f"#   {budget['evaluation_responses']:,} responses in the evaluation",
            f"#   {budget['checkpoints']} checkpoints until it, {budget['disk_bytes'] / GIB:,.2f} GiB on disk",
        ]


def plan(config: TrainConfig, processes: int = 1, gpu: str | None = None) -> Plan:
    """Return the plan of a run of ``processes`` processes; nothing is loaded but the model's architecture.

    ``device: auto`` means what it means for a run: this machine's GPU, or its CPU where it has none. Only for a model
    that no run computes on a CPU unless it is told to (:data:`~sharpen.llm.distributed.placement.LARGE`), or where one
    is named, a GPU is assumed: the one named, else this machine's, else :data:`~sharpen.llm.distributed.cards.DEFAULT`.

    Raises:
        InputError: there is no such model or GPU, the processes cannot share the work, or a GPU is named for a CPU.
    """
    from sharpen.llm.distributed.placement import LARGE, check_processes, is_sharded_run, placement
    from sharpen.llm.distributed.world import World
    from sharpen.llm.models.registry import load_architecture, resolve

    source = resolve(config.model)
    check_processes(config, World(0, processes))
    shape = shape_of(load_architecture(source), config.lora)
    if gpu is not None and config.device == "cpu":
        raise InputError("gpu", gpu, "without --device cpu")
    assumed = {"device": "cuda"} if config.device == "auto" and (gpu or shape.base >= LARGE) else {}
    device, dtype = placement(config.model_copy(update=assumed))
    divided = is_sharded_run(config, World(0, processes), dtype, device)
    run: dict[str, Any] = {"processes": processes, "dtype": dtype, "divided": divided}
    if device != "cuda":
        return Plan(config, processes, device, dtype, shape, estimate(config, shape, device=device, **run), None)
    name, size = there(gpu)
    memory = estimate(config, shape, device=device, **run, gpu_memory=size)
    beside = host(config, shape, memory, **run)
    return Plan(config, processes, device, dtype, shape, memory, beside, card_like(name), divided, name, size)
