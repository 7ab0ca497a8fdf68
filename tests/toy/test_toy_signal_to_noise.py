"""Signal-to-noise of sampled gradients and fixation by vertex, against enumeration, simulation and closed forms."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of
from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.measures import fixation, wilson
from sharpen.toy.dynamics.signal_to_noise import closed_form, drawn, enumerated, ratio_of_draws
from sharpen.toy.dynamics.updates import make
from sharpen.toy.learners.parts.learner import Options, State
from sharpen.toy.problems.policies import SEPARATE, SHARED
from sharpen.toy.problems.setting import Setting, setting
from sharpen.toy.sweeps.config import SweepConfig
from sharpen.toy.sweeps.summary import read, summarise
from sharpen.toy.sweeps.sweep import sweep

TILTED = Objective(alpha=2.0, beta_inv=3.0)
SELF = Objective(alpha=2.0, beta_inv=3.0, reference="policy")
PROBLEM = Problem([0.4, 0.3, 0.2, 0.1], [0, 1, 0, 1])
POLICY = np.array([0.1, 0.25, 0.05, 0.6])


def state_at(kind: str, at: Setting, policy: np.ndarray, options: Options) -> State:
    """Return the state in which a run of this learner has this policy."""
    with jax.enable_x64():
        state = make(kind, at, SEPARATE, options).init(jax.random.key(0))
        return state._replace(parameters=state.parameters._replace(theta=jnp.log(jnp.asarray(policy))[None]))


def closed(kind: str, at: Setting, policy: np.ndarray, options: Options) -> float:
    signal = closed_form(kind, SEPARATE, options)
    assert signal is not None
    state = state_at(kind, at, policy, options)
    with jax.enable_x64():
        return float(signal(at, state.parameters.theta, state))


def rewards(objective: Objective, problem: Problem, pi: np.ndarray) -> np.ndarray:
    """Return the pseudo-reward of mode sampling with beta_inv > 0, written out."""
    log_p = np.log(pi) if objective.reference == "policy" else np.log(problem.base)
    return problem.reward + (objective.alpha * log_p - np.log(pi)) / objective.beta_inv


def by_hand(kind: str, pi: np.ndarray, reward: np.ndarray, G: int) -> float:
    """Return the ratio from all n^G ordered groups."""
    gradients, chances = [], []
    for group in itertools.product(range(len(pi)), repeat=G):
        R = reward[list(group)]
        A = R if kind == "reinforce" else np.array([R[i] - (R.sum() - R[i]) / (G - 1) for i in range(G)])
        if kind == "grpo":
            deviation = np.std(R, ddof=1)
            A = (R - R.mean()) / deviation if deviation > 1e-12 else np.zeros(G)
        gradients.append(np.mean([A[i] * (np.eye(len(pi))[x] - pi) for i, x in enumerate(group)], axis=0))
        chances.append(math.prod(pi[x] for x in group))
    g, chance = np.array(gradients), np.array(chances)
    mean = chance @ g
    return float(np.linalg.norm(mean) / np.sqrt(chance @ np.sum((g - mean) ** 2, axis=1)))


@pytest.mark.parametrize("objective", [TILTED, SELF], ids=["tilted", "self-sharpening"])
@pytest.mark.parametrize("kind", ["reinforce", "rloo"])
@pytest.mark.parametrize("G", [2, 3, 5])
def test_the_closed_form_is_the_sum_over_all_ordered_groups(kind: str, objective: Objective, G: int) -> None:
    at = setting(objective, PROBLEM, 0.3)
    expected = by_hand(kind, POLICY, rewards(objective, PROBLEM, POLICY), G)
    assert closed(kind, at, POLICY, Options(group_size=G)) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=30)
@given(
    st.lists(st.floats(0.02, 1.0), min_size=3, max_size=3),
    st.lists(st.floats(0.02, 1.0), min_size=3, max_size=3),
    st.integers(2, 4),
    st.floats(0.0, 3.0),
)
def test_any_policy_and_group(first: list[float], second: list[float], G: int, alpha: float) -> None:
    base, pi = np.array(first) / sum(first), np.array(second) / sum(second)
    problem, objective = Problem(base, [0, 1, 0]), Objective(alpha=alpha, beta_inv=2.0)
    expected = by_hand("rloo", pi, rewards(objective, problem, pi), G)
    found = closed("rloo", setting(objective, problem, 0.3), pi, Options(group_size=G))
    assert found == pytest.approx(expected, rel=1e-9)


def test_enumeration_is_the_sum_over_all_ordered_groups() -> None:
    expected = by_hand("grpo", POLICY, rewards(TILTED, PROBLEM, POLICY), 4)
    assert enumerated("grpo", TILTED, PROBLEM, POLICY, 4) == pytest.approx(expected, rel=1e-10)
    assert enumerated("ppo", TILTED, PROBLEM, POLICY, 4) is None
    assert enumerated("grpo", TILTED, PROBLEM, POLICY, 10**6) is None  # too many groups
    assert enumerated("grpo", TILTED, PROBLEM, np.array([0.5, 0.5, 0.0, 0.0]), 4) is None
    refreshed = TILTED.model_copy(update={"reference": "refresh:5"})
    assert enumerated("grpo", refreshed, PROBLEM, POLICY, 4) is None  # p is the run's, which is not asked for


@pytest.mark.parametrize("kl", ["k1-reward", "k3-reward"])
def test_the_closed_form_is_what_the_learner_does(kl: str) -> None:
    """Repeated updates of the learner itself, with noise on its rewards and an error of log p."""
    options = Options(group_size=4, kl=kl)
    at = setting(TILTED, PROBLEM, 0.3, reward_noise=0.7, base_noise=0.5)
    exact = closed("rloo", at, POLICY, options)
    found = drawn("rloo", SEPARATE, options, at, state_at("rloo", at, POLICY, options), seed=1, draws=20_000)
    assert found.low < exact**2 < found.high
    assert found.high - found.low < 0.1 * exact**2


def test_a_reference_that_is_due_for_renewal_counts_as_renewed() -> None:
    refreshed, options = TILTED.model_copy(update={"reference": "refresh:3"}), Options(group_size=3)
    at = setting(refreshed, PROBLEM, 0.3)
    signal = closed_form("rloo", SEPARATE, options)
    assert signal is not None
    with jax.enable_x64():
        state = state_at("rloo", at, POLICY, options)
        due, not_due = (float(signal(at, state.parameters.theta, state._replace(updates=k))) for k in (3, 4))
    assert due == pytest.approx(by_hand("rloo", POLICY, rewards(SELF, PROBLEM, POLICY), 3))
    assert not_due == pytest.approx(by_hand("rloo", POLICY, rewards(TILTED, PROBLEM, POLICY), 3))


def test_several_prompts_add_their_squares() -> None:
    """Prompts are sampled apart, so signals and noises of the two add, each with the square of its weight."""
    other = Problem([0.25, 0.25, 0.3, 0.2], [1, 0, 0, 0])
    options, policies = Options(group_size=3), np.stack([POLICY, POLICY[::-1]])
    both = setting(TILTED, [PROBLEM, other], 0.3, weights=np.array([0.2, 0.8]))
    signal = closed_form("rloo", SEPARATE, options)
    assert signal is not None
    with jax.enable_x64():
        state = make("rloo", both, SEPARATE, options).init(jax.random.key(0))
        log_pi = jnp.log(jnp.asarray(policies))
        found = float(signal(both, log_pi, state._replace(parameters=state.parameters._replace(theta=log_pi))))
    signals, noises = 0.0, 0.0
    for problem, pi, weight in zip((PROBLEM, other), policies, (0.2, 0.8), strict=True):
        R = rewards(TILTED, problem, pi)
        size = float(np.sum((weight * pi * (R - pi @ R)) ** 2))
        signals, noises = signals + size, noises + size / by_hand("rloo", pi, R, 3) ** 2
    assert found == pytest.approx(math.sqrt(signals / noises), rel=1e-10)


def test_equal_rewards_have_no_ratio() -> None:
    """At the Gibbs optimum every pseudo-reward is the same and the gradient is 0, up to rounding."""
    weights = PROBLEM.base**2 * np.exp(3.0 * PROBLEM.reward)
    assert math.isnan(closed("rloo", setting(TILTED, PROBLEM, 0.3), weights / weights.sum(), Options(group_size=4)))


def test_where_there_is_no_closed_form() -> None:
    assert closed_form("grpo", SEPARATE, Options()) is None
    assert closed_form("rloo", SHARED, Options()) is None
    assert closed_form("rloo", SEPARATE, Options(kl="k2-loss")) is None


@pytest.mark.parametrize("mean", [0.0, 0.1, 2.0])
def test_the_interval_of_draws_covers(mean: float) -> None:
    """Gaussian gradients with |E g|^2 / tr Cov g = mean^2 / 3: 95% of 400 intervals hold it, within 4 errors."""
    rng = np.random.default_rng(0)
    found = [ratio_of_draws(rng.normal([mean, 0, 0], 1.0, (256, 3))) for _ in range(400)]
    covered = np.mean([one.low < mean**2 / 3 < one.high for one in found])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400)
    squares = np.array([one.squared for one in found])
    assert abs(squares.mean() - mean**2 / 3) < 4 * squares.std() / 20 + 0.01 * mean**2
    with pytest.raises(InputError, match="draws: got 10"):
        ratio_of_draws(np.ones((10, 2)))


def test_the_ratio_of_draws_is_one_of_pairs() -> None:
    """The mean of g_i . g_j over all pairs, and NumPy's covariance."""
    g = np.random.default_rng(1).normal([0.3, 0.0], 1.0, (70, 2))
    pairs = [g[i] @ g[j] for i, j in itertools.combinations(range(70), 2)]
    assert ratio_of_draws(g).squared == pytest.approx(np.mean(pairs) / np.trace(np.cov(g.T)), rel=1e-10)


def test_a_common_shift_of_logits_is_no_signal() -> None:
    """Adam's first step is the gradient's sign: up for the sampled outcome, down for the others, 2 e_x but for a shift.

    So |E g|^2 = 4 |pi - 1/3|^2 and tr Cov g = 4 (1 - |pi|^2).
    """
    pi = np.array([0.6, 0.3, 0.1])
    options = Options(group_size=1, optimizer="adam", epsilon=1e-12, reference_moves=False, noisy_reward=False)
    at = setting(Objective(alpha=0.0, beta_inv=1.0, mode="optimization"), Problem(pi, [1, 2, 3]), 0.3)
    found = drawn("reinforce", SEPARATE, options, at, state_at("reinforce", at, pi, options), seed=1, draws=4096)
    expected = np.sum((pi - 1 / 3) ** 2) / (1 - np.sum(pi**2))
    assert abs(found.squared - expected) < found.high - found.low < 0.3 * expected


def test_fixation_counts_vertices_with_wilson_intervals() -> None:
    rows = fixation(np.array([0, 0, 1, 2]), np.array([1.0, 0.99, 0.989, 0.995]), range(3))
    assert [row["runs"] for row in rows] == [2, 0, 1]
    z, n, p = 1.959963984540054, 4, 0.5
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = [(centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)]
    assert rows[0]["interval"] == pytest.approx(expected)
    assert wilson(0, 4) == pytest.approx([0.0, z * z / (4 + z * z)])
    assert fixation(np.array([1]), np.array([1.0]), [1], random=False)[0]["interval"] is None


def test_a_sweep_records_both(tmp_path: Path) -> None:
    """The base's second outcome is impossible: outcomes keep their numbers, and every run ends at 0 or 2."""
    config = SweepConfig(
        base="0.4,0,0.4,0.2",
        reward="0",
        alpha=(2.0,),
        reference=("policy",),
        learner=("rloo",),
        group_size=(3,),
        seeds=12,
        steps=800,
        step_size=(1.0,),
    )
    table = sweep(config, tmp_path / "run")
    first, *_ = pq.read_table(table).to_pylist()
    pi = np.array([0.4, 0.4, 0.2])
    assert first["gradient_snr"] == pytest.approx(by_hand("rloo", pi, np.log(pi), 3), rel=1e-9)
    (row,) = summarise(read(table))
    ends = {entry["seed"]: entry["top_outcome"] for entry in pq.read_table(table).to_pylist()}  # the last step wins
    assert set(ends.values()) == {0, 2}
    assert {one["outcome"]: one["runs"] for one in row["fixation"]} == {
        outcome: list(ends.values()).count(outcome) for outcome in (0, 2)
    }
    assert row["collapsed"] == 1.0


def test_a_simulation_reports_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--alpha", "2", "--beta-inv", "3", "--base", "0.4,0.3,0.2,0.1", "--reward", "1,3", "--group-size", "4"]
    run = ["--learner", "natural,rloo,grpo,dapo", "--steps", "20", "--seeds", "6", "--json", "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(["toy", "simulate", *flags, *run])
    told = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, schema_of("toy simulate"))
    tracks = {row["learner"]: row for row in told["tracks"]}
    methods = {learner: row["gradient_snr_method"] for learner, row in tracks.items()}
    assert methods == {"natural": None, "rloo": "closed form", "grpo": "enumeration", "dapo": "draws"}
    R = rewards(TILTED, PROBLEM, PROBLEM.base)
    for learner in ("rloo", "grpo"):
        assert tracks[learner]["gradient_snr_start"] == pytest.approx(by_hand(learner, PROBLEM.base, R, 4), rel=1e-9)
    low, high = tracks["dapo"]["gradient_snr_start_interval"]
    assert 0 < low < tracks["dapo"]["gradient_snr_start"] < high
    with np.load(tmp_path / "trajectory.npz") as stored:
        ends = np.exp(stored["log_policy/tilted/rloo"][-1])
    ratios = [by_hand("rloo", pi, rewards(TILTED, PROBLEM, pi), 4) for pi in ends]
    assert tracks["rloo"]["gradient_snr"] == pytest.approx(math.sqrt(np.mean(np.square(ratios))), rel=1e-9)
    assert tracks["natural"]["fixation"][0]["interval"] is None
    assert [one["runs"] for one in tracks["rloo"]["fixation"]] == [int(n) for n in (ends >= 0.99).sum(axis=0)]
