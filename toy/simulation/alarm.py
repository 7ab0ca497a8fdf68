"""The alarm of a collapsing entropy.

Axis letters: K records, S runs, n outcomes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpen.toy.dynamics.measures import COLLAPSED_ENTROPY


def entropy_alarm(
    log_policy: NDArray[np.float64], updates: NDArray[np.int64], limit: NDArray[np.float64]
) -> dict[str, Any] | None:
    """Return when the entropy of a track's runs fell below a tenth of the base's, None if it never did.

    Args:
        log_policy: log pi, shape [K, S, n], the base first.
        updates: Of the records, shape [K].
        limit: Where the theory says that the runs end, shape [n].

    Returns:
        ``below``, the nats that count as collapsed; ``share`` of the runs that fell there; ``update``, the median of
        the first record there, over those; ``limit_entropy``, that of the limit: with none the objective asks for it.

    Example:
        >>> log_pi = np.log(np.array([[[0.5, 0.5]], [[0.9, 0.1]], [[0.999, 0.001]]]))
        >>> entropy_alarm(log_pi, np.array([0, 10, 20]), np.array([1.0, 0.0]))["update"]
        20.0
    """
    found = _entropy(np.exp(log_policy))  # [K, S]
    below = COLLAPSED_ENTROPY * float(found[0, 0])
    fell = found < below
    runs = fell.any(axis=0)
    if not runs.any():
        return None
    return {
        "below": below,
        "share": float(runs.mean()),
        "update": float(np.median(updates[fell.argmax(axis=0)][runs])),
        "limit_entropy": float(_entropy(limit)),
    }


def _entropy(pi: NDArray[np.float64]) -> NDArray[np.float64]:
    return -np.sum(pi * np.log(np.where(pi > 0, pi, 1.0)), axis=-1)
