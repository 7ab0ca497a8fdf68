"""The tables and figures of docs/dial-study.md, from the reports of both stages on the dial and of the real model's.

    sharpen paper report --scale dial
    sharpen paper report --scale delta
    python docs/site/dial_study.py

A test compares the page with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from pages import table, write
from reports import RESULTS, claims, rows

from sharpen.figures.paper.foretold import Foretold, plot_along_delta, plot_foretold
from sharpen.paper_repro.grids.grid import load_grid

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "docs" / "dial-study.md",)
IMAGES = ROOT / "docs" / "images"
ARMS = {
    "tempered-1-0": "null control",
    "tempered-2-0": "tempered, alpha 2",
    "sharpening-1-0": "sharpening",
    "task-reward-0-1": "task reward",
}
MEASURES = {
    "pass@1": ("pass@1", 2),
    "pass@16": ("pass@16", 2),
    "pass@64": ("pass@64", 2),
    "pass^4": ("pass^4", 2),
    "maj@16": ("maj@16", 2),
    "answer_entropy": ("answer entropy, nats", 2),
    "response_length": ("tokens", 1),
    "kl_base": ("KL to base, nats", 2),
    "alpha_base": ("slope on base's samples", 2),
    "alpha_own": ("slope on own samples", 2),
}
Row = dict[str, str]


def number(row: Row, name: str, digits: int = 2, sign: str = "") -> str:
    """Return one number of a row, empty where it was not measured."""
    return f"{float(row[name]):{sign}.{digits}f}" if row.get(name) else ""


def interval(row: Row, name: str, low: str, high: str, digits: int = 2, sign: str = "") -> str:
    """Return a mean with its ends."""
    mean = number(row, name, digits, sign)
    return mean and f"{mean} [{number(row, low, digits, sign)}, {number(row, high, digits, sign)}]"


def gains(stage: str) -> Callable[[], str]:
    """Return the writer of pass@1: the null control's, and what each other arm adds to it."""

    def written() -> str:
        body: dict[str, list[str]] = {}
        for row in rows(stage, "contrasts"):
            if row["measure"] == "pass@1" and row["arm"] in ARMS:
                less = ("less control", "less control low", "less control high")
                own = less[0] not in row or not row[less[0]]
                cell = interval(row, "value", "low", "high") if own else interval(row, *less, sign="+")
                body.setdefault(f"`{row['member']}`", []).append(cell)
        kept = [one for name, one in ARMS.items() if any(name == row["arm"] for row in rows(stage, "contrasts"))]
        return table(
            ["model", "null control", *(f"{one} adds" for one in kept[1:])], [[k, *v] for k, v in body.items()]
        )

    return written


def measures(stage: str) -> Callable[[], str]:
    """Return the writer of the other measures, means over seeds and problems."""

    def written() -> str:
        found: dict[tuple[str, str], Row] = {}
        for row in rows(stage, "contrasts"):
            if row["arm"] in ARMS:
                found.setdefault((row["member"], row["arm"]), {})[row["measure"]] = row["value"]
        body = [
            [f"`{member}`", ARMS[arm], *(number(own, name, digits) for name, (_, digits) in MEASURES.items())]
            for (member, arm), own in found.items()
        ]
        return table(["model", "arm", *(title for title, _ in MEASURES.values())], body)

    return written


def splits(stage: str) -> Callable[[], str]:
    """Return the writer of what sharpening and reward explain of each arm's KL to the base."""

    def written() -> str:
        names = ("KL", "sharpening alone", "reward alone", "rest")
        body = []
        for row in rows(stage, "splits"):
            if row["arm"] in ARMS:
                cells = [interval(row, name, f"{name} low", f"{name} high") for name in names]
                body.append([f"`{row['member']}`", ARMS[row["arm"]], *cells])
        return table(["model", "arm", "KL, nats", "sharpening alone", "reward alone", "neither, nor length"], body)

    return written


def ends(stage: str) -> Callable[[], str]:
    """Return the writer of how runs end, what they solve, and accuracy at equal KL."""

    def written() -> str:
        counts = {(row["member"], row["arm"]): row for row in rows(stage, "counts")}
        body = []
        for row in rows(stage, "endings"):
            if row["arm"] not in ARMS or not row["pass@1 at KL 0.1"]:
                continue  # the null control, which goes nowhere
            count = counts.get((row["member"], row["arm"]), {})
            across = f"{count['crossover k']} ({count['seeds with one']} of {count['seeds']} seeds)"
            body.append(
                [
                    f"`{row['member']}`",
                    ARMS[row["arm"]],
                    *("yes" if row[name] == "True" else "no" for name in ("collapses", "falls back")),
                    interval(row, "pass@1 at KL 0.1", "pass@1 at KL 0.1 low", "pass@1 at KL 0.1 high"),
                    interval(row, "pass@1 at KL 0.2", "pass@1 at KL 0.2 low", "pass@1 at KL 0.2 high"),
                    *(number(count, name) for name in ("kept", "gained", "lost")),
                    across if count.get("crossover k") else "none",
                    number(count, "of them solved"),
                ]
            )
        head = ["model", "arm", "collapses", "falls back", "pass@1 at KL .1", "pass@1 at KL .2"]
        return table([*head, "kept", "gained", "lost", "crossover k", "never solved: now solved"], body)

    return written


def levels(stage: str) -> Callable[[], str]:
    """Return the writer of the shares solved of the kinds that the base never solves, mean and range over seeds."""

    def written() -> str:
        rules = load_grid(scale=stage).rules
        assert rules is not None
        body = []
        for member, registered in rules.members.items():
            for arm in ("base", rules.arms.sharpening, rules.arms.task_reward):
                paths = sorted((RESULTS / stage).glob(f"{registered.prefix}{arm}-s*.json"))
                tables = [last_problems(path) for path in paths]
                cells = [_range([_solved(one, level) for one in tables]) for level in rules.never]
                body.append([f"`{member}`", ARMS.get(arm, arm), *cells])
        return table(["model", "arm", *(f"`{level}`: mean [least, most]" for level in rules.never)], body)

    return written


def last_problems(path: Path) -> dict[str, list]:
    """Return what a result says of each problem, at its last checkpoint."""
    checkpoints = json.loads(path.read_text(encoding="utf-8"))["result"]["checkpoints"]
    (found,) = checkpoints.get("last", checkpoints.get("base"))["problems"].values()
    return found


def _solved(problems: dict[str, list], level: str) -> float:
    own = [right > 0 for right, at in zip(problems["correct"], problems["level"], strict=True) if at == level]
    return sum(own) / len(own)


def _range(shares: Sequence[float]) -> str:
    return f"{sum(shares) / len(shares):.2f} [{min(shares):.2f}, {max(shares):.2f}]"


def forecasts(stage: str) -> Callable[[], str]:
    """Return the writer of what base samples forecast beside what training reached."""

    def written() -> str:
        body = [
            [
                f"`{row['member']}`",
                number(row, "exact law", 2, "+"),
                interval(row, "forecast", "low", "high", sign="+"),
                interval(row, "reached less control", "reached low", "reached high", sign="+"),
            ]
            for row in rows(stage, "forecasts")
        ]
        return table(["model", "of the law, exact", "forecast from base samples", "training reached"], body)

    return written


def foretold() -> Iterator[Foretold]:
    """Yield every model and task with what base samples forecast of p^2 and what the tempered arm added."""
    for stage in ("dial", "delta"):
        for row in rows(stage, "forecasts"):
            told = _point(row, "forecast", "low", "high")
            reached = _point(row, "reached less control", "reached low", "reached high")
            yield Foretold(row["member"], "dial", told, reached)
    found = {(row["task"], row["arm"]): _point(row, "mean", "low", "high") for row in rows("real", "gains")}
    for task in dict.fromkeys(task for task, _ in found):
        if (task, "forecast@2") in found and (task, "tempered-2-0") in found:
            yield Foretold(task, "SmolLM2", found[task, "forecast@2"], found[task, "tempered-2-0"])


def _point(row: Row, *names: str) -> tuple[float, float, float]:
    mean, low, high = (float(row[name]) for name in names)
    return mean, low, high


def draw(folder: Path) -> Sequence[Path]:
    """Draw both figures into a folder."""
    paths = folder / "dial-study.png", folder / "dial-and-nature.png"
    rules = load_grid(scale="delta").rules
    assert rules is not None
    members = {name: member for name, member in rules.members.items() if member.delta is not None}
    deltas = {name: float(member.delta or 0) for name, member in members.items()}
    law = {deltas[name]: member.sharpened["2"] - member.base for name, member in members.items()}
    found: dict[str, dict[float, tuple[float, float, float]]] = {}
    for row in rows("delta", "contrasts"):
        if row["measure"] == "pass@1" and row.get("less control"):
            point = _point(row, "less control", "less control low", "less control high")
            found.setdefault(ARMS[row["arm"]], {})[deltas[row["member"]]] = point
    told = {deltas[row["member"]]: _point(row, "forecast", "low", "high") for row in rows("delta", "forecasts")}
    plot_along_delta(found, told, law, "128 problems, 64 samples, 8 seeds", paths[0])
    plot_foretold(list(foretold()), paths[1])
    return paths


MAKERS: Mapping[str, Callable[[str], Callable[[], str]]] = {
    "gains": gains,
    "measures": measures,
    "splits": splits,
    "ends": ends,
    "levels": levels,
    "forecasts": forecasts,
    "claims": lambda stage: partial(claims, stage),
}
TABLES: Mapping[str, Callable[[], str]] = {
    f"{stage}-{name}": make(stage) for stage in ("dial", "delta") for name, make in MAKERS.items()
}


if __name__ == "__main__":
    draw(IMAGES)
    write(PAGES, TABLES)
