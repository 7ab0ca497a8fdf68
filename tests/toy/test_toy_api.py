"""The toy from Python: what it gives is what the command line writes, and a learner of one's own is a learner."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import yaml

from sharpen import toy
from sharpen.cli.main import main
from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy import LEARNERS, ExactLearner, SampledLearner, SimulateConfig, Simulation, load, simulate, sweep
from sharpen.toy.problems.numbers import as_text, problem_texts
from sharpen.toy.problems.prompts import parse_task

BASE, REWARD, LENGTH = [0.4, 0.3, 0.2, 0.1], [0.0, 1.0, 0.0, 1.0], [1.0, 2.0, 2.0, 3.0]
SMALL: dict[str, Any] = {"learners": ["natural", "rloo"], "steps": 20, "seeds": 2, "record_every": 5}

OWN = '''
import jax.numpy as jnp
from jax.lax import stop_gradient

from sharpen.toy import SampledLearner


def leave_one_out(log_pi, batch, weight, w_h, log_z, options):
    """RLOO by itself: R minus the mean of the prompt's other rewards, the KL in the reward."""
    reward = batch.reward - w_h * (batch.log_start - batch.log_reference)
    G = reward.shape[-1]
    advantage = (reward - reward.mean(axis=-1, keepdims=True)) * (G / (G - 1))
    return -jnp.sum(weight * jnp.mean(stop_gradient(advantage) * log_pi, axis=-1))


mine = SampledLearner(leave_one_out)
no_learner = 3
'''


@pytest.fixture(autouse=True)
def no_learner_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner that a test hands over is registered for that test only."""
    for table in ("_parts", "_found"):
        monkeypatch.setattr(LEARNERS, table, dict(getattr(LEARNERS, table)))


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(["toy", *arguments])
    assert isinstance(exited.value.code, int)
    return exited.value.code


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the name of a module of a user's, in a folder of its own."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def run() -> Simulation:
    return simulate("tilted", BASE, REWARD, LENGTH, **SMALL)


def test_a_run_in_memory_is_the_command_line_run(tmp_path: Path, run: Simulation) -> None:
    texts = [",".join(map(str, numbers)) for numbers in (BASE, REWARD, LENGTH)]
    flags = ["--preset", "tilted", "--learner", "natural,rloo", "--steps", "20", "--seeds", "2", "--record-every", "5"]
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"base": texts[0], "reward": texts[1], "length": texts[2]}))
    folder = tmp_path / "run"
    assert command("simulate", *flags, "--config", str(tmp_path / "settings.yaml"), "--out", str(folder)) == 0
    with np.load(folder / "trajectory.npz") as stored:
        np.testing.assert_array_equal(run.updates, stored["updates"])
        for key, log_policy in run.log_policy.items():
            np.testing.assert_array_equal(log_policy, stored[f"log_policy/{key}"])
    found = load(folder)
    assert found.summary == run.summary
    pd.testing.assert_frame_equal(found.frame(), run.frame())
    pd.testing.assert_frame_equal(found.ends(), run.ends())


def test_the_frame_says_of_each_policy_what_its_definition_says(run: Simulation) -> None:
    table = run.frame()
    assert len(table) == 5 * (1 + 2)  # records x runs, the exact learner's only one
    p, r = np.array(BASE), np.array(REWARD)
    gibbs = p * np.exp(10 * r)
    for row in table.to_dict("records"):
        record = run.updates.tolist().index(row["step"])
        pi = np.exp(run.log_policy[f"tilted/{row['learner']}"][record, row["seed"]])
        assert [row[f"policy_{i}"] for i in range(4)] == pi.tolist()
        assert (row["regime"], row["top_outcome"]) == ("tilted", pi.argmax())
        expected = {
            "expected_reward": pi @ r,
            "entropy": -pi @ np.log(pi),
            "kl_base": pi @ np.log(pi / p),
            "kl_optimum": pi @ np.log(pi / (gibbs / gibbs.sum())),
            "length": pi @ np.array(LENGTH),
            "effective_alpha": np.cov(np.log(pi), np.log(p), aweights=pi)[0, 1] / np.cov(np.log(p), aweights=pi),
            "value": pi @ r + 0.1 * (pi @ np.log(p / pi)),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_outcomes_keep_their_numbers_where_the_base_excludes_some() -> None:
    found = simulate("task-reward", [0.0, 0.5, 0.0, 0.5], [0, 0, 0, 1], learners="natural", steps=40, record_every=40)
    last = found.frame().iloc[-1]
    assert last["top_outcome"] == 3
    assert last["policy_3"] > 0.9
    assert (last["policy_0"], last["policy_2"]) == (0.0, 0.0)


def test_ends_are_the_summary(run: Simulation) -> None:
    ends = run.ends().set_index("learner")
    assert run.summary is not None
    for row in run.summary["tracks"]:
        assert ends.loc[row["learner"], "gap"] == row["gap"]
        assert ends.loc[row["learner"], "verdict"] == row["verdict"]
    low, high = next(row for row in run.summary["tracks"] if row["learner"] == "rloo")["entropy_interval"]
    assert (ends.loc["rloo", "entropy_low"], ends.loc["rloo", "entropy_high"]) == (low, high)
    assert np.isnan(ends.loc["natural", "entropy_low"])


@pytest.mark.parametrize(
    "given",
    [
        {"base": tuple(BASE), "reward": tuple(REWARD), "length": tuple(LENGTH)},
        {"base": np.array(BASE), "reward": np.array(REWARD), "length": np.array(LENGTH, dtype=int)},
        {"base": "0.4,0.3,0.2,0.1", "reward": "1,3", "length": "1,2,2,3"},
        {"base": BASE, "reward": np.array([False, True, False, True]), "length": LENGTH},
        {"base": Problem(BASE, REWARD, LENGTH)},
    ],
    ids=["tuples", "arrays", "texts", "truths", "problem"],
)
def test_every_form_of_the_same_problem_is_the_same_run(given: dict[str, Any], run: Simulation) -> None:
    again = simulate("tilted", **given, **SMALL)
    for key, log_policy in run.log_policy.items():
        np.testing.assert_allclose(again.log_policy[key], log_policy, rtol=1e-12)


def test_the_configuration_keeps_text(tmp_path: Path) -> None:
    config = SimulateConfig(base=np.array(BASE), reward=[0, 1, 0, 1])  # type: ignore[arg-type]
    assert (config.base, config.reward, config.length) == ("0.4,0.3,0.2,0.1", "0.0,1.0,0.0,1.0", None)
    assert SimulateConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_text_of_numbers_has_every_digit() -> None:
    numbers = [1 / 3, 0.1 + 0.2, 1e-300, 2.0]
    assert [float(one) for one in str(as_text(numbers, "length")).split(",")] == numbers


def test_a_problem_that_underflows_survives_its_text() -> None:
    given = Problem.from_log([0.0, -1e6, -np.inf], [0.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    again = parse_task(**problem_texts(given))
    np.testing.assert_array_equal(again.log_base, given.log_base)
    np.testing.assert_array_equal(again.support, given.support)


def test_a_run_folder_that_is_not_finished_is_loaded(tmp_path: Path, run: Simulation) -> None:
    class StopError(Exception):
        pass

    def stop(key: str, done: int, steps: int) -> None:
        if key == "tilted/rloo" and done == steps:
            raise StopError

    with pytest.raises(StopError):
        simulate("tilted", BASE, REWARD, LENGTH, **SMALL, out=tmp_path / "run", progress=stop)
    half = load(tmp_path / "run")
    assert half.summary is None
    assert set(half.log_policy) == set(run.log_policy)
    pd.testing.assert_frame_equal(half.frame(), run.frame())
    with pytest.raises(InputError, match="not finished"):
        half.ends()
    whole = simulate("tilted", BASE, REWARD, LENGTH, **SMALL, out=tmp_path / "run")
    assert whole.summary == run.summary


def test_a_sweep_in_memory_is_the_one_in_a_folder(tmp_path: Path) -> None:
    grid = {"alpha": [1.0, 2.0], "learner": ("rloo", "natural"), "seeds": 2, "steps": 10, "batch": 2}
    table = sweep(grid, base=BASE, reward=np.array(REWARD))
    pd.testing.assert_frame_equal(sweep(grid, base=BASE, reward=REWARD, out=tmp_path / "sweep"), table)
    again = sweep({"alpha": 2, "learner": "rloo", "seeds": 2, "steps": 10, "batch": 2}, base=Problem(BASE, REWARD))
    chosen = table[(table.alpha == 2) & (table.learner == "rloo")].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, pd.DataFrame(chosen))


def test_a_learner_of_ones_own_that_is_rloo_moves_as_rloo(own: str, run: Simulation, tmp_path: Path) -> None:
    name = f"{own}:mine"
    found = simulate("tilted", BASE, REWARD, LENGTH, **{**SMALL, "learners": name}, out=tmp_path / "run")
    expected = run.log_policy["tilted/rloo"]
    np.testing.assert_allclose(found.log_policy[f"tilted/{name}"], expected, rtol=1e-10)
    assert found.summary is not None
    assert found.summary["tracks"][0]["gradient_snr_method"] == "draws"
    swept = sweep(learner=["rloo", name], base=BASE, reward=REWARD, seeds=2, steps=10)
    ends = swept[swept.step == 10].pivot(index="seed", columns="learner", values="entropy")
    np.testing.assert_allclose(ends[name], ends["rloo"], rtol=1e-10)


def test_the_command_line_takes_a_learner_of_ones_own(
    own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--preset", "tempered", "--steps", "10", "--seeds", "2", "--out", str(tmp_path / "run")]
    assert command("simulate", "--learner", f"{own}:mine", *flags) == 0
    assert command("sweep", "--learner", f"{own}:mine", *flags[2:-1], str(tmp_path / "sweep")) == 0
    capsys.readouterr()
    assert command("simulate", "--learner", "rlo", *flags) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in (*LEARNERS, "module:object"))
    assert command("simulate", "--learner", f"{own}:no_learner", *flags) == 2
    assert "SampledLearner" in capsys.readouterr().err


def test_a_learner_is_handed_over_as_an_object(run: Simulation, tmp_path: Path) -> None:
    rloo = LEARNERS.get("rloo")
    assert isinstance(rloo, SampledLearner)

    def shifted(log_pi: Any, batch: Any, weight: Any, w_h: Any, log_z: Any, options: Any) -> Any:
        return rloo.loss(log_pi, batch, weight, w_h, log_z, options) + 1.0  # a constant moves nothing

    mine = SampledLearner(shifted)
    found = simulate("tilted", BASE, REWARD, LENGTH, **{**SMALL, "learners": [mine, rloo]})
    assert list(found.log_policy) == ["tilted/shifted", "tilted/rloo"]
    np.testing.assert_allclose(found.log_policy["tilted/shifted"], run.log_policy["tilted/rloo"], rtol=1e-10)
    other = simulate("tilted", BASE, REWARD, LENGTH, **{**SMALL, "learners": SampledLearner(shifted, step_size=0.1)})
    assert list(other.log_policy) == ["tilted/shifted1"]  # another learner, although its function has the same name
    unnamed = SampledLearner(lambda *parts: shifted(*parts))
    with pytest.raises(InputError, match="module:object"):
        simulate("tilted", learners=unnamed, out=tmp_path / "run")


def test_an_exact_learner_of_ones_own_follows_its_direction() -> None:
    def towards_the_last(setting: Any, family: Any, options: Any, state: Any, theta: Any, log_pi: Any) -> Any:
        return jnp.zeros_like(theta).at[:, -1].set(1.0)

    found = simulate("tilted", BASE, REWARD, learners=ExactLearner(towards_the_last), steps=10, step_size=0.5)
    pi = np.array(BASE) * [1, 1, 1, np.exp(5.0)]
    np.testing.assert_allclose(found.policy["tilted/towards_the_last"][-1, 0], pi / pi.sum(), rtol=1e-12)


def test_objectives_by_name_and_by_mapping() -> None:
    steps: dict[str, Any] = {"learners": "natural", "steps": 1}
    listed = simulate(["sharpening", Objective(alpha=4)], **steps)
    assert list(listed.policy) == ["sharpening/natural", "tempered/natural"]
    assert listed.config.objectives["tempered"].alpha == 4
    named = simulate({"four": Objective(alpha=4), "two": "tempered"}, **steps)
    assert list(named.policy) == ["four/natural", "two/natural"]
    assert simulate(steps=1, seeds=2).config == SimulateConfig(steps=1, seeds=2)  # what the command takes


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"base": [0.5, 0.6]}, "base"),
        ({"base": [0.5, "x"]}, "base"),
        ({"base": [True, False]}, "base"),
        ({"base": np.ones((2, 2, 2))}, "base"),
        ({"base": BASE, "reward": [1, 3]}, "reward"),
        ({"base": BASE, "length": [1, 2]}, "length"),
        ({"base": Problem(BASE, REWARD), "reward": REWARD}, "reward"),
        ({"objective": "tempted"}, "preset"),
        ({"objective": 3}, "objective"),
        ({"objective": [Objective(alpha=4), Objective(alpha=3)]}, "objective"),
        ({"learners": "rlo"}, "learners"),
        ({"learners": [print]}, "learners"),
        ({"steps": 0}, "steps"),
        ({"step_size": -1.0}, "step_size"),
        ({"step": 3}, "step"),
        ({"steps": 20, "step_size": 1e20, "learners": "tb", "objective": "tempered"}, "step_size"),
    ],
    ids=str,
)
def test_what_cannot_be_used_names_its_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        simulate(**{"objective": "tilted", "steps": 2, **given})
    assert field in caught.value.field


def test_a_sweep_names_the_field_at_fault() -> None:
    for given, field in (({"alpha": -1}, "alpha"), ({"learner": "rlo"}, "learner"), ({"bass": [1.0]}, "bass")):
        with pytest.raises(InputError) as caught:
            sweep(given)
        assert field in caught.value.field


def test_the_default_problem_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert toy.problem().base.tolist() == [0.40, 0.25, 0.15, 0.12, 0.08]
    simulate("tempered", learners="natural", steps=2)
    sweep(learner="natural", steps=2, seeds=1)
    assert list(tmp_path.iterdir()) == []
