"""Two processes with sharded weights against one process: the same samples, losses, weights and evaluation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sharpen.llm import metrics
from sharpen.llm.config import TrainConfig, resolve
from sharpen.llm.rollout import vllm_available
from sharpen.llm.run import Report, train
from sharpen.llm.world import World
from sharpen.objective import InputError, preset

SMALL: dict[str, Any] = {
    "prompts_per_step": 4,
    "samples_per_prompt": 4,
    "checkpoint_every": 2,
    "engine": "transformers",
    "optimizer": {"learning_rate": 1e-3},
    "evaluation": {"problems": 5, "samples": 2},  # an odd number, which two processes share unequally
    "seed": 3,
}
ROUNDING = 1e-5


class KilledError(RuntimeError):
    pass


def small(**changes: Any) -> TrainConfig:
    return resolve({**SMALL, "objective": preset("tilted", reference="refresh:2").to_dict(), **changes})


def die_at(step: int) -> Report:
    def die(record: dict[str, Any]) -> None:
        if record["step"] == step:
            raise KilledError

    return Report(step=die)


def by_two(out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Start or continue a run folder by two processes; without flags, with the settings that are in it."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    given = flags or ("--config", str(out / "config.yaml"))
    module = ["-m", "sharpen.cli.main", "llm", "train", *given, "--out", str(out), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *module], capture_output=True, text=True, env=environment, timeout=800)


def assert_agree(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for name in a.keys() - {"seconds"}:
            assert_agree(a[name], b[name], f"{where}.{name}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for place, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_agree(x, y, f"{where}[{place}]")
    elif isinstance(a, float):
        assert a == pytest.approx(b, abs=ROUNDING, rel=ROUNDING), where
    else:
        assert a == b, where


def assert_same_training(a: Path, b: Path) -> None:
    noise = ("engine_logprob_error", "engine_logprob_error_mean", "engine_kl", "importance_max")
    records = [metrics.read(out / "metrics.jsonl") for out in (a, b)]
    for record in (*records[0], *records[1]):
        assert max(abs(record[name]) for name in noise[:3]) < ROUNDING
    first, second = ([{k: v for k, v in r.items() if k not in noise} for r in run] for run in records)
    assert_agree(first, second)
    weights = [load_file(out / "checkpoints" / "last" / "model.safetensors") for out in (a, b)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=ROUNDING, rtol=0)


@pytest.mark.slow
def test_two_processes_train_as_one_and_both_continue_each_others_runs(tmp_path: Path) -> None:
    """Losses, gradient norms, metrics, weights and evaluation, with a reference that moves."""
    one, two = tmp_path / "one", tmp_path / "two"
    train(small(steps=4), one)
    with pytest.raises(KilledError):
        train(small(steps=4), two, report=die_at(2))  # the newest checkpoint is that of two updates
    done = by_two(two)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same_training(one, two)
    evaluations = [json.loads((out / "evaluation.json").read_text()) for out in (one, two)]
    assert_agree(evaluations[0], evaluations[1])
    (printed,) = done.stdout.splitlines()  # by one of the processes
    assert json.loads(printed) == evaluations[1]

    # What two processes saved is continued by one, here to more steps.
    longer, again = tmp_path / "longer", tmp_path / "again"
    train(small(steps=6), longer)
    shutil.copytree(two, again, symlinks=True)
    (again / "evaluation.json").unlink()
    settings = (again / "config.yaml").read_text()
    (again / "config.yaml").write_text(settings.replace("\nsteps: 4\n", "\nsteps: 6\n"))
    notes: list[str] = []
    train(small(steps=6), again, report=Report(note=notes.append))
    assert notes == ["continuing from step_000004"]
    assert_same_training(longer, again)


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.skipif(not vllm_available(), reason="vLLM is not installed")
@pytest.mark.parametrize("tensor_parallel", [1, 2], ids=["an engine each", "one engine together"])
def test_two_processes_sample_with_vllm(tensor_parallel: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ["--engine", "vllm", "--preset", "tempered", "--steps", "2", "--tensor-parallel", str(tensor_parallel)]
    flags += ["--prompts-per-step", "4", "--samples-per-prompt", "4", "--learning-rate", "1e-3"]
    flags += ["--eval-problems", "1", "--eval-samples", "2"]  # fewer problems than processes
    done = by_two(out, *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    for record in metrics.read(out / "metrics.jsonl"):
        # Both implementations have the policy's weights, after an update too; the engine's are divided or not.
        assert 0.0 < record["engine_logprob_error"] < 1e-4
        assert record["gradient_norm"] > 0
    assert json.loads((out / "evaluation.json").read_text())["effective_alpha"]["target"] == 2.0


def test_shares_are_contiguous_and_equal() -> None:
    parts = [World(rank, 3).share(range(6)) for rank in range(3)]
    assert [list(part) for part in parts] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(InputError, match="prompts_per_step: got 5"):
        World(0, 2).share(range(5))


def test_one_process_talks_to_nobody() -> None:
    world = World()
    assert world.gather([1, 2]) == [1, 2]
    assert world.most(3) == 3
    assert world.from_first("x") == "x"
