"""Names for expressions: what a formula is written with, and what a check puts in its place.

A result is stated in a few names (the covariance, a divergence) and proved in sums over outcomes. Here a name carries
its meaning, so that the formula which is printed and the one which is checked are one object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.core.symbol import Str

from sharpen.theory.proofs.sums import derivative, limit

ATOMIC = re.compile(r"[A-Za-z0-9_^*|@\[\]().,' /<]+")  # what a name may consist of: no sign, no equation


class Short(sp.Expr):
    """A name for an expression, which prints as the name.

    SymPy's rules see through it: it depends on what the expression depends on, and has its sign and its derivatives.

    Args:
        name: As it is printed.
        value: What it stands for.

    Raises:
        ValueError: The name is a formula (it has a sign or an equation in it).

    Example:
        >>> x = sp.Symbol("x")
        >>> square = Short("Q", x**2)
        >>> evaluate(sp.Derivative(square, x))
        2*x
    """

    def __new__(cls, name: str, value: Any) -> Any:
        """Return the name, an expression."""
        if not ATOMIC.fullmatch(str(name)):
            raise ValueError(f"{name!r} is a formula, not a name")
        return sp.Expr.__new__(cls, Str(str(name)), sp.sympify(value))

    @property
    def name(self) -> str:
        """As it is printed."""
        return str(self.args[0])

    @property
    def value(self) -> Any:
        """What it stands for."""
        return self.args[1]

    @property
    def definition(self) -> Any:
        """The equation of the name and what it stands for."""
        return sp.Eq(self, self.value, evaluate=False)

    @property
    def free_symbols(self) -> Any:
        """What the expression depends on."""
        return self.value.free_symbols

    def _eval_derivative(self, s: Any) -> Any:
        return self.value.diff(s)

    def _eval_is_positive(self) -> bool | None:
        return self.value.is_positive

    def _eval_is_nonnegative(self) -> bool | None:
        return self.value.is_nonnegative

    def _eval_is_negative(self) -> bool | None:
        return self.value.is_negative

    def _eval_is_real(self) -> bool | None:
        return self.value.is_real

    def _eval_is_commutative(self) -> bool | None:
        return getattr(self.value, "is_commutative", None)


def evaluate(expression: Any) -> Any:
    """Return the expression with names replaced by what they stand for, and derivatives, values and limits taken.

    Example:
        >>> x = sp.Symbol("x")
        >>> evaluate(sp.Subs(sp.Derivative(x**3, x), x, 2)), evaluate(sp.Limit(sp.exp(-x), x, sp.oo))
        (12, 0)
    """
    if _is(expression, sp.MatrixBase):
        return expression.applyfunc(evaluate)
    expression = sp.sympify(expression)
    if _is(expression, Short):
        return evaluate(expression.value)
    if _is(expression, sp.Derivative):
        found = evaluate(expression.expr)
        for x, order in expression.variable_count:
            for _ in range(int(order)):
                found = derivative(found, x) if isinstance(x, sp.Indexed) else sp.diff(found, x)
        return found
    if _is(expression, sp.Subs):
        where = zip(expression.variables, map(evaluate, expression.point), strict=True)
        return evaluate(expression.expr).subs(list(where), simultaneous=True)
    if _is(expression, sp.Limit):
        return limit(evaluate(expression.args[0]), *expression.args[1:3])
    if _is(expression, sp.Integral):
        return expression.doit()
    if _is(expression, sp.Sum):
        body: Any = sp.Sum(evaluate(expression.function), *expression.limits)
        return body if body.function.has(sp.Indexed) else body.doit()
    if not expression.args or _is(expression, sp.Indexed):
        return expression
    if _is(expression, sp.Max):
        return expression.rewrite(sp.Abs)
    return expression.func(*map(evaluate, expression.args))


def _is(part: Any, kind: type) -> bool:
    """Return isinstance(part, kind), without telling the type checker, to which SymPy's attributes are unknown."""
    return isinstance(part, kind)


def shorts(expression: Any) -> Iterator[Short]:
    """Yield the names in an expression, those inside another name's value after that name."""
    for part in sp.preorder_traversal(expression):
        if isinstance(part, Short):
            yield part


@dataclass(frozen=True)
class Word:
    """A word chosen from an expression, so that it cannot say anything else.

    Attributes:
        about: The expression.
        text: The word; empty if none of those offered fits.
    """

    about: Any
    text: str


# What a word says of the sign of the expression that it is chosen from. A test has this table a second time.
SIGN_OF = {
    **dict.fromkeys(("rise", "rises", "raises", "go up", "leads", "likelier", "cost", "the first"), "positive"),
    **dict.fromkeys(("fall", "falls", "lowers", "go down", "trails", "less likely", "gain", "the second"), "negative"),
    **dict.fromkeys(("little", "short", "turned", "worse", "exceeded", "leaves", "repels"), "positive"),
    **dict.fromkeys(("much", "in excess", "better", "settles", "attracts", "exists", "converge"), "negative"),
    **dict.fromkeys(("up", "help", "minimum", "only towards the better one"), "nonnegative"),
    **dict.fromkeys(("does not exist", "do not converge"), "nonnegative"),
    **dict.fromkeys(("down", "hurt", "maximum", "only away from it"), "nonpositive"),
    "approached and not attained": "negative",
    "kept": "zero",
}
# What a word says of a value, such as a limit.
VALUE_OF = {
    **dict.fromkeys(("everything", "is lost", "stays lost", "dies out", "stays"), sp.Integer(0)),
    **dict.fromkeys(("as much", "flips", "keeps what it has"), sp.Integer(1)),
    **dict.fromkeys(("has no bound", "takes over", "comes back", "leaves"), sp.oo),
}


def by_sign(expression: Any, *words: str) -> Word:
    """Return the one of some words that says the sign which SymPy derives for an expression.

    Example:
        >>> by_sign(-sp.Symbol("x", positive=True), "rises", "falls").text
        'falls'
    """
    value = evaluate(expression)
    return Word(expression, next((word for word in words if _has_sign(value, SIGN_OF[word])), ""))


def _has_sign(value: Any, sign: str) -> bool:
    return any(getattr(value, name, None) is True for name in (f"is_{sign}", f"is_extended_{sign}"))  # or infinite


def by_value(expression: Any, *words: str) -> Word:
    """Return the one of some words that says an expression's value.

    Example:
        >>> by_value(sp.oo, "is lost", "has no bound").text
        'has no bound'
    """
    return Word(expression, next((word for word in words if evaluate(expression) == VALUE_OF[word]), ""))


@dataclass(frozen=True)
class Values:
    """The values that a check runs over, which print as what they are and can be looped over.

    Attributes:
        name: What has them.
        values: In order.
    """

    name: Any
    values: tuple[Any, ...]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)


def runs(name: Any, values: Iterable[Any]) -> Values:
    """Return the values of ``name`` that a check covers."""
    return Values(name, tuple(values))


def numeric(expression: Any, *symbols: Any) -> Callable[..., Any]:
    """Return a claimed expression as a function of numbers."""
    return sp.lambdify(symbols, evaluate(expression))
