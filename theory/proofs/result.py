"""What a derivation is: steps that SymPy has checked, a statement made of what they checked, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from sharpen.theory.proofs.notation import Short, evaluate, shorts
from sharpen.theory.proofs.printers import to_latex
from sharpen.theory.proofs.prose import Text, say
from sharpen.theory.proofs.sums import N, limit, vanishes

SYMBOLIC, EXHAUSTIVE, RANDOMISED = "symbolic", "exhaustive", "randomised"
METHODS = (SYMBOLIC, EXHAUSTIVE, RANDOMISED)  # the strongest first
ALWAYS = say("all parameters")
ANY_N = say("any number {} of outcomes", N)
AN_EXAMPLE = say("an example, which is all that the claim needs")
RELATIONS = {"positive": sp.Gt, "negative": sp.Lt, "nonnegative": sp.Ge, "nonpositive": sp.Le}
Where = Mapping[Any, Any]


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a derivation.

    Attributes:
        text: What is done, one sentence.
        shown: The expression or equation, which is the one that was checked.
        method: ``symbolic``, ``exhaustive`` or ``randomised``.
        scope: What the check covers.
        confirms: Whether the step compares the result with independent numbers, as opposed to proving a part of it.
        error: Largest discrepancy of the numbers; 0 for a symbolic check.
        tolerance: Largest discrepancy that counts as rounding; 0 for a symbolic check.
        holds: Whether the check passed.
        assuming: The equations that a symbolic check took for granted: sums of known value.
        where: The definitions of names that appear for the first time, and what the check put in for symbols.
    """

    text: Text
    shown: sp.Basic
    method: str
    scope: Text
    confirms: bool
    error: float
    tolerance: float
    holds: bool
    assuming: tuple[sp.Basic, ...] = ()
    where: tuple[sp.Basic, ...] = ()


@dataclass(frozen=True, eq=False)
class Result:
    """A result of the theory with its derivation.

    Attributes:
        id: ``T1`` ... ``T26``.
        title: A few words.
        statement: The result, its formulas those that the steps checked.
        steps: The derivation in order.
    """

    id: str
    title: str
    statement: Text
    steps: tuple[Step, ...]

    def row(self) -> dict[str, Any]:
        """Return the verdict as a row of a table."""
        about = {"id": self.id, "title": self.title, "holds": self.holds, "method": self.method}
        return {**about, "steps": len(self.steps), "error": self.error}

    @property
    def formulas(self) -> tuple[sp.Basic, ...]:
        """The equations and inequalities of the statement, in order."""
        return tuple(part for part in self.statement.formulas() if isinstance(part, Relational))

    @property
    def latex(self) -> str:
        """These in LaTeX, divided by wide spaces."""
        return r", \qquad ".join(to_latex(each) for each in self.formulas)

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

    Every method that adds a step returns the relation that it checked, for the statement and for other steps' text.

    Attributes:
        rng: Where numerical confirmations draw from.
        steps: The steps so far.
        statement: The result in words; None until :meth:`state`.
    """

    rng: np.random.Generator
    steps: list[Step] = field(default_factory=list)
    statement: Text | None = None
    _named: set[Short] = field(default_factory=set)
    _checked: set[Any] = field(default_factory=set)
    _quoted: list[Any] = field(default_factory=list)

    def equal(
        self,
        text: Text,
        left: Any,
        right: Any,
        *,
        name: str = "",
        by: Any = None,
        given: Where | None = None,
        where: Where | None = None,
        scope: Text = ALWAYS,
    ) -> Any:
        """Add the step left = right, which holds if SymPy proves that the difference vanishes.

        Args:
            text: The sentence.
            left: An expression or a matrix, with names, derivatives, limits and values not yet taken.
            right: The same.
            name: Shown for the left side, which is its definition.
            by: Another form of the left side, from which SymPy gets to the right one; proved equal to it.
            given: Sums whose value is known, see :func:`sharpen.theory.proofs.sums.vanishes`.
            where: What the check puts in for symbols.
            scope: What the symbols range over.
        """
        shown = sp.Eq(Short(name, left) if name else left, right, evaluate=False)
        first = _put(evaluate(left), where)
        holds = by is None or _same(first, by, given)
        holds = holds and _same(first if by is None else by, _put(evaluate(right), where), given)
        return self._add(text, shown, SYMBOLIC, scope, holds, given=given, where=where, by=by)

    def has_sign(
        self,
        text: Text,
        expression: Any,
        sign: str,
        *,
        name: str = "",
        by: Any = None,
        where: Where | None = None,
        scope: Text = ALWAYS,
    ) -> Any:
        """Add the step that the expression is ``positive``, ``negative``, ``nonnegative`` or ``nonpositive``.

        It holds if SymPy derives the sign from the signs of the symbols.

        Args:
            text: The sentence.
            expression: What has the sign.
            sign: The claim.
            name: Shown for the expression.
            by: Another form of it, in which SymPy sees the sign; proved equal to it.
            where: What the check puts in for symbols.
            scope: What the symbols range over.
        """
        return self.compare(text, Short(name, expression) if name else expression, sign, 0, by=by, where=where,
                            scope=scope)  # fmt: skip

    def compare(
        self,
        text: Text,
        left: Any,
        sign: str,
        right: Any,
        *,
        by: Any = None,
        where: Where | None = None,
        scope: Text = ALWAYS,
    ) -> Any:
        """Add the step that left - right has a sign, shown as an inequality; see :meth:`has_sign`."""
        difference = _put(evaluate(left) - evaluate(sp.sympify(right)), where)
        known = difference if by is None else by
        holds = getattr(known, f"is_{sign}") is True and (by is None or _same(sp.simplify(difference), by))
        shown = RELATIONS[sign](left, right, evaluate=False)
        return self._add(text, shown, SYMBOLIC, scope, holds, where=where, by=by)

    def limit(
        self,
        text: Text,
        expression: Any,
        x: sp.Symbol,
        point: Any,
        value: Any,
        *,
        where: Where | None = None,
        scope: Text = ALWAYS,
    ) -> Any:
        """Add the step that the expression tends to ``value`` as ``x`` rises (or, at 0, falls) to ``point``."""
        claim = sp.Eq(sp.Limit(expression, x, point), value, evaluate=False)
        inside, expected = _put(evaluate(expression), where), _put(evaluate(sp.sympify(value)), where)
        found = limit(inside, x, point)
        holds = found == expected or (found.is_finite is True and _same(found, expected))
        return self._add(text, claim, SYMBOLIC, scope, holds, where=where)

    def cases(self, text: Text, shown: Any, pairs: Iterable[tuple[Any, Any]], scope: Text, again: bool = False) -> Any:
        """Add the step that two exact expressions agree in every case; see :meth:`check`."""
        return self.check(text, shown, [_same(left, right) for left, right in pairs], scope, again)

    def check(self, text: Text, shown: Any, verdicts: Iterable[bool], scope: Text, again: bool = False) -> Any:
        """Add the step that an exact statement is true in each of finitely many cases, at least one.

        Args:
            text: The sentence.
            shown: What to show.
            verdicts: Whether it is true, case by case.
            scope: Which cases.
            again: Whether other steps prove the statement already, so that this one confirms it.
        """
        seen = [bool(verdict) for verdict in verdicts]
        counted = say("{}: {} cases", scope, len(seen))
        return self._add(text, shown, EXHAUSTIVE, counted, bool(seen) and all(seen), confirms=again)

    def confirm(self, text: Text, shown: Any, errors: Iterable[float], tolerance: float, scope: Text) -> None:
        """Add the confirmation that discrepancies with an independent calculation are at most the tolerance.

        What is shown has to be a name, or what another step checks.
        """
        self._quoted.append(sp.sympify(shown))
        self._measure(text, shown, errors, tolerance, scope)

    def measured(self, text: Text, name: Any, value: Any, samples: Iterable[float], tolerance: float,
                 scope: Text) -> Any:  # fmt: skip
        """Add the confirmation that what was measured is ``value`` up to the tolerance; return name = value."""
        claim = sp.Eq(name, value, evaluate=False)
        self._checked.add(claim)
        self._measure(text, claim, [float(sample) - float(value) for sample in samples], tolerance, scope)
        return claim

    def state(self, template: str, *parts: Any) -> None:
        """Say what has been derived, in words and in the relations that the steps returned."""
        self.statement = say(template, *parts)

    def close(self) -> None:
        """Add a step that fails for each formula of the text that no step has checked, and for a missing statement."""
        texts = [text for step in self.steps for text in (step.text, step.scope)] + [self.statement or say("")]
        loose = [each for text in texts for each in text.formulas() if not self._known(each)]
        loose += [each for each in self._quoted if not self._known(each)]
        undecided = any(text.undecided() for text in texts)
        if loose or undecided or self.statement is None:
            words = say("The text has words or formulas that no step has checked.")
            shown = sp.Tuple(*dict.fromkeys(loose)) if loose else sp.Symbol("no statement" if not undecided else "?")
            self._add(words, shown, SYMBOLIC, ALWAYS, False)

    def _measure(self, text: Text, shown: Any, errors: Iterable[float], tolerance: float, scope: Text) -> None:
        seen = np.abs(np.array([float(error) for error in errors]))
        worst = float(np.max(seen)) if seen.size else float("nan")
        holds = bool(worst <= tolerance)
        self._add(text, shown, RANDOMISED, scope, holds, confirms=True, error=worst, tolerance=tolerance)

    def _known(self, formula: Any) -> bool:
        """Return whether a formula is a name, part of what a step checked, or true by definition."""
        formula = sp.sympify(formula)
        if formula in self._checked or formula.is_Atom or isinstance(formula, Short | sp.Indexed | sp.IndexedBase):
            return True
        if isinstance(formula, AppliedUndef | sp.Tuple):
            return all(self._known(part) for part in formula.args)
        if isinstance(formula, sp.Limit):
            return self._known(formula.args[0])
        if isinstance(formula, sp.Add) and (constant := formula.as_coeff_Add()[0]):
            return self._known(formula - constant)
        if isinstance(formula, sp.Eq):
            return _same(evaluate(formula.lhs), evaluate(formula.rhs))
        if isinstance(formula, Relational):
            sign = next((sign for sign, relation in RELATIONS.items() if isinstance(formula, relation)), "zero")
            return getattr(evaluate(formula.lhs) - evaluate(formula.rhs), f"is_{sign}") is True
        return False

    def _add(
        self,
        text: Text,
        shown: Any,
        method: str,
        scope: Text,
        holds: bool,
        *,
        confirms: bool = False,
        error: float = 0.0,
        tolerance: float = 0.0,
        given: Where | None = None,
        where: Where | None = None,
        by: Any = None,
    ) -> Any:
        shown = sp.sympify(shown)
        assuming = tuple(sp.Eq(known, value, evaluate=False) for known, value in (given or {}).items())
        put = tuple(sp.Eq(known, value, evaluate=False) for known, value in (where or {}).items())
        names = dict.fromkeys(name for each in (shown, *text.formulas()) for name in shorts(each))
        new = tuple(name.definition for name in names if name not in self._named)
        self._named |= set(names)
        if method != RANDOMISED:
            for each in (shown, *assuming, *put, *new, sp.sympify(by)):
                self._checked |= set(sp.preorder_traversal(each))
        self.steps.append(Step(text, shown, method, scope, confirms, error, tolerance, holds, assuming, (*put, *new)))
        return shown


def _put(expression: Any, where: Where | None) -> Any:
    return expression.subs(dict(where)) if where else expression


def _same(left: Any, right: Any, given: Where | None = None) -> bool:
    difference = sp.sympify(left) - sp.sympify(right)
    entries = difference.flat() if isinstance(difference, sp.MatrixBase) else [difference]
    return all(vanishes(entry, given) for entry in entries)


@dataclass(frozen=True)
class Theorem:
    """A result before it is derived.

    Attributes:
        id: ``T1`` ... ``T26``.
        title: A few words.
        prove: Adds the steps and states the result. Its keyword arguments are the claims that it checks, with the true
            ones as defaults, so that a false claim can be put through the same checks.
    """

    id: str
    title: str
    prove: Callable[..., None]

    def derive(self, seed: int = 0, **claims: Any) -> Result:
        """Return the result, derived now.

        Args:
            seed: Of the numerical confirmations.
            **claims: Replacements of claims, by the names of ``prove``'s keyword arguments.
        """
        derivation = Derivation(np.random.default_rng([seed, int(self.id.removeprefix("T"))]))
        self.prove(derivation, **claims)
        derivation.close()
        return Result(self.id, self.title, derivation.statement or say(""), tuple(derivation.steps))
