"""Is a response's final answer the gold answer? 1 or 0, whatever the response holds, and in bounded time."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Self

from sharpen.llm.verify_pool import Task, VerifyPool
from sharpen.llm.verify_worker import CRASH, ERROR, RIGHT, TIMEOUT, WRONG
from sharpen.objective import InputError

TIME_LIMIT = 5.0  # seconds an answer
MEMORY_LIMIT = 2 * 2**30  # bytes of address space of a worker, which takes less than 0.1 GiB at rest
# Longer text is not an answer: what math-verify would do with it costs more than it can tell.
LONGEST_ANSWER = 1000
LONGEST_RESPONSE = 200_000  # characters, of which the last ones are read
MOST_WORKERS = 16
CACHED = 65536
SAME, DIFFERENT, NO_ANSWER, TOO_LONG = "same", "different", "no_answer", "too_long"  # found without math-verify
COUNTED = {RIGHT: "right", WRONG: "wrong", ERROR: "errors", TIMEOUT: "timeouts", CRASH: "crashes"}
_INTEGER = re.compile(r"\s*([+-]?)0*([0-9]{1,30})\s*")
_BOX = re.compile(r"\\boxed *\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


class Verifier:
    r"""Compares responses with gold answers; no text makes it raise, hang or take the machine's memory.

    The final answer is the content of the last complete ``\boxed{}``, and without one what math-verify finds in the end
    of the text. Two plain integers, and two equal strings, are compared here. Everything else is math-verify's (the
    gold answer read as LaTeX, the response as LaTeX or a plain expression), in processes that are killed at the limit
    and replaced; they start at the first answer that needs them. Answers seen before are not compared again.

    ``counts`` has, since the start: ``answers``; ``cached`` (seen before, counted nowhere else), ``direct`` (compared
    here), ``right`` and ``wrong`` (by math-verify); and what scored 0 for another reason: ``no_answer`` (an empty
    prediction or gold answer), ``too_long`` (more than ``LONGEST_ANSWER`` characters), ``errors`` (math-verify's
    parser failed), ``timeouts``, ``crashes`` (the worker died: memory, stack).

    Calls from several threads take turns.

    Args:
        workers: Processes; None for one a core, at most 16.
        limit: Wall-clock seconds an answer.
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

    def __call__(self, responses: Sequence[str], golds: Sequence[str]) -> list[float]:
        """Return 1.0 or 0.0 for each response.

        Args:
            responses: Texts of the model.
            golds: As many gold answers, bare or boxed.

        Raises:
            ValueError: there are more of the one than of the other.
            RuntimeError: the worker processes cannot be started.
        """
        questions = [_question(response, gold) for response, gold in zip(responses, golds, strict=True)]
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
        return [float(verdict in (SAME, RIGHT)) for verdict in verdicts]

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


def verify(response: str, answer: str) -> float:
    r"""Return 1.0 if the response's final answer equals the gold answer, else 0.0; see :class:`Verifier`.

    All calls share one verifier with one process. Many answers are faster in one call of a ``Verifier``.

    Example:
        >>> verify(r"so it is \boxed{7}", "07"), verify("no idea", "7")
        (1.0, 0.0)
    """
    return _shared()([response], [answer])[0]


@lru_cache(maxsize=1)
def _shared() -> Verifier:
    return Verifier(workers=1)


def final_answer(response: str) -> str | None:
    r"""Return the content of the last complete ``\boxed{…}``, or None.

    Of a long text only the last ``LONGEST_RESPONSE`` characters are read. The time is linear in them.

    Example:
        >>> final_answer(r"\boxed{1}, no, \boxed{\frac{1}{2}}")
        '\\frac{1}{2}'
    """
    text = response[-LONGEST_RESPONSE:]
    boxes = {match.end() - 1 for match in _BOX.finditer(text)}  # places of their opening braces
    if not boxes:
        return None
    last, open_braces = (-1, -1), []
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            open_braces.append(match.start())
        elif match[0] == "}" and open_braces:
            start = open_braces.pop()
            if start in boxes and start > last[0]:
                last = (start, match.start())
    return text[last[0] + 1 : last[1]] if last[0] >= 0 else None


def vote(response: str) -> str | None:
    r"""Return the final answer as something that can be counted: plain integers in canonical form, blanks squeezed.

    Example:
        >>> vote(r"\boxed{ 007 }"), vote(r"\boxed{x  + 1}"), vote("no box")
        ('7', 'x + 1', None)
    """
    answer = final_answer(response)
    if answer is None or not answer.strip():
        return None
    return _integer(answer) or " ".join(answer.split())


def _question(response: object, gold: object) -> Task | str:
    """Return what math-verify has to be asked, or the verdict where it need not be."""
    if not (isinstance(response, str) and isinstance(gold, str)):
        return NO_ANSWER
    boxed = final_answer(response)
    gold = final_answer(gold) or gold
    prediction = response[-LONGEST_ANSWER:] if boxed is None else boxed
    if len(prediction) > LONGEST_ANSWER or len(gold) > LONGEST_ANSWER:
        return TOO_LONG
    if not (prediction.strip() and gold.strip()):
        return NO_ANSWER
    if prediction.split() == gold.split():  # blanks say nothing in mathematics
        return SAME
    left, right = _integer(prediction), _integer(gold)
    if boxed is not None and left is not None and right is not None:
        return SAME if left == right else DIFFERENT
    return prediction, gold, boxed is not None


def _integer(text: str) -> str | None:
    """Return a plain integer in canonical form, or None if the text is anything else."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    return ("-" if match[1] == "-" and match[2] != "0" else "") + match[2]
