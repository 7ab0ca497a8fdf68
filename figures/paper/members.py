"""Figures of a study of several base models: gain against alignment, and accuracy against the KL that it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpen.figures.paper.style import COLUMN, DASHES, MARKS, PaperFigure, Row, color_of, label_of, need
from sharpen.figures.style import BASE_COLOR, paper_style

FloatArray = NDArray[np.float64]
Point = tuple[float, float, float]  # mean, low, high


def gain_against_alignment(
    alignment: Mapping[str, Point],
    forecast: Mapping[str, Point],
    gains: Mapping[str, Mapping[str, Point]],
    regimes: Mapping[str, str],
    exponent: float,
    note: str,
    runs: Sequence[str],
) -> PaperFigure:
    """Draw what training added to the null control's pass@1 against Corr(r, log p) of the base, with the forecast.

    Args:
        alignment: Correlation within problems of each member.
        forecast: Forecast gain of p^alpha, from base samples alone.
        gains: By arm and member.
        regimes: Of the arms, for their colours.
        exponent: alpha of the forecast.
        note: Problems, samples, seeds.
        runs: Ids of the results.

    Raises:
        MissingDataError: there is no gain.
    """
    need([one for own in gains.values() for one in own], "trained arms with a null control")
    need(alignment, "single samples of the base models")
    order = sorted(alignment, key=lambda name: alignment[name][0])
    wide = max(alignment[order[-1]][0] - alignment[order[0]][0], 0.1)
    rows: list[Row] = []
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(COLUMN, 2.9))
        ax = fig.subplots()
        ax.axhline(0.0, color=BASE_COLOR, lw=0.8)
        told = [name for name in order if name in forecast]
        if told:
            x = [alignment[name][0] for name in told]
            mean, low, high = (np.array([forecast[name][at] for name in told]) for at in range(3))
            label = f"forecast of p^{exponent:g} from base samples"
            ax.plot(x, mean, color=BASE_COLOR, ls=DASHES[1], marker="_", lw=1, label=label)
            ax.fill_between(x, low, high, color=BASE_COLOR, alpha=0.2, lw=0)
            rows += [{"arm": "forecast", "member": name} | _point(alignment[name], forecast[name]) for name in told]
        for place, (arm, own) in enumerate(gains.items()):
            shift = wide * 0.025 * (place - (len(gains) - 1) / 2)
            there = [name for name in order if name in own]
            mean, low, high = (np.array([own[name][at] for name in there]) for at in range(3))
            x = [alignment[name][0] + shift for name in there]
            style: dict[str, Any] = {"fmt": MARKS[place], "ms": 4, "lw": 1, "color": color_of(regimes[arm])}
            ax.errorbar(x, mean, yerr=[mean - low, high - mean], label=label_of(arm), **style)
            rows += [{"arm": arm, "member": name} | _point(alignment[name], own[name]) for name in there]
        ax.set_xlabel("Corr(r, log p) of the base model, within problems", fontsize=7)
        ax.set_ylabel("pass@1 less that of the null control", fontsize=7)
        ax.tick_params(labelsize=6.5)
        ax.set_title(_ends_of(gains, order), fontsize=7)
        fig.legend(loc="outside lower center", ncols=2, fontsize=6.5)
    caption = (
        f"Change of pass@1 by training, without that of the null control (α = 1), {note}, against how far right and "
        "likely answers go together in the base model. Bars: 95% intervals over seeds and problems. Dashed, with its "
        f"95% band over problems: what base samples alone forecast of p^α at α = {exponent:g}. Arms of one model stand "
        "a little apart. Line at 0: the null control."
    )
    return PaperFigure("gain-against-alignment", fig, rows, caption, runs)


def _point(at: Point, value: Point) -> dict[str, float]:
    return {"alignment": at[0], "mean": value[0], "low": value[1], "high": value[2]}


def _ends_of(gains: Mapping[str, Mapping[str, Point]], order: Sequence[str]) -> str:
    """Return a title that states the first arm's numbers at both ends of the alignment."""
    arm, own = next(iter(gains.items()))
    there = [name for name in order if name in own]
    ends = [own[there[0]][0], own[there[-1]][0]] if there else []
    return f"{label_of(arm)} changes pass@1 by {' to '.join(f'{end:+.2f}' for end in ends)}"


def accuracy_against_kl(
    panels: Mapping[str, Mapping[str, tuple[FloatArray, FloatArray]]],
    regimes: Mapping[str, str],
    note: str,
    runs: Sequence[str],
) -> PaperFigure:
    """Draw held-out pass@1 of the checkpoints against the KL to the base that they had, a panel a member.

    Args:
        panels: By member and arm: KL in nats and pass@1 of each seed's checkpoints, shapes [S, C].
        regimes: Of the arms.
        note: Problems, samples, seeds.
        runs: Ids of the results.

    Raises:
        MissingDataError: there is no arm.
    """
    need([one for own in panels.values() for one in own], "trained arms")
    rows: list[Row] = []
    with paper_style():
        from matplotlib.figure import Figure

        lines = -(-len(panels) // 2)
        fig = Figure(figsize=(COLUMN, 1.55 * lines + 0.6))
        axes = np.atleast_2d(fig.subplots(lines, 2, sharex=True, sharey=True, squeeze=False))
        for ax, (member, arms) in zip(axes.flat, panels.items(), strict=False):
            for place, (arm, (kl_SC, accuracy_SC)) in enumerate(arms.items()):
                color = color_of(regimes[arm])
                ax.plot(kl_SC.T, accuracy_SC.T, color=color, lw=0.4, alpha=0.4)
                ax.plot(
                    kl_SC.mean(0),
                    accuracy_SC.mean(0),
                    color=color,
                    lw=1.2,
                    marker=MARKS[place],
                    ms=3,
                    label=label_of(arm),
                )
                means = zip(kl_SC.mean(0), accuracy_SC.mean(0), strict=True)
                rows += [
                    {"member": member, "arm": arm, "checkpoint": at, "KL": float(kl), "pass@1": float(accuracy)}
                    for at, (kl, accuracy) in enumerate(means)
                ]
            ax.set_title(member, fontsize=7)
            ax.set_ylim(-0.03, 1.03)
            ax.set_xscale("symlog", linthresh=0.05)
            ax.tick_params(labelsize=6)
        for ax in list(axes.flat)[len(panels) :]:
            ax.set_visible(False)
        shared = axes.flat[0]  # chosen ticks: those of the scale itself touch where it turns logarithmic
        ticks = [nats for nats in (0, 0.1, 1, 10, 100) if nats <= shared.get_xlim()[1]]
        shared.set_xticks(ticks, [f"{nats:g}" for nats in ticks])
        fig.supxlabel("KL(π‖p), nats", fontsize=7)
        fig.supylabel("held-out pass@1", fontsize=7)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=6.5)
    caption = (
        f"Held-out pass@1 of the checkpoints against KL to the base, mean of the five updates before, {note}. Thin: "
        "seeds; thick, with marks at the checkpoints: their means. KL is linear below .05 nats, logarithmic above."
    )
    return PaperFigure("accuracy-against-kl", fig, rows, caption, runs)
