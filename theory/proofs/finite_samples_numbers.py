"""Numerical confirmations of T13: the package's moments, exact Markov chains, and simulated updates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy as sp

from sharpen.objective import Objective
from sharpen.theory import estimators
from sharpen.theory.problem import Problem
from sharpen.theory.proofs.result import Derivation

TASK = Objective(alpha=0.0, beta_inv=1.0, mode="optimization")
CHAINS = 4_000
ERRORS = 5.0  # standard errors, which a normal variable exceeds once in two million draws
END = 1.0  # log-odds at which a chain stops
CELLS = 800  # of the grid from -END to END


def compare_moments(d: Derivation, drift: int, square: Callable[..., float]) -> None:
    """Compare the mean and mean square of RLOO on two outcomes with the package's sums over every group."""
    errors = []
    for size in (2, 3, 5, 8):
        m, gap = float(d.rng.uniform(0.05, 0.95)), float(d.rng.uniform(0.2, 2.0))
        given = estimators.setting(TASK, Problem([0.5, 0.5], [gap + 0.3, 0.3]), [m, 1 - m], size)
        exact = estimators.policy_gradient_estimate(given, "rloo")
        errors.append(exact.expectation[0] - drift * gap * m * (1 - m))
        errors.append(exact.covariance[0, 0] + exact.expectation[0] ** 2 - square(m, 1 - m, gap, size))
    d.confirm(
        "The package's mean and variance of RLOO, summed over every group, are these.",
        sp.Symbol("E[g^2]"),
        errors,
        1e-12,
        "G = 2, 3, 5, 8",
    )


def compare_climb(d: Derivation, climb: Callable[..., float]) -> None:
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
    shown = sp.Symbol("E[T]")
    d.confirm("The linear equations of the finite chain give the same mean time.", shown, errors, 1e-12, "two ladders")
    d.confirm(
        "Simulated groups of two take as long: what differs by more than 5 standard errors.",
        shown,
        excess,
        1e-12,
        f"two ladders, {CHAINS} runs each",
    )


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


def compare_fixation(d: Derivation, selection: Callable[..., float]) -> None:
    """Compare the diffusion's probability with the chain's, solved on a grid, and that with simulated updates."""
    gaps, excess = [], []
    for eta, gap in ((0.02, 0.0), (0.02, 0.02), (0.02, 0.04)):
        x, chain = _harmonic(eta, gap)
        s = selection(gap, eta, 1.0)
        diffusion = (x + END) / (2 * END) if s == 0 else np.expm1(-s * (x + END)) / np.expm1(-2 * s * END)
        gaps.append(np.max(np.abs(chain - diffusion)))
        reached = _simulated_fixation(d.rng, eta, gap)
        middle = chain[x.size // 2]
        excess.append(max(0.0, abs(reached - middle) - ERRORS * np.sqrt(middle * (1 - middle) / CHAINS)))
    shown = sp.Symbol("h")
    d.confirm(
        "The chain's own probability, from its equations on a grid, is the diffusion's up to terms of order eta.",
        shown,
        gaps,
        0.02,
        "eta = 0.02, R = 1, Delta = 0, 0.02, 0.04, L = 1",
    )
    d.confirm(
        "Simulated REINFORCE has the chain's: what differs by more than 5 standard errors.",
        shown,
        excess,
        0.005,
        f"from even odds, {CHAINS} runs each",
    )


def _harmonic(eta: float, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Return log-odds x and h(x) = m h(x + up) + (1 - m) h(x - down), linear between grid points, 0 below and 1 above."""
    x = np.linspace(-END, END, CELLS + 1)
    m = 1 / (1 + np.exp(-x))
    matrix, right = np.eye(x.size), np.zeros(x.size)
    for chance, change in ((m, 2 * eta * (1 + gap) * (1 - m)), (1 - m, -2 * eta * m)):
        place = (x + change + END) / (2 * END) * CELLS
        inside = (place > 0) & (place < CELLS)
        right += np.where(place >= CELLS, chance, 0.0)
        low = np.clip(np.floor(place).astype(int), 0, CELLS - 1)
        share = place - low
        rows = np.flatnonzero(inside)
        np.subtract.at(matrix, (rows, low[rows]), (chance * (1 - share))[rows])
        np.subtract.at(matrix, (rows, low[rows] + 1), (chance * share)[rows])
    return x, np.linalg.solve(matrix, right)


def _simulated_fixation(rng: np.random.Generator, eta: float, gap: float) -> float:
    """Return the share of REINFORCE runs, G = 1 from even odds, that reach END before -END."""
    theta = np.zeros((CHAINS, 2))
    reward = np.array([1.0 + gap, 1.0])
    while np.any(running := np.abs(theta[:, 0] - theta[:, 1]) < END):
        pi = 1 / (1 + np.exp(theta[:, 1] - theta[:, 0]))
        drawn = (rng.random(CHAINS) >= pi).astype(int)
        scores = np.eye(2)[drawn] - np.stack([pi, 1 - pi], axis=1)
        theta += eta * (running * reward[drawn])[:, None] * scores
    return float(np.mean(theta[:, 0] > theta[:, 1]))
