"""T13: the derivation holds, by the method it claims, and refuses every false claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sympy as sp

from sharpen.theory.proofs.result import SYMBOLIC, Result
from sharpen.theory.proofs.theorems import finite_samples
from sharpen.theory.proofs.theorems.finite_samples import CLIMB, COUNT, GAP, GROUP, SELECTION, SQUARE, T13

FALSE: list[tuple[str, Any]] = [
    ("drift", 2),
    ("drift", -1),
    ("square", 2 * SQUARE),
    ("square", GAP**2 * finite_samples.SPREAD / GROUP),
    ("moves", GROUP - 1),
    ("climb", CLIMB - COUNT),
    ("climb", 2 * CLIMB),
    ("selection", 2 * SELECTION),
    ("selection", SELECTION / GROUP),
]


@pytest.fixture
def fewer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the simulations out of what only the exact checks have to refuse."""
    from sharpen.theory.proofs.numbers import finite_samples as finite_samples_numbers

    monkeypatch.setattr(finite_samples_numbers, "CHAINS", 20)
    monkeypatch.setattr(finite_samples_numbers, "RACERS", 20)
    monkeypatch.setattr(finite_samples_numbers, "RACES", finite_samples_numbers.RACES[-1:])


def test_derivation_holds(derived: Callable[..., Result]) -> None:
    result = derived(T13, 0)
    assert [step.text for step in result.steps if not step.holds] == []
    assert result.holds
    assert result.method == SYMBOLIC
    assert any(step.confirms and step.tolerance > 0 for step in result.steps)


@pytest.mark.parametrize(("claim", "value"), FALSE)
@pytest.mark.usefixtures("fewer_runs")
def test_false_claim_is_refused(refuted: Callable[..., bool], claim: str, value: Any) -> None:
    assert refuted(T13, **{claim: value})


@pytest.mark.parametrize(
    ("claim", "value"),
    [("square", 2 * SQUARE), ("climb", 2 * CLIMB), ("selection", 2 * SELECTION), ("selection", SELECTION / GROUP)],
)
@pytest.mark.usefixtures("fewer_runs")
def test_false_claim_is_refused_in_numbers_too(claim: str, value: Any) -> None:
    assert any(step.confirms and not step.holds for step in T13.derive(**{claim: value}).steps)


def test_without_a_difference_in_reward_the_chain_is_fair_and_rises_with_the_odds() -> None:
    x, chain = finite_samples.numbers._harmonic(0.02, 0.0, 1.0, 1)
    assert chain[x.size // 2] == pytest.approx(0.5, abs=1e-12)
    assert (chain[1:] >= chain[:-1] - 1e-12).all()


def test_climbing_one_step_takes_one_over_the_chance_of_a_mixed_pair() -> None:
    """T = 1 from even odds: a pair is mixed with probability 1/2, so two updates on average."""
    value = CLIMB.subs({finite_samples.START: 0, finite_samples.ETA: 1, GAP: 1, COUNT: 1})
    assert sp.simplify(value) == 2
