"""The toy and the language model know the same learners by the same names, and they are the same learners."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sharpen.llm.configs.train import LearnerSettings
from sharpen.llm.learners import LEARNERS, Experience, LossInputs
from sharpen.llm.learners.parts.loss import importance_weights
from sharpen.llm.learners.parts.utility import advantages
from sharpen.llm.models.logprobs import TokenLogprobs
from sharpen.llm.rollout import Rollout
from sharpen.llm.training.log_z import balance_gradient
from sharpen.objective import Objective
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner
from sharpen.toy.learners.registry import LEARNERS as TOY

P, G = 5, 6
LOG_Z = np.array([-1.0, 0.5, 0.0, 2.0, -0.25])  # what tb may have learned by now, w_h log Z of each prompt
OPTIONS: dict[str, dict[str, Any]] = {"entropy-bonus": {"weight": 0.05}}  # the toy's
# The bonus of adaptive-entropy is made of a group's token entropies here, of the samples' own log-probabilities in the
# toy; ppo, which has a critic where it comes from, takes the mean of the others here and standardised rewards there.
DIFFERENT = {"adaptive-entropy", "ppo"}


def samples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log pi, log p and rewards of every sample; no group is of one kind."""
    rng = np.random.default_rng(5)
    reward = np.zeros((P, G))
    for group, right in zip(reward, (1, 2, 3, 4, 1), strict=True):
        group[rng.permutation(G)[:right]] = 1.0
    return -rng.exponential(size=(P, G)), -rng.exponential(size=(P, G)), reward


def of_language_model(name: str, objective: Objective) -> np.ndarray:
    """Gradient of the loss in the log-probability of each sample, a response of one token."""
    log_pi, log_p, reward = (torch.tensor(x) for x in samples())
    mask = torch.ones(P * G, 1, dtype=torch.bool)
    flat = log_pi.reshape(-1, 1)
    batch = Experience(
        list(range(P)),
        Rollout([[0]] * (P * G), [[1]] * (P * G), [[0.0]] * (P * G), [True] * (P * G)),
        [""] * (P * G),
        TokenLogprobs(flat, -flat, mask),
        log_p.reshape(-1, 1),
        importance_weights(flat, flat, mask, 20.0),
        reward.flatten(),
        log_z_P=torch.tensor(LOG_Z) if name == "tb" else None,
    )
    settings = LearnerSettings(kind=name, kl="k1-reward", options=OPTIONS.get(name, {}))
    learner, w_h = settings.learner, objective.coefficients.w_h
    rewards_R = learner.rewards(settings, objective, batch, flat)
    A = advantages(learner, settings, objective, batch, rewards_R).flatten()
    inputs = LossInputs(A, torch.ones(P * G, 1), flat, batch.reference_RT, float(P * G), w_h)
    now = flat.clone().requires_grad_()
    loss = learner.loss(settings, inputs, list(range(P * G)), now, mask)
    return torch.autograd.grad(loss, now)[0].reshape(P, G).numpy()


def of_toy(name: str, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the toy's loss in the same, and in log Z."""
    learner = TOY.get(name)
    assert isinstance(learner, SampledLearner)
    log_pi, log_p, reward = (jnp.asarray(x) for x in samples())
    w = objective.coefficients
    task = w.w_r * reward
    batch = Batch(task + (w.w_p - w.w_h) * log_p, log_p, log_pi, log_pi, task)
    options = Options(group_size=G, utility=objective.utility)
    given = (batch, jnp.full(P, 1.0 / P), jnp.asarray(w.w_h))
    log_z = jnp.asarray(LOG_Z)[:, None]
    found = jax.grad(lambda at, z: learner.loss(at, *given, z, options), argnums=(0, 1))(log_pi, log_z)
    return np.asarray(found[0]), np.asarray(found[1])


@pytest.mark.parametrize("name", [name for name in LEARNERS.names() if name not in DIFFERENT])
def test_the_first_gradient_on_a_batch_is_the_same(name: str) -> None:
    utility = {"pass-k": "pass@2", "maxrl": "log"}.get(name, "identity")
    objective = Objective(alpha=1.5, beta_inv=4.0, utility=utility)
    ours, (theirs, of_log_z) = of_language_model(name, objective), of_toy(name, objective)
    assert np.abs(ours).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)
    assert (np.abs(of_log_z).max() > 0) == (name == "tb")


def test_log_z_is_learned_by_the_same_gradient() -> None:
    objective = Objective(alpha=1.5, beta_inv=4.0)
    log_pi, log_p, reward = samples()
    rewards = objective.pseudo_reward(reward=reward, ref_logprob=log_p, policy_logprob=log_pi, length=np.ones((P, G)))
    ours = balance_gradient(torch.tensor(LOG_Z), torch.tensor(rewards), P)
    np.testing.assert_allclose(ours, of_toy("tb", objective)[1][:, 0], rtol=2e-4, atol=2e-6)


def test_ppo_of_the_toy_has_the_advantages_of_grpo() -> None:
    objective = Objective(alpha=1.5, beta_inv=4.0)
    np.testing.assert_allclose(of_toy("ppo", objective)[0], of_language_model("grpo", objective), rtol=2e-4, atol=2e-6)


def test_every_learner_of_the_language_model_is_in_the_toy() -> None:
    assert set(LEARNERS.names()) <= set(TOY.names())
