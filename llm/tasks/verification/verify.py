"""Is a response's final answer the gold answer? 1 or 0, whatever the response holds, and in bounded time."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Self

from sharpen.llm.tasks.verification.answer_text import LONGEST_ANSWER, LONGEST_RESPONSE, final_answer, find_answer
from sharpen.llm.tasks.verification.pool import Task, VerifyPool
from sharpen.llm.tasks.verification.worker import CRASH, ERROR, RIGHT, TIMEOUT, WRONG
from sharpen.objective import InputError

TIME_LIMIT = 5.0  # seconds per answer
MEMORY_LIMIT = 2 * 2**30  # bytes of address space of a worker, which takes less than 0.1 GiB at rest
MOST_WORKERS = 16
CACHED = 65536
SAME, DIFFERENT, NO_ANSWER, TOO_LONG = "same", "different", "no_answer", "too_long"  # found without math-verify
COUNTED = {RIGHT: "right", WRONG: "wrong", ERROR: "errors", TIMEOUT: "timeouts", CRASH: "crashes"}
_INTEGER = re.compile(r"\s*([+-]?)0*([0-9]{1,30})\s*")
__all__ = ["LONGEST_ANSWER", "LONGEST_RESPONSE", "Verifier", "final_answer", "verify", "vote"]


class Verifier:
    r"""Compares responses with gold answers; no text makes it raise, hang or take the machine's memory.

    The final answer is what :func:`sharpen.llm.tasks.verification.answer_text.find_answer` finds: the last box, or what
    is stated as the answer. Two plain integers, and two equal strings, are compared here. Everything else is compared
    by
    :func:`sharpen.llm.tasks.verification.worker.compare`, on top of math-verify, in processes that are killed at the
    limit and replaced; they start at the first answer that needs them. Answers seen before are not compared again.

    ``counts`` has, since the start: ``answers``; ``cached`` (seen before, counted nowhere else), ``direct`` (compared
    here), ``right`` and ``wrong`` (in a process); and what scored 0 for another reason: ``no_answer`` (the response
    has none, or the gold answer is empty), ``too_long`` (more than ``LONGEST_ANSWER`` characters), ``errors``
    (math-verify's parser failed), ``timeouts``, ``crashes`` (the worker died: memory, stack).

    Calls from several threads take turns.

    Args:
        workers: Processes; None for one per core, at most 16.
        limit: Wall-clock seconds per answer.
        memory: Address space of a worker in bytes (not enforced on macOS, whose kernel does not).

    Raises:
        InputError: an argument is out of range.

    Example:
        >>> with Verifier(workers=1) as verifier:
        ...     verifier([r"so it is \boxed{\frac{1}{2}}", "no idea"], ["0.5", "0.5"])
        [1.0, 0.0]
    """

    def __init__(self, workers: int | None = None, limit: float = TIME_LIMIT, memory: int = MEMORY_LIMIT) -> None:
        if workers is not None and workers < 1:
            raise InputError("workers", workers, "a whole number >= 1")
        if not 0 < limit < float("inf"):
            raise InputError("limit", limit, "a finite number of seconds > 0")
        self._pool = VerifyPool(workers or min(MOST_WORKERS, os.cpu_count() or 1), limit, memory)
        self._cache: dict[Task, str] = {}
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def __call__(
        self, responses: Sequence[str], golds: Sequence[str], finished: Sequence[bool] | None = None
    ) -> list[float]:
        """Return 1.0 or 0.0 for each response.

        Args:
            responses: Texts of the model.
            golds: As many gold answers, bare or boxed.
            finished: False for each response that was cut at the length limit; None if none was, or nobody knows.

        Raises:
            ValueError: there are more of the one than of the other.
            RuntimeError: the worker processes cannot be started.
        """
        flags = [True] * len(responses) if finished is None else finished
        questions = [_question(*row) for row in zip(responses, golds, flags, strict=True)]
        return [float(verdict in (SAME, RIGHT)) for verdict in self._verdicts(questions)]

    def equal(self, answers: Sequence[str], others: Sequence[str]) -> list[bool | None]:
        """Return whether final answers (not responses) are the same, pair by pair; None where that was not found out.

        The second answer of a pair is read as a gold answer is.

        Raises:
            ValueError: there are more of the one than of the other.
            RuntimeError: the worker processes cannot be started.
        """
        questions = [_compared(answer, other) for answer, other in zip(answers, others, strict=True)]
        decided = {SAME: True, RIGHT: True, DIFFERENT: False, WRONG: False}
        return [decided.get(verdict) for verdict in self._verdicts(questions)]

    def _verdicts(self, questions: list[Task | str]) -> list[str]:
        """Return the verdicts of questions, of which some are verdicts already."""
        with self._lock:
            new = {question: "" for question in questions if isinstance(question, tuple)}
            for question in self._cache.keys() & new.keys():
                del new[question]
            if new:
                new = dict(zip(new, self._pool.run(list(new)), strict=True))
            verdicts = [q if isinstance(q, str) else new.get(q) or self._cache[q] for q in questions]
            self._count(questions, new)
            self._cache |= new
            while len(self._cache) > CACHED:
                del self._cache[next(iter(self._cache))]  # the oldest
        return verdicts

    def __enter__(self) -> Self:
        """Return the verifier, whose processes end with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; a later call starts others."""
        self._pool.close()

    def _count(self, questions: list[Task | str], new: dict[Task, str]) -> None:
        self.counts["answers"] += len(questions)
        unseen = set(new)
        for question in questions:
            if isinstance(question, str):
                self.counts["direct" if question in (SAME, DIFFERENT) else question] += 1
            elif question in unseen:
                unseen.remove(question)
                self.counts[COUNTED[new[question]]] += 1
            else:
                self.counts["cached"] += 1


def verify(response: str, answer: str, finished: bool = True) -> float:
    r"""Return 1.0 if the response's final answer equals the gold answer, else 0.0; see :class:`Verifier`.

    Args:
        response: Text of the model.
        answer: The gold answer.
        finished: False where the response was cut at the length limit.

    All calls share one verifier with one process. Many answers are faster in one call of a ``Verifier``.

    Example:
        >>> verify(r"so it is \boxed{7}", "07"), verify("no idea", "7")
        (1.0, 0.0)
    """
    return _shared()([response], [answer], [finished])[0]


@lru_cache(maxsize=1)
def _shared() -> Verifier:
    return Verifier(workers=1)


def vote(response: str, finished: bool = True) -> str | None:
    r"""Return the final answer as something that can be counted: plain integers in canonical form, blanks squeezed.

    Answers that are written differently are different votes here;
    :func:`sharpen.llm.tasks.verification.voting.by_value` unites them.

    Example:
        >>> vote(r"\boxed{ 007 }"), vote(r"\boxed{x  + 1}"), vote("Answer: 7."), vote("no box")
        ('7', 'x + 1', '7', None)
    """
    found = find_answer(response, finished)
    if found is None or not found.text.strip():
        return None
    return integer(found.text) or " ".join(found.text.split())


def _question(response: object, gold: object, finished: bool) -> Task | str:
    """Return what has to be compared, or the verdict where nothing has to be."""
    if not (isinstance(response, str) and isinstance(gold, str)):
        return NO_ANSWER
    found = find_answer(response, finished)
    gold = final_answer(gold) or gold
    if found is None:
        # A response that is the gold answer and nothing else says so, however unlike an answer that is.
        whole = finished and len(response) <= LONGEST_ANSWER and gold.strip() and response.split() == gold.split()
        return SAME if whole else NO_ANSWER
    return _compared(found.text, gold)


def _compared(answer: str, gold: str) -> Task | str:
    if len(answer) > LONGEST_ANSWER or len(gold) > LONGEST_ANSWER:
        return TOO_LONG
    if not (answer.strip() and gold.strip()):
        return NO_ANSWER
    if answer.split() == gold.split():  # blanks say nothing in mathematics
        return SAME
    left, right = integer(answer), integer(gold)
    if left is not None and right is not None:
        return SAME if left == right else DIFFERENT
    return answer, gold


def integer(text: str) -> str | None:
    """Return a plain integer in canonical form, or None if the text is anything else."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    return ("-" if match[1] == "-" and match[2] != "0" else "") + match[2]
