"""Findings that compare sampled runs with a rate or a place that the theory predicts."""

from __future__ import annotations

import numpy as np

from sharpen.objective import Objective
from sharpen.theory.core.problem import DEFAULT_PROBLEM
from sharpen.theory.estimators import exact as estimators
from sharpen.theory.optima.optimum import optimum
from sharpen.theory.sequences.iid import IidModel
from sharpen.toy.studies.findings_core import SMALL, Finding, Interval, Runs, Verdict, at, at_end, exactly, fixed_share
from sharpen.toy.studies.findings_core import over_seeds as mean_over_seeds
from sharpen.toy.sweeps.config import SweepConfig

SELF_ALPHA = 1.5
ROUND, ROUNDS = 1500, 3  # updates between two replacements of p, and how many


def _self_sharpening(seeds: int) -> dict[str, SweepConfig]:
    common = {"alpha": (SELF_ALPHA,), "reference": ("policy",), "seeds": seeds}
    exact = {"learner": ("natural-flow",), "seeds": 1, "step_size": (0.1,), "steps": 30, "record_every": 1}
    sampled = {"learner": ("rloo",), "step_size": (0.3,), "steps": 2000, "record_every": 20}
    rounds = {"learner": ("rloo",), "reference": (f"refresh:{ROUND}",), "step_size": (1.0,), "group_size": (64,)}
    return {
        "flow": SweepConfig.model_validate({**common, **exact}),
        "sampled": SweepConfig.model_validate({**common, **sampled}),
        "rounds": SweepConfig.model_validate(
            {**common, **rounds, "steps": ROUND * ROUNDS, "record_every": ROUND, "batch": 64}
        ),
    }


def _self_sharpening_verdict(tables: dict[str, Runs]) -> Verdict:
    """With p = pi the flow's log effective alpha grows at the rate alpha - 1; k rounds of refreshing p give alpha^k."""
    flow = tables["flow"]
    rate = float(np.polyfit(0.1 * flow["step"], np.log(flow["effective_alpha"]), 1)[0])
    collapsed = fixed_share(tables["sampled"])
    numbers = {
        "growth rate of log effective alpha, flow": exactly(rate),
        "predicted rate": exactly(SELF_ALPHA - 1.0),
        "runs collapsed, sampled": collapsed,
    }
    holds = abs(rate - (SELF_ALPHA - 1.0)) < 1e-6 and collapsed.low > 0.9
    for k in range(1, ROUNDS + 1):
        found = mean_over_seeds(at(tables["rounds"], "effective_alpha", ROUND * k))
        numbers[f"effective alpha after {k} rounds"] = found
        numbers[f"predicted after {k} rounds"] = exactly(SELF_ALPHA**k)
        holds &= abs(found.mean - SELF_ALPHA**k) < 0.02 * SELF_ALPHA**k
    return Verdict(bool(holds), numbers)


LENGTH_ALPHAS = (0.5, 1.0, 1.5)
CUTS = (2, 4, 6)  # tokens of the longest sequence
TOKENS, HAZARD = (0.6, 0.4), 0.25


def _length(seeds: int) -> dict[str, SweepConfig]:
    grid = {"policy": "tree", "tokens": TOKENS, "hazard": HAZARD, "alpha": LENGTH_ALPHAS, "group_size": (32,)}
    run = {"step_size": (0.5,), "steps": 2000, "record_every": 500, "seeds": seeds, "batch": 64}
    return {f"cut {cut}": SweepConfig.model_validate({**grid, **run, "longest": cut}) for cut in CUTS}


def predicted_length(alpha: float, cut: int) -> float:
    """Return the mean tokens, the stop included, of p^alpha on sequences of at most ``cut`` tokens.

    From rho(alpha) = (1 - h)^alpha sum_v q_v^alpha alone: the weight of the length k is h^alpha rho^k, and rho^cut for
    sequences that are cut, which never choose to stop (T8).

    Example:
        >>> round(predicted_length(1.5, 40), 3), round(1 + IidModel(TOKENS, HAZARD).mean_length(1.5), 3)
        (1.873, 1.873)
    """
    rho, lengths = IidModel(TOKENS, HAZARD).continuation_ratio(alpha), np.arange(cut + 1)
    weights = np.where(lengths < cut, HAZARD**alpha, 1.0) * rho**lengths
    return float(1.0 + weights @ lengths / weights.sum())


def _length_verdict(tables: dict[str, Runs]) -> Verdict:
    numbers, holds = {}, True
    for alpha in LENGTH_ALPHAS:
        rho = IidModel(TOKENS, HAZARD).continuation_ratio(alpha)
        numbers[f"rho at alpha {alpha:g}"] = exactly(rho)
        for cut in CUTS:
            found, predicted = at_end(tables[f"cut {cut}"], "length", alpha=alpha), predicted_length(alpha, cut)
            numbers[f"tokens at alpha {alpha:g}, cut at {cut}"] = found
            numbers[f"predicted at alpha {alpha:g}, cut at {cut}"] = exactly(predicted)
            holds &= abs(found.mean - predicted) < 0.02 * predicted
    grown = {alpha: _mean_growth(tables, alpha) for alpha in (LENGTH_ALPHAS[0], LENGTH_ALPHAS[-1])}
    holds &= grown[LENGTH_ALPHAS[0]] > 5 * grown[LENGTH_ALPHAS[-1]]
    return Verdict(bool(holds), numbers)


def _mean_growth(tables: dict[str, Runs], alpha: float) -> float:
    """Return tokens gained a token of the cut, between the two longest cuts."""
    before, after = (at_end(tables[f"cut {cut}"], "length", alpha=alpha).mean for cut in CUTS[-2:])
    return (after - before) / (CUTS[-1] - CUTS[-2])


TO_GIBBS, ELSEWHERE = ("k1-reward", "k2-loss"), ("k2-reward", "k3-reward", "k1-loss", "k3-loss")
TILT = 2.0  # beta_inv


def _placements(seeds: int) -> dict[str, SweepConfig]:
    grid = {"kl": TO_GIBBS + ELSEWHERE, "beta_inv": (TILT,), "step_size": (0.3,), "steps": 2000, "seeds": seeds}
    return {"tilted": SweepConfig.model_validate(grid)}


def force_at_gibbs(kl: str) -> float:
    """Return the length of the expected gradient at the Gibbs optimum with a KL placement, by enumeration (T14).

    It is 0 exactly where the optimum is a place of rest. An estimator's expectation does not depend on the group size,
    so groups of one sample are enumerated.

    Example:
        >>> force_at_gibbs("k1-reward") < 1e-12 < 0.01 < force_at_gibbs("k3-loss")
        True
    """
    objective, (term, place) = Objective(alpha=1.0, beta_inv=TILT), kl.split("-")
    best = optimum(objective, DEFAULT_PROBLEM).probabilities
    given = estimators.setting(objective, DEFAULT_PROBLEM, best, 1)
    pull = estimators.kl_estimate(given, term, place).expectation
    task = best * (DEFAULT_PROBLEM.reward - best @ DEFAULT_PROBLEM.reward)
    w = objective.coefficients
    return float(np.linalg.norm(w.w_r * task - w.w_h * pull))


def _placements_verdict(tables: dict[str, Runs]) -> Verdict:
    numbers: dict[str, Interval] = {}
    holds = True
    for kl in TO_GIBBS + ELSEWHERE:
        found, force = at_end(tables["tilted"], "kl_optimum", kl=kl), force_at_gibbs(kl)
        numbers[f"KL to the Gibbs optimum, {kl}"] = found
        numbers[f"predicted force at the optimum, {kl}"] = exactly(force)
        holds &= found.high < SMALL / 2 and force < 1e-9 if kl in TO_GIBBS else found.low > SMALL and force > 1e-3
    return Verdict(bool(holds), numbers)


FINDINGS = (
    Finding(
        "self-sharpening",
        "with p = pi the exponent grows like exp((alpha - 1) t), with p refreshed like alpha^k, and runs collapse",
        _self_sharpening,
        _self_sharpening_verdict,
    ),
    Finding(
        "length",
        "alpha > 1 shortens sequences to a limit, alpha < 1 lengthens them with the cut, both by what rho(alpha) says",
        _length,
        _length_verdict,
    ),
    Finding(
        "placements",
        "of k1, k2, k3 in reward or loss, only k1 in the reward and k2 in the loss lead to the Gibbs optimum",
        _placements,
        _placements_verdict,
    ),
)
