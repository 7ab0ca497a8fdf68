"""When sampled RLOO stays at its optimum: the mean square of small deviations, and what Adam does to them.

Set-up. T independent tokens, each with its own n softmax logits; the pseudo-reward of mode sampling with the KL in the
reward and no task reward, R = alpha log p - log pi (alpha = 1: the null). Its optimum is pi* = p^alpha / Z. With logits
theta* + u and one-hot features phi, R = const - phi' u, so all advantages are zero at u = 0, for every alpha. RLOO's
estimate from a group of G samples is -M u, where M is the unbiased sample covariance of phi in that group, and one step
of plain gradient ascent is, exactly,

    u' = (I - eta M) u,   groups drawn from the present pi.

The linearisation draws them from pi*. Then C = E[u u'] goes to C - eta (Sigma C + C Sigma) + eta^2 E[M C M], and by the
second moments of a sample covariance (kappa: fourth joint cumulant of phi; Fisher's k-statistics)

    E[M C M] = kappa(C) / G + Sigma C Sigma + (Sigma C Sigma + tr(Sigma C) Sigma) / (G - 1).

Independent tokens have block-diagonal Sigma and kappa, so C = blocks A, the same for each of T equal tokens, is kept:
tr(Sigma C) = T tr(S A) is the only place where T appears. The identity is of this form, and a map that keeps the cone
of covariances grows from the identity at its spectral radius; so the radius over such C is the radius over all.

Source: derived here (the second moments of k-statistics: Kendall and Stuart, The Advanced Theory of Statistics, vol. 1,
ch. 13). ``tests/theory/instability/test_theory_meansquare.py`` compares with sums over every group and with runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import null_space
from scipy.special import expit, log_softmax, softmax

from sharpen.objective import InputError
from sharpen.theory.core.problem import FloatArray

MAX_OUTCOMES = 64  # the map has n^2 (n - 1)^2 / 4 entries: 32 MB, and seconds
MAX_WITH_MOMENTUM = 16  # the map with momentum has 9 (n - 1)^4 entries and is not symmetric
LEAST = 1e-9  # a smaller probability's eigenvalue of Sigma would be mostly rounding


@dataclass(frozen=True, eq=False)
class _Moments:
    """Eigenvalues of L (C -> S C + C S) and matrix of Q (C -> E[M C M]), in the coordinates of `second_moment_map`."""

    drift: FloatArray
    noise: FloatArray


def second_moment_map(base: ArrayLike, group: int, step: float, tokens: int = 1, alpha: float = 1.0) -> FloatArray:
    """Return the matrix that takes the second moments of a token's deviation to those after one RLOO step.

    C -> C - eta (S C + C S) + eta^2 E[M C M] (see the module) on symmetric C, in the coordinates C_ii and sqrt(2) C_ij,
    i < j, in the order of ``np.triu_indices``, for the orthonormal basis of eigenvectors of S = diag(q) - q q' other
    than the constant one. The trace of C is the mean square |u|^2 of one token's logits without their mean.

    Args:
        base: p, shape [n], 2 <= n <= 64, positive; need not sum to 1.
        group: G, samples in a group, at least 2.
        step: eta, the learning rate of plain gradient ascent on logits, in nats of logit for one of gradient.
        tokens: T, independent tokens of this law in a sample, whose pseudo-rewards are added up.
        alpha: The power of p that the pseudo-reward aims at; 1 is the null.

    Returns:
        A symmetric matrix, shape [m, m] with m = n (n - 1) / 2.

    Raises:
        InputError: if an argument is outside these ranges, or an outcome of p^alpha / Z has less than 1e-9.

    Example:
        One of the two groups in two is mixed, and a step of 1 on it ends at the optimum.

        >>> second_moment_map([1, 1], group=2, step=1.0)
        array([[0.5]])
    """
    moments = _moments(_law(base, alpha), _group(group), _tokens(tokens))
    step = _positive("step", step)
    return np.diag(1.0 - step * moments.drift) + step**2 * moments.noise


def spectral_radius(base: ArrayLike, group: int, step: float, tokens: int = 1, alpha: float = 1.0) -> float:
    """Return the factor by which the mean square of a small deviation from p^alpha ends up changing at each step.

    Below 1 the optimum is stable in mean square, above 1 it is not: E |u|^2 grows until the linearisation ends.
    Arguments, units and errors as in :func:`second_moment_map`, whose largest eigenvalue this is.

    Example:
        >>> [round(spectral_radius([1, 1], group=2, step=step), 12) for step in (0.5, 3.0)]
        [0.625, 2.5]
    """
    return float(np.max(np.abs(np.linalg.eigvalsh(second_moment_map(base, group, step, tokens, alpha)))))


def largest_stable_step(base: ArrayLike, group: int, tokens: int = 1, alpha: float = 1.0) -> float:
    """Return the learning rate below which p^alpha is stable in mean square under sampled RLOO, and above which not.

    eta* = 1 / largest eigenvalue of L^-1/2 Q L^-1/2, with L C = S C + C S and Q C = E[M C M]. The map I - eta L + eta^2
    Q keeps the cone of covariances, so its spectral radius is an eigenvalue; all its eigenvalues are below 1 exactly
    if L - eta Q is positive definite. Known cases:

    - G = 2: 2 / (1 + (T - 1) h) with h = 1 - sum q^2, so 2 for one token, whatever n and p.
    - Two outcomes, T = 1: G (G - 1) / ((G - 2) (G - 3) q1 q2 + G - 1).
    - T -> infinity: 2 (G - 1) / (T h), so what counts is T eta / (G - 1).
    - G -> infinity: 2 / largest eigenvalue of S, the limit of the exact gradient.

    Arguments and errors as in :func:`second_moment_map`; the same unit as its ``step``.

    Example:
        >>> round(largest_stable_step([0.6, 0.3, 0.1], group=2), 12)
        2.0
        >>> round(largest_stable_step([0.6, 0.3, 0.1], group=8, tokens=4), 3)
        3.041
    """
    moments = _moments(_law(base, alpha), _group(group), _tokens(tokens))
    scale = np.sqrt(moments.drift)
    return float(1.0 / np.linalg.eigvalsh(moments.noise / np.outer(scale, scale))[-1])


def momentum_radius(
    base: ArrayLike, group: int, step: float, momentum: float = 0.9, tokens: int = 1, alpha: float = 1.0
) -> float:
    """Return :func:`spectral_radius` for averaged gradients: m' = b m - (1 - b) M u, u' = u + eta m'.

    What Adam does, after its first updates, with gradients far below its eps, for eta = rate / eps and b = beta1. The
    map is that of E[u u'], E[u m'] and E[m m'] together; it needs E[M] = Sigma and E[M C M] only, and keeps equal
    blocks for equal tokens as in the module's equations. Radius 1 is the border here too, but that it is crossed once
    as eta grows is not shown.

    Args:
        base: As in :func:`second_moment_map`, at most 16 outcomes.
        group: G, at least 2.
        step: eta.
        momentum: b, in [0, 1).
        tokens: T.
        alpha: The power of p that the pseudo-reward aims at.

    Returns:
        The factor by which E |u|^2 ends up changing at each step.

    Raises:
        InputError: if an argument is outside its range.

    Example:
        >>> [round(momentum_radius([0.5, 0.3, 0.15, 0.05], group=4, step=step), 3) for step in (5, 10)]
        [0.972, 1.041]
    """
    law, b, step = _law(base, alpha), _decay("momentum", momentum), _positive("step", step)
    if law.size > MAX_WITH_MOMENTUM:
        raise InputError("base", base, f"at most {MAX_WITH_MOMENTUM} outcomes with momentum")
    noise, values = _second(_moments(law, _group(group), _tokens(tokens)))
    d = values.size

    def after(flat: FloatArray) -> FloatArray:
        """Return the moments [uu, um, mm], each [d, d], after a step, from those before; `uu` made symmetric."""
        uu, um, mm = flat.reshape(3, d, d)
        uu, mm = (uu + uu.T) / 2, (mm + mm.T) / 2
        mu = um.T * values  # E[m u'] S
        new_mm = b**2 * mm - b * (1 - b) * (mu + mu.T) + (1 - b) ** 2 * noise(uu)
        cross = b * um - (1 - b) * uu * values  # E[u m''], m'' the new average
        new_uu = uu + step * (cross + cross.T) + step**2 * new_mm
        return np.concatenate([new_uu, cross + step * new_mm, new_mm]).ravel()

    matrix = np.column_stack([after(unit) for unit in np.eye(3 * d * d)])
    return float(np.max(np.abs(np.linalg.eigvals(matrix))))


def safe_step(group: int, tokens: int = 1) -> float:
    """Return the learning rate up to which no group at all moves the policy away from p^alpha: 4 (G - 1) / (G T).

    The largest eigenvalue of diag(f) - f f', f the frequencies of a token in the group, is at most 1/2; that of T
    tokens together at most T times as much; the unbiased covariance has the factor G / (G - 1). So M <= T G / (2 (G -
    1)) and |1 - eta mu| <= 1 for each of its eigenvalues mu. Not only near the optimum: u' = (I - eta M) u is exact,
    whichever policy the group is drawn from.

    Args:
        group: G, at least 2.
        tokens: T, at least 1.

    Returns:
        A lower bound of :func:`largest_stable_step` for every law, in the same unit.

    Raises:
        InputError: if an argument is below its least value.

    Example:
        >>> safe_step(2), safe_step(8), safe_step(8, tokens=5)
        (2.0, 3.5, 0.7)
    """
    return 4.0 * (_group(group) - 1) / (group * _tokens(tokens))


def sign_step_mean_square(
    distance: ArrayLike, first: float, group: int, rate: float, alpha: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Return E d'^2 after a step of Adam without memory (eps = 0, betas 0) on two outcomes, and a floor of it.

    Such a step is eta sign(gradient). A mixed group, of probability q = 1 - pi^G - (1 - pi)^G, moves the log-odds by 2
    eta towards the optimum, however near that is; any other leaves them:

        E d'^2 = (1 - q) d^2 + q (|d| - 2 eta)^2 = (|d| - 2 q eta)^2 + 4 q (1 - q) eta^2 >= 4 q (1 - q) eta^2.

    Args:
        distance: d, log-odds of the present policy minus those of p^alpha, any shape, nats, none of them 0: there the
            gradient is zero in exact arithmetic, and rounding decides.
        first: Probability of the first outcome under p, inside (0, 1).
        group: G, at least 2.
        rate: eta, nats of logit a step.
        alpha: The power of p that the pseudo-reward aims at.

    Returns:
        E d'^2 and 4 q (1 - q) eta^2 at the present policy's q, each of the shape of ``distance``, in nats squared.

    Raises:
        InputError: if an argument is outside these ranges.

    Example:
        >>> mean_square, floor = sign_step_mean_square(1e-8, first=0.5, group=2, rate=0.1)
        >>> print(f"{mean_square:.4f} {floor:.4f}")
        0.0200 0.0100
    """
    d = np.asarray(distance, float)
    if not np.all(np.isfinite(d) & (d != 0)):
        raise InputError("distance", distance, "finite numbers other than 0")
    law = _law([first, 1.0 - first], alpha)
    pi = expit(np.log(law[0]) - np.log(law[1]) + d)
    mixed = 1.0 - pi ** _group(group) - (1.0 - pi) ** group
    rate = _positive("rate", rate)
    return (1.0 - mixed) * d**2 + mixed * (np.abs(d) - 2.0 * rate) ** 2, 4.0 * mixed * (1.0 - mixed) * rate**2


def adam_steps(
    gradients: ArrayLike, rate: float, eps: float = 1e-8, beta1: float = 0.9, beta2: float = 0.999
) -> FloatArray:
    """Return Adam's steps for given gradients: rate m_t / (sqrt(v_t) + eps), m and v the bias-corrected averages.

    With eps = 0 the steps are the same for c times the gradients, c > 0: near an optimum where gradient and noise
    vanish together, steps do not. With sqrt(v) much below eps they are those of gradient ascent with the averaged
    gradient m and the rate ``rate / eps``, to a relative error of at most sqrt(v) / eps. (Kingma and Ba, 2015, Alg. 1.)

    Args:
        gradients: Shape [updates, ...].
        rate: The learning rate, in units of the parameters.
        eps: What is added to sqrt(v), in the gradient's unit, at least 0; where both are 0 the step is 0.
        beta1: Decay of the average of gradients, in [0, 1).
        beta2: Decay of the average of their squares, in [0, 1).

    Returns:
        The steps, in the direction of ascent, of the shape of ``gradients``.

    Raises:
        InputError: if a setting is outside its range.

    Example:
        >>> adam_steps([[1e-12], [3e-12]], rate=0.1, eps=0.0, beta1=0.0, beta2=0.0)
        array([[0.1],
               [0.1]])
    """
    state = _Adam(rate, eps, beta1, beta2)
    return np.array([state.step(g) for g in np.asarray(gradients, float)])


def adam_runs(
    base: ArrayLike,
    group: int,
    rate: float,
    eps: float,
    *,
    updates: int = 200,
    runs: int = 20,
    start: float = 1e-8,
    alpha: float = 1.0,
    seed: int = 0,
) -> FloatArray:
    """Return KL(pi || p^alpha / Z) after sampled RLOO updates by Adam that start almost at p^alpha; one token.

    Args:
        base: p, shape [n], as in :func:`second_moment_map`.
        group: G, at least 2.
        rate: Adam's learning rate.
        eps: Adam's eps; its betas are 0.9 and 0.999.
        updates: Updates of a run.
        runs: Independent runs.
        start: Standard deviation of the logits about those of p^alpha before the first update, nats.
        alpha: The power of p that the pseudo-reward aims at.
        seed: Of NumPy's generator.

    Returns:
        The divergence at the end of each run, shape [runs], nats; about 1e-16 is rounding.

    Raises:
        InputError: if an argument is outside its range.

    Example:
        >>> at_null = adam_runs([0.5, 0.3, 0.15, 0.05], group=4, rate=0.05, eps=0.05, updates=50)
        >>> bool(at_null.max() < 1e-12)
        True
    """
    law, rng = _law(base, alpha), np.random.default_rng(seed)
    optimum, adam, group = np.log(law), _Adam(rate, eps), _group(group)
    theta = optimum + start * rng.standard_normal((runs, law.size))
    for _ in range(updates):
        logprob = log_softmax(theta, axis=1)
        edges = np.cumsum(np.exp(logprob), axis=1)[:, None, :-1]
        drawn = np.sum(rng.random((runs, group, 1)) > edges, axis=2)
        reward = np.take_along_axis(optimum - logprob, drawn, axis=1)
        advantage = (reward - reward.mean(axis=1, keepdims=True)) / (group - 1)
        theta = theta + adam.step(np.einsum("rk,rkn->rn", advantage, np.eye(law.size)[drawn]))
    logprob = log_softmax(theta, axis=1)
    return np.sum(np.exp(logprob) * (logprob - optimum), axis=1)


class _Adam:
    """Adam's two averages; arrays of any one shape."""

    def __init__(self, rate: float, eps: float, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.rate, self.eps = _positive("rate", rate), eps
        if not 0 <= eps < np.inf:
            raise InputError("eps", eps, "a finite number >= 0")
        self.beta1, self.beta2, self.count = _decay("beta1", beta1), _decay("beta2", beta2), 0
        self.first = self.second = np.zeros(())

    def step(self, gradient: FloatArray) -> FloatArray:
        self.count += 1
        self.first = self.beta1 * self.first + (1.0 - self.beta1) * gradient
        self.second = self.beta2 * self.second + (1.0 - self.beta2) * gradient**2
        mean = self.first / (1.0 - self.beta1**self.count)
        scale = np.sqrt(self.second / (1.0 - self.beta2**self.count)) + self.eps
        return self.rate * np.divide(mean, scale, out=np.zeros_like(mean), where=scale > 0)


def _moments(law: FloatArray, group: int, tokens: int) -> _Moments:
    """Return L and Q of one token's block, for a law of shape [n]; see the module for the equation."""
    tangent = null_space(np.ones((1, law.size)))
    values, vectors = np.linalg.eigh(tangent.T @ (np.diag(law) - np.outer(law, law)) @ tangent)
    deviations = (np.eye(law.size) - law) @ tangent @ vectors  # [outcome, coordinate]
    i, j = np.triu_indices(values.size)
    weight = np.where(i == j, 1.0, np.sqrt(2.0))
    squares = deviations[:, i] * deviations[:, j] * weight
    fourth = (squares * law[:, None]).T @ squares
    sandwich = np.diag(values[i] * values[j])  # C -> S C S
    sigma = np.where(i == j, values[i], 0.0)
    trace = np.outer(sigma, sigma)  # C -> tr(S C) S
    cumulant = fourth - 2.0 * sandwich - trace
    noise = cumulant / group + sandwich + (sandwich + tokens * trace) / (group - 1)
    return _Moments(values[i] + values[j], noise)


def _second(moments: _Moments) -> tuple[Callable[[FloatArray], FloatArray], FloatArray]:
    """Return C -> E[M C M] on symmetric matrices, shape [d, d], and the eigenvalues of S, shape [d]."""
    size = int(np.sqrt(2 * moments.drift.size))  # d (d + 1) / 2 coordinates
    i, j = np.triu_indices(size)
    scale = np.where(i == j, 1.0, np.sqrt(2.0))

    def noise(C: FloatArray) -> FloatArray:
        found = np.zeros((size, size))
        found[i, j] = found[j, i] = moments.noise @ (C[i, j] * scale) / scale
        return found

    return noise, moments.drift[i == j] / 2


def _law(base: ArrayLike, alpha: float) -> FloatArray:
    """Return p^alpha / Z, shape [n]."""
    p = np.asarray(base, float)
    if p.ndim != 1 or not 2 <= p.size <= MAX_OUTCOMES or not np.all(np.isfinite(p) & (p > 0)):
        raise InputError("base", base, f"2 to {MAX_OUTCOMES} positive probabilities")
    if not 0 <= alpha < np.inf:
        raise InputError("alpha", alpha, "a finite number >= 0")
    law = softmax(alpha * np.log(p))
    if law.min() < LEAST:
        raise InputError("base", base, f"outcomes of at least {LEAST:g} under p^alpha / Z")
    return law


def _group(group: int) -> int:
    if not group >= 2:
        raise InputError("group", group, "at least 2 samples")
    return group


def _tokens(tokens: int) -> int:
    if not tokens >= 1:
        raise InputError("tokens", tokens, "at least 1")
    return tokens


def _positive(name: str, value: float) -> float:
    if not 0 < value < np.inf:
        raise InputError(name, value, "a finite number above 0")
    return value


def _decay(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise InputError(name, value, "a number in [0, 1)")
    return value
