"""``sharpen llm verify-sampler``: is a sampler exact for p^alpha?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.llm.packages import require_packages
from sharpen.cli.llm.settings import CHAT_OPTION, TEMPLATE, assigned, chat_options
from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from sharpen.llm.configs.exactness import ExactnessConfig
    from sharpen.llm.configs.sampling import SampleConfig
    from sharpen.theory.exactness.goodness import Goodness

ON, SURE = "What it is verified on", "How sure"
REFUTED = 1  # exit status
SECONDS_BETWEEN_LINES = 5  # of progress
SHOWN = 5  # responses that are most off


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("verify-sampler")(verify_sampler)


def _flag(help: str, panel: str) -> Any:
    return typer.Option(help=help, rich_help_panel=panel, show_default=False)


@options.flat
def verify_sampler(
    method: Annotated[
        str, typer.Option(help="A method of sharpen llm sample, or your own as module:object.")
    ] = "power",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the method, as steps=20; repeatable.", metavar="NAME=VALUE"),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Exponent of the target p^alpha.")] = 2.0,
    model: Annotated[
        str, _flag("embedded (the default), smollm2, …, a hub id, a folder, a run folder or a checkpoint.", ON)
    ] = "embedded",
    checkpoint: Annotated[
        str | None, _flag("Which checkpoint of a run folder: last (the default), best, base, or updates.", ON)
    ] = None,
    task: Annotated[str | None, _flag("As --data: a task, as `sharpen llm tasks` lists them.", ON)] = None,
    data: Annotated[str | None, _flag("math500, math, …, a hub id, a file or folder.", ON)] = None,
    split: Annotated[str | None, _flag("test (the default), validation or train.", ON)] = None,
    problem: Annotated[int | None, _flag("Which problem is the prompt (1).", ON)] = None,
    template: Annotated[str | None, _flag(TEMPLATE, ON)] = None,
    chat_option: Annotated[
        list[str] | None, typer.Option(help=CHAT_OPTION, metavar="NAME=VALUE", rich_help_panel=ON)
    ] = None,
    tokens: Annotated[int | None, _flag("Tokens that are allowed beside the one that ends a response (4).", ON)] = None,
    longest: Annotated[int | None, _flag("Longest response, in tokens (4).", ON)] = None,
    device: Annotated[str | None, _flag("auto, cpu or cuda.", ON)] = None,
    tv: Annotated[float | None, _flag("Total variation that is to be found (0.05).", SURE)] = None,
    power: Annotated[float | None, _flag("Chance to find it (0.99).", SURE)] = None,
    false_alarm: Annotated[float | None, _flag("Chance to refuse an exact sampler (0.001).", SURE)] = None,
    draws: Annotated[int | None, _flag("Draws; the default is what --tv and --power need.", SURE)] = None,
    seed: Annotated[int | None, _flag("Seed of all random numbers (42).", SURE)] = None,
    json_output: options.JsonOutput = False,
) -> None:
    """Compare a sampler's draws with p^alpha, enumerated, on a model that may say only few tokens.

    The exit status is 1 if the sampler is not exact.
    """
    flags = {name: flag for name, flag in locals().items() if flag is not None}
    require_packages()
    from sharpen.llm.configs.exactness import ExactnessConfig

    config = ExactnessConfig(**{name: flags[name] for name in ExactnessConfig.model_fields if name in flags})
    sampled = _sampled(flags)
    from transformers.utils import logging

    logging.disable_progress_bar()
    result = _verified(sampled, config)
    if json_output:
        import json

        say(json.dumps(result, allow_nan=False))
    else:
        _print(result)
    if not result["exact"]:
        raise SystemExit(REFUTED)


def _sampled(flags: dict[str, Any]) -> SampleConfig:
    """Return the sampler's settings, and what model and data it is asked with."""
    from sharpen.llm.configs.idle import refuse_idle
    from sharpen.llm.configs.sampling import SampleConfig, effects
    from sharpen.llm.configs.targets import complete
    from sharpen.llm.configs.train import merge
    from sharpen.llm.samplers.registry import settings_of
    from sharpen.objective import InputError

    options.refuse_with("task", flags.get("task"), "data", flags.get("data"))
    named = ("method", "alpha", "model", "checkpoint", "data", "split", "template", "device", "seed")
    given = {name: flags[name] for name in named if name in flags} | {"engine": "transformers"}
    given |= {"data": flags["task"]} if "task" in flags else {}
    given |= {"chat_options": chat_options(flags["chat_option"])} if "chat_option" in flags else {}
    SampleConfig(method=given["method"])  # refuses an unknown name before anything is read
    own: dict[str, Any] = {}
    for one in flags.get("set_", []):
        own = merge(own, assigned(one), whole=())
    for name in own:
        if name in SampleConfig.model_fields and (name not in effects() or name == "alpha"):
            allowed = f"a setting of the method: {', '.join(settings_of(given['method'])) or 'it has none'}"
            raise InputError("set", name, allowed)
    fields = {name: value for name, value in own.items() if name in SampleConfig.model_fields}
    given |= fields | {"options": {name: value for name, value in own.items() if name not in fields}}
    config = SampleConfig.as_written(complete(given))
    refuse_idle(config, fields, effects())
    return config


def _verified(sampled: SampleConfig, config: ExactnessConfig) -> dict[str, Any]:
    import numpy as np

    from sharpen.llm.exactness.run import draw, open_model
    from sharpen.theory.exactness.goodness import compare, draws_needed, power

    model, tokenizer = open_model(sampled, config)
    logprobs = model.law()
    log_law = sampled.alpha * np.array(list(logprobs.values()))
    law = np.exp(log_law - np.logaddexp.reduce(log_law))
    asked = {"false_alarm": config.false_alarm}
    draws = config.draws or draws_needed(law, config.tv, power_wanted=config.power, **asked)
    found_with = power(law, draws, config.tv, **asked)
    drawn = draw(sampled, model, draws, _progress(draws))
    counts = [drawn.counts[response] for response in logprobs]
    fit = compare(counts, law, config.false_alarm, draws - sum(counts))
    result: dict[str, Any] = {name: getattr(sampled, name) for name in ("method", "alpha", "model", "data", "seed")}
    result |= {"problem": config.problem, "longest": model.longest, "responses": len(logprobs)}
    result |= {"tokens": [tokenizer.decode([token]) for token in model.allowed]}
    result |= {"entropy": float(-np.sum(law * np.log(law, out=np.zeros_like(law), where=law > 0)))}
    result |= {"tv": config.tv, "power": found_with, "false_alarm": config.false_alarm}
    result |= _fit(fit) | {"tokens_per_draw": drawn.generated / draws}
    result["most_off"] = [
        {
            "response": [tokenizer.decode([token]) for token in list(logprobs)[place]],
            "drawn": counts[place],
            "expected": float(draws * law[place]),
            "residual": float(fit.residuals[place]),
        }
        for place in np.argsort(-np.abs(fit.residuals), kind="stable")[:SHOWN].tolist()
    ]
    return result


def _fit(fit: Goodness) -> dict[str, Any]:
    import math

    names = ("draws", "impossible", "freedom", "p_value", "total_variation", "expected_variation", "largest_variation")
    found = {name: getattr(fit, name) for name in names}
    return found | {"chi_square": fit.chi_square if math.isfinite(fit.chi_square) else None, "exact": fit.exact}


def _progress(draws: int) -> Callable[[int, float], None]:
    told = 0.0

    def progress(done: int, seconds: float) -> None:
        nonlocal told
        if seconds - told >= SECONDS_BETWEEN_LINES:
            told = seconds
            left = seconds * (draws - done) / done
            say(f"{done:>8}/{draws} draws  about {left:.0f} s left", file=sys.stderr, flush=True)

    return progress


def _print(result: dict[str, Any]) -> None:
    console = terminal.plain_console()
    console.print(
        f"{result['method']}, alpha {result['alpha']:g}, {result['model']}\n{result['data']}, problem "
        f"{result['problem']}: {result['responses']} responses of at most {result['longest']} tokens, of "
        + " ".join(map(repr, result["tokens"])),
        soft_wrap=True,
    )
    table = terminal.number_table(["measure", "found", "where it is exact"])
    chi_square = "infinite" if result["chi_square"] is None else f"{result['chi_square']:.1f}"
    table.add_row("chi-square", chi_square, f"{result['freedom']} on average")
    table.add_row("p-value", f"{result['p_value']:.2g}", f"at least {result['false_alarm']:g}")
    variation = f"{result['expected_variation']:.4f} on average, below {result['largest_variation']:.4f}"
    table.add_row("total variation", f"{result['total_variation']:.4f}", variation)
    table.add_row("impossible responses", f"{result['impossible']}", "0")
    table.add_row("tokens drawn a response", f"{result['tokens_per_draw']:.1f}", "")
    console.print(table)
    if not result["exact"]:
        worst = terminal.number_table(["most off", "drawn", "expected", "standard deviations"])
        for row in result["most_off"]:
            text = " ".join(map(repr, row["response"]))
            worst.add_row(text, f"{row['drawn']}", f"{row['expected']:.1f}", f"{row['residual']:+.1f}")
        console.print(worst)
    console.print(verdict(result), soft_wrap=True)


def verdict(result: dict[str, Any]) -> str:
    """Return in words what the draws say."""
    alarm = f"an exact sampler is refused once in {1 / result['false_alarm']:,.0f} times"
    if not result["exact"]:
        return f"not exact: {result['draws']:,} draws do not follow p^{result['alpha']:g} ({alarm})"
    found = f"a total variation of {result['tv']:g} is found with probability {result['power']:.3g} or more"
    return f"no deviation in {result['draws']:,} draws; {found} ({alarm})"
