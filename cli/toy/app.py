"""``sharpen toy``: the objective on tabular policies."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import plain_console, say
from sharpen.cli.toy import findings as toy_findings
from sharpen.cli.toy import learners as toy_learners
from sharpen.cli.toy import phase as toy_phase
from sharpen.cli.toy import sweep as toy_sweep
from sharpen.cli.toy import target as toy_target
from sharpen.cli.toy import watch as toy_watch
from sharpen.cli.toy.settings import names, resolve

if TYPE_CHECKING:
    from sharpen.toy.simulation.config import SimulateConfig

app = typer.Typer(
    no_args_is_help=True,
    help="Simulate learners on problems of a few outcomes, beside the theory.",
)
RUN, AUDIT = "Run", "audit.json"
LEAST_KL = 1e-6  # nats: of less there are no shares


@app.callback()
def group() -> None:
    """Simulate learners on problems of a few outcomes, beside the theory."""


toy_sweep.register(app)
toy_findings.register(app)
toy_learners.register(app)
toy_phase.register(app)
toy_target.register(app)
toy_watch.register(app)


@app.command()
@options.flat
def simulate(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    out: Annotated[Path, typer.Option(help="Run folder; the same command continues it.")] = Path("runs/toy"),
    learner: Annotated[
        list[str] | None,
        typer.Option(help="natural, softmax, rloo, grpo, …; repeat or separate by commas. Default: these three."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML or JSON file of settings; flags change it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates (3000).", rich_help_panel=RUN)] = None,
    step_size: Annotated[
        float | None, typer.Option(help="Step size eta of every learner chosen.", rich_help_panel=RUN)
    ] = None,
    group_size: Annotated[int | None, typer.Option(help="Samples of an update.", rich_help_panel=RUN)] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, momentum, adam.", rich_help_panel=RUN)] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Adam's: added to the root of its averaged square.", rich_help_panel=RUN)
    ] = None,
    kl: Annotated[
        str | None, typer.Option(help="k1-reward, k2-loss, …: estimator of the KL and its place.", rich_help_panel=RUN)
    ] = None,
    reward_noise: Annotated[
        float | None, typer.Option(help="Standard deviation of noise on sampled rewards.", rich_help_panel=RUN)
    ] = None,
    base_noise: Annotated[
        float | None, typer.Option(help="Standard deviation of a fixed error of log p.", rich_help_panel=RUN)
    ] = None,
    true_positive: Annotated[
        float | None, typer.Option(help="Share of right samples that the verifier calls right.", rich_help_panel=RUN)
    ] = None,
    false_positive: Annotated[
        float | None, typer.Option(help="Share of wrong samples that it calls right.", rich_help_panel=RUN)
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Independent runs.", rich_help_panel=RUN)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers.", rich_help_panel=RUN)] = None,
    record_every: Annotated[int | None, typer.Option(help="Updates between records.", rich_help_panel=RUN)] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Also split what each run changed: sharpening, reward, length, rest.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Delete an earlier run in --out first.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print summary.json on stdout.")] = False,
) -> None:
    """Simulate natural-gradient, softmax-gradient and RLOO dynamics, and compare their ends with the theory.

    Without an objective's flags: the four regimes (task-reward, sharpening, tempered, tilted).
    """
    flags = {
        **asdict(outcomes),
        "steps": steps,
        "group_size": group_size,
        "optimizer": optimizer,
        "epsilon": epsilon,
        "kl": kl,
        "reward_noise": reward_noise,
        "base_noise": base_noise,
        "true_positive": true_positive,
        "false_positive": false_positive,
        "seeds": seeds,
        "seed": seed,
        "record_every": record_every,
        "learners": names(learner),
    }
    _run(resolve(flags, step_size, chosen, config), out, force, audit, json_output)


def _run(settings: SimulateConfig, out: Path, force: bool, audit: bool, as_json: bool) -> None:
    from rich.progress import Progress

    from sharpen.toy.dynamics.cores import use_one_thread
    from sharpen.toy.simulation.simulate import SUMMARY
    from sharpen.toy.simulation.simulate import simulate as run_simulation

    use_one_thread(settings.problem().n)
    finished = (out / SUMMARY).is_file() and not force
    with Progress(console=plain_console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        summary = run_simulation(settings, out, force=force, progress=_reporter(bars))
    if finished:
        say(f"{out} holds this run, finished; nothing to do (--force starts it again)", file=sys.stderr)

    from sharpen.figures.toy.dynamics import plot_simulation

    figure = out / "figure.png"
    plot_simulation(out, figure)
    if force:
        (out / AUDIT).unlink(missing_ok=True)  # of the run that is gone
    rows = _audit(out) if audit else []
    if as_json:
        import json

        say(json.dumps(summary | ({"audit": rows} if audit else {})))
    else:
        _print_table(summary)
        if audit:
            _print_audit(rows)
        say(f"figure: {figure}")


def _audit(out: Path) -> list[dict[str, Any]]:
    """Split what the runs of a finished folder changed, and keep it beside them."""
    import json

    from sharpen.objective.storage import files
    from sharpen.toy.simulation.audit import audit_run

    rows = audit_run(out)
    files.write(out / AUDIT, json.dumps(rows, indent=2, allow_nan=False) + "\n")
    return rows


def _print_audit(rows: list[dict[str, Any]]) -> None:
    """Print the last record of each track; the file has those along the run."""
    last = {(row["objective"], row["learner"]): row for row in rows}
    table = terminal.plain_table()
    for heading in ("objective", "learner", "KL, nats", "sharpening", "reward", "length", "all", "rest", "alpha"):
        table.add_column(heading, justify="left" if heading in ("objective", "learner") else "right", no_wrap=True)
    for (objective, learner), row in last.items():
        names = ("sharpening", "reward", "length", "all")
        parts = [*(row["explained"][name] for name in names), row["rest"]]
        shares = ["" if row["kl"] < LEAST_KL else f"{round(100 * part / row['kl'])} %" for part in parts]
        alpha = "" if row["alpha"] is None or row["kl"] < LEAST_KL else f"{row['alpha']:.2f}"
        table.add_row(objective, learner, f"{row['kl']:.3f}", *shares, alpha)
    console = plain_console()
    console.print(table)
    console.print("shares of KL(π‖p) at the end that each family alone, and all of them, explain; alpha: p^alpha's")


def _reporter(bars: Any) -> Callable[[str, int, int], None]:
    tasks: dict[str, Any] = {}

    def report(key: str, done: int, steps: int) -> None:
        if key not in tasks:
            tasks[key] = bars.add_task(f"{key:24}", total=steps)
        bars.update(tasks[key], completed=done)

    return report


def _print_alarms(console: Any, rows: list[dict[str, Any]]) -> None:
    """Say whose entropy collapsed: first where the limit's does not."""
    alarms = [(row, alarm) for row in rows if (alarm := row.get("entropy_alarm")) is not None]
    for asked, words in ((False, "ALARM: entropy"), (True, "as the limit, entropy")):
        chosen = [
            f"{row['objective']}/{row['learner']} from update {alarm['update']:g} ({alarm['share']:.0%} of runs)"
            for row, alarm in alarms
            if (alarm["limit_entropy"] < alarm["below"]) == asked
        ]
        if chosen:
            console.print(f"{words} below a tenth of the base's: {', '.join(chosen)}")


def _print_table(summary: dict[str, Any]) -> None:

    table = terminal.plain_table()
    for heading in ("objective", "learner", "E[r] at the end", "theory", "gap", ""):
        table.add_column(heading, justify="left" if heading in ("objective", "learner", "") else "right", no_wrap=True)
    for row in summary["tracks"]:
        interval = row["expected_reward_interval"]
        spread = "" if interval is None else f" ±{(interval[1] - interval[0]) / 2:.4f}"
        table.add_row(
            row["objective"],
            row["learner"],
            f"{row['expected_reward']:.4f}{spread}",
            f"{row['limit_expected_reward']:.4f}",
            f"{row['gap']:.1e}",
            row.get("verdict", "-").replace("differs", "DIFFERS"),  # "-": a run of an earlier version
        )
    console = plain_console()
    terminal.introduce(
        "Where simulated training ended, and where the theory says that it ends. E[r]: expected reward of the policy."
    )
    console.print(table)
    console.print("gap: largest difference of a probability from the flow's limit, or the mass off the optimal face")
    console.print("±: half the 95% interval over seeds")
    console.print("agrees: the theory is in every outcome's interval (95% for all), or 1e-6 away")
    console.print("approaches: it is not, but a quarter nearer than at half the run; else it differs")
    _print_alarms(console, summary["tracks"])
