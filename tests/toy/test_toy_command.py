"""``sharpen toy simulate`` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from sharpen.cli.main import main
from sharpen.objective import PRESETS
from sharpen.toy.simulation.config import SimulateConfig
from sharpen.toy.simulation.simulate import simulate

SHORT = ["--steps", "200"]
SAMPLED = [*SHORT, "--seeds", "4", "--group-size", "4"]


def sharpen(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(["toy", "simulate", *arguments])
    assert isinstance(exited.value.code, int)
    return exited.value.code


@pytest.mark.slow
def test_the_default_run_agrees_with_the_theory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert sharpen("--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.replace(str(out), "").splitlines())) <= 80
    assert "DIFFERS" not in printed
    summary = json.loads((out / "summary.json").read_text())
    assert len(summary["tracks"]) == 12
    assert {row["verdict"] for row in summary["tracks"]} == {"agrees", "approaches"}
    for row in summary["tracks"]:
        slow = row["learner"] != "natural" and row["objective"] != "tempered"  # a vertex, like 1/t
        assert row["verdict"] == ("approaches" if slow else "agrees")
    assert {row["objective"] for row in summary["tracks"]} == set(PRESETS)
    assert SimulateConfig.model_validate(yaml.safe_load((out / "config.yaml").read_text())) == SimulateConfig()
    with np.load(out / "trajectory.npz") as stored:
        assert stored["log_policy/tempered/rloo"].shape == (301, 16, 5)
        assert stored["updates"][-1] == 3000
        np.testing.assert_allclose(np.exp(stored["log_policy/sharpening/natural"]).sum(axis=-1), 1.0)
        start = np.exp(stored["log_policy/task-reward/softmax"][0, 0])
        np.testing.assert_allclose(start, summary["problem"]["base"])
    assert (out / "figure.png").read_bytes()[:4] == b"\x89PNG"
    stamp = (out / "summary.json").stat().st_mtime_ns
    assert sharpen("--out", str(out)) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert (out / "summary.json").stat().st_mtime_ns == stamp


def test_flags_choose_objective_learner_and_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    flags = ["--alpha", "4", "--learner", "natural,softmax", "--base", "0.5,0.5,0", "--reward", "0", "--json"]
    assert sharpen(*SHORT, *flags, "--out", str(out)) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [row["learner"] for row in summary["tracks"]] == ["natural", "softmax"]
    assert summary["tracks"][0]["spec"]["alpha"] == 4.0
    assert summary["tracks"][0]["policy"] == [0.5, 0.5, 0.0]  # an outcome outside the base's support stays outside
    assert summary == json.loads((out / "summary.json").read_text())


def test_a_folder_belongs_to_one_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*SAMPLED, "--learner", "rloo", "--preset", "tempered", "--out", str(tmp_path / "run")]
    assert sharpen(*flags) == 0
    before = (tmp_path / "run" / "summary.json").read_bytes()
    assert sharpen(*flags, "--seed", "1") == 2
    assert "seed: 0 -> 1" in capsys.readouterr().err
    assert (tmp_path / "run" / "summary.json").read_bytes() == before
    assert sharpen(*flags, "--seed", "1", "--force") == 0
    (tmp_path / "notes.txt").write_text("mine")
    assert sharpen(*SHORT, "--force", "--out", str(tmp_path)) == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_that_died_between_chunks_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimulateConfig(steps=100, seeds=3, learners=("softmax", "rloo"))
    expected = simulate(config, tmp_path / "whole")
    monkeypatch.setattr("sharpen.toy.dynamics.engine.CHUNK_UPDATES", 60)

    class DiedError(Exception):
        pass

    def die(key: str, done: int, steps: int) -> None:
        if key == "tempered/rloo" and done == 60:
            raise DiedError

    with pytest.raises(DiedError):
        simulate(config, tmp_path / "parts", progress=die)
    seen: list[tuple[str, int]] = []
    found = simulate(config, tmp_path / "parts", progress=lambda key, done, steps: seen.append((key, done)))
    assert found == expected
    assert [done for key, done in seen if key == "task-reward/rloo"] == [100]  # finished before: not run again
    assert min(done for key, done in seen if key == "tempered/rloo") == 60
    arrays = [np.load(tmp_path / name / "trajectory.npz") for name in ("whole", "parts")]
    for name in arrays[0].files:
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name])


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_loses_no_finished_chunk(
    sent: signal.Signals, tmp_path: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    command = [sys.executable, "-m", "sharpen.cli.main", "toy", "simulate", "--preset", "tempered", "--learner", "rloo"]
    command += ["--steps", "300000", "--seeds", "64", "--record-every", "1000", "--out", str(tmp_path / "run")]
    process = spawn(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    part = tmp_path / "run" / "parts" / "000.npz"
    for _ in range(3000):
        if part.exists():
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (130 if sent == signal.SIGINT else -sent)
    assert "Traceback" not in stderr
    kept = f"{tmp_path / 'run'} keeps what is done; the same command goes on from there\ninterrupted\n"
    assert sent == signal.SIGKILL or stderr.endswith(kept)
    with np.load(part) as stored:
        assert stored["updates"] >= 1000


def test_noise_optimizer_and_correlated_rewards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With momentum 0.9 and step 0.1 a run ends at its own disturbed target, p exp(2 e) / Z, e of deviation 0.3."""
    flags = ["--preset", "tempered", "--alpha", "2", "--learner", "natural", "--optimizer", "momentum", "--json"]
    flags += ["--base-noise", "0.3", "--reward", "correlated:-1:0", "--seeds", "300", "--steps", "600"]
    assert sharpen(*flags, "--record-every", "600", "--out", str(tmp_path / "run")) == 0
    (row,) = json.loads(capsys.readouterr().out)["tracks"]
    assert row["verdict"] == "noisy"
    with np.load(tmp_path / "run" / "trajectory.npz") as stored:
        error = stored["log_policy/tempered/natural"][-1] / 2 - np.log(stored["base"])  # e, up to a constant
        assert np.corrcoef(np.log(stored["base"]), stored["reward"])[0, 1] == pytest.approx(-1.0)
    spread = (error - error.mean(axis=1, keepdims=True)).var(ddof=0) * 5 / 4  # the constant takes one degree of five
    assert spread == pytest.approx(0.3**2, rel=4 * np.sqrt(2 / (300 * 4)))


BAD_INPUT = [
    (["--preset", "tempered", "--optimizer", "lion"], "optimizer: got 'lion'"),
    (["--preset", "tempered", "--epsilon", "1e-2"], "epsilon: got 0.01"),
    (["--preset", "tempered", "--optimizer", "adam", "--epsilon", "0"], "epsilon: got 0.0"),
    (["--preset", "tempered", "--kl", "k4-loss"], "kl: got 'k4-loss'"),
    (["--reward", "correlated:2:0"], "reward: got 'correlated:2:0'"),
    (["--alpha", "nan"], "alpha: got nan"),
    (["--mode", "foo"], "mode: got 'foo'"),
    (["--base", "0.5,0.4"], "base: got 0.9"),
    (["--base", "0.5,0.6,-0.1"], "base: got -0.1"),
    (["--base", "/nonexistent.npy"], "base"),
    (["--reward", "0.5,1.5"], "reward"),
    (["--learner", "sgd"], "learners"),
    (["--learner", "rloo,rloo"], "learners"),
    (["--steps", "0"], "steps: got 0"),
    (["--step-size", "0"], "step_size"),
    (["--preset", "tempered", "--step-size", "3"], "step_size: got 3.0"),
    (["--group-size", "1"], "group_size: got 1"),
    (["--steps", "1000000000", "--record-every", "1"], "record_every: got 1"),
    (["--config", "/nonexistent.yaml"], "config"),
    (["--out", "/proc/nowhere"], "out: got '/proc/nowhere'"),
]


@pytest.mark.parametrize(("flags", "message"), BAD_INPUT, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_bad_input(flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sharpen("--out", str(tmp_path / "run"), *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "run" / "summary.json").exists()
