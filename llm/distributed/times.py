"""What ``--dry-run`` says about time: seconds of each phase of a step on a named card, and hours of the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sharpen.llm.distributed.cards import Card
from sharpen.llm.distributed.memory import BYTES, Shape
from sharpen.llm.distributed.steptime import ROWS, Rates, Work, ceiling, decode_step, expected, step_seconds, step_work

if TYPE_CHECKING:
    from sharpen.llm.configs.train import TrainConfig

WORDS = {
    "products": "matrix products",
    "memory": "the GPU's memory bandwidth",
    "network": "the link between GPUs",
    "host": "copies to the machine's memory",
    "launches": "starting kernels",
}


@dataclass(frozen=True)
class Times:
    """Seconds of a run on GPUs of one kind.

    Args:
        card: Which.
        processes: How many of them.
        steps: Of the run.
        work: Of one process in a step, by phase.
        ahead: Whether the next step's rollout runs beside the rest of a step.
        evaluation: Of one process after the last step: its samples.
        least: Rates by the data sheet.
        likely: Rates as measured.
    """

    card: Card
    processes: int
    steps: int
    work: dict[str, Work]
    ahead: bool
    evaluation: Work
    least: Rates
    likely: Rates

    def step(self, rates: Rates) -> float:
        """Return the seconds of one step."""
        return step_seconds(self.work, rates, ahead=self.ahead)

    def hours(self, rates: Rates) -> float:
        """Return the hours of steps and evaluation; times the number of processes, they are GPU-hours."""
        return (self.steps * self.step(rates) + self.evaluation.seconds(rates)) / 3600

    def to_dict(self) -> dict[str, Any]:
        """Return the times as JSON."""
        phases = {
            name: {
                "least": work.seconds(self.least),
                "expected": work.seconds(self.likely),
                "bound_by": work.bound(self.likely),
            }
            for name, work in {**self.work, "evaluation": self.evaluation}.items()
        }
        hours = {"least": self.hours(self.least), "expected": self.hours(self.likely)}
        return {"card": self.card.name, "seconds": phases, "hours": hours}

    def lines(self) -> list[str]:
        """Return the times for reading, as comments."""
        lines = [
            f"# seconds of a step on {self.processes} x {self.card.name}, every response at full length",
            "#              at least  expected   most of it is",
        ]
        for name, work in {**self.work, "evaluation": self.evaluation}.items():
            bound = WORDS[work.bound(self.likely)] if work.seconds(self.likely) > 0 else "nothing to do"
            if name == "evaluation":
                lines.append(f"#   {'step':<10}{self.step(self.least):9.2f}{self.step(self.likely):10.2f}")
                bound += ", once"
            lines.append(f"#   {name:<10}{work.seconds(self.least):9.2f}{work.seconds(self.likely):10.2f}   {bound}")
        if self.ahead:
            lines += self._ahead_lines()
        least, likely = self.hours(self.least), self.hours(self.likely)
        lines += [
            f"# {self.steps} steps and evaluation: {least:,.1f} h at least, {likely:,.1f} h expected "
            f"({likely * self.processes:,.1f} GPU-hours)",
            "#   at least: by the data sheet; expected: the trainer's rates on an H100 and",
            "#   an H200; vLLM was not measured there",
        ]
        return lines

    def _ahead_lines(self) -> list[str]:
        apart = step_seconds(self.work, self.likely)
        return [
            "#   step: max(rollout, logprobs + update) + push, no less than all products or",
            f"#   all bytes of both take; {apart:.2f} expected one after the other. What two",
            "#   programs on one GPU take from each other was not measured",
        ]


def times(
    config: TrainConfig,
    shape: Shape,
    card: Card,
    *,
    processes: int,
    dtype: str,
    divided: bool,
    evaluated: int,
    rows_at_once: int = ROWS,
    optimizer_leaves: bool = False,
) -> Times:
    """Return the times of a run of ``processes`` processes.

    Args:
        config: The run.
        shape: Of its model.
        card: The GPU.
        processes: How many train together, one GPU each.
        dtype: Of the passes.
        divided: Whether the weights are sharded.
        evaluated: Responses that the evaluation samples, all processes together.
        rows_at_once: Rows that the engine samples at a time.
        optimizer_leaves: Whether AdamW's moments leave the GPU during the rollout.
    """
    work = step_work(
        config,
        shape,
        processes=processes,
        dtype=dtype,
        divided=divided,
        rows_at_once=rows_at_once,
        optimizer_leaves=optimizer_leaves,
    )
    decoded = decode_step(shape, rows_at_once, config.max_length / 2, BYTES[dtype])
    if config.engine != "transformers":
        decoded = replace(decoded, kernels=0.0)  # vLLM replays a graph of them
    evaluation = decoded * (config.max_length * evaluated / rows_at_once / processes)
    ahead = config.sample_ahead > 0
    return Times(
        card, processes, config.steps, work, ahead, evaluation, ceiling(card, processes), expected(card, processes)
    )
