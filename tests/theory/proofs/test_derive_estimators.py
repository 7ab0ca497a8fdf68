"""The derivation about gradient estimators holds, by the method it claims, and refuses every false claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp

from sharpen.theory.proofs.result import SYMBOLIC, Result
from sharpen.theory.proofs.theorems import estimators
from sharpen.theory.proofs.theorems.estimators import GROUP, T14

HALF = sp.Rational(1, 2)
FALSE: list[tuple[str, Any]] = [
    ("k1_reward", (0, 1)),
    ("k1_loss", (1, 0)),
    ("k2_loss", (0, 1)),
    ("k3_loss", (1, 0)),
    ("k3_reward", (1, 0)),
    ("k3_reward", (1, 1)),
    ("bernoulli", (sp.log(3), sp.Rational(15, 8))),
    ("bernoulli", (sp.log(4), sp.Rational(17, 8))),
    ("scatter", 2 * estimators.SCATTER),
    ("rloo", 2),
    ("shrink", 1 - 1 / (2 * GROUP)),
    ("grpo", (-HALF, sp.Integer(0), HALF)),
    ("tokens", (sp.Rational(2, 9), sp.Rational(-1, 9), sp.Rational(-1, 9))),
]


@pytest.mark.parametrize("seed", [0, 1])
def test_derivation_holds(seed: int, derived: Callable[..., Result]) -> None:
    result = derived(T14, seed)
    assert [step.text for step in result.steps if not step.holds] == []
    assert result.holds
    assert result.method == SYMBOLIC
    assert result.error < 1e-5
    assert any(step.confirms and step.tolerance > 0 for step in result.steps)


@pytest.mark.parametrize(("claim", "value"), FALSE)
def test_false_claim_is_refused(refuted: Callable[..., bool], claim: str, value: Any) -> None:
    assert refuted(T14, **{claim: value})
