"""The paper's figures of theory and toy, from stored results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sharpen.figures.paper.style import COLUMN, DASHES, PaperFigure, Row, color_of, need
from sharpen.figures.style import BASE_COLOR, CLASS_COLORS, CLASS_MARKERS, paper_style

Result = Mapping[str, Any]


def knife_edge(found: Result | None) -> PaperFigure:
    """Draw the mean length of p^alpha against alpha, beside token-level temperature.

    Raises:
        MissingDataError: it has not been computed.
    """
    need(found, "theory-length")
    assert found is not None
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(COLUMN, 2.2))
        ax = fig.subplots()
        alpha = np.array(found["alpha"], dtype=float)
        rows: list[Row] = []
        for key, label, color, dash in (
            ("mean", "$p^α$ over sequences", color_of("tempered"), "-"),
            ("temperature_mean", "token-level temperature 1/α", color_of("task-reward+likelihood"), DASHES[1]),
        ):
            length = np.array([np.nan if x is None else x for x in found[key]], dtype=float)
            ax.plot(alpha, length, color=color, ls=dash, label=label)
            rows += [
                {"law": key, "alpha": float(a), "mean_length": float(x)} for a, x in zip(alpha, length, strict=True)
            ]
        critical = found["critical_alpha"]
        ax.axvspan(ax.get_xlim()[0], critical, color=BASE_COLOR, alpha=0.25, lw=0)
        ax.axvline(1.0, color=BASE_COLOR, lw=0.8, ls="--", label="the base, α = 1")
        ax.set_yscale("log")
        ax.set_xlabel("α (shaded: $p^α$ does not exist)", fontsize=7)
        ax.tick_params(labelsize=6)
        ax.set_ylabel("mean length, tokens", fontsize=7)
        ax.legend(fontsize=6.5)
    at = found["at"]
    caption = (
        f"Length of p^α for independent tokens with stop hazard 0.05, exact: {at['1.0']:.1f} tokens at α = 1, "
        f"{at['1.25']:.2f} at 1.25, no distribution below α = {critical:.3f}. No sampling, so no interval."
    )
    return PaperFigure("knife-edge", fig, rows, caption, ["theory-length"])


def basins(found: Result | None) -> PaperFigure:
    """Draw fixed points and basins of three outcomes in each regime, on the simplex.

    Raises:
        MissingDataError: it has not been computed.
    """
    need(found, "theory-basins")
    assert found is not None
    tints = ("#CFE3F1", "#FBE3C8", "#E6D5EA")
    cases = found["cases"]
    rows: list[Row] = []
    with paper_style():
        from matplotlib.figure import Figure

        columns = 2
        fig = Figure(figsize=(COLUMN, 1.85 * -(-len(cases) // columns)))
        axes = fig.subplots(-(-len(cases) // columns), columns).ravel()
        for ax, case in zip(axes, cases, strict=False):
            for basin in case["basins"]:
                one = len(case["basins"]) == 1
                polygon = _flat(basin["polygon"])
                ax.fill(*polygon.T, color="#F3F3F3" if one else tints[min(basin["support"])], lw=0)
            ax.plot(*_flat([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]).T, color="#444444", lw=0.7)
            ax.plot(*_flat([found["base"]]).T, "+", color="black", ms=6)
            order = list(CLASS_MARKERS)  # stable ones first, and so on top
            for point in case["points"]:
                kind = point["kind"]
                style = {"ms": 4 if order.index(kind) else 5.5, "mec": "white", "mew": 0.3, "clip_on": False}
                place, above = _flat([point["policy"]]).T, 9 - order.index(kind)
                ax.plot(*place, CLASS_MARKERS[kind], color=CLASS_COLORS[kind], zorder=above, **style)
                rows.append(
                    {"case": case["name"], "kind": kind, "reward": point["reward"]}
                    | {f"pi_{i + 1}": float(x) for i, x in enumerate(point["policy"])}
                )
            ax.set_title(case["name"], fontsize=6.5, pad=12)
            for corner, (name, side) in enumerate((("first", "top"), ("second (right)", "bottom"), ("third", "top"))):
                off = (0, 5 if side == "bottom" else -5)  # points
                where = _flat(np.eye(3)[corner])
                ax.annotate(name, where, off, textcoords="offset points", ha="center", va=side, fontsize=5.5)
        for ax in axes:
            ax.set_aspect("equal")
            ax.axis("off")
        from matplotlib.lines import Line2D

        kinds = list(dict.fromkeys(point["kind"] for case in cases for point in case["points"]))
        handles = [Line2D([], [], ls="", marker=CLASS_MARKERS[k], color=CLASS_COLORS[k], ms=4, label=k) for k in kinds]
        handles.append(Line2D([], [], ls="", marker="+", color="black", label="base"))
        spare = axes[len(cases)] if len(axes) > len(cases) else None
        (spare or fig).legend(
            handles=handles, loc="center" if spare is not None else "outside lower center", fontsize=6.5
        )
    caption = (
        "Fixed points of the natural-gradient flow and their basins (tints: the outcome that attracts), three outcomes "
        f"with base {', '.join(f'{x:g}' for x in found['base'])}, the second correct; exact. A corner is the "
        "policy that gives its outcome only."
    )
    return PaperFigure("basins", fig, rows, caption, ["theory-basins"])


def _flat(policies: Any) -> np.ndarray:
    """Return points of the simplex in the plane: corners (0, 0), (1/2, sqrt(3)/2), (1, 0)."""
    return np.asarray(policies, dtype=float) @ np.array([[0.0, 0.0], [0.5, np.sqrt(3) / 2], [1.0, 0.0]])


def sensitivity(found: Result | None) -> PaperFigure:
    """Draw how far errors of log p, and of the reward, move the optimum.

    Raises:
        MissingDataError: it has not been computed.
    """
    need(found, "theory-sensitivity")
    assert found is not None
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(COLUMN, 3.9))
        ax, lower = fig.subplots(2, 1, sharex=True, height_ratios=[1.7, 1.0])
        rows: list[Row] = []
        for place, row in enumerate(found["rows"]):
            ax.plot(
                found["epsilon"], row["change"], color=color_of(row["regime"]), ls=DASHES[place % 4], label=row["name"]
            )
            rows += [
                {"case": row["name"], "epsilon": e, "total_variation": float(c), "bound": float(b)}
                for e, c, b in zip(found["epsilon"], row["change"], row["bound"], strict=True)
            ]
        label = "task reward, error of r: loss of E[r]"
        lower.plot(found["epsilon"], found["task_loss"], color=color_of("task-reward"), marker=".", ms=3, lw=0.8)
        rows += [
            {"case": label, "epsilon": e, "loss": float(x)}
            for e, x in zip(found["epsilon"], found["task_loss"], strict=True)
        ]
        ax.set_xscale("log")
        ax.set_title("errors of log p", fontsize=7)
        ax.set_ylabel("worst change of the\noptimum (total variation)", fontsize=6.5)
        ax.legend(fontsize=5.5, loc="upper left")
        lower.set_title("errors of r: the task reward's optimum", fontsize=7)
        lower.set_xlabel("largest error, in nats of log p (above) or units of r (below)", fontsize=6.5)
        lower.set_ylabel("worst loss of E[r]", fontsize=6.5)
        for panel in (ax, lower):
            panel.tick_params(labelsize=6)
    caption = (
        "Largest total-variation change of the optimum that errors of log p of a given size cause, exact, on the "
        "embedded model's ways to answer; below, the expected reward that task reward loses when its rewards are off "
        f"by so much. Sharpening's optimum is another one beyond {found['flip_radius']:.3f} nats."
    )
    return PaperFigure("sensitivity", fig, rows, caption, ["theory-sensitivity"])


def estimators(found: Result | None) -> PaperFigure:
    """Draw exact bias and standard deviation of gradient estimators, relative to the gradient.

    Raises:
        MissingDataError: it has not been computed.
    """
    need(found, "theory-estimators")
    assert found is not None
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(COLUMN, 2.6))
        ax = fig.subplots()
        shown = found["rows"]
        places = np.arange(len(shown))[::-1]
        ax.barh(places + 0.2, [row["bias"] for row in shown], 0.38, color=color_of("sharpening"), label="bias")
        ax.barh(
            places - 0.2,
            [row["deviation"] for row in shown],
            0.38,
            color=color_of("tempered"),
            label="standard deviation",
        )
        ax.set_yticks(places, [row["name"] for row in shown], fontsize=6)
        ax.set_xlabel("norm, relative to the true gradient", fontsize=7)
        ax.tick_params(axis="x", labelsize=6)
        ax.legend(fontsize=6.5)
    caption = (
        "Exact bias and standard deviation of estimators of ∇KL(π‖p) (k1, k2, k3) and of ∇J (the others), relative to "
        f"the true gradient, groups of {found['group']} samples, four outcomes of unequal length. Enumerated."
    )
    return PaperFigure("estimators", fig, [dict(row) for row in shown], caption, ["theory-estimators"])


def toy_regimes(found: Result | None) -> PaperFigure:
    """Draw expected reward and length of sampled RLOO in the four regimes, beside the exact optimum.

    Raises:
        MissingDataError: it has not been computed.
    """
    need(found, "toy-regimes")
    assert found is not None
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(COLUMN, 2.2))
        axes = fig.subplots(1, 2)
        rows: list[Row] = []
        for row in found["rows"]:
            color = color_of(row["name"])
            for ax, measure in zip(axes, ("expected_reward", "length"), strict=True):
                curve = row[measure]
                ax.plot(row["step"], curve["mean"], color=color, label=row["name"], lw=1.1)
                ax.fill_between(row["step"], curve["low"], curve["high"], color=color, alpha=0.15, lw=0)
                ax.plot(row["step"][-1], row["theory"][measure], "D", color=color, ms=4, mfc="none", clip_on=False)
                rows += [
                    {"regime": row["name"], "measure": measure, "update": s, "mean": m, "low": a, "high": b}
                    for s, m, a, b in zip(row["step"], curve["mean"], curve["low"], curve["high"], strict=True)
                ]
        axes[0].set_ylabel("expected reward", fontsize=7)
        axes[1].set_ylabel("expected length, tokens", fontsize=7)
        for ax in axes:
            ax.set_xlabel("update", fontsize=7)
            ax.tick_params(labelsize=6)
        from matplotlib.lines import Line2D

        handles, labels = axes[0].get_legend_handles_labels()
        handles.append(Line2D([], [], ls="", marker="D", color="#555555", ms=4, mfc="none"))
        fig.legend(handles, [*labels, "exact optimum"], loc="outside lower center", ncols=3, fontsize=6)
    caption = (
        f"Sampled RLOO on a tabular policy over the embedded model's ways to answer: means of {found['seeds']} seeds, "
        "bands 95% of the seeds; open diamonds: the exact optimum."
    )
    return PaperFigure("toy-regimes", fig, rows, caption, ["toy-regimes"])
