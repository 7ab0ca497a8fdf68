"""Scalable power sampling (Ji et al. 2026, "Scalable Power Sampling", arXiv 2601.21590): p^alpha token by token.

The exact next-token law of p^alpha is token-level low temperature reweighted by what the future holds,

    P(v | s) = p(v | s)^alpha zeta(sv) / sum_w p(w | s)^alpha zeta(sw),
    zeta(s) = sum over continuations y of p(y | s)^alpha = E_{y ~ p(. | s)}[p(y | s)^(alpha - 1)],

so zeta is a mean over rollouts y from the base model. M of them give each zeta without bias, but the ratio with a bias
of order 1/M; the jackknife over rollouts takes the leading term away, which leaves order 1/M^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sharpen.llm.samplers.kernel import Path, Tokens
from sharpen.llm.samplers.requests import Autoregressive, Extend, Key, Likeliest, Method, Next, Request, Sample

PICK, ROLL, REST = 0, 1, 2  # what a random number is for


@dataclass(frozen=True)
class Scalable:
    """How tokens are chosen.

    Args:
        alpha: Exponent of the target, > 0.
        candidates: Likeliest next tokens that are weighed against each other; the others get probability 0.
        rollouts: M, rollouts a candidate; with ``jackknife`` at least 2.
        horizon: Longest rollout in tokens; None goes to the end of the response. What lies beyond counts as certain.
        jackknife: Correct the bias of the ratio.
        budget: Tokens to generate; once it is spent the rest of the response is drawn at temperature 1/alpha.
    """

    alpha: float
    candidates: int
    rollouts: int
    horizon: int | None = None
    jackknife: bool = True
    budget: int | None = None


def ratio_estimate(log_power_K: np.ndarray, log_weight_KM: np.ndarray, *, jackknife: bool) -> np.ndarray:
    """Return an estimate of P(v | s), shape [K], that sums to 1; the jackknife's may leave [0, 1].

    With a_v = p(v | s)^alpha and w_vm = p(y_vm | sv)^(alpha - 1), the plain estimate is
    r(w) = a_v mean_m w_vm / sum_u a_u mean_m w_um, and the jackknife's M r(w) - (M - 1) mean_m r(w without column m).

    Args:
        log_power_K: log a_v up to one constant, nats.
        log_weight_KM: log w_vm up to one constant, nats.
        jackknife: Whether to correct the bias; M is then at least 2.
    """
    log_KM = log_power_K[:, None] + log_weight_KM
    weight_KM = np.exp(log_KM - log_KM.max())
    total_K = weight_KM.sum(axis=1)
    plain_K = total_K / total_K.sum()
    if not jackknife:
        return plain_K
    rollouts = weight_KM.shape[1]
    without_KM = np.maximum(total_K[:, None] - weight_KM, 0.0)
    mass_M = without_KM.sum(axis=0)
    # Where one rollout of every candidate holds all the weight, leaving them out leaves nothing to compare.
    left_out_KM = np.where(mass_M > 0, without_KM / np.where(mass_M > 0, mass_M, 1.0), plain_K[:, None])
    return rollouts * plain_K - (rollouts - 1) * left_out_KM.mean(axis=1)


def token_probabilities(log_power_K: np.ndarray, log_weight_KM: np.ndarray, *, jackknife: bool) -> np.ndarray:
    """Return :func:`ratio_estimate` made a distribution, shape [K]: negative entries cut, then divided by the sum."""
    estimate_K = np.maximum(ratio_estimate(log_power_K, log_weight_KM, jackknife=jackknife), 0.0)
    return estimate_K / estimate_K.sum()


def scalable(prompt: Tokens, longest: int, key: Key, settings: Scalable, model: Autoregressive) -> Method:
    """Draw one response.

    Args:
        prompt: Token ids.
        longest: Longest response in tokens.
        key: The source of its random numbers.
        settings: How tokens are chosen.
        model: Says which tokens end a response.
    """
    sample = Sample(accepted=1, moved=1)
    while not sample.path.ended and len(sample.path) < longest:
        place = len(sample.path)
        if settings.budget is not None and sample.generated >= settings.budget:
            seed = key.seeds(REST, place)[0]
            rest = yield [Extend(prompt + sample.path.tokens, longest - place, 1 / settings.alpha, seed)]
            assert isinstance(rest[0], Path)
            sample.path, sample.generated = sample.path + rest[0], sample.generated + len(rest[0])
            break
        (top,) = yield [Next(prompt + sample.path.tokens, settings.candidates)]
        assert isinstance(top, Likeliest)
        possible_K = top.logprob_K > -np.inf
        token_K, logprob_K = top.token_K[possible_K], top.logprob_K[possible_K]
        prefix, room = prompt + sample.path.tokens, longest - place - 1
        requests, owners = _rollouts(token_K.tolist(), prefix, room, key, settings, model)
        ends = (yield requests) if requests else []
        log_weight_KM = np.zeros((len(token_K), settings.rollouts))
        for (row, column), end in zip(owners, ends, strict=True):
            assert isinstance(end, Path)
            log_weight_KM[row, column] = (settings.alpha - 1) * sum(end.base)
            sample.generated += len(end)
        sample.proposals += len(requests)
        law_K = token_probabilities(settings.alpha * logprob_K, log_weight_KM, jackknife=settings.jackknife)
        chosen = int(np.searchsorted(law_K.cumsum(), key.uniforms(PICK, place)[0], side="right"))
        chosen = min(chosen, int(np.flatnonzero(law_K)[-1]))  # rounding may leave the sum below 1
        token = int(token_K[chosen])
        step = Path((token,), (float(logprob_K[chosen]),), (float(np.log(law_K[chosen])),), token in model.eos_ids)
        sample.path, sample.generated = sample.path + step, sample.generated + 1
    return sample


def scalable_sampler(
    prompt: Tokens,
    longest: int,
    key: Key,
    *,
    model: Autoregressive,
    alpha: float,
    candidates: int,
    rollouts: int,
    horizon: int | None,
    jackknife: bool,
    budget: int | None,
) -> Method:
    """Draw one response by :func:`scalable`; its settings are those of :class:`Scalable`."""
    return scalable(prompt, longest, key, Scalable(alpha, candidates, rollouts, horizon, jackknife, budget), model)


def _rollouts(
    candidates: list[int], prefix: Tokens, room: int, key: Key, settings: Scalable, model: Autoregressive
) -> tuple[list[Request], list[tuple[int, int]]]:
    """Return the rollouts to draw and the (candidate, rollout) each belongs to; a token that ends needs none."""
    longest = min(room, settings.horizon or room)
    if longest == 0 or len(candidates) == 1:
        return [], []
    requests: list[Request] = []
    owners: list[tuple[int, int]] = []
    for row, token in enumerate(candidates):
        if token not in model.eos_ids:
            seeds = key.seeds(ROLL, len(prefix), token, count=settings.rollouts)
            requests += [Extend((*prefix, token), longest, 1.0, seed) for seed in seeds]
            owners += [(row, column) for column in range(settings.rollouts)]
    return requests, owners
