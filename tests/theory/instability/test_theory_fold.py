"""GRPO's fold against a grid over success rates, and the slopes of groups against all groups one by one."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, rel_entr
from scipy.stats import binom

from sharpen.cli.main import main
from sharpen.objective import InputError
from sharpen.theory.instability import fold
from sharpen.theory.instability.fold import BOTH, CERTAINTY, MAXIMUM, MINIMUM, ONLY_CERTAINTY

X = np.linspace(-25.0123, 25.0457, 200_001)


def worth(base: float, beta: float) -> np.ndarray:
    """Return J over success rates expit(X), written out."""
    p = expit(X)
    kl = rel_entr(p, base) + rel_entr(expit(-X), 1 - base)
    return 2 * np.arcsin(np.sqrt(p)) - beta * kl


@settings(max_examples=40, deadline=None)
@given(st.floats(0.001, 0.95), st.floats(0.2, 8))
def test_the_optima_are_those_of_a_grid(base: float, beta: float) -> None:
    found, values = fold.fold(base, beta), worth(base, beta)
    if abs(logit(base) - fold.border(beta)) < 0.02:
        return  # so near the fold that the grid sees no valley
    tops = X[1:-1][(values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])]
    inside = [each for each in found.optima if each.kind == MAXIMUM]
    assert len(inside) == len(tops[tops < 20])
    assert found.state == (BOTH if inside else ONLY_CERTAINTY)
    for each in inside:
        assert each.log_odds == pytest.approx(tops[0], abs=5e-4)
        assert each.value == pytest.approx(np.interp(each.log_odds, X, values), abs=1e-6)
    assert found.optima[-1].kind == CERTAINTY
    assert found.optima[-1].value == pytest.approx(math.pi + beta * math.log(base))


@pytest.mark.parametrize("base", [1e-4, 0.05, 0.3, 0.9])
def test_least_and_equal_weight_divide_what_a_grid_finds(base: float) -> None:
    found = fold.fold(base, 1.0)
    assert fold.fold(base, found.least_beta * 1.001).state == BOTH
    assert fold.fold(base, found.least_beta * 0.999).state == ONLY_CERTAINTY
    for factor, leads in ((1.01, True), (0.99, False)):
        beta = found.equal_beta * factor
        inside = worth(base, beta)[logit(fold.success_at_the_fold(beta)) > X].max()
        assert bool(inside > math.pi + beta * math.log(base)) is leads


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0])
def test_at_the_fold_the_two_solutions_are_the_known_success_rate(beta: float) -> None:
    below = fold.fold(float(expit(fold.border(beta) - 1e-9)), beta)
    assert [each.success for each in below.optima[:2]] == pytest.approx([fold.success_at_the_fold(beta)] * 2, abs=1e-3)


@pytest.mark.parametrize("group", [2, 3, 4, 7])
@pytest.mark.parametrize("p", [0.03, 0.5, 0.8])
def test_the_slope_of_groups_is_their_mean_gradient(group: int, p: float) -> None:
    gradient = 0.0
    for rewards in itertools.product((0.0, 1.0), repeat=group):
        drawn = np.array(rewards)
        if drawn.std() == 0:
            continue
        chance = np.prod(np.where(drawn == 1, p, 1 - p))
        gradient += chance * np.mean((drawn - drawn.mean()) / drawn.std() * (drawn - p))
    assert float(fold.group_slope(logit(p), group)) == pytest.approx(gradient / (p * (1 - p)), rel=1e-12)


def test_slopes_end_at_a_known_value_and_large_groups_at_the_arcsine() -> None:
    for group in (2, 5, 16):
        np.testing.assert_allclose(fold.group_slope(np.array([-60.0, 60.0]), group), math.sqrt(group - 1), rtol=1e-12)
    x = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(fold.group_slope(x, 4096), 2 * np.cosh(x / 2), rtol=1e-3)


@pytest.mark.parametrize("group", [4, 8, 16, 64])
def test_two_optima_of_a_group_exist_below_the_cusp_only(group: int) -> None:
    beta, _ = fold.cusp(group)
    bases = np.linspace(-40 if group == 4 else -12, 3, 601)
    above = [len(fold.fold(float(expit(x)), 1.02 * beta, group).optima) for x in bases]
    below = [len(fold.fold(float(expit(x)), 0.9 * beta, group).optima) for x in bases]
    assert set(above) == {1}
    assert set(below) == {1, 3}


def slope_of_groups(x: np.ndarray, group: int) -> np.ndarray:
    """Return E[sqrt(m (1 - m))] / (P (1 - P)) at log-odds, m the share of right ones of a group."""
    right = np.arange(group + 1)
    law = binom.pmf(right, group, expit(x)[:, None])
    return law @ np.sqrt(right * (group - right)) / group / (expit(x) * expit(-x))


def test_kinds_of_a_groups_optima_are_those_of_its_objective() -> None:
    """J of the prompt: the integral of (f'(P) - beta (x - x_0)) dP, whose tops and valleys a grid shows."""
    group, base, beta = 16, 0.03, 0.5
    x = np.linspace(-6.0, 12.0, 20_001)
    gain = (slope_of_groups(x, group) - beta * (x - logit(base))) * expit(x) * expit(-x)
    values = np.cumsum(gain)
    tops = x[1:-1][(values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])]
    valleys = x[1:-1][(values[1:-1] < values[:-2]) & (values[1:-1] < values[2:])]
    found = fold.fold(base, beta, group).optima
    assert [each.kind for each in found] == [MAXIMUM, MINIMUM, MAXIMUM]
    assert [each.log_odds for each in found] == pytest.approx([tops[0], valleys[0], tops[1]], abs=2e-3)


@pytest.mark.parametrize("group", [5, 12])
def test_at_the_cusp_three_optima_are_one(group: int) -> None:
    """There x - x_0 touches f' / beta to second order: a triple root."""
    beta, base = fold.cusp(group)
    x = np.linspace(-2.0, 12.0, 20_001)
    excess = slope_of_groups(x, group) / beta - (x - logit(base))
    at = int(np.argmin(np.abs(excess)))
    step = x[1] - x[0]
    assert excess[at] == pytest.approx(0.0, abs=1e-3)
    assert (excess[at + 50] - excess[at - 50]) / (100 * step) == pytest.approx(0.0, abs=3e-3)
    assert np.all(np.diff(excess) < 1e-6)  # it never rises: one root


def test_groups_of_two_and_three_have_no_fold() -> None:
    assert fold.cusp(2)[0] == fold.cusp(3)[0] == 0.0
    for group, factor in ((2, 1.0), (3, math.sqrt(2))):
        (only,) = fold.fold(0.05, 0.1, group).optima
        assert only.log_odds == pytest.approx(logit(0.05) + factor / 0.1, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "field"), [((0.0, 1.0, None), "base-success"), ((0.5, 0.0, None), "beta"), ((0.5, 1.0, 1), "group")]
)
def test_bad_numbers_are_named(arguments: tuple[float, float, int | None], field: str) -> None:
    with pytest.raises(InputError) as caught:
        fold.fold(*arguments)
    assert caught.value.field == field


def test_the_command_says_and_draws_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    figure = tmp_path / "fold.png"
    with pytest.raises(SystemExit):
        main(["theory", "fold", "--beta", "0.5", "--group", "8", "--plot", str(figure), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["state"] == "one optimum"
    assert figure.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        main(["theory", "fold", "--beta", "0.5"])
    out = capsys.readouterr().out
    assert "only certainty" in out
    assert "from weight 0.5712 on" in out
