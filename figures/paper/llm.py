"""The paper's figures of language-model runs.

They take arms (see ``paper_repro/analysis/arms.py``) as anything with its methods: figures know no results folder.
Axis letters: S seeds, P problems, T updates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sharpen.figures.paper.style import COLUMN, DASHES, MARKS, PaperFigure, Row, color_of, label_of, need
from sharpen.figures.style import BASE_COLOR, paper_style

FloatArray = NDArray[np.float64]
Interval = tuple[float, float, float]  # mean, low, high
IntervalOf = Callable[[FloatArray, str], Interval]  # numbers and the measure that they are of


class ArmLike(Protocol):
    """What a figure reads of an arm."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def seeds(self) -> list[int]: ...  # noqa: D102
    @property
    def regime(self) -> str: ...  # noqa: D102
    @property
    def final(self) -> str: ...  # noqa: D102
    def curve(self, metric: str) -> FloatArray: ...  # noqa: D102
    def scores(self, measure: str, checkpoint: str | None = None) -> FloatArray: ...  # noqa: D102
    def selection(self) -> tuple[list[int], FloatArray]: ...  # noqa: D102
    def slope(self, *, own: bool = True, checkpoint: str | None = None) -> FloatArray | None: ...  # noqa: D102


METRICS = {
    "reward": "training reward",
    "accuracy": "held-out pass@1",
    "response_length": "tokens per response",
    "entropy": "entropy, nats per token",
    "kl_ref": "KL(π‖p), nats",
    "ref_logprob": "log p(x), nats",
}
SMOOTH = 5  # updates of the moving mean


def training_curves(arms: Sequence[ArmLike], runs: Sequence[str]) -> PaperFigure:
    """Draw reward, accuracy, length, entropy, KL and likelihood along training: means with a band over seeds.

    Raises:
        MissingDataError: there is no arm.
    """
    need(arms, "trained arms")
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(COLUMN, 4.9))
        axes = fig.subplots(3, 2, sharex=True)
        rows: list[Row] = []
        for place, arm in enumerate(arms):
            for ax, metric in zip(axes.flat, METRICS, strict=True):
                updates, curve_ST = _training_curve(arm, metric)
                if curve_ST is None or not np.isfinite(curve_ST).any():
                    continue
                mean, low, high = _band(curve_ST)
                style: dict[str, Any] = {"color": color_of(arm.regime), "ls": DASHES[place % len(DASHES)], "lw": 1.1}
                ax.plot(updates, mean, label=label_of(arm.name), **style)
                ax.fill_between(updates, low, high, color=style["color"], alpha=0.15, lw=0)
                rows += [
                    {
                        "arm": arm.name,
                        "metric": metric,
                        "update": int(u),
                        "mean": float(m),
                        "low": float(a),
                        "high": float(b),
                    }
                    for u, m, a, b in zip(updates, mean, low, high, strict=True)
                ]
        for ax, (_, title) in zip(axes.flat, METRICS.items(), strict=True):
            ax.set_title(title, fontsize=7)
            ax.tick_params(labelsize=6)
        for ax in axes[-1]:
            ax.set_xlabel("update", fontsize=7)
        _legend(fig, axes)
    seeds = sorted({len(arm.seeds) for arm in arms})
    caption = (
        f"Training of {', '.join(label_of(arm.name) for arm in arms)}. Lines: means over {_range(seeds)} seeds (moving "
        f"mean of {SMOOTH} updates; held-out pass@1 at checkpoints); bands: from the lowest to the highest seed. Runs "
        "without a reward term have no training reward."
    )
    return PaperFigure("training-curves", fig, rows, caption, runs)


def _training_curve(arm: ArmLike, metric: str) -> tuple[FloatArray, FloatArray | None]:
    if metric == "accuracy":
        steps, curve = arm.selection()
        return np.array(steps, dtype=float), curve
    curve = arm.curve(metric)
    if curve.shape[1] < SMOOTH:
        return np.arange(curve.shape[1], dtype=float), curve
    kernel = np.ones(SMOOTH) / SMOOTH
    smooth = np.array([np.convolve(row, kernel, mode="valid") for row in curve])
    return np.arange(curve.shape[1] - SMOOTH + 1) + (SMOOTH - 1) / 2, smooth


def _band(curve_ST: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    return curve_ST.mean(axis=0), curve_ST.min(axis=0), curve_ST.max(axis=0)


def coverage_curves(arms: Sequence[ArmLike], base: ArmLike, interval: IntervalOf, runs: Sequence[str]) -> PaperFigure:
    """Draw pass@k and maj@k of base, best and last checkpoint of each arm.

    Raises:
        MissingDataError: there is no arm.
    """
    need(arms, "trained arms")
    ks = (1, 2, 4, 8, 16)
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(COLUMN, 1.45 * len(arms) + 0.7))
        axes = fig.subplots(len(arms), 2, sharex=True, sharey=True, squeeze=False)
        rows: list[Row] = []
        for line, arm in zip(axes, arms, strict=True):
            for ax, kind in zip(line, ("pass", "maj"), strict=True):
                for which, source, dash in (("base", base, "-"), ("best", arm, (0, (4, 1.5))), ("last", arm, "-")):
                    checkpoint = None if which == "base" else which
                    points = [interval(source.scores(f"{kind}@{k}", checkpoint), f"{kind}@{k}") for k in ks]
                    mean, low, high = (np.array(column) for column in zip(*points, strict=True))
                    color = BASE_COLOR if which == "base" else color_of(arm.regime)
                    mark = {"base": "s", "best": "^", "last": "o"}[which]
                    ax.plot(ks, mean, color=color, ls=dash, marker=mark, ms=2.5, lw=1.1, label=which)
                    ax.fill_between(ks, low, high, color=color, alpha=0.15, lw=0)
                    rows += [
                        {"arm": arm.name, "checkpoint": which, "measure": f"{kind}@{k}"}
                        | {"mean": float(m), "low": float(a), "high": float(b)}
                        for k, m, a, b in zip(ks, mean, low, high, strict=True)
                    ]
                ax.set_xscale("log", base=2)
                ax.set_xticks(ks, [str(k) for k in ks])
                ax.tick_params(labelsize=6)
                ax.set_ylim(-0.03, 1.03)
                ax.set_title(f"{label_of(arm.name)}: {kind}@k", fontsize=6.5)
        for ax in axes[-1]:
            ax.set_xlabel("k, samples per problem", fontsize=7)
        for ax in axes[:, 0]:
            ax.set_ylabel("share of problems", fontsize=6.5)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7)
    shape = base.scores("pass@1").shape
    caption = (
        f"pass@k (unbiased) and maj@k (exact) of base, best and last checkpoint on {shape[1]} held-out problems with "
        f"16 samples each, {_range(sorted({len(arm.seeds) for arm in arms}))} seeds; bands: 95% intervals over seeds "
        "and problems."
    )
    return PaperFigure("pass-at-k", fig, rows, caption, runs)


def bars(
    name: str,
    groups: Sequence[tuple[str, Sequence[ArmLike]]],
    base: ArmLike | None,
    interval: IntervalOf,
    runs: Sequence[str],
    text: str,
) -> PaperFigure:
    """Draw pass@1, pass@16, response length and log p of several arms side by side, one colour a regime.

    Args:
        name: Of the figure.
        groups: Arms under headings.
        base: Drawn as a line across, if given.
        interval: From scores, shape [S, P], and the measure to mean, low, high.
        runs: Ids of the results.
        text: First sentence of the caption.

    Raises:
        MissingDataError: there is no arm.
    """
    arms = [arm for _, members in groups for arm in members]
    need(arms, f"arms of {name}")
    measures = {
        "pass@1": ("pass@1", "share"),
        "pass@16": ("pass@16", "share"),
        "response_length": ("length", "tokens"),
        "base_logprob": ("log p(x)", "nats"),
    }
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(COLUMN, 0.17 * len(arms) + 0.17 * len(groups) + 1.15))
        axes = fig.subplots(1, len(measures), sharey=True)
        rows: list[Row] = []
        places, names, y = [], [], 0.0
        for heading, members in groups:
            for arm in members:
                for ax, measure in zip(axes, measures, strict=True):
                    mean, low, high = interval(arm.scores(measure), measure)
                    error = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
                    mark = MARKS[1] if "fixed" in arm.name else MARKS[0]
                    ax.errorbar(mean, y, xerr=error, fmt=mark, ms=3, lw=1, color=color_of(arm.regime))
                    rows.append(
                        {"group": heading, "arm": arm.name, "measure": measure}
                        | {"mean": mean, "low": low, "high": high, "seeds": len(arm.seeds)}
                    )
                places.append(y)
                names.append(label_of(arm.name))
                y -= 1.0
            y -= 0.6
        for ax, (measure, (title, unit)) in zip(axes, measures.items(), strict=True):
            if base is not None:
                at = interval(base.scores(measure), measure)[0]
                ax.axvline(at, color=BASE_COLOR, lw=0.9, ls="--", label="the base model")
            ax.set_title(title, fontsize=6.5)
            ax.tick_params(labelsize=5.5)
            ax.margins(x=0.12)
            ax.set_xlabel(unit, fontsize=5.5)
            _two_ticks(ax)
        if base is not None:
            fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower right", fontsize=6)
        axes[0].set_yticks(places, names, fontsize=5.5)
    shape = arms[0].scores("pass@1").shape
    caption = (
        f"{text} Points: means on {shape[1]} held-out problems with 16 samples each, "
        f"{_range(sorted({len(arm.seeds) for arm in arms}))} seeds, last checkpoint; bars: 95% intervals over seeds "
        "and problems; dashed: the base model."
    )
    return PaperFigure(name, fig, rows, caption, runs)


def effective_alpha(arms: Sequence[tuple[float, ArmLike]], runs: Sequence[str]) -> PaperFigure:
    """Draw the alpha that tempered runs reach against the alpha that they name, one point a seed.

    Raises:
        MissingDataError: no arm has one.
    """
    found = [(target, arm, arm.slope()) for target, arm in arms]
    need([slopes for _, _, slopes in found if slopes is not None], "tempered arms with log-probabilities")
    with paper_style():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(COLUMN, 2.4))
        ax = fig.subplots()
        rows: list[Row] = []
        targets = sorted({target for target, _, _ in found})
        ax.plot(
            [targets[0], targets[-1]], [targets[0], targets[-1]], color=BASE_COLOR, ls="--", lw=1, label="the target"
        )
        ax.axhline(1.0, color=BASE_COLOR, lw=1, label="the base model")
        for fixed, mark in ((False, "o"), (True, "s")):
            points = [
                (target, seed, float(slope), arm.name)
                for target, arm, slopes in found
                if slopes is not None and arm.name.endswith("-fixed") == fixed
                for seed, slope in zip(arm.seeds, slopes, strict=True)
                if np.isfinite(slope)
            ]
            if points:
                label = "trained with fixed length" if fixed else "trained with free length"
                x, _, y, _ = zip(*points, strict=True)
                ax.plot(x, y, mark, ms=4, color=color_of("tempered"), mfc="none" if fixed else None, label=label)
            rows += [{"arm": name, "target": t, "seed": seed, "alpha_own": y} for t, seed, y, name in points]
        ax.set_xticks(targets, [f"{target:g}" for target in targets])
        ax.set_xlabel("α of the objective", fontsize=7)
        ax.set_ylabel("slope on own samples", fontsize=7)
        ax.tick_params(labelsize=6)
        ax.legend(fontsize=6.5)
    seeds = _range(sorted({len(arm.seeds) for _, arm in arms}))
    caption = (
        "The slope of log π on log p within a problem over the policy's own samples, not the base's, on held-out "
        "problems, "
        f"of tempered runs (last checkpoint); {seeds} seeds an objective, a point each, "
        f"{arms[0][1].scores('pass@1').shape[1]} problems with 16 samples."
    )
    return PaperFigure("effective-alpha", fig, rows, caption, runs)


def _two_ticks(ax: Any) -> None:
    """Leave the first and the last of the ticks across a narrow panel, where more would touch."""
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    ax.set_xticks([ticks[0], ticks[-1]] if len(ticks) > 2 else ticks)


def _legend(fig: Any, axes: Any) -> None:
    """Put one legend below, with every arm that some panel shows."""
    found: dict[str, Any] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    fig.legend(list(found.values()), list(found), loc="outside lower center", ncols=2, fontsize=6)


def _range(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
