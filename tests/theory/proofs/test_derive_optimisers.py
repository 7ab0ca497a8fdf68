"""T26 holds by the method it claims, refuses every false claim, and its numbers alone refuse a false border."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp

from sharpen.theory.proofs.result import SYMBOLIC, Result
from sharpen.theory.proofs.theorems.optimisers import meansquare
from sharpen.theory.proofs.theorems.optimisers.meansquare import T26

FALSE: list[tuple[str, Any]] = [
    ("pull", -1),
    ("across", meansquare.SPREAD**2 / meansquare.GROUP),
    ("border", 2 * meansquare.BORDER),
    ("border", meansquare.BORDER.subs(meansquare.TOKENS, 1)),
    ("rate", meansquare.ETA),
    ("least", 2),
]


@pytest.mark.parametrize("seed", [0, 1])
def test_derivation_holds(seed: int, derived: Callable[..., Result]) -> None:
    result = derived(T26, seed)
    assert [step.text for step in result.steps if not step.holds] == []
    assert result.method == SYMBOLIC
    assert any(step.confirms and step.tolerance > 0 for step in result.steps)


@pytest.mark.parametrize(("claim", "value"), FALSE)
def test_false_claim_is_refused(refuted: Callable[..., bool], claim: str, value: Any) -> None:
    assert refuted(T26, **{claim: value})


def test_the_eigenvalues_refuse_a_false_border_by_themselves() -> None:
    steps = T26.derive(border=meansquare.BORDER * (1 + sp.Rational(1, 1000))).steps
    assert any(step.confirms and not step.holds for step in steps)
