"""The formulas of the objective, once, for every array library.

Everything here is a pure function over arrays of the Python array API: NumPy, JAX (traced or not) and PyTorch arrays
of any floating dtype pass through the same lines and come back as what they were. Shapes broadcast; the usual one is
``[batch]``, one entry per sampled sequence, or ``[outcomes]``, one entry per outcome of a finite problem.

Notation: p is the reference policy, pi the trained policy, r the task reward, ``|x|`` the length of a sequence in
tokens, all logarithms natural. The equations are THEORY section 1 of this project (docs/objective.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from array_api_compat import array_namespace, is_jax_array, is_torch_array

Array = Any  # the array API has no nominal type; every function returns the library and dtype it was given
UTILITY_FORMS = "identity, log, arcsin or pass@K with a whole number K >= 1"
_UTILITIES = re.compile(r"identity|log|arcsin|pass@[1-9]\d{0,8}")


class Coefficients(NamedTuple):
    """Weights of J(pi) = w_r E[r] + w_p E[s] + w_h H(pi)."""

    w_r: float
    w_p: float
    w_h: float


def coefficients(alpha: float, beta_inv: float, mode: str, normalization: str) -> Coefficients:
    """Return (w_r, w_p, w_h) of the objective.

    ========================  ===  ===========  ==========
    case                      w_r  w_p          w_h
    ========================  ===  ===========  ==========
    optimization, b > 0        1   alpha / b    0
    optimization, b = 0        0   alpha        0
    sampling, b > 0            1   alpha / b    1 / b
    sampling, b = 0            0   alpha        1
    ========================  ===  ===========  ==========

    with b = beta_inv. ``normalization="none"`` drops the extra likelihood term, which leaves w_p = w_h.

    Example:
        >>> coefficients(2.0, 0.0, "sampling", "sum")
        Coefficients(w_r=0.0, w_p=2.0, w_h=1.0)
    """
    scale = 1.0 / beta_inv if beta_inv > 0 else 1.0
    w_h = scale if mode == "sampling" else 0.0
    w_p = w_h if normalization == "none" else alpha * scale
    return Coefficients(1.0 if beta_inv > 0 else 0.0, w_p, w_h)


def score(ref_logprob: Array, length: Array | None, exponent: float) -> Array:
    """Return the length-normalised log-likelihood s(x) = log p(x) / |x|^w.

    Args:
        ref_logprob: log p(x), the sum over the tokens of x; any shape, nats.
        length: ``|x|`` in tokens, end-of-sequence token included, so at least 1; broadcasts with ``ref_logprob``.
            May be None only for ``exponent = 0``.
        exponent: w: 0 for the sum, 1 for the mean.

    Raises:
        ValueError: ``length`` is None and the exponent is not 0.
    """
    if exponent == 0.0:
        return ref_logprob
    if length is None:
        raise ValueError("length: got None, allowed: token counts >= 1, because the normalization divides by them")
    xp = array_namespace(ref_logprob)
    return ref_logprob / xp.astype(xp.asarray(length), ref_logprob.dtype) ** exponent


def potential(
    w: Coefficients,
    reward: Array | None,
    ref_logprob: Array | None,
    length: Array | None,
    exponent: float,
    *,
    right: float = 0.0,
    slope: Array | None = None,
) -> Array:
    """Return u(x) = w_r r + (w_p - w_h) s + w_h log p, so that J(pi) = E[u] + w_h H(pi).

    Only the extra likelihood term is normalised by length; the log p that pairs with -log pi in the KL never is. With
    w = 0, or without entropy, u = w_r r + w_p s.

    Terms whose weight is zero are not computed: their arrays may be None and, when given, are not read.

    Args:
        w: The weights.
        reward: Task reward r.
        ref_logprob: log p.
        length: ``|x|``.
        exponent: w in s(x).
        right: What right answers add to w_p: the term right r s, so that w_p is ``w.w_p + right`` where r = 1.
        slope: f'(P) of a utility of the success rate, which multiplies w_r; None for the identity.
    """
    terms = []
    if w.w_r != 0.0:
        w_r = w.w_r if slope is None else w.w_r * slope
        terms.append(w_r * _given(reward, "reward"))
    if w.w_p != w.w_h:
        terms.append((w.w_p - w.w_h) * score(_given(ref_logprob, "ref_logprob"), length, exponent))
    if w.w_h != 0.0:
        terms.append(w.w_h * _given(ref_logprob, "ref_logprob"))
    if right != 0.0:
        given = _given(ref_logprob, "ref_logprob")
        terms.append(right * _given(reward, "reward") * score(given, length, exponent))
    return sum(terms[1:], start=terms[0])


def pseudo_reward(
    w: Coefficients,
    reward: Array | None,
    ref_logprob: Array | None,
    policy_logprob: Array | None,
    length: Array | None,
    exponent: float,
    *,
    right: float = 0.0,
    slope: Array | None = None,
) -> Array:
    """Return u(x) - w_h sg(log pi(x)), the per-sample reward that a policy gradient maximises; sg stops gradients."""
    u = potential(w, reward, ref_logprob, length, exponent, right=right, slope=slope)
    if w.w_h != 0.0:
        u = u - w.w_h * _given(policy_logprob, "policy_logprob")
    return stop_gradient(u)


def value(
    w: Coefficients,
    policy_logprob: Array,
    reward: Array | None,
    ref_logprob: Array | None,
    length: Array | None,
    exponent: float,
    *,
    right: float = 0.0,
) -> Array:
    """Return J(pi) = sum_x pi(x) (u(x) - w_h log pi(x)) over the last axis, differentiable in ``policy_logprob``.

    Outcomes with pi(x) = 0 contribute 0, also where log pi or u is infinite.
    """
    xp = array_namespace(policy_logprob)
    u = potential(w, reward, ref_logprob, length, exponent, right=right)
    inside = policy_logprob > -xp.inf
    # where() on the inputs, not on the product: a masked 0 * inf would still give NaN gradients.
    log_pi = xp.where(inside, policy_logprob, xp.zeros_like(policy_logprob))
    gain = xp.where(inside, u - w.w_h * log_pi, xp.zeros_like(log_pi))
    return xp.sum(xp.exp(log_pi) * gain, axis=-1)


def mean(policy_logprob: Array, values: Array | None) -> Array:
    """Return E_pi[values] over the last axis, differentiable in ``policy_logprob``."""
    xp = array_namespace(policy_logprob)
    return xp.sum(xp.exp(policy_logprob) * _given(values, "reward"), axis=-1)


class Utility(NamedTuple):
    """f and its first two derivatives, as functions of the success rate: a float, or an array of any library."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    bend: Callable[[Array], Array]


def is_utility(name: str) -> bool:
    """Return whether a utility has this name.

    Example:
        >>> is_utility("pass@8"), is_utility("pass@0")
        (True, False)
    """
    return _UTILITIES.fullmatch(name) is not None


def utility(name: str) -> Utility:
    """Return the utility f of the success rate P of this name, one that :func:`is_utility` knows.

    J(pi) = w_r f(P) + ... has the policy gradient of w_r f'(P) r: a utility is a weight on the reward that depends on
    how often the policy is right (THEORY T18; arcsin: Davis & Recht, arXiv 2510.13651).

    ========  =================  ======================  =======================================================
    name      f(P)               f'(P)                   what trains with it
    ========  =================  ======================  =======================================================
    identity  P                  1                       REINFORCE, RLOO
    log       log P              1 / P                   maximum likelihood of being right
    pass@K    1 - (1 - P)^K      K (1 - P)^(K - 1)       pass@K training; pass@1 is the identity
    arcsin    2 arcsin sqrt(P)   1 / sqrt(P (1 - P))     GRPO: division by the deviation of a large group's rewards
    ========  =================  ======================  =======================================================


    Example:
        >>> f = utility("arcsin")
        >>> round(f.value(0.5), 4), f.slope(0.5), f.bend(0.5)
        (1.5708, 2.0, 0.0)
        >>> utility("pass@2").slope(0.25)
        1.5
    """
    if name == "log":
        return Utility(_log, lambda p: 1.0 / p, lambda p: -1.0 / p**2)
    if name == "arcsin":
        return Utility(
            lambda p: 2.0 * _arcsin(p**0.5),
            lambda p: (p * (1.0 - p)) ** -0.5,
            lambda p: (p - 0.5) * (p * (1.0 - p)) ** -1.5,
        )
    k = int(name.removeprefix("pass@")) if name != "identity" else 1
    return Utility(
        lambda p: p if k == 1 else 1.0 - (1.0 - p) ** k,
        lambda p: k * (1.0 - p) ** (k - 1),
        lambda p: -k * (k - 1) * (1.0 - p) ** max(k - 2, 0),
    )


def _log(p: Array) -> Array:
    if isinstance(p, float):
        return math.log(p) if p > 0.0 else -math.inf
    return array_namespace(p).log(p)


def _arcsin(x: Array) -> Array:
    if isinstance(x, float):
        return math.asin(min(x, 1.0))
    xp = array_namespace(x)
    return xp.asin(xp.where(x < 1.0, x, xp.ones_like(x)))  # sums of probabilities pass 1 by rounding


def stop_gradient(x: Array) -> Array:
    """Return ``x`` as a constant for automatic differentiation (NumPy arrays come back unchanged)."""
    if is_torch_array(x):
        return x.detach()
    if is_jax_array(x):
        from jax import lax  # x is a JAX array, so jax is imported already

        return lax.stop_gradient(x)
    return x


def _given(x: Array | None, name: str) -> Array:
    if x is None:
        raise ValueError(f"{name}: got None, allowed: an array, because this objective weighs it")
    return x
