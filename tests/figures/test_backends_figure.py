"""The figure of the three backends: it shows what the runs hold, and its claims can fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from sharpen.cli.main import main
from sharpen.figures.llm.backends import Curve, claims, llm_curve, reward_label, theory_curves, toy_curves
from sharpen.figures.toy.dynamics import read_trajectories
from sharpen.objective import InputError, Objective
from sharpen.toy.simulation.config import SimulateConfig
from sharpen.toy.simulation.simulate import simulate


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "toy"
    simulate(SimulateConfig(steps=40, seeds=4, record_every=10, learners=("rloo",)), folder)
    return folder


@pytest.fixture(scope="module")
def llm_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "llm"
    small = ["--steps", "2", "--checkpoint-every", "1", "--prompts-per-step", "4", "--samples-per-prompt", "2"]
    evaluation = ["--eval-problems", "4", "--eval-samples", "2"]
    command = ["llm", "train", "--preset", "sharpening", "--engine", "transformers", "--out", str(folder)]
    with pytest.raises(SystemExit) as exited:
        main([*command, *small, *evaluation])
    assert exited.value.code == 0
    return folder


def test_the_command_draws_and_states_every_claim(
    toy_run: Path, llm_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figure.png"
    with pytest.raises(SystemExit) as exited:
        main(["figures", "backends", "--toy", str(toy_run), "--llm", str(llm_run), "--out", str(out)])
    assert exited.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"figure: {out}"
    assert [line.split()[0] for line in lines[:-1]] == ["theory"] * 3 + ["toy"] * 3 + ["llm"] * 2
    assert all(line.endswith((": yes", ": no")) for line in lines[:-1])
    assert len(np.unique(imread(out)[..., :3].reshape(-1, 3), axis=0)) > 100


def test_theory_goes_from_the_base_to_the_optimum(toy_run: Path) -> None:
    curves = {curve.regime: curve for curve in theory_curves(read_trajectories(toy_run))}
    base, correct = np.array([0.40, 0.25, 0.15, 0.12, 0.08]), np.array([0, 1, 0, 1, 0])
    assert [curve.reward[0] for curve in curves.values()] == pytest.approx([0.37] * 4)
    assert curves["task-reward"].reward[1] == pytest.approx(1.0)
    assert curves["sharpening"].reward[1] == pytest.approx(0.0)
    # Right answers 1 and 3: natural gradients keep 25 : 12, softmax gradients the likelier one alone.
    assert curves["task-reward"].likelihood[1] == pytest.approx((25 * np.log(0.25) + 12 * np.log(0.12)) / 37)
    assert curves["task-reward"].softmax_end == pytest.approx((1.0, np.log(0.25)), abs=0.02)
    squared = base**2 / (base**2).sum()
    assert curves["tempered"].reward[1] == pytest.approx(squared @ correct)
    assert curves["tempered"].likelihood[1] == pytest.approx(squared @ np.log(base))


def test_toy_curves_are_the_stored_trajectories(toy_run: Path) -> None:
    (curve,) = [curve for curve in toy_curves(read_trajectories(toy_run)) if curve.regime == "tilted"]
    with np.load(toy_run / "trajectory.npz") as stored:
        reward = np.exp(stored["log_policy/tilted/rloo"]) @ stored["reward"]
        np.testing.assert_array_equal(curve.reward_updates, stored["updates"])
    np.testing.assert_allclose(curve.reward, reward.mean(axis=1))
    assert np.all(curve.reward_interval[0] <= curve.reward)
    assert np.all(curve.reward <= curve.reward_interval[1])


def test_a_language_models_curve_is_its_run(llm_run: Path) -> None:
    curve = llm_curve(llm_run)
    selection = json.loads((llm_run / "evaluation.json").read_text())["selection"]
    assert curve.regime == "sharpening"
    assert curve.reward_updates.tolist() == [0, 1, 2]
    assert curve.reward.tolist() == [row["pass@1"] for row in selection]
    assert curve.likelihood.shape == (2,)
    assert np.all(curve.likelihood < 0)


def curve_of(regime: str, reward: list[float], likelihood: list[float], half: float) -> Curve:
    ends, r = np.array([0.0, 1.0]), np.array(reward, dtype=np.float64)
    return Curve(
        regime,
        ends,
        r,
        np.stack([r - half, r + half]),
        np.arange(len(likelihood), dtype=np.float64),
        np.array(likelihood, dtype=np.float64),
    )


def test_claims_fail_where_the_numbers_say_so() -> None:
    risen, flat = curve_of("task-reward", [0.2, 0.9], [0, 0], 0.1), curve_of("task-reward", [0.2, 0.3], [0, 0], 0.1)
    assert [claim.holds for claim in claims("toy", [risen, flat])] == [True, False]
    fallen = curve_of("sharpening", [0.5, 0.1], [-3.0, -1.0], 0.1)
    better = curve_of("sharpening", [0.5, 0.9], [-1.0, -3.0], 0.1)
    assert [claim.holds for claim in claims("llm", [fallen, better])] == [True, True, False, False]
    assert claims("theory", [curve_of(Objective(alpha=2).regime, [0, 1], [0, 1], 0.0)]) == []


def test_pass_at_1_of_scores_says_from_which_score_on(llm_run: Path, tmp_path: Path) -> None:
    graded = tmp_path / "graded"
    shutil.copytree(llm_run, graded)
    kept = json.loads((graded / "evaluation.json").read_text())
    kept["selection"] = [row | {"threshold": 0.5} for row in kept["selection"]]
    (graded / "evaluation.json").write_text(json.dumps(kept))
    assert (llm_curve(graded).threshold, llm_curve(llm_run).threshold) == (0.5, 1.0)
    assert reward_label([llm_curve(graded)]) == "held-out pass@1, score ≥ 0.5 (95%)"
    assert reward_label([llm_curve(llm_run)]) == "held-out pass@1 (95%)"


@pytest.mark.parametrize("broken", ["evaluation.json", "metrics.jsonl", "config.yaml"])
def test_an_unfinished_run_is_bad_input(llm_run: Path, tmp_path: Path, broken: str) -> None:
    for file in llm_run.glob("*.*"):
        if file.is_file() and file.name != broken:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="llm folder"):
        llm_curve(tmp_path)
    with pytest.raises(InputError, match="toy folder"):
        read_trajectories(tmp_path)
