"""``sharpen toy sweep``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import plain_console, say

if TYPE_CHECKING:
    from sharpen.toy.sweeps.config import SweepConfig

GRID, RUN, SEQUENCES, PROMPTS = "Grid (comma lists)", "Run", "Sequences", "Prompts"

SHOWN = {"expected_reward": "E[r]", "length": "length", "entropy": "entropy", "effective_alpha": "alpha_eff"}


def _values(text: str) -> Any:
    return Annotated[str | None, typer.Option(help=text, rich_help_panel=GRID)]


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("sweep")(options.flat(sweep))


def sweep(
    outcomes: options.ProblemFlags,
    out: Annotated[Path, typer.Option(help="Run folder; the same command continues it.")] = Path("runs/sweep"),
    config: Annotated[Path | None, typer.Option(help="YAML or JSON file of settings; flags change it.")] = None,
    alpha: _values("Exponents of the reference likelihood.") = None,  # type: ignore[valid-type]
    beta_inv: _values("Weights of the task reward against the KL.") = None,  # type: ignore[valid-type]
    mode: _values("sampling, optimization.") = None,  # type: ignore[valid-type]
    normalization: _values("none, sum, mean, weighted_mean.") = None,  # type: ignore[valid-type]
    weight: _values("Length exponents of weighted_mean.") = None,  # type: ignore[valid-type]
    reference: _values("frozen, policy, refresh:K.") = None,  # type: ignore[valid-type]
    utility: _values("Of the success rate: identity, log, pass@K, arcsin.") = None,  # type: ignore[valid-type]
    learner: _values("natural, softmax, rloo, grpo, ppo, …: docs/toy.md.") = None,  # type: ignore[valid-type]
    group_size: _values("Samples of an update.") = None,  # type: ignore[valid-type]
    optimizer: _values("sgd, momentum, adam.") = None,  # type: ignore[valid-type]
    epsilon: _values("Adam's: added to the root of its averaged square.") = None,  # type: ignore[valid-type]
    kl: _values("k1-reward, k2-loss, …: estimator of the KL and its place.") = None,  # type: ignore[valid-type]
    step_size: _values("Step sizes eta.") = None,  # type: ignore[valid-type]
    reward_noise: _values("Standard deviation of noise on sampled rewards.") = None,  # type: ignore[valid-type]
    base_noise: _values("Standard deviation of a fixed error of log p.") = None,  # type: ignore[valid-type]
    true_positive: _values("Shares of right samples that the verifier calls right.") = None,  # type: ignore[valid-type]
    false_positive: _values("Shares of wrong samples that it calls right.") = None,  # type: ignore[valid-type]
    prompts: Annotated[
        int | None,
        typer.Option(help="Prompts made of one --base; forms with a SEED are drawn for each.", rich_help_panel=PROMPTS),
    ] = None,
    prompt_weights: Annotated[
        str | None, typer.Option(help="Their weights, w1,w2,...", rich_help_panel=PROMPTS)
    ] = None,
    parameters: Annotated[
        str | None, typer.Option(help="separate logits for each prompt, or shared.", rich_help_panel=PROMPTS)
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="table, or for token sequences: tree, machine.", rich_help_panel=SEQUENCES)
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Token probabilities.", rich_help_panel=SEQUENCES)] = None,
    hazard: Annotated[
        float | None, typer.Option(help="Probability of stopping at each token.", rich_help_panel=SEQUENCES)
    ] = None,
    longest: Annotated[
        int | None, typer.Option(help="Tokens of the longest sequence.", rich_help_panel=SEQUENCES)
    ] = None,
    transition: Annotated[
        str | None,
        typer.Option(help="File with a Markov chain's matrix: the machine's states.", rich_help_panel=SEQUENCES),
    ] = None,
    stop: Annotated[str | None, typer.Option(help="File with its stop vector.", rich_help_panel=SEQUENCES)] = None,
    start: Annotated[
        str | None, typer.Option(help="Start states, one for each prompt: 0,1,...", rich_help_panel=SEQUENCES)
    ] = None,
    correct: Annotated[
        int | None, typer.Option(help="Reward 1 for sequences that end in this token.", rich_help_panel=SEQUENCES)
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of each setting.", rich_help_panel=RUN)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers.", rich_help_panel=RUN)] = None,
    steps: Annotated[int | None, typer.Option(help="Updates (2000).", rich_help_panel=RUN)] = None,
    record_every: Annotated[int | None, typer.Option(help="Updates between records.", rich_help_panel=RUN)] = None,
    record_at: Annotated[
        str | None, typer.Option(help="Updates after which to record, k1,k2,...", rich_help_panel=RUN)
    ] = None,
    k: Annotated[str | None, typer.Option(help="Of pass@k, k1,k2,...", rich_help_panel=RUN)] = None,
    batch: Annotated[
        int | None, typer.Option(help="Most runs computed, and saved, together.", rich_help_panel=RUN)
    ] = None,
    memory: Annotated[int | None, typer.Option(help="MiB that the process may take.", rich_help_panel=RUN)] = None,
    ray: Annotated[
        str | None, typer.Option(help="Compute on the Ray cluster at this address, or: local.", rich_help_panel=RUN)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete an earlier run in --out first.")] = False,
    json_output: options.JsonOutput = False,
) -> None:
    """Run every combination of the listed values with many seeds, into one table (sweep.parquet).

    Without flags: the tempered null control (alpha 1) with RLOO. The same command continues a killed sweep and
    recomputes nothing that was saved.
    """
    lists = {
        "alpha": alpha,
        "beta_inv": beta_inv,
        "mode": mode,
        "normalization": normalization,
        "weight": weight,
        "reference": reference,
        "utility": utility,
        "learner": learner,
        "group_size": group_size,
        "optimizer": optimizer,
        "epsilon": epsilon,
        "kl": kl,
        "step_size": step_size,
        "reward_noise": reward_noise,
        "base_noise": base_noise,
        "true_positive": true_positive,
        "false_positive": false_positive,
        "tokens": tokens,
        "prompt_weights": prompt_weights,
        "start": start,
        "record_at": record_at,
        "k": k,
    }
    single = {"policy": policy, "hazard": hazard, "longest": longest, "correct": correct, "seeds": seeds, "seed": seed}
    single |= {"steps": steps, "record_every": record_every, "batch": batch, "memory": memory, "prompts": prompts}
    single |= {"parameters": parameters, "transition": transition, "stop": stop}
    changes = {
        name: tuple(part.strip() for part in text.split(",")) for name, text in lists.items() if text is not None
    }
    changes |= {name: flag for name, flag in {**single, **asdict(outcomes)}.items() if flag is not None}

    from sharpen.toy.simulation.config import load_settings
    from sharpen.toy.sweeps.config import SweepConfig

    settings = SweepConfig.model_validate((load_settings(config) if config is not None else {}) | changes)
    _refuse_unread(settings, lists | single)
    _run(settings, out, force, ray, json_output)


def _refuse_unread(settings: SweepConfig, flags: dict[str, Any]) -> None:
    """Refuse flags that nothing of these settings reads."""
    from sharpen.toy.learners.registry import LEARNERS

    def given(*wanted: str) -> dict[str, Any]:
        return {name: flags.get(name) for name in wanted}

    sequences = given("tokens", "hazard", "longest", "transition", "stop", "start", "correct")
    options.only_where(settings.policy != "table", "--policy tree or machine", **sequences)
    options.only_where(settings.transition is None, "a machine without --transition", **given("tokens", "hazard"))
    sampled = any(not LEARNERS.get(kind).exact for kind in settings.learner)
    options.only_where(sampled, "a sampled learner", **given("group_size", "kl", "reward_noise"))
    rewarded = max(settings.beta_inv) > 0
    options.only_where(rewarded, "--beta-inv above 0, a task reward", **given("true_positive", "false_positive"))
    optimized = any(not LEARNERS.get(kind).flow for kind in settings.learner)
    options.only_where(optimized, "a learner that takes steps, not a flow", **given("optimizer"))
    options.only_where("adam" in settings.optimizer, "--optimizer adam", **given("epsilon"))
    options.only_where(set(settings.normalization) != {"none"}, "a normalization other than none", **given("alpha"))


def _run(settings: SweepConfig, out: Path, force: bool, ray: str | None, as_json: bool) -> None:
    from rich.progress import Progress

    from sharpen.toy.dynamics.cores import use_every_core, use_one_thread
    from sharpen.toy.sweeps.batches import batches
    from sharpen.toy.sweeps.summary import summarise_table
    from sharpen.toy.sweeps.sweep import sweep as run_sweep

    if len(batches(settings)) > 1:
        use_every_core()
    else:
        use_one_thread(sum(prompt.log_base.size for prompt in settings.task().prompts))
    with Progress(console=plain_console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        bar = bars.add_task("runs x updates", total=None)
        table = run_sweep(
            settings,
            out,
            force=force,
            ray_address=ray,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    rows = summarise_table(table)
    if as_json:
        import json

        say(json.dumps({"table": str(table), "settings": rows}, allow_nan=False))
    else:
        _print_rows(rows, table)


def _print_rows(rows: list[dict[str, Any]], table: Path) -> None:
    """Print one line per setting: the axes that vary, then the measures."""
    from sharpen.toy.sweeps.config import AXES

    varying = [axis for axis in AXES if len({row[axis] for row in rows}) > 1]
    # Lengths matter where they can change, and would only take room elsewhere.
    shown = {name: text for name, text in SHOWN.items() if name != "length" or len({r["length"] for r in rows}) > 1}
    lines = terminal.plain_table()
    for heading in [*(axis.replace("_", " ") for axis in varying), *shown.values(), "collapsed"]:
        lines.add_column(heading, justify="right")
    for row in rows:
        low, high = row["collapsed_interval"]
        numbers = [_with_interval(row, name) for name in shown]
        lines.add_row(*(str(row[axis]) for axis in varying), *numbers, f"{low:.2f}-{high:.2f}")
    console = terminal.plain_console()
    terminal.introduce("What training led to at each combination of the settings, means over the seeds.")
    console.print(lines)
    console.print(
        f"{rows[0]['seeds']} seeds; ± half the 95% interval over seeds; collapsed: top-1 mass of 0.99 or more"
    )
    console.print(f"table: {table}", soft_wrap=True)


def _with_interval(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return "-"
    interval = row[f"{name}_interval"]
    half = "" if interval is None else f" ±{(interval[1] - interval[0]) / 2:.3f}".replace("±0.", "±.")
    return f"{row[name]:.3f}{half}"
