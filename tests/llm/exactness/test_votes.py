"""The bounds of benchmarks/llm/votes.py against all sequences of votes, and its results against what they claim."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks" / "llm"))

import votes  # noqa: E402  # pyright: ignore[reportMissingImports]

RIGHT, OTHERS, UNSEEN = 0.35, np.array([0.3, 0.15]), 0.08  # the rest, .12, votes for nobody


def chance(spread: list[float], k: int, *, adversarial: bool) -> float:
    """P(right wins) over all sequences of k votes: for right, two others, unseen, nobody."""
    law, total = np.array([RIGHT, *OTHERS, UNSEEN, 0.12]), 0.0
    law[:3] += UNSEEN * np.array(spread)
    law[3] = UNSEEN * (1 - sum(spread))
    for drawn in itertools.product(range(5), repeat=k):
        count = np.bincount(drawn, minlength=5)
        most = max(count[1], count[2])
        if adversarial:
            wins = float(count[0] > most + count[3])
        else:
            ties = 1 + sum(count[1:3] == count[0])
            wins = float(count[0] >= most and count[0] > 0) / ties
        total += law[list(drawn)].prod() * wins
    return total


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_lower_bound_is_its_definition(k: int) -> None:
    assert votes.at_least(RIGHT, OTHERS, UNSEEN, k) == pytest.approx(chance([0, 0, 0], k, adversarial=True), abs=1e-12)


@pytest.mark.parametrize("spread", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.2, 0.5, 0.3], [0, 0, 0]])
def test_the_interval_holds_however_the_unseen_mass_votes(spread: list[float]) -> None:
    low, high = votes.interval(RIGHT, OTHERS, UNSEEN, 5)
    assert low <= chance(spread, 5, adversarial=False) <= high
    assert (spread[0] == 1) == (chance(spread, 5, adversarial=False) == pytest.approx(high, abs=1e-6))


def test_what_the_page_says_of_mass_and_votes_is_in_the_results() -> None:
    found = json.loads((ROOT / "benchmarks/results/votes.json").read_text(encoding="utf-8"))["tasks"]
    assert found.keys() == set(votes.TASKS)
    rows = [row for task in found.values() for row in task["counts"]]
    assert all(row["mass_up_vote_down"] <= row["mass_up"] for row in rows)
    letters = {(row["from"], row["to"], row["k"]): row for row in found["letters"]["counts"]}
    assert letters[2.0, 4.0, 64]["mass_up_vote_down"] > 0
