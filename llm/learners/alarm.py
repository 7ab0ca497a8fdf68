"""An alarm for a policy whose entropy collapses while it trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SHARE = 0.1  # of the first step's entropy


class EntropyAlarm:
    """Tells once when a step's entropy is below a tenth of the first step's: what is not sampled is not learned from.

    Args:
        earlier: Records of the steps so far, for a run that goes on: what they have told is not told again.

    Example:
        >>> alarm = EntropyAlarm([{"step": 0, "entropy": 0.5}])
        >>> alarm({"step": 1, "entropy": 0.3})
        >>> alarm({"step": 2, "entropy": 0.01})["entropy"]
        0.01
        >>> alarm({"step": 3, "entropy": 0.01})
    """

    def __init__(self, earlier: Iterable[Mapping[str, Any]] = ()) -> None:
        self._first: float | None = None
        self._told = False
        for record in earlier:
            self(record)

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the step with its entropy and the first step's, nats a token, if this step is the one to be told of.

        Args:
            record: The step's metrics.
        """
        entropy = float(record["entropy"])
        first = self._first = entropy if self._first is None else self._first
        if self._told or entropy >= SHARE * first:
            return None
        self._told = True
        return {"step": record["step"], "entropy": entropy, "first": first}


def told(found: Mapping[str, Any]) -> str:
    """Return what a person is told of it, one line.

    Example:
        >>> told({"step": 7, "entropy": 0.01, "first": 0.5})[:66]
        'step 8: the entropy has collapsed, to 0.01 nats a token from 0.5; '
    """
    return (
        f"step {found['step'] + 1}: the entropy has collapsed, to {found['entropy']:.2g} nats a token from "
        f"{found['first']:.2g}; mode sampling, the learners entropy-bonus and adaptive-entropy, or a smaller learning "
        "rate hold it up"
    )
