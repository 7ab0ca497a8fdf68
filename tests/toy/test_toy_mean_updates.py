"""What every learner's own update is in the mean, over its random samples, against enumeration written in NumPy.

The oracle shares nothing with the learners: it visits all n^G groups, follows the published update of each by hand, and
adds up. Unbiased learners must have the gradient of J for a mean; the biased ones the mean that enumeration predicts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.compiled import quickly
from sharpen.toy.dynamics.updates import make
from sharpen.toy.learners.parts.learner import Batch, Options, SampledLearner
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.problems.policies import SEPARATE
from sharpen.toy.problems.setting import setting

PROBLEM = Problem([0.5, 0.3, 0.2], [0.0, 1.0, 0.4])
OBJECTIVE = Objective(alpha=2.0, beta_inv=2.0)  # r + log p + (log p - log pi) / 2 - log p / 2
W_R, W_P, W_H = 1.0, 1.0, 0.5
LOG_P, PI = np.log(PROBLEM.base), np.array([0.2, 0.3, 0.5])
LOG_PI, SCORE = np.log(PI), np.eye(3) - PI  # SCORE[x] = grad log pi(x)
TASK = W_R * PROBLEM.reward + (W_P - W_H) * LOG_P  # the reward beside the KL pair
U = TASK + W_H * (LOG_P - LOG_PI)
GRADIENT = PI * (U - PI @ U)
G, DRAWS, ETA = 3, 2**17, 1e-3
OLD = np.array([0.4, 0.4, 0.2])  # what off-policy's samples come from


def mean_update(kind: str, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of (theta' - theta) / eta over draws, centred, and its standard error, shape [n] each."""
    with jax.enable_x64():
        learner = make(kind, setting(OBJECTIVE, PROBLEM, ETA), SEPARATE, options)
        state = learner.init(jax.random.key(0))
        state = state._replace(
            parameters=state.parameters._replace(theta=jnp.asarray(LOG_PI)[None]),
            behaviour=jnp.log(jnp.asarray(OLD))[None],
            updates=jnp.asarray(1),  # off-policy keeps its older samples' policy
        )
        keys = jax.random.split(jax.random.key(1), DRAWS)
        moved = jax.jit(jax.vmap(lambda key: learner.step(state, key).parameters.theta[0]))(keys)
        change = (np.asarray(moved) - LOG_PI) / ETA
    change -= change.mean(axis=1, keepdims=True)
    return change.mean(axis=0), change.std(axis=0, ddof=1) / np.sqrt(DRAWS)


def enumerated(update: Callable[[np.ndarray], np.ndarray], sampled: np.ndarray = PI) -> np.ndarray:
    """Return the mean over all groups x_1..x_G ~ sampled of an update, centred."""
    groups = [np.array(group) for group in itertools.product(range(3), repeat=G)]
    mean = sum(np.prod(sampled[group]) * update(group) for group in groups)
    return np.asarray(mean) - np.mean(mean)


def standardised(reward: np.ndarray) -> np.ndarray:
    return (reward - reward.mean()) / (reward.std(ddof=1) + 1e-6)


def grpo(group: np.ndarray) -> np.ndarray:
    return standardised(U[group]) @ SCORE[group] / G


def unlikeliness(group: np.ndarray) -> np.ndarray:
    order = sorted(range(G), key=lambda g: (-LOG_PI[group[g]], g))
    rank = np.empty(G)
    rank[order] = np.arange(G)
    reward = TASK[group] * (1 - 0.25 * (G - rank) / G) + W_H * (LOG_P - LOG_PI)[group]
    return standardised(reward) @ SCORE[group] / G


def best_of_n(group: np.ndarray) -> np.ndarray:
    return SCORE[group[np.argmax(U[group])]]


def clipped(low: float, high: float, *, skip_equal: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Four epochs of PPO's surrogate on one group, by its derivative: the ratio where it is not clipped, else 0."""

    def update(group: np.ndarray) -> np.ndarray:
        A, theta = standardised(U[group]), LOG_PI.copy()
        if skip_equal and np.ptp(U[group]) < 1e-6:
            return np.zeros(3)
        for _ in range(4):
            pi = np.exp(theta) / np.exp(theta).sum()
            ratio = (pi / PI)[group]
            inside = np.where(A > 0, ratio < 1 + high, ratio > 1 - low)
            theta = theta + ETA * (A * ratio * inside) @ (np.eye(3) - pi)[group] / G
        return (theta - LOG_PI) / ETA

    return update


def kl_in_loss(slope: np.ndarray) -> np.ndarray:
    """REINFORCE on the task's reward, less w_h E[k'(log pi) grad log pi]: what autograd sees of a sampled mean."""
    mean = (PI * (TASK - W_H * slope)) @ SCORE
    return mean - mean.mean()


K1 = LOG_PI - LOG_P
K3 = np.exp(-K1) - 1 + K1
UNBIASED = {
    ("reinforce", "k1-reward"): 1.0,
    ("rloo", "k1-reward"): 1.0,
    ("off-policy", "k1-reward"): 1.0,
    ("reinforce", "k2-loss"): 1.0,
    ("rloo", "k2-loss"): 1.0,
    ("tb", "k1-reward"): W_H,  # half a squared gap has w_h times the gradient
    ("tb-batch", "k1-reward"): W_H * (1 - 1 / G),  # and loses its own sample's share of the group's log Z
}
BIASED = {
    ("grpo", "k1-reward"): lambda: enumerated(grpo),
    ("ppo", "k1-reward"): lambda: enumerated(clipped(0.2, 0.2, skip_equal=False)),
    ("dapo", "k1-reward"): lambda: enumerated(clipped(0.2, 0.28, skip_equal=True)),
    ("unlikeliness", "k1-reward"): lambda: enumerated(unlikeliness),
    ("best-of-n", "k1-reward"): lambda: enumerated(best_of_n),
    ("reinforce", "k2-reward"): lambda: (PI * (TASK - W_H * K1**2 / 2)) @ SCORE,
    ("reinforce", "k3-reward"): lambda: (PI * (TASK - W_H * K3)) @ SCORE,
    ("reinforce", "k1-loss"): lambda: kl_in_loss(np.ones(3)),
    ("reinforce", "k3-loss"): lambda: kl_in_loss(1 - np.exp(-K1)),
}


NAMED = {"dr-grpo", "gspo", "cispo", "maxrl", "maxrl-order-g", "pass-k", "nsr", "w-reinforce", "power-distillation"}
NAMED |= {"alpha-divergence", "f-divergence", "entropy-bonus", "adaptive-entropy"}  # test_toy_named_learners.py


def options(kl: str) -> Options:
    return Options(group_size=G, kl=kl, stale=4, reference_moves=False, noisy_reward=False)


@pytest.mark.parametrize(("kind", "kl"), UNBIASED)
def test_an_unbiased_learners_mean_update_is_the_gradient(kind: str, kl: str) -> None:
    mean, error = mean_update(kind, options(kl))
    expected = UNBIASED[kind, kl] * GRADIENT
    assert np.all(np.abs(mean - expected) < 4 * error)
    assert np.abs(expected).max() > 20 * error.max()  # so that a wrong gradient would be seen


@pytest.mark.parametrize(("kind", "kl"), BIASED)
def test_a_biased_learners_mean_update_is_the_predicted_one(kind: str, kl: str) -> None:
    mean, error = mean_update(kind, options(kl))
    expected = BIASED[kind, kl]()
    assert np.all(np.abs(mean - expected) < 4 * error + 1e-9)
    scale = (mean @ GRADIENT) / (GRADIENT @ GRADIENT)  # the multiple of the gradient that comes closest
    assert np.max(np.abs(mean - scale * GRADIENT) / error) > 4  # biased in its direction, not only in its size


def test_every_sampled_learner_is_here() -> None:
    from sharpen.toy.learners.parts.learner import KL_PLACES

    known = {name: learner.loss for name in LEARNERS if isinstance(learner := LEARNERS.get(name), SampledLearner)}
    built_in = {name for name, loss in known.items() if getattr(loss, "__module__", "").startswith("sharpen.")}
    assert {kind for kind, _ in (*UNBIASED, *BIASED)} == built_in - NAMED
    assert {kl for _, kl in (*UNBIASED, *BIASED)} == set(KL_PLACES)


def test_clipping_acts_where_a_large_step_leaves_the_region() -> None:
    """One epoch too far: the clipped epochs add nothing, so the update is that of the first epochs alone."""
    with jax.enable_x64():
        at = setting(OBJECTIVE, PROBLEM, 5.0)
        ends = []
        for epochs in (1, 4):
            learner = make("ppo", at, SEPARATE, Options(group_size=2, epochs=epochs, reference_moves=False))
            keys = jax.random.split(jax.random.key(3), 20)
            moved = jax.jit(jax.vmap(learner.step, in_axes=(None, 0)))(learner.init(keys[0]), keys)
            ends.append(np.asarray(moved.parameters.theta[:, 0]))
    far = np.abs(ends[0] - np.log(PROBLEM.base)).max(axis=1) > 0.5  # out of the region after one epoch
    assert far.sum() > 5  # the others drew the same outcome twice
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-12)


def gradient(kind: str, ratio: np.ndarray, reward: np.ndarray, behaviour: np.ndarray, options: Options) -> np.ndarray:
    """Return the descent direction of log pi of samples whose pi is ``ratio`` times what it was at the start, [P, G].

    ``behaviour`` is what it was at the start over what it was when they were drawn.
    """
    learner = LEARNERS.get(kind)
    assert isinstance(learner, SampledLearner)
    with jax.enable_x64():
        start = jnp.full(ratio.shape, -1.0)
        batch = Batch(jnp.asarray(reward), start, start - jnp.log(behaviour), start)
        weight = jnp.full(len(ratio), 1.0 / len(ratio))
        rest = (batch, weight, jnp.zeros(()), jnp.zeros((1, 1)), options)
        return -np.asarray(quickly(jax.grad(lambda log_pi: learner.loss(log_pi, *rest)))(start + jnp.log(ratio)))


def test_clips_and_caps_by_hand() -> None:
    """A sample's gradient is ratio x advantage over G while it is inside, else 0, or as much as the cap allows."""
    one = np.ones((1, 2))
    reward = np.array([[1.0, 0.0]])
    off = gradient("off-policy", one, reward, np.array([[50.0, 0.5]]), Options(importance_cap=20.0))
    np.testing.assert_allclose(off, [[20.0 / 2, -0.5 / 2]], rtol=1e-12)  # less the other sample's reward: 1 and -1
    A = 0.5 / (np.sqrt(0.5) + 1e-6)
    weighted = gradient("cispo", np.array([[8.0, 0.5]]), reward, one, Options(cispo_cap=5.0))
    np.testing.assert_allclose(weighted, [[5.0 * A / 2, -0.5 * A / 2]], rtol=1e-12)

    # DAPO: upper clip 1.28, lower 0.8. The second prompt's rewards all agree, so the mean is the first's alone.
    ratio = np.array([[1.25, 1.3, 0.78, 0.85], [1.0, 1.1, 0.9, 1.0]])
    reward = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    A = 0.5 / (np.sqrt(1.0 / 3.0) + 1e-6)
    found = gradient("dapo", ratio, reward, np.ones((2, 4)), Options(clip_low=0.2, dapo_clip_high=0.28))
    np.testing.assert_allclose(found, [[1.25 * A / 4, 0.0, 0.0, -0.85 * A / 4], [0.0] * 4], rtol=1e-12)


def test_a_stale_learner_samples_from_the_older_policy() -> None:
    """That one is as good as certain: equal samples, no advantage, no update, until it is renewed."""
    with jax.enable_x64():
        learner = make("off-policy", setting(OBJECTIVE, PROBLEM, 1.0), SEPARATE, options("k1-reward"))
        state = learner.init(jax.random.key(0))
        state = state._replace(behaviour=jnp.log(jnp.array([[1.0 - 2e-12, 1e-12, 1e-12]])))
        keys, step = jax.random.split(jax.random.key(1), 16), quickly(jax.vmap(learner.step, in_axes=(None, 0)))
        moved = {}
        for updates in (1, 3, 4):  # stale is 4
            ends = step(state._replace(updates=jnp.asarray(updates)), keys).parameters.theta
            moved[updates] = float(jnp.abs(ends - state.parameters.theta).max())
    assert max(moved[1], moved[3]) < 1e-9
    assert moved[4] > 0.1


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_the_optimizers_follow_their_recursions(optimizer: str) -> None:
    """Of the exact gradient of J, six steps written out: heavy ball with 0.9 and Adam (Kingma and Ba 2015)."""
    eta, epsilon = 0.3, 1e-3
    chosen = Options(optimizer=optimizer, epsilon=epsilon, reference_moves=False)
    theta, first, second = LOG_P.copy(), np.zeros(3), np.zeros(3)
    with jax.enable_x64():
        learner = make("softmax", setting(OBJECTIVE, PROBLEM, eta), SEPARATE, chosen)
        state, step = learner.init(jax.random.key(0)), jax.jit(learner.step)
        for t in range(1, 7):
            state = step(state, jax.random.key(0))
            pi = np.exp(theta) / np.exp(theta).sum()
            A = TASK + W_H * (LOG_P - np.log(pi))
            g = pi * (A - pi @ A)
            if optimizer == "momentum":
                first = 0.9 * first + g
                theta = theta + eta * first
            else:
                first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
                theta = theta + eta * first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + epsilon)
        found = np.asarray(jax.nn.softmax(state.parameters.theta[0]))
    np.testing.assert_allclose(found, np.exp(theta) / np.exp(theta).sum(), rtol=1e-9)
