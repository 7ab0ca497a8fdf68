"""The table of docs/learners.md: what each learner ascends, found by enumeration of its groups, and how.

    python docs/site/learners.py

A test compares the page with what this writes.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pages import table, write

from sharpen.llm.configs.train import LearnerSettings, resolve
from sharpen.llm.learners import LEARNERS, Learner, PolicyGradient
from sharpen.llm.learners.parts.learner import KL_PLACES, Matching
from sharpen.objective import Objective
from sharpen.objective.counts import utility_weights

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "docs" / "learners.md",)
G = 8
SHOWN = (0.1, 0.5, 0.9)
CURVE = np.linspace(0.02, 0.98, 49)  # success rates at which two slopes are compared
TASK = Objective(beta_inv=1.0, mode="optimization", alpha=0.0, utility="pass@2")

Slope = Callable[[float], float]


def groups_of_two() -> NDArray[np.float64]:
    """Return the rewards of every group of G samples, right or wrong each, shape [2^G, G]."""
    return np.array(list(itertools.product((1.0, 0.0), repeat=G)))


def slope_of(name: str) -> Slope:
    """Return f'(P): the mean of a group's update over grad P, by enumeration of all groups.

    A right sample's grad log pi has the mean grad P / P, a wrong one's -grad P / (1 - P), whatever the policy; so the
    mean of (1/G) sum_i A_i grad log pi(x_i) is grad P times the mean of (1/G) (sum of A over right ones / P - sum of A
    over wrong ones / (1 - P)).
    """
    settings = LearnerSettings(kind=name)
    learner: Any = settings.learner
    r = groups_of_two()
    rewards_PG = torch.tensor(r)
    if learner.needs_reward:
        A = learner.reward_advantages(settings, TASK, rewards_PG).numpy()
    else:
        A = learner.advantages(settings, rewards_PG, 1.0).numpy()
    right, wrong, number = (A * r).sum(axis=1), (A * (1 - r)).sum(axis=1), r.sum(axis=1)

    def slope(p: float) -> float:
        chance = p**number * (1 - p) ** (G - number)
        return float(chance @ (right / p - wrong / (1 - p))) / G

    return slope


def known_slopes() -> dict[str, Slope]:
    """Return the slopes of the utilities that have a name, as groups of G samples see them."""

    def of_weights(utility: str) -> Slope:
        weights = utility_weights(utility, G)
        counts = np.arange(G)
        ways = np.array([math.comb(G - 1, int(k)) for k in counts])
        return lambda p: float((ways * p**counts * (1 - p) ** (G - 1 - counts)) @ weights)

    return {
        "P": lambda p: 1.0,
        "2 arcsin √P": of_weights("arcsin"),
        "log P to order G": of_weights("log"),
        "log P to order G − 1": lambda p: sum((1 - p) ** j for j in range(G - 1)),
        **{f"pass@{k}": (lambda p, k=k: k * (1 - p) ** (k - 1)) for k in (2, 4)},
    }


def named(slope: Slope) -> str | None:
    """Return the utility that a slope is of, with the factor before it; None where it is none of those known."""
    found = np.array([slope(float(p)) for p in CURVE])
    for name, other in known_slopes().items():
        expected = np.array([other(float(p)) for p in CURVE])
        factor = float(found @ expected / (expected @ expected))
        if np.abs(found - factor * expected).max() < 1e-4 * np.abs(found).max():
            return name if abs(factor - 1) < 1e-4 else f"{factor:.3g} × {name}"
    return None


def ascends(name: str, learner: Learner) -> tuple[str, str]:
    """Return what a learner ascends, and its slope at three success rates."""
    if isinstance(learner, Matching):
        return "none: approaches π*", ""
    slope = slope_of(name)
    text = named(slope) or "no utility with a name"
    if type(learner).without_kl is not PolicyGradient.without_kl:  # type: ignore[attr-defined]
        text += " + c H(π)" if learner.takes_utilities else ", of rewards that likelihood weighs"
    return text, ", ".join(f"{round(slope(p), 6):.2f}" for p in SHOWN)


def advantage(learner: Any) -> str:
    """Return the formula of a learner's advantages, from what its docstring says that it returns."""
    part = learner.reward_advantages if learner.needs_reward else learner.advantages
    first = (inspect.getdoc(part) or "").partition("\n")[0]
    return first.removeprefix("Return ").removesuffix(".").removesuffix(", shape [P, G]").replace("|", "/")


def clip(name: str, learner: Learner) -> str:
    """Return how a learner bounds the ratio of the policy to the one before the batch."""
    low, high = LearnerSettings(kind=name).clip_low, learner.upper_clip
    if "clip_low" in learner.takes:
        return f"1 − {low:g}, 1 + {high:g}" + (" of a response" if name == "gspo" else "")
    return f"weight ≤ {1 + high:g}" if "clip_high" in learner.takes else ""


def needs(learner: Learner) -> str:
    """Return what an objective must have for a learner to follow it."""
    found = ["task reward"] if learner.needs_reward else ["entropy"] if learner.needs_entropy else []
    return ", ".join(found + ([f"utility {learner.own_utility}"] if learner.own_utility == "pass@K" else []))


def learners() -> str:
    """Return one row a learner."""
    body = []
    for name in LEARNERS.names():
        settings = LearnerSettings(kind=name)
        learner: Any = settings.learner
        f, slope = ascends(name, learner)
        fields = {"learner": {"kind": name}, "objective": {"beta_inv": 1.0, "utility": "identity"}}
        if learner.own_utility == "pass@K":
            fields["objective"]["utility"] = "pass@2"
        aggregation = resolve(fields).aggregation
        kl = settings.kl + ("" if len(learner.kl_places) == len(KL_PLACES) else " only")
        f += "; any by `--utility`" if learner.takes_utilities else ""
        body.append([f"`{name}`", f, slope, advantage(learner), aggregation, kl, clip(name, learner), needs(learner)])
    at = ", ".join(f"{p:g}" for p in SHOWN)
    head = ["learner", "ascends f =", f"f′ at P = {at}", "advantage", "sum over tokens", "KL", "clip", "needs"]
    return table(head, [[cell or "–" for cell in row] for row in body])


TABLES: Mapping[str, Callable[[], str]] = {"learners": learners}


if __name__ == "__main__":
    write(PAGES, TABLES)
