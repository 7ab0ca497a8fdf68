"""What the optimizer adds to the objective's path: tables and a figure of the null control and p^2."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.figures.style import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (6.4, 3.4)  # inches
AFTER = {"embedded": (5, 11), "smollm2": (3, 9)}  # updates
LATER = (5, 10, 20)  # of the first study
STYLES = {1.0: ("#D55E00", "o"), 2.0: ("#0072B2", "s")}
LABELS = {1.0: "null control (α = 1): its optimum is the base", 2.0: "tempered, α = 2"}
Runs = Mapping[str, Mapping[str, Any]]


def grouped(runs: Runs, model: str) -> dict[tuple[float, str], list[Mapping[str, Any]]]:
    """Return a model's runs by alpha and optimizer, over seeds.

    Args:
        runs: As benchmarks/results/stability.json has them, by ``MODEL | alpha A | OPTIMIZER | seed S``.
        model: embedded or smollm2.
    """
    found: dict[tuple[float, str], list[Mapping[str, Any]]] = {}
    for key, run in runs.items():
        of, alpha, optimizer, _ = key.split(" | ")
        if of != model:
            continue
        found.setdefault((float(alpha.removeprefix("alpha ")), optimizer), []).append(run)
    return dict(sorted(found.items()))


def _spread(values: Iterable[float], digits: str = ".2g") -> str:
    """Return the median of seeds with the least and the largest."""
    known = sorted(values)
    return f"{statistics.median(known):{digits}} [{known[0]:{digits}}, {known[-1]:{digits}}]"


def stability_rows(runs: Runs, model: str) -> list[list[str]]:
    """Return a row for each alpha and optimizer of a model: KL to the base, and the step's size."""
    rows = []
    for (alpha, optimizer), seeds in grouped(runs, model).items():
        divergences = [_spread(run["kl_ref"][after] for run in seeds) for after in AFTER[model]]
        ratios = [value for run in seeds for value in run["step_per_advantage"] if value is not None]
        ratio = f"{statistics.median(ratios):.2g}" if ratios else ""
        rows.append([f"{alpha:g}", optimizer, str(len(seeds)), *divergences, ratio])
    return rows


def dial_rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row for each optimizer of the dial's search: the null's largest KL, and that of alpha 2 at the end.

    Args:
        results: Stored results of ``sharpen paper run``.
    """
    found: dict[tuple[float, float], dict[float, list[float]]] = {}
    for each in results:
        config, kl = each["settings"]["config"], each["result"]["training"]["kl_ref"]
        optimizer, alpha = config["optimizer"], config["objective"]["alpha"]
        of = found.setdefault((optimizer["epsilon"], optimizer["learning_rate"]), {})
        of.setdefault(alpha, []).append(max(map(abs, kl)) if alpha == 1 else kl[-1])
    return [
        [f"{epsilon:g}", f"{rate:g}", *(", ".join(f"{kl:.2g}" for kl in of[alpha]) for alpha in (1.0, 2.0))]
        for (epsilon, rate), of in sorted(found.items())
    ]


def real_rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row for each task of the real model: the null's KL to the base, largest and last, over seeds."""
    found: dict[str, list[list[float]]] = {}
    for each in results:
        found.setdefault(each["arm"].removesuffix("-tempered-1-0"), []).append(each["result"]["training"]["kl_ref"])
    return [
        [task, str(len(seeds)), _spread(max(kl) for kl in seeds), _spread(kl[-1] for kl in seeds)]
        for task, seeds in sorted(found.items())
    ]


def embedded_rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row for each length and alpha of the first study: KL to the base along the updates, over seeds."""
    found: dict[tuple[bool, float], list[list[float]]] = {}
    for each in results:
        config = each["settings"]["config"]
        key = config["ignore_eos"], config["objective"]["alpha"]
        found.setdefault(key, []).append(each["result"]["training"]["kl_ref"])
    return [
        ["fixed" if fixed else "free", f"{alpha:g}", str(len(seeds))]
        + [_spread(kl[after] for kl in seeds) for after in (*LATER, -1)]
        for (fixed, alpha), seeds in sorted(found.items())
    ]


def plot_stability(
    results: Sequence[Mapping[str, Any]], path: str | Path | None = None, *, axes: Axes | None = None
) -> None:
    """Draw the KL to the base along the updates at a fixed length: the null control and p^2, each seed a line.

    Args:
        results: Of the first study, as :func:`embedded_rows` takes them.
        path: A .png, .pdf or .svg file; None writes nothing.
        axes: A panel to draw in; None makes a figure.

    Raises:
        InputError: the path's suffix is unknown, or the file cannot be written.
    """
    with drawing(path, axes, SIZE) as (_, panels):
        (panel,) = panels
        seen = set()
        for each in results:
            config, kl = each["settings"]["config"], each["result"]["training"]["kl_ref"]
            if not config["ignore_eos"]:
                continue
            alpha = config["objective"]["alpha"]
            color, marker = STYLES[alpha]
            label = None if alpha in seen else LABELS[alpha]
            seen.add(alpha)
            panel.plot(range(len(kl)), kl, color=color, marker=marker, markevery=5, ms=4, lw=1, label=label)
        panel.set(xlabel="updates", ylabel="KL to the base, nats per response")
        panel.set_title("At a fixed length the null control goes as far as p²", fontsize=10)
        panel.legend(fontsize=8, title="Adam, ε = 1e-8; one line per seed", title_fontsize=8)
