"""Analysis of deviance: how much of KL(pi || p) sharpening, the reward and the length explain.

With features f = (log p, r, |x|) and one theta for all prompts, p_theta = p exp(theta . f - A_prompt(theta)). For a set
S of features pi_S is the member of its family that is closest to pi, the maximum over theta_S of the mean over prompts
of E_pi[log p_theta]: concave, and solved by matching moments. For S in T

    KL(pi || pi_S) = KL(pi || pi_T) + KL(pi_T || pi_S),

so KL(pi || p) = KL(pi_S || p) + KL(pi || pi_S): what S explains, and the rest. With f = log p alone it is sharpening,
alpha = 1 + theta. The order in which features are added matters, so every subset is given, and the Shapley values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from sharpen.objective import InputError
from sharpen.theory.core.change import kl_to_base
from sharpen.theory.core.problem import FloatArray, Problem

SHARPENING, REWARD, LENGTH = "sharpening", "reward", "length"
FEATURES = (SHARPENING, REWARD, LENGTH)
LARGEST = 200.0  # natural parameter of a standardised feature: beyond it a member is its limit to every digit
WIDEST = 1e4  # how many times as far a search goes for the prompts in which a feature varies least
# Share of p's variance of a feature under which a member is taken for its limit, all mass on where the feature is
# largest: the supremum is not attained there, its theta says where the search ended, and the result says so.
STILL = 1e-8
NEWTON_STEPS = 60  # halved ones among them, after which another method searches
GRADIENT = 1e-10  # of the mean log-likelihood in standardised features, at which the fit ends

Expansion = tuple[FloatArray, FloatArray, FloatArray]  # values, slopes and bends


@dataclass(frozen=True, eq=False)
class Points:
    """One prompt's outcomes, or samples that stand for them.

    Args:
        log_base: Log of the measure p of each point, shape [n]: log p of outcomes that are all there; for samples
            log p minus the log of the density that they were drawn from, minus log n.
        policy: Measure pi of each point, shape [n], non-negative with sum 1.
        features: One column per feature, shape [n, F].
        kl: KL(pi || p) of the prompt, nats.
    """

    log_base: FloatArray
    policy: FloatArray
    features: FloatArray
    kl: float


@dataclass(frozen=True, eq=False)
class Fit:
    """The member of a family that is closest to the policies.

    Attributes:
        theta: Natural parameters, one per feature of the family.
        explained: KL(pi_S || p), the mean over prompts, nats: what the family explains.
        attained: Whether theta is finite; if not, the family explains this much in a limit, or more where the search
            ended at the edge of its box.
    """

    theta: dict[str, float]
    explained: float
    attained: bool


@dataclass(frozen=True, eq=False)
class Split:
    """KL(pi || p) and what explains it, means over prompts in nats.

    Attributes:
        kl: KL(pi || p).
        fits: The closest member of each family, by its features joined by ``+``, as ``sharpening+reward``.
        shapley: Each feature's share of what all of them explain, averaged over the orders of adding them.
        rest: KL(pi || pi_all), what no feature explains.
    """

    kl: float
    fits: dict[str, Fit]
    shapley: dict[str, float]
    rest: float

    @property
    def alpha(self) -> float | None:
        """The exponent of the closest p^alpha, one for all prompts; None if it is a limit."""
        fit = self.fits.get(SHARPENING)
        return None if fit is None or not fit.attained else 1.0 + fit.theta[SHARPENING]

    def explained(self, *features: str) -> float:
        """Return what a set of features explains, nats."""
        return self.fits["+".join(features)].explained if features else 0.0


def split(problems: Sequence[Problem], policies: Sequence[ArrayLike], features: Sequence[str] = FEATURES) -> Split:
    """Return the exact split of policies on finite problems, one per prompt.

    Args:
        problems: What p, r and |x| are, P of them.
        policies: Probabilities pi of each prompt's outcomes, shape [n] each, zero where p is.
        features: Some of ``sharpening``, ``reward`` and ``length``.

    Raises:
        InputError: there are no problems, other numbers of problems and policies, a policy that is none, or an unknown
            feature.

    Example:
        >>> problem = Problem([0.5, 0.3, 0.2], [0, 1, 0])
        >>> sharpened = problem.base**2 / np.sum(problem.base**2)
        >>> found = split([problem], [sharpened])
        >>> round(found.alpha, 6), round(found.explained("sharpening") / found.kl, 6)
        (2.0, 1.0)
    """
    if not problems or len(problems) != len(policies):
        raise InputError("policies", len(policies), f"one a problem, at least one ({len(problems)} problems)")
    wrong = next((name for name in features if name not in FEATURES), None)
    if wrong is not None or not features or len(set(features)) != len(features):
        raise InputError("features", ", ".join(features), f"some of {', '.join(FEATURES)}, each once")
    points = [_points(problem, policy, features) for problem, policy in zip(problems, policies, strict=True)]
    return split_points(points, features)


def split_points(points: Sequence[Points], features: Sequence[str]) -> Split:
    """Return the split of policies known by points, exact or sampled, one set a prompt.

    Args:
        points: P sets.
        features: Names of the columns of their features.
    """
    scale = scales(points)
    box = _box(points, scale)
    fits: dict[str, Fit] = {}
    for size in range(1, len(features) + 1):
        for chosen in itertools.combinations(range(len(features)), size):
            name = "+".join(features[place] for place in chosen)
            fits[name] = _closest(points, [features[place] for place in chosen], list(chosen), scale, box)
    kl = float(np.mean([one.kl for one in points]))
    everything = fits["+".join(features)].explained
    shapley = shapley_values(features, {"": 0.0} | {name: fit.explained for name, fit in fits.items()})
    return Split(kl, fits, shapley, kl - everything)


def shapley_values(features: Sequence[str], explained: Mapping[str, Any]) -> dict[str, Any]:
    """Return each feature's mean gain over all orders of adding the features (Shapley 1953).

    Args:
        features: Their names.
        explained: Numbers, or arrays of one shape, by subset: its names in the order of ``features`` joined by ``+``;
            the empty set is ``""``.

    Example:
        >>> shapley_values(["a", "b"], {"": 0.0, "a": 1.0, "b": 2.0, "a+b": 2.0})
        {'a': 0.5, 'b': 1.5}
    """

    def name(chosen: frozenset[str]) -> str:
        return "+".join(one for one in features if one in chosen)

    count = len(features)
    values: dict[str, Any] = dict.fromkeys(features, 0.0)
    for feature in features:
        others = [one for one in features if one != feature]
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for chosen in itertools.combinations(others, size):
                before = frozenset(chosen)
                values[feature] += weight * (explained[name(before | {feature})] - explained[name(before)])
    return values


def alone(points: Sequence[Points]) -> list[Fit | None]:
    """Return the closest p^alpha of each prompt by itself; None where log p does not vary.

    Args:
        points: P sets whose first feature is log p.
    """
    spreads = [scales([one])[:1] for one in points]
    varying = [place for place, spread in enumerate(spreads) if spread[0] > 0]
    found: list[Fit | None] = [None] * len(points)
    if not varying:
        return found
    scale = np.stack([spreads[place] for place in varying])
    stack = Stack([points[place] for place in varying], [0], scale)  # all at once: the sums are small, and many
    thetas, ended = newton(stack.expansion, np.zeros_like(scale))
    values, _, bends = stack.expansion(thetas)
    at_base = stack.expansion(np.zeros_like(scale))[2]
    for at, place in enumerate(varying):
        if ended[at]:
            theta = {SHARPENING: float(thetas[at, 0] / scale[at, 0])}
            found[place] = Fit(theta, max(0.0, -float(values[at])), _varies(bends[at], at_base[at]))
        else:
            found[place] = _closest([points[place]], [SHARPENING], [0], scale[at], np.array([LARGEST]))
    return found


def _points(problem: Problem, policy: ArrayLike, features: Sequence[str]) -> Points:
    pi = np.asarray(policy, dtype=np.float64)
    if pi.shape != (problem.n,) or not np.all(pi >= 0) or abs(math.fsum(pi) - 1.0) > 1e-6:
        raise InputError("policies", pi if pi.size < 8 else f"shape {list(pi.shape)}", f"{problem.n} probabilities")
    if np.any(pi[~problem.support] > 0):
        raise InputError("policies", "mass where the base has none", "policies that the base can produce")
    inside = problem.support
    log_p, pi = problem.log_base[inside], pi[inside] / math.fsum(pi)
    columns = {SHARPENING: log_p, REWARD: problem.reward[inside], LENGTH: problem.length[inside]}
    change = np.log(pi, out=np.full(pi.size, -np.inf), where=pi > 0) - log_p
    return Points(log_p, pi, np.stack([columns[name] for name in features], axis=1), kl_to_base(log_p, change))


def scales(points: Sequence[Points]) -> FloatArray:
    """Return each feature's standard deviation within prompts, under p and pi together; 0 where it does not vary."""
    squares, size = 0.0, 0.0
    for one in points:
        p = np.exp(one.log_base - np.max(one.log_base))
        weight = 0.5 * (p / p.sum() + one.policy)
        middle = weight @ one.features
        spread = weight @ (one.features - middle) ** 2
        squares, size = squares + spread, size + weight @ one.features**2
    tiny = 1e-24 * np.asarray(size)
    return np.sqrt(np.where(squares > tiny, squares, 0.0) / len(points))


class Stack:
    """Prompts with the features of one family, in one array, for sums over each prompt's points at any theta.

    Args:
        points: P sets.
        places: Which columns of their features belong to the family, F of them.
        scale: What the features are divided by, shape [F], or [P, F] if each prompt has its own.
    """

    def __init__(self, points: Sequence[Points], places: Sequence[int], scale: FloatArray) -> None:
        sizes = [one.policy.size for one in points]
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.prompt = np.repeat(np.arange(len(points)), sizes)
        self.log_base = np.concatenate([one.log_base for one in points])
        self.policy = np.concatenate([one.policy for one in points])
        columns = np.concatenate([one.features[:, places] for one in points])
        columns /= scale[self.prompt] if scale.ndim == 2 else scale
        # Centred at pi's mean, the log-likelihood ratio of a prompt is -A(theta).
        middles = np.add.reduceat(self.policy[:, None] * columns, self.starts)
        self.columns = columns - middles[self.prompt]
        # Of outcomes that are all there it is 0; of weighted samples about 0, and it makes them comparable.
        self.log_totals = self._normalised(self.log_base)[0]

    def _normalised(self, log_weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the log of each prompt's sum, shape [P], and each point's share of it, shape [M]."""
        tops = np.maximum.reduceat(log_weight, self.starts)
        w = np.exp(log_weight - tops[self.prompt])
        totals = np.add.reduceat(w, self.starts)
        return tops + np.log(totals), w / totals[self.prompt]

    def member(self, theta: FloatArray) -> FloatArray:
        """Return p_theta of each point, shape [M]."""
        return self._normalised(self.log_base + self.columns @ theta)[1]

    def expansion(self, theta: FloatArray) -> Expansion:
        """Return A(theta) of each prompt with its slope and bend, shapes [P], [P, F] and [P, F, F].

        With features centred at pi's mean A is minus what theta explains; slope and bend are the features' mean and
        covariance under p_theta.

        Args:
            theta: Natural parameters, shape [F] for all prompts, or [P, F] for each its own.
        """
        each = theta.ndim == 2
        tilt = np.einsum("mf,mf->m", self.columns, theta[self.prompt]) if each else self.columns @ theta
        logs, w = self._normalised(self.log_base + tilt)
        means = np.add.reduceat(w[:, None] * self.columns, self.starts)
        apart = self.columns - means[self.prompt]
        covariances = np.add.reduceat(w[:, None, None] * apart[:, :, None] * apart[:, None, :], self.starts)
        return logs - self.log_totals, means, covariances


def _closest(
    points: Sequence[Points], names: Sequence[str], chosen: Sequence[int], scale: FloatArray, box: FloatArray
) -> Fit:
    """Return the closest member of one family; a feature that varies in no prompt explains nothing and gets 0."""
    varying = [place for place in chosen if scale[place] > 0]
    if not varying:
        return Fit(dict.fromkeys(names, 0.0), 0.0, True)
    stack = Stack(points, varying, scale[varying])

    def loss(thetas: FloatArray) -> Expansion:
        value, slope, bend = stack.expansion(thetas[0])
        return tuple(each.mean(axis=0, keepdims=True) for each in (value, slope, bend))

    size, box = len(varying), box[varying]
    thetas, ended = newton(loss, np.zeros((1, size)), box)
    if not ended[0]:
        thetas = _searched(loss, box)[None]
    value, _, bend = loss(thetas)
    found = dict.fromkeys(names, 0.0)
    for place, one in zip(varying, thetas[0], strict=True):
        found[names[list(chosen).index(place)]] = float(one / scale[place])
    return Fit(found, max(0.0, -float(value[0])), _varies(bend[0], loss(np.zeros((1, size)))[2][0]))


def _box(points: Sequence[Points], scale: FloatArray) -> FloatArray:
    """Return how far to search, shape [F]: what is little in the unit of all prompts is much for a narrow one's."""
    own_PF = np.stack([scales([one]) for one in points])
    narrowest = np.min(np.where(own_PF > 0, own_PF, np.inf), axis=0)
    return LARGEST * np.clip(scale / narrowest, 1.0, WIDEST)


def _varies(bend: FloatArray, at_base: FloatArray) -> bool:
    """Return whether the member still varies in every direction in which p does; in a limit it does not."""
    sizes, directions = np.linalg.eigh(at_base)
    kept = sizes > 1e-10 * max(float(sizes[-1]), 1e-300)
    whitened = directions[:, kept] / np.sqrt(sizes[kept])
    return bool(np.linalg.eigvalsh(whitened.T @ bend @ whitened)[0] > STILL)


def newton(
    loss: Callable[[FloatArray], Expansion], theta: FloatArray, box: FloatArray | float = LARGEST
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return minima of G convex functions by damped Newton steps, and which of them were found inside the box.

    A step that gains too little is halved (Armijo 1966); each function has its own steps, all are evaluated together.

    Args:
        loss: The G values, slopes and bends at theta, shapes [G], [G, F] and [G, F, F].
        theta: Where the G searches begin, shape [G, F].
        box: The largest natural parameters, shape [F] or one for all.
    """
    value, slope, bend = loss(theta)
    ended = np.max(np.abs(slope), axis=1) < GRADIENT
    step = _newton_step(slope, bend, box)
    for _ in range(NEWTON_STEPS):
        if np.all(ended):
            break
        step[ended] = 0.0
        following = loss(theta - step)
        gain = np.sum(step * slope, axis=1)
        # Near the minimum a gain is less than the value's last digits, and Newton's step is right all the same.
        better = following[0] <= value - 1e-4 * gain + 1e-15 * (1.0 + np.abs(value))
        theta = np.where(better[:, None], theta - step, theta)
        value, slope = np.where(better, following[0], value), np.where(better[:, None], following[1], slope)
        ended = np.max(np.abs(slope), axis=1) < GRADIENT
        step = np.where(better[:, None], _newton_step(slope, following[2], box), 0.5 * step)
    return theta, ended & np.all(np.abs(theta) < box, axis=1)


def _newton_step(slope: FloatArray, bend: FloatArray, box: FloatArray | float) -> FloatArray:
    """Return bend^-1 slope in the directions that bend has, no longer than the box."""
    inverse = np.linalg.pinv(bend, rcond=1e-12, hermitian=True)
    return np.clip(np.einsum("gij,gj->gi", inverse, slope), -box, box)


def _searched(loss: Callable[[FloatArray], Expansion], box: FloatArray) -> FloatArray:
    """Return the minimum of a convex function inside the box, also where it is at the box or Newton's steps stall."""

    def alone_at(theta: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        value, slope, bend = loss(theta[None])
        return float(value[0]), slope[0], bend[0]

    found = minimize(
        lambda theta: alone_at(theta)[:2],
        np.zeros(box.size),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-one, one) for one in box],
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-16, "gtol": GRADIENT},
    )
    theta = np.asarray(found.x, dtype=np.float64)
    for _ in range(20):  # Newton's steps sharpen what the first method leaves
        value, slope, bend = alone_at(theta)
        if np.max(np.abs(slope)) < GRADIENT or np.any(np.abs(theta) >= box):
            break
        step = np.linalg.lstsq(bend, slope, rcond=1e-12)[0]
        following = np.clip(theta - step, -box, box)
        if not alone_at(following)[0] <= value:
            break
        theta = following
    return theta
