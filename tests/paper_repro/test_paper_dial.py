"""The registration of the dial's study: what it says of its rules is what the simulation gives."""

from __future__ import annotations

import pytest

from sharpen.paper_repro.analysis.rules_dial import RULES
from sharpen.paper_repro.analysis.simulated import registered
from sharpen.paper_repro.grids.grid import load_grid
from sharpen.paper_repro.grids.plan import expand


def test_the_registered_rates_are_those_of_the_simulation() -> None:
    rules = load_grid(None, "dial").rules
    assert rules is not None
    stated, again = rules.simulated, registered(rules, 50, seed=3)
    assert again["any_primary"] <= 0.16
    assert stated.any_primary <= 0.08
    assert stated.collapse == pytest.approx(again["collapse"], abs=0.01)
    assert stated.falls_back == pytest.approx(again["falls_back"], abs=0.01)
    for name in ("power", "falls_back_power", "old_rule"):
        assert again[name] == pytest.approx(getattr(stated, name), abs=0.2)


def test_the_study_has_its_claims_rules_seeds_and_runs() -> None:
    grid = load_grid(None, "dial")
    assert grid.rules is not None
    assert set(grid.claims) == set(RULES)
    assert grid.rules.seeds == 8
    assert len(grid.rules.members) == 4
    runs = expand(grid, "dial")
    assert len([run for run in runs if run.experiment.id.startswith(("primary", "secondary"))]) == 128
    assert {run.rules for run in runs} == {grid.rules_hash}
