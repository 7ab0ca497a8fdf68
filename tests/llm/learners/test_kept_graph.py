"""A step that keeps the graph of its scoring pass against one that makes a second forward pass for the update."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sharpen.llm.configs.train import resolve
from sharpen.llm.distributed.memory import activations, estimate, shape_of
from sharpen.llm.distributed.world import World
from sharpen.llm.models.logprobs import make_batches, token_logprobs
from sharpen.llm.models.registry import load_architecture
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.llm.rewards.firewall import reward_for
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training.setup import prepare
from sharpen.llm.training.trainer import Trainer
from sharpen.objective import preset

ALL = 10**6
LEARNERS: dict[str, dict[str, Any]] = {
    "rloo": {},
    "kl in the loss": {"learner": {"kl": "k3-loss"}},
    "clipped": {"learner": {"kind": "grpo", "epochs": 2}},
    "balance": {"learner": {"kind": "tb-batch", "epochs": 2}, "temperature": 1.2},
    "sequences": {"aggregation": "sequence_mean", "importance": "sequence"},
    "adapters": {"lora": {"rank": 2}},
}


def one_step(graph_tokens: int, **changes: Any) -> tuple[list[list[torch.Tensor]], list[bool], dict[str, Any]]:
    """Return the gradient of each update of a step, whether each pass kept a graph, and metrics."""
    config = resolve(
        {
            "objective": preset("tilted").to_dict(),
            "engine": "transformers",
            "prompts_per_step": 4,
            "samples_per_prompt": 4,
            "tokens_per_microbatch": 256,
            "graph_tokens": graph_tokens,
            "one_pass": "never",
            "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
            **changes,
        }
    )
    setup = prepare(config, resolve_model("embedded"), World())
    data = load_source("embedded", "train", 64)
    reward = reward_for(config.objective, data, seed=config.seed)
    trainer = Trainer(
        *(config, setup.model, setup.tokenizer, setup.engine, data.prompts(), reward, setup.template),
        reference=setup.reference,
    )
    gradients: list[list[torch.Tensor]] = []
    passes: list[bool] = []

    def count(*_: Any) -> None:
        passes.append(torch.is_grad_enabled())

    def remember(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        (group,) = optimizer.param_groups
        gradients.append([weight.grad.clone() for weight in group["params"] if weight.grad is not None])

    setup.model.get_input_embeddings().register_forward_hook(count)
    trainer.optimizer.register_step_pre_hook(remember)
    record, _ = trainer.step()
    setup.engine.close()
    return gradients, passes, record


@pytest.mark.parametrize("name", LEARNERS)
def test_the_gradient_is_that_of_a_second_pass(name: str) -> None:
    kept, kept_passes, kept_record = one_step(ALL, **LEARNERS[name])
    again, again_passes, again_record = one_step(0, **LEARNERS[name])
    epochs = LEARNERS[name].get("learner", {}).get("epochs", 1)
    assert len(kept) == len(again) == epochs
    for got, expected in zip(kept[0], again[0], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert any(bool(gradient.any()) for gradient in again[0])
    microbatches = sum(kept_passes) // epochs
    assert sum(kept_passes) == sum(again_passes) == microbatches * epochs
    assert microbatches > 1
    assert len(again_passes) - len(kept_passes) == microbatches
    for number in ("loss", "gradient_norm"):
        assert kept_record[number] == pytest.approx(again_record[number], rel=1e-3)
    for number in ("kl_ref", "entropy", "pseudo_reward", "effective_alpha", "importance_max"):
        assert kept_record[number] == pytest.approx(again_record[number], rel=1e-6)


def test_a_step_over_the_limit_keeps_no_graph() -> None:
    setup = prepare(resolve({"engine": "transformers"}), resolve_model("embedded"), World())
    prompts, responses = [[5, 6, 7]] * 3, [[8, 9], [8], [9, 8, 7]]
    positions = sum(batch.tokens_BL.numel() for batch in make_batches(prompts, responses, micro_batch_tokens=12))
    scored = [
        token_logprobs(setup.model, prompts, responses, micro_batch_tokens=12, graph_tokens=positions - less)
        for less in (0, 1)
    ]
    assert [one.logprobs_BT.requires_grad for one in scored] == [True, False]
    assert torch.equal(scored[0].logprobs_BT.detach(), scored[1].logprobs_BT)
    assert all(not one.mask_BT.requires_grad for one in scored)


def test_dapo_which_learns_from_some_of_its_rounds_keeps_none() -> None:
    changes = {"learner": {"kind": "dapo", "dynamic_rounds": 2}}
    kept, again = (one_step(graph, **changes)[0][0] for graph in (ALL, 0))
    assert all(torch.equal(got, expected) for got, expected in zip(kept, again, strict=True))


def test_the_memory_estimate_counts_the_kept_graph() -> None:
    shape = shape_of(load_architecture(resolve_model("embedded")))
    held = []
    for graph_tokens in (0, 10**4, ALL):
        config = resolve({"engine": "transformers", "graph_tokens": graph_tokens, "prompts_per_step": 32})
        memory = estimate(config, shape, processes=1, device="cpu", dtype="float32", divided=False)
        held.append(memory.activations)
    whole_step = 32 * 8 * 80
    assert held == [activations(shape, tokens, 4, checkpointing=False) for tokens in (1024, 10**4, whole_step)]
