"""Bounds from a part of the outcomes: the whole tree, enumerated, lies within them for every cut and objective."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.objective import InputError, Objective
from sharpen.theory.audit.certified import Seen, expected_reward, log_normalizer, mode_is_certain, pass_at_k


def grown(seed: int, threshold: float, fractional: bool) -> tuple[np.ndarray, np.ndarray, Seen]:
    """Return all leaves of a random tree with rewards, and what is seen when prefixes below a threshold are cut."""
    rng = np.random.default_rng(seed)
    leaves: list[tuple[float, float]] = []
    seen: list[tuple[float, float]] = []
    frontier: list[float] = []

    def grow(log_u: float, depth: int, known: bool) -> None:
        followed = known and np.exp(log_u) >= threshold
        if known and not followed:
            frontier.append(log_u)
        if depth == 4 or (depth and rng.random() < 0.3):
            leaf = (log_u, float(rng.random() if fractional else rng.random() < 0.4))
            leaves.append(leaf)
            if followed:
                seen.append(leaf)
            return
        for p in rng.dirichlet(np.full(3, 0.5)):
            grow(log_u + float(np.log(max(p, 1e-12))), depth + 1, followed)

    grow(0.0, 0, True)
    every = np.array(leaves)
    known = np.array(seen).reshape(-1, 2)
    return every[:, 0], every[:, 1], Seen.of(known[:, 0], known[:, 1], frontier)


def exact(log_p: np.ndarray, reward: np.ndarray, alpha: float, beta_inv: float) -> tuple[float, float]:
    """Return E[r] and log Z of the optimum over all leaves."""
    logs = alpha * log_p + beta_inv * reward
    return float(np.exp(logs - np.logaddexp.reduce(logs)) @ reward), float(np.logaddexp.reduce(logs))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    threshold=st.sampled_from([0.5, 0.1, 0.02, 0.003, 0.0]),
    alpha=st.floats(1, 8),
    beta_inv=st.sampled_from([0.0, 0.5, 3.0, 20.0, 900.0]),
    fractional=st.booleans(),
    k=st.integers(1, 20),
)
def test_the_whole_tree_is_within_the_bounds(
    seed: int, threshold: float, alpha: float, beta_inv: float, fractional: bool, k: int
) -> None:
    log_p, reward, seen = grown(seed, threshold, fractional)
    objective = Objective(alpha=alpha, beta_inv=beta_inv, mode="sampling")
    reached, log_z = exact(log_p, reward, alpha, beta_inv)
    low, high = expected_reward(seen, objective, binary=not fractional)
    assert low - 1e-9 <= reached <= high + 1e-9
    assert 0 <= low <= high <= 1 + 1e-12
    z = log_normalizer(seen, objective)
    assert z.low - 1e-9 <= log_z <= z.high + 1e-9
    chance = pass_at_k(seen, objective, k, binary=not fractional)
    assert chance.low - 1e-9 <= 1 - (1 - reached) ** k <= chance.high + 1e-9
    if mode_is_certain(seen):
        assert np.max(seen.logprob) == pytest.approx(np.max(log_p))


def test_a_whole_tree_leaves_no_width() -> None:
    log_p, reward, seen = grown(1, 0.0, False)
    low, high = expected_reward(seen, Objective(alpha=1, beta_inv=0, mode="sampling"))
    assert low == high == pytest.approx(exact(log_p, reward, 1.0, 0.0)[0])


def test_a_larger_exponent_is_certified_by_less() -> None:
    _, _, seen = grown(2, 0.02, False)
    widths = [
        expected_reward(seen, Objective(alpha=alpha, beta_inv=0, mode="sampling")).width for alpha in (1, 1.25, 2, 4)
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < widths[0] / 4


def test_a_mode_is_certain_if_no_prefix_is_likelier() -> None:
    assert not mode_is_certain(Seen.of(np.log([0.3]), [1], np.log([0.1, 0.6])))
    assert mode_is_certain(Seen.of(np.log([0.3, 0.1]), [1, 0], np.log([0.2, 0.2, 0.2])))
    assert not mode_is_certain(Seen.of([], [], [0.0]))


def test_partial_rewards_need_the_wider_lower_end() -> None:
    # One seen right outcome, an unseen one of reward .1 whose tilt outweighs that of a wrong one by e^2.
    log_p, reward = np.log([0.6, 0.4]), np.array([0.9, 0.1])
    seen = Seen.of(log_p[:1], reward[:1], log_p[1:])
    objective = Objective(alpha=1, beta_inv=20, mode="sampling")
    reached, _ = exact(log_p, reward, 1.0, 20.0)
    low, high = expected_reward(seen, objective, binary=False)
    assert low <= reached <= high


@pytest.mark.parametrize(
    ("objective", "field"),
    [
        (Objective(alpha=0.5, beta_inv=0, mode="sampling"), "alpha"),
        (Objective(alpha=1, beta_inv=0, mode="optimization"), "objective"),
        (Objective(alpha=2, beta_inv=0, mode="sampling", normalization="mean"), "objective"),
    ],
)
def test_objectives_without_such_bounds_are_refused(objective: Objective, field: str) -> None:
    seen = Seen.of(np.log([0.5]), [1], np.log([0.5]))
    with pytest.raises(InputError) as error:
        expected_reward(seen, objective)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("logprob", "reward", "frontier", "field"),
    [([-1.0, -2.0], [1.0], [-1.0], "reward"), ([-1.0], [2.0], [-1.0], "reward"), ([0.5], [1.0], [], "logprob"),
     ([-1.0], [1.0], [0.1], "frontier"), ([], [], [], "reward")],
)  # fmt: skip
def test_bad_parts_are_named(logprob: list[float], reward: list[float], frontier: list[float], field: str) -> None:
    with pytest.raises(InputError) as error:
        Seen.of(logprob, reward, frontier)
    assert error.value.field == field
