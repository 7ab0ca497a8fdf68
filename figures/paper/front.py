"""The page-one figure: the optimum that likelihood prefers, what it costs, and what training does about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sharpen.figures.paper.llm import ArmLike, IntervalOf
from sharpen.figures.paper.style import COLUMN, MARKS, PaperFigure, Row, color_of, label_of, need
from sharpen.figures.style import BASE_COLOR, paper_style

Result = Mapping[str, Any]


def page_one(
    exact: Result | None,
    toy: Result | None,
    arms: Sequence[ArmLike],
    base: ArmLike | None,
    interval: IntervalOf,
    runs: Sequence[str],
) -> PaperFigure:
    """Draw the story: exact optima, simulated training, a language model, in one row of meaning.

    Top: where each regime's optimum puts its mass on the ways to answer (exact). Bottom left: expected reward of
    sampled RLOO on the tabular policy. Bottom right: accuracy and length of the language model, base and trained.

    Raises:
        MissingDataError: one of the three has not been computed.
    """
    need(exact, "theory-regimes")
    need(toy, "toy-regimes")
    need(arms and base, "the base model and trained arms")
    assert exact is not None
    assert toy is not None
    assert base is not None
    rows: list[Row] = []
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(COLUMN, 4.5))
        top, bottom = fig.subfigures(2, 1, height_ratios=[1.0, 1.1])  # pyright: ignore[reportGeneralTypeIssues]
        _optima(top.subplots(), exact, rows)
        left, right = bottom.subplots(1, 2)
        _simulation(left, toy, rows)
        _language_model(right, arms, base, interval, rows)
    shape = base.scores("pass@1").shape
    caption = (
        f"(a) Exact optima on the embedded model's ways to answer; mass of right answers: {_right(exact)}. "
        f"(b) RLOO on a tabular policy, means of {toy['seeds']} seeds, bands 95% of seeds. (c) The language model "
        f"after training with RLOO: pass@1 and mean length on {shape[1]} held-out problems, "
        f"{min(len(arm.seeds) for arm in arms)} seeds, 95% intervals over seeds and problems."
    )
    return PaperFigure("page-one", fig, rows, caption, runs)


def _right(exact: Result) -> str:
    """Return the expected reward of base and optima for reading."""
    found = {"base": exact["base"]["expected_reward"]}
    found |= {r["regime"]: r["expected_reward"] for r in exact["rows"] if r["regime"] in ("task-reward", "sharpening")}
    return ", ".join(f"{name} {mass:.2f}" for name, mass in found.items())


def _optima(ax: Any, exact: Result, rows: list[Row]) -> None:
    wanted = [("base", None), ("task-reward", 0.0), ("tempered", 2.0), ("tempered", 4.0), ("sharpening", 1.0)]
    policies = []
    for regime, alpha in wanted:
        if alpha is None:
            policies.append(("base", exact["base"]["policy"]))
            continue
        row = next(r for r in exact["rows"] if r["regime"] == regime and r["alpha"] == alpha)
        policies.append((regime if regime != "tempered" else f"$p^{alpha:g}$", row["policy"]))
    tints = {"right": ("#009E73", "#5CC4A6", "#A8E0CF"), "wrong": ("#D55E00", "#EE9A5C"), "abstain": ("#BBBBBB",)}
    used = dict.fromkeys(tints, 0)
    left = np.zeros(len(policies))
    places = np.arange(len(policies))[::-1]
    for number, way in enumerate(exact["ways"]):
        kind = "abstain" if way == "abstain" else "right" if way.endswith("right") else "wrong"
        tint = tints[kind][used[kind]]
        used[kind] += 1
        mass = np.array([policy[number] for _, policy in policies])
        ax.barh(places, mass, left=left, height=0.72, color=tint, label=way, lw=0)
        left = left + mass
        rows += [
            {"panel": "a", "policy": name, "what": way, "mean": float(m)}
            for (name, _), m in zip(policies, mass, strict=True)
        ]
    ax.set_yticks(places, [name for name, _ in policies], fontsize=6.5)
    ax.set_xlim(0, 1)
    ax.set_title("(a) exact optimum: mass of each way to answer", fontsize=7)
    ax.set_xlabel("probability", fontsize=6.5)
    ax.tick_params(axis="x", labelsize=6)
    ax.grid(False)
    ax.legend(fontsize=5.5, ncols=3, loc="upper center", bbox_to_anchor=(0.45, -0.24))


def _simulation(ax: Any, toy: Result, rows: list[Row]) -> None:
    for row in toy["rows"]:
        curve, color = row["expected_reward"], color_of(row["name"])
        ax.plot(row["step"], curve["mean"], color=color, lw=1.1, label=row["name"])
        ax.fill_between(row["step"], curve["low"], curve["high"], color=color, alpha=0.15, lw=0)
        rows += [
            {"panel": "b", "policy": row["name"], "what": f"update {s}", "mean": m, "low": a, "high": b}
            for s, m, a, b in zip(row["step"], curve["mean"], curve["low"], curve["high"], strict=True)
        ]
    ax.set_title("(b) toy", fontsize=7)
    ax.set_xlabel("update", fontsize=6.5)
    ax.set_ylabel("expected reward", fontsize=6.5)
    ax.set_ylim(-0.03, 1.03)
    ax.tick_params(labelsize=6)
    _legend_below(ax)


def _language_model(ax: Any, arms: Sequence[ArmLike], base: ArmLike, interval: IntervalOf, rows: list[Row]) -> None:
    for place, arm in enumerate((base, *arms)):
        name = "base" if arm is base else label_of(arm.name)
        color = BASE_COLOR if arm is base else color_of(arm.regime)
        x, y = (interval(arm.scores(measure), measure) for measure in ("response_length", "pass@1"))
        errors = [[[max(0.0, m - low)], [max(0.0, high - m)]] for m, low, high in (x, y)]
        mark = MARKS[place % len(MARKS)]
        ax.errorbar(x[0], y[0], xerr=errors[0], yerr=errors[1], fmt=mark, ms=3.5, color=color, lw=1, label=name)
        for measure, (mean, low, high) in (("response_length", x), ("pass@1", y)):
            rows.append({"panel": "c", "policy": name, "what": measure, "mean": mean, "low": low, "high": high})
    ax.set_title("(c) language model", fontsize=7)
    ax.set_xlabel("tokens per response", fontsize=6.5)
    ax.set_ylabel("held-out pass@1", fontsize=6.5)
    ax.set_ylim(-0.05, 1.08)
    ax.margins(x=0.2)
    ax.tick_params(labelsize=6)
    _legend_below(ax)


def _legend_below(ax: Any) -> None:
    """Put the legend under the axis, where no data can be."""
    ax.legend(fontsize=5.5, ncols=2, loc="upper center", bbox_to_anchor=(0.42, -0.2), columnspacing=1.0)
