"""Two processes with sharded weights against one process: the same samples, losses, weights and evaluation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sharpen.llm import metrics
from sharpen.llm.world import World
from sharpen.objective import InputError

FLAGS = ["--engine", "transformers", "--prompts-per-step", "4", "--samples-per-prompt", "4", "--checkpoint-every", "2"]
FLAGS += ["--eval-problems", "5", "--eval-samples", "2", "--learning-rate", "1e-3", "--seed", "3"]
ROUNDING = 1e-5


def run(out: Path, processes: int, *flags: str) -> subprocess.CompletedProcess[str]:
    module = ["-m", "sharpen.cli.main", "llm", "train", *FLAGS, *flags, "--out", str(out)]
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *module], capture_output=True, text=True, env=environment, timeout=300)


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


@pytest.mark.slow
def test_two_processes_train_as_one_and_continue_each_others_runs(tmp_path: Path) -> None:
    """A moving reference and an odd number of evaluation problems; two steps by two processes, two more by one."""
    flags = ("--preset", "tilted", "--reference", "refresh:2", "--steps", "4")
    one, two = tmp_path / "one", tmp_path / "two"
    for out, processes in ((one, 1), (two, 2)):
        done = run(out, processes, *flags)
        assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = (metrics.read(out / "metrics.jsonl") for out in (one, two))
    noise = ("engine_logprob_error", "engine_logprob_error_mean", "engine_kl", "importance_max")
    for record in (*ours, *theirs):
        assert max(abs(record[name]) for name in noise[:3]) < ROUNDING
    assert_agree(*([{k: v for k, v in r.items() if k not in noise} for r in x] for x in (ours, theirs)))
    assert_agree(*(json.loads((out / "evaluation.json").read_text()) for out in (one, two)))
    weights = [load_file(out / "checkpoints" / "last" / "model.safetensors") for out in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=ROUNDING, rtol=0)
    (two / "evaluation.json").unlink()  # as if two processes had been killed after their last checkpoint
    again = run(two, 1, *flags)
    assert again.returncode == 0, again.stderr[-2000:]
    assert_agree(*(json.loads((out / "evaluation.json").read_text()) for out in (one, two)))


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
