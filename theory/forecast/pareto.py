"""The shape of a generalised Pareto distribution by Zhang and Stephens (2009), the k-hat of Vehtari et al. (2024).

The mean of b = -k / scale over a prior times the profile likelihood, on a grid of quantiles of that prior. Of
``arviz-stats``, which has the same fit, a forecast would use the shape alone: what else it computes took seven times
as long.
"""

from __future__ import annotations

import numpy as np

from sharpen.theory.core.problem import FloatArray

PRIOR_DATA = 10  # observations that the prior of the shape, with mean 1/2, counts as
PRIOR_SCALE = 3.0  # the prior of b is wide by so many times what the first quartile says
FEWEST_NODES = 30
NEGLIGIBLE = 10 * np.finfo(float).eps  # weights of nodes below it are left out


def tail_size(weights: int) -> int:
    """Return how many of the largest weights are the tail: a fifth, of more than 225 weights 3 sqrt(n).

    Example:
        >>> tail_size(32), tail_size(400)
        (6, 60)
    """
    return int(3 * weights**0.5) if weights > 225 else weights // 5


def tail_shape(weights: FloatArray) -> float:
    """Return the shape k of the tail of weights, shape [n], n >= 25.

    Example:
        >>> tail_shape(np.arange(100.0)) < 0.7 < tail_shape(np.arange(1.0, 100.0) ** -2)
        True
    """
    largest = np.sort(weights)[-tail_size(weights.size) - 1 :]
    excess = largest[1:] - largest[0]
    n = excess.size
    nodes = FEWEST_NODES + int(n**0.5)
    spread = 1 - np.sqrt(nodes / (np.arange(1, nodes + 1) - 0.5))
    b = spread / (PRIOR_SCALE * excess[int(n / 4 + 0.5) - 1]) + 1 / excess[-1]
    shapes = np.mean(np.log1p(-b[:, None] * excess), axis=1)
    profile = n * (np.log(-b / shapes) - shapes - 1)
    likely = np.exp(profile - profile.max())
    likely /= likely.sum()
    kept = likely >= NEGLIGIBLE
    mean = b[kept] @ (likely[kept] / likely[kept].sum())  # 0 where ties leave no node: the prior's shape
    shape = float(np.mean(np.log1p(-mean * excess)))
    return (n * shape + PRIOR_DATA * 0.5) / (n + PRIOR_DATA)
