"""Tables of known outcomes: read as written, and bounds of the KL that hold for every cut of an enumerated tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from sharpen.objective import InputError, Objective
from sharpen.theory.audit.certified import expected_reward, log_normalizer
from sharpen.theory.audit.outcomes import FRONTIER, Known, kl_to_base, read_known

ALPHAS = (1.0, 1.5, 2.0)


def grown(seed: int, threshold: float, tau: float) -> tuple[np.ndarray, np.ndarray, Known]:
    """Return log p and reward of all leaves of a random tree, and what is known: some prefixes cut, some summed."""
    rng = np.random.default_rng(seed)
    leaves: list[tuple[float, float]] = []
    seen: list[tuple[float, float]] = []
    prefixes: list[float] = []
    cut: dict[int, list[float]] = {}

    def grow(log_u: float, depth: int, known: bool) -> None:
        followed = known and np.exp(log_u) >= threshold
        if known and not followed:
            (prefixes if np.exp(log_u) >= tau else cut.setdefault(depth, [])).append(log_u)
        if depth == 4 or (depth and rng.random() < 0.3):
            leaves.append((log_u, float(rng.random())))
            if followed:
                seen.append(leaves[-1])
            return
        for p in rng.dirichlet(np.full(3, 0.5)):
            grow(log_u + float(np.log(max(p, 1e-12))), depth + 1, followed)

    grow(0.0, 0, True)
    sums = {a: np.array([np.log(np.exp(a * np.array(cut[d])).sum()) / a for d in sorted(cut)]) for a in ALPHAS}
    rows = np.array(seen).reshape(-1, 2)
    known = Known("a", rows[:, 0], rows[:, 1], np.ones(len(rows)), np.array(prefixes), sums if cut else {})
    return np.array(leaves)[:, 0], np.array(leaves)[:, 1], known


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    threshold=st.sampled_from([0.5, 0.1, 0.02, 0.003, 0.0]),
    share=st.sampled_from([0.0, 0.1, 1.0]),
    alpha=st.one_of(st.sampled_from([1.0, 1.5, 2.0]), st.floats(1, 8)),
    beta_inv=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_the_whole_tree_is_within_the_bounds(
    seed: int, threshold: float, share: float, alpha: float, beta_inv: float
) -> None:
    log_p, reward, known = grown(seed, threshold, share * threshold)
    objective = Objective(alpha=alpha, beta_inv=beta_inv, mode="sampling")
    logs = alpha * log_p + beta_inv * reward
    log_z = float(np.logaddexp.reduce(logs))
    pi = np.exp(logs - log_z)
    kl = kl_to_base(known, objective)
    assert kl.low - 1e-9 <= float(pi @ (logs - log_z - log_p)) <= kl.high + 1e-9
    mean = expected_reward(known.seen(alpha), objective, binary=False)
    assert mean.low - 1e-9 <= float(pi @ reward) <= mean.high + 1e-9
    z = log_normalizer(known.seen(alpha), objective)
    assert z.low - 1e-9 <= log_z <= z.high + 1e-9
    assert known.unseen_mass + np.exp(known.logprob).sum() == pytest.approx(1.0, abs=1e-9)


def kl_of_power(p: np.ndarray, alpha: float) -> float:
    q = p**alpha / np.sum(p**alpha)
    return float(q @ np.log(q / p))


@pytest.mark.parametrize(
    ("seen", "rest", "alpha"),
    [
        # A likely response that was not seen raises E[log p], and so the KL, above that of the seen.
        (np.full(196, 0.005), np.array([0.02]), 2.0),
        # Unseen ones where p |log p| is largest, below a prefix of more.
        (np.array([0.1]), np.full(7, 0.9 / 7), 1.5),
    ],
)
def test_bounds_of_the_kl_hold_where_they_are_near(seen: np.ndarray, rest: np.ndarray, alpha: float) -> None:
    known = Known("a", np.log(seen), np.zeros(seen.size), np.ones(seen.size), np.log([rest.sum()]), {})
    found = kl_to_base(known, Objective(alpha=alpha, beta_inv=0, mode="sampling"))
    assert found.low <= kl_of_power(np.concatenate([seen, rest]), alpha) <= found.high


def test_what_was_cut_together_has_its_whole_mass_in_the_kl() -> None:
    """A hundred children of .002: at alpha = 2 they weigh .02 squared, but E[log p] sums over a mass of .2."""
    sums = {alpha: np.array([np.log(100 * 0.002**alpha) / alpha]) for alpha in (1.0, 2.0)}
    known = Known("a", np.log([0.8]), np.zeros(1), np.ones(1), np.zeros(0), sums)
    found = kl_to_base(known, Objective(alpha=2, beta_inv=0, mode="sampling"))
    assert found.low <= kl_of_power(np.concatenate([[0.8], np.full(100, 0.002)]), 2.0) <= found.high
    # (A - B) / Z - log(Z + U), with h at .02 for B
    lowest = (0.64 * np.log(0.8) + 0.2 * 0.02 * np.log(0.02)) / 0.64 - np.log(0.64 + 0.0004)
    assert found.low == pytest.approx(max(0.0, lowest))


def test_below_a_likely_prefix_the_worst_response_may_be_less_likely() -> None:
    """h(t) = .1 t^.1 |log t| is 1/e at most, at t = e^-10, and .22 at the prefix itself, .05."""
    known = Known("a", np.log([0.2, 0.75]), np.array([1.0, 0.0]), np.ones(2), np.log([0.05]), {})
    found = kl_to_base(known, Objective(alpha=1.1, beta_inv=3.0, mode="sampling"))
    tilt, right, wrong, unseen = np.exp(3.0), 0.2**1.1, 0.75**1.1, 0.05**1.1
    z = right * tilt + wrong
    least = z + unseen * tilt
    expected = 0.1 * (right * tilt * np.log(0.2) + wrong * np.log(0.75)) / z - 0.05 * tilt / np.e / z
    assert found.low == pytest.approx(expected + 3.0 * right * tilt / least - np.log(least), rel=1e-12)


def test_bounds_close_as_more_is_seen() -> None:
    objective = Objective(alpha=2, beta_inv=0.5, mode="sampling")
    widths = [np.mean([kl_to_base(grown(s, t, 0.0)[2], objective).width for s in range(20)]) for t in (0.05, 0.01, 0.0)]
    assert widths[0] > 2 * widths[1] > 100 * widths[2]
    assert widths[2] < 1e-9


def written(folder: Path, **changed: list[float | None]) -> Path:
    outcomes = {"prompt_id": ["b", "a", "a"], "response": ["x", "y", "z"], "logprob": [-0.1, -1.0, -2.0]}
    outcomes |= {"reward": [1.0, 0.0, 1.0], "length": [2, 3, 4]}
    frontier: dict[str, list] = {"prompt_id": ["a"] * 5, "depth": [1, 2, 1, 2, 1]}
    frontier |= {"logprob": [-3.0, -4.0, -5.0, -4.5, -6.0], "alpha": [1.0, 1.0, 2.0, 2.0, None]}
    for name in changed.keys() & outcomes.keys():
        outcomes[name] = changed[name]
    frontier["alpha"] = changed.get("alpha", frontier["alpha"])
    parquet.write_table(pa.table(outcomes), folder / "outcomes.parquet")
    parquet.write_table(pa.table(frontier), folder / FRONTIER)
    return folder / "outcomes.parquet"


def test_tables_are_read_as_they_are_written(tmp_path: Path) -> None:
    b, a = read_known(written(tmp_path))
    assert (b.name, a.name) == ("b", "a")
    assert b.seen(1.0).frontier.size == 0
    assert a.reward.tolist() == [0.0, 1.0]
    assert a.length.tolist() == [3.0, 4.0]
    assert sorted(a.seen(1.9).frontier) == [-6.0, -4.0, -3.0]  # of the exponent below, which is larger
    assert sorted(a.seen(3.0).frontier) == [-6.0, -5.0, -4.5]
    assert a.unseen_mass == pytest.approx(np.exp([-6.0, -4.0, -3.0]).sum())
    with pytest.raises(InputError, match="at least 1"):
        a.seen(0.5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reward": [2.0, 0.0, 1.0]}, "reward"),
        ({"logprob": [0.5, -1.0, -2.0]}, "logprob"),
        ({"alpha": [1.5, 1.5, 2.0, 2.0, None]}, "sums of a at 1"),
        ({"alpha": [1.0, 1.0, 2.0, None, None]}, "sums of a at 1"),
    ],
)
def test_tables_that_are_wrong_are_refused(tmp_path: Path, changed: dict[str, list[float | None]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_known(written(tmp_path, **changed))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "outcomes.parquet").write_text("no table")
    with pytest.raises(InputError, match="sharpen llm outcomes"):
        read_known(tmp_path / "outcomes.parquet")
    (written(tmp_path).parent / FRONTIER).unlink()
    with pytest.raises(InputError, match="frontier"):
        read_known(tmp_path / "outcomes.parquet")
