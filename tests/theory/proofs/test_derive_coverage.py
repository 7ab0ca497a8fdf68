"""T5 and T6: the derivations hold, and a false claim put through the same checks does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp

from sharpen.theory.proofs.result import EXHAUSTIVE, SYMBOLIC, Result, Theorem
from sharpen.theory.proofs.theorems.answers import ALPHA, FLIP, MASS, SPREAD, T5
from sharpen.theory.proofs.theorems.coverage import KEPT, RIGHT, SAMPLES, SUCCESS, T6, TIED, VOTES


@pytest.mark.parametrize(("theorem", "method"), [(T5, SYMBOLIC), (T6, EXHAUSTIVE)], ids=["T5", "T6"])
def test_holds_by_its_method_and_to_rounding(theorem: Theorem, method: str, derived: Callable[..., Result]) -> None:
    result = derived(theorem, 0)
    assert [step.text for step in result.steps if not step.holds] == []
    assert result.method == method
    assert result.error < 1e-7
    assert any(step.confirms for step in result.steps)


@pytest.mark.parametrize(
    ("theorem", "claims"),
    [
        (T5, {"spread": MASS**ALPHA}),
        (T5, {"flip": sp.Rational(241, 100)}),
        (T5, {"flip": 1 / FLIP}),
        (T5, {"exponent": ALPHA - 1}),
        (T6, {"failure": 1 - SUCCESS * VOTES}),
        (T6, {"failure": (1 - SUCCESS) ** (VOTES + 1)}),
        (T6, {"kept": (1 - RIGHT / SAMPLES) ** VOTES}),
        (T6, {"kept": KEPT.subs(SAMPLES, SAMPLES + 1)}),
        (T6, {"tie": 1 / (2 + TIED)}),
        (T6, {"tie": sp.Integer(1)}),
        (T6, {"crossing": 2}),
        (T6, {"crossing": 4}),
    ],
    ids=lambda value: value.id if isinstance(value, Theorem) else str(value),
)
def test_a_false_claim_fails(refuted: Callable[..., bool], theorem: Theorem, claims: dict[str, Any]) -> None:
    assert refuted(theorem, **claims)


def test_a_false_tie_fails_against_the_samples_as_well() -> None:
    steps = T6.derive(tie=1 / (2 + TIED)).steps
    failed = [step.text for step in steps if not step.holds]
    assert any(text.startswith("What a winner gets") for text in failed)
    assert any(text.startswith("maj@k") for text in failed)


@pytest.mark.parametrize(
    ("theorem", "claims"),
    [(T5, {"flip": sp.Integer(2)}), (T5, {"exponent": 2 * ALPHA}), (T6, {"crossing": 5})],
    ids=["flip", "exponent", "crossing"],
)
def test_a_false_claim_fails_in_numbers_too(theorem: Theorem, claims: dict[str, Any]) -> None:
    assert any(step.confirms and not step.holds for step in theorem.derive(**claims).steps)


def test_a_claim_in_another_form_holds_with_any_seed() -> None:
    same: Any = MASS * (SPREAD / MASS) ** (1 - ALPHA)
    assert T5.derive(seed=7, spread=same).holds
