"""The derivations on forecasts and audits hold, by the method they claim, and refuse every false claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp

from sharpen.theory.proofs.result import EXHAUSTIVE, SYMBOLIC, Result, Theorem
from sharpen.theory.proofs.theorems import audit, forecast, selfmap

THEOREMS = [audit.T15, audit.T16, forecast.T21, forecast.T22, forecast.T23, selfmap.T24, forecast.T25]
FALSE: list[tuple[Theorem, str, Any]] = [
    (audit.T15, "power", -audit.EXCESS * sp.log(1 + audit.GAP)),
    (audit.T15, "low", audit.RIGHT / audit.SEEN),
    (audit.T15, "high", (audit.RIGHT + audit.UNSEEN) / (audit.SEEN + audit.UNSEEN)),
    (audit.T16, "moment", 2),
    (audit.T16, "bend", 1),
    (audit.T16, "rest", 2),
    (forecast.T21, "power", forecast.ALPHA),
    (forecast.T21, "inflation", 2 * forecast.ALPHA),
    (forecast.T21, "pairs", 2),
    (forecast.T22, "fewer", 2),
    (forecast.T22, "fewer", 0),
    (forecast.T22, "shift", -forecast.MIDDLE),
    (forecast.T23, "gain", -1),
    (forecast.T23, "cost", sp.Integer(1)),
    (selfmap.T24, "loss", 2 / selfmap.COPIES),
    (selfmap.T24, "rate", sp.log(4 * selfmap.MASS * (1 - selfmap.MASS))),
    (forecast.T25, "drop", 0),
    (forecast.T25, "drop", 2),
]


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.id)
@pytest.mark.parametrize("seed", [0, 1])
def test_derivation_holds(theorem: Theorem, seed: int, derived: Callable[..., Result]) -> None:
    result = derived(theorem, seed)
    assert [step.text for step in result.steps if not step.holds] == []
    assert result.method == (EXHAUSTIVE if theorem.id == "T22" else SYMBOLIC)
    assert any(step.confirms for step in result.steps)


@pytest.mark.parametrize(("theorem", "claim", "value"), FALSE)
def test_false_claim_is_refused(refuted: Callable[..., bool], theorem: Theorem, claim: str, value: Any) -> None:
    assert refuted(theorem, **{claim: value})
