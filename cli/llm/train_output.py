"""What ``sharpen llm train`` prints while it trains, and in the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.cli.shared.terminal import introduce, plain_console, plain_table, say

if TYPE_CHECKING:
    from sharpen.llm.training.run import Report

LINE_EVERY = 10  # steps between two progress lines


def progress(steps: int) -> Report:
    """Return a reporter that writes to stderr: every step on a terminal, every tenth otherwise."""
    from sharpen.llm.training.run import Report

    console = plain_console(stderr=True)
    every = 1 if console.is_terminal else LINE_EVERY

    def step(record: dict[str, Any]) -> None:
        done = record["step"] + 1
        if done % every and done not in (1, steps):
            return
        reward = "    -" if record["reward"] is None else f"{record['reward']:5.3f}"
        log_p = "       -" if record["ref_logprob"] is None else f"{record['ref_logprob']:8.2f}"  # see reference_every
        console.print(
            f"step {done:>4}/{steps}  reward {reward}  length {record['response_length']:6.1f}  "
            f"log p {log_p}  {record['seconds']['total']:5.2f} s"
        )

    def evaluation(name: str, measures: dict[str, Any]) -> None:
        low, high = measures["pass@1_interval"]
        console.print(f"evaluated {name}: pass@1 {measures['pass@1']:.3f} [{low:.3f}, {high:.3f}]")

    return Report(note=lambda text: say(text, file=sys.stderr), step=step, evaluation=evaluation)


def print_result(result: dict[str, Any], out: Path) -> None:
    """Print the accuracies of base, last and best checkpoint, and what they owe to labels."""
    samples = result["base"]["samples"]
    least = max(result[name].get("threshold", 1.0) for name in ("base", "last", "best"))
    right = "" if least == 1.0 else f"; right: score {least:g} or more"
    title = f"Held-out problems ({result['base']['problems']} x {samples} samples{right})"
    table = plain_table()
    table.title, table.title_justify = title, "left"
    for heading in ("checkpoint", "step", "pass@1 [95%]", f"pass@{samples}", f"maj@{samples}", "length"):
        table.add_column(heading, justify="left" if heading == "checkpoint" else "right", no_wrap=True)
    for name in ("base", "last", "best"):
        measures = result[name]
        low, high = measures["pass@1_interval"]
        largest = max(int(key.removeprefix("pass@")) for key in measures if key.startswith("pass@") and "_" not in key)
        table.add_row(
            name,
            str(measures["step"]),
            f"{measures['pass@1']:.3f} [{low:.3f}, {high:.3f}]",
            f"{measures[f'pass@{largest}']:.3f}",
            f"{measures[f'maj@{largest}']:.3f}",
            f"{measures['response_length']:.1f}",
        )
    introduce(
        "What training changed on problems that it did not see: how often one answer is right (pass@1), one of "
        f"{samples} (pass@{samples}), the most frequent of {samples} (maj@{samples}), and the length in tokens."
    )
    console = plain_console()
    console.print(table)
    for line in _origin(result):
        console.print(line, soft_wrap=True)
    console.print(f"run folder: {out}", soft_wrap=True)


def _origin(result: dict[str, Any]) -> list[str]:
    """Return what the table's numbers owe to labels, and which engine sampled them; nothing for older runs."""
    if "choice" not in result:
        return []
    choice, labels = result["choice"], result["labels"]
    on = f"{choice['problems']} other problems x {choice['samples']} samples"
    how = {
        "pass@1": f"by pass@1 on {on}, with their answers",
        "objective": f"by the objective's value on {on}, {'with' if choice['labels'] else 'without'} answers",
        "last": "as the last" if choice["problems"] else "as the last: no problems but the reported ones were left",
    }
    examples = labels["template_boxed"] or labels.get("template_examples") or any(labels["template_answers"].values())
    used = {
        "the reward": labels["training"],
        "the choice of best": choice["labels"],
        "the base model's own training": labels["base_saw_labels"],
        "the template's examples": examples,
    }
    owing = [name for name, there in used.items() if there]
    return [
        f"best: chosen {how[choice['by']]}",
        f"labels used by: {', '.join(owing) if owing else 'nothing'}",
        f"sampled by {result['engine']}",
    ]
