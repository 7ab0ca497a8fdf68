"""What random errors of the likelihood or of the reward do to the optimum, on average.

Independent Gaussian errors of standard deviation sd on every log p_i (or every r_i) turn the levels of
`sharpen.theory.optima.sensitivity` into v_i + g_i sd z_i. The likeliest outcome t stays so with probability

    int phi(z) prod_{j != t} Phi((v_t - v_j + |g_t| sd z) / (|g_j| sd)) dz,

one integral for any number of outcomes. The mean total variation has a closed one-dimensional form for two outcomes and
is simulated otherwise, with its standard error.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sharpen.objective import InputError, Objective
from sharpen.objective.settings import SEEDS
from sharpen.theory.core.frames import Rows
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.optima.sensitivity import (
    SOURCES,
    Response,
    Source,
    WorstCase,
    flip_radius,
    perturbed_policy,
    response,
    worst_case,
)

DRAWS = 10_000
MOST_NORMALS = 2 * 10**9
CHUNK = 2**21  # numbers in memory at a time
EDGE = 9.5  # the normal law has 2e-21 beyond


class NoiseEffect(NamedTuple):
    """The effect of random errors on the optimum; ``_se`` are standard errors of the simulation.

    Attributes:
        total_variation: Mean TV(pi, pi'), simulated.
        total_variation_se: Its standard error.
        exact_total_variation: The same by quadrature, for two outcomes; None for more.
        flip_probability: That another outcome becomes the likeliest, by quadrature.
        flip_frequency: The same, simulated.
        flip_frequency_se: Its standard error.
        expected_reward: Mean of E_pi'[r] with the true reward, simulated.
        expected_reward_se: Its standard error.
    """

    total_variation: float
    total_variation_se: float
    exact_total_variation: float | None
    flip_probability: float
    flip_frequency: float
    flip_frequency_se: float
    expected_reward: float
    expected_reward_se: float


@dataclass(frozen=True, eq=False)
class SourceEffect:
    """What errors of one source, the likelihood or the reward, do to the optimum.

    Attributes:
        source: ``likelihood`` or ``reward``.
        response: How the optimum depends on it.
        worst: The largest change that errors up to a size cause.
        flip_radius: Size of errors beyond which the likeliest outcome can become another one.
        noise: The effect of random errors.
    """

    source: Source
    response: Response
    worst: WorstCase
    flip_radius: float
    noise: NoiseEffect

    def row(self) -> dict[str, Any]:
        """Return the numbers as a row of a table; those of the noise by their own names."""
        worst = {"worst_total_variation": self.worst.total_variation, "exact": self.worst.exact}
        return {
            "source": self.source,
            **worst,
            "bound": self.worst.bound,
            "flip_radius": self.flip_radius,
            **self.noise._asdict(),
        }


def sensitivity(
    objective: Objective,
    problem: Problem,
    epsilon: float = 0.1,
    noise_sd: float = 0.1,
    draws: int = DRAWS,
    seed: int = 0,
) -> Rows[SourceEffect]:
    """Return how far errors of the likelihood, and of the reward, move the optimum: at worst, and on average.

    Args:
        objective: With a frozen reference.
        problem: n outcomes.
        epsilon: Largest error of each log p (nats) or reward, finite and >= 0.
        noise_sd: Standard deviation of random errors, finite and >= 0.
        draws: Simulated error vectors, at least 2.
        seed: Of the simulation.

    Raises:
        InputError: an argument is out of range, the reference moves, or the weights overflow.

    Example:
        >>> from sharpen.theory.core.problem import DEFAULT_PROBLEM
        >>> found = sensitivity(Objective(alpha=2.0), DEFAULT_PROBLEM, draws=100)
        >>> [(each.source, round(each.worst.total_variation, 4)) for each in found]
        [('likelihood', 0.0986), ('reward', 0.0)]
    """
    found = {source: response(objective, problem, source) for source in SOURCES}
    worst = {source: worst_case(found[source], epsilon) for source in SOURCES}
    noise = {source: noise_effect(found[source], problem.reward, noise_sd, draws, seed) for source in SOURCES}
    return Rows(SourceEffect(each, found[each], worst[each], flip_radius(found[each]), noise[each]) for each in SOURCES)


def noise_effect(found: Response, reward: FloatArray, sd: float, draws: int = DRAWS, seed: int = 0) -> NoiseEffect:
    """Return the effect of independent Gaussian errors.

    Args:
        found: From :func:`sharpen.theory.optima.sensitivity.response`.
        reward: True rewards, shape [n].
        sd: Standard deviation of each error, in nats or in units of the reward, finite and >= 0.
        draws: Simulated error vectors, at least 2.
        seed: Of NumPy's ``default_rng``.

    Raises:
        InputError: an argument is out of range, or draws times n exceeds 2 * 10^9.
    """
    n = found.level.size
    if not 0.0 <= sd < math.inf:
        raise InputError("noise-sd", sd, "a finite number >= 0")
    if not 2 <= draws <= MOST_NORMALS // n:
        raise InputError("draws", draws, f"a whole number from 2 to {MOST_NORMALS // n} for {n} outcomes")
    if not 0 <= seed < SEEDS:
        raise InputError("seed", seed, f"a whole number from 0 to {SEEDS - 1}")
    rng = np.random.default_rng(seed)
    top = int(np.argmax(found.policy))
    room = max(1, CHUNK // n)
    columns = []
    for begin in range(0, draws, room):
        policy = perturbed_policy(found, sd * rng.standard_normal((min(room, draws - begin), n)))
        moved = 0.5 * np.abs(policy - found.policy).sum(axis=1)
        columns.append(np.stack([moved, policy.argmax(axis=1) != top, policy @ reward]))
    sample = np.concatenate(columns, axis=1)
    mean, se = sample.mean(axis=1).tolist(), (sample.std(axis=1, ddof=1) / math.sqrt(draws)).tolist()
    return NoiseEffect(
        mean[0], se[0], exact_total_variation(found, sd), flip_probability(found, sd), mean[1], se[1], mean[2], se[2]
    )


def compare_noise(
    objective: Objective, problem: Problem, sd: float, draws: int = DRAWS, seed: int = 0
) -> dict[str, NoiseEffect]:
    """Return the effect of equally large errors of the likelihood and of the reward.

    Raises:
        InputError: as :func:`noise_effect` and :func:`sharpen.theory.optima.sensitivity.response`.
    """
    return {
        source: noise_effect(response(objective, problem, source), problem.reward, sd, draws, seed)
        for source in SOURCES
    }


def flip_probability(found: Response, sd: float) -> float:
    """Return the probability that the first of the likeliest outcomes is not the likeliest under noise.

    Example:
        >>> from sharpen.objective import preset
        >>> problem = Problem([0.6, 0.4], [0, 1])
        >>> round(flip_probability(response(preset("tempered"), problem, "likelihood"), 0.5), 6)  # Phi(-0.4055/0.7071)
        0.283182
    """
    from scipy.integrate import quad
    from scipy.special import log_ndtr

    inside = np.flatnonzero(found.level > -np.inf)
    top = int(np.argmax(found.policy))
    others = inside[inside != top]
    spread = sd * np.abs(found.gain)
    if not spread[inside].any() or not others.size:
        return 0.0
    gap, own, theirs = found.level[top] - found.level[others], spread[top], spread[others]

    def overtaken(z: float) -> float:
        lead = gap + own * z
        with np.errstate(divide="ignore", invalid="ignore"):
            place = np.where(theirs > 0, lead / theirs, np.where(lead >= 0, np.inf, -np.inf))
        return float(-np.expm1(log_ndtr(place).sum()) * np.exp(-0.5 * z * z))

    # Where another outcome of little gain is passed, the integrand is steep: the nearest such place splits the range.
    split = float(np.clip(-gap.min() / own, -EDGE, EDGE)) if own > 0 else 0.0
    parts = [
        quad(overtaken, a, b, epsabs=1e-13, epsrel=1e-10, limit=400)[0] for a, b in ((-EDGE, split), (split, EDGE))
    ]
    return float(min(1.0, sum(parts) / math.sqrt(2.0 * math.pi)))


def exact_total_variation(found: Response, sd: float) -> float | None:
    """Return E[TV(pi, pi')] for two outcomes, int phi(z) |sigma(L + s z) - sigma(L)| dz; None for other numbers.

    L is the difference of the levels and s = sd sqrt(g_1^2 + g_2^2). Without entropy the sigmoid is a step.
    """
    from scipy.integrate import quad
    from scipy.special import expit

    inside = np.flatnonzero(found.level > -np.inf)
    if inside.size != 2:
        return None
    lead = float(found.level[inside[0]] - found.level[inside[1]])
    s = sd * math.hypot(*found.gain[inside].tolist())
    if s == 0.0:
        return 0.0
    before = float(found.policy[inside[0]])

    def moved(z: float) -> float:
        after = float(lead + s * z > 0) if found.hard else float(expit(lead + s * z))
        return abs(after - before) * math.exp(-0.5 * z * z)

    cuts = sorted({-EDGE, 0.0, float(np.clip(-lead / s, -EDGE, EDGE)), EDGE})
    parts = [quad(moved, a, b, epsabs=1e-13, epsrel=1e-10, limit=400)[0] for a, b in itertools.pairwise(cuts)]
    return float(sum(parts) / math.sqrt(2.0 * math.pi))
