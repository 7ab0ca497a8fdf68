"""``sharpen llm forecast``: what sharpening and the task reward would do to a model, before anything is trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.llm.settings import CHAT_OPTION, LONG_PROMPTS, TEMPLATE, chat_options
from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.errors import lost_without
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from sharpen.llm.evaluation.records import Record
    from sharpen.theory.forecast.samples import Samples

ASKED, FORECAST, MACHINE = "What is asked", "What is forecast", "Machine"
ALPHAS, KS = "1,1.25,1.5,2,3,4,8", "4,16"
PARTICLES, POPULATIONS, DRAWS = "power-smc", 4, 4  # draws per problem, each a chain over so many populations
LEAST_ACCEPTED = 0.5  # of populations: estimates of log Z then scatter by about 1 nat, and three steps forget the start
SAMPLED, GREEDY, RESULT = "samples", "greedy", "forecast.json"  # in --out


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("forecast")(forecast)


def _flag(help: str, panel: str) -> Any:
    return typer.Option(help=help, rich_help_panel=panel, show_default=False)


@options.flat
def forecast(
    model: Annotated[
        str | None,
        typer.Option(help="embedded (the default), smollm2, …, a hub id, a folder, a run folder, a checkpoint."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Which checkpoint of a run folder: last (the default), best, base, or a number of updates."),
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option("--from", help="Samples that sharpen llm eval --out has drawn, instead of drawing them."),
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(help="Folder with outcomes.parquet and frontier.parquet: certified bounds in place of estimates."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; the same command continues it.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curve to a .png, .pdf or .svg file.")] = None,
    alphas: Annotated[
        str, typer.Option(help="Exponents of p^alpha.", rich_help_panel=FORECAST, metavar="A,A,...")
    ] = ALPHAS,
    beta_inv: Annotated[
        str | None,
        typer.Option(help="Also tilts p^alpha e^(B r), for these B.", rich_help_panel=FORECAST, metavar="B,B,..."),
    ] = None,
    k: Annotated[
        str, typer.Option(help="Numbers of samples of pass@k and maj@k.", rich_help_panel=FORECAST, metavar="K,K,...")
    ] = KS,
    particles: Annotated[
        int | None,
        typer.Option(
            help="Draw with so many particles where samples cannot tell; costs that many times as much.",
            rich_help_panel=FORECAST,
            show_default=False,
        ),
    ] = None,
    task: Annotated[str | None, _flag("As --data: a task, as `sharpen llm tasks` lists them.", ASKED)] = None,
    data: Annotated[str | None, _flag("math500, math, …, a hub id, a file or folder.", ASKED)] = None,
    split: Annotated[str | None, _flag("test (the default), validation or train.", ASKED)] = None,
    problems: Annotated[int | None, _flag("The first N problems only (64).", ASKED)] = None,
    samples: Annotated[int | None, _flag("Samples per problem (32).", ASKED)] = None,
    template: Annotated[str | None, _flag(TEMPLATE, ASKED)] = None,
    chat_option: Annotated[
        list[str] | None, typer.Option(help=CHAT_OPTION, metavar="NAME=VALUE", rich_help_panel=ASKED)
    ] = None,
    long_prompts: Annotated[str | None, _flag(LONG_PROMPTS, ASKED)] = None,
    max_length: Annotated[int | None, _flag("Prompt and response, in tokens.", ASKED)] = None,
    seed: Annotated[int | None, _flag("Seed of the samples and the intervals (42).", ASKED)] = None,
    engine: Annotated[str | None, _flag("auto (the quicker one installed), vllm or transformers.", MACHINE)] = None,
    device: Annotated[str | None, _flag("auto, cpu or cuda.", MACHINE)] = None,
    dtype: Annotated[str | None, _flag("auto, float32 or bfloat16.", MACHINE)] = None,
    batch: Annotated[
        int | None, _flag("Problems asked together; a kill loses at most one batch (32).", MACHINE)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete an earlier forecast in --out first.")] = False,
    json_output: options.JsonOutput = False,
) -> None:
    """Forecast from samples of a model what sharpening and the task reward would do to its accuracy.

    The samples are drawn at temperature 1 and marked, as sharpen llm eval does: a forecast reads the labels of the
    problems that it asks, as an evaluation does. Nothing is trained. Where the samples cannot tell, no number is given
    but how many of them would be needed.
    """
    asked = {"model": model, "checkpoint": checkpoint, "data": task or data, "split": split, "problems": problems}
    asked |= {"samples": samples, "template": template, "long_prompts": long_prompts, "max_length": max_length}
    asked |= {"engine": engine, "device": device, "dtype": dtype, "batch": batch, "seed": seed}
    asked |= {"chat_options": chat_options(chat_option) if chat_option else None}
    options.refuse_with("task", task, "data", data)
    options.refuse_without("force", force, "out", out)
    exponents = _numbers(alphas, "alphas", "numbers >= 0", lambda one: one >= 0)
    tilts = _numbers(beta_inv or "", "beta-inv", "numbers > 0", lambda one: one > 0)
    ks = [int(one) for one in _numbers(k, "k", "whole numbers >= 1", lambda one: one >= 1 and one == int(one))]
    _at_least_two(problems=problems, samples=samples, particles=particles)
    if outcomes is not None:
        from sharpen.theory.audit.outcomes import OUTCOMES, read_known

        read_known(outcomes / OUTCOMES)  # before an hour of work
    if plot is not None:
        from sharpen.figures.style import check_figure_path

        check_figure_path(plot)  # before an hour of work
    require_packages()
    asked = {name: flag for name, flag in asked.items() if flag is not None}
    if given is not None:
        others = {name: flag for name, flag in asked.items() if name != "seed"}
        options.only_where(False, "samples that are drawn here, without --from", **others)
        options.refuse_with("force", force, "from", given)
        options.refuse_with("particles", particles, "from", given)
        about, records, greedy = _read(given)
    else:
        with lost_without(out):
            about, records, greedy = _draw(asked, out, force)
    settings = (exponents, tilts, ks, seed if seed is not None else 42, outcomes)
    result = about | _forecast(records, greedy, *settings)
    untold = [row["alpha"] for row in result["curve"] if "needs" in row]
    if particles is not None and untold:
        known, drawn = _measure(asked, untold, particles, [one.id for one in records], out, force)
        result = about | _forecast(records, greedy, *settings, known) | {"particles": drawn}
    _deliver(result, out, plot, json_output)


def _numbers(text: str, name: str, allowed: str, good: Callable[[float], bool]) -> list[float]:
    import math

    from sharpen.objective import InputError

    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(name, text, f"{allowed}, with commas between them") from error
    if not all(math.isfinite(one) and good(one) for one in found):
        raise InputError(name, text, f"finite {allowed}")
    return found


def _at_least_two(**counts: int | None) -> None:
    """Refuse what has no interval before anything is drawn."""
    from sharpen.objective import InputError

    for name, count in counts.items():
        if count is not None and count < 2:
            raise InputError(name, count, "at least 2")


def _draw(asked: dict[str, Any], out: Path | None, force: bool) -> tuple[dict[str, Any], list[Record], list[Record]]:
    """Draw and mark samples, and one greedy response per problem, or go on with what a folder holds."""
    from transformers.utils import logging

    from sharpen.llm.configs.targets import complete
    from sharpen.llm.evaluation.run import EvalConfig, run_evaluation

    logging.disable_progress_bar()
    given = {"model": "embedded", "problems": 64, "samples": 32, **asked}
    config = EvalConfig.as_written(complete(given))
    once = EvalConfig.as_written(complete({**given, "samples": 1, "temperature": 0.0}))
    found: dict[str, list[Record]] = {}
    for name, one in ((SAMPLED, config), (GREEDY, once)):
        _tell(
            f"sampling {config.samples} responses per problem" if name == SAMPLED else "one greedy response per problem"
        )
        _, found[name] = run_evaluation(one, out / name if out is not None else None, force=force, report=_progress())
    return {"model": config.model, "data": config.data, "split": config.split}, found[SAMPLED], found[GREEDY]


def _measure(
    asked: dict[str, Any], alphas: list[float], count: int, names: list[str], out: Path | None, force: bool
) -> tuple[dict[float, Any], list[dict[str, Any]]]:
    """Draw from p^alpha with particles, mark the draws, and keep the accuracies whose populations agree.

    Returns:
        Accuracy of every problem by exponent; and of each exponent ``alpha``, ``particles``, ``acceptance`` and
        ``tokens_per_response``.
    """
    import tempfile

    import numpy as np

    from sharpen.llm.configs.sampling import SampleConfig
    from sharpen.llm.configs.targets import complete
    from sharpen.llm.evaluation import records as store
    from sharpen.llm.sampling.sampling_run import RECORDS, SampleReport, run_sampling

    fields = {"model": "embedded", "problems": 64, **asked, "samples": DRAWS, "method": PARTICLES}
    fields["prompts_per_batch"] = fields.pop("batch", 32)
    known: dict[float, Any] = {}
    drawn = []
    with tempfile.TemporaryDirectory() as kept:
        for alpha in alphas:
            _tell(f"alpha = {alpha:g}: {DRAWS} draws per problem, each of populations of {count} particles")
            config = SampleConfig.as_written(
                complete({**fields, "alpha": alpha, "particles": count, "populations": POPULATIONS})
            )
            folder = (out or Path(kept)) / f"particles-{alpha:g}"
            cost = run_sampling(config, folder, force=force, report=SampleReport(note=_tell, batch=_batch))["cost"]
            drawn.append({"alpha": alpha, "particles": count, "acceptance": cost["acceptance"]})
            drawn[-1]["tokens_per_response"] = cost["tokens_per_response"]
            marks = {one.id: np.mean(one.marks) for one in store.read(folder / RECORDS)}
            if cost["acceptance"] >= LEAST_ACCEPTED:
                known[alpha] = np.array([marks[name] for name in names])
    return known, drawn


def _batch(drawn: Any, done: int, total: int) -> None:
    _tell(f"{done:>5}/{total} problems")


def _read(folder: Path) -> tuple[dict[str, Any], list[Record], list[Record]]:
    """Return the records of a finished evaluation of untempered samples.

    Raises:
        InputError: it is none.
    """
    from sharpen.llm.evaluation import records as store
    from sharpen.llm.evaluation.run import EVALUATION, RECORDS, EvalConfig
    from sharpen.objective import InputError
    from sharpen.objective.storage import runfolder

    if not (folder / EVALUATION).is_file() or not (folder / RECORDS).is_file():
        raise InputError("from", str(folder), "a folder of a finished sharpen llm eval --out")
    config = runfolder.read_config(folder, EvalConfig)
    if (config.temperature, config.top_p) != (1.0, 1.0):
        drawn = f"temperature {config.temperature:g}, top-p {config.top_p:g}"
        raise InputError("from", f"{folder} ({drawn})", "samples at temperature 1 and top-p 1: those are of p itself")
    records = store.read(folder / RECORDS)
    if any(record.logprob is None for record in records):
        raise InputError("from", str(folder), "an evaluation with log-probabilities (without --no-likelihoods)")
    return {"model": config.model, "data": config.data, "split": config.split}, records, []


def _forecast(
    records: list[Record],
    greedy: list[Record],
    alphas: list[float],
    tilts: list[float],
    ks: list[int],
    seed: int,
    outcomes: Path | None,
    known: Any = None,
) -> dict[str, Any]:
    import numpy as np

    from sharpen.theory.audit.outcomes import OUTCOMES, known_of, read_known
    from sharpen.theory.core.intervals import UNIT, Resampler
    from sharpen.theory.forecast.report import forecast as forecast_from

    prompts = samples_of(records, greedy)
    trees = None if outcomes is None else known_of(read_known(outcomes / OUTCOMES), [one.id for one in records])
    found = forecast_from(prompts, alphas, tilts, ks, seed, known, trees)
    if greedy:
        right = np.array([one.correct[0] for one in greedy], dtype=float)
        low, high = Resampler(len(greedy), seed).mean(right, UNIT)
        found["greedy"] = {"value": float(right.mean()), "low": low, "high": high}
    return found


def samples_of(records: list[Record], greedy: list[Record]) -> list[Samples]:
    """Return evaluated problems as samples of p, with log p of each one's greedy response if there is one."""
    from sharpen.theory.forecast.samples import Samples

    likeliest = {one.id: one.logprob[0] for one in greedy if one.logprob is not None}
    return [
        Samples.of(
            [min(0.0, log_p) for log_p in one.logprob or []],
            one.marks,
            one.lengths,
            one.correct,
            answer=one.classes,
            response=[f"{length} {text}" for length, text in zip(one.lengths, one.responses, strict=True)],
            greedy=likeliest.get(one.id),
        )
        for one in records
    ]


def _progress() -> Any:
    """Return a reporter that writes a line per batch to stderr."""
    import time

    from sharpen.llm.evaluation.run import EvalReport

    began = time.monotonic()

    def progress(records: list[Record], total: int, earlier: int) -> None:
        seconds = time.monotonic() - began
        left = seconds * (total - len(records)) / max(1, len(records) - earlier)
        _tell(f"{len(records):>5}/{total} problems  about {left:.0f} s left")

    return EvalReport(note=_tell, progress=progress)


def _tell(text: str) -> None:
    say(text, file=sys.stderr, flush=True)


def _deliver(result: dict[str, Any], out: Path | None, plot: Path | None, json_output: bool) -> None:
    import json

    if out is not None:
        from sharpen.objective.storage import files

        out.mkdir(parents=True, exist_ok=True)
        files.write(out / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")
    if plot is not None:
        from sharpen.figures.llm.forecast import plot_forecast

        plot_forecast(result, plot)
    if json_output:
        say(json.dumps(result, allow_nan=False))
    else:
        _print(result, out)


def _print(result: dict[str, Any], out: Path | None) -> None:
    terminal.introduce(
        "What sharpening to p^alpha would do to this model's accuracy, from its own samples and without training. KL "
        "to the base, price: in nats; ESS: how many samples the estimate rests on; [95 %]: intervals over problems."
    )
    console = terminal.plain_console()
    console.print(
        f"{result['model']}\n{result['data']} {result['split']}, {result['problems']} problems x "
        f"{result['samples']} samples",
        soft_wrap=True,
    )
    console.print(_curve(result["curve"], "alpha"))
    if result["tilts"]:
        console.print(_curve(result["tilts"], "alpha", "beta_inv"))
    console.print(_measures(result))
    _print_calibration(console, result["calibration"])
    console.print(result["verdict"])
    if out is not None:
        console.print(f"results: {out}", soft_wrap=True)


def _curve(rows: list[dict[str, Any]], *names: str) -> Any:
    ks = [int(name.removeprefix("pass@")) for name in rows[0] if name.startswith("pass@") and "_" not in name]
    voted = [f"pass@{max(ks)}", f"maj@{max(ks)}"] if ks else []
    priced = ["price"] if "beta_inv" not in names else []  # of sharpening alone; a tilt's row is wider
    table = terminal.number_table([*names, "accuracy", "[95 %]", *voted, "tokens", "KL", *priced, "ESS"])
    for row in rows:
        between = f"needs ~{row['needs']}" if "needs" in row else f"{row['low']:.3f} {row['high']:.3f}"
        digits = {**dict.fromkeys(voted, 3), "length": 1, "kl": 2, **dict.fromkeys(priced, 2), "ess": 1}
        cells = [_cell(row.get(name), places) for name, places in digits.items()]
        table.add_row(*(f"{row[name]:g}" for name in names), _cell(row["expected_reward"], 3), between, *cells)
    return table


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _print_calibration(console: Any, found: dict[str, Any]) -> None:
    """Print accuracy by fifths of log p within problems, and how often the curve against alpha can turn."""
    from sharpen.figures.llm.forecast import turns

    ends = zip(found["low"], found["high"], strict=True)
    table = terminal.number_table(["fifth by log p", "least likely", "2nd", "3rd", "4th", "likeliest"])
    table.add_row("accuracy", *(f"{value:.2f}" for value in found["expected_reward"]))
    table.add_row("[95 %]", *(f"{low:.2f} {high:.2f}" for low, high in ends))
    console.print(table)
    console.print(turns(found).replace("α", "alpha") + ".")


def _measures(result: dict[str, Any]) -> Any:
    table = terminal.number_table(["measure", "value", "[95 %]"])
    rows = [("slope at alpha = 1, Cov(r, log p)", "slope_at_1"), ("Corr(r, log p) within prompts", "price")]
    rows += [("likeliest response seen", "mode"), ("greedy", "greedy")]
    rows += [("task reward reaches, at most seen", "task_reward"), ("prompts with right and wrong samples", "mixed")]
    for label, name in rows:
        found = result.get(name)
        if found is not None and found["value"] is not None:
            table.add_row(label, f"{found['value']:.3f}", f"{found['low']:.3f} {found['high']:.3f}")
    if result["calibration"]["auc"] is not None:
        table.add_row("AUC of log p for being right", f"{result['calibration']['auc']:.3f}", "")
    for row in result["pass_slopes"]:
        table.add_row(
            f"slope of pass@{row['k']} at alpha = 1", f"{row['value']:.3f}", f"{row['low']:.3f} {row['high']:.3f}"
        )
    return table
