"""How an expression of a derivation is written: on one line of text, and in LaTeX."""

# ruff: noqa: N802 - SymPy calls these methods by the names of its classes

from __future__ import annotations

import re
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from sharpen.theory.proofs.sums import N

GREEK = {"alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta", "kappa", "lambda", "mu", "nu", "pi", "rho"}
SPELLED = {
    "beta_inv": r"{\beta^{-1}}",
    "ell": r"\ell",
    "log p": r"\log p",
    "|x|": "{|x|}",
    "log p / |x|": r"{\log p / |x|}",
    "sup log p / |x|": r"{\sup \log p / |x|}",
    "max log p": r"{\max \log p}",
    "dJ/dtheta": r"{\nabla J}",
    "Df v": r"{Df \, v}",
    "DF v": r"{DF \, v}",
    "Df v_k": r"{(Df \, v)_k}",
    "B_0 v": "{(B v)_0}",
    "P(L)": "P(L)",
    "f_<c": "f_{<c}",
    "max_v": r"\max_v",
    "min_k": r"\min_k",
    "prod": r"\prod",
}
SPECIAL = {char: rf"\{char}" for char in "#$%&_{}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "*": r"\textasteriskcentered{}",
    '"': "''",
}


class LinePrinter(StrPrinter):
    """SymPy's text, with sums, derivatives, limits and indices as one would type them."""

    printmethod = ""  # by which an Indexed would print itself

    def doprint(self, expr: Any) -> str:
        """Return the text."""
        return super().doprint(expr).replace("**", "^")

    def _print_Sum(self, expr: Any) -> str:
        return self._over("sum", expr)

    def _print_Product(self, expr: Any) -> str:
        return self._over("prod", expr)

    def _over(self, sign: str, expr: Any) -> str:
        limits = [
            f"_{index}" if (low, high) == (1, N) else f"_[{index}={self._print(low)}..{self._print(high)}]"
            for index, low, high in expr.limits
        ]
        return f"{sign}{''.join(limits)}({self._print(expr.function)})"

    def _print_Derivative(self, expr: Any) -> str:
        order = sum(count for _, count in expr.variable_count)
        below = " ".join(f"d{self._print(x)}" + (f"^{n}" if n > 1 else "") for x, n in expr.variable_count)
        fraction = f"d/{below}" if order == 1 else f"d^{order}/({below})"
        return f"{fraction} ({self._print(expr.expr)})"

    def _print_Subs(self, obj: Any) -> str:
        at = ", ".join(f"{self._print(x)} = {self._print(y)}" for x, y in zip(obj.variables, obj.point, strict=True))
        return f"({self._print(obj.expr)} at {at})"

    def _print_Limit(self, expr: Any) -> str:
        inside, x, point, _ = expr.args
        return f"lim[{self._print(x)} -> {self._print(point)}] ({self._print(inside)})"

    def _print_Short(self, expr: Any) -> str:
        return expr.name

    def _print_IndexedBase(self, expr: Any) -> str:
        return self._print(expr.label)

    def _print_Indexed(self, expr: Any) -> str:
        indices = [self._print(index) for index in expr.indices]
        if all(index.isidentifier() or index.isdigit() for index in indices):
            return f"{self._print(expr.base.label)}_{''.join(indices) if max(map(len, indices)) == 1 else indices[0]}"
        return f"{self._print(expr.base.label)}[{', '.join(indices)}]"

    def _print_KroneckerDelta(self, expr: Any) -> str:
        return "delta_" + "".join(self._print(index) for index in expr.args)

    def _print_Relational(self, expr: Any) -> str:
        return f"{self._print(expr.lhs)} {expr.rel_op.replace('==', '=')} {self._print(expr.rhs)}"

    def _print_MatrixBase(self, expr: Any) -> str:
        rows = ["[" + ", ".join(self._print(entry) for entry in row) + "]" for row in expr.tolist()]
        return "[" + ", ".join(rows) + "]"


class FormulaPrinter(LatexPrinter):
    """SymPy's LaTeX, with names of several letters upright and this project's symbols in their usual form."""

    def _print_Symbol(self, expr: Any, style: str = "plain") -> str:
        return name_to_latex(expr.name)

    def _print_Short(self, expr: Any) -> str:
        return name_to_latex(expr.name)

    def _print_Derivative(self, expr: Any) -> str:  # SymPy's runs the d of a second variable into the first's name
        sign = r"\partial" if len(expr.expr.free_symbols) > 1 else "d"
        order = sum(count for _, count in expr.variable_count)
        below = r" \, ".join(f"{sign} {_power(self._print(x), n)}" for x, n in expr.variable_count)
        inside = self.parenthesize(expr.expr, PRECEDENCE["Mul"], is_neg=False, strict=True)
        return rf"\frac{{{_power(sign, order)}}}{{{below}}} {inside}"

    def _hprint_Function(self, func: str) -> str:
        return super()._hprint_Function(func) if func.isalnum() else name_to_latex(func)


def _power(base: str, exponent: int) -> str:
    return base if exponent == 1 else f"{base}^{{{exponent}}}"


def name_to_latex(name: str) -> str:
    r"""Return a symbol's name in LaTeX.

    Example:
        >>> name_to_latex("w_h"), name_to_latex("pi_mode"), name_to_latex("E[r]")
        ('w_{h}', '\\pi_{\\mathrm{mode}}', 'E[r]')
        >>> name_to_latex("best path")
        '\\text{best path}'
    """
    if name in SPELLED:
        return SPELLED[name]
    if mean := re.fullmatch(r"E\[(\w+(?:\^\w+)?)\]", name):
        return f"E[{name_to_latex(mean[1])}]"
    if call := re.fullmatch(r"(\w+)\((.*)\)", name):
        inside = re.split(r"( \|\| |, )", call[2])
        written = "".join(r" \,\|\, " if x == " || " else x if x == ", " else name_to_latex(x) for x in inside)
        return f"{name_to_latex(call[1])}({written})"
    found = re.fullmatch(r"([A-Za-z]+)(\d*)(?:_([A-Za-z0-9]+|\*))?(?:\^([A-Za-z0-9]+|\*))?", name)
    if found is None:
        return rf"\text{{{escape(name)}}}"
    base, digits, below, above = found.groups()
    lower, upper = (digits or "") + _word(below), _word(above)
    whole = _word(base) + (f"_{{{lower}}}" if lower else "") + (f"^{{{upper}}}" if upper else "")
    return f"{{{whole}}}" if upper else whole  # so that it can have an exponent


def _word(part: str | None) -> str:
    if not part or len(part) == 1 or part.isdigit():
        return part or ""
    if part == "ell" or part in GREEK:
        return rf"\{part}"
    return rf"\mathrm{{{part}}}"


def escape(text: str) -> str:
    r"""Return plain text as LaTeX that prints it.

    Example:
        >>> escape("50 % of w_h")
        '50 \\% of w\\_h'
    """
    return "".join(SPECIAL.get(char, char) for char in text)


def to_line(expression: sp.Basic) -> str:
    """Return an expression on one line of text.

    Example:
        >>> from sharpen.theory.proofs.sums import PI, R, K, mean
        >>> to_line(sp.Eq(sp.Derivative(mean(R[K]), PI[K]), sp.Symbol("E[r]") ** 2))
        'd/dpi_k (sum_i(pi_i*r_k)) = E[r]^2'
    """
    return LinePrinter().doprint(expression)


def to_latex(expression: sp.Basic) -> str:
    r"""Return an expression in LaTeX, without delimiters.

    Example:
        >>> to_latex(sp.Symbol("J^*") - sp.Symbol("beta_inv"))
        '{J^{*}} - {\\beta^{-1}}'
    """
    return FormulaPrinter().doprint(expression)
