"""Theory, JAX and PyTorch compute one value and one gradient for every objective, and RLOO's expectation is it.

Expectations are exact: every group of samples is enumerated, so no tolerance hides a Monte Carlo error.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sharpen.llm.learners.parts.advantage import leave_one_out
from sharpen.llm.learners.parts.loss import importance_weights, reinforce_loss
from sharpen.objective import Objective
from sharpen.theory.core.flow import gradient
from sharpen.theory.core.problem import Problem

OBJECTIVES = {
    "task-reward": Objective(alpha=0, beta_inv=1, mode="optimization"),
    "task-reward+likelihood": Objective(alpha=0.5, beta_inv=2, mode="optimization"),
    "sharpening": Objective(alpha=1, mode="optimization"),
    "sharpening-mean": Objective(alpha=1, mode="optimization", normalization="mean"),
    "null": Objective(alpha=1),
    "flattened": Objective(alpha=0.5),
    "tempered": Objective(alpha=4),
    "tempered-mean": Objective(alpha=2, normalization="mean"),
    "tempered-weighted": Objective(alpha=2, normalization="weighted_mean", weight=0.5),
    "tilted": Objective(alpha=1, beta_inv=10),
    "tilted-sharp": Objective(alpha=2, beta_inv=0.5, normalization="mean"),
    "tilted-none": Objective(alpha=2, beta_inv=0.5, normalization="none"),
}
objectives = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())


class Case(NamedTuple):
    base: np.ndarray
    reward: np.ndarray
    length: np.ndarray
    logits: np.ndarray


def case(seed: int, n: int) -> Case:
    rng = np.random.default_rng(seed)
    return Case(
        rng.dirichlet(np.ones(n)), rng.normal(size=n), rng.integers(1, 9, size=n).astype(float), rng.normal(size=n)
    )


def jax_value_and_gradient(objective: Objective, x: Case) -> tuple[float, np.ndarray]:
    with jax.enable_x64():
        length, reward, ref = (jnp.asarray(a) for a in (x.length, x.reward, np.log(x.base)))

        def value(logits: jax.Array) -> jax.Array:
            return objective.value(
                policy_logprob=jax.nn.log_softmax(logits), reward=reward, ref_logprob=ref, length=length
            )

        number, slope = jax.value_and_grad(value)(jnp.asarray(x.logits))
        return float(number), np.asarray(slope)


def torch_value_and_gradient(objective: Objective, x: Case) -> tuple[float, np.ndarray]:
    logits = torch.tensor(x.logits, requires_grad=True)
    value = objective.value(
        policy_logprob=torch.log_softmax(logits, dim=0),
        reward=torch.tensor(x.reward),
        ref_logprob=torch.tensor(np.log(x.base)),
        length=torch.tensor(x.length),
    )
    (slope,) = torch.autograd.grad(value, logits)
    return float(value.detach()), slope.numpy()


def enumerated_value(objective: Objective, x: Case, logits: np.ndarray) -> float:
    """J from the table of coefficients, in plain loops: the oracle."""
    weights = np.exp(logits - logits.max())
    w, total = objective.coefficients, 0.0
    for i, pi in enumerate(weights / weights.sum()):
        log_p = float(np.log(x.base[i]))
        s = log_p / x.length[i] ** objective.length_exponent
        total += pi * (w.w_r * x.reward[i] + (w.w_p - w.w_h) * s + w.w_h * (log_p - np.log(pi)))
    return total


@objectives
@pytest.mark.parametrize("n", [2, 5, 9])
def test_theory_jax_and_torch_agree_on_value_and_gradient(objective: Objective, n: int) -> None:
    for seed in range(5):
        x = case(seed, n)
        jax_value, jax_gradient = jax_value_and_gradient(objective, x)
        torch_value, torch_gradient = torch_value_and_gradient(objective, x)
        theory_gradient = gradient(objective, Problem(x.base, x.reward, x.length), x.logits)
        np.testing.assert_allclose([jax_value, torch_value], enumerated_value(objective, x, x.logits), rtol=1e-12)
        np.testing.assert_allclose(theory_gradient, jax_gradient, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(theory_gradient, torch_gradient, rtol=1e-10, atol=1e-12)
        differences = [
            (enumerated_value(objective, x, x.logits + h) - enumerated_value(objective, x, x.logits - h)) / 2e-5
            for h in 1e-5 * np.eye(n)
        ]
        np.testing.assert_allclose(theory_gradient, differences, atol=1e-7)


def sequences(vocabulary: int, longest: int) -> list[tuple[int, ...]]:
    """Every response: tokens 1… then the end token 0, or ``longest`` tokens without one."""
    found: list[tuple[int, ...]] = []
    for body in range(longest):
        found += [(*tokens, 0) for tokens in itertools.product(range(1, vocabulary), repeat=body)]
    return found + list(itertools.product(range(1, vocabulary), repeat=longest))


def sequence_logprobs(logits: dict[tuple[int, ...], torch.Tensor], responses: list[tuple[int, ...]]) -> torch.Tensor:
    """Token log-probabilities of a table of next-token logits by prefix, shape [sequences, longest], 0 where padded."""
    width = max(len(response) for response in responses)
    rows = []
    for response in responses:
        steps = [torch.log_softmax(logits[response[:t]], dim=0)[token] for t, token in enumerate(response)]
        rows.append(torch.stack(steps + [steps[0].detach() * 0.0] * (width - len(response))))
    return torch.stack(rows)


@objectives
@pytest.mark.parametrize("G", [2, 3])
def test_the_expectation_of_rloo_over_all_groups_is_the_gradient_of_the_objective(objective: Objective, G: int) -> None:
    """The language-model backend's advantage and loss, on an autoregressive policy small enough to enumerate."""
    responses = sequences(vocabulary=2, longest=3)
    lengths = torch.tensor([len(response) for response in responses])
    mask = torch.arange(3)[None, :] < lengths[:, None]
    generator = torch.Generator().manual_seed(G)
    prefixes = [prefix for n in range(3) for prefix in itertools.product([1], repeat=n)]
    logits = {p: torch.randn(2, generator=generator, dtype=torch.float64).requires_grad_() for p in prefixes}
    reference = {p: torch.randn(2, generator=generator, dtype=torch.float64) for p in prefixes}
    reward = torch.randn(len(responses), generator=generator, dtype=torch.float64)

    tokens_BT = sequence_logprobs(logits, responses)
    policy, ref = tokens_BT.sum(dim=1), sequence_logprobs(reference, responses).sum(dim=1)
    assert float(policy.detach().exp().sum()) == pytest.approx(1.0, abs=1e-14)
    pseudo = objective.pseudo_reward(reward=reward, ref_logprob=ref, policy_logprob=policy, length=lengths)
    value = objective.value(policy_logprob=policy, reward=reward, ref_logprob=ref, length=lengths)
    exact = torch.autograd.grad(value, list(logits.values()), retain_graph=True)

    surrogate = torch.zeros((), dtype=torch.float64)
    for group in itertools.product(range(len(responses)), repeat=G):
        rows = torch.tensor(group)
        advantages = leave_one_out(pseudo[rows][None, :]).flatten()
        weights = importance_weights(tokens_BT[rows], tokens_BT[rows].detach(), mask[rows], cap=20.0).weights_BT
        loss = reinforce_loss(tokens_BT[rows], advantages, weights, mask[rows], normalizer=G)
        surrogate = surrogate - policy[rows].sum().detach().exp() * loss
    estimated = torch.autograd.grad(surrogate, list(logits.values()))
    for got, expected in zip(estimated, exact, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
