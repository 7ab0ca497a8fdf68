"""T8, T9 and T10: the derivations hold, and a false claim put through the same checks does not."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import sympy as sp

from sharpen.theory.proofs.result import EXHAUSTIVE, SYMBOLIC, Result, Theorem
from sharpen.theory.proofs.theorems.lengths import ALPHA, GO, RATIO, RHO, SLOPE, T8
from sharpen.theory.proofs.theorems.likelihood import BEST_CYCLE, BEST_PATH, CYCLE, MEAN, PERIOD, T10
from sharpen.theory.proofs.theorems.sequences import COOL_FIRST, EDGE, HERE, NEXT, POWER_FIRST, T9


@pytest.mark.parametrize(
    ("theorem", "method"), [(T8, SYMBOLIC), (T9, SYMBOLIC), (T10, EXHAUSTIVE)], ids=["T8", "T9", "T10"]
)
def test_holds_by_its_method_and_to_rounding(theorem: Theorem, method: str, derived: Callable[..., Result]) -> None:
    result = derived(theorem, 0)
    assert [step.text for step in result.steps if not step.holds] == []
    assert result.method == method
    assert result.error < 1e-9
    assert any(step.confirms for step in result.steps)


FALSE: list[tuple[Theorem, dict[str, Any]]] = [
    (T8, {"ratio": RATIO / GO**ALPHA}),
    (T8, {"ratio": RATIO * GO}),
    (T8, {"average": 1 / (1 - RHO)}),
    (T8, {"slope": SLOPE - sp.log(GO)}),
    (T8, {"slope": -SLOPE}),
    (T8, {"cooled": sp.Rational(20, 10)}),
    (T8, {"cooled": sp.Rational(18, 10)}),
    (T9, {"step": EDGE}),
    (T9, {"step": EDGE / HERE}),
    (T9, {"step": EDGE * HERE / NEXT}),
    (T9, {"critical": 2}),
    (T9, {"power_first": COOL_FIRST}),
    (T9, {"cool_first": POWER_FIRST}),
    (T10, {"limit": CYCLE}),
    (T10, {"limit": MEAN / PERIOD}),
    (T10, {"repeats": -1}),
    (T10, {"level": Fraction(1, 2)}),
    (T10, {"supremum": sp.Min(BEST_PATH, BEST_CYCLE)}),
    (T10, {"supremum": BEST_PATH}),
    (T10, {"supremum": BEST_CYCLE}),
    (T10, {"horizon": 2}),
]


@pytest.mark.parametrize(
    ("theorem", "claims"), FALSE, ids=[f"{t.id}-{next(iter(c))}-{i}" for i, (t, c) in enumerate(FALSE)]
)
def test_a_false_claim_fails(refuted: Callable[..., bool], theorem: Theorem, claims: dict[str, Any]) -> None:
    assert refuted(theorem, **claims)


@pytest.mark.parametrize(
    ("theorem", "claims"),
    [
        (T8, {"ratio": RATIO * GO}),
        (T8, {"average": 1 / RHO}),
        (T9, {"cool_first": POWER_FIRST}),
        (T10, {"supremum": sp.Min(BEST_PATH, BEST_CYCLE)}),
    ],
    ids=["ratio", "average", "temperature", "supremum"],
)
def test_a_false_claim_fails_in_numbers_too(theorem: Theorem, claims: dict[str, Any]) -> None:
    assert any(step.confirms and not step.holds for step in theorem.derive(**claims).steps)


def test_a_claim_in_another_form_holds_with_any_seed() -> None:
    assert T8.derive(seed=3, average=1 / (1 / RHO - 1)).holds
    assert T9.derive(seed=3, step=sp.exp(sp.log(NEXT) - sp.log(HERE)) * EDGE).holds
    assert T10.derive(seed=3, supremum=-sp.Min(-BEST_PATH, -BEST_CYCLE)).holds
