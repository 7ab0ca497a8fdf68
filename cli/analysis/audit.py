"""``sharpen llm audit``: what training changed in a model, and what share of the change is sharpening."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.llm.settings import CHAT_OPTION, LONG_PROMPTS, TEMPLATE, chat_options
from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.errors import lost_without
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.llm.audit.collect import Collected

ASKED, LOGS, MACHINE = "What is asked", "Logs of lm-eval", "Machine"
RESULT = "audit.json"  # in --out
NAMES = {"all": "all three", "rest": "none of them (rest)"}


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("audit")(audit)


def _flag(help: str, panel: str) -> Any:
    return typer.Option(help=help, rich_help_panel=panel, show_default=False)


@options.flat
def audit(
    policy: Annotated[
        str,
        typer.Option(help="After training: a run folder, a checkpoint, a folder, a hub id; a log or an evaluation."),
    ],
    base: Annotated[
        str | None, typer.Option(help="Before it, in the same forms; a run folder's own base is the default.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Of the policy's run folder: last (the default), best, or a number of updates.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; the same command continues it.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the shares to a .png, .pdf or .svg file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write all of it as one page.")] = None,
    task: Annotated[str | None, _flag("As --data: a task, as `sharpen llm tasks` lists them.", ASKED)] = None,
    data: Annotated[str | None, _flag("math500, math, …, a hub id, a file or folder.", ASKED)] = None,
    split: Annotated[str | None, _flag("test (the default), validation or train.", ASKED)] = None,
    problems: Annotated[int | None, _flag("The first N problems only (64).", ASKED)] = None,
    samples: Annotated[int | None, _flag("Samples per problem of each model (32).", ASKED)] = None,
    template: Annotated[str | None, _flag(TEMPLATE, ASKED)] = None,
    chat_option: Annotated[
        list[str] | None, typer.Option(help=CHAT_OPTION, metavar="NAME=VALUE", rich_help_panel=ASKED)
    ] = None,
    long_prompts: Annotated[str | None, _flag(LONG_PROMPTS, ASKED)] = None,
    max_length: Annotated[int | None, _flag("Prompt and response, in tokens.", ASKED)] = None,
    seed: Annotated[int | None, _flag("Seed of the samples and the intervals (42).", ASKED)] = None,
    metric: Annotated[str | None, _flag("The number that is 1 where an answer is right.", LOGS)] = None,
    filter: Annotated[str | None, _flag("Whose answers count, where a log has several.", LOGS)] = None,
    likelihoods: Annotated[
        bool | None,
        typer.Option(
            "--likelihoods/--no-likelihoods",
            help="Score each model's samples by both; without, models may differ in their tokens.",
            rich_help_panel=MACHINE,
            show_default=False,
        ),
    ] = None,
    engine: Annotated[str | None, _flag("auto (the quicker one installed), vllm or transformers.", MACHINE)] = None,
    device: Annotated[str | None, _flag("auto, cpu or cuda.", MACHINE)] = None,
    dtype: Annotated[str | None, _flag("auto, float32 or bfloat16.", MACHINE)] = None,
    batch: Annotated[
        int | None, _flag("Problems asked together; a kill loses at most one batch (32).", MACHINE)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete an earlier audit in --out first.")] = False,
    json_output: options.JsonOutput = False,
) -> None:
    """Split the change from one model to another into sharpening, reward, length and the rest.

    Both models are sampled at temperature 1 on the same problems and each scores the other's samples. The answers are
    marked, so the labels of these problems are read. --base and --policy may also both be folders of finished
    evaluations or per-sample logs of lm-eval: of logs, counts of right samples and answers are compared.
    """
    asked = {"checkpoint": checkpoint, "data": task or data, "split": split, "problems": problems, "samples": samples}
    asked |= {"template": template, "long_prompts": long_prompts, "max_length": max_length, "likelihoods": likelihoods}
    asked |= {"engine": engine, "device": device, "dtype": dtype, "batch": batch}
    asked |= {"chat_options": chat_options(chat_option) if chat_option else None}
    options.refuse_with("task", task, "data", data)
    options.refuse_without("force", force, "out", out)
    _check(problems, samples, plot)
    require_packages()
    given = {name: flag for name, flag in asked.items() if flag is not None}
    collected = _collect(base, policy, given, seed, (metric, filter), out, force)

    from sharpen.cli.analysis.measured import measure

    result = measure(collected, 42 if seed is None else seed)
    _deliver(result, out, plot, html, json_output)


def _check(problems: int | None, samples: int | None, plot: Path | None) -> None:
    """Refuse before an hour of work what has no interval and what cannot be drawn."""
    from sharpen.objective import InputError

    for name, count in (("problems", problems), ("samples", samples)):
        if count is not None and count < 2:
            raise InputError(name, count, "at least 2")
    if plot is not None:
        from sharpen.figures.style import check_figure_path

        check_figure_path(plot)


def _collect(
    base: str | None,
    policy: str,
    given: dict[str, Any],
    seed: int | None,
    of_logs: tuple[str | None, str | None],
    out: Path | None,
    force: bool,
) -> Collected:
    """Read what is sampled already, or sample both models."""
    from sharpen.cli.llm.eval import progress
    from sharpen.llm.audit import collect
    from sharpen.objective import InputError

    logs = [one is not None and collect.is_log(Path(one)) for one in (base, policy)]
    kept = [one is not None and collect.is_evaluation(Path(one)) for one in (base, policy)]
    options.only_where(all(logs), "two logs of lm-eval", metric=of_logs[0], filter=of_logs[1])
    if any(logs) or any(kept):
        options.only_where(False, "models that are sampled here", **given)
        options.refuse_with("force", force, "base", base)
        if base is None:
            raise InputError("base", None, f"what was sampled before training, as {policy} is what was after it")
        return collect.read(Path(base), Path(policy), *of_logs)

    from transformers.utils import logging

    logging.disable_progress_bar()
    asked = given | ({} if seed is None else {"seed": seed})
    with lost_without(out):
        return collect.sample(*collect.configs(base, policy, asked), out, force=force, report=progress)


def _deliver(result: dict[str, Any], out: Path | None, plot: Path | None, html: Path | None, json_output: bool) -> None:
    import json

    from sharpen.objective.storage import files

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        files.write(out / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")
    if plot is not None:
        from sharpen.figures.llm.audit import plot_audit

        plot_audit(result, plot)
    if html is not None:
        from sharpen.figures.llm.audit_page import audit_page

        with files.naming(html, "html"):
            html.parent.mkdir(parents=True, exist_ok=True)
            files.write(html, audit_page(result))
    if json_output:
        say(json.dumps(result, allow_nan=False))
    else:
        _print(result, out)


def _print(result: dict[str, Any], out: Path | None) -> None:
    terminal.introduce(
        "How much of what training changed is sharpening of the base, how much reward and length. KL(π‖p): the whole "
        "change; ESS: how many samples a fit rests on; [95 %]: intervals over problems."
    )
    console = terminal.plain_console()
    console.print(f"base    {result['base']}\npolicy  {result['policy']}", soft_wrap=True)
    console.print(f"{result['data']}, {result['problems']} problems x {result['samples']} samples of each")
    if result["kl"] is not None:
        console.print(_change(result))
    console.print(_attempts(result))
    console.print(_measures(result))
    console.print(result["verdict"])
    if out is not None:
        console.print(f"results: {out}", soft_wrap=True)


def _change(result: dict[str, Any]) -> Any:
    table = terminal.number_table(["explained of the change", "nats", "[95 %]", "share", "[95 %]", "Shapley", "ESS"])
    table.add_row("KL(π‖p)", *_cells(result["kl"]))
    for name, row in {**result["explained"], "rest": result["rest"]}.items():
        shapley, fit = result["shapley"].get(name), result["fits"].get(name)
        share = result["shares"][name]
        table.add_row(
            NAMES.get(name, name.replace("+", " + ")),
            *_cells(row),
            *(_cells(share, 2) if share is not None else ("", "")),
            "" if shapley is None else f"{shapley['value']:.3f}",
            "" if fit is None else f"{fit['ess']:.0f}",
        )
    return table


def _attempts(result: dict[str, Any]) -> Any:
    table = terminal.number_table(["k", "pass@k base", "policy", "difference [95 %]", "pass^k base", "policy"])
    for row in result["pass"]:
        some, every = row["pass@k"], row["pass^k"]
        between = some["difference"]
        table.add_row(
            str(row["k"]),
            *(f"{some[name]['value']:.3f}" for name in ("base", "policy")),
            f"{between['value']:+.3f}  {between['low']:+.3f} {between['high']:+.3f}",
            *(f"{every[name]['value']:.3f}" for name in ("base", "policy")),
        )
    return table


def _measures(result: dict[str, Any]) -> Any:
    table = terminal.number_table(["measure", "value", "[95 %]", "by chance"])
    alpha, own = result["alpha"], result["own_alpha"]
    if alpha is not None:
        table.add_row("closest p^alpha: its alpha", *_cells(alpha))
    if own is not None:
        table.add_row("an alpha per problem explains at most", *_cells(own["at_most"]))
    if own is not None and own["share"] is not None:
        table.add_row("its share of the KL", *_cells(own["share"], 2))
    crossover, tax = result["crossover"], result["tax"]
    table.add_row("first k with the base ahead", _k(crossover["value"], crossover["most"]), _span(crossover))
    table.add_row(f"sharpening tax A({tax['K']})", *_cells(tax["A"]["tax"]))
    if tax["S"]["tax"]["value"] is not None:
        table.add_row(f"sharpening tax S({tax['K']})", *_cells(tax["S"]["tax"]))
    support = result["support"]
    for name in ("kept", "gained", "lost", "out"):
        chance = support.get(f"{name}_by_chance")
        table.add_row(f"problems {name}", *_cells(support[name]), "" if chance is None else f"{chance:.3f}")
    for name, row in (result["answers"] or {}).items():
        if name == "entropy":
            table.add_row("entropy of answers, change", *_cells(row["difference"]))
        else:
            table.add_row(f"answers {name.replace('_', ' ')}, mass", *_cells(row), f"{row['by_chance']:.3f}")
    if result["token_entropy"] is not None:
        table.add_row("entropy per token, change", *_cells(result["token_entropy"]["difference"]))
    return table


def _k(value: int | None, most: int) -> str:
    return f"> {most}" if value is None else str(value)


def _span(crossover: dict[str, Any]) -> str:
    return " ".join(_k(crossover[name], crossover["most"]) for name in ("low", "high"))


def _cells(row: dict[str, float], digits: int = 3) -> tuple[str, str]:
    value, low, high = (round(row[name], digits) + 0.0 for name in ("value", "low", "high"))  # no -0
    return f"{value:.{digits}f}", f"{low:.{digits}f} {high:.{digits}f}"
