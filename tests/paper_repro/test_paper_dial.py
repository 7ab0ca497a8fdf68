"""The registration of the dial's study: what it says of its rules is what the simulation gives."""

from __future__ import annotations

import pytest

from sharpen.llm.tasks.dial.law import MEMBERS
from sharpen.paper_repro.analysis.rules_dial import RULES
from sharpen.paper_repro.analysis.simulated import registered
from sharpen.paper_repro.grids.grid import Scale, load_grid
from sharpen.paper_repro.grids.plan import expand


@pytest.mark.parametrize("scale", ["dial", "delta"])
def test_the_registered_rates_are_those_of_the_simulation(scale: Scale) -> None:
    rules = load_grid(None, scale).rules
    assert rules is not None
    stated, again = rules.simulated, registered(rules, 50, seed=3)
    assert again["any_primary"] <= 0.16
    assert stated.any_primary <= 0.08
    assert stated.collapse == pytest.approx(again["collapse"], abs=0.01)
    assert stated.falls_back == pytest.approx(again["falls_back"], abs=0.01)
    for name in ("power", "falls_back_power", "old_rule"):
        assert again[name] == pytest.approx(getattr(stated, name), abs=0.2)
    assert (stated.slope is not None) == (scale == "delta")
    if stated.slope is not None:
        assert again["slope"] == pytest.approx(stated.slope, abs=0.2)
        assert again["slope"]["0.0"] <= 0.12  # of one side of a test at .05


def test_the_study_has_its_claims_rules_seeds_and_runs() -> None:
    grid = load_grid(None, "dial")
    assert grid.rules is not None
    assert set(grid.claims) == set(RULES) - {"follows-the-dial"}  # needs members in between
    assert grid.rules.seeds == 8
    assert len(grid.rules.members) == 4
    runs = expand(grid, "dial")
    assert len([run for run in runs if run.experiment.id.startswith(("primary", "secondary"))]) == 128
    assert {run.rules for run in runs} == {grid.rules_hash}


def test_the_second_stage_moves_delta_alone_and_trains_as_the_first() -> None:
    first, second = load_grid(None, "dial"), load_grid(None, "delta")
    assert second.rules is not None
    assert set(second.claims) < set(RULES)
    deltas = {name: MEMBERS[name] for name in second.rules.members}
    assert {name: member.delta for name, member in second.rules.members.items()} == {
        name: law.delta for name, law in deltas.items()
    }
    assert {(law.right_short, law.wrong_short) for law in deltas.values()} == {(0.5, 0.5)}
    for name, member in second.rules.members.items():
        assert member.base == pytest.approx(deltas[name].expected_reward(1.0), abs=1e-3)
        assert member.sharpened["2"] == pytest.approx(deltas[name].expected_reward(2.0), abs=1e-3)
    runs = [run for run in expand(second, "delta") if run.experiment.kind == "train"]
    assert len(runs) == 5 * 3 * 8
    primary = next(run for run in expand(first, "dial") if run.experiment.id.startswith("primary"))
    own, other = dict(primary.settings), dict(runs[0].settings)
    assert {**own, "config": None} == {**other, "config": None}
    told = [{**one["config"], "model": None, "objective": None, "seed": None} for one in (own, other)]
    assert told[0] == told[1]
