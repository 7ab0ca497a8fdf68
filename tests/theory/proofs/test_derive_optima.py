"""T1 to T4 and T7: the derivations hold, by the method they claim, and refuse every false claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp

from sharpen.theory.proofs.result import SYMBOLIC, Result, Theorem
from sharpen.theory.proofs.theorems import optima, response

FALSE: list[tuple[Theorem, str, Any]] = [
    (optima.T1, "gap", 2 * optima.W_H),
    (optima.T1, "gap", sp.Integer(1)),
    (optima.T1, "gap", -optima.W_H),
    (optima.T1, "optimum", sp.exp(optima.U[optima.K]) / optima.Z),
    (optima.T1, "optimum", sp.exp(2 * optima.U[optima.K] / optima.W_H) / optima.Z),
    (optima.T2, "conserved", 1),
    (optima.T2, "decides", 1),
    (optima.T3, "kept", sp.Integer(1)),
    (optima.T3, "kept", 2 * optima.ALPHA),
    (optima.T3, "concentrated", 1),
    (optima.T3, "concentrated", sp.oo),
    (response.T4, "sign", -1),
    (response.T4, "sign", 2),
    (response.T4, "spread", 2),
    (response.T7, "gain", response.ALPHA**2),
    (response.T7, "gain", sp.Integer(1)),
    (response.T7, "bound", sp.tanh(response.ALPHA * response.EPSILON)),
    (response.T7, "bound", sp.tanh(response.ALPHA * response.EPSILON / 4)),
    (response.T7, "bound", response.ALPHA * response.EPSILON / 2),
    (response.T7, "tilt", response.ALPHA),
    (response.T7, "tilt", 2 * response.BETA_INV),
]
THEOREMS = [optima.T1, optima.T2, optima.T3, response.T4, response.T7]


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.id)
@pytest.mark.parametrize("seed", [0, 1])
def test_derivation_holds(theorem: Theorem, seed: int, derived: Callable[..., Result]) -> None:
    result = derived(theorem, seed)
    assert [step.text for step in result.steps if not step.holds] == []
    assert result.holds
    assert result.method == SYMBOLIC
    assert result.error < 1e-7
    assert any(step.confirms and step.tolerance > 0 for step in result.steps)


@pytest.mark.parametrize(("theorem", "claim", "value"), FALSE)
def test_false_claim_is_refused(refuted: Callable[..., bool], theorem: Theorem, claim: str, value: Any) -> None:
    assert refuted(theorem, **{claim: value})


@pytest.mark.parametrize(
    ("theorem", "claim", "value"),
    [
        (optima.T1, "gap", 2 * optima.W_H),
        (optima.T3, "kept", 2 * optima.ALPHA),
        (response.T4, "sign", -1),
        (response.T4, "spread", 2),
        (response.T7, "bound", sp.tanh(response.ALPHA * response.EPSILON / 4)),
        (response.T7, "tilt", 2 * response.BETA_INV),
    ],
)
def test_false_claim_is_refused_in_numbers_too(theorem: Theorem, claim: str, value: Any) -> None:
    assert any(step.confirms and not step.holds for step in theorem.derive(**{claim: value}).steps)
