"""Steps that score and learn from whole groups in one pass, against steps that score first and compute it all again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sharpen.llm.configs.train import resolve
from sharpen.llm.distributed.world import World
from sharpen.llm.models.logprobs import batches_for, head_is_separable
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.llm.models.shared_prefix import prefix_is_shareable
from sharpen.llm.passes import policy
from sharpen.llm.passes.groups import positions, windows_for
from sharpen.llm.passes.policy import Passes
from sharpen.llm.rewards.firewall import reward_for
from sharpen.llm.rewards.registry import REWARDS, Scoring, reads_entropies
from sharpen.llm.rollout import Rollout
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training.setup import prepare
from sharpen.llm.training.trainer import Trainer
from sharpen.objective import preset

G = 4
SMALL: dict[str, Any] = {
    "objective": preset("tilted").to_dict(),
    "engine": "transformers",
    "prompts_per_step": 4,
    "samples_per_prompt": G,
    "tokens_per_microbatch": G * 80,
    "graph_tokens": 0,
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
}
LEARNERS: dict[str, dict[str, Any]] = {
    "rloo": {},
    "kl in the loss": {"learner": {"kind": "grpo"}},
    "clipped, twice": {"learner": {"kind": "ppo", "epochs": 2}},
    "balance of another policy's samples": {"learner": {"kind": "tb-batch"}, "temperature": 1.2},
    "no reward": {"objective": preset("sharpening").to_dict(), "aggregation": "sequence_mean"},
    "a utility": {"objective": preset("task-reward").to_dict() | {"utility": "pass@2"}, "importance": "sequence"},
    "adapters": {"lora": {"rank": 2}},
    "shared prompts": {"share_prompts": "always"},
    "activation checkpointing": {"gradient_checkpointing": True},
}


def trainer_of(**changes: Any) -> Trainer:
    config = resolve({**SMALL, **changes})
    setup = prepare(config, resolve_model("embedded"), World())
    data = load_source("embedded", "train", 64)
    reward = reward_for(config.objective, data, kind=config.reward.kind, seed=config.seed)
    own = (config, setup.model, setup.tokenizer, setup.engine, data.prompts(), reward, setup.template)
    return Trainer(*own, reference=setup.reference, compute=setup.compute, master=setup.master)


def one_step(**changes: Any) -> tuple[list[torch.Tensor], list[bool], dict[str, Any]]:
    """Return the gradient of the first update, whether each pass after the rollout kept a graph, and metrics."""
    trainer = trainer_of(**changes)
    head_is_separable(trainer.model)  # tried once, by passes that are not counted
    prefix_is_shareable(trainer.model)
    gradients: list[list[torch.Tensor]] = []
    passes: list[bool] = []

    def count(*_: Any) -> None:
        passes.append(torch.is_grad_enabled())

    def remember(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        (group,) = optimizer.param_groups
        gradients.append([weight.grad.clone() for weight in group["params"] if weight.grad is not None])

    sleep = trainer.engine.sleep

    def sampled() -> None:
        passes.clear()
        sleep()

    trainer.engine.sleep = sampled  # type: ignore[method-assign]
    trainer.model.get_input_embeddings().register_forward_hook(count)
    trainer.optimizer.register_step_pre_hook(remember)
    record, _ = trainer.step()
    trainer.engine.close()
    return gradients[0], passes, record


@pytest.mark.parametrize("name", LEARNERS)
def test_the_step_is_that_of_two_passes(name: str) -> None:
    at_once, passes, record = one_step(one_pass="always", **LEARNERS[name])
    apart, apart_passes, expected = one_step(one_pass="never", **LEARNERS[name])
    assert (record["one_pass"], expected["one_pass"]) == ("groups", "no")
    assert any(bool(gradient.any()) for gradient in apart)
    for got, wanted in zip(at_once, apart, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    for number in ("loss", "gradient_norm"):
        assert record[number] == pytest.approx(expected[number], rel=1e-3, abs=1e-6)
    assert (record["reward"] is None) == (expected["reward"] is None) == (name == "no reward")
    for number in ("pseudo_reward", "entropy", "ref_logprob", "effective_alpha", "importance_max"):
        assert record[number] == pytest.approx(expected[number], rel=1e-5), number
    assert record["kl_ref"] == 0.0  # to the last bit: policy and reference, which are the same, see the same batches
    assert sum(passes) > 1  # several graphs, one after the other
    # Without a graph are, once each: the tempered policy, and a reference that is the policy without its adapters.
    others = ("temperature" in LEARNERS[name]) + ("lora" in LEARNERS[name])
    assert passes.count(False) == others * passes.count(True)
    assert apart_passes.count(False) > others


def test_a_run_that_goes_on_makes_the_steps_of_one_that_was_not_cut() -> None:
    first, second = trainer_of(one_pass="always"), trainer_of(one_pass="always")
    first.step()
    tensors, numbers = first.state()
    weights = {name: weight.detach().clone() for name, weight in first.model.named_parameters()}
    second.load_state(tensors, numbers, weights, "here")
    records = [trainer.step()[0] for trainer in (first, second)]
    for record in records:
        assert record.pop("seconds")["update"] > 0
        assert record["one_pass"] == "groups"
    assert records[0] == records[1]
    for trainer in (first, second):
        trainer.engine.close()


def rollout_of(lengths: Sequence[int], prompt: Sequence[int] = (5, 6, 7)) -> Rollout:
    responses = [[8] * (length - len(prompt)) for length in lengths]
    probabilities = [[0.0] * len(ids) for ids in responses]
    return Rollout([list(prompt)] * len(lengths), responses, probabilities, [True] * len(lengths))


@pytest.fixture(scope="module")
def made() -> Any:
    return prepare(resolve(SMALL), resolve_model("embedded"), World())


def windows(made: Any, lengths: Sequence[int], reward: Any = None, **changes: Any) -> Any:
    config = resolve({**SMALL, **changes})
    passes = Passes(config, made.model, made.reference, World(), made.compute)
    return passes.windows(rollout_of(lengths), reward)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "compute_device", lambda _: torch.device("cuda"))


def test_a_cpu_takes_it_when_it_is_told_to(made: Any) -> None:
    assert windows(made, [40] * 16) is None
    assert windows(made, [40] * 16, one_pass="always") is not None


@pytest.mark.usefixtures("as_on_a_gpu")
def test_where_it_is_taken(made: Any) -> None:
    source, alike = load_source("embedded", "train", 8), [40] * 16
    objective = preset("tilted")
    assert windows(made, alike) is not None
    assert windows(made, alike, one_pass="never") is None
    assert windows(made, alike, graph_tokens=10**6) is None  # the whole step's graph is kept
    assert windows(made, alike, tokens_per_microbatch=160) is not None
    assert windows(made, [41] * 16, tokens_per_microbatch=160) is None  # a group does not fit
    assert windows(made, alike, learner={"kind": "dapo"}) is None
    assert windows(made, alike, reward_for(objective, source, kind="majority")) is not None
    assert windows(made, alike, reward_for(objective, source, kind="negative_entropy")) is None


@pytest.mark.usefixtures("as_on_a_gpu")
def test_padding_may_cost_more_than_a_second_pass(made: Any) -> None:
    """One long row in each group: apart they stand together, in windows each pads its group's."""
    lengths = [80, 8, 8, 8] * 4
    limits = {"tokens_per_microbatch": G * 80}
    assert windows(made, lengths, **limits) is not None
    made.model.sharpen_token_statistics = None  # as in a sharded model, whose windows are one batch each
    try:
        assert windows(made, lengths, **limits) is None
        assert windows(made, lengths, **limits, one_pass="always") is not None
        assert windows(made, [80] * 16, **limits) is not None
        # 640 positions in windows and 496 apart: 1.29 times as many, and 4/3 or, checkpointed, 5/4 are the limits.
        near: dict[str, Any] = {"lengths": [40, 28, 28, 28] * 4, "tokens_per_microbatch": G * 40}
        assert windows(made, **near) is not None
        assert windows(made, **near, gradient_checkpointing=True) is None
    finally:
        del made.model.sharpen_token_statistics


class Beside(World):
    """One of two processes; the other one has 100 units of whatever is counted."""

    def gather(self, items: list[Any]) -> list[Any]:
        return [*items, 100]


@pytest.mark.parametrize(("aggregation", "own"), [("token_mean", 3 + 5 + 2 + 1), ("sequence_mean", 4)])
def test_the_divisor_is_that_of_all_processes_and_stand_ins_do_not_count(made: Any, aggregation: str, own: int) -> None:
    config = resolve({**SMALL, "aggregation": aggregation})
    passes = Passes(config, made.model, made.reference, Beside(), made.compute)
    rollout = rollout_of([6, 8, 5, 4])
    batch = policy.unscored([0], rollout, [""] * 4, None, made.model)
    assert passes.normalizer(batch) == own + 100
    assert passes.normalizer(replace(batch, stand_in=True)) == 100


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_model_that_drops_parts_of_itself_is_scored_first(made: Any) -> None:
    alike = [40] * 16
    made.model.config.attention_dropout = 0.1
    try:
        assert windows(made, alike) is not None  # not in eval mode
        made.model.train()
        assert windows(made, alike) is None
    finally:
        made.model.eval()
        made.model.config.attention_dropout = 0.0


def test_a_learner_that_does_not_say_so_is_not_taken_to_look_at_one_group(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sharpen.llm.learners.algorithms.rloo import RLOO

    monkeypatch.delattr(RLOO, "by_group")
    assert windows(made, [40] * 16) is None


class Unread:
    """Entropies that nobody may look at."""

    def __len__(self) -> int:
        raise AssertionError("looked at")

    __iter__ = __getitem__ = __len__  # type: ignore[assignment]


def test_rewards_that_do_not_read_entropies_do_not() -> None:
    source = load_source("embedded", "train", 2)
    ids, texts = [prompt.id for prompt in source.prompts().prompts], ["\\boxed{3}", "4"]
    found = []
    for name in REWARDS.names():
        settings: dict[str, Any] = {"target": 2} if name == "length" else {}
        reward = reward_for(preset("tilted"), source, kind=name, **settings)
        assert reward is not None
        assert reward.reads_entropies == reads_entropies(REWARDS.get(name))
        if not reward.reads_entropies:
            found.append(name)
            known: dict[str, Any] = {"lengths": [9, 1], "certainties": [0.1, 0.2], "finished": [True, True]}
            entropies: Any = Unread()
            assert len(reward(ids, texts, Scoring(rows=range(2), groups=[0, 1], entropies=entropies, **known))) == 2
    assert set(REWARDS.names()) - set(found) == {"negative_entropy"}


GROUPS = st.lists(st.lists(st.integers(1, 30), min_size=3, max_size=3), min_size=1, max_size=6)


@given(groups=GROUPS, limit=st.integers(30, 200), one_batch=st.booleans())
def test_windows_hold_whole_groups_and_every_row_once(groups: list[list[int]], limit: int, one_batch: bool) -> None:
    model: Any = torch.nn.Linear(1, 1)
    prompts = [[100 + place] for place, own in enumerate(groups) for _ in own]
    responses = [[row] * length for row, length in enumerate(length for own in groups for length in own)]
    rows: dict[str, Any] = {"micro_batch_tokens": limit, "share_prompts": "never"}
    found = windows_for(model, prompts, responses, group_size=3, one_batch=one_batch, **rows)
    if found is None:  # some group, laid out alone, takes more
        assert any(3 * (1 + max(own)) > limit for own in groups)
        return
    assert sorted(place for window in found for place in window.prompts) == list(range(len(groups)))
    seen: list[int] = []
    for window in found:
        assert window.rows == [3 * place + sample for place in window.prompts for sample in range(3)]
        assert window.tokens <= limit
        assert len(window.batches) == 1 or not one_batch
        assert sorted(place for batch in window.batches for place in batch.rows) == list(range(len(window.rows)))
        for batch in window.callers():
            seen += batch.rows
            for row, tokens in zip(batch.rows, batch.tokens_BL.tolist(), strict=True):
                own = [*prompts[row], *responses[row]]
                assert tokens[: len(own)] == own
    assert sorted(seen) == list(range(len(responses)))
    laid_out = sum(batch.tokens_BL.numel() for batch in batches_for(model, prompts, responses, **rows))
    assert positions(model, prompts, responses, **rows) == laid_out
