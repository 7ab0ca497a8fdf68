"""A reference whose shards lie in the machine's memory computes on the device, renews and is stored from there.

Without a GPU the two devices are stood in for: the mesh, where passes run, by the CPU, the memory by ``meta``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from sharpen.llm.configs.train import resolve
from sharpen.llm.distributed import world as processes
from sharpen.llm.distributed.world import World
from sharpen.llm.models.logprobs import SHARDED_FORWARD, token_logprobs
from sharpen.llm.models.registry import resolve as find
from sharpen.llm.models.weights import compute_device, own_part
from sharpen.llm.training.reference import Copy
from sharpen.llm.training.setup import prepare
from sharpen.llm.training.state import load_parameters, parameters
from sharpen.objective import PRESETS

ROWS = [[5, 6, 7]] * 2


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    processes.connect(World(), "cpu")
    yield
    processes.disconnect()


class Offloaded(torch.nn.Module):
    """What token_logprobs sees of a sharded model whose parameters lie elsewhere than its passes run."""

    def __init__(self) -> None:
        super().__init__()
        mesh = init_device_mesh("cpu", (1,))
        local = torch.empty(4, 2, device="meta")
        self.weight = torch.nn.Parameter(DTensor.from_local(local, mesh, [Shard(0)], run_check=False))
        self.config: Any = find_config()
        setattr(self, SHARDED_FORWARD, self.statistics)

    def statistics(
        self, tokens_BL: torch.Tensor, row_N: torch.Tensor, *_places: torch.Tensor, **_options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert tokens_BL.device.type == row_N.device.type == "cpu"
        return torch.full(row_N.shape, -1.0), torch.zeros(row_N.shape)


def find_config() -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(find("embedded").location)


def test_rows_go_where_the_passes_run_and_not_where_the_weights_lie() -> None:
    model = Offloaded()
    assert next(model.parameters()).device.type == "meta"
    assert compute_device(model) == torch.device("cpu")
    scored = token_logprobs(model, ROWS, ROWS, micro_batch_tokens=8)
    assert scored.logprobs_BT.tolist() == [[-1.0] * 3] * 2


def test_a_part_shares_the_weights_memory() -> None:
    mesh = init_device_mesh("cpu", (1,))
    for weight in (
        torch.nn.Parameter(torch.zeros(3)),
        torch.nn.Parameter(distribute_tensor(torch.zeros(3), mesh, [Shard(0)])),
        distribute_tensor(torch.zeros(3), mesh, [Replicate()]),
    ):
        own_part(weight).fill_(2.0)
        whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
        assert whole.tolist() == [2.0, 2.0, 2.0]


def assert_offloaded_run(device: str) -> None:
    """Scores, renewal and state of an offloaded reference are those of one that is not."""
    fields: dict[str, Any] = {"objective": PRESETS["tilted"].model_copy(update={"reference": "refresh:1"}).to_dict()}
    fields |= {"engine": "transformers", "device": device, "shard": "always"}
    scores, states = [], []
    for offload in (False, True):
        setup = prepare(resolve({**fields, "reference_offload": offload}), find("embedded"), World())
        reference = setup.reference
        assert isinstance(reference, Copy)
        first = token_logprobs(reference.copy_of_policy, ROWS, ROWS, micro_batch_tokens=8).logprobs_BT
        assert first.device.type == device
        if offload:
            assert {weight.device.type for weight in reference.copy_of_policy.parameters()} == {"cpu"}
        with torch.no_grad():
            for weight in setup.model.parameters():
                own_part(weight).mul_(1.25)
        reference.after_update(1)
        second = token_logprobs(reference.copy_of_policy, ROWS, ROWS, micro_batch_tokens=8).logprobs_BT
        state = parameters(reference.copy_of_policy, keep=True)
        load_parameters(reference.copy_of_policy, state, "here")
        third = token_logprobs(reference.copy_of_policy, ROWS, ROWS, micro_batch_tokens=8).logprobs_BT
        assert torch.equal(second, third)
        assert not torch.equal(first, second)
        scores.append((first.cpu(), second.cpu()))
        states.append(state)
        processes.disconnect()
    assert all(map(torch.equal, *scores))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_offloaded_reference_on_a_cpu_is_any_other() -> None:
    assert_offloaded_run("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_offloaded_reference_on_a_gpu() -> None:
    processes.disconnect()  # of the CPU's group
    assert_offloaded_run("cuda")
