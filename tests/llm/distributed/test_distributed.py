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
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed.world import World
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.llm.training import metrics
from sharpen.llm.training.run import Report, train
from sharpen.objective import InputError, preset
from tests.forked import Forks

SMALL: dict[str, Any] = {
    "problems": 64,
    "max_length": 48,
    "prompts_per_step": 4,
    "samples_per_prompt": 4,
    "checkpoint_every": 2,
    "engine": "transformers",
    # Plain steps: with Adam's own epsilon a weight whose gradient is rounding alone would make a step of full size.
    "optimizer": {"learning_rate": 0.1, "epsilon": 1.0, "warmup_steps": 0},
    "evaluation": {"problems": 5, "samples": 2, "alpha_prompts": 3},  # odd: two processes share them unequally
    "seed": 3,
}
# Rounding in float32 is 1e-7 of a sum and after a few layers and updates 1e-6 to 1e-5 of it; a gradient that leaves out
# or counts twice is off by 1e-2 and more. Numbers are compared with their size, and those that are sums of cancelling
# terms, zero in the exact case, with what the terms leave.
CLOSE = 1e-3
CANCELLED = 1e-4
NOISE = (
    "engine_logprob_error",
    "engine_logprob_error_mean",
    "engine_logprob_error_usual",
    "engine_logprob_error_high",
)
NOISE += ("engine_kl",)
# Both runs of two processes with vLLM, forked from one that has imported it: that takes longer than what they compute.
BY_VLLM = """
import sys
from pathlib import Path
import vllm.entrypoints.llm, vllm.v1.engine.llm_engine, vllm.v1.worker.cpu_worker, vllm.model_executor.models.qwen2
from sharpen.cli.main import main
from tests.llm.distributed.forks import together

command, folder = sys.argv[2:], Path(sys.argv[1])
for size in "12":
    own = [*command, "--tensor-parallel", size, "--out", str(folder / size)]
    lives = together(2, lambda _: main(own), folder / f"words-{size}")
    if any(status for status, _, _ in lives):
        sys.exit("\\n".join(text for _, _, text in lives))
"""


class KilledError(RuntimeError):
    pass


def small(**changes: Any) -> TrainConfig:
    return resolve({**SMALL, "objective": preset("tilted", reference="refresh:2").to_dict(), **changes})


def die_at(step: int) -> Report:
    def die(record: dict[str, Any]) -> None:
        if record["step"] == step:
            raise KilledError

    return Report(step=die)


def by_two(out: Path) -> subprocess.CompletedProcess[str]:
    """Continue a run folder by two processes, with the settings that are in it."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    module = [
        "-m",
        "sharpen.cli.main",
        "llm",
        "train",
        "--config",
        str(out / "config.yaml"),
        "--out",
        str(out),
        "--json",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *module], capture_output=True, text=True, env=environment, timeout=800)


def assert_agree(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        # Which passes computed a step hangs on how many processes share it.
        for name in a.keys() - {"seconds", "one_pass"}:
            assert_agree(a[name], b[name], f"{where}.{name}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for place, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_agree(x, y, f"{where}[{place}]")
    elif isinstance(a, float):
        assert a == pytest.approx(b, abs=CANCELLED, rel=CLOSE), where
    else:
        assert a == b, where


def assert_same_training(a: Path, b: Path) -> None:
    records = [metrics.read(out / "metrics.jsonl") for out in (a, b)]
    for record in (*records[0], *records[1]):
        assert max(abs(record[name]) for name in NOISE) < CANCELLED
    first, second = ([{k: v for k, v in r.items() if k not in NOISE} for r in run] for run in records)
    assert_agree(first, second)
    mine, theirs, base = (
        load_file(folder / "model.safetensors")
        for folder in (*(out / "checkpoints" / "last" for out in (a, b)), Path(resolve_model("embedded").location))
    )
    assert mine.keys() == theirs.keys() >= base.keys()
    moved, apart = (
        sum(float((x[n] - y[n]).square().sum()) ** 0.5 for n in base) for x, y in ((mine, base), (mine, theirs))
    )
    assert moved > 0.01
    assert apart < CLOSE * moved


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
    assert len(list((two / "tensorboard").iterdir())) == 2  # of the killed run, and of the first of two processes
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
    assert notes[0] == "continuing from step_000004"
    assert all(note.startswith("measuring ") for note in notes[1:])  # the evaluation that ends a run
    assert_same_training(longer, again)


@pytest.fixture(scope="module")
def by_vllm(tmp_path_factory: pytest.TempPathFactory, model_forks: Forks) -> Path:
    """The folder of two runs, ``1`` and ``2``: an engine for each of two processes, and one for both."""
    folder = tmp_path_factory.mktemp("vllm")
    flags = ["llm", "train", "--engine", "vllm", "--preset", "tempered", "--steps", "2"]
    flags += ["--prompts-per-step", "4", "--samples-per-prompt", "4", "--learning-rate", "1e-3"]
    flags += ["--max-length", "24", "--eval-problems", "1", "--eval-samples", "2"]  # fewer problems than processes
    flags += ["--set", "problems=64"]  # of thousands that each process would draw and compare with what is measured
    done = model_forks.run(BY_VLLM, str(folder), *flags, environment=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize("tensor_parallel", [1, 2], ids=["an engine each", "one engine together"])
def test_two_processes_sample_with_vllm(tensor_parallel: int, by_vllm: Path) -> None:
    out = by_vllm / str(tensor_parallel)
    records = metrics.read(out / "metrics.jsonl")
    assert len(records) == 2
    for record in records:
        # Both implementations have the policy's weights, after an update too; the engine's are divided or not.
        assert 0.0 < record["engine_logprob_error"] < 1e-4
        assert record["gradient_norm"] > 0
    assert json.loads((out / "evaluation.json").read_text())["effective_alpha"]["target"] == 2.0


@given(st.integers(1, 40), st.integers(0, 200))
def test_every_prompt_is_one_processs_and_shares_differ_by_one(size: int, count: int) -> None:
    parts = [World(rank, size).part(count) for rank in range(size)]
    assert [place for part in parts for place in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if count >= size:
        assert [World(rank, size).share(count) for rank in range(size)] == parts
        assert min(map(len, parts)) >= 1
    else:
        with pytest.raises(InputError, match=f"prompts_per_step: got {count}, allowed: at least"):
            World(0, size).share(count)


def test_one_process_talks_to_nobody() -> None:
    world = World()
    assert world.gather([1, 2]) == [1, 2]
    assert world.most(3) == 3
    assert world.from_first("x") == "x"
