"""An audit as one self-contained page: its figure, its tables, and how to read them, dark or light as the reader's."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from sharpen.figures.llm.audit import SIZE, plot_audit, title
from sharpen.figures.style import drawing
from sharpen.objective.pages import render_page

# Of the figure: what is black follows the page's text, and its ground the page's.
INK = {"#000000": "currentColor", "#ffffff": "none", "#e6e6e6": "#88888844"}
LABELS = {
    "sharpening": "sharpening, p^α",
    "reward": "reward",
    "length": "length",
    "all": "all three",
    "rest": "none of them (rest)",
}


def audit_page(result: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        result: The audit, as ``sharpen llm audit --json`` prints it.
    """
    from markupsafe import Markup

    return render_page(
        "sharpen.figures.llm",
        "audit.html",
        result=result,
        title=title(result).splitlines()[0],
        figure=Markup(_figure(result)),
        rows=_rows(result),
        number=_number,
        interval=_interval,
    )


def _figure(result: Mapping[str, Any]) -> str:
    """Return the figure as SVG that has its colours from the page."""
    made = StringIO()
    with drawing(None, None, SIZE) as (fig, panels):
        plot_audit(result, axes=panels[0])
        fig.savefig(made, format="svg", metadata={"Date": None})
    text = made.getvalue()
    text = text[text.index("<svg") :]
    for color, instead in INK.items():
        text = text.replace(color, instead)
    return text


def _rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    if result["explained"] is None:
        return []
    return [
        {
            "label": LABELS.get(name, name.replace("+", " + ")),
            "nats": nats,
            "share": result["shares"][name],
            "shapley": result["shapley"].get(name),
            "fit": result["fits"].get(name),
        }
        for name, nats in {**result["explained"], "rest": result["rest"]}.items()
    ]


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _interval(row: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Return the value with its interval, nothing where there is none."""
    if row is None or row["value"] is None:
        return ""
    return f"{_number(row['value'], digits)} [{_number(row['low'], digits)}, {_number(row['high'], digits)}]"
