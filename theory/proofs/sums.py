"""Sums over n outcomes with n a symbol: what SymPy needs to be told about indices to prove identities for every n.

An identity between sums is proved here by writing every sum as a combination of sums that cannot be taken apart
further, over one index name a level, and then treating those as unknowns.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import sympy as sp

N = sp.Symbol("n", integer=True, positive=True)
I, J, K = sp.symbols("i j k", integer=True)  # noqa: E741 - indices; SymPy's imaginary unit is sp.I
# Any, because type checkers cannot see what SymPy's __new__ makes: they take an IndexedBase for a Basic.
PI: Any = sp.IndexedBase("pi", positive=True)  # the policy
P: Any = sp.IndexedBase("p", positive=True)  # the reference policy
U: Any = sp.IndexedBase("u", real=True)  # the potential of the objective
R: Any = sp.IndexedBase("r", real=True)  # the task reward
LOG_P: Any = sp.IndexedBase("ell", real=True)  # log p
# What has been proved, and limits: a proof with other draws or beside another claim asks most of it again.
KEPT = 4096
NOISE = 1e-9  # what SymPy's numbers, of 15 digits or more, may leave of a zero
Z = sp.Symbol("Z", positive=True)  # stands for a partition sum, so that SymPy knows that it is positive


def total(summand: sp.Expr, index: sp.Symbol = I) -> Any:
    """Return the sum of ``summand`` over the outcomes, index = 1..n."""
    return sp.Sum(summand, (index, 1, N))


def mean(values: sp.Expr, index: sp.Symbol = I) -> Any:
    """Return E_pi of values that depend on the index."""
    return total(PI[index] * values, index)


NORMALISED: Mapping[sp.Expr, sp.Expr] = {total(PI[I]): sp.Integer(1)}


def expand_sums(expression: Any) -> Any:
    """Return the expression with every sum split into its terms, constants taken out and Kronecker deltas summed.

    The free indices k of a delta are taken to lie in 1..n.

    Example:
        >>> c = sp.Symbol("c")
        >>> expand_sums(total(c * PI[J] + sp.KroneckerDelta(I, K), J) - c * total(PI[I]))
        n*KroneckerDelta(i, k)
    """
    if not expression.has(sp.Sum):
        return expression
    if isinstance(expression, sp.Sum):
        return _split(expression)
    inner = expression.func(*[expand_sums(part) for part in expression.args])
    return sp.expand(inner) if isinstance(inner, sp.Add | sp.Mul) else inner


def _split(given: Any) -> Any:
    if len(given.limits) > 1:
        return _split(sp.Sum(_split(sp.Sum(given.function, *given.limits[:-1])), given.limits[-1]))
    index, low, high = given.limits[0]
    parts: list[Any] = []
    for term in sp.Add.make_args(sp.expand(expand_sums(given.function))):
        factors = sp.Mul.make_args(term)
        outside = sp.Mul(*[factor for factor in factors if index not in factor.free_symbols])
        inside = [factor for factor in factors if index in factor.free_symbols]
        parts.append(outside * _sum_of(inside, index, low, high))
    return sp.expand(sp.Add(*parts))


def _sum_of(factors: list[Any], index: sp.Symbol, low: Any, high: Any) -> Any:
    if not factors:
        return high - low + 1
    for factor in factors:
        if isinstance(factor, sp.KroneckerDelta) and index in factor.args:
            other = next(part for part in factor.args if part != index)
            rest = sp.Mul(*[part for part in factors if part is not factor])
            return rest.subs(index, other)
    summand = sp.Mul(*factors)
    name = sp.Symbol(f"i_{_depth(summand) + 1}", integer=True)  # one for each level, so that equal sums look equal
    return sp.Sum(summand.xreplace({index: name}), (name, low, high))


def _depth(expression: Any) -> int:
    inner = max((_depth(part) for part in expression.args), default=0)
    return inner + isinstance(expression, sp.Sum)


def derivative(expression: sp.Expr, entry: sp.Expr) -> Any:
    """Return the derivative in one entry x[k], 1 <= k <= n, of an expression with sums over x."""
    return expand_sums(sp.diff(expression, entry))


def vanishes(expression: Any, given: Mapping[sp.Expr, sp.Expr] | None = None) -> bool:
    """Return whether SymPy proves that the expression is zero; False also where it cannot decide.

    Args:
        expression: May hold sums over n outcomes.
        given: Values of sums, as :data:`NORMALISED`, that hold by assumption.

    Example:
        >>> vanishes(mean(R[I] - mean(R[J], J)), NORMALISED), vanishes(mean(R[I] - mean(R[J], J)))
        (True, False)
    """
    return _vanishes(expression, tuple((given or {}).items()))


@lru_cache(maxsize=KEPT)
def _vanishes(expression: Any, given: tuple[tuple[Any, Any], ...]) -> bool:
    if not expression.has(sp.Sum) and expression.is_rational_function() and _rational(expression) == 0:
        return True  # to expand a fraction first can make it a thousand times as long, and take seconds
    reduced = sp.expand(expand_sums(expression))
    if given:
        reduced = sp.expand(expand_sums(reduced.xreplace({expand_sums(sp.sympify(x)): y for x, y in given})))
    sums = sorted(reduced.atoms(sp.Sum), key=sp.default_sort_key)
    reduced = reduced.xreplace({each: _unknown(each) for each in sums})
    for attempt in (sp.expand, _hyperbolic, _rational, sp.simplify, _exponentials):
        reduced = attempt(reduced)
        if reduced == 0:
            return True
        if attempt is _hyperbolic and _differs(reduced):  # what follows takes seconds where there is nothing to find
            return False
    return False


@lru_cache(maxsize=KEPT)
def limit(expression: Any, x: Any, point: Any) -> Any:
    """Return SymPy's limit of the expression as ``x`` rises (or, at 0, falls) to ``point``."""
    return sp.limit(expression, x, point)


def _differs(expression: Any) -> bool:
    """Return whether the expression is not zero at a point that its symbols may take; False where it has no number."""
    if expression.has(sp.Derivative, sp.Subs, sp.Limit, sp.Integral):  # they hold symbols that are no unknowns
        return False
    places = itertools.count()
    for kind in (sp.Indexed, sp.Symbol):  # first the entries, whose indices are no unknowns
        unknowns = sorted(expression.atoms(kind), key=sp.default_sort_key)
        expression = expression.xreplace({each: _value(each, next(places)) for each in unknowns})
    found = expression.evalf()
    return bool(found.is_number and found.is_finite and abs(found) > NOISE)


def _value(unknown: Any, place: int) -> Any:
    """Return a value that an unknown may take, another one at each place; n is more than the indices are."""
    found = 100 if unknown == N else place + 3 if unknown.is_integer else sp.Rational(place + 2, 2 * place + 3)
    return -sp.sympify(found) if unknown.is_nonpositive else sp.sympify(found)


def _unknown(given: Any) -> sp.Dummy:
    """Return a symbol for a sum, of which no more is known than that a sum of real or positive terms is the same."""
    some = all((high - low).is_nonnegative for _, low, high in given.limits)  # no terms add up to 0, not positive
    positive = (some and given.function.is_positive) or None
    return sp.Dummy(real=given.function.is_real or None, positive=positive)


def _hyperbolic(expression: sp.Expr) -> sp.Expr:
    inside = expression.has(sp.sinh, sp.cosh)
    return sp.expand(expression.rewrite(sp.exp)) if inside else expression


def _rational(expression: sp.Expr) -> sp.Expr:
    return sp.cancel(sp.together(expression)) if not expression.has(sp.Piecewise) else expression


def _exponentials(expression: sp.Expr) -> sp.Expr:
    return sp.simplify(sp.expand(sp.expand_log(expression.rewrite(sp.exp))))
