"""What advantages ascend, against groups of rewards visited one by one with each advantage written out anew."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.objective import InputError, preset
from sharpen.theory.core.problem import Problem
from sharpen.theory.estimators.exact import setting
from sharpen.theory.estimators.report import estimator_report
from sharpen.theory.estimators.success import ADVANTAGES, Ascent, ascents, named_utility

PROBLEM, POLICY = Problem([0.6, 0.2, 0.2], [0, 1, 1]), [0.55, 0.15, 0.3]
P = 0.45


def pass_k(r: np.ndarray, K: int) -> np.ndarray:
    """Return the mean over the sets of K samples that hold a sample, standardised over all sets."""
    sets = list(itertools.combinations(range(len(r)), K))
    best = np.array([r[list(one)].max() for one in sets])
    if best.std() == 0.0:
        return np.zeros(len(r))
    scored = (best - best.mean()) / best.std()
    return np.array([np.mean([s for s, one in zip(scored, sets, strict=True) if i in one]) for i in range(len(r))])


def hits(r: np.ndarray, K: int) -> np.ndarray:
    """Return r less the others' mean, times K times the share of sets of K - 1 others that are all wrong."""
    found = np.empty(len(r))
    for i in range(len(r)):
        others = np.delete(r, i)
        alone = np.mean([not others[list(one)].any() for one in itertools.combinations(range(len(others)), K - 1)])
        found[i] = K * alone * (r[i] - others.mean())
    return found


HAND: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "rloo": lambda r, K: r - (r.sum() - r) / (len(r) - 1),
    "dr-grpo": lambda r, K: r - r.mean(),
    "nsr": lambda r, K: r - 1.0,
    "w-reinforce": lambda r, K: np.where(r == 1, 0.1, -1.0),
    "grpo": lambda r, K: (r - r.mean()) / (r.std(ddof=1) or 1.0),
    "maxrl": lambda r, K: (r - r.mean()) / (r.mean() or 1.0),
    "maxrl-order-g": lambda r, K: r / (r.mean() or 1.0) - 1.0,
    "pass-k": pass_k,
    "rloo, pass@K": hits,
}


def by_groups(name: str, G: int, K: int, success: float) -> float:
    """Return E[sum_i A_i (r_i - P)] / (G P (1 - P)): the mean update over grad P."""
    total = 0.0
    for group in itertools.product((0.0, 1.0), repeat=G):
        r = np.array(group)
        chance = math.prod(success if one else 1 - success for one in group)
        total += chance * float(HAND[name](r, K) @ (r - success))
    return total / (G * success * (1 - success))


def found_at(G: int, K: int = 2) -> dict[str, Ascent]:
    return {each.name: each for each in ascents(setting(preset("task-reward"), PROBLEM, POLICY, G), K)}


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 5), st.data())
def test_slopes_are_those_of_all_groups(G: int, data: st.DataObject) -> None:
    K, success = data.draw(st.integers(1, G)), data.draw(st.floats(0.05, 0.95))
    found = found_at(G, K)
    for name in HAND:
        assert found[name].slope(success) == pytest.approx(by_groups(name, G, K, success), rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("G", [2, 3, 8])
def test_the_mean_update_is_the_slope_times_the_gradient_of_the_success_rate(G: int) -> None:
    """The moments over multisets against the polynomial."""
    gradient = np.array(POLICY) * (PROBLEM.reward - P)
    for ascent in found_at(G).values():
        np.testing.assert_allclose(ascent.estimate.expectation, ascent.slope(P) * gradient, atol=1e-12)


@pytest.mark.parametrize("G", [5, 16])
def test_what_is_ascended_has_its_name(G: int) -> None:
    found = {name: (ascent.utility, ascent.scale) for name, ascent in found_at(G, 3).items()}
    root = math.sqrt((G - 1) / G)
    assert found == {
        "rloo": ("identity", pytest.approx(1.0)),
        "dr-grpo": ("identity", pytest.approx(1 - 1 / G)),
        "nsr": ("identity", pytest.approx(1.0)),
        "w-reinforce": ("identity", pytest.approx(1.1)),
        "grpo": ("arcsin in groups", pytest.approx(root)),
        "rloo, arcsin": ("arcsin in groups", pytest.approx(1.0)),
        "maxrl": (f"log to order {G - 1}", pytest.approx(1.0)),  # T19
        "maxrl-order-g": (f"log to order {G}", pytest.approx(1.0)),
        "rloo, log": (f"log to order {G}", pytest.approx(1.0)),
        "pass-k": ("its own", 1.0),
        "rloo, pass@K": ("pass@3", pytest.approx(1.0)),
    }


@pytest.mark.parametrize("G", [4, 9])
def test_targets_are_gradients_of_the_utilities_that_learners_are_named_after(G: int) -> None:
    slopes = {"identity": 1.0, "arcsin": (P * (1 - P)) ** -0.5, "log": 1 / P, "pass@3": 3 * (1 - P) ** 2}
    gradient = np.array(POLICY) * (PROBLEM.reward - P)
    found = found_at(G, 3)
    for ascent in found.values():
        np.testing.assert_allclose(ascent.estimate.target, slopes[ascent.target] * gradient, rtol=1e-12)
    exact = [name for name, ascent in found.items() if ascent.estimate.unbiased]
    assert exact == ["rloo", "nsr", "rloo, pass@K"]
    series = sum((1 - P) ** j for j in range(G)) - 1 / P  # what order G leaves of the logarithm
    assert found["rloo, log"].estimate.bias_norm == pytest.approx(abs(series) * np.linalg.norm(gradient), rel=1e-9)


def test_a_slope_of_the_other_sign_has_no_name() -> None:
    assert named_utility(np.array([-1.0, -1.0, 0.0])) == ("its own", 1.0)


def test_published_pass_k_ascends_the_arcsine_of_pass_k_in_large_groups() -> None:
    """Slope (1 - P)^(K - 1) / sqrt(pass@K (1 - pass@K)), that of 2 arcsin sqrt(pass@K) over K, up to about 1 / G."""
    for K in (1, 2, 4):
        missed = (1 - P) ** K
        expected = (1 - P) ** (K - 1) / math.sqrt(missed * (1 - missed))
        off = {}
        for G in (16, 64):
            mean = found_at(G, K)["pass-k"].estimate.expectation
            gain = float(mean[0] / (POLICY[0] * (0.0 - P)))
            off[G] = abs(gain / expected - 1)
        assert off[64] < 0.07
        assert off[64] < off[16] / 2


def test_published_pass_k_with_one_set_left_out_is_pass_k_itself() -> None:
    """With K = G - 1 sigma is not 0 for one right sample only, so its division is a constant."""
    assert found_at(4, 3)["pass-k"].utility == "pass@3"


def test_variances_are_those_of_all_groups() -> None:
    """tr Cov over the n^G ordered groups."""
    G, pi = 3, np.array(POLICY)
    found = found_at(G)
    for name, advantage in HAND.items():
        updates, chances = [], []
        for group in itertools.product(range(3), repeat=G):
            x = list(group)
            updates.append(advantage(PROBLEM.reward[x], 2) @ (np.eye(3) - pi)[x] / G)
            chances.append(np.prod(pi[x]))
        g, chance = np.array(updates), np.array(chances)
        expected = chance @ np.sum((g - chance @ g) ** 2, axis=1)
        assert found[name].estimate.variance == pytest.approx(expected, rel=1e-10), name


def test_what_does_not_count_right_answers_has_no_such_table() -> None:
    with pytest.raises(InputError, match="reward"):
        ascents(setting(preset("task-reward"), Problem([0.5, 0.5], [0, 0.5]), [0.4, 0.6], 4))
    with pytest.raises(InputError, match="k"):
        found_at(4, 5)
    assert len(estimator_report(preset("tempered"), PROBLEM).ascents) == 0
    assert len(estimator_report(preset("tilted"), Problem([0.5, 0.5], [0, 0.5])).ascents) == 0
    assert len(estimator_report(preset("tilted"), PROBLEM).ascents) == len(ADVANTAGES)


def test_the_command_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code in ((["--json", "--k", "3"], 0), (["--k", "5"], 2), (["--preset", "tempered", "--k", "2"], 2)):
        with pytest.raises(SystemExit) as left:
            main(["theory", "estimators", *arguments])
        assert left.value.code == code
        said = capsys.readouterr()
        if code == 0:
            rows = {row["name"]: row for row in json.loads(said.out)["ascents"]}
            assert rows["rloo, pass@K"]["ascends"] == rows["rloo, pass@K"]["target"] == "pass@3"
            assert rows["maxrl"]["polynomial"] == pytest.approx([1, 1, 1, 0])
        else:
            assert "k: got" in said.err
            assert said.err.count("\n") == 1
