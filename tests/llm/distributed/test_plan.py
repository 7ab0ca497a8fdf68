"""The dry run's bytes against those of real tensors, its sizes against published ones."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sharpen.cli.main import main
from sharpen.llm.configs import recipes
from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed.memory import activations, kv_cache, shape_of
from sharpen.llm.distributed.plan import plan
from sharpen.llm.distributed.world import World, disconnect
from sharpen.llm.models.logprobs import make_batches, response_logprobs
from sharpen.llm.models.registry import load_architecture, load_model
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.llm.training.run import train
from sharpen.llm.training.setup import prepare
from sharpen.objective import preset


def size(tensors: Any) -> int:
    """Bytes of distinct storages; of a sharded tensor, this process's part."""
    own = {}
    for tensor in tensors:
        local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        own[local.data_ptr()] = local.numel() * local.element_size()
    return sum(own.values())


def settings(**changes: Any) -> TrainConfig:
    return resolve({"engine": "transformers", "objective": preset("tempered").to_dict(), **changes})


@pytest.mark.parametrize("changes", [{}, {"shard": "always"}, {"lora": {"rank": 4}}], ids=["plain", "sharded", "lora"])
def test_the_trainers_bytes_are_the_real_ones(changes: dict[str, Any]) -> None:
    config = settings(**changes)
    setup = prepare(config, resolve_model("embedded"), World())
    try:
        trained = [weight for weight in setup.model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained)
        batch = make_batches([[1, 2]] * 3, [[3, 4, 5]] * 3, micro_batch_tokens=100)[0]
        response_logprobs(setup.model, batch).logprobs_BT.sum().backward()
        gradients = size(weight.grad for weight in trained)
        optimizer.step()
        moments = size(v for state in optimizer.state.values() for n, v in state.items() if n.startswith("exp_"))
        memory = plan(config).memory
        assert memory.parameters == size(setup.model.parameters())
        assert memory.gradients == gradients
        assert memory.optimizer == moments
        reference = getattr(setup.reference, "copy_of_policy", None)
        assert memory.reference == (0 if reference is None else size(reference.parameters()))
        sampler = setup.engine.inner._model  # type: ignore[attr-defined]
        apart = {w.data_ptr() for w in sampler.parameters()}.isdisjoint(w.data_ptr() for w in setup.model.parameters())
        assert memory.engine_weights == (size(sampler.parameters()) if apart else 0)
    finally:
        setup.engine.close()
        disconnect()


def test_keys_and_values_are_the_real_ones() -> None:
    source = resolve_model("embedded")
    setup = prepare(settings(), source, World())
    cache = setup.model(torch.ones(5, 7, dtype=torch.long), use_cache=True).past_key_values
    held = size(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert kv_cache(shape_of(load_architecture(source)), 35, 4) == held


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_what_the_backward_pass_keeps(checkpointing: bool) -> None:
    """Within 15 %: the formula leaves out masks, positions and what is kept once for all layers."""
    source = resolve_model("embedded")
    setup = prepare(settings(gradient_checkpointing=checkpointing), source, World())
    weights = {weight.data_ptr() for weight in setup.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    rows, length = 16, 64
    tokens = torch.randint(0, 10, (rows, length))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = setup.model.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state
    assert hidden.requires_grad
    shape = shape_of(load_architecture(source))
    expected = activations(shape, rows * length, 4, checkpointing=checkpointing)
    if checkpointing:  # the estimate also holds the one layer that is being computed again
        layer = replace(shape, layers=1)
        expected -= activations(layer, rows * length, 4, checkpointing=False) - 8 * rows * length * shape.hidden
    assert sum(kept.values()) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("model", "millions"), [("qwen2.5-3b", 3085.9), ("llama-3.2-3b", 3212.7), ("qwen3-4b", 4022.5)]
)
def test_the_registrys_architectures_have_the_published_numbers_of_parameters(model: str, millions: float) -> None:
    assert shape_of(load_architecture(resolve_model(model))).parameters / 1e6 == pytest.approx(millions, abs=0.06)


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that operations return and that are still held."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    def __torch_dispatch__(self, function: Any, _types: Any, arguments: Any = (), options: Any = None) -> Any:
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((arguments, options)) if torch.is_tensor(t)}
        returned = function(*arguments, **(options or {}))
        for tensor in tree_leaves(returned):
            if torch.is_tensor(tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.now += tensor.nbytes
                weakref.finalize(tensor, self.freed, tensor.nbytes)
        self.most = max(self.most, self.now)
        return returned

    def freed(self, count: int) -> None:
        self.now -= count


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_optimizers_temporaries_are_the_real_ones(device: str) -> None:
    """On GPUs AdamW takes all weights together, which it can be told to do anywhere; on CPUs one after the other."""
    model = load_model(resolve_model("embedded"), "cpu", "float32")
    optimizer = torch.optim.AdamW(model.parameters(), foreach=device == "cuda")
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()  # makes its moments
    with Live() as live:
        optimizer.step()
    planned = plan(settings(device=device, dtype="float32", shard="always")).memory
    # Beside one number a weight: the steps so far.
    assert planned.temporaries == pytest.approx(live.most, rel=0.02)


def test_a_checkpoint_takes_the_room_that_was_planned(tmp_path: Path) -> None:
    """A run in bfloat16 with a reference that moves stores moments, float32 master copy, reference and weights."""
    objective = preset("tilted", reference="refresh:2").to_dict()
    small = {"steps": 1, "prompts_per_step": 2, "samples_per_prompt": 2, "checkpoint_every": 1, "max_length": 32}
    evaluation = {"problems": 2, "samples": 2, "alpha_prompts": 0}
    config = settings(objective=objective, dtype="bfloat16", device="cpu", evaluation=evaluation, **small)
    train(config, tmp_path / "run")
    files = [file for file in (tmp_path / "run" / "checkpoints").rglob("*.safetensors") if not file.parent.is_symlink()]
    stored = sum(file.stat().st_size for file in {file.resolve() for file in files})
    assert plan(config).budget()["disk_bytes"] == pytest.approx(stored, rel=0.02)


def test_three_billion_parameters_on_one_gpu_need_what_was_seen() -> None:
    """63 GiB in the optimizer's step where the backward pass alone asks for 59.8; memory of the machine beside it."""
    recipe = recipes.load("qwen2.5-3b/tempered-2-0")
    found = plan(resolve({**recipe, "objective": {**recipe["objective"], "reference": "frozen"}, "device": "cuda"}))
    N, gib = found.shape.base, 2**30
    assert found.memory.temporaries == 4 * N
    assert found.memory.update == (4 + 4 + 8 + 2 + 4) * N
    assert found.memory.update / gib == pytest.approx(63.2, abs=0.2)
    assert found.host is not None
    assert found.host.start == 6 * N  # master copy, and the reference made of it
    assert found.host.checkpoint == (2 + 8 + 4) * N
    assert "the machine's memory for each process" in found.text()


def test_sharding_divides_and_sleep_and_offload_free() -> None:
    config = resolve({**recipes.load("qwen2.5-3b/tempered-2-0"), "reference_offload": True})
    one, eight = (plan(config, processes).memory for processes in (1, 8))
    assert eight.parameters == one.parameters // 8
    assert eight.optimizer == 2 * eight.parameters
    assert eight.reference == 0
    assert one.update < 80e9  # a recipe of the paper fits one H100
    awake = plan(config.model_copy(update={"engine_sleep": False}), 8).memory
    assert awake.update - eight.update == awake.engine_weights + awake.kv_cache


def test_the_token_budget_counts_what_the_recipe_samples() -> None:
    budget = plan(resolve(recipes.load("qwen3-4b/task-reward-0-1")), 4).budget()
    assert budget["responses"] == 1000 * 64 * 8
    assert budget["tokens"] == 1000 * 64 * 8 * 4096
    assert budget["checkpoints"] == 50


def test_the_command_prints_settings_that_are_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["llm", "train", "--recipe", "llama-3.2-3b/tilted-1-100", "--dry-run", "--processes", "4"])
    assert exited.value.code == 0
    printed = capsys.readouterr().out
    assert TrainConfig.model_validate(yaml.safe_load(printed)) == resolve(recipes.load("llama-3.2-3b/tilted-1-100"))
    assert "GiB" in printed
    with pytest.raises(SystemExit):
        main(["llm", "train", "--recipe", "llama-3.2-3b/tilted-1-100", "--dry-run", "--processes", "4", "--json"])
    assert json.loads(capsys.readouterr().out)["memory"]["parameters"] > 3e9
