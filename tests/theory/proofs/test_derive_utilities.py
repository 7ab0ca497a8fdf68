"""T17 to T20 hold by the method they claim, and refuse every false claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp

from sharpen.theory.proofs.result import EXHAUSTIVE, SYMBOLIC, Result, Theorem
from sharpen.theory.proofs.theorems.family import utilities
from sharpen.theory.proofs.theorems.family.utilities import T17, T18, T19, T20

FALSE: list[tuple[Theorem, str, Any]] = [
    (T17, "power", utilities.WRONG_POWER),
    (T17, "right", utilities.WRONG_POWER),
    (T17, "wrong", utilities.RIGHT_POWER),
    (T17, "response", -1),
    (T18, "rest", 2),
    (T18, "slope", 2 * sp.cosh(utilities.X)),
    (T18, "fold", utilities.FOLD + 1),
    (T18, "fold", utilities.FOLD.subs(utilities.BETA, 1 / utilities.BETA)),
    (T18, "at_fold", 1 - utilities.AT_FOLD),
    (T19, "zero", utilities.GROUP),
    (T19, "minus", utilities.GROUP - 1),
    (T20, "factor", utilities.TRUE_RATE),
    (T20, "factor", utilities.FALSE_RATE - utilities.TRUE_RATE),
]


@pytest.mark.parametrize("theorem", [T17, T18, T19, T20], ids=lambda theorem: theorem.id)
@pytest.mark.parametrize("seed", [0, 1])
def test_derivation_holds(theorem: Theorem, seed: int, derived: Callable[..., Result]) -> None:
    result = derived(theorem, seed)
    assert [step.text for step in result.steps if not step.holds] == []
    assert result.method == (EXHAUSTIVE if theorem.id == "T19" else SYMBOLIC)
    assert any(step.confirms and step.tolerance > 0 for step in result.steps)


@pytest.mark.parametrize(("theorem", "claim", "value"), FALSE)
def test_false_claim_is_refused(refuted: Callable[..., bool], theorem: Theorem, claim: str, value: Any) -> None:
    assert refuted(theorem, **{claim: value})


def test_the_grid_refuses_a_false_fold_by_itself() -> None:
    steps = T18.derive(fold=utilities.FOLD - 1).steps
    assert any(step.confirms and not step.holds for step in steps)
