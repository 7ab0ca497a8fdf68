"""Optima of an objective as weights on samples of p, and whether the samples can tell (T21).

Self-normalised importance sampling: with w = pi*/p up to a factor, for mode sampling p^(alpha - 1) e^(beta_inv r), a
mean under pi* is sum w f / sum w. n over its effective sample size (sum w)^2 / sum w^2 tends to sum p^(2 alpha - 1) /
(sum p^alpha)^2; where the size is small the estimate leans to the base's value, and n samples cannot tell.

Where responses repeat, the different ones with their known p stand for themselves: no weight is estimated, and what was
not seen has mass M = 1 - sum p. Of that, a response of probability 3/n or more would have been missed with a chance of
5 % at most, so sum p^alpha over the unseen is at most M min(M, 3/n)^(alpha - 1) (T15's bound, M^alpha, is certain).
Where that is a small part of the whole, the samples can tell however small the effective sample size.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np

from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import FloatArray
from sharpen.theory.forecast.samples import IntArray, Samples

LEAST_ESS = 8.0  # below it the jackknife no longer removes the bias, and intervals miss
MOST_UNSEEN = 0.05  # of the optimum's mass, on responses that were not seen
MOST_KHAT = 0.7  # above it the estimate is unreliable for any n that there is (Vehtari et al. 2024)
LEAST_FOR_KHAT = 25  # samples: its fit takes a tail of at least five
MISSED = 3.0  # n times the probability of a response that n samples miss with a chance of e^-3, 5 %
SPREAD = 1e-9  # nats: weights that differ by less are all equal


@dataclass(frozen=True, eq=False)
class Weighted:
    """An optimum as weights on the points that are known of a prompt.

    Attributes:
        places: Which samples are points, shape [m]: all n, or the different responses.
        log_weight: log of pi*/p at samples, of pi* at different responses, up to a constant, shape [m].
        sampled: Whether the points are samples of p.
        ess: Effective sample size of the n samples.
        khat: Pareto shape of their weights; None if there are too few, or they are points for themselves.
        told: Whether the prompt's samples can tell.
        needs: Samples that would, at least.
    """

    places: IntArray
    log_weight: FloatArray
    sampled: bool
    ess: float
    khat: float | None
    told: bool
    needs: float

    @property
    def weights(self) -> FloatArray:
        """The weights, of sum 1, shape [m]."""
        w = np.exp(self.log_weight - self.log_weight.max())
        return w / w.sum()


def weigh(samples: Samples, objective: Objective) -> Weighted:
    """Return the optimum of an objective on one prompt's samples.

    Args:
        samples: Of p.
        objective: With a frozen reference. Without entropy the optimum is p on the seen responses of the largest
            u = w_r r + w_p s (T2); whether there are larger ones, samples do not tell.

    Raises:
        InputError: the reference is not frozen.

    Example:
        >>> drawn = Samples.of(np.log([0.5, 0.5, 0.25, 0.25]), [1, 1, 0, 0], response=["a", "a", "b", "c"])
        >>> weigh(drawn, Objective(alpha=2)).weights.round(3).tolist()
        [0.667, 0.167, 0.167]
    """
    if objective.reference != "frozen":
        raise InputError("reference", objective.reference, "frozen: the optimum of the others is not known")
    if objective.mode == "optimization":
        return _face(samples, objective)
    log_w = _log_ratio(samples, objective)
    ess = effective_size(log_w)
    # A reward tilt is a function of the reward alone: what can be told of p^alpha can be told of its tilts.
    flat = objective.model_copy(update={"beta_inv": 0.0})
    plain = log_w if objective.beta_inv == 0 else _log_ratio(samples, flat)
    everything = np.arange(samples.n)
    if np.ptp(plain) < SPREAD:  # p itself, or a tilt of it: every sample counts alike
        return Weighted(everything, log_w, True, ess, None, True, float(samples.n))
    places = _standing_for_themselves(samples, flat)
    if places is not None:
        return Weighted(places, log_w[places] + samples.logprob[places], False, ess, None, True, float(samples.n))
    size = effective_size(plain)
    told = size >= LEAST_ESS and not _misses_greedy(samples, plain, flat)
    needs = samples.n * max(1.0, LEAST_ESS / size) if told or size < LEAST_ESS else 2.0 * samples.n
    return Weighted(everything, log_w, True, ess, pareto_shape(plain), told, needs)


def effective_size(log_weight: FloatArray) -> float:
    """Return (sum w)^2 / sum w^2."""
    w = np.exp(log_weight - log_weight.max())
    return float(w.sum() ** 2 / (w @ w))


def pareto_shape(log_weight: FloatArray) -> float | None:
    """Return k-hat, the shape of a generalised Pareto distribution fitted to the largest weights (Vehtari et al. 2024).

    None for fewer than 25 weights, and where the largest are all equal and there is no tail.
    """
    if log_weight.size < LEAST_FOR_KHAT:
        return None
    from arviz_stats.base.array import array_stats

    with warnings.catch_warnings(), np.errstate(all="ignore"):  # of ties, which discrete responses have
        warnings.simplefilter("ignore")
        try:
            chain = np.exp(log_weight - log_weight.max())[None]
            khat = np.asarray(array_stats.pareto_khat(chain, r_eff=1, tail="right")).item()  # psislw smooths as well
        except ValueError:  # "All tail values are the same"
            return None
    return khat if math.isfinite(khat) else None


def _log_ratio(samples: Samples, objective: Objective) -> FloatArray:
    potential = objective.potential(reward=samples.reward, ref_logprob=samples.logprob, length=samples.length)
    return np.asarray(potential / objective.coefficients.w_h - samples.logprob, dtype=np.float64)


def _standing_for_themselves(samples: Samples, objective: Objective) -> IntArray | None:
    """Return the different responses if what is unseen hardly counts under p^alpha, alpha >= 1; else None."""
    alpha = objective.alpha
    if alpha < 1 or objective.length_exponent != 0 or (found := samples.different()) is None:
        return None
    places, unseen = found
    if unseen <= 0.0:
        return places
    log_seen = float(np.logaddexp.reduce(alpha * samples.logprob[places]))
    log_unseen = math.log(unseen) + (alpha - 1) * math.log(min(unseen, MISSED / samples.n))
    return places if log_unseen - np.logaddexp(log_seen, log_unseen) <= math.log(MOST_UNSEEN) else None


def _misses_greedy(samples: Samples, plain: FloatArray, objective: Objective) -> bool:
    """Return whether the greedy response alone has more than twice the mass that the samples give to all of p^alpha."""
    if samples.greedy is None or objective.length_exponent != 0:
        return False
    log_total = float(np.logaddexp.reduce(plain)) - math.log(samples.n)
    return objective.alpha * samples.greedy > log_total + math.log(2.0)


def _face(samples: Samples, objective: Objective) -> Weighted:
    """Return p on the seen responses of the largest potential."""
    potential = objective.potential(reward=samples.reward, ref_logprob=samples.logprob, length=samples.length)
    best = potential >= potential.max() - SPREAD
    sharpest = objective.coefficients.w_p != 0
    if sharpest and objective.length_exponent == 0 and objective.coefficients.w_r == 0:
        # The likeliest response: certain if nothing unseen can be likelier.
        best = samples.logprob >= samples.logprob.max() - 1e-6
        found = samples.different()
        unseen = 1.0 if found is None else found[1]
        told = samples.logprob.max() >= math.log(min(MISSED / samples.n, max(unseen, 1e-300)))
    else:
        told = not sharpest  # of a potential per token nothing bounds what was not seen
    places = np.flatnonzero(best)
    return Weighted(places, np.zeros(places.size), True, float(places.size), None, bool(told), 2.0 * samples.n)
