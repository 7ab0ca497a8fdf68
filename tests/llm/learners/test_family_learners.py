"""The learners of the family: advantages, mean updates and losses against oracles that share no code with them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sharpen.llm.configs.train import LearnerSettings, TrainConfig, resolve
from sharpen.llm.distributed.world import World
from sharpen.llm.learners.experience import Experience
from sharpen.llm.learners.parts.advantage import of_subsets, relative_to_mean, signed
from sharpen.llm.learners.parts.learner import LossInputs
from sharpen.llm.learners.parts.loss import importance_weights
from sharpen.llm.learners.parts.utility import advantages
from sharpen.llm.models.logprobs import TokenLogprobs
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.llm.rewards.firewall import reward_for
from sharpen.llm.rollout import Rollout
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training.setup import prepare
from sharpen.llm.training.trainer import Trainer
from sharpen.objective import InputError, Objective, preset

GROUPS_OF_REWARDS = st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=7)
POLICY, BASE = np.array([0.15, 0.35, 0.2, 0.3]), np.array([0.1, 0.4, 0.3, 0.2])
REWARD = np.array([1.0, 0.0, 0.0, 1.0])
TASK, TILTED = preset("task-reward"), Objective(alpha=2.0, beta_inv=2.0)


# Advantages ---------------------------------------------------------------------------------------------------------


@given(GROUPS_OF_REWARDS, st.data())
def test_advantages_of_subsets_are_the_mean_over_all_of_them(rewards: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(rewards) - 1))
    got = of_subsets(torch.tensor([rewards], dtype=torch.float64), k)
    np.testing.assert_allclose(got[0], standardised_sets(rewards, k), atol=1e-9)
    assert abs(float(got.sum())) < 1e-9


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_advantages_over_the_mean_and_signed_ones(rewards: list[float]) -> None:
    r, given_PG = np.array(rewards), torch.tensor([rewards], dtype=torch.float64)
    expected = r / r.mean() - 1.0 if r.mean() > 0 else np.zeros(len(r))
    np.testing.assert_allclose(relative_to_mean(given_PG)[0], expected, rtol=1e-9, atol=1e-9)
    if r.mean() == 0:
        assert relative_to_mean(given_PG, -1.0).tolist() == [[-1.0] * len(r)]
    np.testing.assert_allclose(signed(given_PG, 0.1, 1.0)[0], 1.1 * r - 1.0, atol=1e-12)


def test_rewards_that_an_advantage_has_no_meaning_for_are_refused() -> None:
    half = torch.tensor([[0.5, 1.0, 0.0]])
    with pytest.raises(InputError, match=r"reward: got 0.5, allowed: 0 or 1 for the learner pass-k"):
        of_subsets(half, 2)
    for refused in (relative_to_mean, lambda r: signed(r, 0.1, 1.0)):
        with pytest.raises(InputError, match=r"reward: got -0.5, allowed: 0"):
            refused(half - 1.0)


# Mean updates, over every group -------------------------------------------------------------------------------------


def every_group(size: int, policy: np.ndarray = POLICY) -> tuple[np.ndarray, Experience]:
    """All groups of one-token responses, each a prompt of the batch, and how likely each is."""
    groups = np.array(list(itertools.product(range(len(policy)), repeat=size)))
    drawn = groups.ravel()
    mask = torch.ones(len(drawn), 1, dtype=torch.bool)
    log_pi = torch.tensor(np.log(policy)[drawn])[:, None]
    rollout = Rollout([[0]] * len(drawn), [[int(x)] for x in drawn], [[0.0]] * len(drawn), [True] * len(drawn))
    batch = Experience(
        list(range(len(groups))),
        rollout,
        [""] * len(drawn),
        TokenLogprobs(log_pi, -log_pi, mask),
        torch.tensor(np.log(BASE)[drawn])[:, None],
        importance_weights(log_pi, log_pi, mask, 20.0),
        torch.tensor(REWARD[drawn]),
    )
    return groups, batch


def mean_update(kind: str, objective: Objective, size: int, policy: np.ndarray = POLICY, **options: Any) -> np.ndarray:
    """Mean over all groups of (1/G) sum A d log pi / d logits."""
    settings = LearnerSettings(kind=kind, options=options)
    groups, batch = every_group(size, policy)
    rewards_R = settings.learner.rewards(settings, objective, batch, batch.policy.logprobs_BT)
    A = advantages(settings.learner, settings, objective, batch, rewards_R).numpy()
    score = np.eye(len(policy))[groups] - policy
    return np.einsum("n,ng,ngx->x", policy[groups].prod(axis=1), A, score) / size


def gradient(slope: float, objective: Objective) -> np.ndarray:
    """Of slope w_r P + w_p E[log p] + w_h H in the logits of the policy, written out."""
    w = objective.coefficients
    u = slope * w.w_r * REWARD + w.w_p * np.log(BASE) - w.w_h * np.log(POLICY)
    return POLICY * (u - POLICY @ u)


P = float(POLICY @ REWARD)


@pytest.mark.parametrize("objective", [TASK, TILTED], ids=["reward", "with KL and likelihood"])
@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("utility", ["identity", "log"])
@pytest.mark.parametrize(("kind", "less"), [("maxrl", 1), ("maxrl-order-g", 0)])
def test_maxrl_ascends_the_series_of_log_p_to_its_order(
    kind: str, less: int, utility: str, size: int, objective: Objective
) -> None:
    """THEORY T19: of order G - 1, not G, where all-wrong groups are left out; of a group of two, REINFORCE."""
    slope = sum((1 - P) ** (j - 1) for j in range(1, size + 1 - less))
    got = mean_update(kind, objective.model_copy(update={"utility": utility}), size)
    np.testing.assert_allclose(got, gradient(slope, objective), atol=1e-12)
    assert less == 0 or size > 2 or slope == 1.0


@pytest.mark.parametrize("objective", [TASK, TILTED], ids=["reward", "with KL and likelihood"])
@pytest.mark.parametrize(("positive", "negative"), [(0.1, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_weights_of_right_and_wrong_samples_only_scale_the_mean_update(
    positive: float, negative: float, objective: Objective
) -> None:
    got = mean_update("w-reinforce", objective, 3, positive=positive, negative=negative)
    np.testing.assert_allclose(got, gradient(positive + negative, objective), atol=1e-12)
    if positive == 0:
        np.testing.assert_array_equal(mean_update("nsr", objective, 3), got)


def test_dr_grpo_is_the_gradient_but_for_a_factor() -> None:
    np.testing.assert_allclose(mean_update("dr-grpo", TILTED, 4), 0.75 * gradient(1.0, TILTED), atol=1e-12)


def standardised_sets(rewards: list[float], k: int) -> np.ndarray:
    """Every set of k samples drawn, its reward the largest, standardised over the sets, averaged for each member."""
    sets = list(itertools.combinations(range(len(rewards)), k))
    best = np.array([max(rewards[i] for i in members) for members in sets])
    scaled = (best - best.mean()) / best.std() if best.std() > 0 else np.zeros(len(sets))
    held = [[a for a, members in zip(scaled, sets, strict=True) if i in members] for i in range(len(rewards))]
    return np.array([np.mean(own) for own in held])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_pass_k_training_ascends_a_function_of_the_success_rate(k: int) -> None:
    """Its slope is the mean over how many of a group are right of m A_right/(G P) - (G - m) A_wrong/(G (1 - P))."""
    size, slope = 4, 0.0
    for right in range(1, size):
        A = standardised_sets([1.0] * right + [0.0] * (size - right), k)
        chance = math.comb(size, right) * P**right * (1 - P) ** (size - right)
        slope += chance * (right * A[0] / P - (size - right) * A[-1] / (1 - P)) / size
    objective = TASK.model_copy(update={"utility": f"pass@{k}"})
    np.testing.assert_allclose(mean_update("pass-k", objective, size), gradient(slope, TASK), atol=1e-9)
    assert slope > 0


TARGET = BASE[:3] ** 2 / (BASE[:3] ** 2).sum()
AWAY = np.array([0.3, 0.3, 0.4])


def descent(divergence: Any) -> np.ndarray:
    """Minus the gradient of a divergence of two distributions in the logits of the second, by central differences."""
    found = []
    for step in np.eye(3) * 1e-6:
        ends = [np.exp(np.log(AWAY) + sign * step) for sign in (1, -1)]
        values = [divergence(TARGET, end / end.sum()) for end in ends]
        found.append(-(values[0] - values[1]) / 2e-6)
    return np.array(found)


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(p @ np.log(p / q))


DIVERGENCES: dict[str, tuple[dict[str, Any], Any]] = {
    "power-distillation": ({}, kl),
    "alpha-divergence": ({"a": 0.5}, lambda p, q: 4.0 * (1.0 - np.sqrt(p * q).sum())),
    "f-divergence": ({}, lambda p, q: kl(p, (p + q) / 2) + kl(q, (p + q) / 2)),
}


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_learners_that_match_the_optimum(kind: str) -> None:
    """At the optimum the mean update is zero; elsewhere it tends to the gradient of the divergence, as 1/G."""
    options, divergence = DIVERGENCES[kind]
    tempered, exact = Objective(alpha=2.0), descent(divergence)
    np.testing.assert_allclose(mean_update(kind, tempered, 3, TARGET, **options), 0.0, atol=1e-12)
    gaps = [np.abs(mean_update(kind, tempered, size, AWAY, **options) - exact).max() for size in (2, 4, 8)]
    assert gaps[2] < 0.7 * gaps[1] < 0.5 * gaps[0]


# Entropy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "objective", [TASK, TILTED, Objective(beta_inv=2.0, utility="log")], ids=["reward", "KL", "log"]
)
def test_an_entropy_bonus_is_the_gradient_of_the_entropy_beside_the_objective(objective: Objective) -> None:
    entropy = POLICY * (-np.log(POLICY) + POLICY @ np.log(POLICY))
    plain = mean_update("rloo", objective, 3)
    bonus = mean_update("entropy-bonus", objective, 3, weight=0.7)
    np.testing.assert_allclose(bonus, plain + 0.7 * entropy, atol=1e-12)
    np.testing.assert_array_equal(mean_update("entropy-bonus", objective, 3, weight=0), plain)


def test_the_adaptive_bonus_is_what_is_missing_of_the_entropy() -> None:
    """Where the entropy of the tokens, -log pi of each here, is above the target nothing is added."""
    np.testing.assert_array_equal(mean_update("adaptive-entropy", TASK, 3, target=0.1), mean_update("rloo", TASK, 3))
    settings = LearnerSettings(kind="adaptive-entropy", options={"target": 3.0, "gain": 0.5})
    groups, batch = every_group(3)
    log_pi = np.log(POLICY)[groups]
    expected = REWARD[groups] - 0.5 * (3.0 + log_pi.mean(axis=1, keepdims=True)) * log_pi
    got = settings.learner.rewards(settings, TASK, batch, batch.policy.logprobs_BT)
    np.testing.assert_allclose(batch.grouped(got), expected, atol=1e-12)


# Losses -------------------------------------------------------------------------------------------------------------


def random_inputs(seed: int, spread: float) -> tuple[LossInputs, torch.Tensor, torch.Tensor, np.ndarray]:
    """Log-probabilities of six sequences, some of length one, and a policy that has moved from where they began."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 6, 6)
    lengths[0] = 5
    mask = torch.arange(5)[None, :] < torch.tensor(lengths)[:, None]
    start = torch.tensor(-rng.exponential(size=(6, 5))).masked_fill(~mask, 0.0)
    now = (start + spread * torch.tensor(rng.normal(size=(6, 5)))).masked_fill(~mask, 0.0)
    A = torch.tensor(rng.normal(size=6))
    weights = torch.tensor(rng.uniform(0.5, 2.0, size=(6, 5)))
    return LossInputs(A, weights, start, start, 6.0, 0.0), now.requires_grad_(), mask, lengths


def gradient_of(
    kind: str, inputs: LossInputs, now: torch.Tensor, mask: torch.Tensor, **fields: Any
) -> tuple[float, torch.Tensor]:
    settings = LearnerSettings(kind=kind, **fields)
    parts = [settings.learner.loss(settings, inputs, rows, now[rows], mask[rows]) for rows in ([0, 3], [1, 2, 4, 5])]
    loss = torch.stack(parts).sum()
    return float(loss.detach()), torch.autograd.grad(loss, now)[0]


@given(st.integers(0, 10**6), st.sampled_from([1e-4, 1e-3, 0.3]))
def test_gspo_is_its_equation(seed: int, spread: float) -> None:
    """(1/G) sum min(s A, clip(s, 1 - 3e-4, 1 + 4e-4) A), s = (pi(y)/pi_start(y))^(1/|y|), differentiated by torch."""
    inputs, now, mask, lengths = random_inputs(seed, spread)
    size = torch.tensor(lengths, dtype=torch.float64)
    ones = inputs._replace(weights_RT=(1.0 / size)[:, None].expand(6, 5))
    s = ((now - inputs.start_RT).sum(dim=1) / size).exp()
    expected = -torch.minimum(s * inputs.advantages_R, s.clamp(1 - 3e-4, 1 + 4e-4) * inputs.advantages_R).mean()
    value, found = gradient_of("gspo", ones, now, mask)
    assert value == pytest.approx(float(expected), rel=1e-10, abs=1e-12)
    torch.testing.assert_close(found, torch.autograd.grad(expected, now)[0].masked_fill(~mask, 0.0))


@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.5]))
def test_cispo_is_its_equation(seed: int, clip_high: float) -> None:
    """Every token keeps the gradient of A log pi, times its ratio, which is capped, as a constant."""
    inputs, now, mask, lengths = random_inputs(seed, 1.0)
    value, found = gradient_of("cispo", inputs, now, mask, clip_high=clip_high, epochs=2)
    expected, loss = np.zeros((6, 5)), 0.0
    for b, length in enumerate(lengths):
        for t in range(length):
            ratio = math.exp(float(now[b, t]) - float(inputs.start_RT[b, t]))
            weight = float(inputs.weights_RT[b, t] * inputs.advantages_R[b]) * min(ratio, 1 + clip_high) / 6.0
            expected[b, t], loss = -weight, loss - weight * float(now[b, t])
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert value == pytest.approx(loss, rel=1e-9, abs=1e-9)


# Settings and runs --------------------------------------------------------------------------------------------------

TWO = {"beta_inv": 1.0, "utility": "pass@2"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"learner": {"kind": kind}, "objective": preset(name).to_dict()}, f"learner.kind: got '{kind}'.*beta_inv above 0")
    for kind in ("maxrl", "pass-k", "w-reinforce", "nsr")
    for name in ("tempered", "sharpening")
] + [
    ({"learner": {"kind": "power-distillation"}}, "learner.kind: got 'power-distillation'.*mode sampling"),
    ({"learner": {"kind": "pass-k"}}, "utility: got 'identity', allowed: pass@K for pass-k"),
    ({"learner": {"kind": "pass-k"}, "objective": TWO, "samples_per_prompt": 2}, "samples_per_prompt: got 2, .* 3 for"),
    ({"learner": {"kind": "w-reinforce", "options": {"positive": -1}}}, "positive: got -1"),
    ({"learner": {"kind": "w-reinforce", "options": {"positive": 0, "negative": 0}}}, "one of them above 0"),
    ({"learner": {"kind": "entropy-bonus", "options": {"weight": float("nan")}}}, "weight: got nan"),
    ({"learner": {"kind": "adaptive-entropy", "options": {"target": True}}}, "target: got True"),
    ({"learner": {"kind": "alpha-divergence", "options": {"a": 0}}}, "a: got 0, allowed: a finite number above 0"),
    ({"learner": {"kind": "maxrl"}, "objective": TWO}, "utility: got 'pass@2', allowed: identity or log for maxrl"),
    ({"learner": {"kind": "maxrl", "epochs": 2}}, "epochs: got 2"),
]


@pytest.mark.parametrize(
    ("fields", "message"), REFUSED, ids=[f"{i} {message[:24]}" for i, (_, message) in enumerate(REFUSED)]
)
def test_what_cannot_be_served_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate(fields)


def test_what_their_sources_set_stands_unless_a_run_says_otherwise() -> None:
    gspo = resolve({"learner": {"kind": "gspo"}})
    assert (gspo.learner.clip_low, gspo.learner.learner.upper_clip, gspo.aggregation) == (3e-4, 4e-4, "response_mean")
    assert resolve({"learner": {"kind": "gspo", "clip_low": 0.1}}).learner.clip_low == 0.1
    assert resolve({"learner": {"kind": "dr-grpo"}}).aggregation == "sequence_mean"


RUNS: dict[str, dict[str, Any]] = {
    "dr-grpo": {"epochs": 2},
    "gspo": {"epochs": 2},
    "cispo": {"epochs": 2},
    "pass-k": {},
    "power-distillation": {"epochs": 2},
    "adaptive-entropy": {"options": {"target": 5.0}},
}


@pytest.mark.parametrize("kind", RUNS)
def test_two_steps_of_the_embedded_model(kind: str) -> None:
    """The loss and the gradient are numbers, every weight that is trained moves and stays one."""
    fields = {"engine": "transformers", "prompts_per_step": 4, "samples_per_prompt": 4, "max_length": 32}
    config = resolve(
        {
            **fields,
            "objective": {**TILTED.to_dict(), "utility": "pass@2" if kind == "pass-k" else "identity"},
            "learner": {"kind": kind, **RUNS[kind]},
            "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
            "shard": "never",
            "seed": 1,
        }
    )
    setup = prepare(config, resolve_model("embedded"), World())
    data = load_source("embedded", "train", 64)
    trainer = Trainer(
        *(config, setup.model, setup.tokenizer, setup.engine, data.prompts(), reward_for(config.objective, data)),
        setup.template,
        reference=setup.reference,
        compute=setup.compute,
    )
    before = {name: weight.detach().clone() for name, weight in setup.model.named_parameters()}
    for step in range(2):
        record, _ = trainer.step()
        assert record["step"] == step
        assert math.isfinite(record["loss"])
        assert record["gradient_norm"] > 0
    for name, weight in setup.model.named_parameters():
        assert weight.isfinite().all()
        assert not torch.equal(weight, before[name]), name
