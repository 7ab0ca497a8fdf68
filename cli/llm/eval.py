"""``sharpen llm eval``: pass@k, maj@k, lengths, entropy and KL of one policy, and how two policies differ."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.llm.settings import CHAT_OPTION, LONG_PROMPTS, TEMPLATE, chat_options
from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.errors import lost_without
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.llm.evaluation.run import EvalReport

ASKED, SAMPLING, MACHINE = "What is asked", "Sampling", "Machine"


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("eval")(evaluate)


@options.flat
def evaluate(
    model: Annotated[
        str,
        typer.Option(help="embedded, qwen2.5-3b, …, a hub id, a folder, a run folder or one of its checkpoints."),
    ] = "embedded",
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Which checkpoint of a run folder: last (the default), best, base, or a number of updates."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model for the KL, as --model; a run folder's own is the default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; the same command continues it.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Folder of another evaluation: differences problem by problem.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="As --data: a task, as `sharpen llm tasks` lists them.", rich_help_panel=ASKED),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="math500, math, gsm8k, …, a hub id, a file or folder.", rich_help_panel=ASKED),
    ] = None,
    split: Annotated[str | None, typer.Option(help="test, validation or train.", rich_help_panel=ASKED)] = None,
    problems: Annotated[int | None, typer.Option(help="The first N problems only.", rich_help_panel=ASKED)] = None,
    template: Annotated[str | None, typer.Option(help=TEMPLATE, rich_help_panel=ASKED)] = None,
    chat_option: Annotated[
        list[str] | None, typer.Option(help=CHAT_OPTION, metavar="NAME=VALUE", rich_help_panel=ASKED)
    ] = None,
    long_prompts: Annotated[
        str | None, typer.Option(help=LONG_PROMPTS, rich_help_panel=ASKED, show_default="drop")
    ] = None,
    samples: Annotated[int, typer.Option(help="Samples per problem.", rich_help_panel=SAMPLING)] = 16,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=SAMPLING)] = 1.0,
    top_p: Annotated[
        float | None, typer.Option(help="Mass of the nucleus.", rich_help_panel=SAMPLING, show_default="1.0")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Prompt and response, in tokens.", rich_help_panel=SAMPLING)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the samples and the intervals.", rich_help_panel=SAMPLING)] = 42,
    likelihoods: Annotated[
        bool,
        typer.Option(
            "--likelihoods/--no-likelihoods", help="Measure entropy, log-probabilities, KL.", rich_help_panel=MACHINE
        ),
    ] = True,
    engine: Annotated[
        str, typer.Option(help="auto (the quicker one installed), vllm or transformers.", rich_help_panel=MACHINE)
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=MACHINE)] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.", rich_help_panel=MACHINE)] = "auto",
    batch: Annotated[
        int, typer.Option(help="Problems asked together; a kill loses at most one batch.", rich_help_panel=MACHINE)
    ] = 32,
    force: Annotated[bool, typer.Option("--force", help="Delete an earlier evaluation in --out first.")] = False,
    json_output: options.JsonOutput = False,
) -> None:
    """Evaluate a policy: pass@k, maj@k, lengths, entropy, KL to its base, by subject and level.

    Intervals are 95 % bootstrap intervals over problems. With --compare also the differences from another
    evaluation of the same problems, with a permutation and a sign test.
    """
    require_packages()
    from sharpen.llm.configs.idle import EVAL, refuse_idle
    from sharpen.llm.configs.targets import complete
    from sharpen.llm.evaluation.run import EvalConfig, check_comparison, compare_with, run_evaluation

    options.refuse_with("task", task, "data", data)
    asked = {"data": task or data, "split": split, "problems": problems, "template": template, "max_length": max_length}
    asked |= {"chat_options": chat_options(chat_option) if chat_option else None, "long_prompts": long_prompts}
    asked |= {"checkpoint": checkpoint, "base": base, "top_p": top_p}
    given = {
        "model": model,
        "samples": samples,
        "temperature": temperature,
        "likelihoods": likelihoods,
        "engine": engine,
        "device": device,
        "dtype": dtype,
        "batch": batch,
        "seed": seed,
        **{name: flag for name, flag in asked.items() if flag is not None},
    }
    config = EvalConfig.as_written(complete(given))
    refuse_idle(config, [name for name, flag in (("base", base), ("top_p", top_p)) if flag is not None], EVAL)
    options.refuse_without("force", force, "out", out)
    if compare is not None:
        check_comparison(compare)  # before hours of work

    from transformers.utils import logging

    logging.disable_progress_bar()
    with lost_without(out):
        result, records = run_evaluation(config, out, force=force, report=progress())
    if compare is not None:
        result["comparison"] = compare_with(records, compare, seed)
    if json_output:
        import json

        say(json.dumps(result, allow_nan=False))
    else:
        _print(result, out)


def progress() -> EvalReport:
    """Return a reporter that writes a line per batch to stderr."""
    import time

    from sharpen.llm.evaluation.run import EvalReport

    began = time.monotonic()

    def line(records: list[Any], total: int, earlier: int) -> None:
        answers = sum(len(record.correct) for record in records)
        right = sum(sum(record.correct) for record in records)
        left = (time.monotonic() - began) * (total - len(records)) / max(1, len(records) - earlier)
        say(
            f"{len(records):>5}/{total} problems  pass@1 {right / answers:.3f}  about {_duration(left)} left",
            file=sys.stderr,
            flush=True,
        )

    return EvalReport(note=lambda text: say(text, file=sys.stderr, flush=True), progress=line)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _print(result: dict[str, Any], out: Path | None) -> None:
    terminal.introduce(
        "How often the model answers right: in one of k tries (pass@k) and by majority of k answers (maj@k). [95 %]: "
        "bootstrap intervals over problems."
    )
    console = terminal.plain_console()
    console.print(
        f"{result['model']}\n{result['data']} {result['split']}, {result['problems']} problems x "
        f"{result['samples']} samples",
        soft_wrap=True,
    )
    console.print(_accuracy(result))
    console.print(_shape(result))
    for label in ("subject", "level"):
        if result[f"by_{label}"]:
            console.print(_groups(result[f"by_{label}"], label, result["samples"]))
    if "comparison" in result:
        console.print(_comparison(result["comparison"]))
    if out is not None:
        console.print(f"results: {out}", soft_wrap=True)


def _table(*headings: str) -> Any:
    table = terminal.plain_table()
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=place > 0)
    return table


def _accuracy(result: dict[str, Any]) -> Any:
    table = _table("k", "pass@k", "[95 %]", "maj@k", "[95 %]")
    for name in (key for key in result if key.startswith("pass@") and not key.endswith("_interval")):
        k = name.removeprefix("pass@")
        cells = [cell for kind in ("pass", "maj") for cell in _cells(result, f"{kind}@{k}", 3)]
        table.add_row(k, *cells)
    return table


def _shape(result: dict[str, Any]) -> Any:
    """Return the measures that are not accuracies; those that were not measured are left out."""
    table = _table("measure", "mean", "[95 %]")
    right = f"score (right: {result['threshold']:g} or more)" if "threshold" in result else "score"
    for name, label, digits in (
        ("score", right, 3),
        ("response_length", "response length, tokens", 1),
        ("cut", "cut at the limit", 3),
        ("answered", "with an answer", 3),
        ("entropy", "entropy, nats per token", 3),
        ("logprob", "log π(x), nats", 2),
        ("base_logprob", "log p(x) under the base, nats", 2),
        ("kl_base", "KL(π‖p), nats per sequence", 3),
    ):
        if result.get(name) is not None:
            table.add_row(label, *_cells(result, name, digits))
    at = result["response_length_quantiles"]
    shown = " ".join(f"{at[q]:.0f}" for q in ("0.05", "0.5", "0.95", "1.0"))
    table.add_row("length: 5 %, 50 %, 95 %, longest", "", shown)
    return table


def _groups(groups: dict[str, Any], label: str, samples: int) -> Any:
    largest = 2 ** (samples.bit_length() - 1)
    table = _table(label, "problems", "pass@1", "[95 %]", f"pass@{largest}", f"maj@{largest}", "length")
    for name, row in groups.items():
        table.add_row(
            name,
            str(row["problems"]),
            *_cells(row, "pass@1", 3),
            f"{row[f'pass@{largest}']:.3f}",
            f"{row[f'maj@{largest}']:.3f}",
            f"{row['response_length']:.1f}",
        )
    return table


def _comparison(comparison: dict[str, Any]) -> Any:
    table = _table("this - other", "this", "other", "difference", "[95 %]", "perm. p", "+/-", "sign p")
    table.title = f"against {comparison['with']}, {comparison['problems']} common problems"
    table.title_justify = "left"
    for name, row in comparison["measures"].items():
        digits = 3 if "@" in name or name in ("finished", "answered") else 2
        low, high = row["interval"]
        table.add_row(
            name.replace("response_", ""),
            f"{row['ours']:.{digits}f}",
            f"{row['theirs']:.{digits}f}",
            f"{row['difference']:+.{digits}f}",
            f"{low:+.{digits}f} {high:+.{digits}f}",
            _p(row["permutation_p"]),
            f"{row['wins']}/{row['losses']}",
            _p(row["sign_p"]),
        )
    return table


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "<.001"


def _cells(row: dict[str, Any], name: str, digits: int) -> tuple[str, str]:
    if f"{name}_interval" not in row:
        return f"{row[name]:.{digits}f}", ""
    low, high = row[f"{name}_interval"]
    return f"{row[name]:.{digits}f}", f"{low:.{digits}f} {high:.{digits}f}"
