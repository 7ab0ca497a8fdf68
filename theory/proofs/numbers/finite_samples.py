"""Numerical confirmations of T13: the package's moments, exact Markov chains, and simulated updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.estimators import exact as estimators
from sharpen.theory.proofs.notation import runs
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import Derivation

TASK = Objective(alpha=0.0, beta_inv=1.0, mode="optimization")
CHAINS = 4_000
ERRORS = 5.0  # standard errors, which a normal variable exceeds once in two million draws
END = 1.0  # log-odds at which a chain stops
RACERS = 1_000  # runs to either end
CELLS = 800  # of the grid from -END to END
RACES = ((0.02, 0.0, 1.0, 1), (0.02, 0.03, 1.0, 1), (0.02, 0.02, -1.0, 1), (0.04, 0.03, 1.0, 4))  # eta, Delta, R, G


def compare_moments(d: Derivation, drift: int, square: Callable[..., float], shown: Any) -> None:
    """Compare the mean and mean square of RLOO on two outcomes with the package's sums over every group."""
    errors = []
    sizes = runs(sp.Symbol("G"), (2, 3, 5, 8))
    for size in sizes:
        m, gap = float(d.rng.uniform(0.05, 0.95)), float(d.rng.uniform(0.2, 2.0))
        given = estimators.setting(TASK, Problem([0.5, 0.5], [gap + 0.3, 0.3]), [m, 1 - m], size)
        exact = estimators.policy_gradient_estimate(given, "rloo")
        errors.append(exact.expectation[0] - drift * gap * m * (1 - m))
        errors.append(exact.covariance[0, 0] + exact.expectation[0] ** 2 - square(m, 1 - m, gap, size))
    d.confirm(
        say("The package's mean and variance of RLOO, summed over every group, are these."),
        shown,
        errors,
        1e-12,
        say("{}", sizes),
    )


def compare_climb(d: Derivation, climb: Callable[..., float], shown: Any) -> None:
    """Compare the time to climb with the linear equations of the chain and with simulated RLOO updates."""
    errors, excess = [], []
    for start, eta, gap, steps in ((-2.0, 0.5, 1.0, 8), (-1.0, 0.2, 2.0, 5)):
        exact = climb(start, eta, gap, steps)
        m = 1 / (1 + np.exp(-(start + eta * gap * np.arange(steps))))
        move = 1 - m**2 - (1 - m) ** 2
        stay = np.diag(1 - move) + np.diag(move[:-1], 1)
        errors.append(np.linalg.solve(np.eye(steps) - stay, np.ones(steps))[0] / exact - 1)
        times = _simulated_climb(d.rng, start, eta, gap, steps)
        excess.append(max(0.0, abs(times.mean() - exact) - ERRORS * times.std() / np.sqrt(CHAINS)))
    words = say("The linear equations of the finite chain give the same mean time.")
    d.confirm(words, shown, errors, 1e-12, say("two ladders"))
    words = say("Simulated pairs take as long: what differs by more than {} standard errors.", int(ERRORS))
    d.confirm(words, shown, excess, 1e-12, say("two ladders, {} runs each", CHAINS))


def _simulated_climb(rng: np.random.Generator, start: float, eta: float, gap: float, steps: int) -> np.ndarray:
    """Return how many RLOO updates of logits, G = 2, take log-odds up so many steps, shape [CHAINS]."""
    theta = np.tile([start, 0.0], (CHAINS, 1))
    top, times = start + (steps - 0.5) * eta * gap, np.zeros(CHAINS)
    reward = np.array([gap, 0.0])
    while np.any(running := theta[:, 0] - theta[:, 1] < top):
        pi = 1 / (1 + np.exp(theta[:, 1] - theta[:, 0]))
        drawn = (rng.random((CHAINS, 2)) >= pi[:, None]).astype(int)
        advantage = reward[drawn] - reward[drawn[:, ::-1]]
        scores = np.eye(2)[drawn] - np.stack([pi, 1 - pi], axis=1)[:, None]
        theta += eta * running[:, None] * (advantage[..., None] * scores).mean(axis=1)
        times += running
    return times


def compare_fixation(d: Derivation, selection: Callable[..., float], shown: Any) -> None:
    """Compare the diffusion's probability with the chain's, solved on a grid, and that with simulated updates."""
    gaps, orders, excess = [], [], []
    for eta, gap, reward, size in RACES:
        pair = []
        for part in (1, 2):  # halving eta and Delta keeps s
            x, chain = _harmonic(eta / part, gap / part, reward, size)
            s = selection(gap / part, eta / part, reward, size)
            diffusion = (x + END) / (2 * END) if s == 0 else np.expm1(-s * (x + END)) / np.expm1(-2 * s * END)
            pair.append(np.max(np.abs(chain - diffusion)))
            middle = chain[x.size // 2]
            if part == 1:
                reached = _simulated_fixation(d.rng, eta, gap, reward, size)
                excess.append(max(0.0, abs(reached - middle) - ERRORS * np.sqrt(middle * (1 - middle) / RACERS)))
        gaps.append(pair[1])
        orders.append(np.log2(pair[0] / pair[1]))
    names = [sp.Symbol(x) for x in ("eta", "Delta", "R", "G")]
    cases = say("{}, {}, {}, {}", *map(runs, names, zip(*RACES, strict=True)))
    words = say("The chain's own probability, from its equations on a grid, is near the diffusion's at small steps.")
    d.confirm(words, shown, gaps, 0.02, cases)
    words = say("The order in the step size of what is between them.")
    d.measured(
        words,
        sp.Symbol("order"),
        1,
        orders,
        0.25,
        say("fitted, steps and differences as they are and divided by {}", 2),
    )
    words = say("Simulated REINFORCE, of a task reward and of a log-likelihood, has the chain's: what differs by more "
                "than {} standard errors.", int(ERRORS))  # fmt: skip
    d.confirm(words, shown, excess, 0.005, say("from even odds, {} runs each; {}", RACERS, cases))


def _harmonic(eta: float, gap: float, reward: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log-odds x and h(x) = E h(x + change), linear between grid points, 0 from -END down and 1 from END up."""
    from scipy.stats import binom

    x = np.linspace(-END, END, CELLS + 1)
    m = 1 / (1 + np.exp(-x))
    matrix, right = np.eye(x.size), np.zeros(x.size)
    for count in range(size + 1):  # samples of the better outcome
        chance = binom.pmf(count, size, m)
        change = 2 * eta * ((reward + gap) * (1 - m) * count - reward * m * (size - count)) / size
        place = (x + change + END) / (2 * END) * CELLS
        inside = (place > 0) & (place < CELLS)
        right += np.where(place >= CELLS, chance, 0.0)
        low = np.clip(np.floor(place).astype(int), 0, CELLS - 1)
        share = place - low
        rows = np.flatnonzero(inside)
        np.subtract.at(matrix, (rows, low[rows]), (chance * (1 - share))[rows])
        np.subtract.at(matrix, (rows, low[rows] + 1), (chance * share)[rows])
    return x, np.linalg.solve(matrix, right)


def _simulated_fixation(rng: np.random.Generator, eta: float, gap: float, reward: float, size: int) -> float:
    """Return the share of REINFORCE runs from even odds, groups of ``size``, that reach END before -END."""
    theta = np.zeros((RACERS, 2))
    rewards = np.array([reward + gap, reward])
    while np.any(running := np.abs(theta[:, 0] - theta[:, 1]) < END):
        kept = np.flatnonzero(running)
        pi = 1 / (1 + np.exp(theta[kept, 1] - theta[kept, 0]))
        drawn = (rng.random((kept.size, size)) >= pi[:, None]).astype(int)
        scores = np.eye(2)[drawn] - np.stack([pi, 1 - pi], axis=1)[:, None]
        theta[kept] += eta * (rewards[drawn][..., None] * scores).mean(axis=1)
    return float(np.mean(theta[:, 0] > theta[:, 1]))
