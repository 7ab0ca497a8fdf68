"""The exact experiments: optima, lengths, basins, sensitivity, estimators, published small cases.

Each computation takes ``folder`` and ``seed`` (unused: nothing is random) and its own arguments, and returns JSON.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.estimators.claims import claims as estimator_claims
from sharpen.theory.estimators.exact import KL_TERMS, PLACEMENTS, kl_estimate, policy_gradient_estimate, setting
from sharpen.theory.instability.phase import portrait
from sharpen.theory.optima.optimum import optimum
from sharpen.theory.optima.response import curve
from sharpen.theory.optima.sensitivity import flip_radius, response, worst_case
from sharpen.theory.sequences import IidModel, LengthCurve, MarkovModel, likeliest, mean_mode, weighted_mode

# The embedded model's ways to answer, as its corpus mixes them (docs/embedded-model.md): forgetful and right direct
# answers, right and wrong chains, careful ones, abstaining. Lengths in tokens, end-of-sequence included.
WAYS = ("direct, wrong", "direct, right", "chain, right", "chain, wrong", "careful, right", "abstain")
WAYS_BASE = (0.45, 0.05, 0.252, 0.028, 0.14, 0.08)
WAYS_REWARD = (0, 1, 1, 0, 1, 0)
WAYS_LENGTH = (5, 5, 26, 26, 46, 2)
ALPHAS, BETA_INVS = (0.5, 1.0, 1.25, 2.0, 4.0), (0.0, 100.0, 10000.0)


def ways() -> Problem:
    """Return the six ways as a problem: one outcome each."""
    return Problem(np.array(WAYS_BASE), np.array(WAYS_REWARD, dtype=float), np.array(WAYS_LENGTH, dtype=float))


def grid_objectives() -> list[Objective]:
    """Return the paper's grid: task reward, sharpening, and sampling with every alpha and beta_inv."""
    ends = [Objective(mode="optimization", alpha=0.0, beta_inv=1.0), Objective(mode="optimization")]
    return ends + [Objective(alpha=alpha, beta_inv=beta_inv) for beta_inv in BETA_INVS for alpha in ALPHAS]


def regimes(folder: Path, seed: int) -> dict[str, Any]:
    """Return the exact optimum of every objective of the paper's grid on the embedded model's ways to answer."""
    problem = ways()
    log_p = problem.log_base
    rows = []
    for objective in grid_objectives():
        found = optimum(objective, problem)
        pi = found.probabilities
        rows.append(
            {
                "regime": objective.regime,
                "alpha": objective.alpha,
                "beta_inv": objective.beta_inv,
                "policy": pi.tolist(),
                "expected_reward": found.expected_reward,
                "length": float(pi @ problem.length),
                "log_p": float(pi @ log_p),
                "entropy": found.entropy,
                "kl_base": found.kl_to_base,
            }
        )
    grid = np.linspace(0.05, 6.0, 120)
    answer = curve(Objective(), problem, "alpha", grid)
    base = {
        "expected_reward": problem.expected_reward(problem.base),
        "length": float(problem.base @ problem.length),
        "log_p": float(problem.base @ log_p),
    }
    derivative = {"alpha": grid.tolist(), "expected_reward": answer.expected_reward.tolist()}
    return {"ways": list(WAYS), "base": {**base, "policy": list(WAYS_BASE)}, "rows": rows, "response": derivative}


def length(folder: Path, seed: int, *, tokens: list[float], hazard: float, top: float) -> dict[str, Any]:
    """Return the mean length of p^alpha of independent tokens: the knife edge at alpha = 1."""
    model = IidModel(tokens, hazard)
    found = LengthCurve(model)
    points = found.sample(top)
    named = {str(alpha): model.mean_length(alpha) for alpha in (0.95, 1.0, 1.25, 2.0, 4.0)}
    return {
        "critical_alpha": found.critical_alpha,
        "slope": model.slope,
        "alpha": [point.alpha for point in points],
        "mean": [point.mean for point in points],
        "temperature_mean": [point.temperature_mean for point in points],
        "at": named,
        "exists": {str(alpha): model.normalisable(alpha) for alpha in (0.95, 1.0, 1.25, 2.0, 4.0)},
    }


def modes(folder: Path, seed: int) -> dict[str, Any]:
    """Return what likelihood alone prefers in a small Markov model that stops, speaks, or repeats itself.

    States: the prompt, a hedge that repeats, and two content words. Stopping at once is likely, so the likeliest
    answer is empty; the best average a token belongs to the repeating hedge, which no finite answer attains.
    """
    transition = [[0.0, 0.25, 0.30, 0.15], [0.0, 0.92, 0.03, 0.03], [0.0, 0.1, 0.2, 0.4], [0.0, 0.05, 0.25, 0.2]]
    stop = [0.30, 0.02, 0.30, 0.50]
    model = MarkovModel(transition, stop, labels=["prompt", "hedge", "first", "second"])
    best = likeliest(model, 3)
    mean = mean_mode(model)
    weighted = weighted_mode(model, 0.5)
    return {
        "sum": {"length": best[0].length, "log_prob": best[0].log_prob},
        "mean": {"attained": mean.attained, "cycle": list(mean.cycle), "supremum": mean.supremum},
        "weighted_mean": {"length": weighted.sequence.length, "score": weighted.score, "optimal": weighted.optimal},
        "labels": ["prompt", "hedge", "first", "second"],
    }


def basins(folder: Path, seed: int) -> dict[str, Any]:
    """Return fixed points and basins of three outcomes: the four regimes, and self-sharpening."""
    problem = Problem([0.5, 0.3, 0.2], [0.0, 1.0, 0.0])
    cases = {
        "task reward": Objective(mode="optimization", alpha=0.0, beta_inv=1.0),
        "sharpening": Objective(mode="optimization"),
        "tempered, alpha 2": Objective(alpha=2.0),
        "tilted, alpha 1, beta_inv 10": Objective(beta_inv=10.0),
        "self-sharpening, alpha 2": Objective(alpha=2.0, reference="policy"),
    }
    rows = []
    for name, objective in cases.items():
        found = portrait(objective, problem)
        rows.append(
            {
                "name": name,
                "regime": objective.regime,
                "points": [
                    {"policy": point.probabilities.tolist(), "kind": point.kind, "reward": point.expected_reward}
                    for point in found.points
                ],
                "basins": [
                    {"support": list(basin.support), "share": basin.share, "polygon": basin.polygon.tolist()}
                    for basin in found.basins
                ],
            }
        )
    return {"base": [0.5, 0.3, 0.2], "reward": [0, 1, 0], "cases": rows}


def sensitivity(folder: Path, seed: int) -> dict[str, Any]:
    """Return the largest change of the optimum that errors of log p cause, and what errors of r cost task reward.

    The optimum of a task reward is not unique: an error of r, however small, chooses among right answers. So for errors
    of r the loss of expected reward is given, the worst over all corners of the box of errors.
    """
    problem = ways()
    sizes = np.geomspace(0.01, 1.0, 25)
    task, sharp = Objective(mode="optimization", alpha=0.0, beta_inv=1.0), Objective(mode="optimization")
    cases = {f"tempered, alpha {alpha:g}": Objective(alpha=alpha) for alpha in (1.0, 2.0, 4.0, 16.0)}
    rows = []
    for name, objective in {**cases, "sharpening": sharp, "task reward": task}.items():
        found = response(objective, problem, "likelihood")
        worst = [worst_case(found, float(size)) for size in sizes]
        changes = {"change": [one.total_variation for one in worst], "bound": [one.bound for one in worst]}
        rows.append({"name": name, "regime": objective.regime, **changes})
    return {
        "epsilon": sizes.tolist(),
        "rows": rows,
        "flip_radius": flip_radius(response(sharp, problem, "likelihood")),
        "task_loss": [_worst_loss(task, problem, float(size)) for size in sizes],
    }


def _worst_loss(objective: Objective, problem: Problem, size: float) -> float:
    """Return how much true expected reward the optimum loses when every reward is off by ``size``, at worst."""
    best = optimum(objective, problem).expected_reward
    losses = []
    for signs in itertools.product((-1.0, 1.0), repeat=problem.n):
        wrong = Problem(problem.base, problem.reward + size * np.array(signs), problem.length)
        losses.append(best - problem.expected_reward(optimum(objective, wrong).probabilities))
    return max(losses)


def estimators(folder: Path, seed: int, *, group: int) -> dict[str, Any]:
    """Return exact bias and variance of KL and policy-gradient estimators, and the published statements decided."""
    problem = Problem([0.4, 0.3, 0.2, 0.1], [0.0, 1.0, 0.0, 1.0], [2.0, 5.0, 9.0, 14.0])
    given = setting(Objective(alpha=2.0, beta_inv=2.0), problem, [0.55, 0.2, 0.2, 0.05], group)
    rows = [
        {"name": f"{term} in {place}", "family": "KL"} | _moments(kl_estimate(given, term, place))
        for term in KL_TERMS
        for place in PLACEMENTS
    ]
    for advantage, aggregation in (
        *(("reinforce", "sequence-sum"), ("mean-baseline", "sequence-sum"), ("rloo", "sequence-sum")),
        *(("grpo", "sequence-sum"), ("rloo", "token-mean")),
    ):
        estimate = policy_gradient_estimate(given, advantage, aggregation)
        rows.append({"name": f"{advantage}, {aggregation}", "family": "gradient"} | _moments(estimate))
    decided = [
        {"source": claim.source, "claim": claim.claim, "confirmed": claim.confirmed, "numbers": claim.numbers}
        for claim in estimator_claims(given)
    ]
    return {"group": group, "rows": rows, "claims": decided}


def _moments(estimate: Any) -> dict[str, Any]:
    norm = float(np.linalg.norm(estimate.target))
    return {
        "bias": estimate.bias_norm / norm,
        "deviation": float(np.sqrt(estimate.variance)) / norm,
        "cosine": estimate.cosine,
        "unbiased": bool(estimate.unbiased),
    }


def published(folder: Path, seed: int) -> dict[str, Any]:
    """Return published small cases computed again, beside the numbers as published."""
    outcomes = ("aa", "ab", "ba", "bb")
    weights = np.array([0.0, 0.40, 0.25, 0.25])
    power = weights**2
    first = {"a": power[:2].sum(), "b": power[2:].sum()}
    token = {"a": weights[:2].sum() ** 2, "b": weights[2:].sum() ** 2}
    ji = optimum(Objective(alpha=4.0), Problem([0.38, 0.02, 0.33, 0.27], np.zeros(4))).probabilities
    rows = [
        _row("Karan & Du 2025", "power: first token a : b", [first["a"], first["b"]], [0.160, 0.125], 5e-4),
        _row("Karan & Du 2025", "low temperature: first token a : b", [token["a"], token["b"]], [0.160, 0.250], 5e-4),
        _row("Ji 2026", "p^4 of (.38, .02, .33, .27)", ji.tolist(), [0.55, 0.0, 0.31, 0.14], 5e-3),
    ]
    return {"outcomes": list(outcomes), "rows": rows}


def _row(source: str, what: str, ours: list[float], theirs: list[float], tolerance: float) -> dict[str, Any]:
    ours = [float(x) for x in ours]
    agrees = bool(np.all(np.abs(np.array(ours) - np.array(theirs)) <= tolerance))
    return {"source": source, "what": what, "ours": ours, "published": theirs, "agrees": agrees}


COMPUTATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "regimes": regimes,
    "length": length,
    "modes": modes,
    "basins": basins,
    "sensitivity": sensitivity,
    "estimators": estimators,
    "published": published,
}
