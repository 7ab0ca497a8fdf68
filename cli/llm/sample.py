"""``sharpen llm sample``: sharpening without training, and what it costs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.llm.settings import CHAT_OPTION, LONG_PROMPTS, TEMPLATE, assigned, chat_options
from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.llm.configs.sampling import SampleConfig
    from sharpen.llm.sampling.sampling_run import SampleReport

ASKED, POWER, OTHER, MACHINE = "What is asked", "Power sampling", "Other methods", "Machine"
SECONDS_BETWEEN_LINES = 10  # of progress within a batch


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("sample")(sample)


def _flag(help: str, panel: str) -> Any:
    return typer.Option(help=help, rich_help_panel=panel, show_default=False)


@options.flat
def sample(
    method: Annotated[
        str,
        typer.Option(
            help="power, power-smc, reweighted, scalable-power, low-temperature, best-of-n, plain, or module:object."
        ),
    ] = "power",
    option: Annotated[
        list[str] | None,
        typer.Option(help="A setting that only your own method has; repeatable.", metavar="NAME=VALUE"),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Exponent of the target p^alpha.", show_default="4.0")] = None,
    budget: Annotated[int | None, typer.Option(help="Tokens to generate for each response.")] = None,
    model: Annotated[
        str,
        typer.Option(help="embedded, qwen2.5-3b, …, a hub id, a folder, a run folder or one of its checkpoints."),
    ] = "embedded",
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Which checkpoint of a run folder: last (the default), best, base, or a number of updates."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; the same command continues it.", show_default="stdout")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(help="Run folder of sharpen llm train: accuracy and cost beside it.")
    ] = None,
    task: Annotated[str | None, _flag("As --data: a task, as `sharpen llm tasks` lists them.", ASKED)] = None,
    data: Annotated[str | None, _flag("math500, math, …, a hub id, a file or folder.", ASKED)] = None,
    split: Annotated[str | None, _flag("test (the default), validation or train.", ASKED)] = None,
    problems: Annotated[int | None, _flag("The first N problems only.", ASKED)] = None,
    template: Annotated[str | None, _flag(TEMPLATE, ASKED)] = None,
    chat_option: Annotated[
        list[str] | None, typer.Option(help=CHAT_OPTION, metavar="NAME=VALUE", rich_help_panel=ASKED)
    ] = None,
    long_prompts: Annotated[str | None, _flag(LONG_PROMPTS, ASKED)] = None,
    samples: Annotated[int | None, _flag("Responses per prompt (1).", ASKED)] = None,
    max_length: Annotated[int | None, _flag("Prompt and response, in tokens.", ASKED)] = None,
    seed: Annotated[int | None, _flag("Seed of all random numbers (42).", ASKED)] = None,
    block: Annotated[int | None, _flag("Tokens between two runs of the chain (192).", POWER)] = None,
    steps: Annotated[int | None, _flag("Metropolis-Hastings steps per block (10).", POWER)] = None,
    proposal_temperature: Annotated[float | None, _flag("Of the proposal (1/alpha).", POWER)] = None,
    chunk: Annotated[
        int | None, _flag("Tokens drawn before a proposal may be dropped; none: a whole proposal at once.", POWER)
    ] = None,
    early_stop: Annotated[
        bool | None, typer.Option("--early-stop", help="Return once a block ends with EOS.", rich_help_panel=POWER)
    ] = None,
    cut: Annotated[str | None, _flag("uniform, or entropy: where the next token's entropy rises.", POWER)] = None,
    n: Annotated[int | None, _flag("best-of-n: candidates (16).", OTHER)] = None,
    score: Annotated[str | None, _flag("best-of-n: sum (log p, the default) or mean (per token).", OTHER)] = None,
    candidates: Annotated[int | None, _flag("scalable-power: next tokens that are weighed (8).", OTHER)] = None,
    rollouts: Annotated[int | None, _flag("scalable-power: rollouts per candidate (8).", OTHER)] = None,
    horizon: Annotated[int | None, _flag("scalable-power: longest rollout in tokens (to the end).", OTHER)] = None,
    jackknife: Annotated[
        bool | None,
        typer.Option(
            "--jackknife/--no-jackknife",
            help="scalable-power: correct the bias.",
            rich_help_panel=OTHER,
            show_default="jackknife",
        ),
    ] = None,
    particles: Annotated[int | None, _flag("power-smc: particles per population (16).", OTHER)] = None,
    grow: Annotated[int | None, _flag("power-smc: tokens between two looks at the weights (8).", OTHER)] = None,
    populations: Annotated[int | None, _flag("power-smc: a chain over so many populations (1).", OTHER)] = None,
    pool: Annotated[int | None, _flag("reweighted: base samples, shared by a prompt's responses (64).", OTHER)] = None,
    engine: Annotated[str | None, _flag("auto (the quicker one installed), vllm or transformers.", MACHINE)] = None,
    device: Annotated[str | None, _flag("auto, cpu or cuda.", MACHINE)] = None,
    dtype: Annotated[str | None, _flag("auto, float32 or bfloat16.", MACHINE)] = None,
    prompts_per_batch: Annotated[
        int | None, _flag("Prompts that advance and are saved together (32); a kill loses one batch.", MACHINE)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete an earlier run in --out first.")] = False,
    json_output: options.JsonOutput = False,
) -> None:
    """Sample from a sharpened model without training it, and mark the answers where the data has them.

    Without --out each prompt's responses are one JSON line on stdout, and the summary goes to stderr.
    """
    flags = {name: flag for name, flag in locals().items() if flag is not None}
    require_packages()
    options.refuse_without("force", force, "out", out)
    config = _config(flags)
    from transformers.utils import logging

    from sharpen.llm.sampling.sampling_run import run_sampling

    logging.disable_progress_bar()
    result = run_sampling(
        config, out, force=force, beside=beside, report=_report(lines=out is None and not json_output)
    )
    if json_output:
        say(json.dumps(result, allow_nan=False))
    else:
        _print(result, out)


def _config(flags: dict[str, Any]) -> SampleConfig:
    from sharpen.llm.configs.idle import refuse_idle
    from sharpen.llm.configs.sampling import SampleConfig, effects
    from sharpen.llm.configs.targets import complete
    from sharpen.llm.configs.train import merge

    options.refuse_with("task", flags.get("task"), "data", flags.get("data"))
    given = {name: flag for name, flag in flags.items() if name in SampleConfig.model_fields}
    given |= {"data": flags["task"]} if "task" in flags else {}
    given |= {"chat_options": chat_options(flags["chat_option"])} if flags.get("chat_option") else {}
    for one in flags.get("option", []):
        given["options"] = merge(given.get("options", {}), assigned(one, "option"), whole=())
    which = {"checkpoint": flags["checkpoint"]} if "checkpoint" in flags else {}
    config = SampleConfig.as_written(complete(given | which))
    refuse_idle(config, given, effects())
    return config


def _report(lines: bool) -> SampleReport:
    """Return a reporter that writes a line per batch to stderr and, if ``lines``, the responses to stdout."""
    import time

    from sharpen.llm.common.jsonl import line
    from sharpen.llm.sampling.sampling_run import SampleReport
    from sharpen.llm.sampling.store import Drawn

    began, seen = time.monotonic(), {"prompts": 0, "tokens": 0, "told": time.monotonic()}

    def batch(drawn: list[Drawn], done: int, total: int) -> None:
        if lines:
            sys.stdout.writelines(map(line, drawn))
            sys.stdout.flush()
        seen["prompts"] += len(drawn)
        seen["tokens"] += sum(sum(one.generated) for one in drawn)
        seconds = time.monotonic() - began
        rate, left = seen["tokens"] / seconds, seconds * (total - done) / seen["prompts"]
        _tell(f"{done:>5}/{total} prompts  {seen['tokens']} tokens, {rate:.0f} a second  about {left:.0f} s left")

    def inside(done: int, tokens: int) -> None:
        if time.monotonic() - seen["told"] >= SECONDS_BETWEEN_LINES:
            seen["told"] = time.monotonic()
            _tell(f"      in this batch: {done} responses done, {tokens} tokens")

    return SampleReport(note=_tell, batch=batch, round=inside)


def _tell(text: str) -> None:
    say(text, file=sys.stderr, flush=True)


def _print(result: dict[str, Any], out: Path | None) -> None:

    console = terminal.plain_console(stderr=out is None)
    console.print(
        f"{result['method']}, alpha {result['alpha']:g}, {result['model']}\n{result['data']} {result['split']}, "
        f"{result['problems']} prompts x {result['samples']} responses",
        soft_wrap=True,
    )
    table = terminal.plain_table()
    for place, heading in enumerate(("measure", "value", "[95 %]")):
        table.add_column(heading, justify="right" if place else "left", no_wrap=place > 0)
    for row in _rows(result):
        table.add_row(*row)
    console.print(table)
    if out is not None:
        console.print(f"results: {out}", soft_wrap=True)


def _rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    cost = result["cost"]
    largest = 2 ** (result["samples"].bit_length() - 1)
    rows = []
    names = dict.fromkeys(("pass@1", f"pass@{largest}", f"maj@{largest}"))
    labels = {"response_length": "response length, tokens", "base_logprob": "log p(x) under the base, nats"}
    if "threshold" in result:
        labels = {"score": f"score (right: {result['threshold']:g} or more)", **labels}
    for name in [*names, *labels]:
        if result.get(name) is not None:
            low, high = result[f"{name}_interval"]
            rows.append((labels.get(name, name), f"{result[name]:.3f}", f"{low:.3f} {high:.3f}"))
    rows.append(("tokens generated per response", f"{cost['tokens_per_response']:.1f}", ""))
    rows.append(("generated / returned tokens", f"{cost['overhead']:.2f}", ""))
    if result["method"] == "power" and cost["proposals"]:
        rows.append(("proposals accepted", f"{cost['acceptance']:.3f}", ""))
        rows.append(("proposals that moved the response", f"{cost['moved']:.3f}", ""))
    if "trained" in result:
        trained = result["trained"]
        low, high = trained["pass@1_interval"]
        responses = trained["break_even_responses"]
        rows += [
            ("trained run: pass@1", f"{trained['pass@1']:.3f}", f"{low:.3f} {high:.3f}"),
            ("trained run: response length, tokens", f"{trained['response_length']:.1f}", ""),
            ("trained run: tokens sampled in training", f"{trained['sampled_tokens']}", ""),
            ("responses until training is cheaper", "never" if responses is None else f"{responses:.0f}", ""),
        ]
    return rows
