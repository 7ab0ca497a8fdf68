"""The derivations about dynamics hold, by the method they claim, and refuse every false claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp

from sharpen.theory.proofs.result import SYMBOLIC, Result, Theorem
from sharpen.theory.proofs.sums import PI, I, J, K, N, mean
from sharpen.theory.proofs.theorems import dynamics, selfmap

THEOREMS = [selfmap.T11, dynamics.T12]
LOW = sp.Integer(0)
FALSE: list[tuple[Theorem, str, Any]] = [
    (selfmap.T11, "exponent", selfmap.ALPHA * (selfmap.ROUNDS + 1)),
    (selfmap.T11, "exponent", selfmap.ALPHA ** (selfmap.ROUNDS + 1)),
    (selfmap.T11, "count", 2**N),
    (selfmap.T11, "inside", selfmap.ALPHA - 1),
    (selfmap.T11, "across", (LOW, LOW, sp.oo)),
    (selfmap.T11, "across", (LOW, sp.Integer(1), LOW)),
    (selfmap.T11, "stable", (N - 1, sp.Integer(1))),
    (selfmap.T11, "stable", (N, sp.Integer(2))),
    (selfmap.T11, "rate", -2 * selfmap.GAP),
    (dynamics.T12, "speed", PI[K] ** 2),
    (dynamics.T12, "speed", sp.Integer(1)),
    (dynamics.T12, "order", 1),
    (dynamics.T12, "order", 3),
    (dynamics.T12, "euler", 2),
    (dynamics.T12, "inside", dynamics.W_H),
    (dynamics.T12, "across", sp.Integer(0)),
    (dynamics.T12, "climbs", mean(mean((dynamics.A[I] - dynamics.A[J]) ** 2, J))),
]


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.id)
def test_derivation_holds(theorem: Theorem, derived: Callable[..., Result]) -> None:
    result = derived(theorem, 0)
    assert [step.text for step in result.steps if not step.holds] == []
    assert result.holds
    assert result.method == SYMBOLIC
    assert any(step.confirms and step.tolerance > 0 for step in result.steps)


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.id)
def test_numbers_agree_for_other_draws(theorem: Theorem) -> None:
    assert theorem.derive(seed=1).holds


@pytest.mark.parametrize(("theorem", "claim", "value"), FALSE)
def test_false_claim_is_refused(refuted: Callable[..., bool], theorem: Theorem, claim: str, value: Any) -> None:
    assert refuted(theorem, **{claim: value})
