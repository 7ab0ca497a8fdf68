"""--utility and --alpha-right on the command line of the theory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sharpen.cli.main import main

FEW = ["--base", "0.95,0.05", "--reward", "1"]


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def ask(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main(["theory", *arguments, "--json"])
        assert ended.value.code in (0, None)
        return json.loads(capsys.readouterr().out)

    return ask


def test_optimum_lists_every_solution(answer: Callable[..., dict[str, Any]]) -> None:
    found = answer("optimum", "--utility", "arcsin", "--beta-inv", "0.5", *FEW)
    rows = found["solutions"]
    assert isinstance(rows, list)
    assert [row["kind"] for row in rows] == ["maximum", "minimum", "certainty"]
    assert rows[0]["success"] == pytest.approx(0.1673, abs=1e-4)
    assert found["limits"] is None
    plain = answer("optimum", "--beta-inv", "0.5", *FEW)
    assert plain["solutions"] is None


def test_fixed_points_hold_certainty_as_a_stable_one(answer: Callable[..., dict[str, Any]]) -> None:
    found = answer("fixed-points", "--utility", "arcsin", "--beta-inv", "0.5", *FEW)
    kinds = {tuple(point["support"]): point["class"] for point in found["fixed_points"] if len(point["support"]) == 1}
    assert kinds == {(0,): "unstable", (1,): "stable"}
    inside = [point["class"] for point in found["fixed_points"] if len(point["support"]) == 2]
    assert inside == ["stable", "unstable"]


def test_response_over_either_parameter(answer: Callable[..., dict[str, Any]]) -> None:
    flags = ["--utility", "arcsin", *FEW]
    over = answer("response", *flags, "--over", "beta_inv", "--to", "3", "--points", "4")
    assert over["expected_reward"] == [pytest.approx(x, abs=1e-4) for x in (0.05, 0.3127, 1.0, 1.0)]
    assert answer("response", *flags, "--beta-inv", "0.5", "--points", "3")["turning_points"] == []


def test_an_exponent_of_right_answers_has_an_optimum_and_limits(answer: Callable[..., dict[str, Any]]) -> None:
    found = answer("optimum", "--alpha", "1", "--alpha-right", "0", "--beta-inv", "1")
    assert set(found["limits"]) == {"alpha", "beta_inv"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optimum", "--utility", "arcsin"], "beta_inv: got 0.0 with utility arcsin"),
        (["optimum", "--utility", "cube", "--beta-inv", "1"], "utility"),
        (["phase", "--utility", "log", "--beta-inv", "1", "--base", ".5,.3,.2"], "utility: got 'log'"),
        (["self-sharpening", "--alpha-right", "0"], "alpha_right: got 0.0"),
        (["sensitivity", "--alpha-right", "0"], "alpha_right: got 0.0"),
        (["estimators", "--utility", "log", "--beta-inv", "1"], "utility: got 'log'"),
    ],
)
def test_what_cannot_be_answered_is_one_clear_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["theory", *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
