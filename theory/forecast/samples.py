"""What is known of a prompt: n samples of p with their log-probabilities, and the different responses among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpen.objective import InputError
from sharpen.theory.core.problem import FloatArray

IntArray = NDArray[np.int64]
SAME = (
    0.5  # nats by which two scores of one response may differ: far more than rounding, far less than another spelling
)


@dataclass(frozen=True, eq=False)
class Samples:
    """One prompt's n samples of p, at temperature 1 and untruncated.

    Args:
        logprob: log p of each, nats per sequence, shape [n].
        reward: Its reward in [0, 1], shape [n].
        length: Its tokens, shape [n]; 1 if not given.
        right: Whether it counts as right, shape [n]; a reward of 1 if not given.
        answer: What each votes for, n labels, None for no vote; each its own if not given.
        response: n labels, the same for the same response, so that responses drawn twice are known; None: not known.
        greedy: log p of the greedy response, nats; None: not known.

    Raises:
        InputError: no samples, columns of other lengths, log-probabilities above 0, or rewards outside [0, 1].

    Example:
        >>> Samples.of([-1.0, -2.0], [1, 0]).n
        2
    """

    logprob: FloatArray
    reward: FloatArray
    length: FloatArray
    right: NDArray[np.bool_]
    answer: Sequence[str | None] | None = field(default=None, repr=False)
    response: Sequence[str] | None = field(default=None, repr=False)
    greedy: float | None = None

    @classmethod
    def of(
        cls,
        logprob: ArrayLike,
        reward: ArrayLike,
        length: ArrayLike | None = None,
        right: ArrayLike | None = None,
        *,
        answer: Sequence[str | None] | None = None,
        response: Sequence[str] | None = None,
        greedy: float | None = None,
    ) -> Samples:
        """Return checked samples."""
        log_p, r = np.asarray(logprob, dtype=np.float64), np.asarray(reward, dtype=np.float64)
        if log_p.ndim != 1 or not log_p.size or not np.all(log_p <= 1e-6):
            raise InputError("logprob", log_p if log_p.size < 8 else np.nanmax(log_p), "log-probabilities, at most 0")
        tokens = np.ones(log_p.size) if length is None else np.asarray(length, dtype=np.float64)
        good = r >= 1.0 if right is None else np.asarray(right, dtype=bool)
        columns = {"reward": r, "length": tokens, "right": good, "answer": answer, "response": response}
        for name, column in columns.items():
            if column is not None and len(column) != log_p.size:
                raise InputError(name, f"{len(column)} entries", f"one a sample, {log_p.size} of them")
        if not np.all((r >= 0) & (r <= 1)):
            raise InputError("reward", r[~((r >= 0) & (r <= 1))][0], "numbers in [0, 1]")
        return cls(log_p, r, tokens, good, answer, response, greedy)

    @property
    def n(self) -> int:
        """How many there are."""
        return self.logprob.size

    def different(self) -> tuple[IntArray, float] | None:
        """Return the places of the different responses, shape [m], and the mass of p that is none of them.

        None where responses are not known, or their probabilities add up to more than 1: then two different ones had
        the same label, or log p is not what they were drawn from. Two responses with one label and other scores are
        one spelling and another; two within ``SAME`` nats are one response that was scored twice.
        """
        if self.response is None:
            return None
        order = np.lexsort(
            (-self.logprob, np.unique(np.asarray(self.response, dtype=object).astype(str), return_inverse=True)[1])
        )
        labels, log_p = np.asarray(self.response, dtype=object)[order], self.logprob[order]
        fresh = np.concatenate([[True], (labels[1:] != labels[:-1]) | (log_p[:-1] - log_p[1:] > SAME)])
        places = order[fresh]
        seen = float(np.exp(self.logprob[places]).sum())
        return None if seen > 1.0 + 1e-2 else (places, max(0.0, 1.0 - seen))

    def classes(self) -> tuple[IntArray, NDArray[np.bool_]]:
        """Return the class that each sample votes for, 0..m-1 or -1 for none, shape [n], and which classes are right.

        Raises:
            InputError: one answer is right in one sample and wrong in another.
        """
        answers = [str(place) for place in range(self.n)] if self.answer is None else list(self.answer)
        names = {name: place for place, name in enumerate(dict.fromkeys(one for one in answers if one is not None))}
        of_sample = np.array([-1 if one is None else names[one] for one in answers], dtype=np.int64)
        good = np.zeros(len(names), dtype=bool)
        good[of_sample[self.right & (of_sample >= 0)]] = True
        if np.any(good[of_sample[~self.right & (of_sample >= 0)]]):
            raise InputError("right", "both for one answer", "one mark an answer")
        return of_sample, good


def check_prompts(prompts: Sequence[Samples], least: int = 2) -> None:
    """Refuse too little to forecast from.

    Raises:
        InputError: fewer than two prompts, or one with fewer samples than ``least``.
    """
    if len(prompts) < 2:
        raise InputError("problems", len(prompts), "at least 2: intervals are over prompts")
    few = min(one.n for one in prompts)
    if few < least:
        raise InputError("samples", few, f"at least {least} of each prompt")
