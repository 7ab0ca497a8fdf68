"""Two processes that keep the model whole (``--shard never``) train one policy: that of one process, and of FSDP2."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed.placement import check_processes, computes_bfloat16, is_sharded_run, placement
from sharpen.llm.distributed.sharding import average_gradients
from sharpen.llm.distributed.world import World
from sharpen.llm.training import metrics
from sharpen.llm.training.master import MasterWeights
from sharpen.llm.training.run import train
from sharpen.objective import PRESETS
from tests.forked import Forks

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


LORA = {"full": None, "lora": {"rank": 2}}
# Two processes a run.
DRIVER = """
import sys
from pathlib import Path
from sharpen.cli.main import main
from tests.llm.distributed.forks import together

for settings in map(Path, sys.argv[1:]):
    command = ["llm", "train", "--config", str(settings), "--out", str(settings.with_suffix("")), "--json"]
    lives = together(2, lambda _: main(command), settings)
    if any(status for status, _, _ in lives):
        sys.exit("\\n".join(text for _, _, text in lives))
"""


def configured(name: str) -> TrainConfig:
    return resolve({**SMALL, "lora": LORA[name], "shard": "never"})


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory, model_forks: Forks) -> Path:
    """The folder of the runs of two processes, ``full`` and ``lora``."""
    folder = tmp_path_factory.mktemp("two")
    settings = [folder / f"{name}.yaml" for name in LORA]
    for file in settings:
        file.write_text(yaml.safe_dump(configured(file.stem).model_dump(mode="json")))
    done = model_forks.run(DRIVER, *map(str, settings), environment=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / "last" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", LORA)
def test_two_processes_with_whole_models_train_the_policy_of_one(name: str, by_two: Path, tmp_path: Path) -> None:
    train(configured(name), tmp_path / "one")
    runs = [metrics.read(out / "metrics.jsonl") for out in (tmp_path / "one", by_two / name)]
    assert len(runs[0]) == len(runs[1]) == 2
    for one, two in zip(*runs, strict=True):
        for measure in ("loss", "gradient_norm", "pseudo_reward", "entropy"):
            assert two[measure] == pytest.approx(one[measure], rel=1e-4, abs=1e-5), measure
    first, second = weights(tmp_path / "one"), weights(by_two / name)
    for key, weight in first.items():
        # Adam divides by the gradient's size: where that is rounding noise, an update is as large as any other.
        close = torch.isclose(second[key], weight, atol=1e-4, rtol=0)
        assert close.float().mean() > 0.999, key


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


def test_a_whole_model_in_bfloat16_keeps_what_an_update_adds_in_float32() -> None:
    """A change of less than one part in 256 of a weight is lost in bfloat16 itself; in the master it adds up."""
    torch.manual_seed(0)
    precise = torch.nn.Linear(3, 2)
    rounded = copy.deepcopy(precise).to(torch.bfloat16)
    master = MasterWeights(rounded, dict(precise.named_parameters()))
    masters = dict(master.named_parameters())
    assert all(torch.equal(masters[name], weight) for name, weight in precise.named_parameters())
    before = masters["weight"].detach().clone()
    inputs = torch.randn(4, 3)
    for _ in range(2):  # two microbatches add up
        rounded(inputs.to(torch.bfloat16)).float().sum().backward()
    assert rounded.weight.grad is None
    torch.testing.assert_close(masters["weight"].grad, 2 * inputs.sum(dim=0).expand(2, 3), rtol=0.03, atol=0.03)
    with torch.no_grad():
        for _ in range(100):
            masters["weight"].mul_(1 + 1e-3)
            master.round()
    expected = before * 1.001**100
    torch.testing.assert_close(masters["weight"].detach(), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(rounded.weight, masters["weight"].to(torch.bfloat16))


def test_one_process_on_a_cpu_is_whole_in_bfloat16_and_is_told_which_cpus_have_it(tmp_path: Path) -> None:
    for changes, sharded in (({}, False), ({"shard": "always"}, True), ({"shard": "never"}, False)):
        config = resolve({**SMALL, "device": "cpu", "dtype": "bfloat16", **changes})
        check_processes(config, World())
        assert is_sharded_run(config, World(), "bfloat16") is sharded
    config = resolve({**SMALL, "device": "cpu"})
    assert is_sharded_run(config, World(), "bfloat16", "cuda")
    assert placement(config) == ("cpu", "float32")  # too small to gain
    cpu = tmp_path / "cpuinfo"
    for text, known in (("flags\t\t: sse avx512_bf16 amx\n", True), ("flags : sse avx512f\n", False), ("", False)):
        cpu.write_text(text)
        assert computes_bfloat16(cpu) is known
    assert not computes_bfloat16(tmp_path / "none")
