"""Two processes that keep the model whole (``--shard never``) train one policy: that of one process, and of FSDP2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed.placement import check_processes
from sharpen.llm.distributed.sharding import average_gradients
from sharpen.llm.distributed.world import World
from sharpen.llm.training import metrics
from sharpen.llm.training.run import train
from sharpen.objective import PRESETS, InputError

SMALL: dict[str, Any] = {
    "objective": PRESETS["tilted"].to_dict(),
    "steps": 2,
    "prompts_per_step": 4,
    "samples_per_prompt": 2,
    "max_length": 32,
    "checkpoint_every": 2,
    "engine": "transformers",
    "device": "cpu",
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
    "evaluation": {"problems": 2, "samples": 2, "alpha_prompts": 0},
    "seed": 3,
}


def by_two(out: Path, config: TrainConfig) -> None:
    settings = out.with_suffix(".yaml")
    settings.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "sharpen.cli.main", "llm", "train", "--config", str(settings), "--out", str(out), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *command], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / "last" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["full", "lora"])
def test_two_processes_with_whole_models_train_the_policy_of_one(lora: dict[str, int] | None, tmp_path: Path) -> None:
    config = resolve({**SMALL, "lora": lora, "shard": "never"})
    train(config, tmp_path / "one")
    by_two(tmp_path / "two", config)
    runs = [metrics.read(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    assert len(runs[0]) == len(runs[1]) == 2
    for one, two in zip(*runs, strict=True):
        for name in ("loss", "gradient_norm", "pseudo_reward", "entropy"):
            assert two[name] == pytest.approx(one[name], rel=1e-4, abs=1e-5), name
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, weight in first.items():
        # Adam divides by the gradient's size: where that is rounding noise, an update is as large as any other.
        close = torch.isclose(second[name], weight, atol=1e-4, rtol=0)
        assert close.float().mean() > 0.999, name


def test_gradients_are_averaged_also_where_one_process_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed as dist

    class Done:
        def wait(self) -> None: ...

    def with_the_other(tensor: torch.Tensor, async_op: bool) -> Done:
        assert async_op
        tensor += torch.full_like(tensor, 3.0)  # its own 6, divided by two
        return Done()

    monkeypatch.setattr(dist, "all_reduce", with_the_other)
    used, unused = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))
    used.grad = torch.tensor([2.0, 4.0, 6.0])
    average_gradients([used, unused], World(0, 2))
    assert used.grad.tolist() == [4.0, 5.0, 6.0]
    assert unused.grad is not None
    assert unused.grad.tolist() == [3.0, 3.0]
    average_gradients([used], World())
    assert used.grad.tolist() == [4.0, 5.0, 6.0]  # alone there is nothing to ask


def test_whole_models_compute_in_the_dtype_of_their_weights() -> None:
    """FSDP2 casts the passes; without it bfloat16 would be ignored without a word."""
    config = resolve({**SMALL, "shard": "never", "dtype": "bfloat16"})
    with pytest.raises(
        InputError, match=r"^shard: got 'never', allowed: auto or always, as the passes are in bfloat16"
    ):
        check_processes(config, World())
    for changes in ({"shard": "never", "dtype": "float32"}, {"shard": "auto", "dtype": "bfloat16"}):
        check_processes(resolve({**SMALL, **changes}), World())
