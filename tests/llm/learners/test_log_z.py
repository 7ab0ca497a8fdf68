"""Trajectory balance with a learned log Z: its loss and target by enumeration, and the head that learns it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from sharpen.llm.configs.train import LearnerSettings, TrainConfig, resolve
from sharpen.llm.distributed.world import World
from sharpen.llm.learners.experience import Experience
from sharpen.llm.learners.parts.learner import LossInputs
from sharpen.llm.learners.parts.loss import importance_weights
from sharpen.llm.learners.parts.utility import advantages
from sharpen.llm.models.logprobs import TokenLogprobs
from sharpen.llm.models.registry import load_model
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.llm.rollout import Rollout
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training.log_z import LogZ, balance_gradient
from sharpen.llm.training.setup import prepare
from sharpen.llm.training.trainer import Trainer
from sharpen.objective import InputError, Objective, preset

# p^alpha e^(beta r) / Z of two prompts with a vocabulary of four tokens, a response one of them.
ALPHA, BETA = 1.5, 2.0
OBJECTIVE = Objective(alpha=ALPHA, beta_inv=BETA)
W_H = 1 / BETA
BASE = np.array([[0.1, 0.4, 0.3, 0.2], [0.7, 0.1, 0.1, 0.1]])
REWARD = np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
AWAY = np.array([[0.15, 0.35, 0.2, 0.3], [0.25, 0.25, 0.4, 0.1]])
# u / w_h = beta (r + (alpha - 1) / beta log p) + log p, from the objective as the paper writes it.
UNNORMALISED = BASE**ALPHA * np.exp(BETA * REWARD)
TARGET = UNNORMALISED / UNNORMALISED.sum(axis=1, keepdims=True)
LOG_Z = W_H * np.log(UNNORMALISED.sum(axis=1))


def drawn(groups: Any, policy: np.ndarray, z: np.ndarray) -> tuple[Experience, np.ndarray]:
    """Some samples of each prompt, tokens [P, G], as an experience."""
    tokens = np.asarray(groups)
    rows = np.repeat(np.arange(len(tokens)), tokens.shape[1])
    flat = tokens.ravel()

    def of(table: np.ndarray) -> torch.Tensor:
        return torch.tensor(table[rows, flat])

    mask = torch.ones(len(flat), 1, dtype=torch.bool)
    log_pi = of(np.log(policy))[:, None]
    batch = Experience(
        list(range(len(tokens))),
        Rollout([[0]] * len(flat), [[int(x)] for x in flat], [[0.0]] * len(flat), [True] * len(flat)),
        [""] * len(flat),
        TokenLogprobs(log_pi, -log_pi, mask),
        of(np.log(BASE))[:, None],
        importance_weights(log_pi, log_pi, mask, 20.0),
        of(REWARD),
        log_z_P=torch.tensor(z),
    )
    return batch, tokens


def loss_of(batch: Experience, log_pi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The learner's loss, with its gradient in the samples' log-probabilities, and its rewards."""
    settings = LearnerSettings(kind="tb")
    learner, R = settings.learner, len(batch.texts)
    rewards_R = learner.rewards(settings, OBJECTIVE, batch, batch.policy.logprobs_BT)
    A = advantages(learner, settings, OBJECTIVE, batch, rewards_R).flatten()
    inputs = LossInputs(A, torch.ones(R, 1), batch.policy.logprobs_BT, batch.reference_RT, float(R), W_H)
    return learner.loss(settings, inputs, list(range(R)), log_pi, batch.policy.mask_BT), batch.grouped(rewards_R)


def test_it_is_the_gradient_of_half_the_squared_residual() -> None:
    """In the logits and in z, on samples of whoever: written out from u, differentiated by torch."""
    tokens = np.array([[0, 2, 2, 3, 1], [3, 3, 0, 1, 2]])
    logits = torch.tensor(np.log(AWAY), requires_grad=True)
    z = torch.tensor([0.3, -1.2], dtype=torch.float64, requires_grad=True)
    at = torch.tensor(tokens)
    log_pi = torch.log_softmax(logits, dim=1).gather(1, at)
    u = torch.tensor(REWARD + (ALPHA / BETA) * np.log(BASE)).gather(1, at)
    (0.5 * (z[:, None] + W_H * log_pi - u) ** 2).mean().backward()

    batch, _ = drawn(tokens, AWAY, z.detach().numpy())
    ours = torch.tensor(np.log(AWAY), requires_grad=True)
    loss, rewards_PG = loss_of(batch, torch.log_softmax(ours, dim=1).gather(1, at).reshape(-1, 1))
    loss.backward()
    torch.testing.assert_close(ours.grad, logits.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(balance_gradient(z.detach(), rewards_PG, 2), z.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("z", [LOG_Z, LOG_Z + 3.0])
def test_its_mean_over_all_groups_is_the_gradient_of_the_objective(z: np.ndarray) -> None:
    """On its own samples, whatever z: w_h times the gradient of J = E[u] + w_h H, by enumeration of groups of two."""
    pairs = np.array(list(itertools.product(range(4), repeat=2)))
    for place in range(2):
        found, policy = np.zeros(4), AWAY[place]
        for pair in pairs:
            one = slice(place, place + 1)
            rows = np.tile(pair, (2, 1))
            batch, _ = drawn(rows, AWAY, z)
            log_pi = batch.policy.logprobs_BT.clone().requires_grad_()
            loss, _ = loss_of(batch, log_pi)
            own = -2.0 * torch.autograd.grad(loss, log_pi)[0].reshape(2, 2)[one][0].numpy()  # two prompts share it
            found += policy[pair].prod() * own @ (np.eye(4)[pair] - policy)
        u = REWARD[place] + ALPHA / BETA * np.log(BASE[place]) - W_H * np.log(policy)
        np.testing.assert_allclose(found, W_H * policy * (u - policy @ u), atol=1e-12)


def test_at_the_target_with_log_z_right_nothing_moves() -> None:
    """Not only in the mean: of every sample the residual is zero, and so are loss and both gradients."""
    tokens = np.tile(np.arange(4), (2, 1))
    for z, moves in ((LOG_Z, False), (LOG_Z + 0.1, True)):
        batch, _ = drawn(tokens, TARGET, z)
        log_pi = batch.policy.logprobs_BT.clone().requires_grad_()
        loss, rewards_PG = loss_of(batch, log_pi)
        gradients = [torch.autograd.grad(loss, log_pi)[0], balance_gradient(torch.tensor(z), rewards_PG, 2)]
        for size in (float(loss.detach().abs()), *(float(g.abs().max()) for g in gradients)):
            assert (size > 1e-3) == moves
            assert moves or size < 1e-14
    batch, _ = drawn(tokens, AWAY, LOG_Z)
    assert float(loss_of(batch, batch.policy.logprobs_BT)[0].abs()) > 1e-3


# The head -----------------------------------------------------------------------------------------------------------

PROMPTS = [[5, 6, 7], [8], [3, 3, 9, 4, 7], [6, 7]]


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(resolve_model("embedded"), "cpu", "float32")


def test_features_are_the_last_hidden_state_of_each_prompt_alone(model: Any) -> None:
    found = LogZ(model, 0.1, World()).features(PROMPTS)
    for row, prompt in zip(found, PROMPTS, strict=True):
        with torch.no_grad():
            whole = model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
        hidden = whole.hidden_states[-1][0, -1]
        torch.testing.assert_close(model.lm_head(hidden), whole.logits[0, -1])  # what the head of the model is given
        torch.testing.assert_close(row[:-1], hidden / hidden.abs().sum(), rtol=1e-4, atol=1e-6)
        assert row[-1] == 1


def test_it_learns_log_z_of_every_prompt(model: Any) -> None:
    """At the target the rewards of a prompt are all its log Z; those of four prompts are told apart."""
    rewards = torch.tensor([-3.0, -1.0, 0.5, 2.0])[:, None].expand(4, 3)
    head = LogZ(model, 0.05, World())
    features = head.features(PROMPTS)
    torch.testing.assert_close(head.step(features, rewards), rewards.mean().expand(4))
    torch.testing.assert_close(head.step(features, rewards), rewards.mean().expand(4))  # that of before the step
    for _ in range(600):
        head.step(features, rewards)
    torch.testing.assert_close(head.values(features), rewards[:, 0], rtol=0.0, atol=0.1)


class Beside(World):
    """One of two processes; the other's prompts have these mean rewards."""

    def gather(self, items: list[Any]) -> list[Any]:
        return [*items, 5.0, 7.0, 9.0]


def test_it_begins_at_the_mean_of_all_processes(model: Any) -> None:
    features = LogZ(model, 0.05, World()).features(PROMPTS[:1])
    found = LogZ(model, 0.05, Beside()).step(features, torch.tensor([[1.0, 5.0]]))
    assert found.tolist() == pytest.approx([(3.0 + 5.0 + 7.0 + 9.0) / 4])


def test_its_state_goes_on_to_the_same_numbers_and_no_other_models_is_taken(model: Any) -> None:
    rewards = torch.tensor([[-3.0], [-1.0], [0.5], [2.0]])
    heads = [LogZ(model, 0.05, World()) for _ in range(2)]
    features = heads[0].features(PROMPTS)
    for _ in range(4):
        heads[0].step(features, rewards)
        heads[1].load_state(heads[0].state(), "here")
        for head in heads:
            head.step(features, rewards + 7.0)
        assert torch.equal(heads[0].weight_F, heads[1].weight_F)
    with pytest.raises(InputError, match=r"checkpoint: got 'here'.*hidden size 2"):
        heads[0].load_state({"weight": torch.zeros(3)}, "here")


SMALL: dict[str, Any] = {
    "objective": preset("tempered").to_dict(),
    "prompts_per_step": 2,
    "samples_per_prompt": 3,
    "max_length": 32,
    "engine": "transformers",
    "evaluation": {"problems": 2, "samples": 2, "alpha_prompts": 0},
    "checkpoint_every": 1,
    "trackers": [],
}


def test_a_checkpoint_without_log_z_is_refused() -> None:
    """As one of the learner that had this name before would be; the message names the file."""
    config, world = resolve({**SMALL, "learner": {"kind": "tb"}}), World()
    setup = prepare(config, resolve_model("embedded"), world)
    prompts = load_source("embedded", "train", 8).prompts()
    given = (setup.model, setup.tokenizer, setup.engine, prompts, None, setup.template)
    trainer = Trainer(config, *given, reference=setup.reference, compute=setup.compute)
    record, _ = trainer.step()
    assert record["log_z"] == pytest.approx(record["pseudo_reward"])  # the first batch sets the intercept
    tensors, numbers = trainer.state()
    assert tensors.pop("log_z")["weight"].abs().max() > 0
    with pytest.raises(InputError, match=r"checkpoint: got 'here', allowed: one with log_z.safetensors"):
        trainer.load_state(tensors, numbers, {}, "here")


@pytest.mark.parametrize("rate", [0, -1.0, True, float("nan"), "fast"])
def test_a_rate_is_a_number_above_zero(rate: Any) -> None:
    with pytest.raises(ValueError, match=r"rate: got .*allowed: a finite number above 0"):
        TrainConfig.model_validate({**SMALL, "learner": {"kind": "tb", "options": {"rate": rate}}})
