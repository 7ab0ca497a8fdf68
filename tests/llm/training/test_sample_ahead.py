"""Sampling ahead: batches of the policy one update before, the gradient they give, and runs that are cut."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from sharpen.llm.common.interrupt import AbandonedError, abandonable, stop_if_abandoned
from sharpen.llm.configs.train import resolve
from sharpen.llm.distributed.world import World
from sharpen.llm.learners.experience import Experience
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.llm.models.weights import copy_of, full_weights
from sharpen.llm.passes.policy import Passes
from sharpen.llm.rewards.firewall import reward_for
from sharpen.llm.rollout import Rollout
from sharpen.llm.rollout.recovery import EngineDiedError
from sharpen.llm.rollout.requests import eos_token_ids
from sharpen.llm.rollout.transformers_engine import TransformersEngine
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training import metrics
from sharpen.llm.training.ahead import Batch, stored
from sharpen.llm.training.reference import Copy
from sharpen.llm.training.run import train
from sharpen.llm.training.setup import prepare
from sharpen.llm.training.trainer import Trainer
from sharpen.objective import InputError, preset
from tests.forked import Forks

SMALL: dict[str, Any] = {
    "objective": preset("tilted").to_dict(),
    "engine": "transformers",
    "steps": 4,
    "problems": 64,
    "prompts_per_step": 2,
    "samples_per_prompt": 4,
    "max_length": 48,
    "sample_ahead": 1,
    "checkpoint_every": 2,
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
    "evaluation": {"problems": 1, "samples": 1, "alpha_prompts": 1},
}


def trainer_of(**changes: Any) -> Trainer:
    config = resolve({**SMALL, **changes})
    setup = prepare(config, resolve_model("embedded"), World())
    data = load_source("embedded", "train", 16)
    reward = reward_for(config.objective, data, kind=config.reward.kind, seed=config.seed)
    own = (config, setup.model, setup.tokenizer, setup.engine, data.prompts(), reward, setup.template)
    return Trainer(*own, reference=setup.reference, compute=setup.compute, master=setup.master)


def told(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "seconds"}


def sampling_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sample-ahead"]


@pytest.mark.parametrize(
    "changes",
    [{}, {"lora": {"rank": 2}}, {"dtype": "bfloat16", "shard": "never"}, {"one_pass": "always"}],
    ids=["plain", "lora", "bfloat16", "one pass"],
)
def test_each_batch_is_of_the_policy_one_update_before(changes: dict[str, Any]) -> None:
    """Against an engine of its own that gets the weights which the policy had then."""
    trainer = trainer_of(**changes)
    without = {**SMALL, "sample_ahead": 0, **changes, "lora": None}
    plain = prepare(resolve(without), resolve_model("embedded"), World())
    before = {name: weight.clone() for name, weight in full_weights(trainer.model)}
    records = []
    for step in range(3):
        record, _ = trainer.step()
        records.append(record)
        batch = trainer.next
        assert batch is not None
        own = copy_of(plain.model)
        own.load_state_dict(before)
        engine = TransformersEngine(own, max_length=48, eos_ids=eos_token_ids(own, trainer.tokenizer))
        chosen, expected = trainer._sample(step + 1, engine.generate)
        assert (batch.chosen, batch.staleness) == (chosen, 1)
        assert batch.rollout.response_ids == expected.response_ids
        assert batch.rollout.logprobs == expected.logprobs
        before = {name: weight.clone() for name, weight in full_weights(trainer.model)}
    assert [record["staleness"] for record in records] == [0, 1, 1]
    apart = [record["engine_logprob_error_mean"] for record in records]
    assert apart[0] < max(apart[1:])  # an update shows above rounding
    assert records[0]["effective_alpha_reliability"] is not None
    assert records[1]["effective_alpha_reliability"] is None
    assert records[1]["seconds"]["ahead"] > 0
    trainer.step()
    assert trainer.next is None  # nothing is sampled for a step that does not come
    trainer.engine.close()


def test_the_first_step_is_that_of_a_run_that_does_not_sample_ahead() -> None:
    records = [trainer_of(sample_ahead=ahead).step()[0] for ahead in (0, 1)]
    assert records[1].pop("staleness") == 0
    assert "ahead" not in records[0]["seconds"]
    assert told(records[0]) == told(records[1])


@pytest.mark.parametrize("slow", ["sampler", "trainer"])
def test_who_is_slower_changes_nothing(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = trainer_of(), trainer_of()
    expected = [told(first.step()[0]) for _ in range(3)]
    owner, name = (TransformersEngine, "generate") if slow == "sampler" else (Trainer, "_update")
    real = getattr(owner, name)

    def slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.5)
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, slowly)
    assert [told(second.step()[0]) for _ in range(3)] == expected


# ---- The gradient, by enumeration


def tiny_model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(5)
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 8}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=4, **sizes, initializer_range=0.7))
    return model.double().eval()


RESPONSES = [[0], *([a, b] for a, b in product((1, 2, 3), range(4)))]
REWARD = [0.0, *(float(a == b) for a, b in product((1, 2, 3), range(4)))]


def log_probabilities(model: Any) -> Tensor:
    """Return log pi of every response to the prompt [1], by the model's logits alone; shape [13]."""
    found = []
    for ids in RESPONSES:
        logprobs = model(torch.tensor([[1, *ids]])).logits[0].log_softmax(dim=-1)
        found.append(sum(logprobs[place, token] for place, token in enumerate(ids)))
    return torch.stack(found)  # type: ignore[arg-type]


def flat(model: Any, gradient: Iterator[Tensor | None] | None = None) -> Tensor:
    given = (weight.grad for weight in model.parameters()) if gradient is None else gradient
    return torch.cat([g.flatten() for g in given if g is not None])


def expected_gradient(model: Any, sampler: Any, reference: Any, importance: str) -> Tensor:
    """Return the mean gradient of the loss over all groups of two that ``sampler`` draws, weighted by their chance."""
    config = resolve(
        {
            "objective": preset("tilted", alpha=2.0, beta_inv=3.0).to_dict(),
            "samples_per_prompt": 2,
            "max_length": 16,
            "aggregation": "sequence_mean",
            "importance": importance,
            "importance_cap": 1e9,
            "sample_ahead": int(importance != "none"),
        }
    )
    passes = Passes(config, model, Copy(reference, model, None), World(), torch.float64)
    with torch.no_grad():
        tokens = []
        for ids in RESPONSES:
            rows = sampler(torch.tensor([[1, *ids]])).logits[0].log_softmax(dim=-1)
            tokens.append([float(rows[place, token]) for place, token in enumerate(ids)])
    total = torch.zeros_like(flat(model, iter(model.parameters())))
    chance = [sum(row) for row in tokens]
    for one, other in combinations_with_replacement(range(len(RESPONSES)), 2):
        pair, orders = [one, other], 1 if one == other else 2
        rollout = Rollout([[1], [1]], [RESPONSES[i] for i in pair], [tokens[i] for i in pair], [True, True])
        scored = passes.score(rollout, passes.reference_logprobs(rollout, None), None)
        rewards = torch.tensor([REWARD[i] for i in pair], dtype=torch.float64)
        rest = (scored.policy, scored.reference_RT, scored.mismatch, rewards)
        batch = Experience([0], rollout, ["", ""], *rest)
        inputs = passes.inputs(batch, batch.policy.logprobs_BT, passes.normalizer(batch))
        model.zero_grad()
        passes.backward(batch, inputs, None)
        total += orders * math.exp(chance[one] + chance[other]) * flat(model)
    return total


def test_the_mean_gradient_of_samples_of_the_policy_before_is_that_of_the_policy() -> None:
    """J = sum pi (3 r + 2 log p - log pi) differentiated over all thirteen responses, against groups of two."""
    model = tiny_model()
    reference, sampler = copy_of(model), copy_of(model)
    with torch.no_grad():
        for weight in sampler.parameters():
            weight.add_(
                0.15 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1), dtype=weight.dtype)
            )
        for weight in reference.parameters():
            weight.mul_(0.8)
    logp, logpi = log_probabilities(reference).detach(), log_probabilities(model)
    objective = preset("tilted", alpha=2.0, beta_inv=3.0)
    w_r, w_p, w_h = objective.coefficients.w_r, objective.coefficients.w_p, objective.coefficients.w_h
    value = (logpi.exp() * (w_r * torch.tensor(REWARD) + w_p * logp - w_h * logpi)).sum()
    exact = -flat(model, iter(torch.autograd.grad(value, list(model.parameters()), allow_unused=True)))
    assert float((log_probabilities(sampler) - logpi).abs().max()) > 0.1
    size = float(exact.norm())

    def off(importance: str, by: Any) -> float:
        return float((expected_gradient(model, by, reference, importance) - exact).norm()) / size

    assert off("sequence", sampler) < 1e-6
    assert off("none", model) < 1e-6  # its own samples
    token, none = off("token", sampler), off("none", sampler)
    assert 1e-3 < token < none  # docs/scale.md: the weights of tokens leave a bias


# ---- Runs that are cut

CUT = {**SMALL, "max_length": 32}


def assert_same_runs(a: Path, b: Path) -> None:
    first, second = (load_file(out / "checkpoints" / "last" / "model.safetensors") for out in (a, b))
    assert all(torch.equal(first[name], second[name]) for name in first)
    records = [[told(record) for record in metrics.read(out / "metrics.jsonl")] for out in (a, b)]
    assert records[0] == records[1]
    assert [record["staleness"] for record in records[0]] == [0, 1, 1, 1]
    assert json.loads((a / "evaluation.json").read_text()) == json.loads((b / "evaluation.json").read_text())


def test_ctrl_c_beside_the_thread_ends_after_the_step_and_goes_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(resolve(CUT), tmp_path / "whole")
    update, alive = Trainer._update, []

    def pressed(self: Trainer, *arguments: Any) -> Any:
        if self.step_index == 2:
            alive.append(len(sampling_threads()))
            signal.raise_signal(signal.SIGINT)
        return update(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_update", pressed)
        slow = TransformersEngine.generate

        def generate(*arguments: Any, **options: Any) -> Any:
            time.sleep(0.3)  # so that the thread is there when the update begins
            return slow(*arguments, **options)

        patched.setattr(TransformersEngine, "generate", generate)
        with pytest.raises(KeyboardInterrupt):
            train(resolve(CUT), tmp_path / "cut")
    assert alive == [1]
    assert not sampling_threads()
    assert (tmp_path / "cut" / "checkpoints" / "step_000003" / "trainer" / "next.safetensors").is_file()
    train(resolve(CUT), tmp_path / "cut")
    assert_same_runs(tmp_path / "whole", tmp_path / "cut")


def test_a_second_ctrl_c_ends_the_thread_at_its_next_token(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of()
    attempt = trainer.engine.attempt  # type: ignore[attr-defined]

    def endless(*arguments: Any, **options: Any) -> Rollout:
        if threading.current_thread() is threading.main_thread():
            return attempt(*arguments, **options)
        while True:
            stop_if_abandoned()
            time.sleep(0.01)

    monkeypatch.setattr(trainer.engine, "attempt", endless)

    def interrupted(*_: Any) -> Any:
        assert sampling_threads()
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.step()
    assert not sampling_threads()
    trainer.engine.close()


def test_the_engine_stops_between_two_tokens_when_it_is_given_up() -> None:
    trainer, event = trainer_of(sample_ahead=0), threading.Event()
    with abandonable(event):
        trainer._sample(0)
        event.set()
        with pytest.raises(AbandonedError):
            trainer._sample(0, trainer.engine.attempt)  # type: ignore[attr-defined]
    trainer._sample(0)


KILLED = """
import os, signal, sys
from pathlib import Path
from sharpen.llm.configs.train import resolve
from sharpen.llm.training.run import train
from sharpen.llm.training.trainer import Trainer

update = Trainer._update
def die(self, *arguments):
    if self.step_index == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, *arguments)
Trainer._update = die
train(resolve(eval(sys.argv[2])), Path(sys.argv[1]))
"""


def test_a_run_killed_beside_the_thread_goes_on_to_the_same_numbers(tmp_path: Path, model_forks: Forks) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(resolve(CUT), whole)
    done = model_forks.run(KILLED, str(cut), repr(CUT), environment=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    train(resolve(CUT), cut)
    assert_same_runs(whole, cut)


def test_each_process_takes_its_own_rows_of_what_is_stored() -> None:
    tokens, nats, finished = [[2], [3, 4], [5], [6, 7, 8]], [[-1.0], [-2.0, -3.0], [-4.0], [-5.0] * 3], [True, False]
    whole = Batch([8, 9], Rollout([[1]] * 4, tokens, nats, finished * 2), 1)
    found = stored(whole.tensors(World()), [9], [[1]] * 2, range(2, 4), "here")
    assert found == Batch([9], Rollout([[1]] * 2, tokens[2:], nats[2:], finished), 1)


def test_a_checkpoint_without_its_samples_is_refused() -> None:
    first, second = trainer_of(), trainer_of()
    first.step()
    tensors, numbers = first.state()
    weights = {name: weight.detach().clone() for name, weight in first.model.named_parameters()}
    for broken in ({}, {"next": {**tensors["next"], "lengths": torch.tensor([3])}}):
        given = {name: group for name, group in tensors.items() if name != "next"} | broken
        with pytest.raises(InputError, match=r"checkpoint: got .here.*next\.safetensors"):
            second.load_state(given, numbers, weights, "here")
    for trainer in (first, second):
        trainer.engine.close()


# ---- What fails, and what is refused


def test_a_batch_whose_engine_died_is_drawn_from_the_policy_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, restless = trainer_of(), trainer_of(engine_restarts=0)
    generate, calls = TransformersEngine.generate, 0

    def mortal(self: TransformersEngine, *arguments: Any, **options: Any) -> Rollout:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first that is sampled ahead
            raise RuntimeError("out of memory")
        return generate(self, *arguments, **options)

    monkeypatch.setattr(TransformersEngine, "generate", mortal)
    records = [trainer.step()[0] for _ in range(3)]
    assert [record["staleness"] for record in records] == [0, 0, 1]
    assert abs(records[1]["engine_kl"]) < 1e-5  # on its own samples
    calls = 0
    with pytest.raises(EngineDiedError, match="out of memory"):
        restless.step()
    for each in (trainer, restless):
        each.engine.close()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"learner": {"kind": "dapo"}}, "dapo, which samples until"),
        ({"learner": {"kind": "power-distillation"}}, "whose ratio is to the policy that drew"),
        ({"importance": "none"}, "importance none"),
        ({"optimizer": {"measure_step": True}}, "optimizer.measure_step"),
        ({"optimizer": {"max_kl": 0.1}}, "optimizer.max_kl"),
        ({"tensor_parallel": 2}, "tensor_parallel"),
        ({"optimizer_offload": "always"}, "optimizer_offload always"),
    ],
)
def test_where_it_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=f"sample_ahead: got 1, allowed: 0 .*{why}"):
        resolve({**SMALL, **changes})
    assert resolve({**SMALL, **changes, "sample_ahead": 0}).sample_ahead == 0


def test_balance_takes_samples_of_any_policy_without_weights() -> None:
    config = resolve({**SMALL, "learner": {"kind": "tb"}, "importance": "none"})
    assert config.sample_ahead == 1
