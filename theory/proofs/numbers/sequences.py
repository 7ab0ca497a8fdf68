"""Numerical confirmations of T9: the package against every walk of up to nine tokens, NumPy, and published numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import Derivation
from sharpen.theory.sequences import MarkovModel, Reward, Spectrum, critical_alpha, gap, length_pmf, power, temperature

LONGEST = 9  # tokens of the walks that are enumerated
RHO = sp.Symbol("rho", positive=True)


def compare_walks(d: Derivation, partition: Any, law: Any) -> None:
    """Compare partition sums, the Doob transform, its lengths and its distance to temperature with all walks."""
    partitions, lengths, chances, gaps = [], [], [], []
    for _ in range(10):
        a, stop = _random_chain(d.rng)
        alpha, model = float(d.rng.uniform(2.0, 3.0)), MarkovModel(a, stop)
        found = power(model, alpha)
        p, tokens, ends = _walks(a, stop)
        weights = p**alpha
        exact = weights / weights.sum()
        partitions.append(weights.sum() - np.exp(found.log_partition[0]))
        lengths += list(np.bincount(tokens, exact) - length_pmf(found.policy, LONGEST))
        sharp, _, _ = _walks(found.policy.transition.toarray(), found.policy.stop)
        chances.append(np.max(np.abs(sharp - exact)))
        rows = np.sum(a**alpha, axis=1) + stop**alpha
        cool, _, _ = _walks(a**alpha / rows[:, None], stop**alpha / rows)
        both = (ends == 0) @ np.stack([exact, cool], axis=1)
        report = gap(model, alpha, Reward.ending_in([0], stop.size))
        gaps += [report.kl_power_temperature - exact @ np.log(exact / cool)]
        gaps += [(report.reward_gap or 0.0) - (both[0] - both[1])]
    scope = say("{} random chains of {} or {} states, up to {} tokens", 10, 2, 3, LONGEST)
    d.confirm(say("Sums of powers over all walks are the package's."), partition, partitions, 1e-7, scope)
    d.confirm(say("Walk by walk the package's policy has this probability."), law, chances, 1e-7, scope)
    d.confirm(say("By length they are its policy's law."), sp.Symbol("P(L)"), lengths, 1e-7, scope)
    text = say("Its divergence from temperature and their difference in reward (one for walks that end in the first "
               "state) are these walks'.")  # fmt: skip
    d.confirm(text, sp.Symbol("KL"), gaps, 1e-5, scope)


def _random_chain(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return transitions and stops of a chain that stops early, so that few tokens suffice."""
    n = int(rng.integers(2, 4))
    rows = 0.4 * rng.dirichlet(np.ones(n + 1), size=n)
    return rows[:, :-1], rows[:, -1] + 0.6


def _walks(a: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the probability, the tokens and the last state of every walk of up to LONGEST tokens from state 0."""
    ends, chance, found = np.zeros(1, dtype=int), np.ones(1), []
    for tokens in range(LONGEST + 1):
        found.append((chance * stop[ends], np.full(ends.size, tokens), ends))
        chance = (chance[:, None] * a[ends]).ravel()
        ends = np.tile(np.arange(stop.size), ends.size)
    p, lengths, last = (np.concatenate(column) for column in zip(*found, strict=True))
    return p, lengths, last


def compare_spectra(d: Derivation) -> None:
    """Compare the critical alpha with NumPy's eigenvalues."""
    from scipy.optimize import root_scalar

    roots = []
    for _ in range(10):
        a, stop = _random_chain(d.rng)

        def radius(alpha: float, a: np.ndarray = a) -> float:
            return float(np.max(np.abs(np.linalg.eigvals(a**alpha)))) - 1.0

        found = critical_alpha(Spectrum(MarkovModel(a, stop))) or 0.0
        roots.append(root_scalar(radius, bracket=(0.0, 1.0), xtol=1e-14).root - found)
    drawn = say("{} random chains of {} or {} states", 10, 2, 3)
    d.confirm(say("NumPy's eigenvalues reach one at the package's critical exponent."), RHO, roots, 1e-10, drawn)


def compare_examples(
    d: Derivation, chain: tuple[sp.Matrix, sp.Matrix], laws: tuple[list[sp.Expr], list[sp.Expr]], shown: Any
) -> None:
    """Compare the package with the two-step example and with a published table.

    Args:
        d: Takes the steps.
        chain: Transitions and stops of the example.
        laws: Claimed probabilities of its sequences under p^2 and under temperature, those that begin with a first.
        shown: The equation of their divergence.
    """
    b, e = chain
    model = MarkovModel(np.array(b, dtype=float), np.array(e, dtype=float).ravel())
    sharp, cool = laws
    found = gap(model, 2.0, Reward(step=np.eye(5)[1]))
    first = [policy.transition.toarray()[0, 1] for policy in (power(model, 2.0).policy, temperature(model, 2.0))]
    errors = [found.kl_power_temperature - float(sum(x * sp.log(x / y) for x, y in zip(sharp, cool, strict=True)))]
    errors += [(found.reward_gap or 0.0) - float(sharp[0] - cool[0]), first[0] - float(sharp[0])]
    errors.append(first[1] - float(cool[0]))
    text = say("The package's policies on the two-step example, their divergence and gap in reward.")
    d.confirm(text, shown, errors, 1e-12, say("example"))
    law = np.array([0.38, 0.02, 0.33, 0.27])
    once = MarkovModel(np.vstack([np.append(0.0, law), np.zeros((4, 5))]), np.append(0.0, np.ones(4)))
    printed = power(once, 4.0).policy.transition.toarray()[0, 1:].round(2) - [0.55, 0.0, 0.31, 0.14]
    text = say("The package's fourth power of four outcomes is what Ji et al. 2026 print, to two decimals.")
    d.confirm(text, sp.Symbol("p"), printed, 1e-12, say("published values"))
