"""``sharpen toy watch``."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpen.cli.shared import options, terminal
from sharpen.cli.shared.terminal import say
from sharpen.cli.toy.settings import names, resolve

if TYPE_CHECKING:
    from rich.console import Console

    from sharpen.toy.simulation.config import SimulateConfig
    from sharpen.toy.simulation.watch import Frame, Series

RUN = "Run"
BARS = "▁▂▃▄▅▆▇█"
LABELS = {
    "entropy": "H",
    "expected_reward": "E[r]",
    "kl_base": "KL",
    "top1": "top-1",
    "effective_alpha": "alpha",
    "gradient_snr": "SNR",
}
PANEL, BARS_SHOWN = 39, 15  # columns of a track, and of its sparklines
LINES = 10  # frames of a run that is not in a terminal


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    app.command("watch")(watch)


@options.flat
def watch(
    chosen: options.ObjectiveFlags,
    outcomes: options.ProblemFlags,
    learner: Annotated[
        list[str] | None,
        typer.Option(help="natural, softmax, rloo, grpo, …; repeat or separate by commas. Default: rloo."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML or JSON file of settings; flags change it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates (3000).", rich_help_panel=RUN)] = None,
    step_size: Annotated[
        float | None, typer.Option(help="Step size eta of every learner chosen.", rich_help_panel=RUN)
    ] = None,
    group_size: Annotated[int | None, typer.Option(help="Samples of an update.", rich_help_panel=RUN)] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Independent runs of a sampled learner.", rich_help_panel=RUN)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers.", rich_help_panel=RUN)] = None,
    every: Annotated[int | None, typer.Option(help="Updates between two frames. Default: a hundredth.")] = None,
    delay: Annotated[float, typer.Option(help="Seconds that a frame stays at least.", min=0.0, max=3600.0)] = 0.05,
) -> None:
    """Watch a simulation in the terminal: sparklines of its measures while it runs. Writes nothing.

    Takes the settings of `sharpen toy simulate`. Without a terminal it prints a line for every track, ten times.
    """
    flags = {"steps": steps, "group_size": group_size, "seeds": seeds, "seed": seed, "learners": names(learner)}
    if config is None and learner is None:
        flags["learners"] = ["rloo"]
    settings = resolve({**asdict(outcomes), **flags}, step_size, chosen, config)

    console = terminal.plain_console()
    if console.is_terminal and not console.is_dumb_terminal:
        _live(settings, max(1, settings.steps // 100) if every is None else every, delay, console)
    else:
        _lines(settings, max(1, settings.steps // LINES) if every is None else every)


def _live(settings: SimulateConfig, every: int, delay: float, console: Console) -> None:
    from rich.live import Live

    from sharpen.toy.simulation.watch import watch as frames

    ranges = _ranges(settings)
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as screen:
        for frame in frames(settings, every):
            screen.update(_picture(frame, ranges, console.width), refresh=True)
            time.sleep(delay)
    console.print("mean over runs ± half its 95% interval; bars: H, E[r], top-1 over their range,")
    console.print("KL, alpha and SNR (signal-to-noise of a gradient) from 0 to the largest so far")


def _picture(frame: Frame, ranges: dict[str, tuple[float, float]], width: int) -> Any:
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    across = max(1, min(width // PANEL, len(frame.series)))
    panels = [
        Panel(_sparklines(series, ranges), title=key, title_align="left", width=PANEL)
        for key, series in frame.series.items()
    ]
    board = Table.grid(padding=(0, 0))
    for row in range(0, len(panels), across):
        board.add_row(*panels[row : row + across])
    head = Table.grid(padding=(0, 1))
    head.add_row(f"update {frame.updates} of {frame.of}", ProgressBar(frame.of, frame.updates, width=30))
    whole = Table.grid()
    whole.add_row(head)
    whole.add_row(board)
    return whole


def _sparklines(series: dict[str, Series], ranges: dict[str, tuple[float, float]]) -> Any:
    from rich.table import Table

    lines = Table.grid(padding=(0, 1))
    for right in (False, False, True, False):
        lines.add_column(no_wrap=True, justify="right" if right else "left")
    for name, label in LABELS.items():
        means = series[name].mean.tolist()
        if not any(map(math.isfinite, means)):
            continue  # an exact learner's gradient has no noise
        low, high = ranges.get(name, (0.0, max((x for x in means if math.isfinite(x)), default=0.0)))
        half = series[name].half
        spread = "" if half is None or not math.isfinite(half) else f"±{half:.3f}".replace("±0.", "±.")
        lines.add_row(label, sparkline(means, BARS_SHOWN, low, high), _number(means[-1]), spread)
    return lines


def sparkline(numbers: Sequence[float], width: int, low: float, high: float) -> str:
    """Return at most ``width`` of the numbers, evenly chosen, as bars; a space for one that is missing.

    Example:
        >>> sparkline([0.0, 0.5, 1.0], 5, 0.0, 1.0)
        '▁▅█'
        >>> sparkline([0.0, float("nan"), 1.0], 5, 0.0, 1.0)
        '▁ █'
    """
    count = min(width, len(numbers))
    chosen = [numbers[round(i * (len(numbers) - 1) / max(count - 1, 1))] for i in range(count)]
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    places = [round((x - low) * scale) if math.isfinite(x) else None for x in chosen]
    return "".join(" " if place is None else BARS[min(max(place, 0), len(BARS) - 1)] for place in places)


def _ranges(settings: SimulateConfig) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest that those measures can be that have both."""
    problem = settings.problem()
    rewards = problem.reward[problem.support]
    return {
        "entropy": (0.0, math.log(max(int(problem.support.sum()), 2))),
        "expected_reward": (float(rewards.min()), float(rewards.max())),
        "top1": (0.0, 1.0),
    }


def _number(x: float) -> str:
    if not math.isfinite(x):
        return "-"
    return f"{round(x, 3) + 0.0:.3f}" if abs(x) < 1e3 else f"{x:.0e}"  # + 0.0: no -0.000


def _lines(settings: SimulateConfig, every: int) -> None:
    from sharpen.toy.simulation.watch import watch as frames

    for frame in frames(settings, every):
        if frame.updates == 0:
            say(f"{'update':>8} {'objective/learner':23}" + "".join(f"{label:>8}" for label in LABELS.values()))
        for key, series in frame.series.items():
            numbers = "".join(f"{_number(series[name].mean[-1]):>8}" for name in LABELS)
            say(f"{frame.updates:8} {key:23}{numbers}", flush=True)
