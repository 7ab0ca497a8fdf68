"""Numerical confirmations of T26: the package's border for any law, sampled RLOO updates, Adam's steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sharpen.theory.instability.meansquare import adam_steps, largest_stable_step
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import Derivation

ERRORS = 5.0  # standard errors, which a normal variable exceeds once in two million draws
GROUPS = 4_000
CASES = ((0.3, 2, 1), (0.7, 4, 3), (0.5, 8, 2))  # mass of the first outcome, G, T
STEP = 1e-4  # nats: the deviation that is squared


def compare_border(d: Derivation, border: Callable[..., float], shown: Any) -> None:
    """Compare with the largest eigenvalue of the package's second-moment map, by its eigenvectors."""
    errors = []
    for _ in range(8):
        m, group, tokens = float(d.rng.uniform(0.05, 0.95)), int(d.rng.integers(2, 20)), int(d.rng.integers(1, 40))
        errors.append(largest_stable_step([m, 1 - m], group, tokens) / border(m, group, tokens) - 1)
    d.confirm(say("The border from the eigenvalues of the whole map."), shown, errors, 1e-10, say("random cases"))


def compare_updates(d: Derivation, factor: Callable[..., float], shown: Any) -> None:
    """Compare with updates of logits by RLOO on the pseudo-reward itself, from a random deviation."""
    excess = []
    for m, group, tokens in CASES:
        eta = float(d.rng.uniform(0.3, 1.5))
        seen = _squares(d.rng, m, group, tokens, eta)
        spread = ERRORS * seen.std() / np.sqrt(GROUPS)
        excess.append(max(0.0, abs(seen.mean() - factor(eta, m, group, tokens)) - spread))
    d.confirm(
        say("Sampled updates from near the null: what differs by more than {} standard errors.", int(ERRORS)),
        shown, excess, 1e-3, say("{} cases, {} updates each", len(CASES), GROUPS),
    )  # fmt: skip


def _squares(rng: np.random.Generator, m: float, group: int, tokens: int, eta: float) -> np.ndarray:
    """Return the mean square of T log-odds after an update over that before it, shape [GROUPS]."""
    optimum = np.log([m, 1 - m])
    theta = optimum + STEP * rng.choice([-0.5, 0.5], (GROUPS, tokens, 1)) * np.array([1.0, -1.0])
    logprob = theta - np.logaddexp.reduce(theta, axis=2, keepdims=True)
    drawn = (rng.random((GROUPS, group, tokens)) > np.exp(logprob[:, None, :, 0])).astype(int)
    token = np.take_along_axis((optimum - logprob)[:, None], drawn[..., None], axis=3)[..., 0]
    reward = token.sum(axis=2)  # [GROUPS, G]
    advantage = reward - (reward.sum(axis=1, keepdims=True) - reward) / (group - 1)
    scores = np.eye(2)[drawn] - np.exp(logprob)[:, None]
    theta = theta + eta * np.mean(advantage[:, :, None, None] * scores, axis=1)
    odds = theta[..., 0] - theta[..., 1] - (optimum[0] - optimum[1])
    return np.mean(odds**2, axis=1) / STEP**2


def compare_adam(d: Derivation, rate: Callable[..., float], shown: Any) -> None:
    """Compare Adam's steps for gradients far below its epsilon with the averaged gradient, by hand."""
    gradients = 1e-9 * d.rng.standard_normal((30, 3))
    eta, eps = 0.05, 1e-2
    average, steps = np.zeros(3), []
    for t, gradient in enumerate(gradients):
        average = 0.9 * average + 0.1 * gradient
        steps.append(rate(eta, eps) * average / (1 - 0.9 ** (t + 1)))
    errors = (adam_steps(gradients, eta, eps) - np.array(steps)).ravel() / np.abs(steps).max()
    d.confirm(say("Adam's steps on small gradients."), shown, errors, 1e-5, say("{} steps", len(gradients)))
