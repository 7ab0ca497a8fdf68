"""Rewards of the policy's own confidence, and of nothing at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sharpen.llm.rewards.registry import Scoring, measured, reward


@reward(needs_certainties=True, reads_entropies=False)
def self_certainty(prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring) -> list[float]:
    """Mean over tokens of KL(U || pi), U uniform over the vocabulary (Kang 2025; Zhao 2025, Intuitor)."""
    return [float(value) for value in measured("certainties", scoring.certainties)]


@reward()
def negative_entropy(prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring) -> list[float]:
    """Minus the mean token entropy (Prabhudesai 2025, RENT; Agarwal 2025)."""
    return [-float(value) for value in measured("entropies", scoring.entropies)]


@reward(reads_entropies=False)
def random(
    prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring, *, probability: float = 0.5, seed: int = 0
) -> list[float]:
    """1 with a fixed probability, a function of (seed, step, row) alone: a resumed run draws the same."""
    rows = range(len(responses)) if scoring.rows is None else scoring.rows
    return [float(np.random.default_rng([seed, scoring.step, row]).random() < probability) for row in rows]
