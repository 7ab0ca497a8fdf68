"""Problems of the toy from Python, YAML and the command line, and what is measured on them, against plain NumPy."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
import yaml
from pydantic import ValidationError
from scipy.integrate import solve_ivp

from sharpen.cli.main import main
from sharpen.objective import InputError, Objective
from sharpen.theory.core.flow import vector_field
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.compiled import quickly
from sharpen.toy.dynamics.engine import Ensemble, Machine, log_policy_only, run, run_at, run_keys, stack, start
from sharpen.toy.dynamics.observe import observer
from sharpen.toy.learners.parts.learner import Options
from sharpen.toy.problems.automata import Automaton, enumerate_sequences
from sharpen.toy.problems.prompts import ProblemConfig, correlated_reward
from sharpen.toy.problems.setting import Setting, setting
from sharpen.toy.sweeps.config import SweepConfig

CHAIN, STOP = np.array([[0.2, 0.5], [0.6, 0.1]]), np.array([0.3, 0.3])
LONGEST = 3


@pytest.fixture
def chain(tmp_path: Path) -> str:
    file = tmp_path / "chain.json"
    file.write_text(json.dumps(CHAIN.tolist()))
    return str(file)


def chance(name: tuple[int, ...], state: int) -> float:
    """A sequence's probability under the chain, written out: the oracle."""
    total = 1.0
    for token in name:
        total, state = total * CHAIN[state, token], token
    return total if len(name) == LONGEST else total * STOP[state]


@pytest.mark.parametrize(("policy", "parameters"), [("machine", 2 * 3), ("tree", 2 * 7 * 3)])
def test_a_markov_chain_is_the_base_of_two_prompts(policy: str, parameters: int, chain: str) -> None:
    fields = {"policy": policy, "transition": chain, "start": (0, 1), "longest": LONGEST, "correct": 1}
    task = ProblemConfig.model_validate(fields).task()
    names = [name for size in range(LONGEST + 1) for name in itertools.product(range(2), repeat=size)]
    for state, problem in enumerate(task.prompts):
        np.testing.assert_allclose(problem.base, [chance(name, state) for name in names], rtol=1e-12)
        assert problem.reward.tolist() == [float(name[-1:] == (1,)) for name in names]
    assert task.family.parameters == parameters
    assert ProblemConfig.model_validate(fields).task().family == task.family  # found again, so not compiled again
    at = setting(Objective(), task.prompts, 0.1)
    with jax.enable_x64():
        found = task.family.log_policy(at, task.family.start(at))
        np.testing.assert_allclose(np.asarray(found), [problem.log_base for problem in task.prompts], atol=1e-12)


def test_impossible_tokens_stay_impossible() -> None:
    """Two states that alternate; only the second can stop. Gradients through forbidden logits are finite."""
    machine = Automaton(np.array([[0.0, 1.0], [0.5, 0.0]]), np.array([0.0, 0.5]), np.array([[0, 1], [0, 1]]))
    found = enumerate_sequences(machine, 4, by_prefix=False)
    assert found.names == [(1,), (1, 0, 1), (1, 0, 1, 0)]
    np.testing.assert_allclose(np.exp(found.log_base[0]), [0.5, 0.25, 0.25])
    with jax.enable_x64():
        at = setting(Objective(), ProblemConfig(base="uniform:3").task().prompts, 0.1)
        logits = found.family.start(at)
        slopes = jax.jacobian(lambda theta: found.family.log_policy(at, theta))(logits)
    assert np.all(np.isfinite(slopes))
    assert np.abs(slopes).max() > 0.1


def test_natural_gradient_flow_of_a_tree_is_the_theorys_on_its_sequences() -> None:
    """A tree can be any distribution over its sequences, so its natural-gradient flow is that of a table."""
    objective = Objective(alpha=1.5, beta_inv=2.0)
    task = ProblemConfig(policy="tree", tokens=(0.6, 0.4), longest=2, correct=1).task()
    (problem,) = task.prompts
    exact = solve_ivp(
        lambda _, pi: vector_field(objective, problem, pi / pi.sum()),
        (0, 1.0),
        problem.base,
        rtol=1e-12,
        atol=1e-14,
        method="DOP853",
    ).y[:, -1]
    machine = Machine("natural-flow", task.family, Options(reference_moves=False), log_policy_only)
    runs = Ensemble(machine, stack([setting(objective, problem, 0.25)]), run_keys(0, 1))
    *_, last = run(runs, start(runs), steps=4, record_every=4)
    np.testing.assert_allclose(np.exp(last.records[-1, 0, 0]), exact, atol=1e-8)


def test_softmax_flow_of_a_shared_shift_follows_its_ode() -> None:
    task = ProblemConfig(base="0.7,0.2,0.1;0.1,0.2,0.7", reward="1", parameters="shared").task()
    base, weights, reward = np.array([p.base for p in task.prompts]), np.full(2, 0.5), np.array([0.0, 1.0, 0.0])

    def field(_: float, shift: np.ndarray) -> np.ndarray:
        pi = base * np.exp(shift)
        pi /= pi.sum(axis=1, keepdims=True)
        A = reward + np.log(base) - np.log(pi)
        return weights @ (pi * (A - np.sum(pi * A, axis=1, keepdims=True)))

    exact = solve_ivp(field, (0, 2.0), np.zeros(3), rtol=1e-12, atol=1e-14, method="DOP853").y[:, -1]
    at = setting(Objective(beta_inv=1.0), task.prompts, 0.5, weights=task.weights)
    machine = Machine("softmax-flow", task.family, Options(reference_moves=False), log_policy_only)
    runs = Ensemble(machine, stack([at]), run_keys(0, 1))
    *_, last = run(runs, start(runs), steps=4, record_every=4)
    expected = base * np.exp(exact)
    np.testing.assert_allclose(np.exp(last.records[-1, 0]), expected / expected.sum(axis=1, keepdims=True), atol=1e-8)


@pytest.mark.parametrize("rho", [-1.0, -0.6, 0.0, 0.9])
def test_correlated_rewards_have_exactly_that_correlation(rho: float) -> None:
    log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(12)))
    reward = correlated_reward(log_p, rho, 5)
    assert scipy.stats.pearsonr(log_p, reward)[0] == pytest.approx(rho, abs=1e-9)
    assert (reward.min(), reward.max()) == (0.0, 1.0)
    assert abs(rho) == 1.0 or not np.allclose(reward, correlated_reward(log_p, rho, 6))


def test_seeds_of_generated_prompts_count_up() -> None:
    task = ProblemConfig(prompts=3, base="dirichlet:4:7", reward="correlated:0.5:1", prompt_weights=(1, 1, 2)).task()
    for i, problem in enumerate(task.prompts):
        np.testing.assert_allclose(problem.base, np.random.default_rng(7 + i).dirichlet(np.ones(4)))
        np.testing.assert_allclose(problem.reward, correlated_reward(problem.log_base, 0.5, 1 + i))
    assert task.weights.tolist() == [0.25, 0.25, 0.5]


def command(*flags: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(["toy", "sweep", *flags])
    assert isinstance(exited.value.code, int)
    return exited.value.code


def test_the_same_mix_from_the_command_line_from_yaml_and_from_python(tmp_path: Path) -> None:
    """A mix of two prompts under the natural gradient: three ways to ask for it, one table, measures by hand."""
    flags = ["--base", "0.5,0.3,0.2;0.2,0.3,0.5", "--reward", "1;2", "--prompt-weights", "1,3", "--length", "1,2,2"]
    flags += ["--alpha", "2", "--learner", "natural", "--step-size", "0.5", "--seeds", "1", "--steps", "60"]
    flags += ["--record-at", "1,7,60", "--k", "1,2"]
    assert command(*flags, "--out", str(tmp_path / "flags")) == 0
    settings = yaml.safe_load((tmp_path / "flags" / "config.yaml").read_text())
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(settings))
    assert command("--config", str(tmp_path / "mix.yaml"), "--out", str(tmp_path / "yaml")) == 0
    assert SweepConfig.model_validate(settings) == SweepConfig(
        base="0.5,0.3,0.2;0.2,0.3,0.5",
        reward="1;2",
        prompt_weights=(1, 3),
        length="1,2,2",
        alpha=(2,),
        learner=("natural",),
        step_size=(0.5,),
        seeds=1,
        steps=60,
        record_at=(1, 7, 60),
        k=(1, 2),
    )
    tables = [tmp_path / way / "sweep.parquet" for way in ("flags", "yaml")]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    rows = pq.read_table(tables[0]).to_pylist()
    assert [row["step"] for row in rows] == [0, 1, 7, 60]
    base, weights = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]), np.array([0.25, 0.75])
    for row in rows:
        alpha = 2 - 0.5 ** row["step"]  # 1, then halfway to 2 with every step
        pi = base**alpha / (base**alpha).sum(axis=1, keepdims=True)
        right = np.array([pi[0, 1], pi[1, 2]])
        assert row["expected_reward"] == pytest.approx(weights @ right, abs=1e-9)
        assert row["pass@2"] == pytest.approx(weights @ (1 - (1 - right) ** 2), abs=1e-9)
        assert row["length=1"] == pytest.approx(weights @ pi[:, 0], abs=1e-9)
        assert row["length=2"] == pytest.approx(weights @ pi[:, 1:].sum(axis=1), abs=1e-9)
        assert row["kl_from_correct"] == pytest.approx(-weights @ np.log(right), abs=1e-9)
        assert row["effective_alpha"] == pytest.approx(alpha, abs=1e-9)
        assert row["effective_alpha_high"] - row["effective_alpha_low"] == pytest.approx(0.0, abs=1e-6)
        assert row["top_outcome"] is None
    stored = json.loads(pq.read_metadata(tables[0]).metadata[b"sharpen.config"])
    assert stored["reward"] == "1;2"


@pytest.mark.parametrize("P", [1, 2])
def test_the_interval_of_the_effective_alpha_is_whites(P: int) -> None:
    """The sandwich of the regression with a constant a prompt, weighted by prompt and policy, written with matrices."""
    base = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.5, 0.15, 0.25]])[:P]
    pi = np.array([[0.3, 0.45, 0.05, 0.2], [0.2, 0.1, 0.3, 0.4]])[:P]
    weights = np.array([0.25, 0.75]) if P == 2 else np.ones(1)
    design = np.column_stack([np.kron(np.eye(P), np.ones((4, 1))), np.log(base).ravel()])
    mass, y = np.diag((weights[:, None] * pi).ravel()), np.log(pi).ravel()
    bread = np.linalg.inv(design.T @ mass @ design)
    fitted = bread @ design.T @ mass @ y
    meat = design.T @ mass @ np.diag((y - design @ fitted) ** 2) @ mass @ design
    left = 4 * P - P - 1
    half = scipy.stats.t.ppf(0.975, left) * np.sqrt((bread @ meat @ bread)[-1, -1] * 4 * P / left)
    texts = ";".join(",".join(map(str, row)) for row in base)
    task = ProblemConfig(base=texts, prompt_weights=tuple(weights)).task()
    at = setting(Objective(), task.prompts, 0.1, weights=task.weights)
    found = observed(at, np.log(pi))
    ends = [float(found[f"effective_alpha{end}"]) for end in ("", "_low", "_high")]
    np.testing.assert_allclose(ends, [fitted[-1], fitted[-1] - half, fitted[-1] + half], rtol=1e-10)


@cache
def compiled() -> Callable[..., dict[str, jax.Array]]:
    return quickly(observer((4,)))


def observed(at: Setting, log_pi: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a sweep records of a policy."""
    with jax.enable_x64():
        found = compiled()(at, log_pi, None)
        return {name: np.asarray(value) for name, value in found.items()}


def test_measures_are_means_over_prompts() -> None:
    """Of each prompt's own number: the support is no exponential of the mean entropy."""
    base = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.1, 0.4, 0.4]])
    pi = np.array([[0.85, 0.05, 0.05, 0.05], [0.2, 0.2, 0.4, 0.2]])
    problems, weights = [Problem(one, [0, 1, 1, 1]) for one in base], np.array([0.25, 0.75])
    found = observed(setting(Objective(alpha=2.0), problems, 0.1, weights=weights), np.log(pi))
    right, before = pi[:, 1:] / pi[:, 1:].sum(axis=1)[:, None], base[:, 1:] / base[:, 1:].sum(axis=1)[:, None]
    expected = {
        "effective_support": np.exp(-np.sum(pi * np.log(pi), axis=1)),
        "top1": pi.max(axis=1),
        "kl_base": np.sum(pi * np.log(pi / base), axis=1),
        "kl_correct": np.sum(right * np.log(right / before), axis=1),
        "kl_from_correct": np.sum(before * np.log(before / pi[:, 1:]), axis=1),
        "pass@4": 1 - pi[:, 0] ** 4,
    }
    assert {name: float(found[name]) for name in expected} == pytest.approx(
        {name: float(weights @ one) for name, one in expected.items()}
    )


def test_a_policy_whose_sum_rounds_past_one_has_a_pass_at_k() -> None:
    at = setting(Objective(), Problem([0.25] * 4, [1, 0, 0, 0]), 0.1)
    found = observed(at, np.array([[1e-12, -60.0, -60.0, -60.0]]))
    assert found["pass@4"] == 1.0


def test_a_moving_reference_has_no_optimum_to_be_far_from() -> None:
    problem = Problem([0.4, 0.3, 0.2, 0.1], [1, 0, 0, 0])
    for reference, known in (("frozen", True), ("policy", False), ("refresh:5", False)):
        found = observed(setting(Objective(alpha=2.0, reference=reference), problem, 0.1), problem.log_base[None])
        assert bool(np.isfinite(found["kl_optimum"])) is known


def test_chosen_records_are_those_of_the_whole_run_and_survive_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine("rloo", ProblemConfig().task().family, Options(group_size=4), log_policy_only)
    at = setting(Objective(alpha=2), ProblemConfig().task().prompts, 0.2)
    runs = Ensemble(machine, stack([at] * 3), run_keys(0, 3))
    *_, whole = run(runs, start(runs), steps=30, record_every=1)
    *_, chosen = run_at(runs, start(runs), (1, 4, 30))
    np.testing.assert_allclose(chosen.records, whole.records[[0, 1, 4, 30]], atol=1e-13)
    monkeypatch.setattr("sharpen.toy.dynamics.engine.CHUNK_UPDATES", 3 * 10)
    parts = list(run_at(runs, start(runs), (1, 4, 30)))
    assert [part.updates for part in parts] == [1, 4, 14, 24, 30]
    for middle in parts[:-1]:
        *_, continued = run_at(runs, middle, (1, 4, 30))
        np.testing.assert_array_equal(continued.records, chosen.records)


BAD = [
    ({"base": "0.5,0.5;0.3,0.3,0.4"}, "base: got 'prompts of different sizes'"),
    ({"base": "0.5,0.5;0.3,0.7", "reward": "0;1;0"}, "base: got '2 prompts'"),
    ({"base": "1,0;0,1", "reward": "0"}, "base: got 'prompts that exclude"),
    ({"prompts": 2, "prompt_weights": (1, 2, 3)}, "prompt_weights: got '3 numbers'"),
    ({"reward": "correlated:1.5:0"}, "reward: got 'correlated:1.5:0'"),
    ({"reward": "correlated:1"}, "reward: got 'correlated:1'"),
    ({"base": "uniform:4", "reward": "correlated:0.5:0"}, "reward: got 'correlated with 4"),
    ({"policy": "machine", "parameters": "shared"}, "policy: got 'machine'"),
    ({"policy": "machine", "reward": "correlated:0.5:0", "correct": 1}, "correct: got 1"),
    ({"policy": "machine", "start": (1,)}, "start: got 1"),
    ({"policy": "tree", "transition": "/nonexistent.json"}, "transition: got '/nonexistent.json'"),
    ({"transition": "chain.json"}, "only with policy tree or machine"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_unusable_problems(fields: dict[str, object], message: str) -> None:
    with pytest.raises((ValidationError, InputError), match=message.replace("(", r"\(")):
        ProblemConfig.model_validate(fields).task()
