"""The tables of docs/cost.md, theory-optimum.md, scale.md and speed.md that come from committed results of benchmarks.

    python benchmarks/theory.py && python benchmarks/toy.py && python benchmarks/llm/overlap.py
    python benchmarks/speed/first.py && python benchmarks/speed/step_profile.py && python benchmarks/real.py
    python docs/site/cost.py

A test compares the pages with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pages import table, write

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = tuple(ROOT / "docs" / f"{name}.md" for name in ("cost", "theory-optimum", "scale", "speed"))
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (0.0, "ns"))
GOALS = {  # of the ratio to the fastest opponent, or to the floor
    "optimum with J, E[r], H, KL": ("scipy.special.softmax(alpha * log_p), no numbers", 1.5),
    "policy at a KL": ("scipy.optimize.brentq(kl_of_t) with numpy.exp", 3.0),
    "frontier, one of 5 points": ("scipy.optimize.brentq(kl_of_t) with numpy.exp", 3.0),
    "50 softmax gradients": ("the C floor", 1.5),
    "1000 softmax gradients": ("the C floor", 1.5),
}


def works(*files: str) -> dict[str, dict[str, Any]]:
    """Return the works of some results by name."""
    return {
        name: work
        for file in files
        for name, work in json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))["works"].items()
    }


def time(seconds: float) -> str:
    """Return a time in the largest unit of which it holds one.

    Example:
        >>> time(0.0123), time(2e-9)
        ('12 ms', '2.0 ns')
    """
    size, unit = next((size, unit) for size, unit in UNITS if seconds >= size)
    number = seconds / (size or 1e-9)
    return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"


def cost(file: str) -> Callable[[], str]:
    """Return the writer of the times of one benchmark's works, with how they grow."""

    def written() -> str:
        body = []
        for name, work in works(file).items():
            times = ", ".join(f"{row['size']:,}: {time(row['seconds'])}" for row in work["rows"])
            last = work["rows"][-1]
            memory = ""
            if "peak_bytes" in last:
                memory = f"{last['peak_bytes'] / last['size']:.0f}, power {work['memory_exponent']:.2f}"
            body.append([name, work["unit"], times, f"{work['time_exponent']:.2f}", memory])
        return table(["work", "size in", "time at five sizes", "power", "bytes per unit, and its power"], body)

    return written


def beside(file: str) -> Callable[[], str]:
    """Return the writer of the ratios of one benchmark's works to every known opponent, at each size."""

    def written() -> str:
        body = []
        for name, work in works(file).items():
            opponents = {each: [row["opponents"][each] for row in work["rows"]] for each in last(work)["opponents"]}
            if "floor" in last(work):
                opponents["the C floor"] = [row["floor"] for row in work["rows"]]
            for opponent, theirs in opponents.items():
                ratios = [
                    f"{row['size']:,}: {row['seconds'] / other:.2f}"
                    for row, other in zip(work["rows"], theirs, strict=True)
                ]
                fastest = "yes" if opponent == last(work).get("opponent") else ""
                body.append([name, f"`{opponent}`", ", ".join(ratios), fastest])
        return table(["work", "beside", "our time over its, by size", "fastest at the largest size"], body)

    return written


def last(work: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of the largest size."""
    return work["rows"][-1]


def goals() -> str:
    """Return each goal with what was measured, at the size of the goal."""
    body = []
    for name, (opponent, goal) in GOALS.items():
        work = works("theory", "toy")[name]
        rows = {row["size"]: row for row in work["rows"]}
        row = rows.get(10**5, last(work)) if name not in ("optimum with J, E[r], H, KL",) else last(work)
        theirs = row["floor"] if opponent == "the C floor" else row["opponents"][opponent]
        found = row["seconds"] / theirs
        verdict = "reached" if found <= goal else "missed"
        body.append([name, f"{row['size']:,}", f"`{opponent}`", f"{goal:g}", f"{found:.2f}", verdict])
    return table(["work", "size", "beside", "at most", "measured", ""], body)


def ahead() -> str:
    """Return a step that samples ahead over one that does not: predicted and measured, median [least, most]."""
    body = []
    for model, own in json.loads((RESULTS / "overlap.json").read_text(encoding="utf-8"))["models"].items():
        ratios = own["step_over_step_apart"]
        spread = [
            f"{r['median']:.2f} [{r['least']:.2f}, {r['most']:.2f}]" for r in map(ratios.get, ("predicted", "measured"))
        ]
        seconds = sum(pair["apart"]["total"] for pair in own["pairs"]) / len(own["pairs"])
        body.append(
            [model, f"{own['rows']} of {own['length']} tokens", str(len(own["pairs"])), f"{seconds:.2g} s", *spread]
        )
    return table(["model", "rows", "pairs", "step without", "predicted ratio", "measured ratio"], body)


KINDS = {  # of operations, as a step's profile calls them: heads of columns
    "matrix products": "matrix products",
    "attention": "attention",
    "softmax": "softmax, exp",
    "copies": "copies",
    "element by element, and the rest": "element by element, rest",
    "optimizer": "optimizer",
    "Python and dispatch": "Python",
}
SHOWN = 0.01  # share of a step from which a phase has a row


def profiled() -> dict[str, Any]:
    """Return the profiles by step."""
    return json.loads((RESULTS / "step_profile.json").read_text(encoding="utf-8"))["steps"]


def phases() -> str:
    """Return where the time of a step goes: each phase, and what share of it each kind of operation takes."""
    body = []
    for step, own in profiled().items():
        for phase, seconds in own["phases"].items():
            if seconds < SHOWN * own["cpu_seconds"]:
                continue
            shares = [f"{100 * own['shares'][phase].get(kind, 0.0):.0f} %" for kind in KINDS]
            body.append([step, phase, f"{seconds:.2f}", *shares])
    return table(["step", "phase", "CPU-seconds", *KINDS.values()], body)


def products() -> str:
    """Return how fast the matrix products of a step were, beside a large one on the same core."""
    body = []
    for step, own in profiled().items():
        rates = own["products"]
        body.append(
            [
                *(step, own["dtype"], f"{own['cpu_seconds']:.2f}", f"{rates['cpu_seconds']:.2f}"),
                *(f"{rates['flop_per_second'] / 1e9:.0f}", f"{rates['best'] / 1e9:.0f}"),
                f"{own['flop_of_products'] / rates['best']:.2f}",
            ]
        )
    head = [
        "step",
        "dtype",
        "CPU-seconds",
        "of them products",
        "their GFLOP/s",
        "a large product's",
        "seconds at that rate",
    ]
    return table(head, body)


def first() -> str:
    """Return the seconds until each command's first result."""
    found = json.loads((RESULTS / "first.json").read_text(encoding="utf-8"))["commands"]
    body = [
        [f"`sharpen {shown(name)}`", f"{row['cpu_seconds']:.1f}", f"{row['seconds']:.1f}"]
        for name, row in found.items()
    ]
    return table(["command", "CPU-seconds", "seconds"], body)


def removed() -> str:
    """Return what was removed from a step: each part before and now."""
    found = json.loads((RESULTS / "removed.json").read_text(encoding="utf-8"))["parts"]
    body = [
        [name, time(own["before"]), time(own["now"]), f"{own['now_over_before']:.2f}"] for name, own in found.items()
    ]
    return table(["part", "before", "now", "now over before"], body)


def shown(command: str) -> str:
    """Return a command as it is shown, with names for its folders.

    Example:
        >>> shown("llm audit --policy {run}"), shown("explore --out {out}.html")
        ('llm audit --policy runs/task', 'explore --out out.html')
    """
    return command.format(run="runs/task", out="out")


def groups() -> str:
    """Return steps of this commit beside TRL's with 16 and 64 samples a prompt."""
    real = json.loads((RESULTS / "real.json").read_text(encoding="utf-8"))
    body = []
    for model in ("embedded", "smollm2"):
        for own in real.get(f"samples a prompt, {model}", {}).values():
            if "arms" not in own:
                continue
            ours, theirs = own["arms"]["this commit"], own["arms"]["TRL"]
            size = f"{own['prompts']} x {own['samples']} x {own['length']}"
            ratio = own["cpu_time_ratios"]["TRL over this commit"]
            cost = (f"{arm['cpu_seconds']:.2f}" for arm in (ours, theirs))
            body.append([model, size, ours["dtype"], *cost, f"{ratio:.2f}"])
    return table(
        ["model", "prompts x samples x tokens", "dtype", "this commit, CPU-s", "TRL, CPU-s", "TRL over this"], body
    )


def cores() -> str:
    """Return the seconds of a sweep by the threads and cores that it has."""
    found = json.loads((RESULTS / "toy.json").read_text(encoding="utf-8"))["cores"]
    one = found["seconds"]["one thread"]
    body = [[arm, f"{seconds:.2f} s", f"{one / seconds:.2f}"] for arm, seconds in found["seconds"].items()]
    return table([f"{found['batches']} batches, {found['cores']} cores", "time", "times as fast as one thread"], body)


TABLES: Mapping[str, Callable[[], str]] = {
    "ahead": ahead,
    "cores": cores,
    "cost-of-the-theory": cost("theory"),
    "cost-of-the-toy": cost("toy"),
    "theory-beside-others": beside("theory"),
    "toy-beside-others": beside("toy"),
    "goals-of-speed": goals,
    "where-a-step-goes": phases,
    "rate-of-products": products,
    "first-result": first,
    "samples-a-prompt": groups,
    "removed": removed,
}


if __name__ == "__main__":
    write(PAGES, TABLES)
