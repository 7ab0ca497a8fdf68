"""Utilities of the success rate from samples: against every group of a small policy, and SymPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from sharpen.objective import InputError, Objective
from sharpen.objective.counts import utility_slopes, utility_values, utility_weights

UTILITIES = ["identity", "log", "pass@1", "pass@2", "pass@4", "arcsin"]


def slope(utility: str, n: int, p: float) -> float:
    """f_n'(P), written out anew."""
    if utility == "identity":
        return 1.0
    if utility == "log":
        return sum((1 - p) ** j for j in range(n))
    if utility == "arcsin":
        of_groups = sum(
            math.comb(n, m) * p**m * (1 - p) ** (n - m) * math.sqrt(m / n * (1 - m / n)) for m in range(n + 1)
        )
        return of_groups / (p * (1 - p))
    k = int(utility.removeprefix("pass@"))
    return k * (1 - p) ** (k - 1)


def expectation(of: np.ndarray, groups: np.ndarray, policy: np.ndarray) -> np.ndarray:
    return np.tensordot(np.prod(policy[groups], axis=1), of, axes=1)


@pytest.mark.parametrize("utility", UTILITIES)
@pytest.mark.parametrize("rewards", [[1.0, 0.0, 0.0], [1.0, 0.3, 0.0]], ids=["marks", "scores"])
def test_the_mean_over_all_groups_is_the_slope_and_the_value(utility: str, rewards: list[float]) -> None:
    """Every group of four samples of three outcomes, right, wrong or in between."""
    n, policy = 4, np.array([0.2, 0.5, 0.3])
    groups = np.array(list(itertools.product(range(3), repeat=n)))
    given = np.array(rewards)[groups]
    p = float(policy @ rewards)
    slopes = utility_slopes(utility, given)
    np.testing.assert_allclose(expectation(slopes, groups, policy), slope(utility, n, p), rtol=1e-12)
    value = float(expectation(utility_values(utility, given), groups, policy))
    start, known = {"log": (1.0, 0.0), "arcsin": (0.5, math.pi / 2)}.get(utility, (0.0, 0.0))
    assert value == pytest.approx(known + quad(lambda x: slope(utility, n, x), start, p)[0], abs=1e-9)


@pytest.mark.parametrize("utility", UTILITIES)
def test_a_samples_slope_does_not_see_its_own_reward(utility: str) -> None:
    rewards = np.random.default_rng(0).uniform(size=(5, 6))
    changed = rewards.copy()
    changed[:, 2] = 1.0 - changed[:, 2]
    before, after = utility_slopes(utility, rewards), utility_slopes(utility, changed)
    np.testing.assert_array_equal(before[:, 2], after[:, 2])
    if utility not in ("identity", "pass@1"):
        assert np.abs(before[:, :2] - after[:, :2]).max() > 1e-3


@given(st.integers(1, 40), st.floats(0.0, 1.0))
def test_the_gradient_of_every_utility_by_its_weights(n: int, p: float) -> None:
    law = [math.comb(n - 1, k) * p**k * (1 - p) ** (n - 1 - k) for k in range(n)]
    for utility in ("log", f"pass@{n}", f"pass@{max(1, n // 2)}"):
        assert float(utility_weights(utility, n) @ law) == pytest.approx(slope(utility, n, p), rel=1e-9, abs=1e-12)


def test_the_weights_of_the_logarithm_are_the_only_symmetric_unbiased_ones() -> None:
    """Completeness of the binomial: the polynomial identity has one solution, found by SymPy."""
    n, p = 5, sp.symbols("p")
    h = sp.symbols(f"h0:{n}")
    mean = sum(h[k] * sp.binomial(n - 1, k) * p**k * (1 - p) ** (n - 1 - k) for k in range(n))
    wanted = sum((1 - p) ** j for j in range(n))
    solved = sp.solve(sp.Poly(sp.expand(mean - wanted), p).coeffs(), h, dict=True)
    assert [float(solved[0][one]) for one in h] == pytest.approx(utility_weights("log", n).tolist())


def test_large_groups_reach_the_utility() -> None:
    rng = np.random.default_rng(1)
    right = (rng.uniform(size=(400, 256)) < 0.3).astype(float)
    for utility, exact in (("log", math.log(0.3)), ("arcsin", 2 * math.asin(math.sqrt(0.3))), ("pass@8", 1 - 0.7**8)):
        assert float(utility_values(utility, right).mean()) == pytest.approx(exact, abs=0.02)


def test_what_has_no_estimate_is_refused() -> None:
    with pytest.raises(InputError, match=r"utility: got 'pass@5', allowed: pass@K with K up to .* 4"):
        utility_slopes("pass@5", [0, 1, 0, 1])
    with pytest.raises(InputError, match=r"reward: got -1.0, allowed: 0 to 1"):
        utility_values("log", [0, -1.0])
    with pytest.raises(InputError, match="reward: got nan"):
        utility_slopes("log", [0, math.nan])


def test_a_given_slope_takes_the_place_of_the_success_rate() -> None:
    objective, r = Objective(beta_inv=2.0, utility="log", alpha_right=0.5), np.array([1.0, 0.0])
    log_p, log_pi = np.log([0.4, 0.6]), np.log([0.7, 0.3])
    given = {"reward": r, "ref_logprob": log_p, "policy_logprob": log_pi}
    np.testing.assert_allclose(
        objective.pseudo_reward(**given, slope=np.array([4.0, 4.0])), objective.pseudo_reward(**given, success=0.25)
    )
