"""What a derivation is: steps that SymPy has checked, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory.proofs.sums import vanishes

SYMBOLIC, EXHAUSTIVE, RANDOMISED = "symbolic", "exhaustive", "randomised"
METHODS = (SYMBOLIC, EXHAUSTIVE, RANDOMISED)  # the strongest first
ALWAYS = "all parameters"
ANY_N = "any number n of outcomes"


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a derivation.

    Attributes:
        text: What is done, one sentence.
        shown: The expression or equation.
        method: ``symbolic``, ``exhaustive`` or ``randomised``.
        scope: What the check covers.
        confirms: Whether the step compares the result with independent numbers, as opposed to proving a part of it.
        error: Largest discrepancy of the numbers; 0 for a symbolic check.
        tolerance: Largest discrepancy that counts as rounding; 0 for a symbolic check.
        holds: Whether the check passed.
        assuming: The equations that a symbolic check took for granted: sums of known value.
    """

    text: str
    shown: sp.Basic
    method: str
    scope: str
    confirms: bool
    error: float
    tolerance: float
    holds: bool
    assuming: tuple[sp.Basic, ...] = ()


@dataclass(frozen=True, eq=False)
class Result:
    """A result of the theory with its derivation.

    Attributes:
        id: ``T1`` ... ``T14``.
        title: A few words.
        statement: The result, in plain text.
        latex: The result, in LaTeX.
        steps: The derivation in order.
    """

    id: str
    title: str
    statement: str
    latex: str
    steps: tuple[Step, ...]

    @property
    def holds(self) -> bool:
        """Whether there are steps and every check passed."""
        return bool(self.steps) and all(step.holds for step in self.steps)

    @property
    def method(self) -> str:
        """The weakest method among the steps that prove something; ``randomised`` where steps only confirm."""
        return max((step.method for step in self.steps if not step.confirms), key=METHODS.index, default=RANDOMISED)

    @property
    def error(self) -> float:
        """The largest discrepancy seen in a numerical confirmation; NaN if one was not a number or there is no step."""
        return float(np.max([step.error for step in self.steps] or [np.nan]))


@dataclass
class Derivation:
    """Checks steps and keeps them in order.

    Attributes:
        rng: Where numerical confirmations draw from.
        steps: The steps so far.
    """

    rng: np.random.Generator
    steps: list[Step] = field(default_factory=list)

    def equal(
        self,
        text: str,
        left: Any,
        right: Any,
        *,
        shown: Any = None,
        given: Mapping[sp.Expr, sp.Expr] | None = None,
        scope: str = ALWAYS,
    ) -> None:
        """Add the step left = right, which holds if SymPy proves that the difference vanishes.

        Args:
            text: The sentence.
            left: An expression or a matrix.
            right: The same.
            shown: What to show as the left side, if another form of it says more.
            given: Sums whose value is known, see :func:`sharpen.theory.proofs.sums.vanishes`.
            scope: What the symbols range over.
        """
        equation = sp.Eq(left if shown is None else shown, right, evaluate=False)
        self._add(text, equation, SYMBOLIC, scope, _same(left, right, given), given=given)

    def has_sign(self, text: str, expression: sp.Expr, sign: str, *, shown: Any = None, scope: str = ALWAYS) -> None:
        """Add the step that the expression is ``positive``, ``negative``, ``nonnegative`` or ``nonpositive``.

        It holds if SymPy derives the sign from the signs of the symbols.
        """
        relation = {"positive": sp.Gt, "negative": sp.Lt, "nonnegative": sp.Ge, "nonpositive": sp.Le}[sign]
        visible = relation(expression if shown is None else shown, 0, evaluate=False)
        self._add(text, visible, SYMBOLIC, scope, getattr(expression, f"is_{sign}") is True)

    def limit(
        self, text: str, expression: sp.Expr, x: sp.Symbol, point: Any, value: Any, *, scope: str = ALWAYS
    ) -> None:
        """Add the step that the expression tends to ``value`` as ``x`` rises (or, at 0, falls) to ``point``."""
        claim = sp.Eq(sp.Limit(expression, x, point), value, evaluate=False)
        found = sp.limit(expression, x, point)
        self._add(text, claim, SYMBOLIC, scope, found == value or (found.is_finite is True and _same(found, value)))

    def cases(self, text: str, shown: Any, pairs: Iterable[tuple[Any, Any]], scope: str, again: bool = False) -> None:
        """Add the step that two exact expressions agree in every case; see :meth:`check`."""
        self.check(text, shown, [_same(left, right) for left, right in pairs], scope, again)

    def check(self, text: str, shown: Any, verdicts: Iterable[bool], scope: str, again: bool = False) -> None:
        """Add the step that an exact statement is true in each of finitely many cases, at least one.

        Args:
            text: The sentence.
            shown: What to show.
            verdicts: Whether it is true, case by case.
            scope: Which cases.
            again: Whether other steps prove the statement already, so that this one confirms it.
        """
        seen = [bool(verdict) for verdict in verdicts]
        self._add(text, shown, EXHAUSTIVE, f"{scope}: {len(seen)} cases", bool(seen) and all(seen), again)

    def confirm(self, text: str, shown: Any, errors: Iterable[float], tolerance: float, scope: str) -> None:
        """Add the confirmation that discrepancies with an independent calculation are at most the tolerance."""
        seen = np.abs(np.array([float(error) for error in errors]))
        worst = float(np.max(seen)) if seen.size else float("nan")
        self.steps.append(
            Step(text, sp.sympify(shown), RANDOMISED, scope, True, worst, tolerance, bool(worst <= tolerance))
        )

    def _add(
        self,
        text: str,
        shown: Any,
        method: str,
        scope: str,
        holds: bool,
        confirms: bool = False,
        given: Mapping[sp.Expr, sp.Expr] | None = None,
    ) -> None:
        assuming = tuple(sp.Eq(known, value, evaluate=False) for known, value in (given or {}).items())
        self.steps.append(Step(text, sp.sympify(shown), method, scope, confirms, 0.0, 0.0, holds, assuming))


def _same(left: Any, right: Any, given: Mapping[sp.Expr, sp.Expr] | None = None) -> bool:
    difference = sp.sympify(left) - sp.sympify(right)
    entries = difference.flat() if isinstance(difference, sp.MatrixBase) else [difference]
    return all(vanishes(entry, given) for entry in entries)


@dataclass(frozen=True)
class Theorem:
    """A result before it is derived.

    Attributes:
        id: ``T1`` ... ``T14``.
        title: A few words.
        statement: In plain text.
        latex: In LaTeX.
        prove: Adds the steps. Its keyword arguments are the claims that it checks, with the true ones as defaults, so
            that a false claim can be put through the same checks.
    """

    id: str
    title: str
    statement: str
    latex: str
    prove: Callable[..., None]

    def derive(self, seed: int = 0, **claims: Any) -> Result:
        """Return the result, derived now.

        Args:
            seed: Of the numerical confirmations.
            **claims: Replacements of claims, by the names of ``prove``'s keyword arguments.
        """
        derivation = Derivation(np.random.default_rng([seed, int(self.id.removeprefix("T"))]))
        self.prove(derivation, **claims)
        return Result(self.id, self.title, self.statement, self.latex, tuple(derivation.steps))
