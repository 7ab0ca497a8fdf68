"""The theory beside SciPy and plain NumPy, by the calls that a good user would make, in turn in one process.

Each work at five sizes: the optimum with its numbers, the policy at a KL, a point of the frontier, a point of the
response curve, all stationary points. Every opponent's result is compared with ours before anything is timed. Writes
``benchmarks/results/theory.json``, from which the tables of docs/cost.md are made (``python docs/site/cost.py``).
``--only stationary`` measures the works with that in their names and leaves the others as they are.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

for library in ("OMP", "MKL", "OPENBLAS"):  # one core, said before NumPy reads it
    os.environ[f"{library}_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
from scipy.optimize import brentq, newton  # noqa: E402
from scipy.special import lambertw, log_softmax, softmax  # noqa: E402
from sidebyside import Work, asked, grown, renew, row, told  # noqa: E402

RESULT = Path(__file__).parent / "results" / "theory.json"
ALPHA, KL = 2.0, 0.2
GRID = np.linspace(0.0, 4.0, 9)
POINTS = 5  # of a frontier
BLOCK = 2**15
ANSWERS = (10**3, 10**4, 10**5, 10**6, 10**7)
SEARCHES = (10**2, 10**3, 10**4, 10**5, 3 * 10**5)
OUTCOMES = (5, 8, 11, 14, 17)


def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log p and rewards of 0 and 1."""
    rng = np.random.default_rng(0)
    return log_softmax(rng.normal(scale=2.0, size=n)), (rng.random(n) < 0.3).astype(float)


def blocked(log_p: np.ndarray, reward: np.ndarray) -> tuple[np.ndarray, float, float, float]:
    """Return log pi, E[r], H and KL of p^alpha by NumPy in blocks that fit the cache, an exponential an outcome."""
    top = ALPHA * log_p.max()
    mass = gain = level = cross = 0.0
    for at in range(0, log_p.size, BLOCK):
        part = log_p[at : at + BLOCK]
        x = ALPHA * part - top
        e = np.exp(x)
        mass += float(e.sum())
        gain += float(e @ reward[at : at + BLOCK])
        level += float(e @ x)
        cross += float(e @ part)
    entropy = math.log(mass) - level / mass
    log_pi = ALPHA * log_p
    log_pi -= top + math.log(mass)
    return log_pi, gain / mass, entropy, -entropy - cross / mass


def tilt(log_p: np.ndarray, f: np.ndarray, t: float) -> tuple[float, float]:
    """Return the KL of p e^{tf} / Z to p and its derivative, by plain NumPy with one exponential an outcome."""
    x = log_p + t * f
    top = x.max()
    e = np.exp(x - top)
    mass = e.sum()
    mean = e @ f / mass
    return t * mean - top - math.log(mass), t * (e @ (f - mean) ** 2) / mass


def by_brentq(log_p: np.ndarray, f: np.ndarray) -> float:
    high = 1.0
    while tilt(log_p, f, high)[0] < KL:
        high *= 2.0
    return float(brentq(lambda t: tilt(log_p, f, t)[0] - KL, 0.0, high))  # pyright: ignore[reportArgumentType]


def by_newton(log_p: np.ndarray, f: np.ndarray) -> float:
    at: dict[float, tuple[float, float]] = {}

    def seen(t: float) -> tuple[float, float]:
        if t not in at:
            at[t] = tilt(log_p, f, t)
        return at[t]

    p = np.exp(log_p)
    begin = math.sqrt(2.0 * KL / (p @ (f - p @ f) ** 2))
    return float(newton(lambda t: seen(t)[0] - KL, begin, lambda t: seen(t)[1], tol=1e-12))


def searches(log_p: np.ndarray, fs: list[np.ndarray]) -> dict[str, Work]:
    known: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "scipy.optimize.brentq(kl_of_t) with numpy.exp": by_brentq,
        "scipy.optimize.newton(kl_of_t, fprime) with numpy.exp": by_newton,
    }
    return {name: lambda find=find: [find(log_p, f) for f in fs] for name, find in known.items()}


def optima(n: int) -> dict[str, Any]:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.optima.optimum import optimum

    log_p, reward = drawn(n)
    problem, objective = Problem.from_log(log_p, reward), Objective(alpha=ALPHA)
    best = optimum(objective, problem)
    np.testing.assert_allclose(
        (best.expected_reward, best.entropy, best.kl_to_base), blocked(log_p, reward)[1:], rtol=1e-9
    )
    opponents: dict[str, Work] = {
        "scipy.special.softmax(alpha * log_p), no numbers": lambda: softmax(ALPHA * log_p),
        "scipy.special.log_softmax(alpha * log_p), no numbers": lambda: log_softmax(ALPHA * log_p),
        "numpy.exp in blocks, with E[r], H and KL": lambda: blocked(log_p, reward),
    }
    return row(n, lambda: optimum(objective, problem), opponents)


def equal_kl(n: int) -> dict[str, Any]:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.optima.frontier import at_kl

    log_p, reward = drawn(n)
    problem, objective = Problem.from_log(log_p, reward), Objective(alpha=ALPHA)
    found = at_kl(objective, problem, KL)
    assert found is not None
    for name, work in searches(log_p, [log_p]).items():
        np.testing.assert_allclose(work(), found.alpha - 1.0, rtol=1e-8, err_msg=name)
    return row(n, lambda: at_kl(objective, problem, KL), searches(log_p, [log_p]))


def frontiers(n: int) -> dict[str, Any]:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.optima.frontier import frontier

    log_p, reward = drawn(n)
    problem = Problem.from_log(log_p, reward)
    p = np.exp(log_p)
    deviation = [math.sqrt(p @ (x - p @ x) ** 2) for x in (reward, log_p)]
    angles = np.linspace(0.0, 0.5 * math.pi, POINTS).tolist()
    fs = [math.cos(a) / deviation[0] * reward + math.sin(a) / deviation[1] * log_p for a in angles]
    found = frontier(Objective(), problem, KL, POINTS)
    for name, work in searches(log_p, fs).items():
        beta = np.array(work()) * np.cos(angles) / deviation[0]
        np.testing.assert_allclose(beta, found.beta_inv, rtol=1e-8, atol=1e-9, err_msg=name)
    return row(n, lambda: frontier(Objective(), problem, KL, POINTS), searches(log_p, fs), parts=POINTS)


def responses(n: int) -> dict[str, Any]:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.optima.response import curve

    log_p, reward = drawn(n)
    problem = Problem.from_log(log_p, reward)

    def plain() -> np.ndarray:
        found = []
        for alpha in GRID.tolist():
            x = alpha * log_p
            e = np.exp(x - x.max())
            mass = e.sum()
            mean, gain = e @ log_p / mass, e @ reward / mass
            e *= reward
            found.append((gain, e @ log_p / mass - mean * gain))
        return np.array(found)

    found = curve(Objective(), problem, "alpha", GRID)
    np.testing.assert_allclose(plain(), np.array([found.expected_reward, found.derivative]).T, rtol=1e-6, atol=1e-9)
    opponents: dict[str, Work] = {"numpy.exp(alpha * log_p - top), moments by numpy.dot": plain}
    return row(n, lambda: curve(Objective(), problem, "alpha", GRID), opponents, parts=GRID.size)


def in_order(m: int, policies: np.ndarray, value: np.ndarray, gain: np.ndarray, size: np.ndarray) -> Any:
    """Return points and their classes as a list of them is sorted: by class, given the sizes of supports, and value."""
    kind = np.where(size == m, 0, np.where(size == 1, 3, 2))
    order = np.lexsort((-value, kind))
    return policies[order], value[order], gain[order], kind[order]


def stationary(m: int) -> dict[str, Any]:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.instability.stationary import fixed_points

    log_p, reward = drawn(m)
    problem, objective = Problem.from_log(log_p, reward), Objective(alpha=ALPHA)

    def plain() -> tuple[np.ndarray, ...]:
        masks = (np.arange(1, 2**m)[:, None] >> np.arange(m)) & 1
        weight = np.exp(ALPHA * log_p)
        mass = masks @ weight
        policies = masks * weight / mass[:, None]
        value, gain, size = np.log(mass), policies @ reward, masks.sum(axis=1)
        return in_order(m, policies, value, gain, size)

    def ours() -> Any:
        return fixed_points(objective, problem, 2**m)

    found = ours().frame()
    _, value, gain, _ = plain()
    np.testing.assert_allclose(found["value"], value, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.sort(found["expected_reward"]), np.sort(gain), rtol=1e-9, atol=1e-12)
    return row(2**m - 1, ours, {"numpy masks of all supports, policies and lexsort": plain})


def stationary_with_a_utility(m: int) -> dict[str, Any]:
    from sharpen.objective import Objective
    from sharpen.theory.core.problem import Problem
    from sharpen.theory.instability.stationary import fixed_points

    log_p, _ = drawn(m)
    right = np.arange(m) % 2 == 0
    w = 2.0  # of log P beside the KL: x - x_0 = w / P for the log-odds x of P
    problem = Problem.from_log(log_p, right.astype(float))
    objective = Objective(alpha=ALPHA, beta_inv=w, utility="log")

    def in_closed_form(start: np.ndarray) -> np.ndarray:
        return start + w + lambertw(w * np.exp(-start - w)).real

    def by_newton(start: np.ndarray) -> np.ndarray:
        x = start + w  # below the root of a function that rises and is concave: every step stays there
        for _ in range(50):
            e = np.exp(-x)
            step = (x - start - w * (1.0 + e)) / (1.0 + w * e)
            x = x - step
            if np.all(np.abs(step) <= 1e-13 * np.maximum(1.0, np.abs(x))):
                break
        return x

    def plain(solve: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, ...]:
        masks = ((np.arange(1, 2**m)[:, None] >> np.arange(m)) & 1).astype(float)
        weight = np.exp(ALPHA * log_p)
        good, bad = masks @ (weight * right), masks @ (weight * ~right)
        both = (good > 0.0) & (bad > 0.0)
        start = np.log(good[both] / bad[both])
        factor = np.ones(len(masks))
        factor[both] = np.exp(solve(start) - start)
        policies = masks * np.where(right, weight * factor[:, None], weight)
        policies /= policies.sum(axis=1, keepdims=True)
        gain, size = policies @ right, masks.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.nansum(policies * (np.log(policies) - ALPHA * log_p), axis=1)
            value = np.log(gain) - spread / w
        return in_order(m, policies, value, gain, size)

    def ours() -> Any:
        return fixed_points(objective, problem, 2**m)

    found = ours().frame()
    for solve in (in_closed_form, by_newton):
        _, value, gain, _ = plain(solve)
        np.testing.assert_allclose(found["value"], value, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.sort(found["expected_reward"]), np.sort(gain), rtol=1e-9, atol=1e-12)
    opponents: dict[str, Work] = {
        "scipy.special.lambertw, numpy masks of all supports and lexsort": partial(plain, in_closed_form),
        "numpy.exp in Newton's method on all supports, masks and lexsort": partial(plain, by_newton),
    }
    return row(2**m - 1, ours, opponents)


WORKS: dict[str, tuple[Callable[[int], dict[str, Any]], str, tuple[int, ...]]] = {
    "optimum with J, E[r], H, KL": (optima, "outcomes", ANSWERS),
    "policy at a KL": (equal_kl, "outcomes", SEARCHES),
    f"frontier, one of {POINTS} points": (frontiers, "outcomes", SEARCHES),
    f"response, one of {GRID.size} points": (responses, "outcomes", SEARCHES),
    "all stationary points": (stationary, "points", OUTCOMES),
    "all stationary points of log E[r]": (stationary_with_a_utility, "points", OUTCOMES),
}


def main() -> None:
    from importlib.metadata import version

    from sharpen.objective.storage.runfolder import provenance

    works: dict[str, Any] = {}
    for name, (measure, unit, sizes) in asked(WORKS, sys.argv).items():
        works[name] = grown(unit, [measure(size) for size in sizes])
        told(name, works[name])
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if "--only" in sys.argv:
        renew(RESULT, works, load_a_core=load, provenance=provenance())
        return
    versions = {name: version(name) for name in ("numpy", "scipy", "array-api-compat")}
    record = {"command": "python benchmarks/theory.py", "load_a_core": load, "works": works, "versions": versions}
    RESULT.write_text(json.dumps(record | {"provenance": provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
