"""The report's interactive plots, by Plotly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpen.figures.paper.style import color_of, label_of
from sharpen.paper_repro.analysis.arms import KS, Arm
from sharpen.paper_repro.report.gallery import interval

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

METRICS = {
    "selection": "held-out pass@1",
    "reward": "training reward",
    "response_length": "tokens per response",
    "entropy": "entropy, nats per token",
    "kl_ref": "KL(π‖p), nats",
    "ref_logprob": "log p(x), nats",
    "effective_alpha": "slope on own samples",
}
LAYOUT: dict[str, Any] = {"template": "simple_white", "height": 420, "margin": {"l": 60, "r": 20, "t": 60, "b": 50}}


def training(arms: Mapping[str, Arm]) -> Figure:
    """Return training curves of every trained arm, mean and every seed's range, one metric at a time by a menu."""
    import plotly.graph_objects as go

    trained = [arm for arm in arms.values() if arm.kind == "train"]
    fig = go.Figure()
    owner: list[str] = []
    for metric in METRICS:
        for arm in trained:
            x, y_ST = _curve(arm, metric)
            color = color_of(arm.regime)
            shown = {"legendgroup": arm.name, "visible": metric == "selection"}
            mean, low, high = y_ST.mean(axis=0), y_ST.min(axis=0), y_ST.max(axis=0)
            dash = "dash" if arm.fixed else "solid"
            fig.add_scatter(
                x=x, y=_json(mean), name=label_of(arm.name), line={"color": color, "dash": dash}, mode="lines", **shown
            )
            band = {"fill": "toself", "fillcolor": color, "opacity": 0.15, "line": {"width": 0}, "hoverinfo": "skip"}
            outline = [*_json(high), *_json(low)[::-1]]
            fig.add_scatter(x=[*x, *x[::-1]], y=outline, showlegend=False, mode="lines", **band, **shown)
            owner += [metric, metric]
    buttons = [
        {
            "label": title,
            "method": "update",
            "args": [{"visible": [one == metric for one in owner]}, {"yaxis.title.text": title}],
        }
        for metric, title in METRICS.items()
    ]
    fig.update_layout(
        **LAYOUT,
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.18}],
        xaxis_title="update",
        yaxis_title=METRICS["selection"],
    )
    return fig


def _curve(arm: Arm, metric: str) -> tuple[list[float], np.ndarray]:
    if metric == "selection":
        steps, values = arm.selection()
        return [float(step) for step in steps], values
    values = arm.curve(metric)
    return [float(step) for step in range(values.shape[1])], values


def _json(values: np.ndarray) -> list[float | None]:
    return [None if not np.isfinite(x) else float(f"{x:.5g}") for x in values]


def coverage(arms: Mapping[str, Arm]) -> Figure:
    """Return pass@k and maj@k of every arm's last checkpoint, with 95% intervals, by a menu."""
    import plotly.graph_objects as go

    fig = go.Figure()
    owner: list[str] = []
    for kind in ("pass", "maj"):
        for arm in arms.values():
            ks = [k for k in KS if k <= arm.problems()[0]["samples"]]
            mean, low, high = np.array([interval(arm.scores(f"{kind}@{k}"), f"{kind}@{k}") for k in ks]).T
            fig.add_scatter(
                x=ks,
                y=_json(mean),
                error_y={"array": _json(high - mean), "arrayminus": _json(mean - low), "thickness": 1},
                name=label_of(arm.name),
                line={
                    "color": color_of("base" if arm.name == "base" else arm.regime),
                    "dash": "dash" if arm.fixed else "solid",
                },
                visible=kind == "pass",
            )
            owner.append(kind)
    buttons = [
        {"label": f"{kind}@k", "method": "update", "args": [{"visible": [one == kind for one in owner]}]}
        for kind in ("pass", "maj")
    ]
    menu = [{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.18}]
    fig.update_layout(**LAYOUT, updatemenus=menu, xaxis_title="k", yaxis_title="share of problems")
    fig.update_xaxes(type="log", tickvals=list(KS), ticktext=[str(k) for k in KS])
    return fig


def landscape(arms: Mapping[str, Arm]) -> Figure:
    """Return pass@1 against response length of every arm, a point an arm, 95% intervals."""
    import plotly.graph_objects as go

    fig = go.Figure()
    for arm in arms.values():
        x, y = (interval(arm.scores(measure), measure) for measure in ("response_length", "pass@1"))
        fig.add_scatter(
            x=[x[0]],
            y=[y[0]],
            error_x={"array": [x[2] - x[0]], "arrayminus": [x[0] - x[1]], "thickness": 1},
            error_y={"array": [y[2] - y[0]], "arrayminus": [y[0] - y[1]], "thickness": 1},
            mode="markers",
            marker={
                "size": 9,
                "symbol": "square" if arm.fixed else "circle",
                "color": color_of("base" if arm.name == "base" else arm.regime),
            },
            name=label_of(arm.name),
        )
    fig.update_layout(**LAYOUT, xaxis_title="tokens per response", yaxis_title="pass@1")
    return fig
