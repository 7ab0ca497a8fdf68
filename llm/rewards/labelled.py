"""Rewards that open the gold answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sharpen.llm.rewards.registry import Scoring, reward
from sharpen.llm.tasks.data import AnswerKey
from sharpen.llm.tasks.marking import marks
from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.objective import InputError


@reward(needs_answers=True, reads_entropies=False, of_marks=float)
def task(
    prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring, *, answers: AnswerKey, verifier: Verifier
) -> list[float]:
    """The response's score by the gold answer: 1 if its final answer equals it, else 0, or the task's own score."""
    return marks(answers, prompt_ids, responses, scoring.finished, verifier)


@reward(needs_answers=True, reads_entropies=False, of_marks=lambda mark: 1.0 - mark)
def inverted(
    prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring, *, answers: AnswerKey, verifier: Verifier
) -> list[float]:
    """1 minus the task reward, a control: what is learned from wrong labels is not the task."""
    return [1.0 - right for right in task(prompt_ids, responses, scoring, answers=answers, verifier=verifier)]


def unbiased(verdict: float, true_positive: float, false_positive: float) -> float:
    """Return (v - f)/(t - f), whose mean over the verdicts v of a verifier with rates t and f is the reward itself.

    E[v] = f + (t - f) r (THEORY T20): such a verifier multiplies every exact gradient by t - f. The correction undoes
    that, and its noise grows by the same factor; below t = f it turns a gradient of the wrong sign around.

    Example:
        >>> 0.75 * unbiased(1, 0.75, 0.25) + 0.25 * unbiased(0, 0.75, 0.25)
        1.0
    """
    return (verdict - false_positive) / (true_positive - false_positive)


@reward(needs_answers=True, reads_entropies=False)
class Noisy:
    """The verdict of a verifier that errs: 1 with probability f + (t - f) r, r the task reward; corrected on request.

    The draws are a function of (seed, step, row) alone: a resumed run sees the same verdicts.

    Args:
        true_positive: t, chance that a right response is called right.
        false_positive: f, chance that a wrong one is.
        corrected: Whether (v - f)/(t - f) is returned instead of the verdict v.
    """

    def __init__(
        self,
        *,
        answers: AnswerKey,
        verifier: Verifier,
        seed: int = 0,
        true_positive: float = 1.0,
        false_positive: float = 0.0,
        corrected: bool = False,
    ) -> None:
        self.answers, self.verifier, self.seed = answers, verifier, seed
        self.rates, self.corrected = (true_positive, false_positive), corrected

    @staticmethod
    def check(true_positive: float = 1.0, false_positive: float = 0.0, corrected: bool = False) -> None:
        """Refuse rates that are no chances, and a correction of a verifier that knows nothing."""
        for name, rate in (("true_positive", true_positive), ("false_positive", false_positive)):
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
                raise InputError(name, rate, "a number from 0 to 1")
        if not isinstance(corrected, bool):
            raise InputError("corrected", corrected, "true or false")
        if corrected and true_positive == false_positive:
            raise InputError("corrected", True, "false where both rates are the same: such verdicts tell nothing")

    def __call__(self, prompt_ids: Sequence[str], responses: Sequence[str], scoring: Scoring) -> list[float]:
        """Return one verdict a response."""
        t, f = self.rates
        rows = range(len(responses)) if scoring.rows is None else scoring.rows
        right = task(prompt_ids, responses, scoring, answers=self.answers, verifier=self.verifier)
        drawn = [np.random.default_rng([self.seed, scoring.step, row, 1]).random() for row in rows]
        verdicts = [float(u < f + (t - f) * r) for u, r in zip(drawn, right, strict=True)]
        return [unbiased(verdict, t, f) for verdict in verdicts] if self.corrected else verdicts
