"""Derivations as documents: JSON, a LaTeX file, and one HTML page that needs nothing but a browser."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sharpen.objective.pages import render_page
from sharpen.theory.proofs.printers import SPECIAL, escape, to_latex, to_line
from sharpen.theory.proofs.prose import Text
from sharpen.theory.proofs.result import Result, Step

if TYPE_CHECKING:
    from markupsafe import Markup

TITLE = "Sharpening: the theory, derived and checked"
PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[a4paper, margin=25mm]{geometry}
\usepackage[T1]{fontenc}
\usepackage{amsmath, amssymb, adjustbox}
\setlength{\parindent}{0pt}
\newcommand{\formula}[1]{\par\smallskip\quad\adjustbox{max width=0.95\linewidth}{$\displaystyle #1$}\par\smallskip}
"""
MARK = "\uf8ff"  # of private use: stands around the number of a text that latex2mathml shall not touch


def verdict(holds: bool) -> str:
    """Return the word for whether a check passed."""
    return "holds" if holds else "FAILS"


def number(value: float) -> str:
    """Return a discrepancy in two digits: ``0`` if there is none."""
    return "0" if value == 0 else f"{value:.1e}"


def covers(step: Step) -> str:
    """Return what the step's check covers and, if it is numerical, how exact it was.

    Example:
        >>> import sympy as sp
        >>> from sharpen.theory.proofs.prose import say
        >>> covers(Step(say(""), sp.Integer(1), "symbolic", say("any policy"), False, 0.0, 0.0, True))
        'symbolic; any policy'
        >>> covers(Step(say(""), sp.Integer(1), "randomised", say("{} problems", 5), True, 2e-16, 1e-9, True))
        'randomised; 5 problems; error 2.0e-16, at most 1.0e-09'
    """
    parts = [step.method, step.scope]
    if step.method == "randomised":
        parts.append(f"error {number(step.error)}, at most {number(step.tolerance)}")
    elif step.confirms:
        parts.append("confirms")
    return "; ".join(parts)


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return one object a result, finite numbers only: an error that is not a number is None."""
    return [
        {
            "id": result.id,
            "title": result.title,
            "statement": result.statement,
            "latex": result.latex,
            "holds": result.holds,
            "method": result.method,
            "error": _finite(result.error),
            "steps": [
                {
                    "text": step.text,
                    "formula": to_line(step.shown),
                    "latex": to_latex(step.shown),
                    "assuming": [to_line(each) for each in step.assuming],
                    "where": [to_line(each) for each in step.where],
                    "method": step.method,
                    "scope": step.scope,
                    "confirms": step.confirms,
                    "error": _finite(step.error),
                    "tolerance": step.tolerance,
                    "holds": step.holds,
                }
                for step in result.steps
            ],
        }
        for result in results
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_latex(results: Sequence[Result]) -> str:
    """Return a complete LaTeX document, for pdflatex with amsmath and adjustbox."""
    lines = [PREAMBLE + rf"\title{{{TITLE}}}", r"\date{}", r"\begin{document}", r"\maketitle"]
    for result in results:
        lines += [
            rf"\section*{{{result.id}. {escape(result.title)}}}",
            rf"\textbf{{Statement.}} {_typeset(result.statement)}\par\smallskip",
            rf"\textbf{{{verdict(result.holds)}}}: {escape(summary(result))}",
            r"\begin{enumerate}",
        ]
        for step in result.steps:
            lines += [rf"\item {_typeset(step.text)}", rf"\formula{{{to_latex(step.shown)}}}"]
            lines += [rf"\formula{{\text{{with }} {to_latex(each)}}}" for each in step.where]
            given = ", ".join(f"${to_latex(each)}$" for each in step.assuming)
            known = f"; assuming {given}" if given else ""
            lines.append(rf"{{\footnotesize {verdict(step.holds)} ({escape(covers(step))}{known})}}")
        lines.append(r"\end{enumerate}")
    return "\n".join([*lines, r"\end{document}", ""])


def _typeset(text: Text) -> str:
    return "".join(escape(x) if isinstance(x, str) else f"${to_latex(x)}$" for x in text.pieces())


def summary(result: Result) -> str:
    """Return how a result was checked."""
    steps = f"{len(result.steps)} step{'' if len(result.steps) == 1 else 's'}"
    return f"{result.method}, {steps}, largest error {number(result.error)}"


def as_html(results: Sequence[Result]) -> str:
    """Return one HTML page with every formula as MathML, no script and no reference to another file.

    The markup is in `templates/derivations.html`; titles, statements and scopes get into it as text.
    """
    held = sum(result.holds for result in results)
    sections = [_section(result) for result in results]
    return render_page("sharpen.theory.proofs", "derivations.html", title=TITLE, held=held, results=sections)


def _section(result: Result) -> dict[str, Any]:
    from markupsafe import Markup

    return {
        "id": result.id,
        "title": result.title,
        "holds": result.holds,
        "verdict": verdict(result.holds),
        "method": result.method,
        "error": number(result.error),
        "statement": _marked(result.statement),
        "summary": summary(result),
        "steps": [
            {
                "text": _marked(step.text),
                "formula": Markup(to_mathml(to_latex(step.shown))),
                "holds": step.holds,
                "verdict": verdict(step.holds),
                "covers": covers(step),
                "assuming": [Markup(to_mathml(to_latex(each), "inline")) for each in step.assuming],
                "where": [Markup(to_mathml(to_latex(each), "inline")) for each in step.where],
            }
            for step in result.steps
        ],
    }


def _marked(text: Text) -> Markup:
    """Return a sentence with its formulas as MathML and its words escaped."""
    from markupsafe import Markup, escape

    pieces = (escape(x) if isinstance(x, str) else Markup(to_mathml(to_latex(x), "inline")) for x in text.pieces())
    return Markup("").join(pieces)


def to_mathml(latex: str, display: str = "block") -> str:
    r"""Return a formula as MathML, for a browser to draw without help.

    latex2mathml does not know ``\arg`` and the sizes of delimiters, sets functions without a space, and copies text as
    it stands.

    Args:
        latex: Without delimiters.
        display: ``block`` or ``inline``.

    Example:
        >>> to_mathml(r"\text{p\_0<1}", "inline").partition("<mrow>")[2]
        '<mtext>p_0&lt;1</mtext></mrow></math>'
    """
    from latex2mathml.converter import convert

    texts: list[str] = []

    def hide(found: re.Match[str]) -> str:
        plain = found[1]
        for char, written in SPECIAL.items():
            plain = plain.replace(written, char)
        texts.append(html.escape(plain, quote=False).replace(" ", "\N{NO-BREAK SPACE}"))
        return rf"\text{{{MARK}{len(texts) - 1}{MARK}}}"

    hidden = re.sub(r"\\text\{((?:[^{}\\]|\\[A-Za-z]+\{\}|\\.)*)\}", hide, latex)
    hidden = re.sub(r"\\[Bb]igg?[lr]?(?![A-Za-z])", "", hidden).replace(r"\tbinom", r"\binom")
    hidden = hidden.replace(r"\arg\max", r"\mathrm{arg\,max}\,").replace(r"\textstyle", "")
    hidden = re.sub(r"(\\(?:log|cosh|sinh|tanh)) (?=[A-Za-z\\])", r"\1\\,", hidden)
    return re.sub(f"{MARK}(\\d+){MARK}", lambda found: texts[int(found[1])], convert(hidden, display=display))
