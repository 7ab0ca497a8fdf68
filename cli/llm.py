"""``sharpen llm``: the objective on a real language model."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli import llm_eval, options
from sharpen.cli.errors import fail

if TYPE_CHECKING:
    from sharpen.llm.run import Report

app = typer.Typer(no_args_is_help=True, help="Train a language model on the objective with RLOO and evaluate it.")
RUN, ROLLOUT = "Run", "Rollout"
LINE_EVERY = 10  # steps between two progress lines


PACKAGES = ("torch", "transformers", "datasets", "safetensors", "math_verify")  # of the extra llm


@app.callback()
def group() -> None:
    """Train a language model on the objective with RLOO and evaluate it."""


def require_packages() -> None:
    """End with one line if the extra ``llm`` is not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        fail(f"sharpen llm: {', '.join(missing)} not installed, needed: pip install 'sharpen-rl[llm]'")


@app.command()
@options.flat
def train(
    chosen: options.ObjectiveFlags,
    out: Annotated[Path, typer.Option(help="Run folder; the same command continues it.")] = Path("runs/llm"),
    model: Annotated[
        str, typer.Option(help="embedded, qwen2.5-3b, llama-3.2-3b, qwen3-4b, a hub id or a local folder.")
    ] = "embedded",
    config: Annotated[Path | None, typer.Option(help="YAML or JSON file of settings; flags change it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates.", rich_help_panel=RUN)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of prompts and samples.", rich_help_panel=RUN)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's, after warm-up.", rich_help_panel=RUN)] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Updates between checkpoints.", rich_help_panel=RUN)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="embedded, math, gsm8k, deepscaler, … , or a file or folder.", rich_help_panel=RUN),
    ] = None,
    problems: Annotated[int | None, typer.Option(help="Use only N training problems.", rich_help_panel=RUN)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", rich_help_panel=RUN)] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.", rich_help_panel=RUN)] = None,
    prompts_per_step: Annotated[int | None, typer.Option(help="Prompts a step.", rich_help_panel=ROLLOUT)] = None,
    samples_per_prompt: Annotated[
        int | None, typer.Option(help="Samples a prompt, at least 2.", rich_help_panel=ROLLOUT)
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Prompt and response, in tokens.", rich_help_panel=ROLLOUT)
    ] = None,
    ignore_eos: Annotated[
        bool | None, typer.Option("--ignore-eos", help="Fixed-length training.", rich_help_panel=ROLLOUT)
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="auto (vLLM if installed), vllm or transformers.", rich_help_panel=ROLLOUT)
    ] = None,
    eval_problems: Annotated[int | None, typer.Option(help="Problems of the final evaluation.")] = None,
    eval_samples: Annotated[int | None, typer.Option(help="Samples a problem of the final evaluation.")] = None,
    eval_data: Annotated[str | None, typer.Option(help="Evaluation data, as --data.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete an earlier run in --out first.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print evaluation.json on stdout.")] = False,
) -> None:
    """Train with RLOO on the objective, then evaluate base, last and best checkpoints.

    Without --model this trains the embedded arithmetic model, in minutes on two cores. A run whose objective has no
    reward term (sharpening, tempered) never opens the answers before training has ended.
    """
    flags = {
        "model": model,
        "steps": steps,
        "seed": seed,
        "checkpoint_every": checkpoint_every,
        "data": data,
        "problems": problems,
        "device": device,
        "dtype": dtype,
        "prompts_per_step": prompts_per_step,
        "samples_per_prompt": samples_per_prompt,
        "max_length": max_length,
        "ignore_eos": ignore_eos,
        "engine": engine,
        "optimizer": _given({"learning_rate": learning_rate}),
        "evaluation": _given({"problems": eval_problems, "samples": eval_samples, "data": eval_data}),
    }
    _run(_given(flags), chosen, config, out, force, json_output)


llm_eval.register(app)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: flag for name, flag in flags.items() if flag is not None and flag != {}}


def _run(
    flags: dict[str, Any], chosen: options.ObjectiveFlags, file: Path | None, out: Path, force: bool, as_json: bool
) -> None:
    require_packages()
    from sharpen.llm import config as settings

    changes = settings.load_changes(str(file)) if file is not None else {}
    if chosen.any_given() or "objective" not in changes:
        flags["objective"] = chosen.build(default="task-reward").to_dict()
    config = settings.resolve(settings.merge(changes, flags))

    from transformers.utils import logging  # imports torch: only once the settings have proved valid

    from sharpen.llm.run import train as run_training

    logging.disable_progress_bar()  # it draws one for every checkpoint
    result = run_training(config, out, force=force, report=_progress(config.steps))
    if as_json:
        import json

        print(json.dumps(result))
    else:
        _print_result(result, out)


def _progress(steps: int) -> Report:
    """Return a reporter that writes to stderr: every step on a terminal, every tenth otherwise."""
    from rich.console import Console

    from sharpen.llm.run import Report

    console = Console(stderr=True, highlight=False)
    every = 1 if console.is_terminal else LINE_EVERY

    def step(record: dict[str, Any]) -> None:
        done = record["step"] + 1
        if done % every and done not in (1, steps):
            return
        reward = "    -" if record["reward"] is None else f"{record['reward']:5.3f}"
        console.print(
            f"step {done:>4}/{steps}  reward {reward}  length {record['response_length']:6.1f}  "
            f"log p {record['ref_logprob']:8.2f}  {record['seconds']['total']:5.2f} s"
        )

    def evaluation(name: str, measures: dict[str, Any]) -> None:
        low, high = measures["pass@1_interval"]
        console.print(f"evaluated {name}: pass@1 {measures['pass@1']:.3f} [{low:.3f}, {high:.3f}]")

    return Report(note=lambda text: print(text, file=sys.stderr), step=step, evaluation=evaluation)


def _print_result(result: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    samples = result["base"]["samples"]
    table = Table(title=f"Held-out problems ({result['base']['problems']} x {samples} samples)", title_justify="left")
    for heading in ("checkpoint", "step", "pass@1 [95%]", f"pass@{samples}", f"maj@{samples}", "length"):
        table.add_column(heading, justify="left" if heading == "checkpoint" else "right")
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
    console = Console(highlight=False)
    console.print(table)
    console.print(f"run folder: {out}", soft_wrap=True)
